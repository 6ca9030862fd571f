"""The worker: cells that raise, exit, await, or are interrupted."""
import threading
import time
import unittest

from worker import (ERROR, EXIT, INTERRUPTED, OK, TRACEBACK_MAX, VERSION,
                    WorkerTest)


class Errors(WorkerTest):
    def test_traceback_has_the_cells_lines(self):
        self.run_cell("def f(n):\n    return 1 / n\n")
        answer = self.fails("x = 0\nf(x)", "ZeroDivisionError")
        self.assertEqual(answer.text, "division by zero")
        lines = [line for line in answer.trace.split("\n")
                 if set(line) - set(" ^~")]
        self.assertEqual(lines, [
            "Traceback (most recent call last):",
            '  File "<cell 2>", line 2, in <module>', "    f(x)",
            '  File "<cell 1>", line 2, in f', "    return 1 / n",
            "ZeroDivisionError: division by zero"])

    def test_state_after_an_error(self):
        self.fails("x = 1\nraise KeyError('k')", "KeyError")
        self.assertEqual(self.result("x"), "1")

    def test_syntax_error_runs_nothing(self):
        answer = self.fails("x = 1\ny = = 2", "SyntaxError")
        self.assertTrue(answer.trace.startswith('  File "<cell 1>", line 2\n'
                                                "    y = = 2\n        ^\n"),
                        answer.trace)
        self.fails("x", "NameError")

    def test_syntax_error_behind_the_parser(self):
        answer = self.fails("x = 1\n\nreturn x", "SyntaxError")
        self.assertIn('  File "<cell 1>", line 3\n    return x\n',
                      answer.trace)
        self.fails("x", "NameError")

    def test_chained(self):
        answer = self.fails("try:\n    1 / 0\nexcept Exception as e:\n"
                            "    raise ValueError('v') from e", "ValueError")
        self.assertIn("ZeroDivisionError", answer.trace)
        self.assertIn("direct cause", answer.trace)

    @unittest.skipIf(VERSION < (3, 11), "exception groups came with 3.11")
    def test_group_and_notes(self):
        answer = self.fails(
            "e = ExceptionGroup('g', [ValueError('v')])\n"
            "e.add_note('a note')\nraise e", "ExceptionGroup")
        for text in ("ValueError: v", "a note"):
            self.assertIn(text, answer.trace)

    def test_recursion(self):
        answer = self.fails("def r(): r()\nr()", "RecursionError")
        self.assertIn("Previous line repeated", answer.trace)
        self.assertEqual(self.result("1"), "1")

    def test_from_within_a_cell(self):
        self.output("import traceback\ntry:\n    1 / 0  # here\n"
                    "except Exception:\n    traceback.print_exc()",
                    "1 / 0  # here", 2)
        self.output("import logging\ntry:\n    1 / 0  # there\n"
                    "except Exception:\n    logging.exception('m')",
                    "1 / 0  # there", 2)

    def test_warning_shows_its_line(self):
        self.output("import warnings\nwarnings.warn('w')  # this line",
                    "# this line", 2)

    def test_getsource(self):
        self.run_cell("def f():\n    return 5  # five\n")
        self.assertEqual(self.result("import inspect\ninspect.getsource(f)"),
                         repr("def f():\n    return 5  # five\n"))

    def test_linecache_keeps_its_own_loader(self):
        self.assertEqual(self.result(
            "import linecache, sys\n"
            "(type(linecache.__loader__).__name__,"
            " linecache.__spec__.loader is linecache.__loader__,"
            " [f for f in sys.meta_path if 'cellar' in repr(f)])"),
            "('SourceFileLoader', True, [])")

    def test_sources_are_bounded(self):
        self.run_cell("def kept(): 1 / 0")
        self.run_cell("import linecache")
        for _ in range(200):
            self.run_cell("x = 1")
        self.assertLess(int(self.result(
            "len([n for n in linecache.cache if n.startswith('<cell')])")),
            80)
        self.assertIn("def kept(): 1 / 0",
                      self.fails("kept()", "ZeroDivisionError").trace)

    def test_hostile_exceptions(self):
        self.run_cell(
            "class M(type):\n"
            "    @property\n    def __name__(cls): raise OSError\n"
            "class S(Exception):\n    def __str__(self): raise OSError\n"
            "class N(Exception):\n    def __str__(self): return 5\n"
            "class C(Exception):\n"
            "    @property\n    def __class__(self): raise OSError\n"
            "class A(Exception, metaclass=M):\n"
            "    def __getattribute__(self, name): raise OSError\n"
            "class X(SystemExit):\n    pass\n")
        for name in "SNCA":
            answer = self.fails("raise %s('t')" % name, name)
            self.assertIn("raise %s('t')" % name, answer.trace)
        self.assertEqual(self.run_cell("raise X(3)", EXIT).status, 3)
        self.assertEqual(self.result("1"), "1")

    def test_formatting_that_fails(self):
        answer = self.fails(
            "import traceback\ntraceback.format_exception = None\n1 / 0",
            "ZeroDivisionError")
        self.assertIn("    1 / 0\n", answer.trace)
        self.assertTrue(
            answer.trace.endswith("ZeroDivisionError: division by zero"))

    def test_long_traceback_keeps_head_and_tail(self):
        answer = self.fails("raise ValueError('v' * (1 << 20) + 'end')",
                            "ValueError")
        self.assertLessEqual(len(answer.trace), TRACEBACK_MAX)
        self.assertTrue(answer.trace.startswith("Traceback (most"))
        self.assertTrue(answer.trace.endswith("vvvend"))
        self.assertRegex(answer.trace, r"\n\.\.\. \[\d+ more bytes\]\n")
        self.assertLessEqual(len(answer.text), 64 << 10)

    def test_last_exception_stays_for_the_debugger(self):
        self.fails("1 / 0", "ZeroDivisionError")
        self.assertEqual(self.result(
            "import sys\nsys.last_type.__name__, str(sys.last_value),"
            "sys.last_traceback.tb_frame.f_code.co_filename"),
            "('ZeroDivisionError', 'division by zero', '<cell 1>')")

    def test_exit(self):
        for code, status in (("raise SystemExit", 0), ("exit()", 0),
                             ("import sys; sys.exit(7)", 7),
                             ("raise SystemExit(None)", 0)):
            answer = self.run_cell("x = 5\n" + code, EXIT)
            self.assertEqual(answer.status, status, code)
        self.assertEqual(self.run_cell("sys.exit('bye')", EXIT).status, 1)
        self.worker.wait_output("bye\n", 2)
        self.assertEqual(self.result("x"), "5")


