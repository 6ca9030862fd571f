"""Forging: what a cell writes is its text, and never a frame."""

import json
import os
import time
import unittest

from hostile import HostileTest, popen, run

# Records as proto/record.h has them.
FORGE = """
import os, stat, struct, sys, time
def channel():
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode): return fd
        except OSError: pass
def tell(records):
    os.write(channel(), records)
def record(kind, body):
    return struct.pack('>I', len(body)) + kind + body
def end(ticket, outcome=0, code=0):
    return record(b'E', struct.pack('>QBI', ticket, outcome, code))
"""

# Looks for the record that brought this cell: its number, then the ticket.
STEAL = """
def steal(cell):
    needle = struct.pack('>Q', cell)
    found = set()
    for line in open('/proc/self/maps'):
        words = line.split()
        if 'w' not in words[1]:
            continue
        low, high = (int(x, 16) for x in words[0].split('-'))
        try:
            with open('/proc/self/mem', 'rb', 0) as memory:
                memory.seek(low)
                data = memory.read(high - low)
        except OSError:
            continue
        at = data.find(needle)
        while at >= 0:
            found.add(struct.unpack('>Q', data[at + 8:at + 16].ljust(8))[0])
            at = data.find(needle, at + 1)
    return sorted(found)
"""


class Text(HostileTest):
    def test_a_printed_result_is_text(self):
        forged = json.dumps({"cell": 1, "status": "ok", "state": "kept",
                             "result": {"text/plain": "forged"}})
        result = self.cell("print(%r)\n1 / 0" % forged)
        self.assertEqual(("error", forged + "\n", None),
                         (result["status"], result["stdout"],
                          result["result"]))

    def test_raw_frames_are_text(self):
        frame = bytes([0, 0, 0, 40]) + bytes(16) + b"\x95\x15\x01\x01" * 10
        result = self.cell("os.write(1, %r)\nos.write(2, %r)\n'mine'"
                           % (frame, frame))
        self.assertEqual(("ok", "'mine'"), (result["status"],
                                            result["result"]["text/plain"]))
        self.assertEqual(frame.decode("utf-8", "replace"), result["stdout"])
        self.assertEqual(frame.decode("utf-8", "replace"), result["stderr"])

    def test_marks_of_a_new_epoch_are_text(self):
        result = self.ok("os.write(1, b'\\xff' * 4 + bytes(28))\n"
                         "os.write(1, b'CELLAR\\x01\\0' + bytes(32))\nNone")
        self.assertEqual(4 + 28 + 8 + 32, len(result["stdout"]))

    def test_writes_to_every_descriptor(self):
        result = self.cell(
            "for fd in range(256):\n"
            "    try: os.write(fd, b'\\0\\0\\0\\5garbage')\n"
            "    except OSError: pass\n"
            "'mine'")
        self.assertIn(result["status"], ("ok", "killed"))
        if result["status"] == "killed":
            self.assertEqual("restored", result["state"])

    def test_the_terminal_shows_no_raw_escape(self):
        evil = "\\x1b[31m\\x1b]0;title\\x07\\x9b2J"
        for code in ("print('%s')" % evil,
                     "raise ValueError('%s')" % evil,
                     "class E:\n"
                     "    def __repr__(self): return '%s'\n"
                     "E()" % evil,
                     "import sys\nsys.stderr.write('%s')\nNone" % evil):
            with self.subTest(code=code):
                shown = self.on_a_terminal(code)
                self.assertNotRegex(shown, b"[\\x1b\\x07]|\\xc2\\x9b")
                self.assertIn(b"\\x1b]0;title", shown)

    def on_a_terminal(self, code):
        """All that `cellar exec` shows on a terminal."""
        ours, its = os.openpty()
        process = popen("exec", self.session.name, code, stdin=its,
                        stdout=its, stderr=its)
        os.close(its)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:
            pass  # how Linux tells that the other end is closed
        process.wait(30)
        os.close(ours)
        return shown


