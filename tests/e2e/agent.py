"""An agent in a container, and a host in the raw that speaks the wire with it
as a test tells it to.

CELLAR_AGENT_HOST names agent_host.
"""

import os
import queue
import subprocess
import threading
import time

from raw import Box

HOST = os.environ["CELLAR_AGENT_HOST"]
DEADLINE = 30

OK, ERROR, INTERRUPTED, TIMEOUT, OUT_OF_MEMORY, KILLED, EXITED = range(7)
KEPT, RESTORED, FRESH = range(3)
NO_PYTHON, MUSL, OLD_PYTHON, EXTENSION, SANDBOX, WORKER, INTERNAL = range(1, 8)


def unhex(text):
    return b"" if text == "-" else bytes.fromhex(text)


class Done:
    def __init__(self, words, output):
        numbers = list(map(int, words[:12]))
        (self.cell, self.status, self.state, self.limit, self.code) = \
            numbers[:5]
        self.dropped = numbers[5:7]
        self.restored_from, self.taken = numbers[10:]
        texts = list(map(unhex, words[12:]))
        self.why = texts.pop(0).decode()
        self.name = texts[0].decode()
        self.result = dict(zip(texts[3::2], texts[4::2]))
        self.output = output

    @property
    def ending(self):
        return self.status, self.state


class Agent:
    """A container whose agent waits for its key; `options` are a Box's."""

    def __init__(self, lease_ms=600000, policy=0, **options):
        self.box = Box(**options)
        self.process = subprocess.Popen(
            [HOST, *self.box.command], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = queue.Queue()
        self.words = []
        self.cells = 0
        self.lease_ms = lease_ms
        self.policy = policy
        for pipe, take in ((self.process.stdout, self.lines.put),
                           (self.process.stderr, self.words.append)):
            threading.Thread(target=self.read, args=(pipe, take),
                             daemon=True).start()

    @staticmethod
    def read(pipe, take):
        for line in pipe:
            take(line.rstrip("\n"))

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hello(self, mark=0):
        self.say("hello %d %d 500 100 512 0 0 %d"
                 % (mark, self.lease_ms, self.policy))
        return list(map(int, self.wait("welcome")))

    def wait(self, *kinds, output=None):
        """The words of the next line of one of these kinds."""
        return self.either(*kinds, output=output)[1]

    def either(self, *kinds, output=None):
        """The next line of one of these kinds: which, and its words."""
        end = time.monotonic() + DEADLINE
        while True:
            kind, *words = self.lines.get(
                timeout=max(0.1, end - time.monotonic())).split(" ")
            if kind in kinds:
                return kind, words
            if kind == "output" and output is not None:
                output.append((int(words[1]), unhex(words[2])))
            if kind == "eof":
                raise AssertionError("the agent ended: %s" % self.words)

    def ready(self):
        self.hello()
        return self.wait("ready")

    def start(self, code, timeout_ms=0, output_max=1 << 40):
        self.cells += 1
        self.say("run %d %d %d %s" % (self.cells, timeout_ms, output_max,
                                      code.encode().hex() or "-"))

    def done(self):
        output = []
        words = self.wait("done", output=output)
        return Done(words, output)

    def run(self, code, **options):
        self.start(code, **options)
        return self.done()

    def end(self):
        """The agent's exit status."""
        return int(self.wait("eof")[0])

    def remove(self):
        self.box.remove()
        self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout,
                     self.process.stderr):
            pipe.close()
