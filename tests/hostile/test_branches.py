"""A branch against the branches beside it: they share a container, and so its
user, its process ids and its files; not globals, output, or the truth."""

import ast
import unittest

from hostile import ATTEMPT, run
import cellar_test
from branching import fork, listed
from cellar_test import Session, SessionTest, popen, result_of, wait_for

# Of the worker that VICTIM is the pid of.
REACH = """
def descriptors(victim):
    return [attempt(os.open, '/proc/%d/fd/%d' % (victim, n),
                    mode | os.O_NONBLOCK)
            for n in range(8) for mode in (os.O_RDONLY, os.O_WRONLY)]
def ended(victim):
    try:
        with open('/proc/%d/stat' % victim) as file:
            return file.read().rpartition(')')[2].split()[0] == 'Z'
    except OSError:
        return True
def insides(victim):
    names = ('mem', 'environ', 'auxv', 'pagemap', 'syscall', 'maps', 'smaps',
             'exe', 'cwd/x', 'root/x')
    return [attempt(lambda: open('/proc/%d/%s' % (victim, name), 'rb').read(1))
            for name in names] + [
           attempt(os.listdir, '/proc/%d/%s' % (victim, name))
            for name in ('fdinfo', 'map_files')] + [
           attempt(os.readlink, '/proc/%d/fd/%d' % (victim, n))
            for n in range(3)] + [
           attempt(open, '/proc/%d/%s' % (victim, name), 'wb')
           for name in ('mem', 'oom_score_adj', 'comm', 'clear_refs')]
"""

# As the relay does it: runtime-image/agent/door.h.
KNOCK = """
import array
name = b'\\0cellar-agent'
def knock(lane, send=True):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(3)
    ours, its = socket.socketpair()
    s.connect(name)
    fds = array.array('i', [its.fileno(), its.fileno()])
    if send:
        s.sendmsg([struct.pack('>I', lane)],
                  [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    its.close()
    ours.settimeout(3)
    return s.recv(1) + ours.recv(1)
"""


class BranchesTest(SessionTest):
    """`one` attacks, `two` and the root go on."""

    OPTIONS = ("--grace", "300ms", "--memory", "256m", "--pids", "96",
               "--timeout", "20s", "--output-limit", "1m")

    def setUp(self):
        self.ok(ATTEMPT + REACH + KNOCK + "canary = 'alive'")
        self.one, self.two = fork(self.session, 2)
        for branch in self.one, self.two:
            self.addCleanup(branch.stop)
        self.pids = [int(self.say(s, "os.getpid()"))
                     for s in (self.session, self.one, self.two)]

    def say(self, live, code):
        result = live.exec(code)
        self.assertEqual("ok", result["status"], result)
        return (result["result"] or {}).get("text/plain")

    def assertRefused(self, live, code, *how):
        words = ast.literal_eval(self.say(live, code))
        self.assertTrue(words)
        self.assertLessEqual(set(words), set(how), words)

    def assertUntouched(self):
        """Not one of them, beside the attacker, has noticed anything."""
        for live, pid in ((self.session, self.pids[0]),
                          (self.two, self.pids[2])):
            result = live.exec("canary, os.getpid()")
            self.assertEqual(("kept", "('alive', %d)" % pid),
                             (result["state"],
                              result["result"]["text/plain"]))


