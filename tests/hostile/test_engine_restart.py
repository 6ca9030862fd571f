"""The engine itself goes and comes back: a second dockerd, with roots, socket
and containers of its own, which is restarted under live sessions. Needs root,
and dockerd. The machine's own engine is only asked for the image."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from hostile import popen, run
from cellar_test import ENVIRONMENT, unique, wait_for

IMAGE = "cellar-runtime:slim"


class Engine:
    """A dockerd with everything of its own, in a folder that is removed."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="cellar-e2e-engine-")
        self.socket = os.path.join(self.folder, "docker.sock")
        self.host = "unix://" + self.socket
        self.log = open(os.path.join(self.folder, "log"), "wb")
        # Not the folder's: containerd refuses "-_", which mkdtemp() makes.
        name = "cellar-e2e-" + secrets.token_hex(8)
        with open(os.path.join(self.folder, "daemon.json"), "w",
                  encoding="ascii") as file:
            file.write("{}")
        # In a network of its own: a dockerd that is to have no bridge removes
        # docker0, which is that of the machine's engine.
        self.command = [
            "unshare", "--net", "dockerd",
            "--config-file", self.folder + "/daemon.json",
            "--data-root", self.folder + "/data",
            "--exec-root", self.folder + "/exec",
            "--pidfile", self.folder + "/pid", "--host", self.host,
            "--containerd-namespace", name,
            "--containerd-plugins-namespace", name + "-plugins",
            "--bridge", "none", "--iptables=false", "--ip6tables=false",
            "--ip-forward=false", "--ip-masq=false", *options]
        self.process = None

    def docker(self, *arguments):
        return subprocess.run(["docker", "--host", self.host, *arguments],
                              check=True, timeout=60, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True).stdout

    def answers(self):
        if self.process.poll() is not None:
            self.start_process()  # the first start after a KILL may fail
        return subprocess.run(
            ["docker", "--host", self.host, "version"], timeout=60,
            capture_output=True).returncode == 0

    def start_process(self):
        self.process = subprocess.Popen(self.command, stdout=self.log,
                                        stderr=self.log,
                                        stdin=subprocess.DEVNULL)

    def start(self):
        self.start_process()
        wait_for(self.answers, 90)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(60)

    def load(self, image):
        save = subprocess.Popen(["docker", "save", image],
                                stdout=subprocess.PIPE)
        subprocess.run(["docker", "--host", self.host, "load"], check=True,
                       stdin=save.stdout, stdout=subprocess.DEVNULL,
                       timeout=300)
        save.stdout.close()
        if save.wait() != 0:
            raise AssertionError("docker save " + image)

    def remove(self):
        """Its containers, itself and its folder."""
        if self.process.poll() is not None:
            self.start()
        for container in self.docker("ps", "-aq").split():
            self.docker("rm", "-f", container)
        self.end()
        self.log.close()
        with open("/proc/mounts", encoding="utf-8") as file:
            mounts = [line.split()[1] for line in file]
        for mount in reversed(mounts):
            if mount.startswith(self.folder + "/"):
                subprocess.run(["umount", mount], check=True)
        shutil.rmtree(self.folder)


def image():
    """The image of the sessions: the one that the tests' config names."""
    path = ENVIRONMENT.get("CELLAR_CONFIG")
    if not path:
        return IMAGE
    with open(path, encoding="utf-8") as file:
        return json.load(file).get("image", IMAGE)


class EngineTest(unittest.TestCase):
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.engine = Engine(*cls.OPTIONS)
        cls.engine.start()
        cls.addClassCleanup(cls.engine.remove)
        cls.engine.load(image())

    def cellar(self, command, *arguments):
        return run(command, "--host", self.engine.host, *arguments)

    def start(self):
        name = unique("engine")
        done = self.cellar("start", name)
        self.assertEqual(0, done.status, done.err)
        self.addCleanup(self.cellar, "stop", name)
        self.assertEqual(0, self.cellar("exec", name, "n = 41").status)
        return name

    def fork(self, name, count=2):
        names = [unique("engine-branch") for _ in range(count)]
        done = self.cellar("fork", name, *names)
        self.assertEqual(0, done.status, done.err)
        for branch in names:
            self.addCleanup(self.cellar, "stop", branch)
        return names

    def restart(self, number):
        begin = time.monotonic()
        self.engine.end(number)
        self.engine.start()
        print("  %s of the engine: back after %.1f s" % (
            signal.Signals(number).name, time.monotonic() - begin))

    def running(self, name, code):
        """`exec --json` of a cell that runs."""
        process = popen("exec", "--host", self.engine.host, name,
                        "print('go', flush=True)\n" + code)
        self.assertEqual(b"go\n", os.read(process.stdout.fileno(), 100))
        return process

    def assertAnswers(self, name):
        done = self.cellar("exec", name, "n + 1")
        self.assertEqual((0, "42\n"), (done.status, done.out), done.err)

    def assertLost(self, name):
        """Told once, with the reason; then the name is free."""
        done = self.cellar("exec", name, "n + 1")
        self.assertEqual(3, done.status, done.out)
        self.assertIn(name, done.err)
        self.assertEqual(0, self.cellar("start", name).status)
        self.assertEqual("2\n", self.cellar("exec", name, "1 + 1").out)
        past = [json.loads(line) for line in self.cellar(
            "history", "--json").out.splitlines()]
        past = past[0] if past and isinstance(past[0], list) else past
        mine = [p for p in past if p["name"] == name]
        self.assertEqual("lost", mine[0]["ending"], mine)
        self.assertTrue(mine[0]["reason"])


