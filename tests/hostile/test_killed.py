"""kill -9 of the process that has a session, at random points of all that it
does. What a killed command was about is known in the end: from what it had
printed, from what a later one is told, and from the journal; once, and the
same everywhere.

CELLAR_TEST_SEED repeats a run, CELLAR_KILL_POINTS says how many kills."""

import collections
import json
import os
import random
import time
import unittest

from hostile import popen, run
import cellar_test
from cellar_test import Session, session, unique, wait_for

SEED = int(os.environ.get("CELLAR_TEST_SEED", random.SystemRandom().randrange(
    1 << 32)))
KILLS = int(os.environ.get("CELLAR_KILL_POINTS", "50"))

# Every cell leaves its mark in /tmp, so that one that ran twice is seen, and
# another one among the globals.
COUNT = """
n += 1
with open('/tmp/ran', 'a') as ran: ran.write('%(mark)d ')
"""
KINDS = {
    "run": COUNT + "n",
    "stream": COUNT + "for i in range(20000): print(i, '%(mark)d')\nn",
    "slow": COUNT + "import time\n"
            "for i in range(20): time.sleep(0.01); print(i, flush=True)\nn",
    "fail": COUNT + "1 / 0",
    "large": COUNT + "'%(mark)d' * 100000",
}
STATUS = {"fail": "error"}


def killed_after(seconds, *arguments):
    """Runs a command that dies by SIGKILL after so long, or ends before; what
    it had printed."""
    process = popen(*arguments)
    try:
        out, err = process.communicate(timeout=seconds)
    except Exception:
        process.kill()
        out, err = process.communicate()
    return process.returncode, out.decode("utf-8", "replace"), err.decode(
        "utf-8", "replace")


def whole_results(text, key=None):
    """The result objects of lines that were written to their end."""
    found = []
    for line in text.split("\n")[:-1]:
        if line.startswith("{"):
            value = json.loads(line)
            found.append(value[key] if key else value)
    return found


class Life(unittest.TestCase):
    """One session, killed again and again."""

    @classmethod
    def setUpClass(cls):
        cls.random = random.Random(SEED)
        print("  CELLAR_TEST_SEED=%d CELLAR_KILL_POINTS=%d" % (SEED, KILLS))
        cls.session = Session(prefix="killed")
        cls.addClassCleanup(cls.session.stop)
        cls.container = cls.session.container()

    def setUp(self):
        self.told = collections.Counter()  # results that anybody has seen
        self.marks = {}                    # by the mark in its code: its kind
        self.resets = 0
        self.begin()

    def begin(self):
        self.listen(run("exec", "--json", self.session.name,
                        "n = 0; open('/tmp/ran', 'w').close()"))

    def listen(self, done):
        """Notes whose results a command has told."""
        status, out, err = done
        for result in whole_results(out):
            self.told[result["cell"]] += 1
        for result in whole_results(err, "unattended"):
            self.told[result["cell"]] += 1
        return status

    def kill_one(self, seconds):
        """A command of a random kind, killed."""
        kind = self.random.choice([*KINDS, "reset"])
        name = self.session.name
        if kind == "reset":
            self.listen(killed_after(seconds, "reset", name))
            self.resets += 1
            return kind
        mark = len(self.marks)
        self.marks[mark] = kind
        self.listen(killed_after(seconds, "exec", "--json", name,
                                 KINDS[kind] % {"mark": mark}))
        return kind

    def look(self):
        """How the session is: n, and the marks of the cells that ran since
        the last reset. A killed reset may have been one."""
        done = run("exec", "--json", self.session.name,
                   "(n, open('/tmp/ran').read()) if 'n' in globals() else None")
        self.listen(done)
        self.assertEqual(0, done.status, done.err)
        value = whole_results(done.out)[-1]["result"]
        if value is None:
            self.begin()
            return None
        n, ran = eval(value["text/plain"], {"__builtins__": {}})
        return n, [int(mark) for mark in ran.split()]

    def history(self):
        done = run("history", "--json", self.session.name)
        self.assertEqual(0, done.status, done.err)
        return [json.loads(line) for line in done.out.splitlines()]

    def check_history(self):
        """Each cell once, each with one end; those of known marks as they must
        be. Returns the marks of the cells that ended by themselves."""
        cells = self.history()
        numbers = [cell["cell"] for cell in cells]
        self.assertEqual(sorted(set(numbers)), numbers)
        ended = []
        for cell in cells:
            self.assertIsNotNone(cell["code"], cell)
            self.assertIsNotNone(cell["ended"], cell)
            self.assertFalse(cell["untold"], cell)
            mark = self.mark_of(cell["code"])
            if mark is None or cell["result"]["status"] in ("lost", "killed"):
                continue
            kind = self.marks[mark]
            self.assertEqual(STATUS.get(kind, "ok"), cell["result"]["status"])
            self.check_output(kind, mark, cell["result"])
            ended.append(mark)
        self.assertEqual(len(set(ended)), len(ended))
        return ended

    def mark_of(self, code):
        _, sep, rest = code.partition("ran.write('")
        return int(rest.split(" ")[0]) if sep else None

    def check_output(self, kind, mark, result):
        """Whole, also when one process took its beginning, another its end."""
        wanted = {"stream": "".join("%d %d\n" % (i, mark)
                                    for i in range(20000)),
                  "slow": "".join("%d\n" % i for i in range(20))}
        self.assertEqual(wanted.get(kind, ""), result["stdout"])
        if kind == "large":
            text = (result["result"] or {}).get("text/plain", "")
            self.assertEqual("'%s'" % (str(mark) * 100000), text)

    def test_no_cell_is_lost_doubled_or_run_twice(self):
        counts = collections.Counter()
        ran = set()
        for _ in range(KILLS):
            seconds = self.random.uniform(0, self.random.choice(
                (0.05, 0.15, 0.5)))
            kind = self.kill_one(seconds)
            counts[kind] += 1
            with self.subTest(kind=kind, seconds=seconds):
                seen = self.look()
                if seen is None:
                    continue
                n, marks = seen
                self.assertEqual(sorted(set(marks)), marks, "run twice")
                self.assertEqual(n, len(marks))
                ran.update(marks)
        ended = self.check_history()
        self.assertLessEqual(ran, set(ended), "results that were lost")
        self.assertEqual([], [c for c, n in self.told.items() if n > 1])
        cells = {c["cell"] for c in self.history()}
        silent = cells - set(self.told)
        print("  %s; %d cells began, %d ended by themselves, %d told only by "
              "the journal" % (dict(counts), len(cells), len(ended),
                               len(silent)))
        self.assertEqual(self.container, self.session.container())


