"""Frozen copies are there when they are needed: whatever a cell wastes, fills
or uses up."""

import unittest

from copies import CopiesTest
from agent import ERROR, EXITED, KILLED, OK, OUT_OF_MEMORY, TIMEOUT
from restoring import FATAL, FRESH, KEPT, MANUAL, RESTORED, Fatal


class Rubbish(CopiesTest):
    """Whatever is done to descriptors costs the state at most, and what a cell
    came to is told."""

    EACH = ("for fd in range(3, 1024):\n"
            "    try: %s\n"
            "    except (OSError, ValueError): pass\n")
    SEND = ("socket.socket(fileno=os.dup(fd)).sendmsg([b'%s'],\n"
            "        [(socket.SOL_SOCKET, socket.SCM_RIGHTS,\n"
            "          struct.pack('4i', 0, 1, 2, fd))], 0x40)")
    WAYS = {
        "noise": EACH % "os.write(fd, os.urandom(64))",
        "noise, with descriptors": EACH % (SEND % "noise"),
        "a record, with descriptors": EACH % (SEND % "\\0\\0\\0\\0Z"),
        "empty, with descriptors": EACH % (SEND % ""),
        "full": EACH % ("\n        os.set_blocking(fd, False)\n"
                        "        while True: os.write(fd, bytes(1 << 12))"),
        "read by others": EACH % "os.set_blocking(fd, False); os.read(fd, 99)",
        "shut": EACH % "socket.socket(fileno=os.dup(fd)).shutdown(2)",
        "closed": "os.closerange(0, 1024)",
        "replaced": "n = os.open('/dev/null', 2)\n" + EACH % "os.dup2(n, fd)",
        "all in use": "hoard = []\n"
                      "try:\n"
                      "    while True: hoard.append(os.dup(0))\n"
                      "except OSError: pass",
    }
    # A child by the C library's fork() has lost the worker's channel.
    CHILD = "if libc.syscall(57) == 0:\n    while True:\n        %s\n"

    def assertBearable(self, agent, code):
        for cell in code, *["1"] * 3:
            done = agent.run(cell, timeout_ms=700)
            self.assertIn(done.status, (OK, ERROR, TIMEOUT, KILLED, EXITED))
            self.assertIn(done.state, (KEPT, RESTORED))
        self.must(agent, "restore", "named")
        self.assertValue(agent, "x", "'named'")

    def test_by_a_cell(self):
        agent = self.attacked()
        for name, code in self.WAYS.items():
            with self.subTest(way=name):
                self.assertBearable(agent, code)
        self.assertWhole(agent)

    def test_by_a_child_that_goes_on(self):
        agent = self.attacked()
        for name, code in self.WAYS.items():
            with self.subTest(way=name):
                self.assertBearable(agent, self.CHILD % code.replace(
                    "\n", "\n        "))
        self.assertWhole(agent)

    def test_by_a_child_that_takes_what_the_worker_is_sent(self):
        """The socket of the next copy is among it: with that the child can be
        what is kept, and does not wake."""
        agent = self.attacked()
        good = agent.cells
        done = agent.run(
            "import stat as modes\n"
            "if libc.syscall(57) == 0:\n"
            "    fd = next(fd for fd in range(3, 64)\n"
            "              if modes.S_ISSOCK(os.fstat(fd).st_mode))\n"
            "    s = socket.socket(fileno=fd)\n"
            "    while True:\n"
            "        for taken in socket.recv_fds(s, 1 << 16, 4)[1]:\n"
            "            os.write(taken, b'\\0\\0\\0\\0Z')\n"
            "time.sleep(0.1)")
        self.assertIn(done.status, (OK, KILLED))
        done = agent.run("1", timeout_ms=700)
        self.assertIn(done.ending, ((OK, KEPT), (TIMEOUT, RESTORED),
                                    (OK, RESTORED)))
        self.assertIn(done.restored_from, (0, good, good + 1))
        self.must(agent, "restore", "named")
        self.assertWhole(agent)


