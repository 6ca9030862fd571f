"""Running out: of memory, space, processes, the reader's patience. The limit
holds, the ending says so, and nothing of it outlives a reset."""

import json
import tempfile
import time
import unittest

import host
from hostile import HostileTest, popen, run
from cellar_test import (Session, containers_left, result_of, session,
                         wait_for)

MIB = 1 << 20

# What no supervisor needs, whatever is printed by whom.
HOST_MEMORY_MAX = 64 * MIB


# Agent and worker, and the worker's frozen copies: the last and the one before.
PROCESSES, COPIES_MAX = 2, 2


class RunningOutTest(HostileTest):
    def assertFewProcesses(self, copies):
        """While a copy is made there is one more for a moment."""
        uid = self.uid()
        wait_for(lambda: len(host.processes_of(uid)) <= PROCESSES + copies)

    def reset(self):
        done = run("reset", self.session.name, timeout=30)
        self.assertEqual(0, done.status, done.err)

    def uid(self):
        return self.session.uid()

    def assertWordsOf(self, code, *how):
        words = eval(self.value(code), {"__builtins__": {}})
        self.assertTrue(words)
        for word in words:
            self.assertIn(word, how, words)


class Memory(RunningOutTest):
    LIMIT = {"name": "memory", "value": 128 * MIB, "unit": "bytes"}

    def test_other_ways_to_take_it(self):
        for code in (
                "import mmap\nm = mmap.mmap(-1, 1 << 30)\n"
                "for i in range(0, 1 << 30, 4096): m[i] = 1",
                "s = 'x'\nwhile 1: s += s",
                "d = {}\nwhile 1: d[len(d)] = [0] * 1000"):
            with self.subTest(code=code):
                result = self.cell(code)
                if result["status"] == "error":  # the allocator was first
                    self.assertEqual("MemoryError", result["error"]["name"])
                    self.assertEqual("kept", result["state"])
                    self.ok("m = s = d = None")
                    continue
                self.assertEqual(("out_of_memory", "restored", self.LIMIT), (
                    result["status"], result["state"], result["limit"]))
                self.assertAlive()

    def test_more_than_there_can_be_is_an_exception(self):
        result = self.cell("bytearray(1 << 50)")
        self.assertEqual(("error", "MemoryError", "kept"), (
            result["status"], result["error"]["name"], result["state"]))

    def test_a_childs_hunger(self):
        """The kernel picks a victim: the child, or the worker with it."""
        result = self.cell(
            "import os\n"
            "if os.fork() == 0:\n"
            "    x = []\n"
            "    while 1: x.append(bytearray(1 << 20))\n"
            "os.wait()[1] & 127")
        if result["status"] == "ok":
            self.assertEqual({"text/plain": "9"}, result["result"])
        else:
            self.assertEqual(("out_of_memory", "restored", self.LIMIT), (
                result["status"], result["state"], result["limit"]))

    def test_memory_files_count_too(self):
        """/tmp and /dev/shm are memory: of a session whose tmpfs could hold
        more than its limit, nothing but the writer dies."""
        result = self.cell(
            "for folder in '/tmp', '/dev/shm':\n"
            "    with open(folder + '/big', 'wb') as f:\n"
            "        for i in range(63): f.write(bytes(1 << 20))\n"
            "x = []\n"
            "while len(x) < 100: x.append(bytearray(1 << 20))")
        self.assertEqual("out_of_memory", result["status"])
        self.reset()
        self.ok("open('/tmp/f', 'wb').write(bytes(40 << 20))")
        self.reset()


class Agent(RunningOutTest):
    """Whoever is killed for memory, it is not the agent. Where the kernel has
    no Landlock it may be: then that is said, and the session made anew."""

    HOARD = ("import os\n"
             "def low():\n"
             "    try:\n"
             "        with open('/proc/self/oom_score_adj', 'w') as f:\n"
             "            f.write('0')\n"
             "    except OSError: pass\n"
             "low()\n"
             "for i in range(40):\n"
             "    if os.fork() == 0:\n"
             "        low()\n"
             "        hoard = []\n"
             "        try:\n"
             "            while True:\n"
             "                hoard.append(os.pipe())\n"
             "                os.set_blocking(hoard[-1][1], False)\n"
             "                os.write(hoard[-1][1], bytes(1 << 20))\n"
             "        except OSError: pass\n"
             "        x = []\n"
             "        while True: x.append(bytearray(1 << 18))\n"
             "x = []\n"
             "while 1: x.append(bytearray(1 << 20))")

    def test_forty_children_that_will_not_be_the_victim(self):
        ends = []
        for _ in range(5):
            live = Session(*self.OPTIONS, prefix="hoard")
            result = live.exec(self.HOARD)
            ends.append(result["status"])
            if result["status"] == "lost":
                self.assertTrue(result["reason"])
                self.assertEqual(0, run("start", live.name).status)
            else:
                self.assertIn(result["status"],
                              ("out_of_memory", "killed", "timeout"))
                self.assertEqual("fresh", result["state"])
            self.assertEqual({"text/plain": "2"}, live.exec("1 + 1")["result"])
            self.assertEqual(0, live.stop().status)
        print("  hoarders ended as " + ", ".join(ends))


