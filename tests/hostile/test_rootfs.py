"""Root file systems that somebody else made, on the oci engine: a runtime that
is root makes what is missing in them before they are anybody's root."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest

os.environ["CELLAR_ENGINE"] = "oci"

from hostile import run  # noqa: E402
import cellar_test  # noqa: E402

RUNTIMES = "runc", "crun"
PLACES = "proc", "dev", "tmp", "sys", "sys/fs", "sys/fs/cgroup", "cellar"


class RootTest(unittest.TestCase):
    """A folder with nothing but a name for Python, and one of the host's that
    must stay empty."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cellar-rootfs-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.root = os.path.join(self.folder, "root")
        self.host = os.path.join(self.folder, "host")
        for path in [self.host] + [os.path.join(self.root, place) for place in
                                   ("usr/bin", *PLACES)]:
            os.makedirs(path)
        os.chmod(self.host, 0o777)
        self.put("root/usr/bin/python3", "")

    def put(self, name, text):
        with open(os.path.join(self.folder, name), "w",
                  encoding="ascii") as file:
            file.write(text)

    def start(self, *options, root=None):
        name = cellar_test.unique("rootfs")
        self.addCleanup(run, "stop", name)
        return run("start", "--rootfs", root or self.root, *options, name)

    def assertRefused(self, words, *options):
        for runtime in RUNTIMES:
            done = self.start("--runtime", runtime, *options)
            self.assertNotEqual(0, done.status, done.out)
            self.assertIn(words, done.err)
            self.assertEqual([], os.listdir(self.host))
            self.assertEqual([], cellar_test.containers_left())


class Links(RootTest):
    def replace(self, place, target):
        path = os.path.join(self.root, place)
        shutil.rmtree(path)
        os.symlink(target, path)

    def assertNoneLeads(self, target):
        for place in PLACES:
            with self.subTest(place=place):
                aside = os.path.join(self.folder, "aside")
                path = os.path.join(self.root, place)
                os.rename(path, aside)
                os.symlink(target, path)
                self.assertRefused("/%s is a link" % place)
                os.unlink(path)
                os.rename(aside, path)

    def test_links_onto_the_host(self):
        self.assertNoneLeads(self.host)

    def test_links_that_climb_out(self):
        self.assertNoneLeads("../" * 20 + self.host)

    def test_an_agent_of_its_own(self):
        """Where the agent is looked for leads to one that lies in there."""
        os.makedirs(os.path.join(self.root, "evil"))
        self.replace("cellar", "/proc/self/root/evil")
        self.assertRefused("/cellar is a link")

    def test_a_users_mount_that_is_led_over_the_agent(self):
        os.symlink("/cellar", os.path.join(self.root, "data"))
        self.assertRefused("/data is a link", "--mount", self.host + ":/data")


class Mounts(RootTest):
    def test_a_mount_that_is_led_away_by_another(self):
        """A folder that is mounted has a link where the next one is to be: it
        would lie over the agent."""
        outer = os.path.join(self.folder, "outer")
        os.mkdir(outer)
        os.symlink("/cellar", os.path.join(outer, "inner"))
        inner = os.path.join(self.folder, "inner")
        shutil.copytree(os.path.join(os.environ["CELLAR_DATA_DIR"], "cellar"),
                        inner)
        os.chmod(inner + "/agent", 0o755)
        for runtime, words in (*((runtime, "nothing is mounted at /mnt/inner")
                                 for runtime in RUNTIMES),
                               ("runsc", "/mnt/inner lies in the mount /mnt")):
            name = cellar_test.unique("rootfs")
            self.addCleanup(run, "stop", name)
            done = run("start", "--runtime", runtime, "--allow", "agent",
                       "--allow", "tmpfs", "--mount", outer + ":/mnt",
                       "--mount", inner + ":/mnt/inner", name)
            self.assertNotEqual(0, done.status, done.out)
            self.assertIn(words, done.err)

    def test_what_is_mounted_below_does_not_come_along(self):
        """As in a folder that somebody works in with chroot."""
        options = cellar_test.of_image("cellar-runtime:slim")
        os.chmod(self.host, 0o755)
        for place in "sys/fs", "srv":
            for runtime in RUNTIMES:
                with self.subTest(place=place, runtime=runtime):
                    done = self.start_with_mount(options[1], place, runtime)
                    self.assertNotEqual(0, done.returncode, done.stdout)
                    self.assertIn("/%s is mounted, which nobody asked for"
                                  % place, done.stderr)

    def start_with_mount(self, root, place, runtime):
        """In a mount namespace that ends with the command."""
        name = cellar_test.unique("rootfs")
        self.addCleanup(run, "stop", name)
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             "mount --bind $1 $2 && mount --bind $3 $2/$4 && shift 4 && "
             "exec \"$@\"", "sh", root, self.root, self.host, place,
             cellar_test.CELLAR, "start", "--runtime", runtime, "--rootfs",
             self.root, name], env=cellar_test.ENVIRONMENT, text=True,
            capture_output=True, timeout=120)


class Images(RootTest):
    def image(self, *links):
        """An image with links, and a path about as long as one can be."""
        name = cellar_test.unique("cellar-hostile") + ":links"
        lump = io.BytesIO()
        with tarfile.open(fileobj=lump, mode="w",
                          format=tarfile.PAX_FORMAT) as tar:
            for path, target in (("deep/" + ("x" * 100 + "/") * 38, None),
                                 *links):
                entry = tarfile.TarInfo(path.rstrip("/"))
                entry.type = tarfile.SYMTYPE if target else tarfile.DIRTYPE
                entry.linkname = target or ""
                entry.mode = 0o755
                tar.addfile(entry)
        subprocess.run(["docker", "import", "-", name], timeout=120, check=True,
                       input=lump.getvalue(), capture_output=True)
        self.addCleanup(subprocess.run, ["docker", "rmi", name], timeout=120,
                        check=True, stdout=subprocess.DEVNULL)
        return name

    def test_an_image_whose_links_lead_onto_the_host(self):
        """Refused, nothing is written there, and what was unpacked is gone,
        however long its names are."""
        for place in "sys/kernel", "tmp", "cellar":
            with self.subTest(place=place):
                image = self.image((place, self.host))
                into = os.path.join(self.folder, "y" * 200, place)
                os.makedirs(into)
                done = run("--engine", "docker", "image", "unpack", image,
                           into + "/root")
                self.assertEqual(3, done.status, done.err)
                self.assertIn("/" + place, done.err)
                self.assertEqual([], os.listdir(self.host))
                self.assertEqual([], os.listdir(into))


class Owners(RootTest):
    @unittest.skipIf(os.geteuid() != 0, "needs root, whose runtime it is")
    def test_folders_that_another_user_could_change(self):
        """What is looked at is a link a moment later."""
        for place, path in ("", self.root), ("/sys", self.root + "/sys"):
            with self.subTest(place=place):
                os.chown(path, 65534, 65534)
                self.assertRefused("chown root")
                os.chown(path, 0, 0)
                os.chmod(path, 0o777)
                self.assertRefused("chown root")
                os.chmod(path, 0o755)


if __name__ == "__main__":
    unittest.main()