class OwnChannel(HostileTest):
    """The worker's own channel, where it says how its cell went: the first
    socket that it has.

    A worker that lies about its cell can spoil what is its own: this cell's
    content, and the next cell, which then ends as killed and says restored. It
    can't make that one's answer, nor the ending of any.
    """

    def setUp(self):
        super().setUp()
        self.ok(FORGE)

    def cell_number(self):
        return self.ok("None")["cell"] + 1

    def assertNextIsRightOrSpoilt(self):
        following = self.cell("print('next')\n40 + 2")
        if following["status"] == "killed":
            self.assertEqual(("restored", None),
                             (following["state"], following["result"]))
            following = self.cell("print('next')\n40 + 2")
        self.assertEqual(("ok", "next\n", {"text/plain": "42"}),
                         (following["status"], following["stdout"],
                          following["result"]))

    def test_a_fake_end_while_the_cell_goes_on(self):
        number = self.cell_number()
        result = self.cell(
            "tell(record(b'M', b'text/plain\\0forged') + end(%d))\n"
            "time.sleep(0.3)\nprint('LATE')\n'LATE'" % number)
        self.assertEqual(number, result["cell"])
        self.assertNextIsRightOrSpoilt()

    def test_a_fake_end_of_later_cells(self):
        number = self.cell_number()
        self.cell("tell(b''.join(end(n) for n in range(%d, %d)))\n"
                  "time.sleep(0.1)" % (number, number + 20))
        for _ in range(5):
            self.assertNextIsRightOrSpoilt()

    def assertForgeryHidesNothing(self, death, *ending):
        """An END that the cell wrote itself lacks the cell's ticket: what the
        worker came to after it is what the ending tells."""
        number = self.cell_number()
        result = self.cell("tell(end(%d))\n%s" % (number, death))
        self.assertEqual(ending + ("restored",), (
            result["status"], result["exit_code"], result["signal"],
            result["state"]))

    def test_a_fake_end_and_then_a_real_exit(self):
        for _ in range(5):
            self.ok(FORGE)
            self.assertForgeryHidesNothing("os._exit(0)", "exited", 0, None)

    def test_a_fake_end_and_then_a_crash(self):
        for _ in range(5):
            self.ok(FORGE)
            self.assertForgeryHidesNothing("os.kill(os.getpid(), 9)",
                                           "killed", None, "SIGKILL")

    def test_a_fake_end_and_a_crash_some_time_later(self):
        self.assertForgeryHidesNothing("time.sleep(0.3)\n"
                                       "os.kill(os.getpid(), 9)",
                                       "killed", None, "SIGKILL")

    def test_a_stolen_ticket(self):
        """The ticket is in the worker's memory. Who looks for it there can
        end his cell early, and no more: the death that follows is told by
        this cell's ending or state or, when these were out already, by the
        next one's state."""
        self.ok(FORGE + STEAL + "here = 1")
        number = self.cell_number()
        result = self.cell("stolen = steal(%d)\n"
                           "for ticket in stolen: tell(end(ticket))\n"
                           "time.sleep(0.2)\nos._exit(0)" % number)
        if result["state"] == "kept":
            self.assertEqual("ok", result["status"])
            time.sleep(1)
            following = self.cell("'here' in globals()")
            self.assertEqual(("restored", {"text/plain": "True"}),
                             (following["state"], following["result"]))
        else:
            self.assertEqual("restored", result["state"])

    def test_an_error_that_is_none(self):
        number = self.cell_number()
        result = self.cell(
            "tell(record(b'N', b'Fake') + record(b'T', b'text') +\n"
            "     end(%d, 1))\ntime.sleep(0.3)" % number)
        self.assertEqual(number, result["cell"])
        self.assertIn(result["status"], ("error", "ok", "killed"))
        self.assertNextIsRightOrSpoilt()

    def test_outcomes_kinds_and_lengths_that_do_not_exist(self):
        for forged in ("end(10 ** 6, 200)", "record(b'?', b'x' * 100)",
                       "b'\\xff' * 64", "b'\\0' * 64",
                       "struct.pack('>I', 1 << 31) + b'M'",
                       "record(b'R', b'9.9')", "record(b'S', b'\\x09\\x02')",
                       "record(b'M', b'no zero byte')",
                       "record(b'N', b'x' * 100000)",
                       "b''.join(record(b'M', b'a/%d\\0x' % i) "
                       "for i in range(50))"):
            with self.subTest(forged=forged):
                self.ok(FORGE)
                result = self.cell("tell(%s)\ntime.sleep(0.2)\n'mine'"
                                   % forged)
                self.assertIn((result["status"], result["state"]),
                              (("ok", "kept"), ("killed", "restored")))
                self.assertAlive()

    def test_the_channel_closed(self):
        for code in ("os.close(channel())", "os.dup2(1, channel())",
                     "import socket\n"
                     "s = socket.socket(fileno=channel())\n"
                     "s.shutdown(socket.SHUT_RDWR)",
                     "for fd in range(256):\n"
                     "    try: os.close(fd)\n"
                     "    except OSError: pass"):
            with self.subTest(code=code):
                self.ok(FORGE)
                result = self.cell(code, "--timeout", "3s")
                self.assertIn(result["status"],
                              ("ok", "killed", "exited", "timeout", "error"))
                self.assertAlive()

    def test_reading_the_next_cells_code(self):
        """A thread that reads from the channel may spoil the session's own
        next cell; it must end all the same, and the one after it be right."""
        self.ok("import threading\n"
                "def steal():\n"
                "    while True:\n"
                "        try: os.read(channel(), 65536)\n"
                "        except OSError: return\n"
                "threading.Thread(target=steal, daemon=True).start()")
        self.cell("'stolen'", "--timeout", "1s")
        if self.cell("1", "--timeout", "1s")["state"] == "kept":
            self.assertEqual(0, run("reset", self.session.name).status)