class LiveRestore(EngineTest):
    """Containers outlive the engine: so do the sessions, and the commands that
    use them."""

    OPTIONS = ("--live-restore",)

    def test_idle_sessions(self):
        for number in signal.SIGTERM, signal.SIGKILL:
            names = [self.start(), self.start()]
            self.restart(number)
            for name in names:
                self.assertAnswers(name)

    def test_idle_branches(self):
        for number in signal.SIGTERM, signal.SIGKILL:
            name = self.start()
            one, two = self.fork(name)
            self.assertEqual(0, self.cellar("exec", two, "n = 42").status)
            self.restart(number)
            for live, value in (one, "41\n"), (two, "42\n"), (name, "41\n"):
                done = self.cellar("exec", live, "n")
                self.assertEqual((0, value), (done.status, done.out), done.err)

    def test_a_branch_while_its_cell_runs(self):
        name = self.start()
        for branch in self.fork(name):
            self.running_over(signal.SIGTERM, 1, branch)
        self.assertAnswers(name)

    def running_over(self, number, away_s, name=None):
        """A command's cell while the engine goes and comes back: its output
        and its result come, whole and once."""
        name = name or self.start()
        process = self.running(
            name, "import time\nfor i in range(%d):\n"
            "    time.sleep(0.1)\n    print(i, flush=True)\nn += 0\n'end'"
            % (10 * away_s + 30))
        self.engine.end(number)
        time.sleep(away_s)
        self.engine.start()
        out, err = process.communicate(timeout=120)
        self.assertEqual(0, process.returncode, err)
        lines = out.decode().splitlines()
        self.assertEqual([str(i) for i in range(10 * away_s + 30)] + ["'end'"],
                         lines)
        self.assertAnswers(name)
        return err.decode()

    def test_while_a_cell_runs(self):
        for number in signal.SIGTERM, signal.SIGKILL:
            self.running_over(number, 1)

    def test_an_engine_that_is_away_for_long(self):
        told = self.running_over(signal.SIGTERM, 20)
        self.assertIn("is away", told)

    def test_an_interrupt_while_it_is_away(self):
        name = self.start()
        process = self.running(name, "import time\ntime.sleep(600)")
        self.engine.end()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        self.engine.start()
        out, err = process.communicate(timeout=120)
        self.assertEqual(1, process.returncode, err)
        self.assertIn(b"interrupted; state kept", err)
        self.assertAnswers(name)

    def test_a_command_while_it_is_away(self):
        name = self.start()
        self.engine.end()
        done = self.cellar("exec", name, "n")
        self.assertEqual(3, done.status)
        self.assertIn(self.engine.socket, done.err)
        self.engine.start()
        self.assertAnswers(name)


class WithoutLiveRestore(EngineTest):
    """Containers go with the engine: that is said, and the name is free."""

    def test_idle_sessions(self):
        for number in signal.SIGTERM, signal.SIGKILL:
            name = self.start()
            self.restart(number)
            self.assertLost(name)

    def test_branches_are_lost_together(self):
        name = self.start()
        branches = self.fork(name)
        self.restart(signal.SIGTERM)
        for live in branches + [name]:
            done = self.cellar("exec", live, "n")
            self.assertEqual((3, ""), (done.status, done.out))
            self.assertIn("'%s' is lost" % live, done.err)
        self.assertEqual("[]\n", self.cellar("ps", "--json").out)

    def test_while_a_cell_runs(self):
        """Whoever waits is told why."""
        for number in signal.SIGTERM, signal.SIGKILL:
            name = self.start()
            process = self.running(name, "import time\ntime.sleep(600)")
            self.restart(number)
            out, err = process.communicate(timeout=120)
            self.assertEqual(1, process.returncode, (out, err))
            self.assertIn(b"lost", err)
            done = self.cellar("exec", name, "n")
            self.assertEqual(3, done.status)


if __name__ == "__main__":
    unittest.main()