class Space(RunningOutTest):
    def test_what_is_hard_to_remove(self):
        self.ok("import os\n"
                "path = '/tmp'\n"
                "for i in range(500):\n"
                "    path += '/d'\n"
                "    try: os.mkdir(path)\n"
                "    except OSError: break\n"
                "for name in ('/dev/shm/.hidden', '/tmp/' + 'n' * 255,\n"
                "             '/tmp/new\\nline', b'/tmp/\\xff', '/tmp/-rf'):\n"
                "    open(name, 'w').close()\n"
                "os.mkdir('/tmp/shut')\n"
                "open('/tmp/shut/f', 'w').close()\n"
                "os.chmod('/tmp/shut', 0)\n"
                "os.mkfifo('/tmp/fifo')\n"
                "os.symlink('/', '/tmp/root')\n"
                "import socket\n"
                "socket.socket(socket.AF_UNIX).bind('/tmp/socket')")
        self.reset()
        self.assertEqual("([], [])", self.value(
            "import os\nos.listdir('/tmp'), os.listdir('/dev/shm')"))

    def test_space_that_a_left_process_holds(self):
        """A file that was removed while somebody has it open."""
        self.ok("import os, time\n"
                "f = open('/tmp/held', 'wb')\n"
                "f.write(bytes(40 << 20))\n"
                "f.flush()\n"
                "os.unlink('/tmp/held')\n"
                "if os.fork() == 0:\n"
                "    os.setsid()\n"
                "    time.sleep(600)")
        self.reset()
        self.ok("open('/tmp/f', 'wb').write(bytes(40 << 20))")
        self.reset()

    def test_segments_semaphores_and_queues(self):
        """System V's and POSIX's: nothing is left after a reset."""
        taken = self.value(
            "import ctypes, os\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "libc.shmat.restype = ctypes.c_void_p\n"
            "def count(call, most=200):\n"
            "    for n in range(most):\n"
            "        if call(n) < 0: return n\n"
            "    return most\n"
            "def segment(n):\n"
            "    i = libc.shmget(0x1000 + n, 1 << 20, 0o1600)\n"
            "    if i >= 0: libc.shmat(i, None, 0)\n"
            "    return i\n"
            "[count(segment, 40),\n"
            " count(lambda n: libc.semget(0x2000 + n, 8, 0o1600)),\n"
            " count(lambda n: libc.msgget(0x3000 + n, 0o1600)),\n"
            " count(lambda n: libc.mq_open(b'/q%d' % n, 0o102, 0o600, None)),\n"
            " count(lambda n: libc.shm_open(b'/s%d' % n, 0o102, 0o600))]")
        self.assertGreater(eval(taken)[4], 0, taken)
        self.reset()
        self.assertEqual("([], 1, 1, 1)", self.value(
            "def lines(name):\n"
            "    try: return len(open('/proc/sysvipc/' + name)"
            ".readlines())\n"
            "    except FileNotFoundError: return 1\n"
            "import os\n"
            "os.listdir('/dev/shm'), lines('shm'), lines('sem'), "
            "lines('msg')"))


class Processes(RunningOutTest):
    """Nothing of a cell is left when it was reset: not inside, not outside."""

    BOMBS = {
        "forks": "import os\n"
                 "while 1:\n"
                 "    try: os.fork()\n"
                 "    except OSError: pass",
        "sessions": "import os, signal\n"
                    "for n in range(1, 65):\n"
                    "    try: signal.signal(n, signal.SIG_IGN)\n"
                    "    except (OSError, ValueError): pass\n"
                    "while 1:\n"
                    "    try:\n"
                    "        if os.fork() == 0: os.setsid()\n"
                    "    except OSError: pass",
        "the young outlive the old": "import os\n"
                                     "while 1:\n"
                                     "    try:\n"
                                     "        if os.fork(): os._exit(0)\n"
                                     "    except OSError: pass",
        "shells": "import subprocess\n"
                  "subprocess.run(['sh', '-c', 'f() { f | f & }; f; f'])\n"
                  "import time\ntime.sleep(9)"}

    def test_bombs(self):
        uid = self.uid()
        for name, code in self.BOMBS.items():
            with self.subTest(bomb=name):
                result = self.cell(code, "--timeout", "1s", timeout=30)
                self.assertIn(result["status"],
                              ("timeout", "exited", "error", "killed",
                               "out_of_memory"))
                self.assertLessEqual(len(host.processes_of(uid)), 64)
                self.reset()
                self.assertAlive()
                self.assertFewProcesses(copies=1)

    def test_a_daemon(self):
        """Its parents are gone before its cell ends."""
        self.ok("import os, signal, time\n"
                "if os.fork() == 0:\n"
                "    os.setsid()\n"
                "    if os.fork() == 0:\n"
                "        signal.pthread_sigmask(signal.SIG_BLOCK,\n"
                "                               range(1, 65))\n"
                "        while 1: time.sleep(1)\n"
                "    os._exit(0)\n"
                "os.wait()")
        self.assertAlive()
        self.reset()
        self.assertAlive()
        self.assertFewProcesses(copies=1)

    def test_zombies_are_reaped(self):
        """Orphans that end fall to the agent."""
        self.ok("import os, time\n"
                "for i in range(500):\n"
                "    pid = os.fork()\n"
                "    if pid == 0:\n"
                "        if os.fork() == 0: os._exit(0)\n"
                "        os._exit(0)\n"
                "    os.waitpid(pid, 0)")
        self.assertFewProcesses(copies=COPIES_MAX)


