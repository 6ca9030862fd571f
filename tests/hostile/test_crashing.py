"""Crashing and running out: the precise reason, and the next cell works."""

import signal
import unittest

from hostile import HostileTest, run

IGNORED = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
           signal.SIGPIPE, signal.SIGXFSZ,  # Python ignores these two itself
           # The kernel stops nobody of an orphaned process group with these:
           signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


LIBC = {32, 33}  # glibc's own, which it may or may not be handling yet


def name_of(number):
    """As the result object names a signal."""
    if number == signal.SIGIO:
        return "SIGPOLL"  # two names for one number
    return (signal.Signals(number).name if number < 32
            else "signal %d" % number)


class Signals(HostileTest):
    def expected(self, number):
        if number in IGNORED:
            return ("ok", "kept", None)
        if number == signal.SIGSTOP:
            return ("timeout", "restored", None)
        return ("killed", "restored", name_of(number))

    def test_each_signal_to_itself(self):
        for number in sorted(set(range(1, 65)) - LIBC - {signal.SIGINT}):
            with self.subTest(signal=number):
                result = self.cell("import os\nos.kill(os.getpid(), %d)\n"
                                   "import time\ntime.sleep(0.05)" % number,
                                   "--timeout", "2s")
                self.assertEqual(self.expected(number),
                                 (result["status"], result["state"],
                                  result["signal"]))

    def test_sigint_to_itself_is_an_interrupt(self):
        result = self.cell("import os, time\nos.kill(os.getpid(), 2)\n"
                           "time.sleep(5)")
        self.assertIn(result["status"], ("interrupted", "error"))
        self.assertEqual("kept", result["state"])

    def test_faults(self):
        for code, name in (("ctypes.string_at(0)", "SIGSEGV"),
                           ("os.abort()", "SIGABRT"),
                           ("ctypes.CFUNCTYPE(None)(1)()", "SIGSEGV")):
            with self.subTest(code=code):
                result = self.cell("import ctypes, os\n" + code)
                self.assertEqual(("killed", name, "restored"),
                                 (result["status"], result["signal"],
                                  result["state"]))
                self.assertAlive()


class RunningOut(HostileTest):
    def test_memory_twenty_times(self):
        for _ in range(20):
            result = self.cell("x = []\nwhile 1: x.append(bytearray(1 << 20))")
            self.assertEqual(("out_of_memory", "restored", {
                "name": "memory", "value": 128 << 20, "unit": "bytes"}),
                (result["status"], result["state"], result["limit"]))
            self.assertAlive()

    def test_processes(self):
        result = self.cell("import os, time\n"
                           "try:\n"
                           "    while True:\n"
                           "        if os.fork() == 0:\n"
                           "            time.sleep(99)\n"
                           "except OSError as e: word = type(e).__name__\n"
                           "word", "--timeout", "10s")
        self.assertEqual({"text/plain": "'BlockingIOError'"},
                         result["result"])
        self.assertEqual(0, run("reset", self.session.name).status)

    def test_a_fork_bomb(self):
        self.cell("import os\nwhile True:\n"
                  "    try: os.fork()\n"
                  "    except OSError: pass", "--timeout", "2s")
        self.assertEqual(0, run("reset", self.session.name).status)
        self.assertEqual("True", self.value(
            "import os\n"
            "len([p for p in os.listdir('/proc') if p.isdigit()]) < 4"))

    def test_descriptors_and_threads(self):
        self.assertEqual("'OSError'", self.value(
            "try:\n"
            "    fds = []\n"
            "    while True: fds.append(os.open('/dev/null', 0))\n"
            "except OSError as e: word = type(e).__name__\n"
            "for fd in fds: os.close(fd)\n"
            "word"))
        self.assertEqual("'RuntimeError'", self.value(
            "import threading\n"
            "event = threading.Event()\n"
            "threads = []\n"
            "try:\n"
            "    while True:\n"
            "        threads.append(threading.Thread(target=event.wait))\n"
            "        threads[-1].start()\n"
            "except RuntimeError as e: word = type(e).__name__\n"
            "event.set()\n"
            "for t in threads[:-1]: t.join()\n"
            "word"))

    def test_space_and_inodes(self):
        words = self.value(
            "import errno\n"
            "words = []\n"
            "for folder in '/tmp', '/dev/shm':\n"
            "    try:\n"
            "        with open(folder + '/big', 'wb') as f:\n"
            "            while True: f.write(bytes(1 << 20))\n"
            "    except OSError as e: words.append(errno.errorcode[e.errno])\n"
            "    os.truncate(folder + '/big', 0)\n"
            "    try:\n"
            "        for i in range(10 ** 7): open(folder + '/%d' % i, 'w')\n"
            "    except OSError as e: words.append(errno.errorcode[e.errno])\n"
            "words")
        self.assertEqual(["ENOSPC"] * 4, eval(words))
        self.assertEqual(0, run("reset", self.session.name).status)
        self.assertEqual("[]", self.value("import os\nos.listdir('/tmp')"))
        self.ok("open('/tmp/f', 'wb').write(bytes(40 << 20))")
        self.assertEqual(0, run("reset", self.session.name).status)

    def test_a_gigabyte_of_result(self):
        result = self.cell("class Big:\n"
                           "    def __repr__(self): return 'x' * (60 << 20)\n"
                           "Big()")
        self.assertEqual("ok", result["status"])
        self.assertLessEqual(len(result["result"]["text/plain"]), 1 << 20)


