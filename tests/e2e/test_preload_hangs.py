"""A module whose import never ends: who starts a session with it, and who fills
a pool with such, is told after the agent's limit of a minute. Both wait it out
at once, beside the other tests."""

import os
import shutil
import tempfile
import unittest

from cellar_test import containers_left, popen, run, unique
import pools

PLACE = "/usr/local/lib/python3.11/dist-packages"
HANGS = "import threading\nprint('half done')\nthreading.Event().wait()\n"


class HangingTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="cellar-hangs-")
        cls.addClassCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o755)
        with open(os.path.join(folder, "cellar_hangs.py"), "w",
                  encoding="ascii") as file:
            file.write(HANGS)
        cls.options = ("--mount", folder + ":" + PLACE,
                       "--preload", "colorsys,cellar_hangs")

    def assert_told(self, text):
        self.assertIn("did not end within 60 s", text)
        self.assertIn("import them in a cell", text)
        self.assertIn("colorsys,cellar_hangs", text)

    def test_a_start_and_a_refill_are_told_of_it_and_leave_nothing(self):
        name = unique("hangs")
        commands = [popen("start", name, *self.options),
                    popen("pool", "2", *self.options)]
        for command in commands:
            out, err = command.communicate(timeout=120)
            self.assertEqual((3, b""), (command.returncode, out))
            self.assert_told(err.decode())
        self.assertEqual([], containers_left())
        self.assertEqual([], pools.record_paths())
        self.assert_told(run("doctor").out)
        # And the name, and the pool, are to be had.
        self.assertEqual(0, run("start", name).status)
        self.assertEqual("1 ready\n", run("pool", "1").out)
        pools.check_nothing_left(self)


if __name__ == "__main__":
    unittest.main()
