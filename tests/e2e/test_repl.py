"""The REPL, as somebody at a terminal meets it."""

import os
import pty
import re
import select
import signal
import stat
import subprocess
import termios
import time
import unittest

import cellar_test
from cellar_test import containers_left, run, session, unique, wait_for

CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x07")
CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"


class Repl:
    """`cellar repl` on a terminal of its own."""

    def __init__(self, *arguments, rows=40, columns=100):
        self.terminal, side = pty.openpty()
        termios.tcsetwinsize(side, (rows, columns))
        environment = dict(cellar_test.ENVIRONMENT, TERM="xterm",
                           LC_ALL="C.UTF-8", HOME=cellar_test.STATE_DIR)
        self.process = subprocess.Popen(
            [cellar_test.CELLAR, "repl", *arguments], stdin=side, stdout=side,
            stderr=side, env=environment, start_new_session=True,
            preexec_fn=lambda: self.take_terminal())
        os.close(side)
        self.text = ""  # all that was shown, without the editor's controls
        self.seen = 0   # up to here it was waited for

    @staticmethod
    def take_terminal():
        """Makes the terminal the process's own: Ctrl-C is for it."""
        import fcntl
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def type(self, keys):
        os.write(self.terminal, keys.encode())

    def read(self, seconds):
        """False at the terminal's end."""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.terminal, 65536)
        except OSError:
            return False
        shown = data.decode("utf-8", "replace").replace("\r\n", "\n")
        self.text += CONTROLS.sub("", shown)
        return bool(data)

    def wait(self, pattern, seconds=30):
        """Waits until `pattern` shows after what was waited for last; what
        stands before it."""
        deadline = time.monotonic() + seconds
        while True:
            match = re.compile(pattern).search(self.text, self.seen)
            if match:
                before = self.text[self.seen:match.start()]
                self.seen = match.end()
                return before
            if time.monotonic() > deadline or not self.read(0.5):
                raise AssertionError("no %r in %r" %
                                     (pattern, self.text[self.seen:]))

    def prompt(self, number):
        return self.wait(r"In \[%d\]: " % number)

    def enter(self, line):
        self.type(line + "\n")

    def end(self):
        """What is shown to the end, and the exit status."""
        deadline = time.monotonic() + 30
        while self.read(0.5):
            if time.monotonic() > deadline:
                raise AssertionError("no end after %r" % self.text)
        return self.text[self.seen:], self.process.wait(30)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        os.close(self.terminal)


class ReplTest(unittest.TestCase):
    def begin(self, *arguments, **options):
        repl = Repl(*arguments, **options)
        self.addCleanup(repl.close)
        repl.prompt(1)
        return repl

    def assertEnds(self, repl, status=0):
        text, found = repl.end()
        self.assertEqual(status, found, text)
        return text


