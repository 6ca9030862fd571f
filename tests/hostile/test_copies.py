"""Frozen copies are of the session's own user: what a cell can do to them, and
that they are there when they are needed."""

import unittest

from hostile import ATTEMPT
from agent import ERROR, EXITED, KILLED, OK, OUT_OF_MEMORY, TIMEOUT
from restoring import (FATAL, FRESH, KEPT, MANUAL, RESTORED, Fatal,
                       RestoreTest)

# Processes whose parent is the agent: copies, when nobody was left behind. A
# copy that is just being made is stopped in a moment, one that is given up is
# gone.
COPIES = """
import time
def stat(pid):
    with open('/proc/%d/stat' % pid) as f:
        return f.read().rpartition(')')[2].split()
def processes():
    return [int(d) for d in os.listdir('/proc')
            if d.isdigit() and int(d) not in (1, os.getpid())]
def copies():
    while True:
        try:
            found = [pid for pid in processes() if stat(pid)[1] == '1']
            if all(stat(pid)[0] == 'T' for pid in found):
                return found
        except OSError: pass
        time.sleep(0.001)
"""

# Every way to have a signal sent to a process, as one word each.
SIGNALS = """
import fcntl
def owned(pid, how):
    '''As the owner of a file, when that becomes ready.'''
    a, b = socket.socketpair()
    with a, b:
        word = how(a, pid)
        fcntl.fcntl(a, 10, 9)
        fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        b.send(b'x')
        return word
def signals(pid, number):
    info = ctypes.create_string_buffer(struct.pack('iii', number, 0, -1), 128)
    return [
        attempt(os.kill, pid, number),
        attempt(os.killpg, pid, number),
        attempt(os.kill, -1, number),
        syscall(62, pid | 1 << 32, number),
        syscall(62, ctypes.c_long(-pid), number),
        syscall(200, pid, number),
        syscall(234, pid, pid, number),
        syscall(234, os.getpid(), pid, number),
        syscall(234, pid, os.getpid(), number),
        syscall(129, pid, number, info),
        syscall(297, pid, pid, number, info),
        attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), number)),
        attempt(lambda: signal.pidfd_send_signal(
            os.open('/proc/%d' % pid, os.O_RDONLY), number)),
        owned(pid, lambda a, p: attempt(fcntl.fcntl, a, fcntl.F_SETOWN, p)),
        owned(pid, lambda a, p: attempt(fcntl.fcntl, a, fcntl.F_SETOWN, -p)),
        owned(pid, lambda a, p: attempt(
            fcntl.fcntl, a, 15, struct.pack('ii', 1, p))),
        owned(pid, lambda a, p: attempt(
            fcntl.ioctl, a, 0x8901, struct.pack('i', p))),
        owned(pid, lambda a, p: attempt(
            fcntl.ioctl, a, 0x8902, struct.pack('i', p)))]
"""


class CopiesTest(RestoreTest):
    """A session with three copies: a named one and two automatic ones."""

    OPTIONS = "--memory", "256m", "--memory-swap", "256m"

    def attacked(self, *options, **more):
        agent = self.live(*options, **more)
        self.ok(agent, "x = 'named'" + ATTEMPT + COPIES + SIGNALS)
        self.must(agent, "checkpoint", "named")
        self.ok(agent, "x = 'older'")
        self.ok(agent, "x = 'last'")
        return agent

    def words(self, agent, code):
        self.copies(agent)  # the last one is there, and an older one gone
        words = eval(self.value(agent, code), {"__builtins__": {}})
        self.assertTrue(words)
        return words

    def assertDenied(self, agent, code, *how):
        """Every word of the list that `code` makes is one of `how`."""
        for word in self.words(agent, code):
            self.assertIn(word[-1] if isinstance(word, tuple) else word, how)

    def assertWhole(self, agent):
        """They wake: the last one, and the one that has a name."""
        good = self.ok(agent, "x = 'good'").cell
        self.assertRestored(agent, FATAL["exit"], good)
        self.assertValue(agent, "x", "'good'")
        self.must(agent, "restore", "named")
        self.assertValue(agent, "x", "'named'")


