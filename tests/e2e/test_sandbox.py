"""Sessions with a kernel of their own: gVisor's runsc on the oci engine. What
is in force outside of it is looked at, what it can't enforce is refused unless
it is allowed to be missing by name, and nothing of it is left."""

import glob
import json
import os
import unittest

os.environ.update(CELLAR_ENGINE="oci", CELLAR_RUNTIME="runsc")

import cellar_test
from cellar_test import SessionTest, run

MISSING = ("agent", "tmpfs")
CGROUP = "/sys/fs/cgroup"


def without_defaults(*arguments):
    return run(*arguments, env=dict(cellar_test.ENVIRONMENT,
                                    XDG_CONFIG_HOME="/nonexistent"))


def allow(*names):
    return [word for name in names for word in ("--allow", name)]


def status_of(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1)
                    for line in file if ":\t" in line)


def arguments_of(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read().decode().split("\0")
    except OSError:
        return []


def processes_of(container):
    """All of this machine whose arguments name it."""
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and
            any(container in word for word in arguments_of(int(pid)))]


def groups_of(container):
    return glob.glob(CGROUP + "/cellar/" + container) + \
        glob.glob(CGROUP + "/*/cellar/" + container)


class Refused(unittest.TestCase):
    def test_what_is_missing_is_refused_by_name(self):
        for name in MISSING:
            others = [other for other in MISSING if other != name]
            with self.subTest(missing=name):
                done = without_defaults("start", "--runtime", "runsc",
                                        *allow(*others), "lab")
                self.assertEqual(3, done.status, done.err)
                self.assertIn('"%s"' % name, done.err)
                self.assertIn("--allow %s" % name, done.err)
        self.assertEqual([], cellar_test.containers_left())

    def test_doctor_tells_it(self):
        rows = {row["name"]: row for row in json.loads(without_defaults(
            "doctor", "--json", "--runtime", "runsc").out)}
        for name in ("user", "init", "capabilities", "seccomp", "read_only",
                     "mounts", "network", "namespaces", "swap", "memory",
                     "pids", "cpu", "ulimits", "sysctls"):
            self.assertEqual("ok", rows[name]["result"], rows[name])
        for name in MISSING:
            self.assertEqual("fail", rows[name]["result"], rows[name])

    def test_a_runtime_that_is_not_there_is_named(self):
        done = without_defaults("start", "--runtime", "runsc-of-nobody", "lab")
        self.assertEqual(2, done.status)
        self.assertIn("runsc-of-nobody", done.err)


class Inside(SessionTest):
    def test_the_kernel_is_another_one(self):
        self.assertNotEqual(repr(os.uname().release),
                            self.value("import os; os.uname().release"))

    def test_nobody_is_root_and_calls_are_filtered(self):
        told = self.out("print(open('/proc/self/status').read())")
        fields = dict(line.split(":\t", 1) for line in told.splitlines()
                      if ":\t" in line)
        self.assertEqual({str(self.session.uid())},
                         set(fields["Uid"].split()))
        self.assertEqual("2", fields["Seccomp"])
        for name in "CapInh", "CapPrm", "CapEff", "CapBnd":
            self.assertEqual(0, int(fields[name], 16), name)

    def test_what_is_not_on_the_list_is_refused(self):
        self.assertEqual("[1, 1, 1, 1]", self.value(
            "import ctypes\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "def errno(*call):\n"
            "    return ctypes.get_errno() if libc.syscall(*call) < 0 else 0\n"
            # shmget, ptrace, mount, unshare
            "[errno(29, 0, 4096, 0o1600), errno(101, 0, 0, 0, 0),\n"
            " errno(165, 0, 0, 0, 0, 0), errno(272, 0x10000000)]"))

    def test_only_its_own_places_can_be_written(self):
        self.assertEqual("['/tmp', '/dev/shm']", self.value(
            "import os\n"
            "found = []\n"
            "for place in ('', '/usr', '/etc', '/cellar', '/var/tmp', '/proc',\n"
            "              '/sys', '/dev', '/tmp', '/dev/shm'):\n"
            "    try: open(place + '/stain', 'w').close(); found.append(place)\n"
            "    except OSError: pass\n"
            "found"))

    def test_there_is_no_network(self):
        self.assertEqual("['lo']", self.value(
            "import socket; [name for _, name in socket.if_nameindex()]"))
        self.assertEqual("OSError", self.cell(
            "import socket\n"
            "try: socket.create_connection(('1.1.1.1', 53), 2)\n"
            "except OSError: raise OSError('none') from None")
            ["error"]["name"])

    def test_threads_and_processes_run(self):
        self.assertEqual("[1, 4, 'yes\\n']", self.value(
            "import subprocess, threading\n"
            "done = []\n"
            "t = threading.Thread(target=done.append, args=(1,))\n"
            "t.start(); t.join()\n"
            "done + [2 ** 2, subprocess.run(['echo', 'yes'], text=True,\n"
            "                               capture_output=True).stdout]"))

    def test_processes_have_a_limit(self):
        self.assertEqual("'BlockingIOError'", self.value(
            "import os, resource, signal\n"
            "resource.setrlimit(resource.RLIMIT_NPROC, (24, 24))\n"
            "pids = []\n"
            "word = 'none'\n"
            "try:\n"
            "    for _ in range(30):\n"
            "        pid = os.fork()\n"
            "        if not pid: signal.pause()\n"
            "        pids.append(pid)\n"
            "except OSError as e: word = type(e).__name__\n"
            "for pid in pids:\n"
            "    os.kill(pid, 9); os.waitpid(pid, 0)\n"
            "word"))

    def test_a_lost_worker_is_restored(self):
        self.ok("kept = 41")
        result = self.cell("import os\nos._exit(3)")
        self.assertEqual(("exited", "restored"),
                         (result["status"], result["state"]))
        self.assertEqual("42", self.value("kept + 1"))

    def test_the_agents_name_is_taken(self):
        self.assertEqual("OSError", self.cell(
            "import socket\n"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "s.bind('\\0cellar-agent')")["error"]["name"])

    def test_a_branch_is_another_stream(self):
        self.ok("x = 5")
        other = self.session.name + "-other"
        self.assertEqual(0, run("fork", self.session.name, other).status)
        self.addCleanup(run, "stop", other)
        self.assertEqual("6\n", run("exec", other, "x + 1").out)
        self.assertEqual("4", self.value("x - 1"))


