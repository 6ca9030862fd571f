"""The worker dies, and the newest checkpoint takes its place: what the cell's
DONE says, and which globals the next cell finds."""

import time
import unittest

from agent import ERROR, EXITED, INTERRUPTED, KILLED, OK, TIMEOUT
from restoring import (AUTO, FATAL, FRESH, KEPT, MANUAL, NOT_TAKEN, OFF,
                       RESTORED, TAKEN, UNKNOWN, RestoreTest)


class Crash(RestoreTest):
    def test_each_way_goes_back_to_the_last_good_cell(self):
        agent = self.live()
        self.ok(agent, "x = 0")
        for name, fatal in FATAL.items():
            with self.subTest(way=name):
                good = self.ok(agent, "x += 1").cell
                done = self.assertRestored(
                    agent, fatal, good,
                    before="print('part', flush=True)\nx = 'lost'\ny = 1\n")
                text = b"".join(data for _, data in done.output)
                self.assertEqual(b"part\n", text[:5])
                self.assertEqual({}, done.result)
                self.assertEqual(UNKNOWN, done.taken)
                self.assertEqual(agent.cells, done.cell)
                after = self.ok(agent, "x, 'y' in globals()")
                self.assertEqual(TAKEN, after.taken)
                self.assertEqual("(%d, False)" % (list(FATAL).index(name) + 1),
                                 after.result[b"text/plain"].decode())

    def test_many_in_a_row_go_back_to_the_same_cell(self):
        agent = self.live()
        good = self.ok(agent, "kept = ['whole']").cell
        ways = [FATAL[name] for name in ("abort", "exit", "a fault", "a kill")]
        for i in range(12):
            self.assertRestored(agent, ways[i % len(ways)], good,
                                before="kept.append(%d)\n" % i)
        self.assertValue(agent, "kept", "['whole']")

    def test_cells_between_crashes_are_kept(self):
        agent = self.live()
        self.ok(agent, "kept = []")
        for i in range(8):
            good = self.ok(agent, "kept.append(%d)" % i).cell
            self.assertRestored(agent, FATAL["exit"], good,
                                before="kept.clear()\n")
        self.assertValue(agent, "kept", repr(list(range(8))))

    def test_nothing_to_go_back_to_is_fresh(self):
        agent = self.live()
        self.assertLost(agent, FATAL["abort"], FRESH, before="x = 1\n")
        self.assertValue(agent, "'x' in globals()", "False")

    def test_a_cell_that_raised_counts_as_good(self):
        agent = self.live()
        self.ok(agent, "x = 1")
        raised = agent.run("x = 2\nraise ValueError")
        self.assertEqual(((ERROR, KEPT), TAKEN), (raised.ending, raised.taken))
        self.assertRestored(agent, FATAL["exit"], raised.cell)
        self.assertValue(agent, "x", "2")

    def test_code_that_is_no_python_counts_as_good(self):
        agent = self.live()
        self.ok(agent, "x = 1")
        self.assertEqual((ERROR, KEPT), agent.run("x = = 2").ending)
        self.assertRestored(agent, FATAL["exit"], agent.cells)
        self.assertValue(agent, "x", "1")

    def test_a_cell_that_exited_counts_as_good(self):
        agent = self.live()
        self.ok(agent, "import sys")
        done = agent.run("x = 3\nsys.exit(4)")
        self.assertEqual((EXITED, KEPT, 4), (*done.ending, done.code))
        self.assertRestored(agent, FATAL["abort"], done.cell)
        self.assertValue(agent, "x", "3")

    def test_a_cell_that_was_stopped_in_good_order_counts_as_good(self):
        agent = self.live()
        self.ok(agent, "import time")
        agent.start("x = 1\nprint('begun', flush=True)\ntime.sleep(99)")
        agent.wait("output")
        agent.say("interrupt %d" % agent.cells)
        self.assertEqual((INTERRUPTED, KEPT), agent.done().ending)
        self.assertRestored(agent, FATAL["exit"], agent.cells)
        done = agent.run("x += 1\ntime.sleep(99)", timeout_ms=200)
        self.assertEqual((TIMEOUT, KEPT), done.ending)
        self.assertRestored(agent, FATAL["exit"], done.cell)
        self.assertValue(agent, "x", "2")

    def test_garbage_in_the_control_socket(self):
        """Which descriptor that is a cell can find out."""
        agent = self.live()
        good = self.ok(agent, "import os, stat, time\nx = 1").cell
        for _ in range(2):
            done = agent.run(
                "x = 2\n"
                "for fd in range(3, 64):\n"
                "    try:\n"
                "        if stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
                "            os.write(fd, b'garbage' * 10)\n"
                "    except OSError: pass\n"
                "time.sleep(99)")
            self.assertEqual((KILLED, RESTORED, good),
                             (*done.ending, done.restored_from))
        self.assertValue(agent, "x", "1")

    def test_output_of_what_was_left_is_in_no_later_cell(self):
        agent = self.live()
        self.ok(agent, "import os, subprocess\nx = 1")
        self.ok(agent, "p = subprocess.Popen(['yes', 'LATE'])")
        self.assertRestored(agent, FATAL["exit"], 2)
        for i in range(5):
            done = self.ok(agent, "print(%d)" % i)
            self.assertEqual([(1, b"%d\n" % i)], done.output)


