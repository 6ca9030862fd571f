"""What the tests of the journal share: what it tells, and a state directory
that a test may spoil."""

import contextlib
import json
import os
import subprocess
import tempfile
import unittest

from cellar_test import ENVIRONMENT, run, unique


def history(name, *options, env=None):
    """The cells of a session, as `cellar history --json` tells them."""
    done = run("history", "--json", name, *options, env=env)
    if done.status != 0:
        raise AssertionError("cellar history: %d %s" % (done.status, done.err))
    return [json.loads(line) for line in done.out.splitlines()]


def numbers(entries):
    return [entry["cell"] for entry in entries]


def past(name, env=None):
    """The sessions in the journal that were called so, the oldest first."""
    done = run("history", "--json", env=env)
    if done.status != 0:
        raise AssertionError("cellar history: %d %s" % (done.status, done.err))
    return [s for s in json.loads(done.out) if s["name"] == name]


class OwnState(unittest.TestCase):
    """A state directory of the test's own, which it may spoil."""

    def setUp(self):
        self.path = tempfile.mkdtemp(prefix="cellar-history-")
        self.env = dict(ENVIRONMENT, CELLAR_STATE_DIR=self.path)
        self.addCleanup(self.remove)
        self.filler = os.path.join(self.path, "filler")  # of a full disk
        self.journal = os.path.join(self.path, "journal.db")
        self.name = unique()

    def remove(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.filler)
        run("stop", "--all", env=self.env)
        subprocess.run(["umount", "-q", self.path], check=False)
        subprocess.run(["rm", "-rf", self.path], check=False)

    def exec(self, code):
        done = run("exec", self.name, code, env=self.env)
        self.assertEqual(0, done.status, done.err)
        return done

    def start(self):
        done = run("start", self.name, env=self.env)
        self.assertEqual((0, self.name + "\n", ""), done)

    def codes(self):
        return [e["code"] for e in history(self.name, env=self.env)]
