"""Frozen copies are of the session's own user: what a cell can do to them."""

import unittest

from copies import CopiesTest
from agent import KILLED, OK, TIMEOUT
from restoring import FATAL, FRESH, KEPT, RESTORED


class Signals(CopiesTest):
    NUMBERS = "(0, 1, 9, 15, 18, 19, 29, 34)"
    ALL = ("[(pid, n, word) for pid in copies() for n in %s\n"
           "                for word in signals(pid, n)]" % NUMBERS)

    def test_of_every_kind(self):
        agent = self.attacked()
        self.assertValue(agent, "settled(3)", "3")
        self.assertDenied(agent, self.ALL, "EPERM")
        self.assertValue(agent, "settled(3)", "3")
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
                self.assertValue(agent, "settled(3), attempt(\n"
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
            agent, "for pid in before:\n"
                   "    _ = signals(pid, 18), signals(pid, 10)\n"
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


if __name__ == "__main__":
    unittest.main()
