"""The worker: results, output, and what shall not break it."""
import os
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from worker import (BOOT, DEADLINE, ERROR, PYTHON, RESULT_MAX, Worker,
                    WorkerTest, start_process)


class Results(WorkerTest):
    def test_ready_has_the_version(self):
        version = subprocess.check_output(
            [PYTHON, "-c", "import sys; print(sys.version.split()[0])"])
        self.assertEqual(self.worker.ready, ("R", version.strip()))

    def test_last_expression_is_the_result(self):
        self.assertEqual(self.result("x = 20\nx += 1\nx * 2"), "42")
        self.assertEqual(self.result("'a'"), "'a'")

    def test_no_result(self):
        for code in ("", "\n\n", "# nothing", "x = 1", "None", "if 1: 5",
                     "def f(): pass", "5;", "5 ; # so", "(5)\t;", "1\n5;"):
            self.assertIsNone(self.result(code), code)

    def test_a_semicolon_that_suppresses_nothing(self):
        self.assertEqual(self.result("';'"), "';'")
        self.assertEqual(self.result("1; 5 # ;"), "5")
        self.assertEqual(self.result("'\u00e4\u00f6';(\n5)"), "5")

    def test_underscore(self):
        self.run_cell("6 * 7")
        self.run_cell("None")
        self.assertEqual(self.result("_ + 1"), "43")
        self.run_cell("_ = 'mine'\n5")
        self.assertEqual(self.result("_"), "'mine'")

    def test_statements_functions_classes(self):
        self.run_cell("import functools\n@functools.lru_cache()\n"
                      "def f(n):\n    return n * 2\nclass C:\n    k = f(4)")
        self.assertEqual(self.result("C.k, f(1)"), "(8, 2)")

    def test_main(self):
        self.assertEqual(self.result(
            "if __name__ == '__main__':\n    m = 1\nm"), "1")
        self.assertEqual(self.result(
            "import pickle\nclass P:\n    pass\n"
            "type(pickle.loads(pickle.dumps(P()))) is P"), "True")

    def test_names_at_the_start(self):
        names = set(eval(self.result("sorted(globals())")))
        self.assertEqual(names - {"__annotations__"},
                         {"__name__", "__doc__", "__package__", "__loader__",
                          "__spec__", "__builtins__"})
        self.assertEqual(self.result("import sys\nsys.argv"), "['']")
        self.assertEqual(self.result(
            "[m for m in sys.modules if 'cellar' in m],"
            "[p for p in sys.path if 'cellar' in p],"
            "[p for p in sys.path_importer_cache if 'cellar/w' in p],"
            "sys.excepthook is sys.__excepthook__, hasattr(sys,'last_value')"),
            "([], [], [], True, False)")

    def test_no_frame_below_a_cell(self):
        self.assertEqual(self.result("import sys\nsys._getframe().f_back"),
                         None)

    def test_large_result_is_cut_and_marked(self):
        result = self.result("'\u00e4' * (1 << 20)")
        self.assertLessEqual(len(result.encode()), RESULT_MAX)
        head, _, mark = result.rpartition("\u00e4")
        self.assertRegex(mark, r"^\.\.\. \[\d+ more bytes\]$")
        more = int(mark.split("[")[1].split()[0])
        kept = len(result.encode()) - len(mark)
        self.assertEqual(kept + more, 2 * (1 << 20) + 2)

    def test_result_at_the_limit_is_whole(self):
        result = self.result("'x' * %d" % (RESULT_MAX - 2))
        self.assertEqual(len(result), RESULT_MAX)
        self.assertNotIn("more bytes", result)

    def test_surrogates(self):
        self.assertEqual(self.result(
            "class S:\n    def __repr__(self): return 'a\\udc80b'\nS()"),
            "a\\udc80b")

    def test_repr_that_raises(self):
        self.run_cell("class R:\n    def __repr__(self): return 1 / 0\n"
                      "class N:\n    def __repr__(self): return 5\n_ = 0\n")
        answer = self.fails("y = 1\nR()", "ZeroDivisionError")
        self.assertIn("__repr__", answer.trace)
        self.fails("N()", "TypeError")
        self.assertEqual(self.result("y"), "1")

    def test_code_that_is_no_text(self):
        self.fails(b"'\xff'", "UnicodeDecodeError")
        answer = self.run_cell("x = '\0'", ERROR)
        self.assertIn(answer.name, ("ValueError", "SyntaxError"))
        self.assertEqual(self.result("1"), "1")

    def test_line_ends(self):
        self.assertEqual(self.result("x = 1\r\nif x:\r\n  x = 2\r\nx"), "2")

    def test_code_of_a_megabyte(self):
        code = "x = '%s'\nlen(x)" % ("y" * ((1 << 20) - 16))
        self.assertEqual(self.result(code), str((1 << 20) - 16))

    def test_cells_that_come_together(self):
        for number in range(5):
            self.worker.cells = 0
            self.worker.send("n = %d\nn" % number)
        self.worker.cells = 1
        self.assertEqual([self.worker.answer().result for _ in range(5)],
                         ["0", "1", "2", "3", "4"])

    def test_future_import_holds(self):
        self.run_cell("from __future__ import annotations\n1 / 1")
        self.run_cell("def f(x: Nowhere): pass")
        self.assertEqual(self.result("f.__annotations__"), "{'x': 'Nowhere'}")


