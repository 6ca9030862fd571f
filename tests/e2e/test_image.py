"""The runtime images: what is in them, and what they are made on."""

import glob
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unittest

import cellar_test
from cellar_test import docker, needs_docker, needs_oci, of_image, run
from engine_proxy import EngineProxy
from images import DATA, SLIM, custom_image


def image_id(image):
    return docker("image", "inspect", "--format", "{{.Id}}", image).strip()


def label(image, name):
    return docker("image", "inspect", "--format",
                  '{{index .Config.Labels "io.cellar.%s"}}' % name,
                  image).strip()


def inside(image, *command):
    """What a command of the image prints, run by the engine alone."""
    return docker("run", "--rm", "--network", "none", "--entrypoint",
                  command[0], image, *command[1:])


class Images(unittest.TestCase):
    def value(self, image, code, status=0):
        done = run("run", *of_image(image), "-", stdin=code)
        self.assertEqual(status, done.status, done.err)
        return done.out

    def test_slim_has_the_standard_library(self):
        self.assertIn("all there", self.value(SLIM, """
import asyncio, bz2, ctypes, curses, decimal, hashlib, json, lzma, sqlite3
import ssl, unittest, uuid, xml.etree.ElementTree, zlib, zoneinfo
print("all there", sqlite3.connect(":memory:").execute("select 1").fetchone())
"""))

    def test_data_has_what_notebooks_import(self):
        self.assertIn("3.0 PNG", self.value(DATA, """
import matplotlib, numpy, pandas
matplotlib.use("Agg")
import matplotlib.pyplot as plt
frame = pandas.DataFrame({"x": numpy.arange(3), "y": [1.0, 4.0, 4.0]})
frame.plot(x="x", y="y")
plt.savefig("/tmp/figure.png")
print(frame.y.mean(), open("/tmp/figure.png", "rb").read(4)[1:].decode())
"""))

    def test_data_is_slim_and_more(self):
        self.assertIn("ModuleNotFoundError",
                      self.value(SLIM, "import numpy", status=1))

    @needs_docker
    def test_labels(self):
        for variant in "slim", "data":
            image = "cellar-runtime:" + variant
            version = run("--version").out.split()[-1]
            self.assertIn(label(image, "version"), version)
            self.assertEqual(variant, label(image, "variant"))
            self.assertRegex(label(image, "runtime"), "^[0-9a-f]{16}$")

    @needs_docker
    def test_runtime_files_are_roots_and_some_are_unreadable(self):
        listed = inside(SLIM, "find", "/cellar", "-printf", "%p %m %U:%G\n")
        files = dict(line.split(" ", 1) for line in listed.splitlines())
        unreadable = "/cellar/agent", "/cellar/relay"
        for path in unreadable:
            self.assertEqual("711 0:0", files[path])
        self.assertEqual("755 0:0", files["/cellar"])
        for path, what in files.items():
            if path not in unreadable:
                self.assertIn(what, ("755 0:0", "644 0:0"), path)

    @needs_docker
    def test_nothing_is_setuid(self):
        for image in SLIM, DATA:
            self.assertEqual("", inside(image, "find", "/", "-xdev", "-type",
                                        "f", "-perm", "/6000"))

    @needs_docker
    def test_no_package_lists_are_left(self):
        self.assertEqual("", inside(SLIM, "find", "/var/lib/apt/lists",
                                    "-type", "f"))

    @needs_docker
    def test_second_build_changes_nothing(self):
        before = image_id(SLIM)
        done = run("image", "build")
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(before, image_id(SLIM))


@needs_oci
class Unpacked(unittest.TestCase):
    """A folder in an image's place."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.root = os.path.join(folder.name, "root")

    def unpack(self, image, *more):
        return run("--engine", "docker", "image", "unpack", image, *more)

    def test_has_what_the_image_has_and_gives_no_rights(self):
        self.assertEqual((0, self.root + "\n", ""),
                         self.unpack(SLIM, self.root))
        self.assertEqual([self.root], glob.glob(self.folder + "/*"))
        for folder, folders, files in os.walk(self.root):
            for name in folders + files:
                path = os.path.join(folder, name)
                mode = os.lstat(path).st_mode
                self.assertEqual(0, mode & 0o6000, path)
                self.assertTrue(stat.S_ISDIR(mode) or stat.S_ISREG(mode) or
                                stat.S_ISLNK(mode), path)
        self.assertEqual(0o41777, os.stat(self.root + "/tmp").st_mode)
        done = run("run", "--rootfs", self.root, "-", stdin=(
            "open('/etc/os-release').readline(), __import__('os').getuid()"))
        with open(self.root + "/etc/os-release", encoding="utf-8") as file:
            self.assertIn(repr(file.readline()), done.out)

    def test_nothing_is_overwritten(self):
        os.mkdir(self.root)
        done = self.unpack(SLIM, self.root)
        self.assertEqual(3, done.status)
        self.assertIn("--rootfs", done.err)
        self.assertEqual([], os.listdir(self.root))

    def test_an_image_that_is_not_there_leaves_nothing(self):
        done = self.unpack("localhost:1/none:x", self.root)
        self.assertEqual(3, done.status)
        self.assertIn("localhost:1/none:x", done.err)
        self.assertEqual([], os.listdir(self.folder))

    def test_links_that_lead_out_are_not_followed(self):
        """The folders that a container needs are made in the image's own."""
        out = os.path.join(self.folder, "out")
        os.mkdir(out)
        lines = "FROM scratch\nADD tar.tar /\n"
        with io.BytesIO() as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                link = tarfile.TarInfo("sys/fs")
                link.type, link.linkname = tarfile.SYMTYPE, out
                tar.addfile(link)
            content = file.getvalue()
        with custom_image(lines, **{"tar.tar": content}) as image:
            done = self.unpack(image, self.root)
        self.assertEqual(3, done.status, done.err)
        self.assertIn("/sys/fs", done.err)
        self.assertEqual([], os.listdir(out))
        self.assertEqual(["out"], os.listdir(self.folder))

    def test_the_oci_engine_says_who_has_images(self):
        for words in ["build"], ["unpack", SLIM, self.root]:
            done = run("image", *words)
            self.assertEqual(2, done.status)
            self.assertIn("--engine docker", done.err)
        self.assertEqual([], os.listdir(self.folder))