class Idle(RestoreTest):
    """A worker that dies between two cells: the next one's DONE tells."""

    TIMER = ("import signal\n"
             "_ = signal.setitimer(signal.ITIMER_REAL, 0.15)")

    def test_of_its_own_signal(self):
        agent = self.live()
        self.ok(agent, "x = 5")
        self.ok(agent, self.TIMER)
        agent.wait("ready")
        done = self.ok(agent, "x", RESTORED)
        self.assertEqual((2, {b"text/plain": b"5"}),
                         (done.restored_from, done.result))
        done = self.ok(agent, "x")
        self.assertEqual(0, done.restored_from)

    def test_by_a_child(self):
        agent = self.live()
        self.ok(agent, "import os, time\nx = 6")
        self.ok(agent, "if os.fork() == 0:\n"
                       "    time.sleep(0.15)\n"
                       "    os.kill(os.getppid(), 9)\n"
                       "    os._exit(0)")
        agent.wait("ready")
        done = self.ok(agent, "x", RESTORED)
        self.assertEqual((2, {b"text/plain": b"6"}),
                         (done.restored_from, done.result))

    def test_and_then_the_next_cell_dies_too(self):
        """One DONE tells of both."""
        agent = self.live()
        self.ok(agent, "x = 7")
        self.ok(agent, self.TIMER)
        agent.wait("ready")
        self.assertRestored(agent, FATAL["exit"], 2)
        self.assertEqual(KEPT, self.ok(agent, "x").state)

    def test_many_times(self):
        agent = self.live()
        self.ok(agent, "x = 0")
        for i in range(5):
            self.ok(agent, "x += 1\n" + self.TIMER,
                    RESTORED if i else KEPT)
            agent.wait("ready")
        done = self.ok(agent, "x", RESTORED)
        self.assertEqual((agent.cells - 1, {b"text/plain": b"5"}),
                         (done.restored_from, done.result))

    def test_while_a_restore_is_asked_for(self):
        """Whether the worker is there, dies or is being replaced: the named
        one takes its place."""
        agent = self.live()
        self.ok(agent, "x = 'named'")
        self.must(agent, "checkpoint", "named")
        for i in range(40):
            self.ok(agent, "import signal\nx = 'lost'\n"
                           "_ = signal.setitimer(signal.ITIMER_REAL, 0.02)")
            time.sleep(0.0185 + i * 0.0001)
            self.must(agent, "restore", "named")
            self.assertValue(agent, "x", "'named'")


