"""Branches: sessions forked from a session's globals, each with cells, output
and an end of its own, in one container."""

import contextlib
import json
import os
import unittest

import cellar_test
from branching import fork, fork_to, listed
from cellar_test import (RESULT_KEYS, Session, SessionTest, popen, result_of,
                         run, session, unique, wait_for)
from journal import history, past

CRASH = "import ctypes; ctypes.string_at(0)"
EXIT = "import os; os._exit(7)"
DEAF = ("import time\nwhile True:\n"
        "    try: time.sleep(60)\n"
        "    except KeyboardInterrupt: pass")
FILL = "hog = []\nwhile True: hog.append(bytearray(1 << 24))"
# Bounded by the session's own limit, and over when that is reached.
BOMB = ("import os, time\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(0.001)\n"
        "    except OSError: pass")
THREAD = ("import threading\nstop = threading.Event()\n"
          "thread = threading.Thread(target=stop.wait)\nthread.start()")


class BranchTest(SessionTest):
    OPTIONS = ("--grace", "300ms", "--timeout", "60s")

    def fork(self, count=1, of=None):
        """Branches that are stopped with the test."""
        made = fork(of or self.session, count)
        for branch in made:
            self.addCleanup(branch.stop)
        return made

    def say(self, live, code):
        """The text of the value of a cell that must end well."""
        result = live.exec(code)
        self.assertEqual("ok", result["status"], result)
        return result["result"]["text/plain"]

    def assertRefused(self, done, *words, status=3):
        self.assertEqual((status, ""), (done.status, done.out))
        for word in words:
            self.assertIn(word, done.err)


class Forking(BranchTest):
    def test_values_are_equal_and_then_its_own(self):
        self.ok("x = {'list': [1]}\ndef double(n): return n * 2")
        both = self.fork(2)
        for i, branch in enumerate(both):
            self.assertEqual("[1, %d]" % i, self.say(
                branch, "x['list'].append(%d)\nx['list']" % i))
            self.assertEqual("42", self.say(branch, "double(21)"))
        self.assertEqual("{'list': [1]}", self.value("x"))
        self.ok("x['list'] = 'mine'")
        for i, branch in enumerate(both):
            self.assertEqual("[1, %d]" % i, self.say(branch, "x['list']"))

    def test_told_to_people_and_in_json(self):
        name = self.session.name
        cell = self.ok("x = 1")["cell"]
        names = [unique(), unique()]
        told = fork_to(self.session, *names)
        for branch, entry in zip(names, told):
            self.addCleanup(run, "stop", branch)
            self.assertEqual(["name", "forked_from", "after", "took_us"],
                             list(entry))
            self.assertEqual((branch, name, cell),
                             (entry["name"], entry["forked_from"],
                              entry["after"]))
            self.assertLess(0, entry["took_us"])
        for count, word in (1, "branch"), (2, "branches"):
            names = [unique() for _ in range(count)]
            for branch in names:
                self.addCleanup(run, "stop", branch)
            done = run("fork", name, *names)
            self.assertEqual((0, ""), (done.status, done.err))
            self.assertRegex(done.out,
                             r"\A%d %s of %s: after cell %d, \d+\.\d ms\n\Z"
                             % (count, word, name, cell))

    def test_cells_go_on_counting_in_each(self):
        cell = self.ok("1")["cell"]
        one, two = self.fork(2)
        for branch in one, two, one:
            result = branch.exec("1")
            self.assertEqual(RESULT_KEYS, list(result))
        self.assertEqual((cell + 3, cell + 2, cell + 1),
                         (one.exec("1")["cell"], two.exec("1")["cell"],
                          self.ok("1")["cell"]))

    def test_a_branch_of_a_branch(self):
        self.ok("x = 'root'")
        child, = self.fork()
        child.exec("x += ', child'")
        grandchild, = self.fork(of=child)
        grandchild.exec("x += ', grandchild'")
        child.stop()
        self.assertEqual("'root, child, grandchild'",
                         self.say(grandchild, "x"))
        self.assertEqual("'root'", self.value("x"))

    def test_before_any_cell(self):
        with session() as live:
            branch, = self.fork(of=live)
            result = branch.exec("x = 1\nx")
            self.assertEqual((1, {"text/plain": "1"}),
                             (result["cell"], result["result"]))

    def test_sixteen_at_once_and_no_more(self):
        with session() as live:
            live.exec("x = 'many'")
            names = [unique() for _ in range(17)]
            self.assertRefused(run("fork", live.name, *names), "fork",
                               status=2)
            fork_to(live, *names[:16])
            for name in names[:16]:
                self.addCleanup(run, "stop", name)
            for name in names[0], names[15]:
                done = run("exec", name, "x")
                self.assertEqual((0, "'many'\n"), (done.status, done.out))
            self.assertRefused(run("fork", live.name, *names[:1]), "exists")
            more = [unique() for _ in range(16)]
            self.assertRefused(run("fork", live.name, *more),
                               "no room for so many branches")
            self.assertFalse(set(more) & set(listed()))

    def test_names_that_are_taken_make_none(self):
        new = unique()
        for names in ((new, self.session.name), (self.session.name,),
                      (new, new)):
            done = run("fork", self.session.name, *names)
            self.assertEqual((3, ""), (done.status, done.out), names)
            self.assertIn(names[-1], done.err)
        with session() as other:
            self.assertRefused(run("fork", self.session.name, new, other.name),
                               other.name, "exists already")
        self.assertNotIn(new, listed())
        self.assertFalse(os.path.exists(os.path.join(
            cellar_test.STATE_DIR, "sessions", new)))
        self.assertAlive()

    def test_a_bad_command_line(self):
        name = self.session.name
        for arguments in (name,), (), (name, "A b"), (name, "../x"), \
                (name, "x" * 64), ("A", "b"):
            with self.subTest(arguments=arguments):
                self.assertRefused(run("fork", *arguments), status=2)
        self.assertRefused(run("fork", unique("nobody"), unique()),
                           "there is no session")

    def test_while_a_cell_runs_it_is_busy(self):
        name = unique()
        with self.session.running(DEAF) as process:
            self.assertRefused(run("fork", self.session.name, name),
                               "in use by process", str(process.pid))
            run("interrupt", self.session.name)
            result_of(process)
        self.assertNotIn(name, listed())

    def test_a_state_that_cannot_be_copied_says_why(self):
        name = unique()
        self.ok(THREAD)
        self.assertRefused(run("fork", self.session.name, name), "thread")
        self.assertNotIn(name, listed())
        self.ok("stop.set()\nthread.join()")
        self.fork()

    def test_without_checkpoints_too(self):
        with session("--checkpoint", "off") as live:
            live.exec("x = 'kept'")
            branch, = self.fork(of=live)
            result = branch.exec("x")
            self.assertEqual(("'kept'", None),
                             (result["result"]["text/plain"],
                              result["checkpoint"]))