@needs_docker
class Bases(unittest.TestCase):
    def test_from_debians_packages_where_nothing_can_be_pulled(self):
        hidden = ["debian:12-slim", "cellar-base:bookworm"]
        with EngineProxy(hidden) as proxy:
            done = run("image", "build", "--host", proxy.host, timeout=900)
            self.assertEqual(0, done.status, done.err)
            asked = "\n".join(proxy.asked)
        for step in "fromImage=debian", "fromSrc=-", "/build?":
            self.assertIn(step, asked)
        out = run("run", "-", stdin="import sys; sys.version_info[:2]").out
        self.assertIn("(3, 11)", out)

    def test_without_mmdebstrap_it_says_what_to_install(self):
        with EngineProxy(["debian:12-slim", "cellar-base:bookworm"]) as proxy, \
                tempfile.TemporaryDirectory() as nothing:
            environment = dict(cellar_test.ENVIRONMENT, PATH=nothing)
            done = subprocess.run(
                [shutil.which(cellar_test.CELLAR), "image", "build", "--host",
                 proxy.host], env=environment, timeout=300, text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.assertEqual(3, done.returncode)
        self.assertIn("apt-get install mmdebstrap", done.stderr)

    def test_a_base_that_cannot_be_had_is_named(self):
        with EngineProxy(["nobody/has:this"]) as proxy:
            done = run("image", "build", "--base", "nobody/has:this", "--host",
                       proxy.host)
        self.assertEqual(3, done.status)
        self.assertIn("nobody/has:this", done.err)
        self.assertIn("neither found nor pulled", done.err)

    def test_a_base_without_apt_fails_with_the_builds_words(self):
        with custom_image("FROM scratch\nCOPY file /\n", file=b"") as image:
            done = run("image", "build", "--base", image)
        self.assertEqual(3, done.status)
        self.assertNotEqual("", done.err)

    def test_unknown_variant(self):
        done = run("image", "build", "--variant", "fat")
        self.assertEqual(2, done.status)
        self.assertIn("fat", done.err)

    def test_data_directory_without_runtime_files(self):
        with tempfile.TemporaryDirectory() as nothing:
            done = run("image", "build", "--data-dir", nothing)
        self.assertEqual(3, done.status)
        self.assertIn(nothing + "/Dockerfile", done.err)


class Unpacked(unittest.TestCase):
    def test_it_tells_what_rootfs_takes(self):
        """The folder is absolute, whatever was given, and is not written
        twice."""
        with tempfile.TemporaryDirectory() as folder:
            words = "image", "unpack", "slim", "root", "--engine", "docker"
            done = run(*words, "--json", cwd=folder)
            self.assertEqual(0, done.status, done.err)
            told = json.loads(done.out)
            self.assertEqual({"image": SLIM, "rootfs": folder + "/root"}, told)
            done = run("run", "--engine", "oci", "--rootfs", told["rootfs"],
                       "-", stdin="import sys; sys.version_info[:2]")
            self.assertIn("(3, 11)", done.out)
            again = run(*words, cwd=folder)
            self.assertEqual((3, ""), (again.status, again.out))
            self.assertIn(told["rootfs"] + " is there already", again.err)
            self.assertEqual(["root"], os.listdir(folder))

    def test_an_image_that_is_not_there(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run("image", "unpack", "nobody/has:this", folder + "/root",
                       "--engine", "docker")
            self.assertEqual((3, ""), (done.status, done.out))
            self.assertIn("docker pull nobody/has:this", done.err)
            self.assertEqual([], os.listdir(folder))


if __name__ == "__main__":
    unittest.main()
