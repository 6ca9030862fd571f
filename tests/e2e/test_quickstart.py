"""quickstart's words. That it sets up a bare machine is shown by running it
there: CI does nothing else."""

import pathlib
import subprocess
import unittest

QUICKSTART = pathlib.Path(__file__).parents[2] / "quickstart"


def run(*arguments):
    return subprocess.run([QUICKSTART, *arguments], cwd="/", text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=60)


class Words(unittest.TestCase):
    def test_help(self):
        done = run("--help")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        for line in ("./quickstart ", "./quickstart build",
                     "./quickstart test"):
            self.assertIn("  " + line, done.stdout)

    def test_unknown_word(self):
        for arguments in ["tests"], ["build", "test"], ["--build"]:
            done = run(*arguments)
            self.assertEqual((2, ""), (done.returncode, done.stdout))
            self.assertIn("usage: ./quickstart", done.stderr)


if __name__ == "__main__":
    unittest.main()
