"""What tests of checkpoints share: an agent that takes them, and cells that end
badly.

    class Test(RestoreTest):
        def test_crash(self):
            agent = self.live()
            self.ok(agent, "x = 1")
            self.assertCrash(agent, FATAL["abort"])
            self.assertValue(agent, "x", "1")
"""

import collections
import unittest

from agent import (EXITED, FRESH, INTERRUPTED, KEPT, KILLED, OK, OUT_OF_MEMORY,
                   RESTORED, TIMEOUT, Agent, unhex)

OFF, MANUAL, AUTO = range(3)
UNKNOWN, TAKEN, NOT_TAKEN = range(3)  # the automatic checkpoint, in DONE

Reply = collections.namedtuple("Reply", "request ok after text")
Kept = collections.namedtuple("Kept", "tag after")

# A way to lose the worker: code, status, code of the ending (None: whatever),
# the timeout that it needs, whether it has to be interrupted.
Fatal = collections.namedtuple("Fatal", "code status ending timeout interrupt",
                               defaults=(None, 0, False))

DEAF = ("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "while True: pass")

FATAL = {
    "a fault": Fatal("import ctypes\nctypes.string_at(0)", KILLED, 11),
    "abort": Fatal("import os\nos.abort()", KILLED, 6),
    "exit": Fatal("import os\nos._exit(7)", EXITED, 7),
    "a kill": Fatal("import os\nos.kill(os.getpid(), 9)", KILLED, 9),
    "a timeout": Fatal(DEAF, TIMEOUT, timeout=300),
    "an interrupt": Fatal(DEAF, INTERRUPTED, interrupt=True),
    "memory": Fatal("hoard = []\n"
                    "while True: hoard.append(bytearray(1 << 20))",
                    OUT_OF_MEMORY),
    "another program": Fatal("import os\n"
                             "os.execv('/bin/sleep', ['sleep', '0.1'])",
                             EXITED, 0),
    "the stack": Fatal("import sys\nsys.setrecursionlimit(1 << 30)\n"
                       "class R:\n"
                       "    def __repr__(self): return repr(self)\n"
                       "repr(R())", KILLED, 11),
    "its descriptors closed": Fatal("import os\nos.closerange(3, 256)",
                                    EXITED, 1),
    "a crash in a result": Fatal("class R:\n"
                                 "    def __repr__(self):\n"
                                 "        import os; os._exit(5)\n"
                                 "R()", EXITED, 5),
}


class RestoreTest(unittest.TestCase):
    MEMORY = "256m"

    def live(self, policy=AUTO, **options):
        agent = Agent(policy=policy, **{"memory": self.MEMORY, **options})
        self.addCleanup(agent.remove)
        agent.ready()
        return agent

    def ok(self, agent, code, state=KEPT, **options):
        """Runs a cell that must end well; its DONE."""
        done = agent.run(code, **options)
        self.assertEqual((OK, state), done.ending, self.words_of(done))
        return done

    @staticmethod
    def words_of(done):
        return (done.name, done.why, done.restored_from,
                b"".join(data for _, data in done.output)[-2000:])

    def value(self, agent, code):
        return self.ok(agent, code).result[b"text/plain"].decode()

    def assertValue(self, agent, code, text):
        self.assertEqual(text, self.value(agent, code))

    def lose(self, agent, fatal, before=""):
        """Runs a cell that loses the worker; its DONE."""
        agent.start(before + fatal.code, timeout_ms=fatal.timeout)
        output = []
        if fatal.interrupt:
            while not any(b"deaf" in data for _, data in output):
                words = agent.wait("output")
                output.append((int(words[1]), unhex(words[2])))
            agent.say("interrupt %d" % agent.cells)
        done = agent.done()
        done.output = output + done.output
        return done

    def assertLost(self, agent, fatal, state, start=None, before=""):
        """The worker is lost, and its state was `state`, of cell `start`."""
        done = self.lose(agent, fatal, before)
        self.assertEqual((fatal.status, state), done.ending,
                         self.words_of(done))
        if fatal.ending is not None:
            self.assertEqual(fatal.ending, done.code)
        self.assertEqual(start or 0, done.restored_from)
        return done

    def assertRestored(self, agent, fatal, start, **options):
        return self.assertLost(agent, fatal, RESTORED, start, **options)

    def ask(self, agent, what, tag):
        """A request by the host; what the agent replies. It may tell before of
        an automatic checkpoint that came to nothing: request 0."""
        agent.say("%s %s" % (what, tag.hex() if isinstance(tag, bytes)
                             else tag.encode().hex()))
        reply = self.reply(agent)
        while reply.request == 0:
            reply = self.reply(agent)
        return reply

    @staticmethod
    def reply(agent):
        request, good, after, _, text = agent.wait("reply")
        return Reply(int(request), good == "1", int(after),
                     unhex(text).decode())

    def must(self, agent, what, tag):
        reply = self.ask(agent, what, tag)
        self.assertEqual((True, ""), (reply.ok, reply.text))
        return reply

    def assertRefused(self, agent, what, tag, why):
        reply = self.ask(agent, what, tag)
        self.assertFalse(reply.ok)
        self.assertIn(why, reply.text)

    @staticmethod
    def copies(agent):
        """The checkpoints that are kept, the oldest first."""
        agent.say("list")
        _, *words = agent.wait("copies")
        return [Kept(unhex(words[i]), int(words[i + 1]))
                for i in range(0, len(words), 3)]

    def names(self, agent):
        return [kept.tag.decode() for kept in self.copies(agent) if kept.tag]


__all__ = ["AUTO", "DEAF", "FATAL", "FRESH", "Fatal", "Kept", "MANUAL",
           "NOT_TAKEN", "OFF", "RESTORED", "RestoreTest", "TAKEN", "UNKNOWN"]