class Random(BranchTest):
    """What is to differ between branches does."""

    DRAWS = ("random.random()", "random.getrandbits(64)",
             "uuid.uuid4().hex", "uuid.uuid1().hex", "os.urandom(8)",
             "secrets.token_hex(8)", "tempfile.mktemp()")

    def assertDiffer(self, live, draws):
        lives = [live] + self.fork(2, of=live)
        for draw in draws:
            drawn = {self.say(one, draw) for one in lives}
            self.assertEqual(3, len(drawn), (draw, drawn))

    def test_of_the_standard_library(self):
        self.ok("import os, random, secrets, tempfile, uuid\nrandom.seed(1)\n"
                + "\n".join(self.DRAWS))
        self.assertDiffer(self.session, self.DRAWS)

    def test_of_numpy(self):
        with session(*cellar_test.of_image("cellar-runtime:data")) as live:
            live.exec("import numpy, random\nnumpy.random.seed(1)")
            self.assertDiffer(live, ("numpy.random.random()",
                                     "random.random()"))

    def test_what_a_program_seeded_itself_is_kept(self):
        self.ok("import random\nown = random.Random(7)")
        branch, = self.fork()
        draw = "own.random(), hash('text')"
        self.assertEqual(self.value(draw), self.say(branch, draw))


