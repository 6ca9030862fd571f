"""Named sessions: they outlive commands, are held by one at a time, are reset
and stopped, and know nothing of each other."""

import json
import os
import signal
import time
import unittest

import cellar_test
from cellar_test import (Session, SessionTest, popen, result_of, run, session,
                         unique)


class Named(SessionTest):
    def test_it_outlives_the_commands(self):
        self.ok("counter = 1")
        for expected in "2", "3", "4":
            self.assertEqual(expected, self.value("counter += 1\ncounter"))
        self.assertTrue(cellar_test.is_running(self.session.container()))

    def test_the_label_carries_the_name(self):
        labels = cellar_test.labels(self.session.container())
        self.assertEqual(self.session.name, labels["session"])
        self.assertEqual(cellar_test.owner(), labels["owner"])

    def test_ps_lists_it(self):
        done = run("ps", "--json")
        self.assertEqual(0, done.status, done.err)
        sessions = {s["name"]: s for s in json.loads(done.out)}
        listed = sessions[self.session.name]
        self.assertEqual("idle", listed["state"])
        self.assertTrue(self.session.container().startswith(
            listed["container"]))
        self.assertIn(self.session.name, run("ps").out)

    def test_the_name_is_taken(self):
        done = run("start", self.session.name)
        self.assertEqual(3, done.status)
        self.assertIn(self.session.name, done.err)
        self.assertAlive()

    def test_a_killed_exec_leaves_the_session(self):
        self.ok("kept = 1")
        process = popen("exec", self.session.name,
                        "import time\nprint('go', flush=True)\n"
                        "time.sleep(1)\nunattended = 2")
        self.assertEqual(b"go\n", os.read(process.stdout.fileno(), 100))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
        time.sleep(1.2)
        self.assertEqual("(1, 2)", self.value("kept, unattended"))

    def test_code_as_an_argument(self):
        done = run("exec", self.session.name, "print('x'); 6 * 7")
        self.assertEqual((0, "x\n42\n"), (done.status, done.out))

    def test_exit_status_tells_how_the_cell_ended(self):
        self.assertEqual(0, run("exec", self.session.name, "1").status)
        self.assertEqual(1, run("exec", self.session.name, "1/0").status)
        self.assertEqual(1, run("exec", self.session.name, "exit(0)").status)


class Busy(SessionTest):
    """One process has a session at a time; the others are told which."""

    def test_a_second_exec_is_told_who_has_it(self):
        process = popen("exec", self.session.name,
                        "import time\nprint('go', flush=True)\ntime.sleep(2)")
        self.assertEqual(b"go\n", os.read(process.stdout.fileno(), 100))
        listed = [s for s in json.loads(run("ps", "--json").out)
                  if s["name"] == self.session.name]
        self.assertEqual([("busy", process.pid)],
                         [(s["state"], s["holder"]) for s in listed])
        done = run("exec", self.session.name, "1")
        self.assertEqual(3, done.status)
        self.assertIn(str(process.pid), done.err)
        self.assertEqual(0, process.wait(30))
        process.stdout.close()
        process.stderr.close()
        self.assertAlive()

    def test_many_at_once_each_get_an_answer(self):
        commands = [popen("exec", "--json", self.session.name, "'mine'")
                    for _ in range(20)]
        statuses = []
        for process in commands:
            out, err = process.communicate(timeout=60)
            statuses.append(process.returncode)
            if process.returncode == 0:
                self.assertEqual({"text/plain": "'mine'"},
                                 json.loads(out)["result"])
            else:
                self.assertIn(b"busy", err.lower() + out.lower())
        self.assertIn(0, statuses)
        self.assertLessEqual(set(statuses), {0, 3})
        self.assertAlive()

    def test_it_can_be_stopped_by_others(self):
        with session(prefix="busy") as other:
            with other.running("import time\ntime.sleep(60)") as process:
                done = run("stop", other.name)
                self.assertEqual(0, done.status, done.err)
                status, result = result_of(process)
            self.assertEqual(1, status)
            self.assertIn(result["status"], ("lost", "killed"))
            self.assertAlive()