class Endless(HostileTest):
    """Interrupt and timeout end it within the deadline."""

    def test_all_that_does_not_want_to_end(self):
        for code in (
                "while True:\n"
                "    try:\n"
                "        while True: pass\n"
                "    except BaseException: pass",
                "import signal\n"
                "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
                "while True: pass",
                "import signal\n"
                "for n in range(1, 65):\n"
                "    try: signal.signal(n, signal.SIG_IGN)\n"
                "    except (OSError, ValueError): pass\n"
                "while True: pass",
                "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
                "10 ** 10 ** 8",
                "import ctypes\nctypes.CDLL(None).pause()",
                "sum(iter(int, 1))",
                "import os\nos.execv('/bin/sleep', ['sleep', '99'])",
                "import os, time\nif os.fork(): os.wait()\n"
                "else: time.sleep(99)",
                "import sys\nsys.stdin.close(); sys.stdout.close()\n"
                "while True: pass"):
            with self.subTest(code=code):
                result = self.cell(code, "--timeout", "1s", timeout=30)
                self.assertEqual("timeout", result["status"])
                self.assertLess(result["usage"]["wall_us"], 8_000_000)
                self.assertAlive()


class LeftBehind(HostileTest):
    """For a worker that starts: a copy has looked for its modules already."""

    OPTIONS = HostileTest.OPTIONS + ("--checkpoint", "off")

    def test_files_that_python_would_run(self):
        self.ok("import os\n"
                "for name in ('json.py', 'usercustomize.py', 'os.py',\n"
                "             'sitecustomize.py', 'evil.pth', '_cellar.py'):\n"
                "    with open('/tmp/' + name, 'w') as f:\n"
                "        f.write('import os; os.write(1, b\"EVIL\")\\n')\n"
                "home = os.path.expanduser('~/.local/lib/python3.11/"
                "site-packages')\n"
                "os.makedirs(home)\n"
                "for name in 'usercustomize.py', 'evil.pth':\n"
                "    with open(home + '/' + name, 'w') as f:\n"
                "        f.write('import os; os.write(1, b\"EVIL\")\\n')\n"
                "os.environ['PYTHONSTARTUP'] = '/tmp/json.py'\n"
                "os.environ['PYTHONPATH'] = '/tmp'")
        crashed = self.cell("os._exit(1)")
        self.assertEqual("fresh", crashed["state"])
        self.assertIn("json.py", self.value("import os\nos.listdir('/tmp')"))
        result = self.ok("import json, sys\n"
                         "json.__file__, '/tmp' in sys.path, "
                         "'PYTHONPATH' in os.environ")
        self.assertNotIn("EVIL", result["stdout"])
        self.assertIn("/usr/lib", result["result"]["text/plain"])
        self.assertTrue(result["result"]["text/plain"].endswith(
            "False, False)"), result)
        self.assertEqual(0, run("reset", self.session.name).status)

    def test_what_hangs_at_the_end_is_gone_at_a_reset(self):
        self.ok("import atexit, threading, time\n"
                "atexit.register(time.sleep, 99)\n"
                "class Hang:\n"
                "    def __del__(self): time.sleep(99)\n"
                "hang = Hang()\n"
                "threading.Thread(target=time.sleep, args=(99,)).start()")
        done = run("reset", self.session.name, timeout=20)
        self.assertEqual(0, done.status, done.err)
        self.assertEqual("False", self.value("'hang' in globals()"))


if __name__ == "__main__":
    unittest.main()
