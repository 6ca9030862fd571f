"""Checkpoints as a user meets them: `cellar checkpoint`, `cellar restore`, what
results and the history say, and sessions that keep none."""

import contextlib
import json
import os
import sqlite3
import time
import tempfile
import unittest

import cellar_test
from cellar_test import (RESULT_KEYS, SessionTest, has_file, make_file, popen,
                         run, session, unique, wait_for)
from journal import OwnState, history

CRASH = "import ctypes; ctypes.string_at(0)"
EXIT = "import os; os._exit(7)"
THREAD = ("import threading\nstop = threading.Event()\n"
          "thread = threading.Thread(target=stop.wait)\nthread.start()")

TAKEN = {"taken": True}


def checkpoints(name):
    """What `cellar checkpoint --list` tells, the oldest first."""
    done = run("checkpoint", "--list", "--json", name)
    if done.status != 0:
        raise AssertionError("cellar checkpoint: %s" % done.err)
    return json.loads(done.out)


def names(name):
    """Those that have one."""
    return [c["checkpoint"] for c in checkpoints(name) if c["checkpoint"]]


class CheckpointTest(SessionTest):
    def take(self, tag, *options):
        done = run("checkpoint", *options, self.session.name, tag)
        self.assertEqual((0, ""), (done.status, done.err))
        return done.out

    def restore(self, tag, *options):
        done = run("restore", *options, self.session.name, tag)
        self.assertEqual((0, ""), (done.status, done.err))
        return done.out

    def assertRefused(self, done, *words, status=3):
        self.assertEqual((status, ""), (done.status, done.out))
        for word in words:
            self.assertIn(word, done.err)


class Automatic(CheckpointTest):
    """A session of the defaults: a checkpoint after every cell."""

    def test_every_result_tells_of_its_checkpoint(self):
        for code in ("x = 1", "1/0", "this is no python"):
            result = self.cell(code)
            self.assertEqual(RESULT_KEYS, list(result))
            self.assertEqual(TAKEN, result["checkpoint"], code)

    def test_a_crash_costs_the_crashed_cell_and_no_more(self):
        for code, status in ((CRASH, "killed"), (EXIT, "exited")):
            before = self.ok("x = 'kept'")["cell"]
            result = self.cell("x = 'lost'\n" + code)
            self.assertEqual((status, "restored", before, None),
                             (result["status"], result["state"],
                              result["restored_from"], result["checkpoint"]))
            self.assertEqual("'kept'", self.value("x"))

    def test_people_are_told_where_a_crash_left_them(self):
        cell = self.ok("x = 1")["cell"]
        done = run("exec", self.session.name, CRASH)
        self.assertEqual((1, ""), (done.status, done.out))
        self.assertEqual("cell %d: killed by signal 11 (SIGSEGV); state "
                         "restored to that after cell %d\n" % (cell + 1, cell),
                         done.err)

    def test_a_crash_between_cells_is_told_with_the_next(self):
        """No cell runs when it comes: one waits for a word from outside."""
        inside = self.session.container()
        result = self.ok(
            "import os, time\nx = 'kept'\nif os.fork() == 0:\n"
            "    while not os.path.exists('/dev/shm/now'): time.sleep(0.01)\n"
            "    open('/dev/shm/done', 'w').close()\n"
            "    os.kill(os.getppid(), 9)\n"
            "    os._exit(0)")
        make_file(inside, "/dev/shm/now")
        wait_for(lambda: has_file(inside, "/dev/shm/done"))
        while result["state"] == "kept":
            before = result["cell"]
            time.sleep(0.05)
            result = self.ok("x")
        self.assertEqual(("restored", before, "'kept'"),
                         (result["state"], result["restored_from"],
                          result["result"]["text/plain"]))
        self.assertIn("before this cell", result["reason"])
        self.assertIsNone(self.ok("x")["reason"])

    def test_a_thread_is_a_reason_to_take_none(self):
        cell = self.ok("x = 'before'")["cell"]
        result = self.ok(THREAD + "\nx = 'beside'")
        self.assertIs(False, result["checkpoint"]["taken"])
        self.assertIn("thread", result["checkpoint"]["why"])
        self.assertEqual(cell, self.cell(CRASH)["restored_from"])
        self.assertEqual("'before'", self.value("x"))
        self.assertEqual(TAKEN, self.ok("x")["checkpoint"])

    def test_a_few_are_listed_without_a_name(self):
        for _ in range(4):
            cell = self.ok("x = 1")["cell"]
        listed = [c for c in checkpoints(self.session.name)
                  if c["checkpoint"] is None]
        self.assertIn(len(listed), (1, 2))
        self.assertEqual(cell, listed[-1]["after"])


