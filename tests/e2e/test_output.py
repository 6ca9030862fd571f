"""What a cell writes: from Python, C, subprocesses; while it runs; capped."""

import os
import time
import unittest

from cellar_test import SessionTest, popen

KIB = 1024


class Sources(SessionTest):
    """stdout and stderr are the descriptors 1 and 2, whoever writes there."""

    def test_print_and_stderr(self):
        result = self.ok("import sys\nprint('out')\n"
                         "print('err', file=sys.stderr)")
        self.assertEqual(("out\n", "err\n"),
                         (result["stdout"], result["stderr"]))

    def test_without_a_newline(self):
        self.assertEqual("abc", self.out("print('abc', end='')"))

    def test_os_write(self):
        result = self.ok("import os\nos.write(1, b'one\\n')\n"
                         "os.write(2, b'two\\n')\nNone")
        self.assertEqual(("one\n", "two\n"),
                         (result["stdout"], result["stderr"]))

    def test_c_with_and_without_flush(self):
        self.assertEqual("puts\nprintf 7", self.out(
            "import ctypes\nlibc = ctypes.CDLL(None)\n"
            "libc.puts(b'puts')\nlibc.printf(b'printf %d', 7)\nNone"))
        self.assertEqual("flushed\n", self.out(
            "libc.puts(b'flushed')\nlibc.fflush(None)\nNone"))

    def test_subprocesses(self):
        result = self.ok("import subprocess\n"
                         "subprocess.run(['sh', '-c', 'echo o; echo e >&2'])\n"
                         "import os\nos.system('echo system')\nNone")
        self.assertEqual(("o\nsystem\n", "e\n"),
                         (result["stdout"], result["stderr"]))

    def test_the_order_of_who_writes(self):
        self.assertEqual("a\nb\nc\n", self.out(
            "import subprocess\nprint('a')\n"
            "subprocess.run(['echo', 'b'])\nprint('c')"))

    def test_forked_children(self):
        self.assertEqual("child\nparent\n", self.out(
            "import os\n"
            "if os.fork() == 0:\n"
            "    print('child', flush=True)\n"
            "    os._exit(0)\n"
            "os.wait()\nprint('parent')"))

    def test_threads(self):
        self.assertEqual("thread\n", self.out(
            "import threading\n"
            "t = threading.Thread(target=print, args=('thread',))\n"
            "t.start()\nt.join()"))

    def test_bytes_that_are_no_text(self):
        self.assertEqual("a\ufffd\ufffdz\n", self.out(
            "import os\nos.write(1, b'a\\xff\\xfez\\n')\nNone"))

    def test_characters_across_the_seams_of_chunks(self):
        text = self.out("print('ä€🍷' * 100000, end='')")
        self.assertEqual("ä€🍷" * 100000, text)

    def test_nul_and_escapes_arrive_as_they_are(self):
        self.assertEqual("\0\x1b[31mred\x07", self.out(
            "print('\\0\\x1b[31mred\\x07', end='')"))

    def test_redirected_output_is_none_of_the_cell(self):
        result = self.ok("import contextlib, io\n"
                         "with contextlib.redirect_stdout(io.StringIO()) "
                         "as s:\n"
                         "    print('kept')\ns.getvalue()")
        self.assertEqual(("", "'kept\\n'"),
                         (result["stdout"], result["result"]["text/plain"]))

    def test_there_is_no_input(self):
        result = self.cell("input('name? ')")
        self.assertEqual(("error", "EOFError", "name? "),
                         (result["status"], result["error"]["name"],
                          result["stdout"]))
        self.assertEqual("''", self.value("import sys\nsys.stdin.read()"))

    def test_two_megabytes_in_lines_arrive_whole(self):
        text = self.out("for i in range(200000): print(f'line {i:05d}')")
        self.assertEqual("".join("line %05d\n" % i for i in range(200000)),
                         text)


class Streaming(SessionTest):
    """Output arrives while the cell runs."""

    def arrivals(self, code, stream="stdout"):
        """(seconds, bytes) of each read from `cellar exec`."""
        process = popen("exec", self.session.name, code)
        pipe, chunks = getattr(process, stream), []
        while data := os.read(pipe.fileno(), 65536):
            chunks.append((time.monotonic(), data))
        self.assertEqual(0, process.wait(60))
        process.stdout.close()
        process.stderr.close()
        return chunks

    def check_spread(self, chunks):
        self.assertEqual(b"0\n1\n2\n3\n", b"".join(d for _, d in chunks))
        self.assertGreaterEqual(len(chunks), 3, chunks)
        self.assertGreater(chunks[-1][0] - chunks[0][0], 0.6, chunks)

    def test_prints(self):
        self.check_spread(self.arrivals(
            "import time\nfor i in range(4):\n"
            "    print(i)\n    time.sleep(0.3)"))

    def test_stderr(self):
        self.check_spread(self.arrivals(
            "import sys, time\nfor i in range(4):\n"
            "    print(i, file=sys.stderr)\n    time.sleep(0.3)", "stderr"))

    def test_subprocesses(self):
        self.check_spread(self.arrivals(
            "import subprocess\nsubprocess.run(['sh', '-c',\n"
            "    'for i in 0 1 2 3; do echo $i; sleep 0.3; done'])\nNone"))

    def test_part_of_a_line(self):
        chunks = self.arrivals(
            "import time\nprint('first', end='', flush=True)\n"
            "time.sleep(0.6)\nprint(' last')")
        self.assertEqual(b"first", chunks[0][1])
        self.assertGreater(chunks[-1][0] - chunks[0][0], 0.4)

    def test_a_reader_who_is_away_for_a_while(self):
        """What the cell writes meanwhile is waiting when it comes back."""
        process = popen("exec", self.session.name,
                        "for i in range(300000): print('0123456789')\ni")
        time.sleep(2)
        lines = process.stdout.read().decode().splitlines()
        self.assertEqual(0, process.wait(60))
        process.stdout.close()
        process.stderr.close()
        self.assertEqual(["0123456789"] * 300000, lines[:300000])
        self.assertIn("299999", lines[-1])


