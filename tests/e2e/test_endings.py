"""How a cell ends when it does not end by itself, and what becomes of the
state: timeout, interrupt, exit, crash."""

import signal
import threading
import time
import unittest

from cellar_test import SessionTest, result_of, run


class EndingTest(SessionTest):
    OPTIONS = ("--grace", "500ms", "--memory", "256m")

    def setUp(self):
        self.ok("kept = 'yes'")

    def assertEnding(self, result, status, state, /, **more):
        expected = dict(more, status=status, state=state)
        expected["restored_from"] = (result["cell"] - 1
                                     if state == "restored" else None)
        self.assertEqual(expected, {key: result[key] for key in expected},
                         result)
        self.assertNextCell(state)

    def assertNextCell(self, state):
        self.assertEqual(repr("no" if state == "fresh" else "yes"), self.value(
            "globals().get('kept', 'no')"))


class Timeout(EndingTest):
    LIMIT = {"name": "timeout", "value": 1.0, "unit": "s"}

    def check(self, code, state="kept", slowest=10):
        begin = time.monotonic()
        result = self.cell(code, "--timeout", "1s")
        self.assertLess(time.monotonic() - begin, slowest)
        self.assertGreaterEqual(result["usage"]["wall_us"], 990_000)
        self.assertEnding(result, "timeout", state, limit=self.LIMIT,
                          error=None, result=None)
        return result

    def test_an_endless_loop(self):
        self.check("while True: pass")

    def test_sleep(self):
        self.check("import time\ntime.sleep(99)")

    def test_await(self):
        self.check("import asyncio\nawait asyncio.sleep(99)")
        self.assertEqual("1", self.value("await asyncio.sleep(0, 1)"))

    def test_partial_output_and_state(self):
        result = self.check("print('before')\nhalf = 1\n"
                            "import sys, time\n"
                            "print('half', end='')\ntime.sleep(99)\n"
                            "print('after')")
        self.assertEqual("before\nhalf", result["stdout"])
        self.assertEqual("1", self.value("half"))

    def test_a_subprocess(self):
        self.check("import subprocess\nsubprocess.run(['sleep', '99'])")

    def test_a_lock_and_a_thread(self):
        self.check("import threading\nlock = threading.Lock()\n"
                   "lock.acquire()\nlock.acquire()")
        self.check("t = threading.Thread(target=lambda: event.wait(), "
                   "daemon=True)\n"
                   "event = threading.Event()\nt.start()\nt.join()")

    def test_a_regular_expression(self):
        self.check("import re\nre.match('(a+)+$', 'a' * 40 + 'b')")

    def test_c_code_that_waits(self):
        self.check("import ctypes\nctypes.CDLL(None).pause()")

    def test_a_flood_of_output(self):
        result = self.check("while True: print('x' * 1000)", slowest=15)
        self.assertTrue(result["truncated"])

    def test_the_session_has_one_too(self):
        self.assertEqual("ok", self.cell("1", "--timeout", "30s")["status"])

    def test_after_it_the_cell_of_the_same_time_is_ok(self):
        self.check("while True: pass")
        self.ok("import time\ntime.sleep(0.7)", "--timeout", "1s")