class Policy(RestoreTest):
    def test_off_takes_none_and_gives_none(self):
        agent = self.live(policy=OFF)
        self.assertEqual(UNKNOWN, self.ok(agent, "x = 1").taken)
        self.assertEqual([], self.copies(agent))
        for what in "checkpoint", "restore":
            self.assertRefused(agent, what, "a", "off in this session")
        self.assertLost(agent, FATAL["abort"], FRESH)
        self.assertValue(agent, "'x' in globals()", "False")

    def test_manual_takes_those_that_are_asked_for(self):
        agent = self.live(policy=MANUAL)
        self.assertEqual(UNKNOWN, self.ok(agent, "x = 1").taken)
        self.assertEqual([], self.copies(agent))
        self.assertEqual(1, self.must(agent, "checkpoint", "one").after)
        self.ok(agent, "x = 2")
        self.must(agent, "checkpoint", "two")
        self.ok(agent, "x = 3")
        for _ in range(3):
            self.assertRestored(agent, FATAL["exit"], 2)
        self.assertValue(agent, "x", "2")
        self.assertEqual(["one", "two"], sorted(self.names(agent)))
        self.must(agent, "drop", "two")
        self.assertRestored(agent, FATAL["exit"], 1)
        self.assertValue(agent, "x", "1")

    def test_manual_without_any_is_fresh(self):
        agent = self.live(policy=MANUAL)
        self.ok(agent, "x = 1")
        self.assertLost(agent, FATAL["abort"], FRESH)
        self.assertValue(agent, "'x' in globals()", "False")

    def test_a_reset_forgets_all(self):
        agent = self.live()
        self.ok(agent, "x = 1")
        self.must(agent, "checkpoint", "one")
        self.ok(agent, "x = 2")
        agent.say("reset")
        agent.wait("ready")
        self.assertEqual([], self.copies(agent))
        self.assertRefused(agent, "restore", "one", "no checkpoint of this name")
        self.assertLost(agent, FATAL["abort"], FRESH)
        self.assertValue(agent, "'x' in globals()", "False")


class Unfit(RestoreTest):
    """States that can't be copied: the cell says why, the older ones stay."""

    def test_threads(self):
        agent = self.live()
        self.assertEqual(TAKEN, self.ok(agent, "x = 1").taken)
        done = self.ok(agent, "import threading\n"
                              "stop = threading.Event()\n"
                              "t = threading.Thread(target=stop.wait)\n"
                              "t.start()\n"
                              "x = 2")
        self.assertEqual((NOT_TAKEN, "1 of its threads would be missing"),
                         (done.taken, done.why))
        self.assertRefused(agent, "checkpoint", "a",
                           "1 of its threads would be missing")
        self.assertRestored(agent, FATAL["exit"], 1)
        self.assertValue(agent, "x", "1")

    def test_threads_that_were_told_to_end_are_waited_for(self):
        agent = self.live()
        done = self.ok(agent, "import threading, time\n"
                              "stop = threading.Event()\n"
                              "def end_late():\n"
                              "    stop.wait()\n"
                              "    time.sleep(0.005)\n"
                              "t = threading.Thread(target=end_late)\n"
                              "t.start()\n"
                              "stop.set()\n"
                              "x = 1")
        self.assertEqual((TAKEN, ""), (done.taken, done.why))
        self.assertRestored(agent, FATAL["exit"], done.cell)
        self.assertValue(agent, "x", "1")

    def test_taken_again_when_the_threads_are_gone(self):
        agent = self.live()
        self.ok(agent, "import threading\n"
                       "stop = threading.Event()\n"
                       "t = threading.Thread(target=stop.wait)\n"
                       "t.start()")
        done = self.ok(agent, "stop.set(); t.join(); x = 3")
        self.assertEqual((TAKEN, ""), (done.taken, done.why))
        self.assertRestored(agent, FATAL["exit"], done.cell)
        self.assertValue(agent, "x", "3")