class Output(WorkerTest):
    def test_lines_are_there_while_the_cell_runs(self):
        self.worker.send("import time\nprint('line')\ntime.sleep(99)")
        self.worker.wait_output("line\n")
        self.worker.interrupt()
        self.worker.answer()

    def test_all_is_there_before_the_end(self):
        """The answer comes after the output: nothing is left in a buffer."""
        code = ("import sys, ctypes\nsys.stdout.write('a')\n"
                "sys.stderr.write('b')\nctypes.CDLL(None).printf(b'c')")
        self.run_cell(code)
        for text, number in (("a", 1), ("c", 1), ("b", 2)):
            self.worker.wait_output(text, number)

    def test_utf8_and_surrogates(self):
        self.output("print('\u00e4\u20ac')", "\u00e4\u20ac\n")
        self.output("print('\\udc80')", "\\udc80\n")

    def test_utf8_in_any_locale(self):
        worker = Worker(env={"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"})
        try:
            worker.run("print('\u00e4')")
            worker.wait_output("\u00e4")
        finally:
            worker.end()

    def test_closed_or_gone_stdout(self):
        for code in ("import sys; sys.stdout.close()", "sys.stdout = None",
                     "sys.stderr.close()", "del sys.stdout",
                     "sys.stdout.detach()"):
            self.run_cell(code)
            self.worker.out[1].clear()
            self.worker.out[2].clear()
            self.output("print('again', file=sys.stderr); print('again')",
                        "again\n")
            self.worker.wait_output("again\n", 2)

    def test_broken_stdout_breaks_no_answer(self):
        self.run_cell("import sys\nclass B:\n"
                      "    def __getattr__(self, name): raise OSError\n"
                      "sys.stdout = sys.stderr = B()")
        self.assertEqual(self.result("1"), "1")
        self.run_cell("sys.stdout = sys.__stdout__")
        self.output("print('back')", "back\n")

    def test_replaced_stdout_stays(self):
        self.run_cell("import io, sys\nsys.stdout = s = io.StringIO()")
        self.run_cell("print('kept')")
        self.assertEqual(self.result("s.getvalue()"), "'kept\\n'")

    def test_order_of_python_and_children(self):
        self.output("import os, subprocess\nfor i in range(3):\n"
                    "    print('p')\n"
                    "    subprocess.run(['echo', 'c'])\n"
                    "    os.write(1, b'w\\n')", "p\nc\nw\n" * 3)


    def wait_bytes(self, count):
        end = time.monotonic() + DEADLINE
        while len(self.worker.out[1]) < count and time.monotonic() < end:
            time.sleep(0.002)
        return self.worker.out[1].decode()

    def test_flood_is_whole_and_in_order(self):
        self.run_cell("for i in range(100000): print(i)\n"
                      "print('x' * 1000000)")
        expected = "".join("%d\n" % i for i in range(100000))
        expected += "x" * 1000000 + "\n"
        self.assertEqual(self.wait_bytes(len(expected)), expected)

    def test_flood_is_there_while_python_is_stuck(self):
        """Also what was gathered last, while something holds the GIL."""
        self.worker.send("import ctypes\nfor i in range(5000): print(i)\n"
                         "ctypes.PyDLL(None).usleep(600000)\nprint('end')")
        self.worker.wait_output("4999\n")
        self.assertNotIn(b"end", self.worker.out[1])
        self.worker.answer()

    def test_flood_from_threads(self):
        self.run_cell("import threading\ndef f(c):\n"
                      "    for i in range(5000):\n"
                      "        print(c * 99 + '\\n', end='')\n"
                      "ts = [threading.Thread(target=f, args=(c,))"
                      " for c in 'abcd']\n"
                      "for t in ts: t.start()\nfor t in ts: t.join()")
        lines = self.wait_bytes(4 * 5000 * 100).splitlines()
        self.assertEqual({c: lines.count(c * 99) for c in "abcd"},
                         dict.fromkeys("abcd", 5000))

    def test_flood_and_fork(self):
        self.run_cell("import os\nfor i in range(5000): print(i)\n"
                      "pid = os.fork()\nif not pid:\n    print('child')\n"
                      "    os._exit(0)\nos.waitpid(pid, 0)\nprint('end')")
        expected = "".join("%d\n" % i for i in range(5000)) + "child\nend\n"
        self.assertEqual(self.wait_bytes(len(expected)), expected)

    def test_lines_before_a_crash(self):
        self.worker.send("for i in range(50): print(i)\nimport os\nos.abort()")
        self.assertRaises(EOFError, self.worker.answer)
        self.worker.wait_output("".join("%d\n" % i for i in range(50)))

    def test_what_lies_below_the_stream(self):
        self.output("import sys\nprint('a')\nsys.stdout.buffer.write(b'b\\n')"
                    "\nprint('c')", "a\nb\nc\n")
        self.output("sys.stderr.reconfigure(errors='replace')\n"
                    "print('\\udc80', file=sys.stderr)", "?\n", 2)
        self.assertEqual(self.result(
            "import io\nisinstance(sys.stdout, io.TextIOWrapper),"
            "sys.stdout.encoding, sys.stdout.name, sys.stdout.fileno(),"
            "sys.stdout.mode"), "(True, 'utf-8', '<stdout>', 1, 'w')")

    def test_write_says_what_it_took(self):
        self.assertEqual(
            self.result("import sys\nsys.stdout.write('\u00e4b')"), "2")
        self.fails("sys.stdout.write(b'')", "TypeError")

    def test_closed_descriptor_is_an_error_of_the_cell(self):
        self.run_cell("import os\nsaved = os.dup(1)\nos.close(1)")
        self.fails("print('x')", "OSError")
        self.run_cell("os.dup2(saved, 1)")
        self.output("print('again')", "again\n")

    def test_late_output_belongs_to_no_later_cell(self):
        self.run_cell("import threading, time\ngo = threading.Event()\n"
                      "def late():\n    print('early')\n    go.wait()\n"
                      "    print('late')\n    print('late', file=sys.stderr)\n"
                      "import sys\nt = threading.Thread(target=late)\n"
                      "t.start()\ntime.sleep(0.05)")
        self.run_cell("go.set()\nt.join()\nprint('mine')\n"
                      "n = threading.Thread(target=print, args=('own',))\n"
                      "n.start()\nn.join()\nprint('end', file=sys.stderr)")
        self.worker.wait_output("own\n")
        self.worker.wait_output("end\n", 2)
        self.assertEqual(self.worker.out[1].decode(), "early\nmine\nown\n")
        self.assertNotIn(b"late", self.worker.out[2])


