"""Ready sessions across processes: taken once and by one, never used before,
filled up in the background, and gone when they are not wanted."""

import json
import os
import random
import subprocess
import time
import unittest

import cellar_test
from cellar_test import (Session, containers_left, docker, from_outside, popen,
                         run, session, unique, wait_for, ENVIRONMENT)
import pools

# What a session was left by whoever had it before; whose user it runs as.
MARKS = """import os
seen = "left" in globals(), os.listdir("/tmp"), os.listdir("/dev/shm")
print(os.getuid(), seen)
left = 1
open("/tmp/left", "w").close()
open("/dev/shm/left", "w").close()
"""


class PoolTest(unittest.TestCase):

    def tearDown(self):
        pools.settle_all()
        pools.check_nothing_left(self)

    def taken(self, *options):
        """A named session that was to be taken; its container."""
        live = Session(*options)
        self.addCleanup(live.stop)
        return live, next(row["container"] for row in pools.rows()
                          if row["name"] == live.name)


class TakeTest(PoolTest):

    def test_a_start_takes_a_ready_session_and_fills_up_again(self):
        before = pools.fill(1)
        live, container = self.taken("--pool", "1")
        self.assertEqual(before, [container])
        self.assertEqual("42", live.exec("6 * 7")["result"]["text/plain"])
        pools.settle(1)
        self.assertNotEqual(before, pools.ready())

    def test_a_run_takes_one_and_ends_it(self):
        before = pools.fill(1)
        done = run("run", "--pool", "1", "-", stdin="print(6 * 7)")
        self.assertEqual((0, ""), (done.status, done.err))
        self.assertIn("42", done.out)
        pools.settle(1)
        self.assertFalse(set(before) & set(containers_left()))

    def test_several_files_take_several(self):
        pools.fill(2)
        uids = {str(record["uid"]) for record in pools.recorded().values()}
        path = os.path.join(ENVIRONMENT["CELLAR_STATE_DIR"], "marks.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write("import os\nprint('uid', os.getuid())\n")
        done = run("run", "--pool", "2", "--jobs", "2", path, path, path)
        self.assertEqual(0, done.status, done.err)
        used = {line.split()[1] for line in done.out.splitlines()
                if line.startswith("uid ")}
        self.assertEqual(3, len(used))
        self.assertLessEqual(uids, used)
        pools.settle(2)

    def test_without_the_option_none_is_taken(self):
        before = pools.fill(1)
        live, container = self.taken()
        self.assertNotEqual(before, [container])
        self.assertEqual(before, pools.ready())

    def test_one_of_another_kind_is_not_taken(self):
        before = pools.fill(1, "--pids", "64", "--preload", "json")
        others = [("--pids", "65", "--preload", "json"),
                  ("--pids", "64", "--preload", "json,csv"),
                  ("--pids", "64", "--preload", "json", "--checkpoint", "off")]
        for options in others:
            done = run("run", "--pool", "1", *options, "-", stdin="1")
            self.assertEqual(0, done.status, done.err)
            pools.settle(2)
            self.assertIn(before[0], pools.ready())
            for row in pools.ready():
                if row != before[0]:
                    from_outside("rm", row)

    def test_terms_of_the_host_are_those_of_the_taker(self):
        pools.fill(1, "--timeout", "10m")
        live, _ = self.taken("--pool", "1", "--timeout", "1s", "--lease", "60s")
        record = pools.recorded()[live.name]
        self.assertEqual((1000, 60000, live.name),
                         (record["timeout_ms"], record["lease_ms"],
                          record["name"]))
        self.assertEqual("timeout", live.exec(
            "import time; time.sleep(60)")["status"])

    def test_a_directory_that_took_anothers_place_is_seen(self):
        folder = os.path.join(ENVIRONMENT["CELLAR_STATE_DIR"], "mounted")
        mount = ("--mount", folder + ":/data")
        os.mkdir(folder)
        pools.fill(1, *mount)
        os.rename(folder, folder + ".old")
        os.mkdir(folder)
        open(os.path.join(folder, "new"), "w", encoding="ascii").close()
        live, _ = self.taken("--pool", "1", *mount)
        self.assertEqual("['new']", live.exec(
            "import os; os.listdir('/data')")["result"]["text/plain"])

    @cellar_test.needs_docker
    def test_an_image_that_took_anothers_place_is_used(self):
        name = "cellar-test-pool:%d" % os.getpid()
        base = json.loads(run("ps", "--json").out) or None
        self.assertIsNone(base)
        with session() as live:
            image = live.inspect()["Config"]["Image"]
        docker("tag", image, name)
        self.addCleanup(docker, "rmi", "-f", name)
        stale = pools.fill(1, "--image", name)
        subprocess.run(["docker", "build", "-q", "-t", name, "-"],
                       input=b"FROM %s\nLABEL new=1\n" % image.encode(),
                       check=True, capture_output=True, timeout=120)
        live, container = self.taken("--pool", "1", "--image", name)
        self.assertNotIn(container, stale)
        pools.settle(1)
        self.assertFalse(set(stale) & set(containers_left()))

    def test_a_name_in_use_takes_none(self):
        live, _ = self.taken()
        before = pools.fill(1)
        done = run("start", "--pool", "1", live.name)
        self.assertEqual(3, done.status)
        self.assertIn("exists already", done.err)
        self.assertEqual(before, pools.ready())

    def test_a_taken_session_lives_on_like_any_other(self):
        pools.fill(1)
        live, container = self.taken("--pool", "1")
        live.exec("x = 41")
        self.assertEqual(container, next(
            row["container"] for row in pools.rows()
            if row["name"] == live.name))
        self.assertEqual("42", live.exec("x + 1")["result"]["text/plain"])
        done = run("fork", live.name, live.name + "-b")
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(0, run("stop", live.name).status)
        self.assertIn("42", run("exec", live.name + "-b", "x + 1").out)
        self.assertEqual(3, run("start", live.name + "-b").status)
        self.assertEqual(0, run("stop", live.name + "-b").status)
        self.assertNotIn(container, containers_left())


class SoleTest(PoolTest):

    def test_two_takes_have_nothing_in_common(self):
        pools.fill(2)
        lives = [self.taken("--pool", "2")[0] for _ in range(2)]
        seen = set()
        for live in lives:
            uid, rest = live.exec(MARKS)["stdout"].split(" ", 1)
            self.assertEqual("(False, [], [])", rest.strip())
            seen.add(uid)
        self.assertEqual(2, len(seen))
        pools.check_sound(self)

    def test_no_two_have_random_numbers_in_common(self):
        """Nor hashes, nor addresses: what was preloaded was so in each."""
        options = "--preload", "random,secrets,ssl,uuid"
        pools.fill(3, *options)
        code = ("import ctypes, random, secrets, ssl, uuid\n"
                "[hash('a'), random.random(), random.Random().random(),\n"
                " uuid.uuid4().hex, uuid.uuid1().clock_seq << 48 |\n"
                " uuid.getnode(), secrets.token_hex(8),\n"
                " ssl.RAND_bytes(8).hex(), id(random),\n"
                " ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value"
                "]")
        told = [eval(self.taken("--pool", "3", *options)[0].exec(code)[
            "result"]["text/plain"], {"__builtins__": {}}) for _ in range(3)]
        for i, values in enumerate(zip(*told)):
            self.assertEqual(3, len(set(values)), (i, values))

    def test_what_was_taken_never_stands_ready_again(self):
        first = set(pools.fill(2))
        for _ in range(3):
            done = run("run", "--pool", "2", "-", stdin=MARKS)
            self.assertIn("(False, [], [])", done.out, done.err)
            pools.settle(2)
        live, container = self.taken("--pool", "2")
        live.exec(MARKS)
        run("stop", live.name)
        pools.settle(2)
        self.assertNotIn(container, pools.ready())
        self.assertFalse(first & set(pools.ready()))

    def test_commands_at_once_take_one_each(self):
        pools.fill(3)
        wanted = [unique("crowd") for _ in range(6)]
        running = [popen("start", "--pool", "3", name) for name in wanted]
        for name, process in zip(wanted, running):
            self.addCleanup(run, "stop", name)
            _, err = process.communicate(timeout=120)
            self.assertEqual(0, process.returncode, err)
        found = {row["name"]: row["container"] for row in pools.rows()}
        self.assertEqual(6, len({found[name] for name in wanted}))
        pools.settle(3)
        pools.check_sound(self)

    def test_a_ready_session_can_not_be_named(self):
        pools.fill(1)
        name = next(iter(pools.recorded()))
        self.assertTrue(name.startswith(".pool-"))
        for command in (("exec", name, "1"), ("stop", name), ("reset", name),
                        ("start", name), ("stats", name), ("repl", name)):
            self.assertEqual(2, run(*command).status, command)
        self.assertEqual(1, len(pools.ready()))

    def test_history_knows_those_that_were_used(self):
        def count():
            return len(json.loads(run("history", "--json").out))
        before = count()
        pools.fill(2)
        self.assertEqual(before, count())
        live, _ = self.taken("--pool", "1")
        self.assertEqual(before + 1, count())
        pools.settle(1)
        pools.empty()
        self.assertEqual(before + 1, count())
        self.assertEqual([live.name], [
            row["name"] for row in json.loads(run("history", "--json").out)
            if row["name"] == live.name])


class EndTest(PoolTest):

    def test_one_that_has_died_is_not_handed_out(self):
        dead = pools.fill(2)
        for one in dead:
            from_outside("kill", one)
        live, container = self.taken("--pool", "2")
        self.assertNotIn(container, dead)
        self.assertEqual("2", live.exec("1 + 1")["result"]["text/plain"])
        pools.settle(2)
        self.assertFalse(set(dead) & set(containers_left()))

    def test_one_that_was_removed_is_not_handed_out(self):
        for one in pools.fill(1):
            from_outside("rm", one)
        self.assertEqual([], pools.ready())
        live, _ = self.taken("--pool", "1")
        self.assertEqual("2", live.exec("1 + 1")["result"]["text/plain"])
        pools.settle(1)

    def test_one_that_does_not_answer_is_replaced(self):
        stuck = pools.fill(1)
        os.kill(cellar_test.first_process(*stuck), 19)
        live, container = self.taken("--pool", "1")
        self.assertNotIn(container, stuck)
        self.assertEqual("2", live.exec("1 + 1")["result"]["text/plain"])
        pools.settle(1)

    def test_ready_sessions_end_with_their_lease(self):
        container, = pools.fill(1, "--lease", "5s")
        wait_for(lambda: pools.ready() == [])
        wait_for(lambda: run("ps").status == 0 and
                 container not in containers_left())

    def test_stop_all_and_pool_0_empty_it(self):
        pools.fill(2)
        self.assertEqual({"ready": 0, "removed": 2, "others": 0},
                         json.loads(run("pool", "0", "--json").out))
        self.assertEqual([], containers_left())
        pools.fill(1)
        done = run("stop", "--all")
        self.assertEqual((0, ""), (done.status, done.err))
        self.assertEqual([], containers_left())

    def test_a_pool_that_is_full_stays_as_it_is(self):
        before = pools.fill(2)
        self.assertEqual(before, pools.fill(2))
        self.assertEqual("2 ready\n", run("pool", "1", "--at-least").out)
        self.assertEqual(before, pools.ready())

    def test_of_a_pool_that_is_made_smaller_the_oldest_go(self):
        oldest = pools.fill(1)
        newer = set(pools.fill(3)) - set(oldest)
        self.assertEqual({"ready": 2, "removed": 1, "others": 0},
                         json.loads(run("pool", "2", "--json").out))
        self.assertEqual(newer, set(pools.ready()))
        wait_for(lambda: set(containers_left()) == newer)
        pools.check_sound(self)

    def test_what_a_command_keeps_is_no_more_than_was_there(self):
        pools.fill(3)
        self.taken("--pool", "1")
        pools.settle(2)
        self.taken("--pool", "3")
        pools.settle(3)

    def test_a_smaller_pool_waits_for_who_makes_it_larger(self):
        larger = popen("pool", "5")
        wait_for(lambda: containers_left())
        done = run("pool", "1")
        larger.communicate(timeout=120)
        self.assertEqual((0, "1 ready\n"), (done.status, done.out), done.err)
        self.assertEqual(1, len(pools.ready()))
        wait_for(lambda: len(containers_left()) == 1)

    def test_those_of_other_options_are_told_of_and_go_when_asked(self):
        other = pools.fill(2, "--pids", "64")
        self.assertEqual("1 ready, 2 more of other options\n",
                         run("pool", "1").out)
        self.assertLessEqual(set(other), set(pools.ready()))
        self.assertEqual({"ready": 1, "removed": 2, "others": 0},
                         json.loads(run("pool", "1", "--only", "--json").out))
        self.assertEqual(1, len(pools.ready()))
        self.assertFalse(set(other) & set(containers_left()))

    def test_what_fails_in_the_background_is_told_later(self):
        folder = os.path.join(ENVIRONMENT["CELLAR_STATE_DIR"], "gone")
        os.mkdir(folder)
        mount = ("--mount", folder + ":/data")
        config = os.path.join(ENVIRONMENT["CELLAR_STATE_DIR"], "once.json")
        # Preload works for the command itself, and no more for what it starts.
        done = run("pool", "1", *mount, "--preload", "no.such.module")
        self.assertEqual(3, done.status)
        self.assertIn("no.such.module", done.err)
        del config
        doctor = run("doctor")
        self.assertIn("could not be filled", doctor.out)
        self.assertIn("no.such.module", doctor.out)
        self.assertEqual(0, run("pool", "0").status)
        self.assertNotIn("could not be filled", run("doctor").out)


class DeadTest(PoolTest):
    """Commands that are killed at every step."""

    def killed(self, command, at, *arguments):
        env = dict(ENVIRONMENT, CELLAR_KILL_IN=command, CELLAR_KILL_AT=str(at),
                   LD_PRELOAD=os.environ["CELLAR_KILL_AT_LIB"],
                   ASAN_OPTIONS="verify_asan_link_order=0")
        return run(command, *arguments, env=env).status == -9

    def test_a_start_killed_at_any_step_leaves_it_taken_or_ready(self):
        at = 0
        while True:
            at += 1
            pools.fill(1)
            before, = pools.ready()
            name = unique("dead")
            killed = self.killed("start", at, "--pool", "1", name)
            owned = {row["container"]: row["name"] for row in pools.rows()}
            # Its, or still ready; of a start that had none to take: nobody's.
            self.assertIn(owned.get(before, ""), ("", name))
            pools.check_sound(self)
            if name in owned.values():
                result = json.loads(run("exec", "--json", name, MARKS).out)
                self.assertIn("(False, [], [])", result["stdout"])
                run("stop", name)
            done = run("run", "--pool", "1", "-", stdin=MARKS)
            self.assertIn("(False, [], [])", done.out, done.err)
            if not killed:
                break
            pools.settle(1)
        self.assertGreater(at, 10)
        pools.settle(1)

    def test_a_run_killed_at_any_step_gives_nothing_back(self):
        at = 0
        while True:
            at += 1
            before = pools.fill(1)
            killed = self.killed("run", at, "--pool", "1", "-")
            done = run("run", "--pool", "1", "-", stdin=MARKS)
            self.assertIn("(False, [], [])", done.out, done.err)
            pools.check_sound(self)
            if not killed:
                break
            pools.settle(1)
            del before
        self.assertGreater(at, 10)
        pools.settle(1)
        self.assertEqual(1, len(containers_left()))

    def test_a_crowd_of_which_some_are_killed_shares_nothing(self):
        chance = random.Random(7)
        for _ in range(3):
            pools.fill(3)
            wanted = [unique("crowd") for _ in range(8)]
            crowd = [popen("start", "--pool", "3", name,
                           stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL) for name in wanted]
            for process in chance.sample(crowd, 4):
                time.sleep(chance.uniform(0, 0.02))
                process.kill()
            for process in crowd:
                process.wait(120)
            pools.check_sound(self)
            for name in set(wanted) & set(pools.names()):
                result = json.loads(run("exec", "--json", name, MARKS).out)
                self.assertIn("(False, [], [])", result["stdout"])
                run("stop", name)
            pools.settle_all()

    def test_who_fills_a_pool_may_be_killed_at_any_step(self):
        at = 0
        while True:
            at += 3
            killed = self.killed("pool", at, "1")
            self.assertLessEqual(len(pools.ready()), 1)
            pools.fill(1)
            wait_for(lambda: len(containers_left()) == 1)
            pools.check_sound(self)
            if not killed:
                break
            self.assertEqual(0, run("pool", "0").status)
        self.assertGreater(at, 10)

    def test_whoever_uses_one_unnamed_and_is_killed_leaves_nothing(self):
        container, = pools.fill(1)
        process = popen("run", "--pool", "1", "-", stdin=subprocess.PIPE)
        process.stdin.write(b"import time\ntime.sleep(600)\n")
        process.stdin.close()
        # Filled up again: whoever took it has seen to that by now.
        wait_for(lambda: container not in pools.ready() and pools.ready())
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        pools.settle(1)
        wait_for(lambda: run("ps").status == 0 and
                 container not in containers_left())


if __name__ == "__main__":
    unittest.main()