class Edges(unittest.TestCase):
    """Its birth and its end."""

    @classmethod
    def setUpClass(cls):
        cls.random = random.Random(SEED + 1)
        cls.bystander = Session(prefix="bystander")
        cls.addClassCleanup(cls.bystander.stop)
        cls.bystander.exec("canary = 'alive'")

    def tearDown(self):
        told = self.bystander.exec("canary")
        self.assertEqual({"text/plain": "'alive'"}, told["result"])

    def points(self, *arguments):
        """Random times up to a little more than such a command takes."""
        begin = time.monotonic()
        run(*arguments)
        longest = (time.monotonic() - begin) * 1.2
        for _ in range(KILLS // 5):
            yield self.random.uniform(0, longest)

    def assertNothingLeft(self):
        """But the bystander: ps is enough to clear what dead ones left."""
        def nothing_left():
            run("ps")
            return cellar_test.containers_left() == [
                self.bystander.container()]
        wait_for(nothing_left)
        names = [s["name"] for s in json.loads(run("ps", "--json").out)]
        self.assertEqual([self.bystander.name], names)
        alive = os.listdir(os.path.join(cellar_test.STATE_DIR, "supervisors"))
        self.assertEqual([], alive)

    def test_start(self):
        """The session is there, or its name is free and nothing is left."""
        first = unique("killed")
        self.addCleanup(run, "stop", first)
        for seconds in self.points("start", first):
            name = unique("killed")
            killed_after(seconds, "start", name)
            with self.subTest(seconds=seconds):
                done = run("exec", name, "1 + 1")
                if done.status != 0:
                    self.assertEqual(3, done.status, done.err)
                    again = run("start", name)
                    self.assertEqual(0, again.status, again.err)
                    done = run("exec", name, "1 + 1")
                self.assertEqual((0, "2\n"), (done.status, done.out))
                self.assertEqual(0, run("stop", name).status)
        run("stop", first)
        self.assertNothingLeft()

    def test_an_unnamed_session(self):
        for seconds in self.points("run", "-"):
            killed_after(seconds, "run", "-")
        self.assertNothingLeft()

    def test_many_sessions_of_one_process(self):
        """All of a `run --jobs` go with it."""
        with session(prefix="dir"):
            pass
        files = []
        for i in range(4):
            path = os.path.join(cellar_test.STATE_DIR, "job-%d.py" % i)
            with open(path, "w", encoding="ascii") as file:
                file.write("import time; time.sleep(0.2)\n# %%\nprint(1)\n")
            files.append(path)
        command = ("run", "--jobs", "4", *files)
        for seconds in list(self.points(*command))[:3]:
            killed_after(seconds, *command)
        self.assertNothingLeft()

    def test_stop(self):
        first = Session(prefix="killed")
        for seconds in self.points("stop", first.name):
            live = Session(prefix="killed")
            live.exec("n = 1")
            killed_after(seconds, "stop", live.name)
            with self.subTest(seconds=seconds):
                done = run("exec", live.name, "n")
                if done.status == 0:
                    self.assertEqual("1\n", done.out)
                    self.assertEqual(0, live.stop().status)
                else:
                    self.assertEqual(3, done.status, done.err)
                    live.stop()
                past = json.loads(run("history", "--json").out)
                mine = [p for p in past if p["name"] == live.name]
                self.assertEqual(["stopped"], [p["ending"] for p in mine])
        self.assertNothingLeft()


if __name__ == "__main__":
    unittest.main()