class Insides(BranchesTest):
    """Memory, descriptors, signals of another one's worker."""

    def test_its_files_in_proc(self):
        closed = "EACCES", "EPERM", "ENOENT"
        root, one, two = self.pids
        for live, victim in ((self.one, two), (self.one, root),
                             (self.session, one)):
            self.assertRefused(live, "insides(%d)" % victim, *closed)
            self.assertRefused(live, "descriptors(%d)" % victim, *closed)
        self.assertUntouched()

    def test_those_of_its_children(self):
        child = int(self.say(
            self.two, "import subprocess\nchild = subprocess.Popen("
            "['sleep', '60'])\nchild.pid"))
        for code in "insides(%d)", "descriptors(%d)":
            self.assertRefused(self.one, code % child, "EACCES", "EPERM",
                               "ENOENT")
        self.say(self.two, "child.kill()\nchild.wait()")
        self.assertUntouched()

    def test_after_a_crash_and_a_reset_it_is_as_closed(self):
        self.two.exec("os._exit(1)")
        victim = int(self.say(self.two, "os.getpid()"))
        for code in "insides(%d)", "descriptors(%d)":
            self.assertRefused(self.one, code % victim, "EACCES", "EPERM",
                               "ENOENT")
        run("reset", self.two.name)
        self.two.exec("import os\ncanary = 'alive'")
        victim = self.pids[2] = int(self.say(self.two, "os.getpid()"))
        self.assertRefused(self.one, "[attempt(os.open, '/proc/%d/fd/1', n)"
                           " for n in (0, 1)]" % victim, "EACCES", "EPERM")
        self.assertUntouched()

    def test_ptrace_and_its_relatives(self):
        self.assertRefused(
            self.one,
            "victim = %d\nbuffer = ctypes.create_string_buffer(8)\n"
            "iov = struct.pack('PN', ctypes.addressof(buffer), 8)\n"
            "fd = libc.syscall(434, victim, 0)\n"
            "[syscall(101, 16, victim, 0, 0), syscall(101, 0x4206, victim, 0,"
            " 0), syscall(310, victim, iov, 1, iov, 1, 0),"
            " syscall(311, victim, iov, 1, iov, 1, 0),"
            " syscall(312, victim, os.getpid(), 0, 0, 0),"
            " syscall(438, fd, 1, 0), syscall(424, fd, 9, None, 0),"
            " syscall(302, victim, 0, struct.pack('QQ', 0, 0), None)]"
            % self.pids[2], "EPERM", "EACCES", "ENOSYS")
        self.assertUntouched()

    def test_signals(self):
        self.say(self.two, "import threading\nstop = threading.Event()\n"
                 "thread = threading.Thread(target=stop.wait)\n"
                 "thread.start()")
        thread = self.say(self.two, "thread.native_id")
        self.assertRefused(
            self.one,
            "victims = [%d, %d, %s]\n"
            "info = struct.pack('iiii112x', 9, 0, -1, 0)\n"
            "[word for victim in victims for n in (9, 19, 2)\n"
            " for word in (attempt(os.kill, victim, n),\n"
            "  attempt(os.kill, -victim, n), syscall(200, victim, n),\n"
            "  syscall(234, victim, victim, n), syscall(129, victim, n, info),\n"
            "  syscall(234, victims[1], victim, n),\n"
            "  syscall(297, victims[1], victim, n, info))]"
            % (self.pids[0], self.pids[2], thread), "EPERM", "ESRCH")
        self.assertRefused(self.one, "[attempt(os.kill, -1, 9)]", "EPERM")
        self.say(self.two, "stop.set()\nthread.join()")
        self.assertUntouched()

    def test_priorities(self):
        for live, victim in ((self.one, self.pids[2]),
                             (self.session, self.pids[1])):
            self.assertRefused(
                live,
                "victim = %d\n"
                "[attempt(os.sched_setscheduler, victim, os.SCHED_IDLE,\n"
                "         os.sched_param(0)),\n"
                " attempt(os.sched_setparam, victim, os.sched_param(0)),\n"
                " attempt(os.sched_setaffinity, victim, {0}),\n"
                " attempt(os.setpriority, os.PRIO_PROCESS, victim, 19),\n"
                " attempt(os.setpriority, os.PRIO_PGRP, victim, 19),\n"
                " attempt(os.setpriority, os.PRIO_USER, 0, 19),\n"
                " syscall(314, victim, ctypes.create_string_buffer(64), 0),\n"
                " syscall(251, 1, victim, 3 << 13),\n"
                " syscall(251, 2, victim, 3 << 13),\n"
                " syscall(251, 3, 0, 3 << 13)]" % victim, "EPERM")
        self.assertEqual("(1, 1)", self.say(
            self.one,
            "os.sched_setaffinity(0, os.sched_getaffinity(0))\n"
            "os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0))\n"
            "os.setpriority(os.PRIO_PROCESS, os.getpid(), 1)\n"
            "os.getpriority(os.PRIO_PROCESS, 0), os.nice(0)"))
        self.assertUntouched()

    def test_signals_to_itself_are_its_own_business(self):
        self.assertEqual("[10, 10, 10]", self.say(
            self.one,
            "import threading\ngot = []\n"
            "signal.signal(signal.SIGUSR1, lambda n, f: got.append(n))\n"
            "os.kill(os.getpid(), 10)\nsignal.raise_signal(10)\n"
            "thread = threading.Thread(target=os.kill,\n"
            "                          args=(os.getpid(), 10))\n"
            "thread.start()\nthread.join()\ngot"))

    def test_the_streams_of_relays(self):
        """A process that the engine started carries another one's frames."""
        with self.two.running("import time\ntime.sleep(60)") as process:
            relays = ast.literal_eval(self.say(
                self.one,
                "import glob\n"
                "[int(p.split('/')[2]) for p in glob.glob('/proc/[0-9]*/stat')"
                " if open(p).read().rpartition(')')[2].split()[1] == '0' and"
                " open(p).read().rpartition(')')[2].split()[0] != 'Z' and"
                " not p.startswith('/proc/1/')]"))
            self.assertLessEqual(2, len(relays))
            for relay in relays:
                for code in ("insides(%d)", "descriptors(%d)",
                             "[attempt(os.kill, v, n) for n in (9, 19)"
                             " for v in (%d, )]",
                             "[attempt(os.kill, -%d, 9)]"):
                    # Its own and those that have ended meanwhile among them.
                    self.assertRefused(
                        self.one, "['ENOENT'] if ended(%d) else %s" % (
                            relay, code % relay),
                        "EACCES", "EPERM", "ENOENT", "ESRCH")
            self.assertEqual(0, run("interrupt", self.two.name).status)
            _, result = result_of(process)
        self.assertEqual("interrupted", result["status"])
        self.assertUntouched()