class Awaiting(WorkerTest):
    def setUp(self):
        super().setUp()
        self.run_cell("import asyncio")

    def test_result(self):
        self.assertEqual(self.result("await asyncio.sleep(0, 5)"), "5")
        self.assertEqual(self.result("x = await asyncio.sleep(0, 6)\nx"), "6")

    def test_for_and_with(self):
        self.run_cell(
            "import contextlib\nasync def count():\n"
            "    for i in range(3):\n        yield i\n"
            "@contextlib.asynccontextmanager\nasync def c():\n    yield 9\n")
        self.assertEqual(self.result(
            "s = 0\nasync for i in count():\n    s += i\ns"), "3")
        self.assertEqual(self.result(
            "async with c() as n:\n    m = n\nm"), "9")
        self.assertEqual(self.result(
            "[i async for i in count()]"), "[0, 1, 2]")

    def test_all_of_the_cell_runs_in_the_loop(self):
        self.assertEqual(self.result(
            "t = asyncio.create_task(asyncio.sleep(0, 5))\nawait t"), "5")
        self.assertEqual(self.result(
            "await asyncio.sleep(0)\nt = asyncio.current_task()\n"
            "t is asyncio.current_task(), 'Cell' in repr(t)"),
            "(True, True)")

    def test_cancelling_itself(self):
        answer = self.fails("asyncio.current_task().cancel()\n"
                            "await asyncio.sleep(1)", "CancelledError")
        self.assertIn("await asyncio.sleep(1)", answer.trace)

    def test_error_has_no_frame_of_the_loop(self):
        answer = self.fails(
            "async def f():\n    await asyncio.sleep(0)\n    1 / 0\n"
            "await f()", "ZeroDivisionError")
        self.assertNotIn("asyncio/", answer.trace)
        self.assertIn("    await f()", answer.trace)
        self.assertIn("    1 / 0", answer.trace)
        self.assertNotIn(b"never retrieved", self.worker.out[2])

    def test_run_in_a_cell_without_await(self):
        self.assertEqual(self.result("asyncio.run(asyncio.sleep(0, 5))"), "5")
        self.assertEqual(self.result("await asyncio.sleep(0, 6)"), "6")
        self.assertEqual(self.result("asyncio.run(asyncio.sleep(0, 7))"), "7")

    def test_background_task_goes_on(self):
        self.run_cell("n = 0\nasync def tick():\n    global n\n"
                      "    while True:\n        n += 1\n"
                      "        await asyncio.sleep(0)\n"
                      "t = asyncio.ensure_future(tick())\n"
                      "await asyncio.sleep(0)")
        before = int(self.result("n"))
        self.run_cell("await asyncio.sleep(0.01)")
        self.assertGreater(int(self.result("n")), before)

    def test_closed_loop_is_replaced(self):
        self.run_cell("running = asyncio.get_running_loop()\n"
                      "await asyncio.sleep(0)")
        self.run_cell("running.close()")
        self.assertEqual(self.result("await asyncio.sleep(0, 5)"), "5")

    def interrupt_while(self, code):
        self.worker.send("print('go', flush=True)\n" + code)
        self.worker.wait_output("go")
        time.sleep(0.1)
        self.worker.interrupt()
        answer = self.worker.answer()
        self.assertEqual(answer.outcome, INTERRUPTED, answer.trace)
        self.assertEqual(answer.name, "KeyboardInterrupt")
        return answer

    def test_interrupt_cancels(self):
        answer = self.interrupt_while(
            "done = False\ntry:\n    await asyncio.sleep(99)\n"
            "finally:\n    await asyncio.sleep(0)\n    done = True")
        self.assertEqual(self.result("done"), "True")
        self.assertTrue(answer.trace.endswith("KeyboardInterrupt"))
        self.assertNotIn("CancelledError", answer.trace)
        if VERSION >= (3, 9):
            self.assertIn("await asyncio.sleep(99)", answer.trace)
        self.assertEqual(self.result("await asyncio.sleep(0, 5)"), "5")

    def test_interrupt_in_a_busy_task(self):
        answer = self.interrupt_while(
            "await asyncio.sleep(0)\nwhile True: pass")
        self.assertIn("while True: pass", answer.trace)
        self.assertNotIn("asyncio/", answer.trace)
        self.assertEqual(self.result("await asyncio.sleep(0, 5)"), "5")
        self.assertNotIn(b"never retrieved", self.worker.out[2])

    def test_interrupt_in_a_busy_background_task(self):
        self.interrupt_while(
            "async def spin():\n    while True: pass\n"
            "t = asyncio.ensure_future(spin())\nawait asyncio.sleep(99)")
        self.assertEqual(self.result("await asyncio.sleep(0, 5)"), "5")

    def test_exit(self):
        answer = self.run_cell("await asyncio.sleep(0)\nraise SystemExit(4)",
                               EXIT)
        self.assertEqual(answer.status, 4)