class Beside(BranchTest):
    """Two branches at once: what becomes of one is not the other's."""

    OPTIONS = BranchTest.OPTIONS + ("--memory", "256m", "--pids", "64")

    def setUp(self):
        self.ok("x = 'shared'")
        self.one, self.two = self.fork(2)

    @contextlib.contextmanager
    def beside(self, live):
        """A cell runs in `live` meanwhile; it must end well, with its own."""
        mark = "/dev/shm/on-%s" % unique()
        code = ("import os, time\nx += ', mine'\nprint('before')\n"
                "while not os.path.exists(%r): time.sleep(0.01)\n"
                "print('after')\nx" % mark)
        with live.running(code) as process:
            yield
            self.ok("open(%r, 'w').close()" % mark)
            _, result = result_of(process)
        self.assertEqual(
            ("ok", "kept", "before\nafter\n", "", "'shared, mine'"),
            (result["status"], result["state"], result["stdout"],
             result["stderr"], result["result"]["text/plain"]), result)
        again = live.exec("x")
        self.assertEqual(("ok", "kept", {"text/plain": "'shared, mine'"}),
                         (again["status"], again["state"], again["result"]))

    def test_cells_run_at_the_same_time(self):
        with self.one.running(self.one.meet("met", self.two) + "x = 1\nx") as a:
            with self.two.running(self.two.meet("met", self.one) +
                                  "x = 2\nx") as b:
                values = [result_of(p)[1]["result"]["text/plain"]
                          for p in (a, b)]
        self.assertEqual(["1", "2"], values)
        self.assertEqual("'shared'", self.value("x"))

    def test_endings_of_one(self):
        for code, options, status in (
                (CRASH, (), "killed"), (EXIT, (), "exited"),
                (DEAF, ("--timeout", "500ms"), "timeout"),
                (FILL, (), "out_of_memory"),
                (BOMB, ("--timeout", "1s"), "timeout"),
                ("1/0", (), "error"), ("exit(3)", (), "exited")):
            with self.subTest(code=code), self.beside(self.two):
                result = self.one.exec("x = 'lost'\n" + code, *options)
                self.assertEqual(status, result["status"], result)
                if status not in ("error",):
                    self.assertIn(result["state"], ("restored", "kept"))
            self.one.exec("x = 'again'")
            self.assertEqual("'again'", self.say(self.one, "x"))
            run("restore", self.two.name, "start")
            self.two.exec("x = 'shared'")

    def test_an_interrupt_reaches_one(self):
        with self.beside(self.two):
            with self.one.running(DEAF.replace("pass", "raise")) as process:
                self.assertEqual(0, run("interrupt", self.one.name).status)
                _, result = result_of(process)
            self.assertEqual(("interrupted", "kept"),
                             (result["status"], result["state"]))

    def test_output_of_one_is_not_in_the_other(self):
        code = "for i in range(2000):\n    print('%s', flush=True)"
        pairs = []
        with contextlib.ExitStack() as stack:
            for live, other, word in ((self.one, self.two, "one"),
                                      (self.two, self.one, "two")):
                pairs.append((word, stack.enter_context(live.running(
                    live.meet("loud", other) + code % word))))
            for word, process in pairs:
                _, result = result_of(process)
                self.assertEqual((word + "\n") * 2000, result["stdout"])

    def test_what_one_left_behind_writes_into_its_own_cells(self):
        self.one.exec("import subprocess\nsubprocess.Popen("
                      "'while :; do echo stray; sleep 0.01; done',"
                      " shell=True)")
        for _ in range(3):
            self.assertEqual("", self.two.exec("import time\n"
                                               "time.sleep(0.1)")["stdout"])

    def test_a_reset_of_one(self):
        self.ok("open('/tmp/file', 'w').write('kept')")
        with self.beside(self.two):
            self.assertEqual(0, run("reset", self.one.name).status)
            self.assertEqual("(False, 'kept')", self.say(
                self.one, "'x' in globals(), open('/tmp/file').read()"))

    def test_a_stop_of_one(self):
        with self.beside(self.two):
            self.assertEqual(0, self.one.stop().status)
            self.assertRefused(run("exec", self.one.name, "1"),
                               "there is no session")

    def test_one_in_use_is_stopped_by_another_process(self):
        with self.beside(self.two):
            with self.one.running(DEAF) as process:
                self.assertEqual(0, self.one.stop().status)
                _, result = result_of(process)
            self.assertEqual("lost", result["status"])
        self.assertNotIn(self.one.name, listed())

    def test_checkpoints_are_its_own(self):
        run("checkpoint", self.session.name, "mine")
        self.assertRefused(run("restore", self.one.name, "mine"),
                           "no checkpoint of this name")
        self.one.exec("x = 'first'")
        self.assertEqual(0, run("checkpoint", self.one.name, "mine").status)
        self.one.exec("x = 'second'")
        with self.beside(self.two):
            self.assertEqual(0, run("restore", self.one.name, "mine").status)
        self.assertEqual("'first'", self.say(self.one, "x"))
        run("restore", self.session.name, "mine")
        self.assertEqual("'shared'", self.value("x"))

    def test_a_crash_costs_the_crashed_cell_and_no_more(self):
        before = self.one.exec("x = 'kept'")["cell"]
        result = self.one.exec("x = 'lost'\n" + CRASH)
        self.assertEqual(("killed", "restored", before),
                         (result["status"], result["state"],
                          result["restored_from"]))
        self.assertEqual("'kept'", self.say(self.one, "x"))

    def test_a_crash_before_its_first_cell_goes_back_to_the_fork(self):
        result = self.one.exec(CRASH)
        self.assertEqual("restored", result["state"])
        self.assertEqual("'shared'", self.say(self.one, "x"))


