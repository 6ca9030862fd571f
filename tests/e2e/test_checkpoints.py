"""Named checkpoints, as a host asks for them: taken, restored, replaced,
dropped and listed; and what comes in between."""

import unittest

from agent import OK
from restoring import (FATAL, FRESH, KEPT, MANUAL, RESTORED, Kept,
                       RestoreTest)


class Named(RestoreTest):
    def test_taken_and_restored_many_times(self):
        agent = self.live()
        self.ok(agent, "x = [1]")
        self.assertEqual(1, self.must(agent, "checkpoint", "a").after)
        for i in range(20):
            self.ok(agent, "x.append(%d); y = 1" % i)
            self.assertEqual(1, self.must(agent, "restore", "a").after)
            self.assertValue(agent, "x, 'y' in globals()", "([1], False)")
        self.assertEqual(["a"], self.names(agent))

    def test_restored_again_and_again_without_a_cell(self):
        agent = self.live()
        self.ok(agent, "x = 1")
        self.must(agent, "checkpoint", "a")
        self.ok(agent, "x = 2")
        for _ in range(10):
            self.must(agent, "restore", "a")
        self.assertValue(agent, "x", "1")

    def test_a_restore_that_was_asked_for_is_not_told_by_the_next_cell(self):
        agent = self.live()
        self.ok(agent, "x = 1")
        self.must(agent, "checkpoint", "a")
        self.must(agent, "restore", "a")
        done = agent.run("x")
        self.assertEqual((OK, KEPT, 0), (*done.ending, done.restored_from))

    def test_older_and_newer_in_any_order(self):
        agent = self.live()
        for i, name in enumerate("abc", 1):
            self.ok(agent, "x = %d" % i)
            self.must(agent, "checkpoint", name)
        for name in "cabacbbca":
            after = "abc".index(name) + 1
            self.assertEqual(after, self.must(agent, "restore", name).after)
            self.assertValue(agent, "x", str(after))
        self.assertEqual(list("abc"), sorted(self.names(agent)))

    def test_a_crash_behind_a_restore_goes_back_to_it(self):
        for policy in (MANUAL, 2):
            with self.subTest(policy=policy):
                agent = self.live(policy=policy)
                for i, name in enumerate("ab", 1):
                    self.ok(agent, "x = %d" % i)
                    self.must(agent, "checkpoint", name)
                self.ok(agent, "x = 3")
                self.must(agent, "restore", "a")
                self.assertRestored(agent, FATAL["abort"], 1,
                                    before="x = 4\n")
                self.assertValue(agent, "x", "1")
                self.must(agent, "restore", "b")
                self.assertRestored(agent, FATAL["exit"], 2)
                self.assertValue(agent, "x", "2")
                self.assertEqual(list("ab"), sorted(self.names(agent)))

    def test_one_of_the_same_name_takes_its_place(self):
        agent = self.live()
        for i in range(1, 4):
            self.ok(agent, "x = %d" % i)
            self.must(agent, "checkpoint", "a")
        self.assertEqual([Kept(b"a", 3)], [
            kept for kept in self.copies(agent) if kept.tag])
        self.ok(agent, "x = 0")
        self.must(agent, "restore", "a")
        self.assertValue(agent, "x", "3")

    def test_dropped_ones_are_gone(self):
        agent = self.live(policy=MANUAL)
        self.ok(agent, "x = 1")
        for name in "ab":
            self.must(agent, "checkpoint", name)
        self.must(agent, "drop", "a")
        self.assertEqual(["b"], self.names(agent))
        for what in "drop", "restore":
            self.assertRefused(agent, what, "a", "no checkpoint of this name")
        self.assertValue(agent, "x", "1")
        self.must(agent, "drop", "b")
        self.assertEqual([], self.copies(agent))
        self.assertLost(agent, FATAL["exit"], FRESH)

    def test_before_any_cell(self):
        agent = self.live()
        self.assertEqual(0, self.must(agent, "checkpoint", "empty").after)
        self.ok(agent, "x = 1")
        self.assertEqual(0, self.must(agent, "restore", "empty").after)
        self.assertValue(agent, "'x' in globals()", "False")

    def test_sixteen_are_kept_and_no_more(self):
        agent = self.live()
        names = ["n%d" % i for i in range(16)]
        for i, name in enumerate(names):
            self.ok(agent, "x = %d" % i)
            self.must(agent, "checkpoint", name)
        for _ in range(2):
            self.assertRefused(agent, "checkpoint", "more",
                               "16 checkpoints, and keeps no more")
        self.assertEqual(names, self.names(agent))
        self.assertRestored(agent, FATAL["exit"], agent.cells)
        for i in (7, 0, 15):
            self.must(agent, "restore", names[i])
            self.assertRefused(agent, "checkpoint", "more", "keeps no more")
            self.assertValue(agent, "x", str(i))
        self.must(agent, "checkpoint", names[3])
        self.must(agent, "drop", names[4])
        self.must(agent, "checkpoint", "more")
        self.assertEqual(sorted(set(names) - {"n4"} | {"more"}),
                         sorted(self.names(agent)))

    def test_names_of_any_bytes(self):
        agent = self.live(policy=MANUAL)
        names = [b" ", b"-", b"\xff\xfe", b"\n\r\t\x1b[2J", "\N{SNOWMAN}"
                 .encode(), b"../../etc/passwd", b"%s%n", b"x" * 63,
                 b"x" * 62]
        for i, name in enumerate(names):
            self.ok(agent, "x = %d" % i)
            self.must(agent, "checkpoint", name)
        self.assertEqual(names, [kept.tag for kept in self.copies(agent)])
        for i, name in enumerate(names):
            self.must(agent, "restore", name)
            self.assertValue(agent, "x", str(i))
        for what in "checkpoint", "restore", "drop":
            self.assertRefused(agent, what, b"a\0b", "no")
        for name in names:
            self.must(agent, "drop", name)
        self.assertEqual([], self.copies(agent))