class Robust(WorkerTest):
    def test_end_of_the_socket_ends_the_worker(self):
        self.run_cell("import atexit, time, threading\n"
                      "atexit.register(time.sleep, 99)\n"
                      "threading.Thread(target=time.sleep,"
                      " args=(99,)).start()")
        began = time.monotonic()
        self.worker.socket.shutdown(socket.SHUT_RDWR)
        self.assertEqual(self.worker.process.wait(DEADLINE), 0)
        self.assertLess(time.monotonic() - began, 5)

    def test_wrong_record_ends_the_worker(self):
        for record in (struct.pack(">IB", 4, ord("X")) + b"abcd",
                       struct.pack(">IB", 7, ord("C")) + b"1234567",
                       struct.pack(">IB", 0xffffffff, ord("C"))):
            worker = Worker()
            worker.socket.sendall(record)
            self.assertEqual(worker.process.wait(DEADLINE), 1)
            worker.wait_output("the control socket carried", 2)
            worker.end()

    def test_fork_that_falls_out_of_its_cell(self):
        self.output("import os\npid = os.fork()\nif not pid:\n"
                    "    print('child')\nelse:\n"
                    "    status = os.waitpid(pid, 0)[1]", "child\n")
        self.assertEqual(self.result("status"), "0")
        answer = self.run_cell("if os.fork():\n    s = os.wait()[1]\nelse:\n"
                               "    1 / 0\ns")
        self.assertEqual(answer.result, "256")
        self.worker.wait_output("ZeroDivisionError", 2)

    def test_multiprocessing(self):
        self.run_cell("def square(n): return n * n")
        self.assertEqual(self.result(
            "import multiprocessing as mp\n"
            "with mp.get_context('fork').Pool(2) as pool:\n"
            "    out = pool.map(square, range(4))\nout"), "[0, 1, 4, 9]")

    def test_channel_is_not_inherited(self):
        self.assertEqual(self.result(
            "import os, subprocess\n"
            "os.get_inheritable(3),"
            "subprocess.call(['sh', '-c', '[ ! -e /proc/self/fd/3 ]'],"
            " close_fds=False)"), "(False, 0)")

    def test_background_thread_goes_on_between_cells(self):
        self.run_cell("import threading, time\nn = 0\ndef f():\n"
                      "    global n\n    while True:\n        n += 1\n"
                      "        time.sleep(0.001)\n"
                      "threading.Thread(target=f, daemon=True).start()")
        before = int(self.result("n"))
        time.sleep(0.1)
        self.assertGreater(int(self.result("n")), before + 5)

    def test_replaced_builtins(self):
        self.run_cell("import builtins, sys, json, asyncio\n"
                      "builtins.compile = builtins.print = None\n"
                      "builtins.repr = json.dumps = None\n"
                      "sys.modules['traceback'] = None\n"
                      "sys.modules['linecache'] = 5\n"
                      "sys.modules['_cellar'] = 5\n"
                      "sys.meta_path.clear()")
        self.assertEqual(self.result("x = 5\nx"), "5")
        answer = self.fails("1 / 0", "ZeroDivisionError")
        self.assertIn("division by zero", answer.trace)

    def test_no_builtins_left(self):
        self.run_cell("import builtins\nbuiltins.__dict__.clear()")
        self.assertEqual(self.result("5"), "5")
        self.assertEqual(self.run_cell("print(1)", ERROR).name, "NameError")

    def test_cleared_globals(self):
        self.run_cell("globals().clear()")
        self.assertEqual(self.result("len('abc')"), "3")

    def test_recursion_limit_of_nothing(self):
        self.run_cell("import sys")
        self.run_cell("sys.setrecursionlimit(40)")
        self.fails("def r(): r()\nr()", "RecursionError")
        self.run_cell("sys.setrecursionlimit(1000)")
        self.assertEqual(self.result("1"), "1")

    def test_alarm_between_cells(self):
        """Its handler runs at once, or, if it came just as the worker fell
        asleep, in the next cell; it is not lost, and no cell after that one
        has to do with it."""
        self.run_cell("import signal\ndef h(*a): raise OSError('late')\n"
                      "signal.signal(signal.SIGALRM, h)\n"
                      "signal.setitimer(signal.ITIMER_REAL, 0.01)")
        time.sleep(0.2)
        answer = self.worker.run("1")
        if answer.outcome == ERROR:
            self.assertEqual(answer.text, "late")
        else:
            self.worker.wait_output("late", 2)
        self.assertEqual(self.result("1"), "1")

    def test_memory_stays_flat(self):
        rss = ("int(open('/proc/self/statm').read().split()[1]) * 4")
        for _ in range(2000):
            self.worker.run("x = [1]\nx")
        before = int(self.result(rss))
        for _ in range(10000):
            self.worker.run("x = [1]\nx")
        self.assertLess(int(self.result(rss)) - before, 512)

    def test_memory_of_errors_stays_flat(self):
        rss = ("int(open('/proc/self/statm').read().split()[1]) * 4")
        code = ("try:\n    1 / 0\nexcept Exception:\n    pass\n"
                "raise ValueError('v')")
        for _ in range(500):
            self.worker.run(code)
        before = int(self.result(rss))
        for _ in range(1000):
            self.worker.run(code)
        self.assertLess(int(self.result(rss)) - before, 512)


