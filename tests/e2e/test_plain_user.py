"""The oci engine for a user who is not root: a user namespace, uids of
/etc/subuid, and limits where control groups were given to the user; what can't
be enforced is refused, unless it is allowed to be missing by name.

Needs root, to become such a user: everything runs as uid 65534 in a mount
namespace where /etc/subuid is another one."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import cellar_test

USER = 65534
LIMITS = ("memory", "swap", "pids", "cpu")
# What a kernel in user space does not have besides, for such a user.
SANDBOXS = ("user", "agent", "tmpfs")
CGROUP = "/sys/fs/cgroup"
V2 = os.path.exists(CGROUP + "/cgroup.controllers")
# A runtime makes its groups in every hierarchy there is.
CONTROLLERS = [""] if V2 else [
    name for name in sorted(os.listdir(CGROUP)) if name != "unified"]

# Becomes the user, who is given these subuids; $1: the file of them, $2: the
# groups to be in, one of each hierarchy.
BECOME = """
mount --bind $1 /etc/subuid && mount --bind $1 /etc/subgid || exit 99
for group in $2; do echo $$ > $group/cgroup.procs || exit 98; done
shift 2
exec setpriv --reuid %d --regid %d --clear-groups "$@"
""" % (USER, USER)


def allow(*names):
    return [word for name in names for word in ("--allow", name)]


@unittest.skipIf(os.geteuid() != 0, "needs root, to become another user")
class PlainUserTest(unittest.TestCase):
    SUBUIDS = "nobody:200000:65536\n"
    GROUPS = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="cellar-plain-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.chmod(cls.folder, 0o755)
        cls.state = os.path.join(cls.folder, "state")
        os.mkdir(cls.state)
        os.chown(cls.state, USER, USER)
        # As `cmake --install` leaves it: whoever runs it may read it.
        cls.data = os.path.join(cls.folder, "data")
        shutil.copytree(os.environ["CELLAR_DATA_DIR"], cls.data)
        for name in "agent", "relay":
            os.chmod(os.path.join(cls.data, "cellar", name), 0o755)
        cls.subuids = os.path.join(cls.folder, "subuid")
        with open(cls.subuids, "w", encoding="ascii") as file:
            file.write(cls.SUBUIDS)
        cls.command = os.path.join(cls.folder, "cellar")
        shutil.copy(cellar_test.CELLAR, cls.command)

    def tearDown(self):
        self.assertEqual(0, self.run_as_user("stop", "--all").returncode)
        folder = os.path.join(self.state, "oci")
        if os.path.isdir(folder):
            self.assertEqual([".run"], os.listdir(folder))

    def run_as_user(self, *arguments, stdin="", before=""):
        """`before`: what root does to the mounts that the user sees."""
        env = {"PATH": os.environ["PATH"], "HOME": self.folder,
               "CELLAR_STATE_DIR": self.state, "CELLAR_ENGINE": "oci",
               "CELLAR_DATA_DIR": self.data}
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             before + BECOME, "sh", self.subuids, " ".join(self.GROUPS), self.command,
             *arguments], cwd="/", env=env, input=stdin, text=True,
            capture_output=True, timeout=120)

    def ok(self, *arguments, **options):
        done = self.run_as_user(*arguments, **options)
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout

    def born(self):
        one, = [name for name in os.listdir(os.path.join(self.state, "oci"))
                if name != ".run"]
        return cellar_test.first_process_at(
            os.path.join(self.state, "oci", one, "born.json"))


class WithoutGroups(PlainUserTest):
    def test_limits_that_cannot_be_enforced_are_refused_by_name(self):
        for i, name in enumerate(LIMITS):
            done = self.run_as_user("start", *allow(*LIMITS[:i]), "lab")
            self.assertEqual(3, done.returncode)
            self.assertIn('"%s"' % name, done.stderr)
            self.assertIn("--allow %s" % name, done.stderr)

    def test_a_usr_with_a_mount_below_it_is_named(self):
        done = self.run_as_user("start", *allow(*LIMITS), "lab", "--runtime",
                                "runc", before="mount --bind /usr/share "
                                               "/usr/share || exit 97")
        self.assertEqual((3, ""), (done.returncode, done.stdout))
        self.assertIn("this machine's /usr can't be shown", done.stderr)
        self.assertIn("--rootfs", done.stderr)

    def test_a_session_has_a_uid_of_its_own(self):
        self.ok("start", *allow(*LIMITS), "lab")
        with open("/proc/%d/status" % self.born(), encoding="ascii") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1)
                          for line in file if ":\t" in line)
        uids = set(map(int, fields["Uid"].split()))
        self.assertEqual(1, len(uids))
        self.assertTrue(200000 <= min(uids) < 265536)
        self.assertEqual("0" * 16, fields["CapEff"])
        self.assertEqual("0" * 16, fields["CapBnd"])
        self.assertEqual(("1", "2"), (fields["NoNewPrivs"],
                                      fields["Seccomp"]))
        self.assertEqual("42\n", self.ok("exec", "lab", "6 * 7"))

    def test_without_a_limit_a_kill_is_told_as_one(self):
        self.ok("start", *allow(*LIMITS), "lab")
        result = json.loads(self.run_as_user(
            "exec", "--json", "lab",
            "import os; os.kill(os.getpid(), 9)").stdout)
        self.assertEqual(("killed", "SIGKILL", None),
                         (result["status"], result["signal"],
                          result["limit"]))

    def test_the_agent_is_closed_to_the_session(self):
        self.ok("start", *allow(*LIMITS), "lab")
        told = self.ok("exec", "lab", "-", stdin=(
            "told = []\n"
            "for path in ('/cellar/agent', '/cellar/relay', '/proc/1/mem',\n"
            "             '/proc/1/environ', '/proc/1/maps'):\n"
            "    try: open(path, 'rb'); told.append(path)\n"
            "    except PermissionError: pass\n"
            "told"))
        self.assertEqual("[]\n", told)

    def test_what_is_counted_per_user_is_not_the_sessions_to_use_up(self):
        """The kernel counts it for the user outside, too."""
        self.ok("start", *allow(*LIMITS), "lab")
        self.assertEqual("(-1, 1024)\n", self.ok(
            "exec", "lab", "-", stdin=(
                "import ctypes, resource\n"
                "(ctypes.CDLL(None).inotify_init(),\n"
                " resource.getrlimit(resource.RLIMIT_SIGPENDING)[1])")))

    def test_branches_live_in_it(self):
        self.ok("start", *allow(*LIMITS), "lab")
        self.ok("exec", "lab", "x = 5")
        self.ok("fork", "lab", "other")
        self.assertEqual("6\n", self.ok("exec", "other", "x + 1"))

    def test_doctor_tells_what_is_missing(self):
        rows = {row["name"]: row for row in json.loads(
            self.run_as_user("doctor", "--json").stdout)}
        for name in LIMITS:
            self.assertEqual("fail", rows[name]["result"])
        for name in "user", "capabilities", "seccomp", "read_only", "network":
            self.assertEqual("ok", rows[name]["result"], rows[name])


class WithoutSubuids(PlainUserTest):
    SUBUIDS = "somebody:200000:65536\n"

    def test_it_is_refused_and_can_be_allowed(self):
        done = self.run_as_user("start", *allow(*LIMITS), "lab")
        self.assertEqual(3, done.returncode)
        self.assertIn("uidmap", done.stderr)
        self.ok("start", *allow("user", *LIMITS), "lab")
        self.assertEqual("42\n", self.ok("exec", "lab", "6 * 7"))


class WithASandbox(PlainUserTest):
    def test_what_it_lacks_is_refused_by_name(self):
        names = SANDBOXS + LIMITS
        for name in names:
            done = self.run_as_user(
                "start", "--runtime", "runsc",
                *allow(*(other for other in names if other != name)), "lab")
            self.assertEqual(3, done.returncode, done.stderr)
            self.assertIn("--allow %s" % name, done.stderr)

    def test_it_runs_where_all_that_is_allowed(self):
        self.ok("start", "--runtime", "runsc", *allow(*SANDBOXS, *LIMITS),
                "lab")
        inside, = json.loads("[%s]" % self.ok(
            "exec", "lab", "import os; os.getuid()"))
        self.assertGreater(inside, 61000)
        with open("/proc/%d/status" % self.born(), encoding="ascii") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1)
                          for line in file if ":\t" in line)
        self.assertEqual({str(USER)}, set(fields["Uid"].split()))
        self.assertEqual("2", fields["Seccomp"])
        self.ok("exec", "lab", "x = 5")
        self.ok("fork", "lab", "other")
        self.assertEqual("6\n", self.ok("exec", "other", "x + 1"))


class WithCrun(PlainUserTest):
    HYBRID = os.path.exists(CGROUP + "/unified/cgroup.procs") and not V2

    def test_it_runs_or_says_what_to_take(self):
        done = self.run_as_user("start", "--runtime", "crun", *allow(*LIMITS),
                                "lab")
        if self.HYBRID:
            self.assertEqual(3, done.returncode)
            self.assertIn("use --runtime runc", done.stderr)
            return
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual("42\n", self.ok("exec", "lab", "6 * 7"))


class WithGroups(PlainUserTest):
    """Control groups that root has given to the user."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.GROUPS = []
        for controller in CONTROLLERS:
            parent = os.path.join(CGROUP, controller,
                                  "cellar-test-%d" % os.getpid())
            os.mkdir(parent)
            cls.addClassCleanup(os.rmdir, parent)
            inner = parent
            if V2:
                with open(parent + "/cgroup.subtree_control", "w",
                          encoding="ascii") as file:
                    file.write("+memory +pids +cpu")
                inner = parent + "/own"
                os.mkdir(inner)
                cls.addClassCleanup(os.rmdir, inner)
            if controller == "cpuset":
                for name in "cpuset.cpus", "cpuset.mems":
                    with open(os.path.join(CGROUP, controller, name),
                              encoding="ascii") as file:
                        value = file.read()
                    with open(os.path.join(parent, name), "w",
                              encoding="ascii") as file:
                        file.write(value)
            for folder in {parent, inner}:
                for name in [""] + os.listdir(folder):
                    if not os.path.isdir(os.path.join(folder, name, "")) or \
                            not name:
                        os.chown(os.path.join(folder, name), USER, USER)
            cls.GROUPS.append(inner)

    def test_limits_hold_and_are_told(self):
        self.ok("start", "--memory", "64m", "lab")
        usage, = json.loads("[%s]" % self.ok(
            "stats", "--json", "--count", "1", "lab"))
        self.assertEqual(64 << 20, usage["memory_limit_bytes"])
        result = json.loads(self.run_as_user(
            "exec", "--json", "lab", "len(bytearray(200 << 20))").stdout)
        self.assertEqual("out_of_memory", result["status"], result)
        self.assertEqual({"name": "memory", "value": 64 << 20,
                          "unit": "bytes"}, result["limit"])
        self.assertEqual("2\n", self.ok("exec", "lab", "1 + 1"))

    def test_its_groups_can_not_be_written_from_inside(self):
        self.ok("start", "--memory", "64m", "lab")
        told = self.ok("exec", "lab", "-", stdin=(
            "import os\n"
            "opened = []\n"
            "for folder, _, names in os.walk('/sys/fs/cgroup'):\n"
            "    for name in names:\n"
            "        try: opened.append(open(os.path.join(folder, name), 'r+'))\n"
            "        except OSError: pass\n"
            "    try: os.mkdir(os.path.join(folder, 'more'))\n"
            "    except OSError: continue\n"
            "    opened.append(folder)\n"
            "opened"))
        self.assertEqual("[]\n", told)


if __name__ == "__main__":
    unittest.main()