class Unnamed(ReplTest):
    def tearDown(self):
        wait_for(lambda: not containers_left(), 30)

    def test_state_and_results(self):
        repl = self.begin()
        self.assertRegex(repl.text, r"Cellar \d+\.\d+\.\d+, Python 3\.\d+")
        repl.enter("x = 20")
        repl.prompt(2)
        repl.enter("print('hello'); x + 1")
        self.assertIn("hello\nOut[2]: 21\n", repl.prompt(3))
        repl.enter("1 / 0")
        shown = repl.prompt(4)
        self.assertIn("Traceback", shown)
        self.assertIn("ZeroDivisionError", shown)
        repl.enter("x")
        self.assertIn("Out[4]: 20\n", repl.prompt(5))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_inputs_of_many_lines(self):
        repl = self.begin()
        repl.enter("def f(a,")
        repl.wait(r"\.\.\.: ")
        repl.enter("      b):")
        repl.wait(r"\.\.\.: ")
        repl.enter("    return a * b")
        repl.wait(r"\.\.\.: ")
        repl.enter("")
        repl.prompt(2)
        repl.enter("f(6,")
        repl.wait(r"\.\.\.: ")
        repl.enter("  7)")
        self.assertIn("Out[2]: 42\n", repl.prompt(3))
        repl.enter("'''a")
        repl.wait(r"\.\.\.: ")
        repl.enter("")
        repl.wait(r"\.\.\.: ")
        repl.enter("b'''")
        self.assertIn(r"Out[3]: 'a\n\nb'", repl.prompt(4))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_blank_input_is_no_cell(self):
        repl = self.begin()
        for line in ("", "   ", "# a comment"):
            repl.enter(line)
            repl.prompt(1)
        repl.enter("7")
        self.assertIn("Out[1]: 7\n", repl.prompt(2))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_ctrl_c_at_the_prompt_drops_the_input(self):
        repl = self.begin()
        repl.type("half an inp")
        repl.wait("half an inp")
        repl.type(CTRL_C)
        repl.prompt(1)
        repl.enter("if True:")
        repl.wait(r"\.\.\.: ")
        repl.type(CTRL_C)
        repl.prompt(1)
        repl.enter("'new'")
        self.assertIn("Out[1]: 'new'\n", repl.prompt(2))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_ctrl_c_interrupts_a_cell_and_keeps_the_state(self):
        repl = self.begin()
        repl.enter("x = 5")
        repl.prompt(2)
        for number in (2, 3):
            repl.enter("import time; print('go' + 'ing', flush=True); "
                       "time.sleep(99)")
            repl.wait("going\n")
            began = time.monotonic()
            repl.type(CTRL_C)
            self.assertIn("cell %d: interrupted; state kept" % number,
                          repl.prompt(number + 1))
            self.assertLess(time.monotonic() - began, 5)
        repl.enter("x")
        self.assertIn("Out[4]: 5\n", repl.prompt(5))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_a_cell_that_will_not_end_costs_the_state_only(self):
        repl = self.begin("--grace", "300ms")
        repl.enter("while True:")
        repl.enter("    try:")
        repl.enter("        print('no' + 'pe', flush=True)")
        repl.enter("        while True: pass")
        repl.enter("    except KeyboardInterrupt: pass")
        repl.enter("")
        repl.wait("nope\n")
        repl.type(CTRL_C)
        repl.wait("cell 1: interrupted; state fresh")
        repl.prompt(2)
        repl.enter("6 * 7")
        self.assertIn("Out[2]: 42\n", repl.prompt(3))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_output_comes_while_the_cell_runs(self):
        repl = self.begin()
        repl.enter("import time")
        repl.prompt(2)
        began = time.monotonic()
        repl.enter("print('ear' + 'ly', flush=True); time.sleep(3)")
        repl.wait("early\n")
        self.assertLess(time.monotonic() - began, 2.5)
        repl.prompt(3)
        self.assertGreater(time.monotonic() - began, 2.5)
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_no_escape_of_a_session_reaches_the_terminal(self):
        repl = self.begin()
        repl.enter(r"print('\x1b]0;' + 'gone\x07\r')")
        self.assertIn("\\x1b]0;gone\\x07\\x0d\n", repl.prompt(2))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_words_to_leave_by(self):
        for word in ("exit", "quit", "exit()", " quit() "):
            with self.subTest(word=word):
                repl = self.begin()
                repl.enter(word)
                self.assertIn("Ctrl-D", self.assertEnds(repl))

    def test_characters_of_every_kind(self):
        repl = self.begin()
        repl.enter("'na\u00efve \u65e5\u672c'[::-1]")
        self.assertIn("'\u672c\u65e5 ev\u00efan'", repl.prompt(2))
        repl.type(CTRL_D)
        self.assertEnds(repl)

    def test_signals_leave_nothing(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number):
                repl = self.begin()
                repl.process.send_signal(number)
                self.assertEnds(repl, 128 + number)
        repl = self.begin()
        repl.enter("import time; print('go' + 'ing', flush=True); "
                   "time.sleep(99)")
        repl.wait("going\n")
        repl.process.send_signal(signal.SIGTERM)
        self.assertEnds(repl, 128 + signal.SIGTERM)

    def test_a_terminal_that_goes_away(self):
        repl = Repl()
        repl.prompt(1)
        os.close(repl.terminal)
        repl.terminal = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(repl.close)
        self.assertNotEqual(0, repl.process.wait(30))

    def test_history(self):
        path = os.path.join(cellar_test.STATE_DIR, "history")
        repl = self.begin()
        repl.enter("first = 111")
        repl.prompt(2)
        repl.enter("for i in range(2):")
        repl.enter("    print('i', i)")
        repl.enter("")
        repl.prompt(3)
        repl.type(CTRL_D)
        self.assertEnds(repl)
        self.assertEqual(0o600, stat.S_IMODE(os.stat(path).st_mode))
        repl = self.begin()
        repl.type(UP)
        repl.wait("print")
        repl.type(UP)
        repl.wait("111")
        repl.enter("")
        repl.prompt(2)
        repl.enter("first")
        self.assertIn("Out[2]: 111\n", repl.prompt(3))
        repl.type(UP + UP + UP + "\n")
        repl.wait("print")
        self.assertIn("i 0\ni 1\n", repl.prompt(4))
        repl.type(CTRL_D)
        self.assertEnds(repl)


class Named(ReplTest):
    def test_a_live_session_is_adopted_and_let_go(self):
        with session() as live:
            live.exec("x = 41")
            repl = Repl(live.name)
            self.addCleanup(repl.close)
            repl.prompt(2)
            repl.enter("x += 1; x")
            self.assertIn("Out[2]: 42\n", repl.prompt(3))
            done = run("exec", live.name, "1")
            self.assertEqual(3, done.status)
            self.assertIn(str(repl.process.pid), done.err)
            repl.enter("exit")
            self.assertIn("cellar stop " + live.name, self.assertEnds(repl))
            self.assertEqual({"text/plain": "42"}, live.exec("x")["result"])

    def test_a_name_that_is_free_is_started_and_stays(self):
        name = unique("repl")
        repl = self.begin(name)
        repl.enter("x = 1")
        repl.prompt(2)
        repl.type(CTRL_D)
        self.assertEnds(repl)
        self.assertEqual("1\n", run("exec", name, "x").out)
        self.assertEqual(0, run("stop", name).status)

    def test_what_ends_unattended_is_told_amid_typing(self):
        with session() as live:
            with live.running("import os, time\n"
                              "while not os.path.exists('/dev/shm/go'):\n"
                              "    time.sleep(0.05)") as process:
                process.kill()
                process.wait()
            repl = Repl(live.name)
            self.addCleanup(repl.close)
            repl.prompt(2)
            repl.type("6 *")
            repl.wait(r"6 \*")
            cellar_test.make_file(live.container(), "/dev/shm/go")
            repl.wait("cellar: cell 1 ended while nobody was attached: ok")
            repl.wait(r"In \[2\]: 6 \*")
            repl.enter(" 7")
            self.assertIn("Out[2]: 42\n", repl.prompt(3))

    def test_a_session_stopped_from_elsewhere(self):
        with session() as live:
            repl = Repl(live.name)
            self.addCleanup(repl.close)
            repl.prompt(1)
            repl.enter("import time; print('go' + 'ing', flush=True); "
                       "time.sleep(99)")
            repl.wait("going\n")
            self.assertEqual(0, live.stop().status)
            repl.wait("cell 1: lost: ")
            self.assertEnds(repl, 3)


if __name__ == "__main__":
    unittest.main()
