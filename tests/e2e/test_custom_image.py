"""Any image with a Python becomes one of Cellar's with a single line, on oci
without one; one that can't is refused in words that say why."""

import pathlib
import subprocess
import tempfile
import unittest

import cellar_test
from cellar_test import OCI, of_image, run
from images import SLIM, custom_image, debian_image

THE_LINE = "COPY --from=%s /cellar /cellar\n" % SLIM


class CustomImages(unittest.TestCase):
    def assert_cells_run(self, image, version):
        notebook = ("# %%\nimport sys\nx = [sys.version_info[:2]]\n"
                    "# %%\nprint(x)\n# %%\nx.append('kept'); x[-1]\n")
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(notebook)
            file.flush()
            done = run("run", *of_image(image), file.name)
        self.assertEqual(0, done.status, done.out + done.err)
        self.assertIn("[%s]" % (version,), done.out)
        self.assertIn("'kept'", done.out)

    def assert_refused(self, image, *words):
        done = run("run", *of_image(image), "-", stdin="1")
        self.assertEqual(3, done.status, done.out)
        for word in words:
            self.assertIn(word, done.err)
        self.assertEqual([], cellar_test.containers_left())

    def test_newer_python(self):
        with debian_image("trixie", "python3-minimal") as base, \
                custom_image("FROM %s\n%s" % (base, THE_LINE)) as image:
            self.assert_cells_run(image, (3, 13))

    def test_older_python_and_libc_then_one_too_old(self):
        with debian_image("bullseye", "python3-minimal",
                          "python2.7-minimal") as base:
            with custom_image("FROM %s\n%s" % (base, THE_LINE)) as image:
                self.assert_cells_run(image, (3, 9))
            too_old = "RUN ln -sf python2.7 /usr/bin/python3\n"
            with custom_image("FROM %s\n%s" % (base, THE_LINE + too_old)) \
                    as image:
                self.assert_refused(image, "CPython 3.8 or later")

    def test_without_python(self):
        with custom_image("FROM %s\nRUN rm -f /usr/bin/python3*\n" % SLIM) \
                as image:
            self.assert_refused(image, "python3")

    def test_without_the_line(self):
        with custom_image("FROM scratch\nCOPY file /\n", file=b"") as image:
            self.assert_refused(image, "cellar image unpack" if OCI else
                                "COPY --from=" + SLIM)

    def test_musl(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder, "python3")
            subprocess.run(["musl-gcc", "-x", "c", "-", "-o", program],
                           input=b"int main(void) { return 0; }", check=True)
            content = program.read_bytes()
        loader = pathlib.Path("/lib/ld-musl-x86_64.so.1").read_bytes()
        lines = ("FROM %s\nRUN rm -f /usr/bin/python3*\n"
                 "COPY loader /lib/ld-musl-x86_64.so.1\n"
                 "COPY python /usr/bin/python3\n" % SLIM)
        with custom_image(lines, python=content, loader=loader) as image:
            self.assert_refused(image, "musl", "glibc")


if __name__ == "__main__":
    unittest.main()