class Signals(CopiesTest):
    NUMBERS = "(0, 1, 9, 15, 18, 19, 29, 34)"
    ALL = ("[(pid, n, word) for pid in copies() for n in %s\n"
           "                for word in signals(pid, n)]" % NUMBERS)

    def test_of_every_kind(self):
        agent = self.attacked()
        self.assertValue(agent, "len(copies())", "3")
        self.assertDenied(agent, self.ALL, "EPERM")
        self.assertValue(agent, "len(copies())", "3")
        self.assertWhole(agent)

    def test_from_a_child_and_from_one_that_left_its_session(self):
        agent = self.attacked()
        for leave in "pass", "os.setsid()", "os.setpgid(0, 0)":
            with self.subTest(leave=leave):
                self.assertDenied(
                    agent,
                    "r, w = os.pipe()\n"
                    "targets = copies()\n"
                    "if os.fork() == 0:\n"
                    "    %s\n"
                    "    copies = lambda: targets\n"
                    "    words = %s\n"
                    "    os.write(w, repr({e[-1] for e in words}).encode())\n"
                    "    os._exit(0)\n"
                    "_ = os.wait()\n"
                    "os.close(w)\n"
                    "list(eval(os.read(r, 4096)))" % (leave, self.ALL),
                    "EPERM")
        self.assertWhole(agent)

    def test_from_an_orphan_that_goes_on_for_ever(self):
        """It kills every number that it has not seen at first, so also copies
        that are just being made: these are lost, and the others stay."""
        agent = self.attacked()
        self.ok(agent, "if os.fork() == 0:\n"
                       "    os.setsid()\n"
                       "    while True:\n"
                       "        for pid in processes():\n"
                       "            if stat(pid)[1] == '1':\n"
                       "                attempt(os.kill, pid, 9)\n"
                       "                attempt(os.kill, pid, 18)")
        done = self.lose(agent, FATAL["a kill"])
        self.assertEqual((KILLED, RESTORED), done.ending)
        self.assertIn(done.restored_from, (2, 3, 4))
        self.assertWhole(agent)

    def test_from_programs(self):
        agent = self.attacked()
        self.assertDenied(
            agent,
            "import subprocess\n"
            "[subprocess.run(['sh', '-c', 'kill -%s %s%d && echo allowed ||'\n"
            "                 ' echo refused' % (n, sign, pid)], text=True,\n"
            "                capture_output=True).stdout.strip()\n"
            " for pid in copies() for n in (9, 'CONT')\n"
            " for sign in ('', '-- -')]", "refused")
        self.assertDenied(
            agent,
            "[subprocess.run(['sh', '-c', 'kill -9 -1']).returncode\n"
            " and 'refused']", "refused")
        self.assertWhole(agent)

    def test_of_a_copy_that_has_become_the_worker(self):
        """It is a process like any other, to itself and to its children."""
        agent = self.attacked()
        self.assertRestored(agent, FATAL["exit"], 3)
        done = agent.run("import os\nos.kill(os.getpid(), 9)")
        self.assertEqual((KILLED, RESTORED, 9), (*done.ending, done.code))
        done = agent.run("if os.fork() == 0:\n"
                         "    os.kill(os.getppid(), 9)\n"
                         "    os._exit(0)\n"
                         "time.sleep(99)")
        self.assertEqual((KILLED, RESTORED, 9), (*done.ending, done.code))
        self.assertWhole(agent)