class Requests(RestoreTest):
    """Requests that come when they can't be met, and hosts that go away."""

    def test_none_is_met_while_a_cell_runs(self):
        agent = self.live()
        self.ok(agent, "x = 1")
        self.must(agent, "checkpoint", "a")
        agent.start("import time\nprint('begun', flush=True)\n"
                    "time.sleep(99)\nx = 2")
        agent.wait("output")
        for what in "checkpoint", "restore":
            self.assertRefused(agent, what, "a", "a cell is running")
        self.assertEqual(["a"], self.names(agent))
        agent.say("interrupt %d" % agent.cells)
        agent.done()
        self.assertValue(agent, "x", "1")

    def test_drop_and_list_are_met_while_a_cell_runs(self):
        agent = self.live(policy=MANUAL)
        self.ok(agent, "x = 1")
        self.must(agent, "checkpoint", "a")
        agent.start("import time\nprint('begun', flush=True)\n"
                    "time.sleep(99)")
        agent.wait("output")
        self.must(agent, "drop", "a")
        self.assertEqual([], self.copies(agent))
        agent.say("interrupt %d" % agent.cells)
        agent.done()
        self.assertValue(agent, "x", "1")

    def test_a_flood_of_them(self):
        """Every one is replied to, in whatever order they can be met."""
        agent = self.live()
        self.ok(agent, "x = 1")
        self.must(agent, "checkpoint", "a")
        for _ in range(100):
            for what in "checkpoint", "restore", "drop", "checkpoint":
                agent.say("%s %s" % (what, b"a".hex()))
        replies = [self.reply(agent) for _ in range(400)]
        self.assertTrue(all(reply.ok or reply.text for reply in replies))
        self.assertValue(agent, "x", "1")

    def test_a_cell_right_behind_a_request(self):
        agent = self.live()
        self.ok(agent, "x = 0")
        self.must(agent, "checkpoint", "a")
        for _ in range(20):
            agent.say("checkpoint " + b"b".hex())
            agent.start("x = 'later'")
            # A copy may say that it is there when the cell has ended.
            self.assertEqual({"reply", "done"}, {
                self.kind(agent), self.kind(agent)})
            agent.say("restore " + b"b".hex())
            agent.start("x = (x, 1)")
            self.assertTrue(self.reply(agent).ok)
            self.assertEqual((OK, KEPT), agent.done().ending)
            self.assertValue(agent, "x", "(0, 1)")
            self.must(agent, "restore", "a")

    @staticmethod
    def kind(agent):
        """Which of the two comes next; both must tell of success."""
        kind, words = agent.either("reply", "done")
        assert words[1] == ("1" if kind == "reply" else "0"), words
        return kind

    def test_a_checkpoint_right_before_a_crash(self):
        agent = self.live(policy=MANUAL)
        for i in range(10):
            good = self.ok(agent, "x = %d" % i).cell
            agent.say("checkpoint " + b"a".hex())
            self.assertRestored(agent, FATAL["a kill"], good)
            self.assertValue(agent, "x", str(i))

    def test_a_new_host_hears_the_reply(self):
        agent = self.live()
        self.ok(agent, "x = 1")
        self.must(agent, "checkpoint", "a")
        self.ok(agent, "x = 2")
        agent.say("restore " + b"a".hex())
        agent.hello(mark=4)  # READY, DONE, REPLY, DONE
        self.assertEqual((True, 1), self.reply(agent)[1:3])
        self.assertValue(agent, "x", "1")

    def test_a_new_host_while_a_cell_crashes(self):
        agent = self.live()
        self.ok(agent, "import os, time\nx = 1")
        agent.start("x = 2\ntime.sleep(0.3)\nos.abort()")
        agent.hello(mark=2)
        done = agent.done()
        self.assertEqual((RESTORED, 1), (done.state, done.restored_from))
        self.assertValue(agent, "x", "1")


