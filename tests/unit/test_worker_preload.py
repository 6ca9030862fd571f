"""The worker: modules that it imports before it says that it is ready."""
import unittest

from worker import DEADLINE, Worker, start_process

PRELOAD = 206  # CELLAR_BOOT_PRELOAD


class Preload(unittest.TestCase):
    def worker(self, modules):
        worker = Worker(preload=modules)
        self.addCleanup(worker.end)
        self.addCleanup(worker.process.kill)
        self.assertEqual(worker.ready[0], "R")
        return worker

    def words(self, modules):
        """Exit status and last words of a worker that does not start."""
        process, ours = start_process(preload=modules)
        self.addCleanup(ours.close)
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(ours.recv(1), b"")
        return process.returncode, err.decode().splitlines()

    def test_they_are_imported_and_not_bound(self):
        worker = self.worker("colorsys,xml.dom.minidom")
        self.assertEqual(worker.run(
            "import sys\n'colorsys' in sys.modules, "
            "'xml.dom.minidom' in sys.modules").result, "(True, True)")
        self.assertEqual(worker.run(
            "sorted(n for n in globals() if n[0] != '_')").result, "['sys']")

    def test_they_leave_sys_as_it_is(self):
        worker = self.worker("colorsys")
        self.assertEqual(worker.run(
            "import sys\nsys.argv, hasattr(sys, 'last_value'), "
            "[m for m in sys.modules if 'cellar' in m]").result,
            "([''], False, [])")

    def test_what_they_print_is_no_cells(self):
        worker = self.worker("this")
        self.assertEqual(worker.run("print('mine')").outcome, 0)
        worker.wait_output("mine")
        self.assertTrue(worker.out[1].startswith(b"The Zen of Python"))
        self.assertTrue(worker.out[1].endswith(b"\nmine\n"))

    def test_one_that_is_not_there_is_named(self):
        status, words = self.words("colorsys,no.such.module")
        self.assertEqual(status, PRELOAD)
        self.assertEqual(words[-1], "module no.such.module: "
                         "ModuleNotFoundError: No module named 'no'")

    def test_one_that_fails_is_told_of_in_a_line(self):
        status, words = self.words("asyncio.windows_events")
        self.assertEqual(status, PRELOAD)
        self.assertRegex(words[-1], "^module [a-z._]+: [A-Za-z]+Error: ")


if __name__ == "__main__":
    unittest.main()