class Interrupts(WorkerTest):
    def interrupted(self, code):
        self.worker.send("print('go', flush=True)\n" + code)
        self.worker.wait_output("go")
        time.sleep(0.05)
        self.worker.interrupt()
        return self.worker.answer()

    def test_loop_and_sleep(self):
        for code in ("while True: pass", "import time\ntime.sleep(99)"):
            self.worker.out[1].clear()
            answer = self.interrupted("x = 5\n" + code)
            self.assertEqual(answer.outcome, INTERRUPTED)
            self.assertEqual(answer.name, "KeyboardInterrupt")
            self.assertIn(code.split("\n")[-1], answer.trace)
        self.assertEqual(self.result("x"), "5")

    def test_in_repr(self):
        answer = self.interrupted(
            "class R:\n    def __repr__(self):\n        while True: pass\n"
            "R()")
        self.assertEqual(answer.outcome, INTERRUPTED)

    def test_while_an_exception_is_told(self):
        answer = self.interrupted(
            "class E(Exception):\n    def __str__(self):\n"
            "        while True: pass\nraise E")
        self.assertEqual(answer.outcome, ERROR)
        self.assertEqual(answer.name, "E")
        self.assertIn("    raise E", answer.trace)

    def test_while_flushing(self):
        answer = self.interrupted(
            "import sys\nclass F:\n    closed = False\n"
            "    def write(self, s): pass\n    def flush(self):\n"
            "        while True: pass\nsys.stdout = F()")
        self.assertEqual(answer.outcome, OK)

    def test_between_cells_nothing_happens(self):
        for _ in range(50):
            self.worker.interrupt_idle()
            self.assertEqual(self.result("1"), "1")

    def test_between_cells_with_a_thread(self):
        self.run_cell("import threading, time\nthreading.Thread("
                      "target=time.sleep, args=(99,), daemon=True).start()")
        for _ in range(20):
            self.worker.interrupt_idle()
            self.assertEqual(self.result("1"), "1")

    def test_right_after_the_code(self):
        for _ in range(50):
            self.worker.send("while True: pass")
            time.sleep(0.001)
            self.worker.interrupt()
            self.assertEqual(self.worker.answer().outcome, INTERRUPTED)

    def test_at_any_time(self):
        """The answers stay in step whenever the signal comes."""
        stop = threading.Event()

        def shoot():
            while not stop.is_set():
                self.worker.interrupt()
                time.sleep(0.0005)

        shooter = threading.Thread(target=shoot)
        shooter.start()
        try:
            for number in range(1000):
                answer = self.worker.run("n = %d\nn" % number)
                if answer.outcome == OK:
                    self.assertEqual(answer.result, str(number))
                else:
                    self.assertEqual(answer.outcome, INTERRUPTED,
                                     answer.trace)
        finally:
            stop.set()
            shooter.join()
        self.assertEqual(self.result("1"), "1")

    def test_handler_lasts_as_long_as_the_cell(self):
        for handler in ("signal.SIG_IGN", "signal.SIG_DFL",
                        "lambda *a: None"):
            self.run_cell(
                "import signal; signal.signal(signal.SIGINT, %s)" % handler)
            self.worker.interrupt_idle()
            self.worker.out[1].clear()
            answer = self.interrupted("while True: pass")
            self.assertEqual(answer.outcome, INTERRUPTED, handler)

    def test_children_and_threads_are_interruptible(self):
        self.assertEqual(self.result(
            "import subprocess, signal, threading\n"
            "out = []\n"
            "t = threading.Thread(target=lambda: out.append("
            "signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])))\n"
            "t.start(); t.join()\n"
            "p = subprocess.run(['sh', '-c', 'kill -2 $$; sleep 9'])\n"
            "out, p.returncode"), "([False], -2)")


if __name__ == "__main__":
    unittest.main()