class Door(BranchesTest):
    """A cell that plays the relay gets nothing."""

    def test_it_is_hung_up_on(self):
        for live in self.session, self.one:
            for lane in range(4):
                for send in "True", "False":
                    self.assertRefused(
                        live, "[attempt(knock, %d, %s)]" % (lane, send),
                        "EPERM", "EPIPE", "ECONNRESET", "ECONNREFUSED",
                        "EACCES")
        self.assertUntouched()

    def test_many_knocks_keep_nobody_out(self):
        with self.one.running(
                "import threading\n"
                "def knocks():\n"
                "    while True:\n"
                "        try: knock(2, False)\n"
                "        except OSError: pass\n"
                "for _ in range(8):\n"
                "    threading.Thread(target=knocks, daemon=True).start()\n"
                "import time\ntime.sleep(60)"):
            for _ in range(3):
                self.assertUntouched()
            run("interrupt", self.one.name)


class Truth(BranchesTest):
    """Whatever one does, what is told of another is so."""

    def cell_of_two(self, attack, *options):
        """What is told of a cell of `two` during the attack of `one`."""
        mark = "/dev/shm/end-" + self.two.name
        with self.two.running(
                "import time\nprint('mine')\n"
                "while not os.path.exists(%r): time.sleep(0.01)\n"
                "canary += '!'\nprint('mine')\ncanary" % mark) as process:
            told = self.one.exec(attack, *options)
            self.session.exec("open(%r, 'w').close()" % mark)
            return told, result_of(process)[1]

    def assertWell(self, result):
        self.assertEqual(("ok", "kept", "mine\nmine\n", "'alive!'"),
                         (result["status"], result["state"],
                          result["stdout"], result["result"]["text/plain"]))

    def test_all_processes_of_the_user_are_killed(self):
        """Of another one's children at the most; its state at the most."""
        _, result = self.cell_of_two(
            "import time\n"
            "end = time.monotonic() + 2\n"
            "while time.monotonic() < end:\n"
            "    for name in os.listdir('/proc'):\n"
            "        if name.isdigit() and int(name) != os.getpid():\n"
            "            try: os.kill(int(name), 9)\n"
            "            except OSError: pass")
        self.assertWell(result)

    def test_a_bomb_of_daemons(self):
        told, result = self.cell_of_two(
            "def grow():\n"
            "    while True:\n"
            "        try:\n"
            "            if os.fork() == 0:\n"
            "                os.setsid()\n"
            "                if os.fork(): os._exit(0)\n"
            "        except OSError: pass\n"
            "grow()", "--timeout", "1s")
        self.assertEqual("timeout", told["status"])
        if result["status"] == "ok":
            self.assertWell(result)
        else:  # what can't be told apart is ended together, and said
            self.assertEqual("killed", result["status"])
            self.assertIn(result["state"], ("restored", "fresh"))
        self.assertEqual("2", self.say(self.two, "1 + 1"))
        self.assertAlive()

    def test_a_flood(self):
        told, result = self.cell_of_two(
            "while True: os.write(1, b'f' * 65536)", "--timeout", "2s")
        self.assertEqual("timeout", told["status"])
        self.assertWell(result)

    def test_all_the_memory(self):
        told, result = self.cell_of_two(
            "hog = []\nwhile True: hog.append(bytearray(1 << 22))")
        self.assertEqual("out_of_memory", told["status"])
        self.assertWell(result)

    def test_files_and_processes_run_out(self):
        told, result = self.cell_of_two(
            "kept = []\n"
            "try:\n"
            "    while True: kept.append(open('/dev/null'))\n"
            "except OSError: pass\n"
            "kept = []\n"
            "try:\n"
            "    with open('/tmp/big', 'wb') as f:\n"
            "        while True: f.write(bytes(1 << 20))\n"
            "except OSError: pass\n"
            "os.unlink('/tmp/big')\n'done'")
        self.assertEqual("'done'", told["result"]["text/plain"])
        self.assertWell(result)

    def test_records_are_of_the_own_cell(self):
        """An end that one writes on its own channel ends no other's cell."""
        _, result = self.cell_of_two(
            "import stat\n"
            "record = b'\\0\\0\\0\\x0dE' + bytes(13)\n"
            "for fd in range(3, 64):\n"
            "    try:\n"
            "        if stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
            "            os.write(fd, record * 3)\n"
            "    except OSError: pass")
        self.assertWell(result)