class Ends(BranchTest):
    """The container lives as long as one of them."""

    def gone(self, container):
        return container not in cellar_test.containers_left()

    def test_the_root_first_and_the_last_takes_the_container(self):
        live = Session()
        live.exec("x = 'kept'")
        container = live.container()
        one, two = self.fork(2, of=live)
        self.assertEqual(0, live.stop().status)
        self.assertRefused(run("exec", live.name, "1"), "there is no session")
        for branch in one, two:
            self.assertEqual("'kept'", self.say(branch, "x"))
        self.assertEqual(0, one.stop().status)
        self.assertFalse(self.gone(container))
        self.assertEqual("'kept'", self.say(two, "x"))
        self.assertEqual(0, two.stop().status)
        self.assertTrue(self.gone(container))
        self.assertEqual([], [n for n in listed() if n in
                              (live.name, one.name, two.name)])
        self.assertEqual(["stopped"] * 3, [past(s.name)[-1]["ending"]
                                           for s in (live, one, two)])

    def test_what_still_has_live_branches_is_not_removed(self):
        live = Session()
        live.exec("x = 'old'")
        container = live.container()
        branch, = self.fork(of=live)
        live.stop()
        for _ in range(2):
            self.assertEqual("idle", listed()[branch.name]["state"])
        self.assertRefused(run("start", live.name), live.name,
                           "lives on with its branches")
        self.assertEqual("'old'", self.say(branch, "x"))
        branch.stop()
        self.assertTrue(self.gone(container))
        self.assertEqual((0, ""), run("start", live.name)[::2])
        self.assertEqual(0, run("stop", live.name).status)

    def test_many_are_stopped_at_once(self):
        live = Session()
        container = live.container()
        lives = [live] + self.fork(3, of=live)
        processes = [popen("stop", one.name) for one in lives]
        for process in processes:
            _, err = process.communicate(timeout=60)
            self.assertEqual(0, process.returncode, err)
        self.assertTrue(self.gone(container))
        self.assertFalse({one.name for one in lives} & set(listed()))

    def test_all_are_stopped(self):
        env = dict(cellar_test.ENVIRONMENT,
                   CELLAR_STATE_DIR=os.path.join(cellar_test.STATE_DIR, "all"))
        names = [unique() for _ in range(3)]
        self.assertEqual(0, run("start", names[0], env=env).status)
        self.assertEqual(0, run("fork", *names, env=env).status)
        container = json.loads(run("ps", "--json", env=env).out)[0]["container"]
        done = run("stop", "--all", env=env)
        self.assertEqual((0, ""), (done.status, done.err))
        self.assertEqual("[]\n", run("ps", "--json", env=env).out)
        self.assertFalse(cellar_test.is_there(container,
                                              env["CELLAR_STATE_DIR"]))

    def test_a_container_that_is_killed_loses_all(self):
        live = Session()
        lives = [live] + self.fork(2, of=live)
        cellar_test.from_outside("kill", live.container())
        for one in lives:
            self.assertRefused(run("exec", one.name, "1"), one.name, "is lost")
        for one in lives:
            self.assertEqual("lost", past(one.name)[-1]["ending"])
            self.assertRefused(run("exec", one.name, "1"),
                               "there is no session")

    def test_the_leases_of_those_that_nobody_has(self):
        """They end alone, the root too; whoever asks for one is told."""
        live = Session("--lease", "5s")
        live.exec("x = 'kept'")
        container = live.container()
        one, two, three = self.fork(3, of=live)
        with one.running("import time\ntime.sleep(7)\nx") as process:
            _, result = result_of(process)
            self.assertEqual("'kept'", result["result"]["text/plain"])
        for ended in live, two:
            self.assertRefused(run("exec", ended.name, "1"), ended.name,
                               "is lost", "lease")
            self.assertEqual("lost", past(ended.name)[-1]["ending"])
        self.assertEqual((0, ""), three.stop()[::2])
        self.assertEqual({one.name}, set(listed()) & {
            s.name for s in (live, one, two, three)})
        self.assertEqual("'kept'", self.say(one, "x"))
        one.stop()
        self.assertTrue(self.gone(container))


