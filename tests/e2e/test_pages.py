"""What the pages show of the command is what it says: every block that opens
with `$ cellar` is typed in, line by line."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from cellar_test import CELLAR, ENVIRONMENT, run

ROOT = pathlib.Path(__file__).parents[2]
BLOCK = re.compile(r"^```\w*\n(\$ cellar .*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


def steps(block):
    """(command, what it says) of each line that was typed."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, says = step.partition("\n")
        yield command, says


def pattern(says):
    """Times differ, and `...` stands for anything."""
    text = re.escape(says).replace(re.escape("..."), ".*")
    return re.sub(r"\d+\\\.\d(\\? ms)", r"\\d+\\.\\d\1", text)


class Pages(unittest.TestCase):
    def setUp(self):
        """`cellar` is found, and what is left of its sessions goes."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(run, "stop", "--all")
        os.symlink(CELLAR, os.path.join(folder.name, "cellar"))
        self.env = dict(ENVIRONMENT, PATH="%s:%s" % (
            folder.name, os.environ["PATH"]))

    def type_in(self, command):
        return subprocess.run(["sh", "-c", command], env=self.env, text=True,
                              stdin=subprocess.DEVNULL, timeout=120,
                              stdout=subprocess.PIPE, check=False,
                              stderr=subprocess.STDOUT).stdout

    def check(self, page):
        found = blocks(page)
        self.assertLess(0, len(found))
        for block in found:
            for command, says in steps(block):
                with self.subTest(page=page, command=command):
                    self.assertRegex(self.type_in(command),
                                     r"\A%s\Z" % pattern(says))

    def test_readme(self):
        self.check("README.md")

    def test_checkpoints(self):
        self.check("docs/CHECKPOINTS.md")


if __name__ == "__main__":
    unittest.main()