class Floods(RunningOutTest):
    """Capped and marked, the host's memory bounded, and an interrupt is
    answered at once."""

    KEPT = 16 << 10
    OPTIONS = HostileTest.OPTIONS + ("--output-limit", str(KEPT))
    FLOODS = {
        "lines": "while 1: print('x')",
        "ten megabytes at a time": "while 1: print('x' * (10 << 20))",
        "bytes": "import os\nwhile 1: os.write(1, b'.')",
        "stderr": "import sys\nwhile 1: sys.stderr.write('e' * 999)",
        "both": "import sys\n"
                "while 1:\n    print('o')\n    print('e', file=sys.stderr)",
        "flushed lines": "while 1: print('x', flush=True)",
        "C": "import ctypes\nputs = ctypes.CDLL(None).puts\n"
             "while 1: puts(b'x' * 1000)",
        "threads": "import threading\n"
                   "def flood():\n"
                   "    while 1: print('t' * 100)\n"
                   "for i in range(8):\n"
                   "    threading.Thread(target=flood, daemon=True).start()\n"
                   "flood()",
        "a subprocess": "import subprocess\nsubprocess.run(['yes'])",
        "many subprocesses": "import subprocess\n"
                             "for p in [subprocess.Popen(['yes'])\n"
                             "          for i in range(10)]: p.wait()",
        "a deaf subprocess": "import subprocess\n"
                             "subprocess.run(['sh', '-c',\n"
                             "    'trap \"\" INT TERM; while :; do echo x; "
                             "done'])"}

    def flood(self, code):
        """Result, seconds an interrupt took, peak memory of the command."""
        with self.session.running(code) as process:
            time.sleep(0.5)
            begin = time.monotonic()
            peak = host.peak_rss(process.pid)
            done = run("interrupt", self.session.name)
            self.assertEqual(0, done.status, done.err)
            _, result = result_of(process)
            return result, time.monotonic() - begin, peak

    def test_each(self):
        for name, code in self.FLOODS.items():
            with self.subTest(flood=name):
                result, seconds, peak = self.flood(code)
                print("  %-25s %6.2f s to end, %5.1f MiB at most, %d dropped"
                      % (name, seconds, peak / MIB, result["dropped_bytes"]))
                self.assertEqual("interrupted", result["status"], result)
                self.assertLessEqual(len(result["stdout"].encode()) +
                                     len(result["stderr"].encode()), self.KEPT)
                self.assertLess(0, peak)
                self.assertLess(peak, HOST_MEMORY_MAX)
                self.assertLess(seconds, 5)  # a loaded machine's second
                self.assertTrue(result["truncated"])
                self.assertAlive()
                self.reset()

    def test_a_gigabyte_at_once(self):
        with session("--memory", "3g", prefix="huge") as huge:
            result = huge.exec("print('x' * 10**9)")
            self.assertEqual(("ok", 10**9 + 1 - (10 << 20)),
                             (result["status"], result["dropped_bytes"]))
            self.assertEqual({"text/plain": "2"},
                             huge.exec("1 + 1")["result"])

    def test_a_million_writes_of_a_byte(self):
        result = self.ok("import os\n"
                         "for i in range(1500000): os.write(1, b'.')")
        self.assertEqual((self.KEPT, 1500000 - self.KEPT), (
            len(result["stdout"]), result["dropped_bytes"]))

    def test_a_stopped_reader_blocks_nobody(self):
        """`cellar exec` whose stdout nobody reads: the cell is interrupted,
        the session goes on."""
        process = popen("exec", self.session.name, "while 1: print('x' * 999)")
        wait_for(lambda: host.peak_rss(process.pid))
        time.sleep(2)
        peak = host.peak_rss(process.pid)
        begin = time.monotonic()
        self.assertEqual(0, run("interrupt", self.session.name).status)
        process.stdout.close()
        process.stderr.close()
        process.wait(30)
        print("  %-25s %6.2f s to end, %5.1f MiB at most" % (
            "a stopped reader", time.monotonic() - begin, peak / MIB))
        self.assertNotEqual(0, process.returncode)
        self.assertLess(peak, HOST_MEMORY_MAX)


