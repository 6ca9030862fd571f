"""Copies of the worker, as the agent has them made and wakes them."""
import array
import os
import signal
import socket
import struct
import time
import unittest

from worker import DEADLINE, ERROR, OK, Worker, WorkerTest

RESTORE, BRANCH = range(2)


def put(sock, kind, body=b"", fds=()):
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                  array.array("i", fds))] if fds else []
    record = struct.pack(">IB", len(body), ord(kind)) + body
    assert sock.sendmsg([record], ancillary) == len(record)


class Copy(Worker):
    """A frozen copy, and when it was woken the worker that it is."""

    def __init__(self, worker):
        # Not Worker's: the process is another's child.
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(DEADLINE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        put(worker.socket, "F", fds=[theirs.fileno()])
        theirs.close()
        self.cells = worker.cells
        data, ancillary, _, _ = self.socket.recvmsg(512, 64)
        self.first = chr(data[4]), data[5:]
        self.pid = struct.unpack("iii", ancillary[0][2][:12])[0]
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        self.records = self.socket.makefile("rb")
        self.out = {1: bytearray(), 2: bytearray()}
        self.pipes = []

    def wake(self, reason=RESTORE, ping=41):
        pairs = [os.pipe(), os.pipe()]
        self.pipes = [pair[0] for pair in pairs]
        put(self.socket, "W", struct.pack(">BQ", reason, ping),
            [pair[1] for pair in pairs])
        for pair in pairs:
            os.close(pair[1])
        kind, body = self.record()
        assert kind == "A", kind
        return struct.unpack(">Q", body)[0]

    def printed(self):
        os.set_blocking(self.pipes[0], False)
        return os.read(self.pipes[0], 1 << 16).decode()

    def close(self):
        self.records.close()
        self.socket.close()
        for pipe in self.pipes:
            os.close(pipe)


def status_of(pid, key):
    with open("/proc/%d/status" % pid) as file:
        for line in file:
            if line.startswith(key + ":"):
                return line.split()[1]
    raise KeyError(key)


class Freeze(WorkerTest):
    def copy(self, worker=None):
        copy = Copy(worker or self.worker)
        self.addCleanup(copy.close)
        return copy

    def frozen(self, worker=None):
        copy = self.copy(worker)
        self.assertEqual(copy.first, ("Z", b""))
        return copy

    def test_a_copy_has_the_state_of_its_moment(self):
        self.run_cell("x = [1]")
        copy = self.frozen()
        self.run_cell("x.append(2)")
        self.assertEqual(copy.wake(), 42)
        self.assertEqual(copy.run("x").result, "[1]")
        self.assertEqual(self.result("x"), "[1, 2]")

    def test_a_woken_copy_is_a_worker_in_every_way(self):
        self.run_cell("import asyncio\nx = 1\nawait asyncio.sleep(0)")
        copy = self.frozen()
        copy.wake()
        copy.run("print('hello'); import os; os.system('echo from a shell')")
        self.assertEqual(copy.printed(), "hello\nfrom a shell\n")
        self.assertEqual(copy.run("await asyncio.sleep(0, 'slept')").result,
                         "'slept'")
        self.assertEqual(copy.run("1/0").name, "ZeroDivisionError")
        copy.send("while True: pass")
        time.sleep(0.3)
        os.kill(copy.pid, signal.SIGINT)
        self.assertEqual(copy.answer().name, "KeyboardInterrupt")
        self.assertEqual(copy.run("def f(): raise ValueError\nf()").outcome,
                         ERROR)
        self.assertEqual(copy.run("x").result, "1")

    def test_a_copy_can_be_copied(self):
        copy = self.worker
        for i in range(5):
            self.assertEqual(copy.run("x = %d\nx" % i).result, str(i))
            copy = self.frozen(copy)
            copy.wake()
            self.assertEqual(copy.run("x").result, str(i))

    def test_a_copy_is_no_child_of_the_program(self):
        pids = []
        for _ in range(3):
            pids.append(self.frozen().pid)
        self.assertEqual(self.result(
            "import os\n"
            "try: os.waitpid(-1, os.WNOHANG)\n"
            "except ChildProcessError: print('none')\n"
            "__import__('signal').sigpending()"), "set()")
        self.worker.wait_output("none")
        for pid in pids:
            self.assertNotEqual(int(status_of(pid, "PPid")),
                                self.worker.process.pid)

    def test_nobody_hears_of_the_process_in_between(self):
        self.run_cell("import signal, os\nheard = []\n"
                      "signal.signal(signal.SIGCHLD,"
                      " lambda *a: heard.append(a))")
        self.frozen()
        self.assertEqual(self.result("heard"), "[]")
        self.run_cell("import time\nif os.fork() == 0: os._exit(0)\n"
                      "time.sleep(0.2)")
        self.assertEqual(self.result("len(heard)"), "1")

    def test_a_copy_holds_no_pipe_and_blocks_every_signal(self):
        copy = self.frozen()
        for fd in (1, 2):
            self.assertEqual(os.readlink("/proc/%d/fd/%d" % (copy.pid, fd)),
                             "/dev/null")
        self.assertEqual(int(status_of(copy.pid, "SigBlk"), 16) | 1 << 8
                         | 1 << 18 | 3 << 31, (1 << 64) - 1)
        self.run_cell("1")  # by now the worker has closed the copy's socket
        own = {os.readlink("/proc/%d/fd/%s" % (self.worker.process.pid, fd))
               for fd in os.listdir("/proc/%d/fd" % self.worker.process.pid)}
        its = {os.readlink("/proc/%d/fd/%s" % (copy.pid, fd))
               for fd in os.listdir("/proc/%d/fd" % copy.pid)}
        self.assertFalse({name for name in own & its
                          if name.startswith("socket")})

    def test_a_copy_does_not_come_between_a_program_and_its_children(self):
        self.run_cell(
            "import subprocess\nfrom subprocess import PIPE, Popen\n"
            "reader = Popen(['cat'], stdin=PIPE, stdout=PIPE)\n"
            "writer = Popen(['yes'], stdout=PIPE)")
        copy = self.frozen()
        self.assertEqual("(b'x', None)",
                         self.result("reader.communicate(b'x', 20)"))
        self.assertEqual("-13",
                         self.result("writer.stdout.close(); writer.wait(20)"))
        copy.wake()
        self.assertEqual("(b'', 'BrokenPipeError')", copy.run(
            "import os\n"
            "def send():\n"
            "    try: os.write(reader.stdin.fileno(), b'x')\n"
            "    except OSError as e: return type(e).__name__\n"
            "os.read(reader.stdout.fileno(), 9), send()").result)

    def test_a_pipe_of_the_programs_own_is_as_it_was(self):
        self.run_cell("import os\nr, w = os.pipe()\nextra = os.dup(w)\n"
                      "os.set_blocking(r, False)\n"
                      "os.set_inheritable(w, True)\n"
                      "_ = os.write(w, b'then')")
        copy = self.frozen()
        self.assertEqual("b'then'", self.result("os.read(r, 9)"))
        self.run_cell("_ = os.write(w, b'later')")
        copy.wake()
        self.assertEqual("(b'then', False, True, False, True)", copy.run(
            "(os.read(r, 9), os.get_blocking(r), os.get_blocking(w),\n"
            " os.get_inheritable(r), os.get_inheritable(w))").result)
        self.assertEqual("b'onward'", copy.run(
            "_ = os.write(w, b'on'), os.write(extra, b'ward')\n"
            "os.read(r, 9)").result)
        self.assertEqual("b'later'", self.result("os.read(r, 9)"))

    def test_a_file_is_read_and_written_on_where_it_was(self):
        self.run_cell("import os, tempfile\n"
                      "f = tempfile.TemporaryFile()\n"
                      "_ = f.write(b'0123456789'); f.flush()\n"
                      "path = '/proc/self/fd/%d' % f.fileno()\n"
                      "a, b = [os.open(path, os.O_RDONLY) for _ in 'ab']\n"
                      "c = os.dup(a)\n"
                      "os.set_inheritable(c, True)\n"
                      "log = os.open(path, os.O_WRONLY | os.O_APPEND)\n"
                      "_ = os.read(a, 2), os.read(b, 2)")
        copy = self.frozen()
        self.assertEqual("(b'2', b'3', b'2345', 0)",
                         self.result("(os.read(a, 1), os.read(c, 1),\n"
                                     " os.read(b, 4), f.seek(0))"))
        self.run_cell("_ = os.write(log, b'AB')")
        copy.wake()
        self.assertEqual("(b'23', b'45', b'23', 10, True, False)", copy.run(
            "(os.read(a, 2), os.read(c, 2), os.read(b, 2), f.tell(),\n"
            " os.get_inheritable(c), os.get_inheritable(a))").result)
        self.assertEqual("b'6789ABcd'", copy.run(
            "_ = os.write(log, b'cd')\nos.read(c, 99)").result)
        self.assertEqual("b'4567'", self.result("os.read(c, 4)"))

    def test_a_copy_that_is_let_go_of_ends(self):
        copy = self.frozen()
        copy.socket.shutdown(socket.SHUT_RDWR)
        end = time.monotonic() + DEADLINE
        while os.path.exists("/proc/%d/mem" % copy.pid):
            with open("/proc/%d/stat" % copy.pid) as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    break
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_threads_are_told_and_not_copied(self):
        self.assertIsNone(self.run_cell("x = 1").unfit)
        unfit = self.run_cell(
            "import threading\nstop = threading.Event()\n"
            "threads = [threading.Thread(target=stop.wait) for _ in 'ab']\n"
            "for t in threads: t.start()").unfit
        self.assertEqual(unfit, "2 of its threads would be missing")
        self.assertEqual(self.copy().first, ("U", unfit.encode()))
        self.run_cell("stop.set()\nfor t in threads: t.join()")
        self.assertIsNone(self.run_cell("x").unfit)
        self.frozen().wake()

    def test_threads_that_were_joined_are_gone(self):
        self.run_cell("import threading")
        for _ in range(100):
            self.assertIsNone(self.run_cell(
                "t = threading.Thread(target=id, args=(1,))\n"
                "t.start(); t.join()").unfit)

    def test_threads_of_a_library_are_told_again_and_again(self):
        """Python knows of these as little as of a library's."""
        self.run_cell(
            "import ctypes\nlibc = ctypes.CDLL(None)\n"
            "thread = ctypes.c_ulong()\n"
            "libc.pthread_create(ctypes.byref(thread), None, libc.sleep, 600)")
        unfit = "1 of a library's threads would be missing"
        for _ in range(3):
            self.assertEqual(unfit, self.run_cell("x = 1").unfit)
        self.assertEqual(self.copy().first, ("U", unfit.encode()))

    def test_known_breakers_are_told_and_not_copied(self):
        self.run_cell("import sys, types\n"
                      "sys.modules['polars'] = types.ModuleType('polars')")
        self.assertEqual(self.copy().first,
                         ("U", b"Polars does not survive a fork"))
        self.assertIsNone(self.run_cell("del sys.modules['polars']").unfit)

    def test_a_fork_that_fails_says_why(self):
        self.run_cell("import os, resource\n"
                      "if os.getuid() == 0: os.setuid(54321)\n"
                      "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))")
        self.assertEqual(
            self.copy().first,
            ("U", b"fork: Resource temporarily unavailable"))
        self.assertEqual(self.run_cell("x = 5").outcome, OK)

    def fill_descriptors(self, left):
        return self.run_cell("import os\n"
                             "hoard = globals().get('hoard', [])\n"
                             "try:\n"
                             "    while True: hoard.append(os.dup(0))\n"
                             "except OSError: pass\n"
                             "for _ in range(%d): os.close(hoard.pop())" % left)

    def test_a_program_without_descriptors_is_told_and_not_copied(self):
        self.run_cell("import resource\n"
                      "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
        unfit = "the program has no file descriptors left"
        for left in 2, 1:
            self.assertEqual(unfit, self.fill_descriptors(left).unfit)
            self.assertEqual(self.copy().first, ("U", unfit.encode()))
        self.assertEqual(unfit, self.fill_descriptors(0).unfit)
        ours, theirs = socket.socketpair()
        put(self.worker.socket, "F", fds=[theirs.fileno()])
        theirs.close()
        ours.settimeout(DEADLINE)
        self.assertEqual(b"", ours.recv(1))
        ours.close()
        self.assertIsNone(self.fill_descriptors(3).unfit)
        self.frozen().wake()

    def test_descriptors_count_wherever_they_are_free(self):
        self.run_cell("import resource\n"
                      "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
        self.fill_descriptors(0)
        free = "for _ in range(%d): os.close(hoard.pop(0))"
        self.assertIsNotNone(self.run_cell(free % 2).unfit)
        self.assertIsNone(self.run_cell(free % 1).unfit)
        self.frozen().wake()

    def test_a_cell_that_is_not_to_be_kept_is_not_looked_at(self):
        self.run_cell("import sys, types\n"
                      "sys.modules['polars'] = types.ModuleType('polars')")
        self.worker.send("x = 1", kept=False)
        self.assertIsNone(self.worker.answer().unfit)
        self.worker.send("x = 1")
        self.assertIsNotNone(self.worker.answer().unfit)

    def test_a_copy_that_gets_no_pipes_does_not_wake(self):
        copy = self.frozen()
        put(copy.socket, "W", struct.pack(">BQ", RESTORE, 41))
        self.assertEqual(b"", copy.records.read(1))

    def test_a_program_that_adopts_orphans_does_not_adopt_copies(self):
        self.run_cell("import ctypes, os\n"
                      "assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0")
        copy = self.frozen()
        self.assertEqual(
            "'none'", self.result("try: os.waitpid(-1, os.WNOHANG)\n"
                                  "except ChildProcessError: word = 'none'\n"
                                  "word"))
        copy.wake()
        adopted = ("is_one = ctypes.c_int()\n"
                   "_ = ctypes.CDLL(None).prctl(37, ctypes.byref(is_one), 0, 0,"
                   " 0)\nis_one.value")
        for worker in copy, self.worker:
            self.assertEqual("1", worker.run(adopted).result)

    def test_what_a_copy_is_woken_with_is_not_the_programs(self):
        self.run_cell("import os, signal\nheard = []\n"
                      "for n in signal.SIGCONT, signal.SIGUSR1:\n"
                      "    signal.signal(n, lambda n, f: heard.append(n))")
        copy = self.frozen()
        os.kill(copy.pid, signal.SIGCONT)
        copy.wake()
        self.assertEqual("[10]", copy.run(
            "os.kill(os.getpid(), signal.SIGUSR1); heard").result)

    def test_random_numbers_go_on_where_they_were(self):
        self.run_cell("import random\nrandom.seed(7)\nrandom.random()")
        first, second = self.frozen(), self.frozen()
        first.wake()
        second.wake()
        numbers = "[random.random() for _ in range(3)]"
        self.assertEqual(first.run(numbers).result, self.result(numbers))
        self.assertEqual(second.run(numbers).result,
                         "%s" % second.run("random.seed(7); random.random();"
                                           + numbers).result)

    def test_a_branch_has_random_numbers_of_its_own(self):
        self.run_cell("import random, uuid")
        first, second = self.frozen(), self.frozen()
        first.wake(BRANCH)
        second.wake(BRANCH)
        for code in ("random.random()", "uuid.uuid4()", "uuid.uuid1()"):
            seen = {self.result(code), first.run(code).result,
                    second.run(code).result}
            self.assertEqual(len(seen), 3, code)

    def test_background_tasks_go_on_in_a_copy(self):
        self.run_cell("import asyncio\nseen = []\n"
                      "async def tick():\n"
                      "    while True:\n"
                      "        seen.append(len(seen))\n"
                      "        await asyncio.sleep(0.001)\n"
                      "task = asyncio.create_task(tick())\n"
                      "await asyncio.sleep(0.01)")
        copy = self.frozen()
        copy.wake()
        for worker in (copy, self.worker, copy):
            before = int(worker.run("len(seen)").result)
            worker.run("await asyncio.sleep(0.05)")
            self.assertGreater(int(worker.run("len(seen)").result), before)

    def test_a_wish_does_not_disturb_interrupts(self):
        copy = self.copy()
        self.worker.send("import time\n"
                         "try: time.sleep(20)\n"
                         "except KeyboardInterrupt: 'hit'")
        time.sleep(0.3)
        self.worker.interrupt()
        self.assertEqual(self.worker.answer().outcome, OK)
        self.assertEqual(copy.first, ("Z", b""))


if __name__ == "__main__":
    unittest.main()
