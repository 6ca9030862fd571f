"""The supervisor comes back, meets another one; the engine's user
meddles; the state directory goes bad. Nothing is lost unsaid, nothing left."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import unittest

from hostile import HostileTest, popen, run
import cellar_test
from cellar_test import (Session, docker, result_of, session, unique,
                         wait_for)

class Unattended(HostileTest):
    """A cell goes on when its command was killed."""

    def test_it_ends_once_and_the_next_command_is_told_once(self):
        process = popen("exec", self.session.name,
                        "import os, time\n"
                        "with open('/tmp/ran', 'a') as f: f.write('x')\n"
                        "print('go', flush=True)\n"
                        "time.sleep(0.5)\nunattended = 'done'")
        self.assertEqual(b"go\n", os.read(process.stdout.fileno(), 100))
        process.kill()
        process.communicate()
        time.sleep(1)
        told = [run("exec", "--verbose", self.session.name,
                    "open('/tmp/ran').read() + unattended")
                for _ in range(3)]
        for done in told:
            self.assertEqual((0, "'xdone'\n"), (done.status, done.out))
        self.assertEqual([1, 0, 0],
                         [done.err.count("had ended: ok") for done in told])

    def test_the_next_cell_waits_for_it(self):
        process = popen("exec", self.session.name,
                        "print('go', flush=True)\n"
                        "import time\ntime.sleep(1.5)\nlate = 1")
        self.assertEqual(b"go\n", os.read(process.stdout.fileno(), 100))
        process.kill()
        process.communicate()
        self.assertEqual("1", self.value("late"))

    def test_its_timeout_goes_on(self):
        process = popen("exec", "--timeout", "1s", self.session.name,
                        "print('go', flush=True)\nwhile True: pass")
        self.assertEqual(b"go\n", os.read(process.stdout.fileno(), 100))
        process.kill()
        process.communicate()
        begin = time.monotonic()
        self.assertAlive()
        self.assertLess(time.monotonic() - begin, 10)


class Together(unittest.TestCase):
    def test_many_start_the_same_name(self):
        """One makes it; the others are told."""
        name = unique("same")
        commands = [popen("start", name) for _ in range(6)]
        ends = [(p.communicate(timeout=60)[1], p.returncode)
                for p in commands]
        self.assertEqual([0, 3, 3, 3, 3, 3], sorted(c for _, c in ends))
        for err, code in ends:
            self.assertEqual(code == 3, name.encode() in err, err)
        self.assertEqual(1, len(cellar_test.containers_of(name)))
        self.assertEqual(0, run("stop", name).status)

    def test_many_stop_it(self):
        live = Session(prefix="same")
        commands = [popen("stop", live.name) for _ in range(6)]
        codes = [(p.communicate(timeout=60), p.returncode)[1]
                 for p in commands]
        self.assertIn(0, codes)
        self.assertLessEqual(set(codes), {0, 3})
        self.assertEqual([], cellar_test.containers_of(live.name))

    def test_stop_beside_start(self):
        """Whoever is first: no container is left that nobody knows."""
        for delay in 0, 0.05, 0.1, 0.15, 0.2, 0.3:
            name = unique("same")
            start = popen("start", name)
            time.sleep(delay)
            run("stop", name)
            start.communicate(timeout=60)
            run("stop", name)
            self.assertEqual([], cellar_test.containers_of(name))


class Meddling(HostileTest):
    """The container is killed, removed, paused by others. Whoever waits is
    told; the bystander is not concerned."""

    def meddle(self, how, code="import time\ntime.sleep(60)", options=()):
        live = Session("--grace", "200ms", prefix="meddled")
        self.addCleanup(live.stop)
        with live.running(code, *options) as process:
            begin = time.monotonic()
            container = live.container()
            cellar_test.from_outside(how, container)
            status, result = result_of(process)
        self.assertLess(time.monotonic() - begin, 40)
        self.assertEqual((1, "lost"), (status, result["status"]))
        self.assertTrue(result["reason"])
        return live, container, result

    def assertGone(self, live):
        done = run("exec", live.name, "1")
        self.assertEqual(3, done.status)
        self.assertEqual(0, run("start", live.name).status)
        self.assertEqual("ok", live.exec("1")["status"])

    def test_killed(self):
        live, _, _ = self.meddle("kill")
        self.assertGone(live)

    def test_stopped_during_a_flood(self):
        live, _, _ = self.meddle("kill", code="while True: print('x' * 1000)")
        self.assertGone(live)

    def test_removed(self):
        live, _, _ = self.meddle("rm")
        self.assertGone(live)

    def test_paused(self):
        """An agent that doesn't answer is given up in the end."""
        live, container, _ = self.meddle(
            "pause", options=("--timeout", "1s"))
        live.stop()
        self.assertNotIn(container, cellar_test.containers_left())

    def test_paused_while_idle(self):
        with session("--timeout", "1s", prefix="meddled") as live:
            live.exec("kept = 1")
            cellar_test.from_outside("pause", live.container())
            done = run("exec", live.name, "1", timeout=60)
            self.assertEqual(3, done.status)
            self.assertIn("paused", done.err)
            cellar_test.from_outside("unpause", live.container())
            self.assertEqual({"text/plain": "1"}, live.exec("kept")["result"])

    def test_a_stranger_on_the_agents_stdin(self):
        """Another client of the engine may write there: what it writes ends
        the epoch, not the session."""
        container = self.session.container()
        process = subprocess.Popen(
            ["tee", cellar_test.bundle(container, "stdin")]
            if cellar_test.OCI else
            ["docker", "attach", "--sig-proxy=false", container],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(bytes(range(256)) * 1000)
            process.stdin.flush()
        time.sleep(0.5)
        process.kill()
        process.communicate()
        self.assertAlive()


class Failing(unittest.TestCase):
    """A start that fails leaves nothing, and names the cure."""

    def refused(self, *options, status=3):
        before = set(cellar_test.containers_left())
        name = unique("failing")
        done = run("start", *options, name)
        self.assertEqual(status, done.status, done.out + done.err)
        self.assertEqual(before, set(cellar_test.containers_left()))
        self.assertFalse(os.path.exists(os.path.join(
            cellar_test.STATE_DIR, "sessions", name)))
        return done.err

    def test_no_such_image(self):
        self.assertIn("image", self.refused("--image", "localhost:1/none:x"))

    def test_no_such_runtime(self):
        self.assertIn("no-such-runtime",
                      self.refused("--runtime", "no-such-runtime", status=2))

    def test_no_such_network(self):
        self.assertIn("no-such-network",
                      self.refused("--network", "no-such-network",
                                   status=2 if cellar_test.OCI else 3))

    def test_no_such_folder(self):
        self.assertIn("/no/such/folder",
                      self.refused("--mount", "/no/such/folder:/data",
                                   status=2))

    @cellar_test.needs_docker
    def test_no_engine(self):
        self.assertIn("/no/such.sock",
                      self.refused("--host", "unix:///no/such.sock"))

    @cellar_test.needs_docker
    def test_an_image_that_is_none_of_cellars(self):
        """It starts, and ends at once."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        tag = "cellar-test-empty:" + str(os.getpid())
        subprocess.run(["docker", "import", "-", tag], check=True,
                       stdout=subprocess.DEVNULL, timeout=60,
                       input=subprocess.run(["tar", "-c", "-C", folder, "."],
                                            check=True,
                                            stdout=subprocess.PIPE).stdout)
        self.addCleanup(docker, "rmi", tag)
        self.assertIn("image", self.refused("--image", tag))


class StateDirectory(HostileTest):
    """It fills up, rots, is made read-only. The old state is kept."""

    def record(self, name=None):
        return os.path.join(cellar_test.STATE_DIR, "sessions",
                            name or self.session.name, "record.json")

    def test_a_damaged_record(self):
        with open(self.record(), "rb") as file:
            whole = file.read()
        half = whole.rstrip()[:len(whole.rstrip()) // 2]
        for damaged in (b"", half, b"\0" * 300, b"null",
                        b"[" * 100000, whole.replace(b'"key"', b'"kee"'),
                        os.urandom(1000), b"x" * (2 << 20)):
            with self.subTest(damaged=damaged[:20]):
                with open(self.record(), "wb") as file:
                    file.write(damaged)
                done = run("exec", self.session.name, "1")
                self.assertEqual(3, done.status)
                self.assertIn(self.session.name, done.err)
                with open(self.record(), "rb") as file:
                    self.assertEqual(damaged, file.read())
                self.assertEqual(0, run("ps").status)
                self.assertEqual("ok", self.bystander.exec("1")["status"])
        with open(self.record(), "wb") as file:
            file.write(whole)

    def test_another_sessions_record(self):
        """Its key is not ours: nothing is believed."""
        with open(self.record(), "rb") as file:
            mine = file.read()
        told = json.loads(mine)
        with open(self.record(self.bystander.name), "rb") as file:
            told["key"] = json.load(file)["key"]
        with open(self.record(), "w", encoding="utf-8") as file:
            json.dump(told, file)
        done = run("exec", self.session.name, "1", timeout=60)
        self.assertEqual(3, done.status, done.out)
        with open(self.record(), "wb") as file:
            file.write(mine)

    def test_a_session_whose_record_is_damaged_can_be_stopped(self):
        live = Session(prefix="damaged")
        with open(self.record(live.name), "wb") as file:
            file.write(b"garbage")
        done = live.stop()
        self.assertEqual(0, done.status, done.err)
        self.assertEqual([], cellar_test.containers_of(live.name))

    @contextlib.contextmanager
    def small_disk(self):
        """A state directory on a small file system; needs root."""
        size = "size=512k" if cellar_test.OCI else "size=64k"
        folder = tempfile.mkdtemp(prefix="cellar-e2e-disk-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", size + ",mode=0700",
                        "cellar-test", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
            os.rmdir(folder)

    def test_a_full_disk(self):
        with self.small_disk() as folder:
            state = ("--state-dir", folder)
            name = unique("full")
            self.assertEqual(0, run("start", *state, name).status)
            try:
                run("exec", *state, name, "n = 1")
                with open(folder + "/rest", "wb", 0) as file:
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(1))
                other = run("start", *state, unique("full"))
                self.assertEqual(3, other.status)
                self.assertIn("No space left", other.err)
                done = run("exec", *state, name, "n += 1\nn")
                self.assertIn(done.status, (0, 3))
                if done.status == 3:
                    self.assertIn("No space left", done.err)
                os.remove(folder + "/rest")
                done = run("exec", *state, name, "n")
                self.assertEqual(0, done.status, done.err)
                self.assertIn(done.out, ("1\n", "2\n"))
            finally:
                stopped = run("stop", *state, name)
            self.assertEqual(0, stopped.status, stopped.err)
            self.assertEqual("[]\n", run("ps", "--json", *state).out)

    def test_a_read_only_disk(self):
        with self.small_disk() as folder:
            state = ("--state-dir", folder)
            name = unique("ro")
            self.assertEqual(0, run("start", *state, name).status)
            try:
                subprocess.run(["mount", "-o", "remount,ro", folder],
                               check=True)
                other = run("start", *state, unique("ro"))
                self.assertEqual(3, other.status)
                self.assertIn("Read-only file system", other.err)
                self.assertEqual(0, run("ps", *state).status)
            finally:
                subprocess.run(["mount", "-o", "remount,rw", folder],
                               check=True)
            done = run("exec", *state, name, "1 + 1")
            self.assertEqual((0, "2\n"), (done.status, done.out))
            self.assertEqual(0, run("stop", *state, name).status)


class Cycles(unittest.TestCase):
    """Start, run, stop, by the command: nothing adds up on the machine."""

    COUNT = int(os.environ.get("CELLAR_CYCLES", "20"))

    def standing(self):
        return (len(cellar_test.containers_left()), len(os.listdir(
            os.path.join(cellar_test.STATE_DIR, "sessions"))))

    def test_they_are_flat(self):
        with session(prefix="first"):
            pass
        before = self.standing()
        begin = time.monotonic()
        for _ in range(self.COUNT):
            with session(prefix="cycle") as live:
                self.assertEqual("ok", live.exec("1")["status"])
        print("  %d cycles, %.2f s each" % (
            self.COUNT, (time.monotonic() - begin) / self.COUNT))
        self.assertEqual(before, self.standing())


if __name__ == "__main__":
    unittest.main()