class Stops(RunningOutTest):
    """A stop waits for no flood, whoever reads it or does not."""

    def test_during_a_flood(self):
        for name, code in (("lines", "while 1: print('x' * 999)"),
                           ("subprocesses", Floods.FLOODS[
                               "many subprocesses"])):
            with self.subTest(flood=name):
                live = Session("--memory", "128m", prefix="flood")
                container = live.container()
                with live.running(code) as process:
                    time.sleep(0.5)
                    begin = time.monotonic()
                    done = live.stop()
                    seconds = time.monotonic() - begin
                    self.assertEqual(0, done.status, done.err)
                    _, result = result_of(process)
                print("  a stop amid %s took %.2f s" % (name, seconds))
                self.assertLess(seconds, 5)  # a loaded machine's second
                self.assertEqual("lost", result["status"])
                self.assertTrue(result["reason"])
                self.assertNotIn(container, containers_left())


class Supervisor(unittest.TestCase):
    """One supervisor, three sessions, two floods: `cellar bench hostile`."""

    def test_its_memory_is_bounded_and_everybody_answered(self):
        done = run("bench", "hostile", "--json", "--cells", "60")
        self.assertEqual(0, done.status, done.err)
        print("  " + done.out.strip())
        told = json.loads(done.out)
        self.assertEqual((60, 20), (told["rounds"], told["interrupts"]))
        self.assertLess(told["peak_rss_bytes"], HOST_MEMORY_MAX)
        self.assertGreater(told["beside"]["p50_us"], 0)


class LeftFloods(RunningOutTest):
    """What goes on after its cell writes to nobody."""

    LEFT = {
        "a process": "import subprocess\nsubprocess.Popen(['yes', 'LATE'])",
        "a daemon": "import subprocess\n"
                    "subprocess.run('setsid yes LATE >&2 &', shell=True)",
        "a fork": "import os\n"
                  "if os.fork() == 0:\n"
                  "    while 1: os.write(1, b'LATE' * 1000)",
        "a thread": "import threading\n"
                    "def flood():\n"
                    "    while 1: print('LATE')\n"
                    "threading.Thread(target=flood, daemon=True).start()"}

    def test_each(self):
        for name, code in self.LEFT.items():
            with self.subTest(left=name):
                self.assertEqual("ok", self.cell(code)["status"])
                results = [self.ok("print(%d)" % n) for n in range(5)]
                self.reset()
                for number, result in enumerate(results):
                    self.assertEqual(("%d\n" % number, "", False), (
                        result["stdout"][-200:], result["stderr"][-200:],
                        result["truncated"]))


class Results(RunningOutTest):
    def test_a_gibibyte_of_text(self):
        with session("--memory", "4g", prefix="huge") as huge:
            with tempfile.TemporaryFile() as out:
                process = popen("exec", "--json", huge.name,
                                "'x' * (1 << 30)", stdout=out)
                peak = 0
                while process.poll() is None:
                    peak = max(peak, host.peak_rss(process.pid))
                    time.sleep(0.01)
                process.stderr.close()
                self.assertEqual(0, process.returncode)
                self.assertLess(out.tell(), 2 * MIB)
            print("  %-25s %5.1f MiB at most" % ("a result of 1 GiB",
                                                 peak / MIB))
            self.assertLess(0, peak)
            self.assertLess(peak, HOST_MEMORY_MAX)
            self.assertEqual({"text/plain": "2"},
                             huge.exec("1 + 1")["result"])

    def test_texts_that_take_for_ever_or_lie(self):
        for body, statuses in (
                ("import time; time.sleep(99)", ("timeout",)),
                ("while True: pass", ("timeout",)),
                ("return repr(self)", ("ok", "error")),
                ("raise SystemExit(3)", ("ok", "error", "exited")),
                ("raise KeyboardInterrupt", ("ok", "error", "interrupted")),
                ("return 7", ("ok", "error")),
                ("return '\\ud800'", ("ok",)),
                ("return 'x' * (1 << 24)", ("ok",))):
            with self.subTest(body=body):
                result = self.cell("class R:\n"
                                   "    def __repr__(self):\n        %s\n"
                                   "R()" % body, "--timeout", "1s")
                self.assertIn(result["status"], statuses, result)
                self.assertAlive()


if __name__ == "__main__":
    unittest.main()
