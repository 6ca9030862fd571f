"""Modules that every Python of a session imports before it is ready."""

import os
import shutil
import tempfile
import unittest

from cellar_test import containers_left, run, session, unique

# Where Debian's Python 3.11 looks, and the image has nothing.
PLACE = "/usr/local/lib/python3.11/dist-packages"
LOADED = "import sys; 'colorsys' in sys.modules, 'colorsys' in globals()"

MODULES = {
    "cellar_quits": "import sys\nprint('so far', flush=True)\n"
                    "sys.exit('enough\\nof it')\n",
    "cellar_crashes": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "cellar_prints": "print('from a module')\n",
    "cellar_forks": "import os\nos.fork()\n",
    "cellar_lies": "import os\n"
                   "os.write(3, b'\\0\\0\\0\\6R3.11.2')\n",
    "cellar_fake": "import os\nos.write(2, b'module x: y\\n')\nos._exit(206)\n",
    "cellar_floods": "import os\nfor i in range(99):\n"
                     "    os.write(2, b'x' * 65536)\nraise ValueError('full')\n",
    "cellar_threads": "import threading\nstop = threading.Event()\n"
                      "threading.Thread(target=stop.wait, daemon=True).start()\n",
}


class PreloadTest(unittest.TestCase):

    def value(self, live, code):
        result = live.exec(code)
        self.assertEqual("ok", result["status"], result)
        return result["result"]["text/plain"]

    def test_they_are_there_and_not_bound(self):
        with session("--preload", "colorsys,xml.dom.minidom") as live:
            self.assertEqual("(True, False)", self.value(live, LOADED))

    def test_they_are_there_after_a_reset_and_after_a_crash(self):
        with session("--preload", "colorsys", "--checkpoint", "off") as live:
            self.assertEqual(0, run("reset", live.name).status)
            self.assertEqual("(True, False)", self.value(live, LOADED))
            result = live.exec("import os; os._exit(1)")
            self.assertEqual("fresh", result["state"])
            self.assertEqual("(True, False)", self.value(live, LOADED))

    def test_a_branch_has_them_and_keeps_them(self):
        with session("--preload", "colorsys") as live:
            live.exec("x = 1")
            branch = unique("branch")
            self.assertEqual(0, run("fork", live.name, branch).status)
            self.addCleanup(run, "stop", branch)
            self.assertEqual(0, run("reset", branch).status)
            done = run("exec", branch, LOADED)
            self.assertIn("(True, False)", done.out, done.err)

    def test_without_a_checkpoint_nothing_older_comes_back(self):
        with session("--preload", "colorsys") as live:
            live.exec("y = 5")
            live.exec("import os; os._exit(1)")
            result = live.exec("y")
            self.assertEqual("5", result["result"]["text/plain"], result)
            self.assertEqual("(True, False)", self.value(live, LOADED))

    def test_a_module_that_is_not_there_is_named_with_the_cure(self):
        done = run("run", "--preload", "colorsys,no.such", "-", stdin="1")
        self.assertEqual(3, done.status)
        self.assertIn("module no.such: ModuleNotFoundError: "
                      "No module named 'no'", done.err)
        self.assertIn("take it out of --preload", done.err)
        self.assertEqual([], containers_left())

    def test_names_are_checked_before_anything_is_started(self):
        for text in ("a b", "a;b", "../x", "a,", "-x", "a" * 513, "os\n"):
            done = run("run", "--preload=" + text, "-", stdin="1")
            self.assertEqual(2, done.status, text)
            self.assertIn("preload", done.err)


class MountedTest(unittest.TestCase):
    """Modules that do what they should not."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="cellar-modules-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        os.chmod(cls.folder, 0o755)
        for name, text in MODULES.items():
            with open(os.path.join(cls.folder, name + ".py"), "w",
                      encoding="ascii") as file:
                file.write(text)

    def run_with(self, modules, code="print(6 * 7)", *options):
        return run("run", "--mount", self.folder + ":" + PLACE, "--preload",
                   modules, *options, "-", stdin=code)

    def fails(self, modules, *texts):
        done = self.run_with(modules)
        self.assertEqual(3, done.status, done.out)
        for text in texts:
            self.assertIn(text, done.err)
        self.assertEqual([], containers_left())

    def test_one_that_exits_or_raises_is_named(self):
        self.fails("colorsys,cellar_quits",
                   "module cellar_quits: SystemExit: enough of it")
        self.fails("cellar_floods", "module cellar_floods: ValueError: full")

    def test_one_that_crashes_python_is_among_those_named(self):
        self.fails("colorsys,cellar_crashes",
                   "killed by signal 11 while it imported "
                   "colorsys,cellar_crashes")

    def test_one_that_gives_a_false_answer_gives_a_failure(self):
        self.fails("cellar_fake", "module x: y")
        done = self.run_with("cellar_lies")
        self.assertIn(done.status, (0, 1, 3))
        self.assertEqual([], containers_left())

    def test_what_one_prints_is_no_cells(self):
        done = self.run_with("cellar_prints")
        self.assertEqual(0, done.status, done.err)
        self.assertNotIn("from a module", done.out)
        self.assertIn("42", done.out)

    def test_a_child_of_one_is_no_second_worker(self):
        done = self.run_with("cellar_forks")
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(1, done.out.splitlines().count("42"))

    def test_threads_of_one_are_told_of_as_a_cells_are(self):
        with session("--mount", self.folder + ":" + PLACE, "--preload",
                     "cellar_threads") as live:
            told = live.exec("1")["checkpoint"]
            self.assertFalse(told["taken"])
            self.assertIn("1 of its threads", told["why"])


if __name__ == "__main__":
    unittest.main()