# The session's own loop, which is made anew in a copy that wakes: so this cell
# comes to do something just then.
SLOW = ("import asyncio, time\nawait asyncio.sleep(0)\n"
        "asyncio.get_running_loop()._make_self_pipe = "
        "lambda: time.sleep(99)")


class WhileWaking(RestoreTest):
    """The agent waits five seconds for a copy; it is not deaf meanwhile."""

    def waking(self, **options):
        agent = self.live(**options)
        self.ok(agent, "x = 1")
        self.ok(agent, SLOW)
        agent.start("import os, signal\nx = 2\n"
                    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                    "print('begun', flush=True)\nos.abort()")
        agent.wait("output")
        return agent

    def test_a_stop(self):
        agent = self.waking()
        agent.say("stop")
        self.assertEqual(0, agent.end())

    def test_the_lease(self):
        agent = self.waking(lease_ms=1000)
        self.assertEqual(0, agent.end())
        self.assertIn("sign of life", agent.words[-1])

    def test_a_reset(self):
        agent = self.waking()
        agent.say("reset")
        self.assertEqual(FRESH, agent.done().state)
        self.assertValue(agent, "'x' in globals()", "False")

    def test_requests(self):
        agent = self.waking()
        for what in "checkpoint", "restore":
            self.assertFalse(self.ask(agent, what, "a").ok)
        self.assertEqual(RESTORED, agent.done().state)
        self.assertValue(agent, "x", "1")

    def test_an_interrupt_of_the_cell_that_crashed(self):
        agent = self.waking()
        agent.say("interrupt %d" % agent.cells)
        done = agent.done()
        self.assertEqual((RESTORED, 1), (done.state, done.restored_from))
        self.assertValue(agent, "x", "1")

    def test_another_host(self):
        agent = self.waking()
        agent.hello(mark=4)
        done = agent.done()
        self.assertEqual((RESTORED, 1), (done.state, done.restored_from))
        self.assertValue(agent, "x", "1")


if __name__ == "__main__":
    unittest.main()
