"""The oci engine on a machine with others on it: what a session could use up
for all, what it leaves behind, and what another user of the host gets at."""

import glob
import json
import os
import shutil
import stat
import subprocess
import tempfile
import unittest

os.environ["CELLAR_ENGINE"] = "oci"

from hostile import HostileTest, run  # noqa: E402
import cellar_test  # noqa: E402
import host  # noqa: E402
from cellar_test import STATE_DIR, labels  # noqa: E402

SOMEBODY = 65534
AS_SOMEBODY = ["setpriv", "--reuid", str(SOMEBODY), "--regid", str(SOMEBODY),
               "--clear-groups", "--"]

# As many terminals as there are, held by several processes; how many it were,
# and why no more.
TERMINALS = """
import errno, os, signal
def hoard():
    count = 0
    while True:
        try: os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)
        except OSError as e: return '%d %s' % (count, errno.errorcode[e.errno])
        count += 1
told, children = [], []
for _ in range(6):
    a, b = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(b, hoard().encode())
        signal.pause()
    told.append(os.read(a, 64).decode())
    children.append(child)
"""


def terminals():
    with open("/proc/sys/kernel/pty/nr", encoding="ascii") as file:
        return int(file.read())


class Terminals(HostileTest):
    def test_one_session_does_not_take_all_there_are(self):
        before = terminals()
        told = eval(self.value(TERMINALS + "told"), {"__builtins__": {}})
        self.assertIn("ENOSPC", [words.split()[1] for words in told])
        self.assertLess(terminals() - before, 100)
        self.assertEqual("ok", self.bystander.exec(
            "import os\nfor fd in os.openpty(): os.close(fd)")["status"])
        self.ok("for child in children:\n"
                "    os.kill(child, signal.SIGKILL)\n"
                "    os.waitpid(child, 0)")


class Watching(HostileTest):
    def test_who_uses_the_machines_files_is_not_told(self):
        """/usr is everybody's: what is run, and what others import."""
        self.assertRefused(
            "import fcntl\n"
            "def watched(call):\n"
            "    ctypes.set_errno(0)\n"
            "    return ('allowed' if call(0) >= 0 else\n"
            "            errno.errorcode[ctypes.get_errno()])\n"
            "folder = os.open('/usr/bin', os.O_RDONLY)\n"
            "[watched(libc.inotify_init), watched(libc.inotify_init1),\n"
            " attempt(fcntl.fcntl, folder, fcntl.F_NOTIFY, fcntl.DN_ACCESS),\n"
            " syscall(300, 0, os.O_RDONLY)]", "EPERM")


class LeftBehind(HostileTest):
    def test_nothing_tells_of_a_session_that_was_stopped(self):
        live = cellar_test.Session(*self.OPTIONS)
        self.addCleanup(live.stop)
        container = live.container()
        uid = labels(container)["uid"]
        live.exec("import os, time\n"
                  "for n in range(20):\n"
                  "    if os.fork() == 0:\n"
                  "        os.setsid()\n"
                  "        if os.fork() == 0: time.sleep(1000)\n"
                  "        os._exit(0)\n"
                  "for n in range(500): os.mkfifo('/tmp/%d' % n)")
        self.assertIn(container, host.control_groups())
        self.assertIn(uid, host.processes_by_uid())
        self.assertEqual(0, live.stop().status)
        self.assertNotIn(container, host.control_groups())
        cellar_test.wait_for(lambda: uid not in host.processes_by_uid())
        self.assertEqual([], [path for path in glob.glob(
            STATE_DIR + "/**", recursive=True, include_hidden=True)
            if container in path])
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            self.assertNotIn(container, file.read())