class Capped(SessionTest):
    """What is over the cap is counted, and nobody waits for it."""

    OPTIONS = ("--output-limit", "64k")
    LIMIT = {"name": "output", "value": 64 * KIB, "unit": "bytes"}

    def check_capped(self, result, written):
        self.assertEqual(("ok", "kept", True, self.LIMIT),
                         (result["status"], result["state"],
                          result["truncated"], result["limit"]))
        kept = len((result["stdout"] + result["stderr"]).encode())
        self.assertEqual(64 * KIB, kept)
        self.assertEqual(written - 64 * KIB, result["dropped_bytes"])

    def test_up_to_the_cap_all_is_kept(self):
        result = self.ok("print('x' * 65535)")
        self.assertEqual((False, 0, None), (
            result["truncated"], result["dropped_bytes"], result["limit"]))
        self.assertEqual("x" * 65535 + "\n", result["stdout"])

    def test_one_byte_more(self):
        self.check_capped(self.ok("print('x' * 65536)"), 65537)

    def test_stdout_and_stderr_share_it(self):
        self.check_capped(self.ok(
            "import os\n"
            "for i in range(100):\n"
            "    os.write(1, b'o' * 1000) + os.write(2, b'e' * 1000)"), 200000)

    def test_fifty_megabytes(self):
        self.check_capped(self.ok(
            "for i in range(50): print('x' * (1 << 20), end='')"), 50 << 20)

    def test_a_million_writes_of_a_byte(self):
        self.check_capped(self.ok(
            "import os\nfor i in range(1000000): os.write(1, b'.')"), 1000000)

    def test_a_subprocess(self):
        self.check_capped(self.ok(
            "import subprocess\n"
            "subprocess.run(['head', '-c', '5000000', '/dev/zero'])\nNone"),
            5000000)

    def test_the_next_cell_has_all_of_it_again(self):
        self.ok("print('x' * 100000)")
        self.assertEqual("y" * 60000, self.out("print('y' * 60000, end='')"))

    def test_results_have_a_cap_of_their_own(self):
        result = self.ok("'x' * 1000000")
        self.assertEqual(1000002, len(result["result"]["text/plain"]))
        self.assertFalse(result["truncated"])

    def test_a_huge_result_is_cut_and_marked(self):
        result = self.ok("'x' * 50000000")
        text = result["result"]["text/plain"]
        self.assertTrue(text.startswith("'xxxxxxxx"))
        self.assertLessEqual(len(text.encode()), 1 << 20)
        self.assertGreater(len(text), 500000)
        self.assertFalse(text.endswith("x"), text[-80:])
        self.assertAlive()

    def test_a_huge_exception_is_cut(self):
        result = self.cell("raise ValueError('x' * 10000000)")
        self.assertEqual(("error", "ValueError"),
                         (result["status"], result["error"]["name"]))
        self.assertLessEqual(len(result["error"]["message"]), 64 * KIB)
        self.assertLessEqual(
            sum(map(len, result["error"]["traceback"])), 256 * KIB)


class Late(SessionTest):
    """What threads and processes of a cell write belongs to no later cell."""

    def test_a_process_left_behind_is_not_heard(self):
        self.ok("import subprocess\n"
                "p = subprocess.Popen('while :; do echo late; done',"
                " shell=True)")
        for n in range(3):
            self.assertEqual("%d\n" % n, self.out("print(%d)" % n))
        self.ok("p.kill()\np.wait()\nNone")

    def test_a_pool_that_prints_much_goes_on(self):
        self.ok("import multiprocessing\n"
                "def square(x):\n"
                "    print('x' * 100000, flush=True)\n"
                "    return x * x\n"
                "pool = multiprocessing.Pool(2)")
        result = self.ok("pool.map(square, range(100))[99]")
        self.assertEqual(("", {"text/plain": "9801"}),
                         (result["stdout"], result["result"]))
        self.ok("pool.terminate()")

    def test_late_output_is_in_no_later_cell(self):
        self.ok("import threading, time\n"
                "def late():\n"
                "    time.sleep(0.4)\n"
                "    print('LATE')\n"
                "threading.Thread(target=late).start()")
        time.sleep(1)
        result = self.ok("time.sleep(0.2)\nprint('own')")
        self.assertEqual(("own\n", ""), (result["stdout"], result["stderr"]))


if __name__ == "__main__":
    unittest.main()
