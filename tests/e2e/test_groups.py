"""The oci engine on a machine that has cgroup v2 alone: limits are kept with
its controllers, and one that it has not is named and must be allowed to be
missing.

Where the machine has cgroup v1 too, it is hidden in a mount namespace; v1 may
hold the controllers then."""

import os
import subprocess
import unittest

os.environ["CELLAR_ENGINE"] = "oci"

import cellar_test

CGROUP = "/sys/fs/cgroup"
HIDE = """
umount -R {0} && mount -t cgroup2 none {0} || exit 99
exec "$@"
""".format(CGROUP)
PROTECTIONS = {"memory": ("memory", "swap"), "pids": ("pids",),
               "cpu": ("cpu",)}


def in_v2(*command):
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", HIDE,
         "sh", *command], capture_output=True, text=True, timeout=120,
        env=cellar_test.ENVIRONMENT)


@unittest.skipIf(os.geteuid() != 0, "needs root, to mount")
class AloneTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        have = in_v2("cat", CGROUP + "/cgroup.controllers").stdout.split()
        cls.missing = [name for one in PROTECTIONS if one not in have
                       for name in PROTECTIONS[one]]

    def start(self, *allowed):
        self.addCleanup(in_v2, cellar_test.CELLAR, "stop", "--all")
        return in_v2(cellar_test.CELLAR, "start", "--memory", "128m",
                     "--runtime", "runc",
                     *(word for name in allowed for word in ("--allow", name)),
                     "lab")

    def test_what_has_no_controller_is_refused_by_name(self):
        for name in self.missing:
            with self.subTest(missing=name):
                done = self.start(*(one for one in self.missing
                                    if one != name))
                self.assertEqual(3, done.returncode, done.stderr)
                self.assertIn("cgroup v2 has no controller", done.stderr)
                self.assertIn("--allow %s" % name, done.stderr)

    def test_sessions_run_with_what_there_is(self):
        done = self.start(*self.missing)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual("42\n", in_v2(cellar_test.CELLAR, "exec", "lab",
                                       "6 * 7").stdout)
        container, = cellar_test.containers_left()
        with open("/proc/%d/cgroup" % cellar_test.first_process(container),
                  encoding="ascii") as file:
            self.assertIn("0::/cellar/" + container, file.read().split())


if __name__ == "__main__":
    unittest.main()