class Insides(CopiesTest):
    def test_files_in_proc(self):
        agent = self.attacked()
        self.assertDenied(
            agent,
            "[(pid, name, attempt(open, '/proc/%d/%s' % (pid, name), mode))\n"
            " for pid in copies() for mode in ('rb', 'r+b') for name in\n"
            " ('mem', 'environ', 'maps', 'smaps', 'pagemap', 'auxv', 'io',\n"
            "  'syscall', 'stack', 'task/%d/mem' % pid, 'clear_refs',\n"
            "  'fd/0', 'fd/1', 'fd/3', 'fd/4', 'fd/5', 'exe')]",
            "EACCES", "EPERM", "ENOENT")
        self.assertDenied(
            agent,
            "[(pid, name, attempt(os.listdir, '/proc/%d/%s' % (pid, name)))\n"
            " for pid in copies()\n"
            " for name in ('fd', 'fdinfo', 'root', 'cwd', 'map_files')]",
            "EACCES", "EPERM")
        self.assertDenied(
            agent,
            "[(pid, name, attempt(open, '/proc/%d/%s' % (pid, name), 'w'))\n"
            " for pid in copies()\n"
            " for name in ('oom_score_adj', 'oom_adj', 'comm', 'autogroup',\n"
            "              'timerslack_ns', 'coredump_filter', 'loginuid')]",
            "EACCES", "EPERM", "ENOENT")
        self.assertWhole(agent)

    def test_ptrace_memory_and_limits(self):
        agent = self.attacked()
        self.assertDenied(
            agent,
            "buffer = ctypes.create_string_buffer(8)\n"
            "iov = struct.pack('PN', ctypes.addressof(buffer), 8)\n"
            "far = struct.pack('PN', id(None), 8)\n"
            "zero = struct.pack('QQ', 0, 0)\n"
            "words = []\n"
            "for pid in copies():\n"
            "    words += [syscall(101, 16, pid, 0, 0),\n"
            "              syscall(101, 0x4206, pid, 0, 0),\n"
            "              syscall(310, pid, iov, 1, far, 1, 0),\n"
            "              syscall(311, pid, iov, 1, far, 1, 0),\n"
            "              syscall(312, pid, os.getpid(), 0, 0, 0),\n"
            "              syscall(438, os.pidfd_open(pid), 3, 0),\n"
            "              syscall(440, os.pidfd_open(pid), iov, 1, 21, 0),\n"
            "              syscall(256, pid, 64, zero, zero)]\n"
            "    words += [syscall(302, pid, n, zero, None)\n"
            "              for n in range(16)]\n"
            "words", "EPERM", "EACCES", "ENOSYS")
        self.assertWhole(agent)

    def test_scheduling(self):
        """A copy that is starved would not wake in time."""
        agent = self.attacked()
        self.assertDenied(
            agent,
            "one = ctypes.c_ulong(1)\n"
            "idle = struct.pack('IIQiIQQQ', 48, 5, 0, 0, 0, 0, 0, 0)\n"
            "words = []\n"
            "for pid in copies():\n"
            "    words += [syscall(144, pid, 5, struct.pack('i', 0)),\n"
            "              syscall(142, pid, struct.pack('i', 0)),\n"
            "              syscall(314, pid, idle, 0),\n"
            "              syscall(203, pid, 8, ctypes.byref(one)),\n"
            "              syscall(141, 0, pid, 19),\n"
            "              syscall(141, 1, pid, 19),\n"
            "              syscall(141, 2, os.getuid(), 19),\n"
            "              syscall(251, 1, pid, 3 << 13),\n"
            "              syscall(251, 2, pid, 3 << 13),\n"
            "              syscall(251, 3, os.getuid(), 3 << 13)]\n"
            "words", "EPERM")
        self.assertValue(
            agent, "os.sched_setaffinity(0, os.sched_getaffinity(0)),\\\n"
                   "os.sched_setaffinity(os.getpid(), {*range(64)}),\\\n"
                   "os.nice(1), os.getpriority(os.PRIO_PROCESS, 0),\\\n"
                   "os.setpriority(os.PRIO_PROCESS, os.getpid(), 2)",
            "(None, None, 1, 1, None)")
        self.assertWhole(agent)


