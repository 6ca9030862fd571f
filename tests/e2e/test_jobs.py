"""`cellar run` with several files: each in a session of its own, so many at a
time, shown in the order of the command line."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

import cellar_test
from cellar_test import popen, run


class JobsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="cellar-e2e-jobs-")
        self.addCleanup(self.folder.cleanup)

    def tearDown(self):
        self.assertEqual([], cellar_test.containers_left())

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def file(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def files(self, *texts):
        return [self.file("f%d.py" % i, text) for i, text in enumerate(texts)]

    def read_until(self, process, mark):
        text = b""
        while mark not in text:
            chunk = os.read(process.stdout.fileno(), 4096)
            self.assertTrue(chunk, text)
            text += chunk
        return text


class Order(JobsTest):
    def test_each_is_shown_whole_and_in_order(self):
        files = self.files(*("import time\ntime.sleep(%f)\nprint('one-%d')\n"
                             "# %%%%\nprint('two-%d')\n" % (0.4 - i / 10, i, i)
                             for i in range(5)))
        done = run("run", "--jobs", "5", *files)
        self.assertEqual(0, done.status, done.err)
        shown = [line for line in done.out.splitlines()
                 if line.startswith(("one-", "two-", "== "))]
        expected = []
        for i, path in enumerate(files):
            expected += ["== " + path, "one-%d" % i, "two-%d" % i]
        self.assertEqual(expected, shown)

    def test_json_names_the_file(self):
        files = self.files("1", "2\n# %%\n3", "4")
        done = run("run", "--jobs", "3", "--json", *files)
        self.assertEqual(0, done.status, done.err)
        told = [json.loads(line) for line in done.out.splitlines()]
        self.assertEqual([(files[0], "1"), (files[1], "2"), (files[1], "3"),
                          (files[2], "4")],
                         [(t["file"], t["result"]["text/plain"])
                          for t in told])
        self.assertEqual(["file"] + cellar_test.RESULT_KEYS, list(told[0]))

    def test_one_file_is_told_without_its_name(self):
        path, = self.files("6 * 7")
        done = run("run", "--json", path)
        self.assertEqual(cellar_test.RESULT_KEYS, list(json.loads(done.out)))
        self.assertNotIn("==", run("run", path).out)

    def test_the_first_is_shown_while_it_runs(self):
        first, second = self.files(
            "print('be' 'gun', flush=True)\nimport time\ntime.sleep(60)",
            "print('sec' 'ond')")
        process = popen("run", "--jobs", "2", first, second)
        text = self.read_until(process, b"begun")
        self.assertNotIn(b"second", text)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    def test_what_a_later_one_prints_is_held_back(self):
        # The second ends long before the first one does.
        files = self.files(
            "import time\ntime.sleep(1)\nprint('slow')",
            "for i in range(2000): print(i)")
        done = run("run", "--jobs", "2", *files)
        self.assertEqual(0, done.status, done.err)
        lines = done.out.splitlines()
        begin = lines.index("== " + files[1])
        self.assertLess(lines.index("slow"), begin)
        self.assertEqual([str(i) for i in range(2000)],
                         [line for line in lines[begin:] if line.isdigit()])


class Sessions(JobsTest):
    def test_each_file_has_its_own(self):
        files = self.files("shared = 1", "try:\n    shared\nexcept NameError:\n"
                           "    print('not there')")
        done = run("run", *files)
        self.assertEqual(0, done.status, done.err)
        self.assertIn("not there", done.out)

    def test_as_many_at_a_time_as_asked(self):
        files = self.files(*["import time\ntime.sleep(0.5)"] * 6)
        process = popen("run", "--jobs", "2", *files)
        most = 0
        while process.poll() is None:
            most = max(most, len(cellar_test.containers_left()))
            time.sleep(0.02)
        process.communicate()
        self.assertEqual(0, process.returncode)
        # One that ends is gone before another one is started.
        self.assertEqual(2, most)

    def test_many_files(self):
        files = self.files(*("print('it is', %d * 1001)" % i
                             for i in range(40)))
        done = run("run", "--jobs", "12", *files)
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(["it is %d" % (i * 1001) for i in range(40)],
                         [line for line in done.out.splitlines()
                          if line.startswith("it is")])

    def test_session_takes_one_file(self):
        done = run("run", "--session", "some", *self.files("1", "2"))
        self.assertEqual(2, done.status)
        self.assertIn("--session", done.err)


class Failing(JobsTest):
    def test_the_others_go_on(self):
        files = self.files("1 / 0\n# %%\nprint('not this')", "print('this')")
        done = run("run", *files)
        self.assertEqual(1, done.status)
        self.assertIn("ZeroDivisionError", done.out)
        self.assertIn("\nthis\n", done.out)
        self.assertNotIn("\nnot this\n", done.out)

    def test_keep_going_is_about_cells(self):
        files = self.files("1 / 0\n# %%\nprint('this too')", "print('this')")
        done = run("run", "--keep-going", *files)
        self.assertEqual(1, done.status)
        self.assertIn("\nthis too\n", done.out)
        self.assertIn("\nthis\n", done.out)

    def test_nothing_starts_when_one_can_not_be_read(self):
        good, = self.files("print('ran')")
        for bad in (self.path("missing.py"),
                    self.file("bad.ipynb", '{"cells": [')):
            done = run("run", good, bad)
            self.assertEqual(2, done.status, done.err)
            self.assertIn(os.path.basename(bad), done.err)
            self.assertEqual("", done.out)

    def test_a_start_that_fails_is_told_for_each(self):
        files = self.files("1", "2")
        done = run("run", "--image", "cellar-test-missing:none", *files)
        self.assertEqual(3, done.status)
        for path in files:
            self.assertIn("cellar: %s: " % path, done.err)


class Outputs(JobsTest):
    def test_a_notebook_for_each(self):
        files = self.files("6 * 7", "print('x')")
        os.mkdir(self.path("out"))
        done = run("run", "--jobs", "2", "--output", self.path("out"), *files)
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(["f0.ipynb", "f1.ipynb"],
                         sorted(os.listdir(self.path("out"))))
        with open(self.path("out/f0.ipynb"), encoding="utf-8") as file:
            cell, = json.load(file)["cells"]
        self.assertEqual("42", "".join(
            cell["outputs"][0]["data"]["text/plain"]))

    def test_two_of_one_name_are_refused(self):
        os.mkdir(self.path("a"))
        os.mkdir(self.path("out"))
        files = [self.file("same.py", "1"), self.file("a/same.py", "2")]
        done = run("run", "--output", self.path("out"), *files)
        self.assertEqual(2, done.status)
        self.assertIn("same", done.err)
        self.assertEqual([], os.listdir(self.path("out")))

    def test_a_directory_that_is_not_there_is_refused(self):
        done = run("run", "--output", self.path("none"),
                   *self.files("print('ran')", "2"))
        self.assertEqual(2, done.status)
        self.assertNotIn("ran", done.out)


class Interrupt(JobsTest):
    MARK = "/dev/shm/begun"

    def begun(self, count):
        """Whether so many sessions have begun their cell."""
        return count == sum(
            cellar_test.has_file(container, self.MARK)
            for container in cellar_test.containers_left())

    def test_ctrl_c_ends_all_that_run_and_begins_none(self):
        files = self.files(*["import time\nopen(%r, 'w').close()\n"
                             "time.sleep(60)" % self.MARK] * 4)
        process = popen("run", "--json", "--jobs", "3", *files)
        cellar_test.wait_for(lambda: self.begun(3))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(1, process.returncode, err)
        told = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([(path, "interrupted") for path in files[:3]],
                         [(t["file"], t["status"]) for t in told])

    def test_a_second_one_ends_the_command(self):
        # Said in two parts: the code itself is shown too.
        stubborn = ("import time\nwhile True:\n    try:\n"
                    "        print('be' 'gun', flush=True)\n"
                    "        time.sleep(60)\n"
                    "    except KeyboardInterrupt:\n"
                    "        print('refu' 'sed', flush=True)")
        files = self.files(*[stubborn] * 2)
        process = popen("run", "--jobs", "2", *files)
        self.read_until(process, b"begun")
        process.send_signal(signal.SIGINT)
        self.read_until(process, b"refused")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(128 + signal.SIGINT, process.returncode)


if __name__ == "__main__":
    unittest.main()