class Outside(SessionTest):
    OPTIONS = ("--memory", "300m", "--pids", "40")

    def setUp(self):
        self.container = self.session.container()
        self.kernel = cellar_test.first_process(self.container)

    def test_its_kernel_is_nobody_here(self):
        fields = status_of(self.kernel)
        self.assertNotIn("0", fields["Uid"].split())
        self.assertEqual("", fields["Groups"].strip())
        self.assertEqual(("1", "2"), (fields["NoNewPrivs"],
                                      fields["Seccomp"]))
        for name in "ipc", "mnt", "net", "user", "uts":
            self.assertNotEqual(
                os.readlink("/proc/self/ns/" + name),
                os.readlink("/proc/%d/ns/%s" % (self.kernel, name)), name)

    def test_its_groups_have_limits(self):
        usage, = json.loads("[%s]" % run("stats", "--json", "--count", "1",
                                         self.session.name).out)
        self.assertEqual(300 << 20, usage["memory_limit_bytes"])
        self.assertGreater(usage["memory_bytes"], 0)
        self.assertGreater(usage["pids_limit"], 40)

    def test_all_of_it_is_in_them(self):
        for pid in processes_of(self.container):
            with open("/proc/%d/cgroup" % pid, encoding="ascii") as file:
                self.assertIn(self.container, file.read(), arguments_of(pid))


class Ends(unittest.TestCase):
    def assertGone(self, container):
        cellar_test.wait_for(lambda: not processes_of(container) and
                             not groups_of(container) and
                             not cellar_test.is_there(container))

    def test_stopping_leaves_nothing(self):
        with cellar_test.session() as lab:
            container = lab.container()
            self.assertTrue(processes_of(container))
            self.assertTrue(groups_of(container))
        self.assertGone(container)

    def test_one_that_is_killed_is_lost(self):
        with cellar_test.session() as lab:
            container = lab.container()
            with lab.running("import time\ntime.sleep(60)") as process:
                os.kill(cellar_test.first_process(container), 9)
                _, result = cellar_test.result_of(process)
            self.assertEqual("lost", result["status"])
        run("ps")
        self.assertGone(container)

    def test_too_much_memory_ends_it_and_is_named(self):
        with cellar_test.session("--memory", "200m") as lab:
            container = lab.container()
            result = lab.exec("block = bytearray(400 << 20)")
            self.assertEqual("lost", result["status"])
            self.assertIn("memory is limited to 200 MiB", result["reason"])
        run("ps")
        self.assertGone(container)


if __name__ == "__main__":
    unittest.main()