class Allowed(CopiesTest):
    """Signals that programs live by go on working."""

    def test_to_children(self):
        agent = self.attacked()
        self.assertValue(
            agent,
            "import subprocess\n"
            "def ends(stop, **more):\n"
            "    with subprocess.Popen(['sleep', '99'], **more) as p:\n"
            "        stop(p)\n"
            "        return p.wait()\n"
            "[ends(lambda p: p.terminate()), ends(lambda p: p.kill()),\n"
            " ends(lambda p: p.send_signal(10)),\n"
            " ends(lambda p: os.kill(p.pid, 9)),\n"
            " ends(lambda p: os.killpg(p.pid, 15), start_new_session=True),\n"
            " ends(lambda p: subprocess.run('kill %d' % p.pid, shell=True)),\n"
            " ends(lambda p: (os.kill(p.pid, 19), os.kill(p.pid, 18),\n"
            "                 os.kill(p.pid, 9)))]",
            "[-15, -9, -10, -9, -15, -15, -9]")
        self.assertValue(agent, "subprocess.run('kill -9 $$', shell=True)"
                                ".returncode", "-9")
        self.assertValue(
            agent, "try: subprocess.run(['sleep', '99'], timeout=0.1)\n"
                   "except subprocess.TimeoutExpired as e: word = 'timeout'\n"
                   "word", "'timeout'")
        self.assertWhole(agent)

    def test_to_itself_and_its_threads(self):
        agent = self.attacked()
        self.assertValue(
            agent,
            "import threading\n"
            "got = []\n"
            "signal.signal(signal.SIGUSR1, lambda n, f: got.append(n))\n"
            "signal.raise_signal(signal.SIGUSR1)\n"
            "os.kill(os.getpid(), signal.SIGUSR1)\n"
            "signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)\n"
            "stop = threading.Event()\n"
            "t = threading.Thread(target=stop.wait)\n"
            "t.start()\n"
            "signal.pthread_kill(t.ident, signal.SIGUSR1)\n"
            "time.sleep(0.01)\n"
            "stop.set(); t.join()\n"
            "signal.setitimer(signal.ITIMER_REAL, 0)\n"
            "os.kill(0, 0)\n"
            "len(got)", "4")
        self.assertRestored(agent, FATAL["abort"], agent.cells)
        self.assertWhole(agent)

    def test_pools(self):
        agent = self.attacked()
        self.assertValue(
            agent,
            "import multiprocessing\n"
            "pool = multiprocessing.get_context('fork').Pool(3)\n"
            "values = pool.map(abs, range(-5, 0))\n"
            "pool.terminate(); pool.join()\n"
            "p = multiprocessing.get_context('fork').Process(\n"
            "    target=time.sleep, args=(99,))\n"
            "p.start(); p.kill(); p.join()\n"
            "values, p.exitcode", "([5, 4, 3, 2, 1], -9)")
        self.assertWhole(agent)

    def test_to_adopt_orphans(self):
        """Copies are nobody's orphans: neither their ends nor they themselves
        are found by a program that waits for all that fall to it."""
        agent = self.attacked()
        self.ok(agent, "assert libc.prctl(36, 1, 0, 0, 0) == 0")
        for _ in range(2):
            for _ in range(5):
                self.copies(agent)
                self.assertValue(agent, "len(copies()), attempt(\n"
                                        " os.waitpid, -1, os.WNOHANG)",
                                 "(3, 'ECHILD')")
            self.assertValue(
                agent, "r, w = os.pipe()\n"
                       "if os.fork() == 0:\n"
                       "    if os.fork() == 0:\n"
                       "        time.sleep(0.05)\n"
                       "        os.write(w, b'%d' % os.getpid())\n"
                       "        os._exit(5)\n"
                       "    os._exit(0)\n"
                       "_ = os.wait()\n"
                       "os.wait() == (int(os.read(r, 9)), 5 << 8)", "True")
            self.assertRestored(agent, FATAL["exit"], agent.cells)