class Boot(unittest.TestCase):
    def boot(self, boot, **options):
        process, ours = start_process(boot, **options)
        _, stderr = process.communicate(timeout=DEADLINE)
        ours.close()
        return process.returncode, stderr.decode()

    def copy(self, folder, **changes):
        with open(BOOT) as file:
            text = file.read()
        for old, new in changes.values():
            self.assertIn(old, text)
            text = text.replace(old, new)
        path = os.path.join(folder, "boot.py")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_old_python(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.copy(folder, version=("< (3, 8)", "< (99, 8)"))
            status, stderr = self.boot(path)
        self.assertEqual(status, 203)
        self.assertRegex(stderr,
                         r"\ACellar needs CPython 3.8 or later; .*\n\Z")

    def test_other_python(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.copy(folder, name=('!= "cpython"', '!= "other"'))
            self.assertEqual(self.boot(path)[0], 203)

    def test_extension_missing_or_broken(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.copy(folder)
            status, stderr = self.boot(path)
            self.assertEqual(status, 204)
            self.assertRegex(stderr, r"\A.*could not load Cellar's .*\n\Z")
            with open(os.path.join(folder, "_cellar.abi3.so"), "w") as file:
                file.write("no library")
            self.assertEqual(self.boot(path)[0], 204)

    def test_no_socket(self):
        status, stderr = self.boot(BOOT, fd=9)
        self.assertEqual(status, 204)
        self.assertIn("fd 3 is no socket", stderr)


if __name__ == "__main__":
    unittest.main()