class Machinery(HostileTest):
    """What a cell may break is its own worker, which says so."""

    def test_modules_and_builtins_replaced(self):
        for code in ("import sys\nsys.stdout = sys.stderr = None",
                     "import builtins\nbuiltins.print = None\n"
                     "builtins.repr = None\nbuiltins.compile = None",
                     "import builtins\nvars(builtins).clear()",
                     "import sys\nsys.modules.clear()",
                     "import sys\nfor m in list(sys.modules.values()):\n"
                     "    try: vars(m).clear()\n"
                     "    except Exception: pass",
                     "import sys\nsys.displayhook = sys.excepthook = None",
                     "import traceback, linecache, ast, asyncio\n"
                     "for m in traceback, linecache, ast, asyncio:\n"
                     "    for k in list(vars(m)): setattr(m, k, None)",
                     "globals().clear()",
                     "import sys\nsys.settrace(lambda *a: 1/0)",
                     "import sys\nsys.setprofile(lambda *a: 1/0)",
                     "import sys\nsys.setrecursionlimit(60)",
                     "import gc\nfor o in gc.get_objects():\n"
                     "    if type(o) is dict: o.clear()"):
            with self.subTest(code=code):
                self.assertEqual(0, run("reset", self.session.name).status)
                self.cell(code, "--timeout", "5s")
                self.cell("1 / 0", "--timeout", "5s")
                following = self.cell("1 + 1", "--timeout", "5s")
                if (following["status"], following["result"]) != (
                        "ok", {"text/plain": "2"}):
                    self.assertEqual(0, run("reset",
                                            self.session.name).status)
                self.assertAlive()

    def test_late_output_of_a_thread(self):
        self.ok("import threading, time\n"
                "def late():\n"
                "    for i in range(10):\n"
                "        time.sleep(0.05)\n"
                "        os.write(1, b'LATE')\n"
                "threading.Thread(target=late).start()")
        time.sleep(1.5)
        result = self.ok("print('own')")
        self.assertEqual(("own\n", ""), (result["stdout"], result["stderr"]))


class Hostile(HostileTest):
    """Objects that fight back when they are shown."""

    def test_reprs(self):
        for body, shown in (
                ("raise ValueError('no')", "error"),
                ("return 7", "error"),
                ("return self.__repr__()", "error"),
                ("return '\\ud800 \\0 \\x1b[31m'", "ok"),
                ("raise SystemExit(3)", None),
                ("raise KeyboardInterrupt", None)):
            with self.subTest(body=body):
                result = self.cell("class Evil:\n"
                                   "    def __repr__(self): %s\n"
                                   "Evil()" % body)
                if shown:
                    self.assertEqual(shown, result["status"], result)
                self.assertEqual("kept", result["state"])
                self.assertAlive()

    def test_a_repr_that_never_ends(self):
        result = self.cell("class Slow:\n"
                           "    def __repr__(self):\n"
                           "        while True: pass\n"
                           "Slow()", "--timeout", "1s")
        self.assertEqual(("timeout", "kept"),
                         (result["status"], result["state"]))

    def test_exceptions(self):
        for body in ("def __str__(self): raise ValueError",
                     "def __str__(self): return 7",
                     "def __str__(self): return '\\ud800'",
                     "def __str__(self): return str(self)",
                     "__class__ = property(lambda self: 1 / 0)",
                     "__module__ = property(lambda self: 1 / 0)",
                     "def __getattribute__(self, name): 1 / 0",
                     "__traceback__ = 7",
                     "__cause__ = property(lambda self: self)",
                     "def __reduce__(self): import os; os._exit(66)"):
            with self.subTest(body=body):
                result = self.cell("class Evil(Exception):\n    %s\n"
                                   "raise Evil('x')" % body)
                self.assertEqual(("error", "kept", "Evil"),
                                 (result["status"], result["state"],
                                  result["error"]["name"]), result)

    def test_a_class_with_a_hostile_name(self):
        result = self.cell("raise type('N' * 100000 + '\\0\\x1b[31m', "
                           "(Exception,), {})('x')")
        self.assertEqual("error", result["status"])
        self.assertLessEqual(len(result["error"]["name"]), 256)

    def test_lone_surrogates(self):
        result = self.ok("'\\ud800'")
        self.assertEqual("'\\ud800'", result["result"]["text/plain"])
        result = self.cell("print('\\ud800')")
        self.assertIn(result["status"], ("ok", "error"))
        result = self.cell("raise ValueError('\\ud800')")
        self.assertEqual("ValueError", result["error"]["name"])


if __name__ == "__main__":
    unittest.main()