class Memory(CheckpointTest):
    """What a checkpoint holds is given back before a cell is refused memory."""

    OPTIONS = ("--memory", "512m")
    FILL = "x = None\nx = bytearray(b%r) * (300 << 20)\nx[:1]"

    def test_automatic_ones_are_given_up_for_a_cell(self):
        for byte in ("a", "b", "c"):  # two of them are more than there is
            result = self.ok(self.FILL % byte)
            self.assertEqual(TAKEN, result["checkpoint"])
            self.assertEqual("bytearray(b'%s')" % byte,
                             result["result"]["text/plain"])
        self.ok("del x")

    def test_then_a_crash_has_nothing_to_go_back_to_and_says_why(self):
        self.ok(self.FILL % "a")
        result = self.cell(self.FILL % "b" + "\n" + EXIT)
        self.assertEqual(("exited", "fresh"),
                         (result["status"], result["state"]))
        self.assertIs(False, result["checkpoint"]["taken"])
        self.assertIn("memory", result["checkpoint"]["why"])

    def test_named_ones_are_not(self):
        cell = self.ok(self.FILL % "a")["cell"]
        self.take("mine")
        result = self.cell(self.FILL % "b")
        self.assertEqual(("out_of_memory", "restored", cell),
                         (result["status"], result["state"],
                          result["restored_from"]))
        self.assertEqual("bytearray(b'a')", self.value("x[:1]"))
        run("checkpoint", "--delete", self.session.name, "mine")
        self.ok(self.FILL % "b")
        self.ok("del x")