class OwnLimits(CopiesTest):
    """A worker that may do less than it could is copied or isn't; older copies
    stay what they are."""

    # RLIMIT_CPU, FSIZE, DATA, STACK, RSS, NPROC, NOFILE, AS
    NUMBERS = 0, 1, 2, 3, 5, 6, 7, 9

    def test_lowered_to_nothing(self):
        agent = self.attacked()
        for number in self.NUMBERS:
            with self.subTest(limit=number):
                self.ok(agent, "x = 'good'\nimport resource")
                done = agent.run("resource.setrlimit(%d, (0, 0))" % number,
                                 timeout_ms=2000)
                self.assertIn(done.status, (OK, KILLED, ERROR))
                done = agent.run("os._exit(3)", timeout_ms=2000)
                self.assertIn(done.status, (EXITED, KILLED, TIMEOUT, ERROR))
                self.assertIn(done.state, (KEPT, RESTORED))
                self.must(agent, "restore", "named")
                self.assertValue(agent, "x", "'named'")
        self.assertWhole(agent)


class Crowds(CopiesTest):
    """Whoever stops, fills or occupies all that can be: the copies wake."""

    def test_a_fork_bomb(self):
        agent = self.attacked()
        done = self.lose(agent, Fatal(
            "import os, signal\n"
            "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "while True:\n"
            "    try: os.fork()\n"
            "    except OSError: pass", TIMEOUT, timeout=700))
        self.assertEqual((TIMEOUT, RESTORED, 3),
                         (*done.ending, done.restored_from))
        self.assertWhole(agent)

    def test_everything_stopped(self):
        agent = self.attacked()
        for code in ("os.kill(0, signal.SIGSTOP)",
                     "for pid in processes(): attempt(os.kill, pid, 19)\n"
                     "os.kill(os.getpid(), signal.SIGSTOP)"):
            with self.subTest(code=code):
                good = agent.cells
                done = agent.run(code, timeout_ms=300)
                self.assertEqual((TIMEOUT, RESTORED, good),
                                 (*done.ending, done.restored_from))
                self.ok(agent, "x = 'last'")
        self.assertWhole(agent)

    def test_no_process_left_for_a_copy(self):
        agent = self.attacked()
        self.ok(agent, "import subprocess\n"
                       "crowd = []\n"
                       "try:\n"
                       "    while True:\n"
                       "        crowd += [subprocess.Popen(['sleep', '99'])]\n"
                       "except OSError: pass")
        self.assertRefused(agent, "checkpoint", "more", "fork: ")
        done = self.lose(agent, FATAL["exit"])
        self.assertEqual((RESTORED, 3), (done.state, done.restored_from))
        self.assertWhole(agent)

    def test_pipes_hoarded_by_tiny_processes(self):
        agent = self.attacked()
        for _ in range(3):
            done = agent.run(
                "for i in range(64):\n"
                "    if os.fork() == 0:\n"
                "        hoard = []\n"
                "        try:\n"
                "            while True:\n"
                "                hoard.append(os.pipe())\n"
                "                os.set_blocking(hoard[-1][1], False)\n"
                "                os.write(hoard[-1][1], bytes(1 << 16))\n"
                "        except OSError: pass\n"
                "        while True: hoard.append(bytearray(1 << 16))\n"
                "while True: time.sleep(0.01)", timeout_ms=2000)
            self.assertIn(done.status, (TIMEOUT, KILLED, OUT_OF_MEMORY, ERROR))
            self.assertIn("named", self.names(agent))
            self.must(agent, "restore", "named")
            self.assertValue(agent, "x", "'named'")
        self.assertWhole(agent)


