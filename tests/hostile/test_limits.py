"""Each limit of a session is real: the option is given, the limit is met
inside, and the session goes on; or is over, and says why."""

import json
import re
import time
import unittest

import host
from hostile import ATTEMPT, run
import cellar_test
from cellar_test import Session, SessionTest, popen, session, wait_for

MIB = 1 << 20


class Inside(SessionTest):
    """All of them small, in one session."""

    OPTIONS = ("--memory", "96m", "--cpus", "0.2", "--pids", "24",
               "--files", "40", "--file-size", "3m", "--tmp-size", "5m",
               "--tmp-files", "100", "--shm-size", "2m",
               "--output-limit", "4k", "--timeout", "15s", "--grace", "200ms")

    def setUp(self):
        self.ok(ATTEMPT)

    def tearDown(self):
        self.assertEqual(0, run("reset", self.session.name).status)
        self.assertAlive()

    def test_memory(self):
        result = self.cell("x = []\nwhile 1: x.append(bytearray(1 << 20))")
        self.assertEqual(("out_of_memory", "restored", {
            "name": "memory", "value": 96 * MIB, "unit": "bytes"}),
            (result["status"], result["state"], result["limit"]))
        self.assertGreater(result["usage"]["peak_memory_bytes"], 60 * MIB)

    def test_cpus(self):
        """Three processes that want a core each have a fifth of one."""
        share = float(self.value(
            "import os, time\n"
            "end = time.monotonic() + 3\n"
            "used = time.process_time()\n"
            "pids = []\n"
            "for i in range(2):\n"
            "    pids.append(os.fork())\n"
            "    if pids[-1] == 0:\n"
            "        while time.monotonic() < end: pass\n"
            "        os._exit(0)\n"
            "while time.monotonic() < end: pass\n"
            "for pid in pids: os.waitpid(pid, 0)\n"
            "t = os.times()\n"
            "(time.process_time() - used + t.children_user\n"
            " + t.children_system) / 3"))
        print("  three processes have %.2f of a core" % share)
        self.assertLess(share, 0.3)
        self.assertGreater(share, 0.02)

    def test_pids(self):
        children = self.value(
            "import time\n"
            "count = 0\n"
            "try:\n"
            "    while True:\n"
            "        if os.fork() == 0: time.sleep(99)\n"
            "        count += 1\n"
            "except BlockingIOError: pass\n"
            "count")
        self.assertIn(int(children), range(10, 24))
        uid = self.session.uid()
        self.assertLessEqual(len(host.processes_of(uid)), 24)

    def test_files(self):
        self.assertEqual("'EMFILE'", self.value(
            "fds = []\n"
            "def open_all():\n"
            "    while True: fds.append(os.open('/dev/null', 0))\n"
            "word = attempt(open_all)\n"
            "highest = max(fds)\n"
            "for fd in fds: os.close(fd)\n"
            "word"))
        self.assertEqual("39", self.value("highest"))

    def test_file_size(self):
        self.assertEqual("('EFBIG', 3145728)", self.value(
            "def fill():\n"
            "    with open('/tmp/f', 'wb', 0) as f:\n"
            "        while True: f.write(bytes(1 << 16))\n"
            "attempt(fill), os.path.getsize('/tmp/f')"))

    def test_tmp_size_and_shm_size(self):
        self.assertEqual("[('ENOSPC', 5242880), ('ENOSPC', 2097152)]",
                         self.value(
            "def fill(folder):\n"
            "    for i in range(9):\n"
            "        with open(folder + '/f%d' % i, 'wb', 0) as f:\n"
            "            for k in range(256): f.write(bytes(4096))\n"
            "def filled(folder):\n"
            "    return sum(os.path.getsize(folder + '/' + n)\n"
            "               for n in os.listdir(folder))\n"
            "[(attempt(fill, f), filled(f)) for f in ('/tmp', '/dev/shm')]"))

    def test_tmp_files(self):
        """A folder takes one itself."""
        self.assertEqual("[('ENOSPC', 99), ('ENOSPC', 99)]", self.value(
            "def fill(folder):\n"
            "    for i in range(1000): open(folder + '/%d' % i, 'w').close()\n"
            "[(attempt(fill, f), len(os.listdir(f)))\n"
            " for f in ('/tmp', '/dev/shm')]"))

    def test_output_limit(self):
        result = self.ok("print('x' * 5000)")
        self.assertEqual((4096, 905, True, {
            "name": "output", "value": 4096, "unit": "bytes"}), (
            len(result["stdout"]), result["dropped_bytes"],
            result["truncated"], result["limit"]))

    def test_timeout_of_a_session_and_of_a_cell(self):
        with session("--timeout", "1s", prefix="limit") as brief:
            result = brief.exec("while True: pass")
            self.assertEqual(("timeout", {
                "name": "timeout", "value": 1.0, "unit": "s"}),
                (result["status"], result["limit"]))
        result = self.cell("while True: pass", "--timeout", "500ms")
        self.assertEqual(("timeout", 0.5),
                         (result["status"], result["limit"]["value"]))

    def test_grace(self):
        result = self.cell("import signal\n"
                           "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                           "while True: pass", "--timeout", "500ms")
        self.assertEqual(("timeout", "restored"),
                         (result["status"], result["state"]))
        self.assertGreaterEqual(result["usage"]["wall_us"], 690_000)

    def test_core_dumps_and_message_queues(self):
        self.assertEqual("((0, 0), (0, 0))", self.value(
            "import resource as r\n"
            "r.getrlimit(r.RLIMIT_CORE), r.getrlimit(12)"))

    def test_they_can_not_be_raised(self):
        self.assertEqual("['refused']", self.value(
            "import resource as r\n"
            "def raised(limit):\n"
            "    soft, hard = r.getrlimit(limit)\n"
            "    if hard == r.RLIM_INFINITY: return 'refused'\n"
            "    try: r.setrlimit(limit, (hard + 1, hard + 1))\n"
            "    except (OSError, ValueError): return 'refused'\n"
            "    return 'raised'\n"
            "sorted({raised(n) for n in (r.RLIMIT_NOFILE, r.RLIMIT_FSIZE,\n"
            "                            r.RLIMIT_CORE, r.RLIMIT_NPROC)})"))


class Lives(unittest.TestCase):
    """How long a session lives."""

    def gone(self, container):
        """It has ended by itself; it stays until somebody looks."""
        return container not in cellar_test.containers_running()

    def assertForgotten(self, live):
        done = run("exec", live.name, "1")
        self.assertEqual(3, done.status)
        self.assertIn(live.name, done.err)
        self.assertNotIn(live.name, run("ps", "--json").out)
        self.assertEqual(0, run("start", live.name).status)
        live.stop()

    def test_lease(self):
        """A session that no command comes back to ends itself."""
        live = Session("--lease", "5s", prefix="lease")
        container = live.container()
        begin = time.monotonic()
        wait_for(lambda: self.gone(container), 40)
        print("  a lease of 5 s ended after %.1f s" %
              (time.monotonic() - begin))
        self.assertGreater(time.monotonic() - begin, 3)
        self.assertForgotten(live)

    def test_a_lease_ends_a_running_cell_too(self):
        live = Session("--lease", "5s", "--timeout", "0", prefix="lease")
        container = live.container()
        process = popen("exec", live.name, "while True: pass")
        time.sleep(0.5)
        process.kill()
        process.communicate()
        wait_for(lambda: self.gone(container), 40)
        self.assertForgotten(live)

    def test_a_supervisor_keeps_the_lease(self):
        with session("--lease", "5s", prefix="lease") as live:
            result = live.exec("import time\ntime.sleep(9)\n'slept'")
            self.assertEqual({"text/plain": "'slept'"}, result["result"])
            self.assertEqual("ok", live.exec("1")["status"])

    def test_lifetime(self):
        """Whatever it does, and whoever uses it."""
        live = Session("--lifetime", "10s", prefix="life")
        container = live.container()
        begin = time.monotonic()
        result = live.exec("import time\ntime.sleep(60)")
        print("  a lifetime of 10 s ended after %.1f s" %
              (time.monotonic() - begin))
        self.assertEqual(("lost", {
            "name": "lifetime", "value": 10.0, "unit": "s"}),
            (result["status"], result["limit"]))
        self.assertTrue(result["reason"])
        self.assertLess(time.monotonic() - begin, 30)
        wait_for(lambda: self.gone(container))
        self.assertForgotten(live)


# Each limit, by its option: the row of `doctor` that says who enforces it.
ROWS = {"memory": "memory", "cpus": "cpu", "pids": "pids", "files": "ulimits",
        "tmp-size": "tmpfs", "shm-size": "tmpfs", "tmp-files": "tmpfs",
        "file-size": "own_limits", "output-limit": "own_limits",
        "queue": "own_limits", "timeout": "own_limits",
        "grace": "own_limits", "lease": "own_limits",
        "lifetime": "own_limits"}


class Doctor(unittest.TestCase):
    def test_each_limit_of_the_help_is_known_here(self):
        limits = re.findall(r"--([a-z-]+) (?:SIZE|CORES|N|TIME)\b",
                            run("start", "--help").out)
        self.assertEqual(set(ROWS), set(limits) - {"pool"})

    def test_each_has_a_row(self):
        found = json.loads(run("doctor", "--json").out)
        rows = {row["name"]: row for row in found}
        for option, name in ROWS.items():
            with self.subTest(limit=option):
                self.assertEqual("ok", rows[name]["result"])
                if name == "own_limits":
                    self.assertIn(option, rows[name]["text"])
        for name in ("swap", "session"):
            self.assertEqual("ok", rows[name]["result"])
        self.assertIn(rows["landlock"]["result"], ("ok", "warn"))


if __name__ == "__main__":
    unittest.main()