class Named(CheckpointTest):
    def test_taken_listed_restored_and_deleted(self):
        name = self.session.name
        cell = self.ok("x = 'first'")["cell"]
        self.assertRegex(self.take("one"), r"\Acheckpoint one: after cell %d, "
                         r"\d+\.\d ms\n\Z" % cell)
        self.ok("x = 'second'")
        self.assertRegex(self.restore("one"), r"\Arestored one: after cell %d, "
                         r"\d+\.\d ms\n\Z" % cell)
        self.assertEqual("'first'", self.value("x"))
        text = run("checkpoint", "--list", name).out
        self.assertRegex(text, r"\ACHECKPOINT +AFTER CELL +AGE\n")
        self.assertRegex(text, r"(?m)^one +%d +\d" % cell)
        self.assertRegex(text, r"They hold .+ of the session's memory\.\n\Z")
        done = run("checkpoint", "--delete", name, "one")
        self.assertEqual((0, "deleted one\n", ""), done)
        self.assertNotIn("one", names(name))
        self.assertEqual("'first'", self.value("x"))

    def test_in_json(self):
        name = self.session.name
        cell = self.ok("x = 1")["cell"]
        taken = json.loads(self.take("json", "--json"))
        self.assertEqual(["checkpoint", "after", "took_us"], list(taken))
        self.assertEqual(("json", cell), (taken["checkpoint"], taken["after"]))
        back = json.loads(self.restore("json", "--json"))
        self.assertEqual(["restored", "after", "took_us"], list(back))
        self.assertEqual(("json", cell), (back["restored"], back["after"]))
        self.assertLess(0, back["took_us"])
        kept = [c for c in checkpoints(name) if c["checkpoint"] == "json"]
        self.assertEqual([["checkpoint", "after", "age_ms"]],
                         [list(c) for c in kept])
        self.assertEqual(cell, kept[0]["after"])
        done = run("checkpoint", "--delete", "--json", name, "json")
        self.assertEqual({"deleted": "json"}, json.loads(done.out))

    def test_restored_as_often_as_one_likes(self):
        self.ok("tries = []")
        self.take("base")
        for i in range(5):
            self.restore("base")
            self.assertEqual("[%d]" % i, self.value(
                "tries.append(%d)\ntries" % i))

    def test_of_the_same_name_the_newer_one_counts(self):
        self.ok("x = 'older'")
        self.take("same")
        self.ok("x = 'newer'")
        self.take("same")
        self.ok("x = 'last'")
        self.restore("same")
        self.assertEqual("'newer'", self.value("x"))
        self.assertEqual(1, names(self.session.name).count("same"))

    def test_an_unknown_name_changes_nothing(self):
        name = self.session.name
        self.ok("x = 'here'")
        for done in (run("restore", name, "nobody"),
                     run("checkpoint", "--delete", name, "nobody")):
            self.assertRefused(done, "no checkpoint of this name")
        self.assertEqual("'here'", self.value("x"))

    def test_a_bad_command_line(self):
        name = self.session.name
        for arguments, word in (
                (("checkpoint", name, "A b"), "bad checkpoint name"),
                (("restore", name, "../x"), "bad checkpoint name"),
                (("restore", name, "x" * 64), "bad checkpoint name"),
                (("checkpoint", name), "a name for the checkpoint"),
                (("checkpoint", "--delete", name), "a name for the checkpoint"),
                (("checkpoint", "--list", name, "x"), "--list stands alone"),
                (("checkpoint", "--list", "--delete", name), "--list stands"),
                (("checkpoint", "Bad", "x"), "name"),
                (("restore", name), "needs NAME TAG")):
            self.assertRefused(run(*arguments), word, status=2)
        done = run("checkpoint", unique("nobody"), "x")
        self.assertRefused(done, "there is no session")

    def test_a_session_that_somebody_has_is_busy(self):
        name = self.session.name
        with self.session.running("import time\ntime.sleep(600)") as process:
            for command in ("checkpoint", "restore"):
                self.assertRefused(run(command, name, "x"), "in use by process",
                                   str(process.pid))
            run("interrupt", name)
            cellar_test.result_of(process)
        self.take("idle")

    def test_a_state_that_cannot_be_copied_says_why(self):
        self.ok(THREAD)
        self.assertRefused(run("checkpoint", self.session.name, "x"), "thread")
        self.ok("stop.set()\nthread.join()")
        self.take("x")

    def test_a_reset_forgets_all(self):
        with session() as live:
            live.exec("x = 1")
            run("checkpoint", live.name, "gone")
            run("reset", live.name)
            self.assertEqual([], names(live.name))
            self.assertRefused(run("restore", live.name, "gone"),
                               "no checkpoint of this name")

    def test_another_process_finds_them(self):
        """Each command is one; so the checkpoints are the session's own."""
        self.ok("x = 'kept'")
        self.take("mine")
        process = popen("exec", self.session.name, "x = 'changed'")
        process.communicate(timeout=60)
        self.restore("mine")
        self.assertEqual("'kept'", self.value("x"))


class Policies(CheckpointTest):
    OPTIONS = ("--checkpoint", "off")

    def test_off_keeps_nothing_and_says_so(self):
        name = self.session.name
        self.assertIsNone(self.ok("x = 1")["checkpoint"])
        self.assertEqual([], checkpoints(name))
        for done in (run("checkpoint", name, "x"), run("restore", name, "x")):
            self.assertRefused(done, "checkpoints are off")
        result = self.cell(EXIT)
        self.assertEqual(("fresh", None),
                         (result["state"], result["restored_from"]))
        self.assertEqual("False", self.value("'x' in globals()"))

    def test_manual_keeps_what_is_asked_for(self):
        with session("--checkpoint", "manual") as live:
            live.exec("x = 'asked for'")
            run("checkpoint", live.name, "mine")
            self.assertIsNone(live.exec("x = 'later'")["checkpoint"])
            self.assertEqual(["mine"], [c["checkpoint"]
                                        for c in checkpoints(live.name)])
            self.assertEqual(("restored", 1),
                             tuple(map(live.exec(EXIT).get,
                                       ("state", "restored_from"))))
            self.assertEqual("'asked for'",
                             live.exec("x")["result"]["text/plain"])

    def test_the_config_file_may_choose(self):
        with config({"checkpoint": "off"}) as path:
            done = run("run", "--config", path, "--json", "-", stdin="1")
            self.assertIsNone(json.loads(done.out)["checkpoint"])
            done = run("run", "--config", path, "--checkpoint", "auto",
                       "--json", "-", stdin="1")
            self.assertEqual(TAKEN, json.loads(done.out)["checkpoint"])
        with config({"checkpoint": "often"}) as path:
            self.assertRefused(run("run", "--config", path, "-", stdin="1"),
                               "checkpoint", "often", status=2)
        self.assertRefused(run("start", "--checkpoint", "often", unique()),
                           "--checkpoint", "often", status=2)


