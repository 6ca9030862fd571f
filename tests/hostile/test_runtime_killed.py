"""The oci engine has no daemon that could go away; what dies in its place is
the runtime in the middle of its work, the command that ran it, or the whole
machine. Each at any moment: nothing is left, nothing is believed that is not
so, and a name is free or its session answers.

CELLAR_TEST_SEED repeats a run, CELLAR_KILL_POINTS says how many kills."""

import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from hostile import popen, run
import cellar_test
import host
from cellar_test import ENVIRONMENT, Session, unique, wait_for

SEED = int(os.environ.get("CELLAR_TEST_SEED", random.SystemRandom().randrange(
    1 << 32)))
KILLS = int(os.environ.get("CELLAR_KILL_POINTS", "50"))

# A runtime that is killed so long after it was told to do what the file `verb`
# names. A shell gives what runs in the background no stdin of its own accord.
RUNTIME = """#!/bin/sh
for word; do
    case $word in run|exec|delete) verb=$word; break ;; esac
done
echo $verb >> %(folder)s/asked
[ "$verb" = "$(cat %(folder)s/verb)" ] || exec %(runtime)s "$@"
exec 3<&0
%(runtime)s "$@" <&3 3<&- &
exec <&- >&- 2>&- 3<&-
sleep $(cat %(folder)s/seconds)
kill -9 $!
wait $!
"""


class OciTest(unittest.TestCase):
    """With a bystander that notices nothing."""

    @classmethod
    def setUpClass(cls):
        cls.random = random.Random(SEED)
        cls.bystander = Session(prefix="bystander")
        cls.addClassCleanup(cls.bystander.stop)
        cls.bystander.exec("canary = 'alive'")
        cls.mine = cls.bystander.container()

    def tearDown(self):
        told = self.bystander.exec("canary")
        self.assertEqual({"text/plain": "'alive'"}, told["result"])
        self.assertNothingLeft()

    def assertNothingLeft(self):
        """But the bystander: no bundle, nothing of the runtime's, no control
        group; ps is enough to clear what dead ones left."""
        dead = set(cellar_test.containers_left()) - {self.mine}

        def nothing_left():
            self.assertEqual(0, run("ps").status)
            return cellar_test.containers_left() == [self.mine]
        wait_for(nothing_left)
        self.assertEqual([self.mine], os.listdir(cellar_test.bundle(".run", "")))
        self.assertEqual(set(), dead & host.control_groups())

    def assertAnswers(self, name, code="1 + 1", value="2\n"):
        done = run("exec", name, code)
        self.assertEqual((0, value), (done.status, done.out), done.err)