class Reset(SessionTest):
    def reset(self):
        done = run("reset", self.session.name)
        self.assertEqual(0, done.status, done.err)

    def test_globals_are_gone(self):
        self.ok("x = 1")
        self.reset()
        self.assertEqual("False", self.value("'x' in globals()"))

    def test_files_are_gone(self):
        self.ok("import os\n"
                "for folder in '/tmp', '/dev/shm':\n"
                "    os.makedirs(folder + '/deep/.hidden/dir')\n"
                "    open(folder + '/deep/.hidden/dir/f', 'w').write('x')\n"
                "    os.chmod(folder + '/deep', 0)\n"
                "    os.symlink('/etc', folder + '/link')")
        self.reset()
        self.assertEqual("([], [])", self.value(
            "import os\nos.listdir('/tmp'), os.listdir('/dev/shm')"))
        self.assertEqual("True", self.value("os.path.exists('/etc/passwd')"))

    def test_processes_are_gone(self):
        self.ok("import subprocess\n"
                "for i in range(5):\n"
                "    subprocess.Popen(['sh', '-c',\n"
                "        'trap \"\" TERM INT HUP; setsid sleep 99 & sleep 98'])")
        self.assertIn("sleep", self.commands())
        self.reset()
        self.assertNotIn("sleep", self.commands())

    def commands(self):
        return self.value(
            "import glob\n"
            "' '.join(open(f).read() for f in glob.glob('/proc/*/comm'))")

    def test_the_space_can_be_used_again(self):
        for _ in range(2):
            self.ok("with open('/tmp/big', 'wb') as f:\n"
                    "    for i in range(40): f.write(bytes(1 << 20))")
            self.reset()

    def test_it_is_the_same_container(self):
        before = self.session.container()
        self.reset()
        self.assertEqual(before, self.session.container())

    def test_cells_go_on_counting(self):
        before = self.ok("1")["cell"]
        self.reset()
        self.assertGreater(self.ok("1")["cell"], before)

    def test_a_running_cell_ends_first(self):
        with self.session.running("import time\ntime.sleep(60)") as process:
            self.reset()
            _, result = result_of(process)
        self.assertEqual(("killed", "fresh"),
                         (result["status"], result["state"]))
        self.assertAlive()


class Stop(unittest.TestCase):
    def test_nothing_is_left(self):
        live = Session(prefix="stop")
        container = live.container()
        self.assertIn(container, cellar_test.containers_left())
        self.assertEqual(0, live.stop().status)
        self.assertNotIn(container, cellar_test.containers_left())
        self.assertEqual([], [
            s for s in json.loads(run("ps", "--json").out)
            if s["name"] == live.name])
        self.assertFalse(os.path.exists(os.path.join(
            cellar_test.STATE_DIR, "sessions", live.name)))

    def test_what_is_stopped_is_not_there(self):
        live = Session(prefix="stop")
        live.stop()
        for command in ("stop", live.name), ("exec", live.name, "1"), \
                       ("reset", live.name), ("interrupt", live.name):
            with self.subTest(command=command[0]):
                done = run(*command)
                self.assertEqual(3, done.status)
                self.assertIn(live.name, done.err)

    def test_the_name_is_free_again(self):
        live = Session(prefix="stop")
        live.stop()
        self.assertEqual(0, run("start", live.name).status)
        self.assertEqual(0, live.stop().status)

    def test_a_container_removed_by_others_is_lost(self):
        live = Session(prefix="lost")
        cellar_test.from_outside("rm", live.container())
        done = run("exec", live.name, "1")
        self.assertEqual(3, done.status)
        self.assertRegex(done.err, "session '.*' is lost: ")
        self.assertEqual(0, run("start", live.name).status)
        live.stop()

    def test_a_cell_whose_container_is_killed_is_lost(self):
        live = Session(prefix="lost")
        with live.running("import time\ntime.sleep(60)") as process:
            cellar_test.from_outside("kill", live.container())
            status, result = result_of(process)
        self.assertEqual((1, "lost"), (status, result["status"]))
        self.assertTrue(result["reason"])
        live.stop()
        self.assertNotIn(live.name, run("ps").out)


class Apart(unittest.TestCase):
    """Sessions know nothing of each other."""

    def test_globals_files_and_uids_are_their_own(self):
        with session(prefix="one") as one, session(prefix="two") as two:
            one.exec("x = 1\nopen('/tmp/f', 'w').write('1')")
            result = two.exec("import os\n'x' in globals(), "
                              "os.listdir('/tmp')")
            self.assertEqual({"text/plain": "(False, [])"}, result["result"])
            uids = [s.exec("import os\nos.getuid()")["result"]["text/plain"]
                    for s in (one, two)]
            self.assertNotEqual(*uids)
            self.assertGreater(min(map(int, uids)), 61000)

    def test_names(self):
        for name in "../x", "", "A", "a/b", "-a", "a" * 64, "a b", "ä", "a\n":
            with self.subTest(name=name):
                done = run("start", "--", name)
                self.assertEqual(2, done.status, done.out + done.err)
        name = unique("n") + "._-z"
        self.assertEqual(0, run("start", name).status)
        self.assertEqual(0, run("stop", name).status)


if __name__ == "__main__":
    unittest.main()