@contextlib.contextmanager
def config(content):
    """The path of a config file. With the image of the user's own, if it names
    one: it replaces that file."""
    mine = os.environ.get("CELLAR_CONFIG")
    if mine:
        with open(mine, encoding="utf-8") as file:
            content = dict(json.load(file), **content)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(content, file)
        file.flush()
        yield file.name


class History(SessionTest):
    def test_cells_keep_what_was_told_of_checkpoints(self):
        results = [self.ok("x = 1"), self.cell(CRASH), self.ok(THREAD),
                   self.ok("stop.set()\nthread.join()")]
        told = [e["result"] for e in history(self.session.name)][-4:]
        self.assertEqual(results, told)
        self.assertEqual([True, None, False, True],
                         [(r["checkpoint"] or {}).get("taken") for r in told])
        text = run("history", self.session.name, "--last", "4").out
        self.assertIn("state restored to that after cell %d\n" %
                      results[0]["cell"], text)


class OldJournal(OwnState):
    """One of version 1, which knew no checkpoints."""

    def make_old(self):
        with contextlib.closing(sqlite3.connect(self.journal)) as db:
            for table, columns in (("cells", ("taken", "taken_why")),
                                   ("cells", ("restores", "back_to")),
                                   ("sessions", ("restores", "back_to"))):
                for column in columns:
                    db.execute("ALTER TABLE %s DROP COLUMN %s"
                               % (table, column))
            db.execute("PRAGMA user_version = 1")
            db.commit()

    def version(self):
        with contextlib.closing(sqlite3.connect(self.journal)) as db:
            return db.execute("PRAGMA user_version").fetchone()[0]

    def test_is_brought_up_and_keeps_its_cells(self):
        self.start()
        self.exec("x = 'before'")
        new = self.version()
        self.make_old()
        self.assertEqual(1, self.version())
        told = history(self.name, env=self.env)
        self.assertEqual(new, self.version())
        self.assertEqual(["x = 'before'"], [e["code"] for e in told])
        self.assertIsNone(told[0]["result"]["checkpoint"])
        self.exec("x += '!'")
        told = history(self.name, env=self.env)
        self.assertEqual([None, TAKEN],
                         [e["result"]["checkpoint"] for e in told])

    def test_is_brought_up_once_by_many(self):
        self.start()
        self.exec("x = 1")
        self.make_old()
        many = [popen("history", "--json", self.name, env=self.env)
                for _ in range(8)]
        for process in many:
            out, err = process.communicate(timeout=60)
            self.assertEqual((0, b""), (process.returncode, err))
            self.assertEqual(1, json.loads(out)["cell"])


class Bench(unittest.TestCase):
    def test_tells_what_they_cost(self):
        done = run("bench", "checkpoint", "--json", "--cells", "3",
                   timeout=300)
        self.assertEqual((0, ""), (done.status, done.err))
        told = json.loads(done.out)
        for pair in (told["paused"], told["back_to_back"]):
            self.assertEqual(3, pair["rounds"])
            self.assertLess(0, pair["ratio_to_off"])
        self.assertEqual([10 ** 7, 10 ** 8, 10 ** 9],
                         [row["state_bytes"] for row in told["restores"]])
        for row in told["restores"]:
            if "skipped" not in row:
                self.assertLess(row["crash"]["p50_us"], row["back"]["p50_us"])
        fork = told["fork"]
        self.assertEqual([10 ** 8, 10, 3], [fork["state_bytes"],
                                            fork["branches"], fork["rounds"]])
        for step in ("all", "adopt", "cell"):
            self.assertLess(0, fork[step]["p50_us"])
        self.assertEqual([], [live for live in json.loads(
            run("ps", "--json").out) if live["name"].startswith("bench-")])


if __name__ == "__main__":
    unittest.main()