class RuntimeKilled(OciTest):
    """The runtime alone: whoever ran it goes on, and says so."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        cls.runtime = os.path.join(folder.name, "runc")
        real = cellar_test.labels(cls.mine)["runtime"]
        with open(cls.runtime, "w", encoding="ascii") as file:
            file.write(RUNTIME % {"folder": folder.name, "runtime": real})
        os.chmod(cls.runtime, 0o755)

    def kill(self, verb, seconds=0.0):
        for name, text in (("verb", verb), ("seconds", "%.4f" % seconds)):
            with open(os.path.join(self.folder, name), "w",
                      encoding="ascii") as file:
                file.write(text)

    def points(self, verb, command):
        """Kills it at random times up to what `command()` takes."""
        self.kill("nothing")
        begin = time.monotonic()
        command()
        longest = time.monotonic() - begin
        for _ in range(KILLS // 4):
            seconds = self.random.uniform(0, longest)
            self.kill(verb, seconds)
            yield "%s, killed after %.4f s" % (verb, seconds)

    def start(self, name):
        return run("start", "--runtime", self.runtime, name)

    def test_in_a_start(self):
        """It failed, and says of whom; or it was too late to."""
        name = unique("killed")
        self.addCleanup(run, "stop", name)

        def whole():
            self.assertEqual(0, self.start(name).status)
            self.assertEqual(0, run("stop", name).status)
        ends = collections.Counter()
        for point in self.points("run", whole):
            with self.subTest(point=point):
                done = self.start(name)
                ends[done.status] += 1
                self.kill("nothing")
                if done.status:
                    self.assertEqual(3, done.status, done.err)
                    self.assertIn("runc", done.err)
                    self.assertNothingLeft()
                    self.assertEqual(0, self.start(name).status)
                self.assertAnswers(name)
                self.assertEqual(0, run("stop", name).status)
        print("  statuses of starts: %s" % dict(ends))

    def test_on_the_way_to_a_branch(self):
        """Its command fails, or tries again; the branch is what it was."""
        self.kill("nothing")
        name, branch = unique("killed"), unique("branch")
        self.addCleanup(run, "stop", name)
        self.assertEqual(0, self.start(name).status)
        self.assertAnswers(name, "n = 41\nn", "41\n")
        self.assertEqual(0, run("fork", name, branch).status)
        ends = collections.Counter()
        for point in self.points("exec", lambda: run("exec", branch, "n")):
            with self.subTest(point=point):
                done = run("exec", branch, "n")
                ends[done.status] += 1
                self.assertIn((done.status, done.out), ((0, "41\n"), (3, "")))
                self.kill("nothing")
                self.assertAnswers(branch, "n", "41\n")
                self.assertAnswers(name, "n", "41\n")
        print("  statuses of a branch's cells: %s" % dict(ends))
        self.assertEqual(0, run("stop", branch).status)
        self.assertEqual(0, run("stop", name).status)

    def test_in_a_stop(self):
        """It is removed without."""
        name = unique("killed")
        self.addCleanup(run, "stop", name)
        for seconds in 0, 0.001, 0.01, 0.03:
            self.kill("nothing")
            self.assertEqual(0, self.start(name).status)
            self.kill("delete", seconds)
            self.assertEqual(0, run("stop", name).status)
            self.assertNothingLeft()


class CommandKilled(OciTest):
    """The command, right before each step that it takes in the file system, or
    with all that it has started."""

    def start(self, name, at=0):
        env = dict(ENVIRONMENT, CELLAR_KILL_IN="start", CELLAR_KILL_AT=str(at),
                   LD_PRELOAD=os.environ["CELLAR_KILL_AT_LIB"])
        return run("start", name, env=env)

    def test_at_each_step_of_a_start(self):
        killed = 0
        name = unique("killed")
        self.addCleanup(run, "stop", name)
        while killed < 400:
            done = self.start(name, killed + 1)
            if done.status != -signal.SIGKILL:
                break
            killed += 1
            if done.out:  # it had said that it is there
                self.assertAnswers(name)
            is_there = run("stop", name).status == 0
            if killed % 4 and not is_there:  # the next start clears it as well
                self.assertNothingLeft()
        self.assertEqual((0, name + "\n"), (done.status, done.out), done.err)
        self.assertAnswers(name)
        self.assertEqual(0, run("stop", name).status)
        self.assertLess(20, killed)
        print("  killed before each of %d steps" % killed)

    def test_with_everything_it_started(self):
        """The runtime too, in whatever it was doing; what it has begun of a
        container goes with the next command."""
        begin = time.monotonic()
        run("stop", Session(prefix="killed").name)
        longest = time.monotonic() - begin
        for _ in range(KILLS // 4):
            seconds = self.random.uniform(0, longest)
            name = unique("killed")
            with self.subTest(seconds=seconds):
                process = popen("start", name)
                time.sleep(seconds)
                self.kill_all(process.pid)
                process.communicate()
                if process.returncode == 0:
                    self.assertAnswers(name)
                run("stop", name)
                self.assertNothingLeft()

    @staticmethod
    def kill_all(pid):
        """A process and, before it can notice, its descendants on this side;
        those that are in a container already are not its children."""
        family = [pid]
        for one in family:
            with_children = "/proc/%d/task/%d/children" % (one, one)
            try:
                os.kill(one, signal.SIGSTOP)
                with open(with_children, encoding="ascii") as file:
                    family += map(int, file.read().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
        for one in family:
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Reboot(OciTest):
    """The machine has been off: no process of before is there, and what was in
    memory is gone; the state directory is as it was."""

    def gone(self, session):
        """As a power cut leaves a session."""
        one = session.container()
        os.kill(cellar_test.first_process(one), signal.SIGKILL)
        wait_for(lambda: not cellar_test.is_running(one))
        shutil.rmtree(cellar_test.bundle(".run", one))
        return one

    def assertLost(self, name):
        """Told once, with the reason; then the name is free."""
        done = run("exec", name, "1")
        self.assertEqual((3, ""), (done.status, done.out))
        self.assertIn("'%s' is lost" % name, done.err)
        self.assertEqual(0, run("start", name).status)
        self.assertAnswers(name)
        self.assertEqual(0, run("stop", name).status)

    def test_sessions_are_lost_and_told(self):
        live = Session(prefix="reboot")
        self.gone(live)
        self.assertLost(live.name)

    def test_branches_are_lost_together(self):
        live = Session(prefix="reboot")
        names = [unique("branch") for _ in range(2)]
        self.assertEqual(0, run("fork", live.name, *names).status)
        self.gone(live)
        for name in [*names, live.name]:
            done = run("exec", name, "1")
            self.assertEqual((3, ""), (done.status, done.out))
            self.assertIn("'%s' is lost" % name, done.err)
        names = [s["name"] for s in json.loads(run("ps", "--json").out)]
        self.assertEqual([self.bystander.name], names)

    def test_a_number_that_is_anothers_by_now(self):
        """Who has the first process's number is not it, and lives on."""
        with subprocess.Popen(["sleep", "600"]) as other:
            try:
                for command in ["exec"], ["stop"], ["ps"]:
                    live = Session(prefix="reboot")
                    one = self.gone(live)
                    path = cellar_test.bundle(one, "born.json")
                    with open(path, encoding="ascii") as file:
                        born = json.load(file)
                    born["pid"] = other.pid
                    with open(path, "w", encoding="ascii") as file:
                        json.dump(born, file)
                    with open(cellar_test.bundle(one, "pid"), "w",
                              encoding="ascii") as file:
                        file.write("%d" % other.pid)
                    run(*command, *[live.name] * (command != ["ps"]))
                    run("stop", live.name)
                    self.assertNothingLeft()
                    self.assertIsNone(other.poll())
            finally:
                other.kill()


