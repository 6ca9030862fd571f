"""An agent in a container, and a host in the raw that speaks the wire with it
as a test tells it to.

CELLAR_AGENT_HOST names agent_host.
"""

import os
import queue
import subprocess
import threading
import time

from cellar_test import docker

HOST = os.environ["CELLAR_AGENT_HOST"]
IMAGE = "cellar-runtime:slim"
# A user of this test process's own: the kernel counts processes by user, over
# all containers.
UID = 1 << 24 | os.getpid()
PROTECTION = ["--user", "%d:%d" % (UID, UID), "--cap-drop", "ALL",
              "--read-only", "--security-opt", "no-new-privileges",
              "--network", "none", "--pids-limit", "128", "--memory", "256m",
              "--memory-swap", "256m", "--log-driver", "none",
              "--tmpfs", "/tmp:noexec,mode=1777,size=32m",
              "--tmpfs", "/dev/shm:noexec,mode=1777,size=32m"]
DEADLINE = 30

OK, ERROR, INTERRUPTED, TIMEOUT, OUT_OF_MEMORY, KILLED, EXITED = range(7)
KEPT, RESTORED, FRESH = range(3)
NO_PYTHON, MUSL, OLD_PYTHON, EXTENSION, SANDBOX, WORKER, INTERNAL = range(1, 8)

counter = iter(range(1, 1 << 30))


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
    """A container whose agent waits for its key."""

    def __init__(self, *options, image=IMAGE, lease_ms=600000,
                 policy=0):
        self.name = "cellar-e2e-agent-%d-%d" % (os.getpid(), next(counter))
        docker("create", "-i", "--name", self.name, *PROTECTION, *options,
               "--entrypoint", "/cellar/agent", image)
        self.process = subprocess.Popen(
            [HOST, "docker", "start", "-ai", self.name], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
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
        subprocess.run(["docker", "rm", "-f", self.name], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout,
                     self.process.stderr):
            pipe.close()