class Books(BranchTest):
    """What is written down of branches."""

    def test_history_and_export_begin_with_the_parents_past(self):
        with session() as live:
            live.exec("x = 1\nprint('parent')")
            live.exec("1/0")
            branch, = self.fork(of=live)
            branch.exec("x += 1\nx")
            live.exec("'after the fork'")
            told = history(branch.name)
            self.assertEqual(["x = 1\nprint('parent')", "1/0", "x += 1\nx"],
                             [e["code"] for e in told])
            self.assertEqual([1, 2, 3], [e["cell"] for e in told])
            self.assertEqual(history(live.name)[:2], told[:2])
            self.assertEqual("parent\n", told[0]["result"]["stdout"])
            notebook = json.loads(run("export", branch.name, "-").out)
            self.assertEqual(
                [e["code"] for e in told],
                ["".join(c["source"]) for c in notebook["cells"]
                 if c["cell_type"] == "code"])
        self.assertEqual(3, len(history(branch.name)))

    def test_ps_tells_of_each(self):
        branch, = self.fork()
        branch.exec("1")
        told = listed()
        root, mine = told[self.session.name], told[branch.name]
        self.assertEqual(list(root), list(mine))
        self.assertEqual(root["container"], mine["container"])
        self.assertEqual(("idle", 0), (mine["state"], mine["holder"]))
        with branch.running(DEAF) as process:
            told = listed()
            self.assertEqual(("busy", process.pid),
                             (told[branch.name]["state"],
                              told[branch.name]["holder"]))
            self.assertEqual("idle", told[self.session.name]["state"])
            run("interrupt", branch.name)
            wait_for(lambda: process.poll() is not None)
        text = run("ps").out
        for name in self.session.name, branch.name:
            self.assertIn(name, text)

    def test_a_cell_whose_command_was_killed_is_told_once(self):
        branch, other = self.fork(2)
        mark = "/dev/shm/on-" + branch.name
        with branch.running("import os, time\nprint('mine')\n"
                            "while not os.path.exists(%r): time.sleep(0.01)\n"
                            "unattended = 'done'" % mark) as process:
            process.kill()
            process.wait()
        other.exec("open(%r, 'w').close()" % mark)
        told = [run("exec", "--verbose", branch.name, "unattended")
                for _ in range(2)]
        self.assertEqual([(0, "'done'\n")] * 2,
                         [(d.status, d.out) for d in told], told)
        self.assertEqual([1, 0], [d.err.count("had ended: ok") for d in told])
        mine = [e["result"] for e in history(branch.name)
                if "unattended = " in e["code"]]
        self.assertEqual([("ok", "mine\n")],
                         [(r["status"], r["stdout"]) for r in mine])
        self.assertNotIn("had ended", run("exec", "--verbose", other.name,
                                          "1").err)

    def test_the_command_is_killed_while_it_forks(self):
        """All or none, and whatever is there can be used and stopped."""
        for delay in 0, 0.01, 0.02, 0.03, 0.05, 0.08:
            name = unique()
            process = popen("fork", self.session.name, name)
            with contextlib.suppress(Exception):
                process.wait(delay)
            process.kill()
            process.communicate()
            done = run("exec", name, "1")
            self.assertIn(done.status, (0, 3), done.err)
            if done.status == 0:
                self.assertEqual(0, run("stop", name).status)
            self.assertNotIn(name, listed())
            self.assertAlive()


if __name__ == "__main__":
    unittest.main()