class Bundles(OciTest):
    """What is left of a bundle, or has become of it. It can be stopped; others
    go on, and a name is free afterwards."""

    def spoilt(self, spoil):
        live = Session(prefix="spoilt")
        one = live.container()
        spoil(cellar_test.bundle(one, ""))
        return live, one

    def assertStoppable(self, live, one):
        self.assertEqual(0, run("ps").status)
        done = run("exec", live.name, "1 + 1", timeout=60)
        self.assertIn(done.status, (0, 3), done.err)
        run("stop", live.name)
        self.assertEqual(0, run("ps").status)
        wait_for(lambda: not cellar_test.is_there(one))
        self.assertEqual(0, run("start", live.name).status)
        self.assertAnswers(live.name)
        self.assertEqual(0, run("stop", live.name).status)

    def test_a_file_is_missing(self):
        for name in ("born.json", "config.json", "groups", "pid", "stdin",
                     "stdout", "stderr"):
            with self.subTest(file=name):
                self.assertStoppable(*self.spoilt(
                    lambda folder: os.unlink(folder + name)))

    def test_a_file_is_damaged(self):
        for name in "born.json", "groups", "pid", "config.json":
            for text in "", '{"pid": 1, "began": 1}':
                with self.subTest(file=name, text=text):
                    self.assertStoppable(*self.spoilt(
                        lambda folder: pathlib.Path(folder, name)
                        .write_text(text, "ascii")))

    def test_a_stream_is_something_else(self):
        def link(path):
            os.symlink("/dev/zero", path)

        def plain(path):
            with open(path, "wb") as file:
                file.write(bytes(100))

        for make in link, plain, os.mkdir, os.mkfifo:
            with self.subTest(made=make):
                def spoil(folder):
                    os.unlink(folder + "stdout")
                    make(folder + "stdout")
                self.assertStoppable(*self.spoilt(spoil))

    def test_its_folder_is_gone(self):
        """Its process is found by nobody: it ends with its stream."""
        live, one = self.spoilt(lambda folder: None)
        pid = cellar_test.first_process(one)
        shutil.rmtree(cellar_test.bundle(one, ""))
        done = run("exec", live.name, "1")
        self.assertEqual(3, done.status)
        self.assertIn(live.name, done.err)
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(0, run("start", live.name).status)
        self.assertEqual(0, run("stop", live.name).status)


if __name__ == "__main__":
    unittest.main()
