"""The worker, driven over its control socket as the agent drives it.

CELLAR_WORKER: the folder of boot.py and the extension.
CELLAR_PYTHON: the interpreter that runs them (default: this one).
"""
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

FOLDER = os.environ["CELLAR_WORKER"]
BOOT = os.path.join(FOLDER, "boot.py")
PYTHON = os.environ.get("CELLAR_PYTHON", sys.executable)
VERSION = tuple(map(int, subprocess.check_output(
    [PYTHON, "-c", "import sys; print('%d %d' % sys.version_info[:2])"]
).split()))

OK, ERROR, INTERRUPTED, EXIT = range(4)
RESULT_MAX = 1 << 20
TRACEBACK_MAX = 256 << 10
DEADLINE = 30


def start_process(boot=BOOT, python=PYTHON, fd=3, **options):
    """The process and our end of the socket that it has as `fd`."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)

    def place():
        os.dup2(theirs.fileno(), fd)
        os.set_inheritable(fd, True)

    process = subprocess.Popen([python, "-I", boot], preexec_fn=place,
                               close_fds=False, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **options)
    theirs.close()
    return process, ours


class Answer:
    def __init__(self):
        self.parts = {}
        self.name = self.text = self.trace = None
        self.outcome = self.status = None

    @property
    def result(self):
        return self.parts.get("text/plain")


class Worker:
    def __init__(self, **options):
        self.process, self.socket = start_process(**options)
        self.records = self.socket.makefile("rb")
        self.cells = 0
        self.out = {1: bytearray(), 2: bytearray()}
        self.readers = [
            threading.Thread(target=self.read, args=pair, daemon=True)
            for pair in ((1, self.process.stdout), (2, self.process.stderr))]
        for reader in self.readers:
            reader.start()
        self.ready = self.record()

    def read(self, number, pipe):
        while True:
            data = os.read(pipe.fileno(), 1 << 16)
            if not data:
                return
            self.out[number] += data

    def record(self):
        header = self.records.read(5)
        if len(header) < 5:
            return None
        length, kind = struct.unpack(">IB", header)
        return chr(kind), self.records.read(length)

    def send(self, code):
        if isinstance(code, str):
            code = code.encode()
        self.cells += 1
        self.socket.sendall(
            struct.pack(">IBQ", len(code) + 8, ord("C"), self.cells) + code)

    def answer(self):
        answer = Answer()
        while True:
            record = self.record()
            if record is None:
                raise EOFError(self.process.wait(DEADLINE))
            kind, body = record
            if kind == "M":
                name, _, data = body.partition(b"\0")
                answer.parts[name.decode()] = data.decode()
            elif kind == "N":
                answer.name = body.decode()
            elif kind == "T":
                answer.text = body.decode()
            elif kind == "B":
                answer.trace = body.decode()
            else:
                assert kind == "E", kind
                cell, answer.outcome, answer.status = struct.unpack(
                    ">QBI", body)
                assert cell == self.cells
                return answer

    def run(self, code):
        self.send(code)
        return self.answer()

    def interrupt(self):
        os.kill(self.process.pid, signal.SIGINT)

    def interrupt_idle(self):
        """Sends SIGINT and waits until the worker has thrown it away."""
        self.interrupt()
        end = time.monotonic() + DEADLINE
        while self.pending():
            assert time.monotonic() < end
            time.sleep(0.001)

    def pending(self):
        with open("/proc/%d/status" % self.process.pid) as file:
            return any(int(line.split()[1], 16) & 1 << signal.SIGINT - 1
                       for line in file
                       if line.startswith(("SigPnd", "ShdPnd")))

    def wait_output(self, text, number=1):
        end = time.monotonic() + DEADLINE
        while text not in self.out[number].decode():
            if time.monotonic() > end:
                raise AssertionError(
                    "%r not in %r" % (text, bytes(self.out[number])))
            time.sleep(0.002)

    def end(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        status = self.process.wait(DEADLINE)
        for reader in self.readers:
            reader.join(0.5)
        for file in (self.records, self.socket, self.process.stdout,
                     self.process.stderr):
            file.close()
        return status


class WorkerTest(unittest.TestCase):
    def setUp(self):
        self.worker = Worker()
        self.addCleanup(self.end)

    def end(self):
        self.worker.process.kill()
        self.worker.end()

    def run_cell(self, code, outcome=OK):
        answer = self.worker.run(code)
        self.assertEqual(answer.outcome, outcome, answer.trace)
        return answer

    def result(self, code):
        return self.run_cell(code).result

    def fails(self, code, name, outcome=ERROR):
        answer = self.run_cell(code, outcome)
        self.assertEqual(answer.name, name, answer.trace)
        self.assertIsNone(answer.result)
        return answer

    def output(self, code, text, number=1):
        """Runs a cell whose output ends with `text`."""
        answer = self.run_cell(code)
        self.worker.wait_output(text, number)
        return answer


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
                    self.assertEqual(answer.outcome, INTERRUPTED)
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
        self.worker.wait_output("ac")
        self.worker.wait_output("b", 2)

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
            worker.wait_output("carried no cell", 2)
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
        self.run_cell("import signal\ndef h(*a): raise OSError('late')\n"
                      "signal.signal(signal.SIGALRM, h)\n"
                      "signal.setitimer(signal.ITIMER_REAL, 0.01)")
        self.worker.wait_output("late", 2)
        self.assertEqual(self.result("1"), "1")

    def test_memory_stays_flat(self):
        rss = ("int(open('/proc/self/statm').read().split()[1]) * 4")
        for _ in range(2000):
            self.worker.run("x = [1]\nx")
        before = int(self.result(rss))
        for _ in range(10000):
            self.worker.run("x = [1]\nx")
        self.assertLess(int(self.result(rss)) - before, 256)

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
        self.assertRegex(stderr, r"\ACellar needs CPython 3.8 or later; .*\n\Z")

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