class Replaced(HostileTest):
    """Another container in the place of one that nobody has at the moment."""

    FILES = "born.json", "stdin", "stdout", "stderr"

    def test_another_container_is_not_taken_for_it(self):
        """Its process and its FIFOs: it has not got the key."""
        live = cellar_test.Session(*self.OPTIONS)
        self.addCleanup(live.stop)
        live.exec("mine = 1")
        ours, theirs = live.container(), self.bystander.container()
        for name in self.FILES:
            path = cellar_test.bundle(ours, name)
            os.rename(path, path + ".old")
            os.link(cellar_test.bundle(theirs, name), path)
        try:
            done = run("exec", live.name, "canary")
            self.assertEqual((3, ""), (done.status, done.out))
            self.assertIn("does not answer", done.err)
        finally:
            for name in self.FILES:
                path = cellar_test.bundle(ours, name)
                os.rename(path + ".old", path)
        self.assertEqual({"text/plain": "1"}, live.exec("mine")["result"])


@unittest.skipIf(os.geteuid() != 0, "needs root, to become another user")
class Others(HostileTest):
    """Another user of the machine, where the state directory itself can be
    entered by all."""

    def setUp(self):
        super().setUp()
        os.chmod(STATE_DIR, 0o755)
        self.addCleanup(os.chmod, STATE_DIR, 0o700)

    def as_somebody(self, code, *arguments):
        done = subprocess.run([*AS_SOMEBODY, "/usr/bin/python3", "-I", "-c",
                               code, *arguments], capture_output=True,
                              text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    def test_they_get_at_nothing_in_the_state_directory(self):
        self.assertEqual([], self.as_somebody(
            "import json, os, sys\n"
            "got = []\n"
            "def attempt(path, flags):\n"
            "    try: os.open(path, flags | os.O_NONBLOCK)\n"
            "    except OSError: return\n"
            "    got.append(path)\n"
            "for top, folders, files in os.walk(sys.argv[1]):\n"
            "    for name in folders + files:\n"
            "        attempt(os.path.join(top, name), os.O_RDONLY)\n"
            "        attempt(os.path.join(top, name), os.O_WRONLY)\n"
            "for name in sys.argv[2:]:\n"
            "    for flags in os.O_RDONLY, os.O_WRONLY:\n"
            "        attempt(name, flags)\n"
            "json.dump(got, sys.stdout)", STATE_DIR, *self.files()))

    def files(self):
        """By their names, for who has learned them from a list of mounts."""
        return [path for path in glob.glob(STATE_DIR + "/**", recursive=True,
                                           include_hidden=True)
                if path != STATE_DIR + "/"]

    def test_they_get_at_no_process(self):
        pid = cellar_test.first_process(self.session.container())
        self.assertEqual([], self.as_somebody(
            "import json, os, sys\n"
            "got = []\n"
            "for name in ('fd', 'fd/0', 'fd/1', 'mem', 'environ', 'maps',\n"
            "             'root', 'cwd', 'exe', 'ns/net'):\n"
            "    path = '/proc/%s/%s' % (sys.argv[1], name)\n"
            "    try: os.open(path, os.O_RDONLY)\n"
            "    except OSError: continue\n"
            "    got.append(path)\n"
            "for n in 0, 9, 19:\n"
            "    try: os.kill(int(sys.argv[1]), n)\n"
            "    except OSError: continue\n"
            "    got.append(n)\n"
            "json.dump(got, sys.stdout)", str(pid)))

    def test_the_fifos_are_closed_by_the_folder_around_them(self):
        folder = os.path.join(STATE_DIR, "oci")
        for path in folder, os.path.join(folder, self.session.container()):
            self.assertEqual(0o700, stat.S_IMODE(os.stat(path).st_mode))


@unittest.skipIf(os.geteuid() != 0, "needs root, whose runtime it is")
class Planted(unittest.TestCase):
    """What somebody else has put in the way of root."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cellar-planted-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)
        self.name = cellar_test.unique("planted")
        self.addCleanup(run, "stop", self.name)

    def start(self, *options, **variables):
        env = dict(cellar_test.ENVIRONMENT, **variables)
        done = run("start", *options, self.name, env=env)
        if done.status == 0 and "CELLAR_STATE_DIR" in variables:
            run("stop", self.name, env=env)
        return done

    def plant(self, name, folder):
        """A runtime that does nothing but tell that it was run."""
        mark = os.path.join(self.folder, "mark")
        path = os.path.join(folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\n> %s\nexit 1\n" % mark)
        os.chmod(path, 0o755)
        return path, mark

    def test_a_runtime_in_a_folder_of_somebody_elses(self):
        bin_dir = os.path.join(self.folder, "bin")
        os.mkdir(bin_dir)
        path, mark = self.plant("runc", bin_dir)
        os.chown(bin_dir, SOMEBODY, SOMEBODY)
        done = self.start(PATH=bin_dir + ":" + os.environ["PATH"])
        self.assertEqual(0, done.status, done.err)
        self.assertFalse(os.path.exists(mark))
        self.assertNotEqual(path, labels(
            cellar_test.containers_of(self.name)[0])["runtime"])

    def test_a_runtime_of_somebody_elses(self):
        for change in (lambda path: os.chown(path, SOMEBODY, SOMEBODY),
                       lambda path: os.chmod(path, 0o777)):
            path, mark = self.plant("runc", self.folder)
            change(path)
            done = self.start(PATH=self.folder + ":" + os.environ["PATH"])
            self.assertEqual(0, done.status, done.err)
            self.assertFalse(os.path.exists(mark))
            run("stop", self.name)

    def test_a_link_to_one_of_somebody_elses(self):
        theirs = os.path.join(self.folder, "theirs")
        ours = os.path.join(self.folder, "ours")
        os.mkdir(theirs)
        os.mkdir(ours)
        path, mark = self.plant("runc", theirs)
        os.chown(theirs, SOMEBODY, SOMEBODY)
        os.symlink(path, ours + "/runc")
        done = self.start(PATH=ours + ":" + os.environ["PATH"])
        self.assertEqual(0, done.status, done.err)
        self.assertFalse(os.path.exists(mark))

    def test_one_that_is_nowhere_else_is_not_run(self):
        path, mark = self.plant("mine", self.folder)
        os.chmod(path, 0o777)
        done = self.start("--runtime", "mine", PATH=self.folder)
        self.assertEqual(2, done.status)
        self.assertIn("only root can write", done.err)
        self.assertFalse(os.path.exists(mark))

    def test_a_configuration_of_somebody_elses(self):
        """It can name a runtime."""
        path, mark = self.plant("mine", self.folder)
        folder = os.path.join(self.folder, "cellar")
        config = os.path.join(folder, "config.json")
        os.mkdir(folder)
        with open(config, "w", encoding="ascii") as file:
            json.dump({"runtime": path}, file)
        for uid, mode in (SOMEBODY, 0o644), (0, 0o666):
            os.chown(config, uid, 0)
            os.chmod(config, mode)
            done = self.start(XDG_CONFIG_HOME=self.folder)
            self.assertEqual(2, done.status, done.err)
            self.assertIn("could be changed by another user", done.err)
        self.assertFalse(os.path.exists(mark))

    def test_a_state_directory_of_somebody_elses(self):
        state = os.path.join(self.folder, "state")
        os.mkdir(state)
        os.chown(state, SOMEBODY, SOMEBODY)
        done = self.start(CELLAR_STATE_DIR=state)
        self.assertEqual(2, done.status)
        self.assertIn("belongs to user %d" % SOMEBODY, done.err)
        self.assertEqual([], os.listdir(state))

    def test_a_state_directory_that_others_can_write(self):
        state = os.path.join(self.folder, "state")
        os.mkdir(state)
        for mode in 0o777, 0o1777, 0o770:
            os.chmod(state, mode)
            done = self.start(CELLAR_STATE_DIR=state)
            self.assertEqual(2, done.status)
            self.assertIn("chmod go-w", done.err)
        self.assertEqual([], os.listdir(state))


if __name__ == "__main__":
    unittest.main()
