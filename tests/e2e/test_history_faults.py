"""The journal damaged, its disk full, and pruned: sessions go on, and what was
stored stays."""

import hashlib
import json
import os
import subprocess
import unittest

from cellar_test import run
from journal import OwnState, history, past


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class FaultTest(OwnState):
    def assertWarned(self, done, *words):
        """One line about the journal."""
        lines = [line for line in done.err.splitlines()
                 if self.journal in line]
        self.assertEqual(1, len(lines), done.err)
        self.assertTrue(lines[0].startswith("cellar: "))
        for word in words:
            self.assertIn(word, lines[0])

    def assertToldWithTheCure(self, *words):
        for command in (["history"], ["history", self.name],
                        ["export", self.name, "-"]):
            done = run(*command, env=self.env)
            self.assertEqual((3, ""), (done.status, done.out))
            self.assertWarned(done, *words)


class Damaged(FaultTest):
    def test_sessions_go_on_and_the_file_is_left_alone(self):
        self.start()
        self.exec("x = 1")
        with open(self.journal, "r+b") as file:
            file.write(os.urandom(20000))
        before = digest(self.journal)
        done = self.exec("print(x + 1)")
        self.assertEqual("2\n", done.out)
        self.assertWarned(done, "damaged", "mv ")
        self.assertToldWithTheCure("damaged", "mv ")
        self.assertEqual(before, digest(self.journal))
        os.rename(self.journal, self.journal + ".damaged")
        self.assertEqual("", self.exec("x").err)
        self.assertIn("x", self.codes())
        self.assertEqual(before, digest(self.journal + ".damaged"))


class FullDisk(FaultTest):
    def setUp(self):
        super().setUp()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700",
                        "none", self.path], check=True)

    def fill(self):
        with open(self.filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def test_sessions_go_on_and_nothing_stored_is_lost(self):
        self.start()
        self.exec("x = 1")
        self.fill()
        done = self.exec("x += 1\nprint('during')")
        self.assertEqual("during\n", done.out)
        self.assertWarned(done, "No space left on device")
        os.unlink(self.filler)
        self.assertEqual("x = 1", self.codes()[0])
        self.assertEqual("2\n", self.exec("x").out)
        self.assertEqual("x", self.codes()[-1])

    def test_it_fills_while_a_cell_runs(self):
        self.start()
        self.exec("x = 1")
        done = run("exec", self.name, "for i in range(5000):\n"
                   "    print(i, 'x' * 1000)", env=self.env)
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(5000, len(done.out.splitlines()))
        self.assertWarned(done)
        self.assertEqual("1\n", self.exec("x").out)


class Prune(OwnState):
    def prune(self, *options):
        done = run("history", "--prune", "--json", *options, env=self.env)
        self.assertEqual(0, done.status, done.err)
        pruned = json.loads(done.out)
        self.assertEqual(["sessions", "cells", "freed_bytes", "size_bytes"],
                         list(pruned))
        return pruned

    def test_what_ended_goes_and_what_lives_stays(self):
        self.start()
        self.exec("print('old' * 10000)")
        run("stop", self.name, env=self.env)
        self.start()
        self.exec("print('live')")
        self.assertEqual(0, self.prune("--age", "1h")["sessions"])
        self.assertEqual(2, len(past(self.name, env=self.env)))
        self.assertEqual(1, self.prune("--age", "0")["sessions"])
        self.assertEqual(1, len(past(self.name, env=self.env)))
        self.assertEqual("live\n", history(self.name, env=self.env)[0]
                         ["result"]["stdout"])
        self.assertEqual("2\n", self.exec("1 + 1").out)

    def test_outputs_go_before_the_codes_of_a_live_one(self):
        self.start()
        self.exec("print('live')")
        pruned = self.prune("--size", "0")
        self.assertEqual((0, 1), (pruned["sessions"], pruned["cells"]))
        entry = history(self.name, env=self.env)[0]
        self.assertTrue(entry["pruned"])
        self.assertEqual(("print('live')", ""),
                         (entry["code"], entry["result"]["stdout"]))
        done = run("export", self.name, "-", env=self.env)
        self.assertIn("pruned", done.err)
        text = run("history", "--prune", env=self.env).out
        self.assertIn("sessions removed: 0\n", text)


if __name__ == "__main__":
    unittest.main()