class Deaf(EndingTest):
    """Code that ignores SIGINT loses its worker after the grace time."""

    def check(self, code):
        begin = time.monotonic()
        result = self.cell(code, "--timeout", "1s")
        self.assertLess(time.monotonic() - begin, 12)
        self.assertGreaterEqual(result["usage"]["wall_us"], 1_490_000)
        self.assertEnding(result, "timeout", "restored", limit=Timeout.LIMIT)
        return result

    def test_sigint_ignored(self):
        result = self.check("import signal\nprint('deaf')\n"
                            "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                            "while True: pass")
        self.assertEqual("deaf\n", result["stdout"])

    def test_sigint_blocked(self):
        self.check("import signal\n"
                   "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
                   "while True: pass")

    def test_everything_caught(self):
        self.check("import time\n"
                   "while True:\n"
                   "    try:\n"
                   "        time.sleep(9)\n"
                   "    except BaseException: pass")

    def test_c_code_that_never_comes_back(self):
        self.check("import ctypes\nlibc = ctypes.CDLL(None)\n"
                   "mutex = ctypes.create_string_buffer(64)\n"
                   "print('deaf')\n"
                   "libc.pthread_mutex_lock(mutex)\n"
                   "libc.pthread_mutex_lock(mutex)")

    def test_stopped(self):
        self.check("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)")

    def test_another_program_in_its_place(self):
        result = self.cell("import os\n"
                           "os.execv('/bin/sleep', ['sleep', '99'])",
                           "--timeout", "1s")
        self.assertEnding(result, "timeout", "restored")


class Interrupt(EndingTest):
    def test_from_another_terminal(self):
        with self.session.running("print('so far')\n"
                     "import time\ntime.sleep(99)") as process:
            done = run("interrupt", self.session.name)
            self.assertEqual(0, done.status, done.err)
            status, result = result_of(process)
        self.assertEqual(1, status)
        self.assertEnding(result, "interrupted", "kept", stdout="so far\n",
                          limit=None, error=None)

    def test_ctrl_c(self):
        for code in "while True: pass", "import time\ntime.sleep(99)":
            with self.subTest(code=code):
                with self.session.running(code) as process:
                    process.send_signal(signal.SIGINT)
                    status, result = result_of(process)
                self.assertEqual(1, status)
                self.assertEnding(result, "interrupted", "kept")

    def test_a_deaf_cell(self):
        with self.session.running("import signal\n"
                     "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                     "while True: pass") as process:
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, result = result_of(process)
            self.assertLess(time.monotonic() - begin, 10)
        self.assertEnding(result, "interrupted", "restored")

    def test_a_flood_is_interrupted_too(self):
        with self.session.running("while True: print('x' * 1000)") as process:
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, result = result_of(process)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEnding(result, "interrupted", "kept")

    def test_a_cell_that_cleans_up(self):
        with self.session.running("import time\n"
                     "try: time.sleep(99)\n"
                     "finally: print('cleaned')") as process:
            process.send_signal(signal.SIGINT)
            _, result = result_of(process)
        self.assertEnding(result, "interrupted", "kept", stdout="cleaned\n")

    def test_a_cell_that_catches_it_ends_ok(self):
        with self.session.running("import time\n"
                     "try: time.sleep(99)\n"
                     "except KeyboardInterrupt: print('caught')\n"
                     "'value'") as process:
            process.send_signal(signal.SIGINT)
            status, result = result_of(process)
        self.assertEqual((0, "ok", "caught\n"),
                         (status, result["status"], result["stdout"]))

    def test_nothing_to_interrupt(self):
        self.assertEqual(0, run("interrupt", self.session.name).status)
        self.assertNextCell("kept")
        self.ok("import time\ntime.sleep(0.3)")

    def test_many_at_once(self):
        with self.session.running("import time\ntime.sleep(99)") as process:
            threads = [threading.Thread(target=run, args=(
                "interrupt", self.session.name)) for _ in range(5)]
            for thread in threads:
                thread.start()
            _, result = result_of(process)
            for thread in threads:
                thread.join()
        self.assertEnding(result, "interrupted", "kept")


class Exit(EndingTest):
    def test_sys_exit_is_a_word_of_the_code(self):
        for code, exit_code in (("sys.exit()", 0), ("sys.exit(3)", 3),
                                ("sys.exit('why')", 1), ("exit()", 0),
                                ("quit(4)", 4)):
            with self.subTest(code=code):
                result = self.cell("import sys\nprint('bye')\n" + code)
                self.assertEnding(result, "exited", "kept", stdout="bye\n",
                                  exit_code=exit_code, error=None)

    def test_os_exit(self):
        result = self.cell("import os\nprint('bye', flush=True)\nos._exit(7)")
        self.assertEnding(result, "exited", "restored", stdout="bye\n",
                          exit_code=7, signal=None)

    def test_os_exit_in_a_thread(self):
        result = self.cell("import os, threading, time\n"
                           "threading.Timer(0.1, os._exit, (9,)).start()\n"
                           "time.sleep(30)")
        self.assertEnding(result, "exited", "restored", exit_code=9)

    def test_a_childs_exit_is_not_the_cells(self):
        result = self.cell("import os\n"
                           "if os.fork() == 0: os._exit(5)\n"
                           "os.waitstatus_to_exitcode(os.wait()[1])")
        self.assertEnding(result, "ok", "kept", result={"text/plain": "5"})

    def test_sys_exit_in_a_forked_child(self):
        """The child is no worker: it ends, and answers for nobody."""
        result = self.cell("import os, sys\n"
                           "pid = os.fork()\n"
                           "if pid == 0: sys.exit(5)\n"
                           "os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
                           "--timeout", "10s")
        self.assertEnding(result, "ok", "kept", result={"text/plain": "5"})


class Crash(EndingTest):
    def check(self, code, name):
        self.assertEnding(self.cell(code), "killed", "restored", signal=name,
                          exit_code=None, limit=None)

    def test_segmentation_fault(self):
        self.check("import ctypes\nctypes.string_at(0)", "SIGSEGV")

    def test_abort(self):
        self.check("import os\nos.abort()", "SIGABRT")

    def test_division_in_c(self):
        self.check("import os, signal\nos.kill(os.getpid(), signal.SIGFPE)",
                   "SIGFPE")

    def test_kill_of_itself(self):
        self.check("import os\nos.kill(os.getpid(), 9)", "SIGKILL")

    def test_output_before_it_arrives(self):
        result = self.cell("import ctypes\nprint('last words')\n"
                           "ctypes.string_at(0)")
        self.assertEnding(result, "killed", "restored", stdout="last words\n")

    def test_a_deep_recursion(self):
        result = self.cell("import sys\nsys.setrecursionlimit(1 << 30)\n"
                           "f = lambda: f()\nf()")
        self.assertIn((result["status"], result["signal"]),
                      (("killed", "SIGSEGV"), ("error", None),
                       ("out_of_memory", None)))
        self.assertNextCell(result["state"])

    def test_out_of_memory(self):
        result = self.cell("x = []\nwhile 1: x.append(bytearray(1 << 20))")
        if result["status"] == "error":  # the allocator may notice first
            self.assertEqual("MemoryError", result["error"]["name"])
            self.assertNextCell("kept")
            return
        self.assertEnding(result, "out_of_memory", "restored", limit={
            "name": "memory", "value": 256 << 20, "unit": "bytes"})

    def test_what_the_cell_changed_is_lost_with_it(self):
        self.check("kept = 'changed'\nmore = 1\nimport os\nos.abort()",
                   "SIGABRT")
        self.assertEqual("('yes', False)",
                         self.value("kept, 'more' in globals()"))

    def test_crash_after_crash(self):
        for _ in range(10):
            self.ok("kept = 'yes'")
            self.check("import ctypes\nctypes.string_at(0)", "SIGSEGV")


class WithoutCheckpoints(EndingTest):
    OPTIONS = *EndingTest.OPTIONS, "--checkpoint", "off"

    def test_the_state_is_lost_with_the_worker(self):
        for code, status in (("os.abort()", "killed"),
                             ("os._exit(7)", "exited"),
                             ("os.kill(os.getpid(), 19)", "timeout")):
            with self.subTest(code=code):
                self.ok("kept = 'yes'")
                self.assertEnding(self.cell("import os\n" + code, "--timeout",
                                            "1s"), status, "fresh")


if __name__ == "__main__":
    unittest.main()
