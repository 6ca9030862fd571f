"""What the pages show of the command is what it says: every block that opens
with `$ cellar` is typed in, line by line; and every command answers in JSON
when it is asked to."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from cellar_test import CELLAR, ENVIRONMENT, run, unique

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
        self.folder = folder.name
        self.addCleanup(folder.cleanup)
        self.addCleanup(run, "stop", "--all")
        os.symlink(CELLAR, os.path.join(folder.name, "cellar"))
        self.env = dict(ENVIRONMENT, PATH="%s:%s" % (
            folder.name, os.environ["PATH"]))

    def type_in(self, command):
        return subprocess.run(["sh", "-c", command], env=self.env, text=True,
                              cwd=self.folder,
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

    def test_engines(self):
        self.check("docs/ENGINES.md")


class Answers(unittest.TestCase):
    """`--json` makes any command but the REPL answer in JSON, and an error
    leaves stdout empty."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(run, "stop", "--all")
        self.out = os.path.join(folder.name, "out.ipynb")
        self.name = unique()

    def test_every_command(self):
        name = self.name
        steps = (["start", name], ["exec", name, "print(1); 2"],
                 ["checkpoint", name, "here"], ["restore", name, "here"],
                 ["fork", name, name + "-b"], ["run", "-"], ["ps"],
                 ["stats", name], ["interrupt", name], ["reset", name],
                 ["history", name], ["history"], ["export", name, self.out],
                 ["pool", "0"], ["doctor"],
                 ["image", "build", "--engine", "docker"],
                 ["bench", "codec", "-n", "1"], ["stop", name],
                 ["stop", "--all"])
        overview = run("--help").out.partition("commands:")[2]
        known = set(re.findall(r"^  ([a-z]+)", overview.partition("\n\n")[0],
                               re.MULTILINE))
        self.assertEqual(known - {"repl"}, {step[0] for step in steps})
        for step in steps:
            with self.subTest(step=step):
                done = run(*step, "--json", stdin="6 * 7", timeout=900)
                self.assertEqual(0, done.status, done.err)
                lines = done.out.splitlines()
                self.assertLess(0, len(lines))
                for line in lines:
                    self.assertIsInstance(json.loads(line), (dict, list))

    def test_an_error(self):
        for step, status in ((["exec", "no" + self.name, "1"], 3),
                             (["start", self.name, "--memory", "1"], 2)):
            done = run(*step, "--json")
            self.assertEqual((status, ""), (done.status, done.out))
            self.assertTrue(done.err.startswith("cellar: "), done.err)


if __name__ == "__main__":
    unittest.main()