class Memory(CopiesTest):
    """The worker goes first, then its children, then copies; never the
    agent."""

    GROW = "hoard = []\nwhile True: hoard.append(bytearray(1 << 20))"
    CHILDREN = ("for i in range(40):\n"
                "    if os.fork() == 0:\n"
                "        hoard = []\n"
                "        while True: hoard.append(bytearray(1 << 18))\n"
                + GROW)

    def survive(self, code, rounds):
        agent = self.attacked()
        ends = []
        for _ in range(rounds):
            good = self.ok(agent, "x = 'good'").cell
            done = agent.run(code)
            self.assertEqual(OUT_OF_MEMORY, done.status)
            self.assertEqual(RESTORED, done.state)
            ends.append("last" if done.restored_from == good else "named")
            if done.restored_from != good:
                self.assertIn("short of memory", done.why)
                self.assertEqual(1, done.restored_from)
            self.assertIn("named", self.names(agent))
            self.assertValue(agent, "x", "'good'" if done.restored_from == good
                             else "'named'")
        print("  %d times out of memory; woken: the last %d, the named %d" % (
            rounds, ends.count("last"), ends.count("named")))
        self.must(agent, "restore", "named")
        self.assertValue(agent, "x", "'named'")
        return ends

    def test_a_cell_that_grows_for_ever(self):
        self.assertEqual(["last"] * 20, self.survive(self.GROW, 20))

    def test_forty_children_that_grow_for_ever(self):
        self.survive(self.CHILDREN, 6)

    def test_a_full_tmpfs(self):
        """It is memory of the session's that no process has."""
        agent = self.attacked(memory="128m")
        for _ in range(3):
            done = agent.run(
                "for folder in '/tmp', '/dev/shm':\n"
                "    try:\n"
                "        with open(folder + '/full', 'wb') as f:\n"
                "            while True: f.write(bytes(1 << 20))\n"
                "    except OSError: pass\n" + self.GROW)
            self.assertEqual((OUT_OF_MEMORY, RESTORED), done.ending)
            self.must(agent, "restore", "named")
            self.assertValue(agent, "x", "'named'")
        self.assertWhole(agent)

    def test_the_automatic_copy_is_given_up_before_a_cell_is_refused(self):
        """A state of 100 MiB, all of it written anew, and 60 MiB more, do not
        fit beside the copy of what it was; they fit without."""
        agent = self.live()
        self.ok(agent, "state = bytearray(b'1') * (100 << 20)")
        for i in range(3):
            done = self.ok(
                agent, "for at in range(0, len(state), 4096): state[at] = %d\n"
                       "more = bytearray(b'2') * (60 << 20)\n"
                       "del more" % i)
            self.assertEqual("", done.why)
            self.assertValue(agent, "len(state), state[4096]",
                             "(104857600, %d)" % i)
        self.assertRestored(agent, FATAL["exit"], agent.cells)
        self.assertValue(agent, "len(state), state[4096]", "(104857600, 2)")

    def test_a_crash_after_it_was_given_up_is_told(self):
        agent = self.live()
        self.ok(agent, "state = bytearray(b'1') * (100 << 20)")
        self.ok(agent, "x = 1")
        done = agent.run(
            "for at in range(0, len(state), 4096): state[at] = 3\n"
            "more = bytearray(b'2') * (60 << 20)\n"
            "import os, time\ntime.sleep(0.1)\nos.abort()")
        self.assertEqual((KILLED, FRESH), done.ending)
        self.assertIn("short of memory", done.why)
        self.assertValue(agent, "'state' in globals()", "False")

    def test_a_named_one_is_never_given_up(self):
        agent = self.live(policy=MANUAL)
        self.ok(agent, "state = bytearray(b'1') * (100 << 20)")
        self.must(agent, "checkpoint", "named")
        done = agent.run(
            "for at in range(0, len(state), 4096): state[at] = 3\n"
            "more = bytearray(b'2') * (60 << 20)")
        self.assertEqual((OUT_OF_MEMORY, RESTORED, 1),
                         (*done.ending, done.restored_from))
        self.assertValue(agent, "len(state), state[4096]",
                         "(104857600, %d)" % ord("1"))


if __name__ == "__main__":
    unittest.main()
