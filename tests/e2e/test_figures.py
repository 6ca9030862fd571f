"""What sessions use, as ps and stats tell it; and that all of them are
stopped."""

import json
import os
import signal
import unittest

import cellar_test
from cellar_test import SessionTest, popen, run, session, unique, wait_for
from journal import OwnState

STATS_KEYS = ["name", "time_s", "cpu_percent", "cpu_us", "memory_bytes",
              "memory_limit_bytes", "pids", "pids_limit",
              "checkpoints", "checkpoint_bytes", "output_bytes", "cells",
              "state"]


class Figures(SessionTest):
    """ps and stats."""

    def test_ps_tells_idle_time_and_memory(self):
        self.ok("1")
        listed = [s for s in json.loads(run("ps", "--json").out)
                  if s["name"] == self.session.name][0]
        self.assertGreater(listed["memory_bytes"], 1 << 20)
        self.assertLess(listed["idle_ms"], 600000)
        titles = run("ps").out.splitlines()[0].split()
        self.assertEqual(["NAME", "IMAGE", "ENGINE", "STATE", "AGE", "IDLE",
                          "MEMORY", "CELLS", "HOLDER"], titles)

    def test_stats_measures_a_busy_cell(self):
        self.ok("print('12345')")
        with self.session.running("while True: pass"):
            done = run("stats", "--json", self.session.name, "--count", "2",
                       "--interval", "500ms")
            self.assertEqual(0, done.status, done.err)
            rows = [json.loads(line) for line in done.out.splitlines()]
            self.assertEqual([STATS_KEYS] * 2, [list(row) for row in rows])
            for row in rows:
                self.assertGreaterEqual(row["cpu_percent"], 0)
                self.assertGreater(row["memory_bytes"], 1 << 20)
                self.assertLess(row["memory_bytes"],
                                row["memory_limit_bytes"])
                self.assertLess(0, row["pids"])
                self.assertLess(row["pids"], row["pids_limit"])
                self.assertGreaterEqual(row["output_bytes"], 6)
                self.assertEqual("busy", row["state"])
            self.assertGreater(rows[1]["cpu_us"], rows[0]["cpu_us"])
            self.assertGreater(rows[1]["cpu_percent"], 0)
            run("interrupt", self.session.name)
        wait_for(lambda: run("exec", self.session.name, "1").status == 0)

    def held(self):
        done = run("stats", "--json", self.session.name)
        self.assertEqual(0, done.status, done.err)
        row = json.loads(done.out)
        return row["checkpoints"], row["checkpoint_bytes"]

    def test_stats_tells_what_checkpoints_hold(self):
        size = 30 << 20
        self.ok("x = bytearray(%d)" % size)
        self.assertLess(self.held()[1], size)
        done = run("checkpoint", self.session.name, "before")
        self.assertEqual(0, done.status, done.err)
        change = "x[:] = b'1' * %d" % size
        self.ok(change)
        count, held = self.held()
        self.assertEqual(3, count)  # two are automatic
        self.assertGreater(held, size)
        # Also while another process has the session.
        with self.session.running("while True: pass"):
            self.assertGreater(self.held()[1], size)
            run("interrupt", self.session.name)
        wait_for(lambda: run("exec", self.session.name, "1").status == 0)
        run("checkpoint", self.session.name, "before", "--delete")
        self.ok("x = None")
        self.ok("1")
        self.assertLess(self.held()[1], size)

    def test_who_only_looks_is_in_nobodys_way(self):
        process = popen("stats", "--json", self.session.name, "--count", "5",
                        "--interval", "100ms")
        for number in range(30):
            self.assertEqual(str(number),
                             self.ok(str(number))["result"]["text/plain"])
        out, err = process.communicate(timeout=60)
        self.assertEqual((0, 5), (process.returncode, len(out.splitlines())),
                         err)

    def test_stats_without_a_terminal_is_one_row(self):
        done = run("stats", self.session.name)
        self.assertEqual(0, done.status, done.err)
        titles, row = done.out.splitlines()
        self.assertIn("MEMORY / LIMIT", titles)
        self.assertIn("MiB", row)

    def test_stats_ends_with_ctrl_c_and_with_the_session(self):
        with session() as live:
            for end in "interrupt", "stop":
                process = popen("stats", "--json", live.name, "--count",
                                "1000", "--interval", "100ms")
                self.assertTrue(process.stdout.readline())
                if end == "interrupt":
                    process.send_signal(signal.SIGINT)
                else:
                    live.stop()
                _, err = process.communicate(timeout=60)
                self.assertEqual(0, process.returncode, err)

    def test_options_are_checked(self):
        for words in (["stats", "x", "--interval", "1ms"],
                      ["stats", "x", "--count", "0"],
                      ["history", "--cell", "1"],
                      ["history", "x", "--cell", "1", "--last", "1"],
                      ["history", "x", "--prune"], ["history", "--age", "1d"],
                      ["export", "x"], ["export", "--json", "x", "-"],
                      ["export", "--script", "x", "o.ipynb"]):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual((2, ""), (done.status, done.out))
                self.assertIn("--help", done.err)


class StopAll(OwnState):
    def test_also_what_only_has_a_record(self):
        names = [unique() for _ in range(3)]
        for name in names:
            self.assertEqual(0, run("start", name, env=self.env).status)
        ids = {s["name"]: s["container"]
               for s in json.loads(run("ps", "--json", env=self.env).out)}
        cellar_test.from_outside("rm", ids[names[1]], self.path)
        done = run("stop", "--all", "--json", env=self.env)
        self.assertEqual(0, done.status, done.err)
        self.assertEqual(names, sorted(s["name"]
                                       for s in json.loads(done.out)))
        self.assertEqual("[]\n", run("ps", "--json", env=self.env).out)
        self.assertEqual([], os.listdir(os.path.join(self.path, "sessions")))


if __name__ == "__main__":
    unittest.main()
