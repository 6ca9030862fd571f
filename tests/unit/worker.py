"""Drives a worker over its control socket, as the agent does.

CELLAR_WORKER: the folder of boot.py and the extension.
CELLAR_PYTHON: the interpreter that runs them (default: this one).
"""
import os
import signal
import socket
import struct
import subprocess
import sys
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
TICKET = (1 << 64) - 1
DEADLINE = 30


def start_process(boot=BOOT, python=PYTHON, fd=3, preload=None, **options):
    """The process and our end of the socket that it has as `fd`."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)

    def place():
        os.dup2(theirs.fileno(), fd)
        os.set_inheritable(fd, True)

    words = [python, "-I", boot] + ([preload] if preload else [])
    process = subprocess.Popen(words, preexec_fn=place,
                               close_fds=False, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **options)
    theirs.close()
    return process, ours


class Answer:
    def __init__(self):
        self.parts = {}
        self.name = self.text = self.trace = self.unfit = None
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

    def send(self, code, kept=True):
        if isinstance(code, str):
            code = code.encode()
        self.cells += 1
        self.socket.sendall(
            struct.pack(">IBQQB", len(code) + 17, ord("C"), self.cells,
                        ~self.cells & TICKET, kept) + code)

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
            elif kind == "U":
                answer.unfit = body.decode()
            else:
                assert kind == "E", kind
                ticket, answer.outcome, answer.status = struct.unpack(
                    ">QBI", body)
                assert ticket == ~self.cells & TICKET
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
        while self.pending() or not self.asleep():
            assert time.monotonic() < end
            time.sleep(0.001)

    def pending(self):
        with open("/proc/%d/status" % self.process.pid) as file:
            return any(int(line.split()[1], 16) & 1 << signal.SIGINT - 1
                       for line in file
                       if line.startswith(("SigPnd", "ShdPnd")))

    def asleep(self):
        """Whether no thread runs, a signal's handler included."""
        folder = "/proc/%d/task" % self.process.pid
        states = []
        for thread in os.listdir(folder):
            with open("%s/%s/stat" % (folder, thread)) as file:
                states.append(file.read().rpartition(")")[2].split()[0])
        return set(states) == {"S"}

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