class Sleepers(RestoreTest):
    """Copies that never were, or don't wake: an older one takes the place, or
    a fresh worker, and it is told."""

    # The session's own loop is made anew in a copy that wakes: a cell comes to
    # do something just then.
    HOOK = ("import asyncio, os, time\nawait asyncio.sleep(0)\n"
            "asyncio.get_running_loop()._make_self_pipe = lambda: ")
    # What the C library does in a forked child: before that is a copy.
    AT_FORK = ("import ctypes\nlibc = ctypes.CDLL(None)\n"
               "_ = libc.__register_atfork(None, None, ctypes.cast(\n"
               "    libc.%s, ctypes.c_void_p), None)")

    def test_the_next_older_one_wakes(self):
        for hook in ("os._exit(3)", "os.abort()", "os.kill(os.getpid(), 9)",
                     "os.execv('/bin/true', ['true'])",
                     "os.closerange(3, 256)", "time.sleep(99)"):
            with self.subTest(hook=hook):
                agent = self.live()
                good = self.ok(agent, "x = 1").cell
                self.ok(agent, self.HOOK + hook)
                self.assertRestored(agent, FATAL["abort"], good,
                                    before="x = 2\n")
                self.assertValue(agent, "x", "1")
                self.assertRestored(agent, FATAL["exit"], agent.cells)

    def test_memory_that_a_copy_does_not_have(self):
        """A page of the interpreter's, marked as none for children."""
        agent = self.live()
        good = self.ok(agent, "x = 1").cell
        self.ok(agent, "import ctypes\n"
                       "page = id(None) & ~4095\n"
                       "assert ctypes.CDLL(None).madvise(\n"
                       "    ctypes.c_void_p(page), 4096, 10) == 0")
        self.assertRestored(agent, FATAL["exit"], good)
        self.assertValue(agent, "x", "1")

    def test_fresh_when_none_wakes(self):
        agent = self.live()
        self.ok(agent, self.HOOK + "os._exit(3)")
        self.ok(agent, "x = 1")
        self.ok(agent, "x = 2")
        self.assertLost(agent, FATAL["abort"], FRESH)
        self.assertValue(agent, "'x' in globals()", "False")
        self.assertRestored(agent, FATAL["abort"], agent.cells)

    def test_a_named_one_that_does_not_wake_costs_itself(self):
        agent = self.live()
        self.ok(agent, self.HOOK + "os._exit(3)\nx = 1")
        self.must(agent, "checkpoint", "bad")
        self.ok(agent, "del asyncio.get_event_loop()._make_self_pipe\nx = 2")
        self.assertRefused(agent, "restore", "bad", "did not wake")
        done = self.ok(agent, "x", RESTORED)
        self.assertEqual((2, {b"text/plain": b"2"}),
                         (done.restored_from, done.result))
        self.assertRefused(agent, "restore", "bad", "no checkpoint")

    def test_copies_that_die_in_the_making(self):
        agent = self.live()
        good = self.ok(agent, "x = 1").cell
        self.ok(agent, self.AT_FORK % "_exit")
        self.assertEqual((False, "the worker did not make a copy of itself"),
                         self.reply(agent)[1::2])
        self.assertRefused(agent, "checkpoint", "a", "did not make a copy")
        self.assertRestored(agent, FATAL["exit"], good)
        self.assertValue(agent, "x", "1")

    def test_copies_that_hang_in_the_making(self):
        agent = self.live()
        good = self.ok(agent, "x = 1").cell
        self.ok(agent, self.AT_FORK % "pause")
        for i in range(3):
            self.ok(agent, "x = %d" % i)
        self.assertRestored(agent, FATAL["exit"], good)
        self.assertValue(agent, "x", "1")
        self.must(agent, "checkpoint", "a")


if __name__ == "__main__":
    unittest.main()