class Frozen(CopiesTest):
    """A copy does nothing while it is frozen, whatever its program left to be
    done."""

    LEFT = """
import atexit, weakref
def ran(*_):
    with open('/tmp/ran', 'a') as f:
        f.write('%d\\n' % os.getpid())
for number in set(range(1, 65)) - {2, 9, 17, 19, 32, 33}:
    signal.signal(number, ran)
atexit.register(ran)
class Gone: pass
gone = Gone()
_ = weakref.finalize(gone, ran)
for timer in 0, 1, 2:
    signal.setitimer(timer, 0.005, 0.005)
def runners():
    with open('/tmp/ran') as f:
        return {int(line) for line in f}
def doings(pid):
    '''Its state, what it touched and ran, how often it was awake.'''
    with open('/proc/%d/status' % pid) as f:
        switches = [line for line in f if 'ctxt' in line]
    fields = stat(pid)
    return fields[0], fields[7:15], fields[20:22], switches
"""

    def test_runs_nothing(self):
        agent = self.attacked()
        self.ok(agent, self.LEFT)
        self.must(agent, "checkpoint", "left")
        self.copies(agent)
        self.ok(agent, "before = {pid: doings(pid) for pid in copies()}")
        self.assertValue(
            agent, "for pid in before: _ = signals(pid, 18), signals(pid, 10)\n"
                   "end = time.monotonic() + 0.3\n"
                   "while time.monotonic() < end: pass\n"
                   "after = {pid: doings(pid) for pid in before\n"
                   "         if pid in copies()}\n"
                   "len(after) > 1, [before[pid] for pid in after] ==\\\n"
                   " [*after.values()], runners() == {os.getpid()}",
            "(True, True, True)")
        self.ok(agent, "me = os.getpid()")
        for name in "left", "named":
            self.must(agent, "drop", name)
        self.assertValue(agent, "runners() == {me}", "True")

    def test_of_what_was_left_only_handlers_wake_with_it(self):
        """Timers are no forked process's."""
        agent = self.attacked()
        self.ok(agent, self.LEFT + "me = os.getpid()\n"
                       "while not os.path.exists('/tmp/ran'): pass")
        self.assertRestored(agent, FATAL["a kill"], agent.cells)
        self.assertValue(agent, "time.sleep(0.1)\n"
                                "os.getpid() == me, runners() == {me},\\\n"
                                "[signal.getitimer(n)[0] for n in range(3)]",
                         "(False, True, [0.0, 0.0, 0.0])")
        self.assertValue(agent, "os.kill(os.getpid(), 10)\n"
                                "time.sleep(0.01)\n"
                                "runners() == {me, os.getpid()}", "True")


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


class Forged(CopiesTest):
    """FROZEN, said by others than a copy."""

    SAY = ("def say():\n"
           "    said = 0\n"
           "    for fd in range(3, 64):\n"
           "        try:\n"
           "            s = socket.socket(fileno=fd)\n"
           "        except OSError: continue\n"
           "        try: said += s.send(b'\\0\\0\\0\\0Z', 0x40)\n"
           "        except OSError: pass\n"
           "        s.detach()\n"
           "    return said\n")

    def test_by_a_cell_that_finds_only_its_own_channel(self):
        agent = self.attacked()
        good = agent.cells
        done = agent.run(self.SAY + "_ = say(); time.sleep(99)")
        self.assertEqual((KILLED, RESTORED, good),
                         (*done.ending, done.restored_from))
        self.assertWhole(agent)

    def test_by_the_worker_itself(self):
        """Code of the cell's that runs while the worker looks whether it may
        be copied: then the socket is there."""
        agent = self.attacked()
        agent.run(self.SAY +
                  "class Key(str):\n"
                  "    __hash__ = lambda self: hash('jaxlib')\n"
                  "    def __eq__(self, other):\n"
                  "        say()\n"
                  "        return False\n"
                  "sys.modules[Key('jaxlib')] = None")
        self.mend(agent)

    def test_by_the_process_in_between(self):
        """The C library's handlers of a fork are a cell's to set."""
        agent = self.attacked()
        self.ok(agent, self.SAY +
                "handler = ctypes.CFUNCTYPE(None)(lambda: say() and None)\n"
                "_ = libc.__register_atfork(\n"
                "    ctypes.cast(handler, ctypes.c_void_p), None, None, None)")
        self.mend(agent)

    def mend(self, agent):
        """The session may lose its worker now or at any time; every cell has
        an end that is told, and the named checkpoint is there."""
        for _ in range(4):
            done = agent.run("y = 1", timeout_ms=500)
            self.assertIn(done.status, (OK, TIMEOUT, KILLED))
            self.assertIn(done.state, (KEPT, RESTORED, FRESH))
        agent.say("list")
        agent.wait("copies")
        agent.say("reset")
        agent.wait("ready")
        self.ok(agent, "x = 1")
        self.assertRestored(agent, FATAL["exit"], agent.cells)
        self.assertValue(agent, "x", "1")


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
        agent = self.attacked("--memory", "128m", "--memory-swap", "128m")
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