# Waits for the request for a copy in its worker's place, and gives the copy's
# socket to another branch. A child of os.fork() has no control socket.
INTERCEPT = """
import array, time
worker = os.getpid()
if libc.syscall(57) == 0:  # fork
    try:
        while not os.path.exists('/dev/shm/ended'): time.sleep(0.01)
        os.kill(worker, signal.SIGSTOP)
        open('/dev/shm/stopped', 'w').close()
        control = socket.socket(fileno=3)
        _, fds, _, _ = socket.recv_fds(control, 64, 4)
        friend = socket.socket(socket.AF_UNIX)
        friend.connect('/tmp/friend')
        socket.send_fds(friend, [b'x'], fds)
        os.kill(worker, signal.SIGCONT)
    finally:
        os._exit(0)
"""
FRIEND = """
import time
door = socket.socket(socket.AF_UNIX)
door.bind('/tmp/friend')
door.listen(1)
_, fds, _, _ = socket.recv_fds(door.accept()[0], 1, 4)
os.write(fds[0], bytes(4) + b'Z')
time.sleep(60)
"""


class Conspiring(SessionTest):
    """Two branches against the agent; a third one goes on."""

    OPTIONS = ("--checkpoint", "off")

    def test_a_copy_that_is_another_ones_worker(self):
        self.ok(ATTEMPT + "canary = 'alive'")
        one, two = fork(self.session, 2)
        for branch in one, two:
            self.addCleanup(branch.stop)
        name = cellar_test.unique()
        with two.running(FRIEND) as process:
            self.ok(INTERCEPT)
            one.exec("open('/dev/shm/ended', 'w').close()")
            wait_for(lambda: self.session.has_file("/dev/shm/stopped"))
            done = run("fork", self.session.name, name)
            self.assertEqual((3, ""), (done.status, done.out))
            self.assertIn("another one's process", done.err)
            _, result = result_of(process)
        self.assertEqual(("killed", "fresh"),
                         (result["status"], result["state"]))
        self.assertNotIn(name, listed())
        for live in self.session, one:
            result = live.exec("canary")
            self.assertEqual(("kept", {"text/plain": "'alive'"}),
                             (result["state"], result["result"]))
        self.assertEqual({"text/plain": "2"}, two.exec("1 + 1")["result"])


class Idle(BranchesTest):
    def test_many_that_nobody_opens(self):
        """They cost what they are, and go with the others."""
        live = Session("--pids", "64", "--memory", "128m")
        self.addCleanup(live.stop)
        live.exec("canary = 'alive'")
        many = fork(live, 16)
        self.assertEqual("'alive'", self.say(many[15], "canary"))
        result = live.exec("import ctypes; ctypes.string_at(0)")
        self.assertEqual(("killed", "restored"),
                         (result["status"], result["state"]))
        self.assertEqual("'alive'", self.say(many[0], "canary"))
        container = live.container()
        stops = [popen("stop", one.name) for one in [live] + many]
        for process in stops:
            _, err = process.communicate(timeout=60)
            self.assertEqual(0, process.returncode, err)
        self.assertNotIn(container, cellar_test.containers_left())
        self.assertFalse({one.name for one in many} & set(listed()))


if __name__ == "__main__":
    unittest.main()
