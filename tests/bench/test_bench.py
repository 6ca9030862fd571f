"""Every bench runs, tells the figures it promises with their units, and tells
nothing that can't be. How fast it is, is no test's business."""

import json
import os
import pathlib
import sys
import unittest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from cellar_test import ENVIRONMENT, containers_left, run  # noqa: E402

# A Python that has ipykernel and jupyter_client.
PEER = os.environ.get("CELLAR_BENCH_PYTHON", "/usr/bin/python3")


class BenchTest(unittest.TestCase):
    def bench(self, name, *options, python=PEER, status=0):
        done = run("bench", name, "--json", "--python", python, *options,
                   timeout=600)
        self.assertEqual((status, ""), (done.status, done.err))
        told = json.loads(done.out)
        self.assertEqual((name, "docker"), (told["bench"], told["engine"]))
        self.assertIn(" cores, Linux ", told["machine"])
        return told

    def assert_times(self, told, *prefixes):
        for prefix in prefixes:
            with self.subTest(prefix=prefix):
                self.assertLess(0, told[prefix + "p50_us"])
                self.assertLessEqual(told[prefix + "p50_us"],
                                     told[prefix + "p99_us"])

    def assert_ratio(self, told, ratio, over, under):
        """JSON carries six digits."""
        self.assertAlmostEqual(told[over] / told[under], told[ratio],
                               delta=told[ratio] / 1e4)

    def assert_between(self, low, value, high):
        self.assertLess(low, value)
        self.assertLess(value, high)


class Reports(BenchTest):
    def test_cell(self):
        told = self.bench("cell", "-n", "20")
        self.assert_times(told, "", "named_", "bare_", "kept_", "paused_",
                          "paused_bare_", "ipykernel_")
        self.assert_ratio(told, "ratio_to_bare", "p50_us", "bare_p50_us")
        self.assert_ratio(told, "ipykernel_to_cellar", "ipykernel_p50_us",
                          "p50_us")
        self.assertEqual((20, {}), (told["rounds"], told["not_measured"]))

    def test_start(self):
        told = self.bench("start", "-n", "2")
        self.assert_times(told, "", "ready_", "bare_", "ipykernel_")
        self.assertLessEqual(told["ready_p50_us"], told["p50_us"])
        self.assert_ratio(told, "ratio_to_bare", "p50_us", "bare_p50_us")
        self.assertAlmostEqual(told["p50_us"] - told["bare_p50_us"],
                               told["added_us"],
                               delta=told["p50_us"] / 1e4)

    def test_pool(self):
        told = self.bench("pool", "-n", "2")
        self.assert_times(told, "", "take_", "named_", "named_take_", "start_")
        self.assertLessEqual(told["take_p50_us"], told["p50_us"])
        self.assertLessEqual(told["named_take_p50_us"], told["named_p50_us"])
        self.assert_ratio(told, "named_to_unnamed", "named_p50_us", "p50_us")
        self.assert_ratio(told, "start_to_pool", "start_p50_us", "p50_us")
        self.assertEqual((0, 2), (told["missed"], told["rounds"]))

    def test_output(self):
        told = self.bench("output", "-n", "1")
        self.assertEqual(50 << 20, told["output_bytes"])
        for key in "bytes_per_s", "bare_bytes_per_s", "ipykernel_bytes_per_s":
            self.assert_between(1e5, told[key], 1e11)
        self.assert_ratio(told, "ratio_to_bare", "bytes_per_s",
                          "bare_bytes_per_s")
        self.assert_ratio(told, "ratio_to_ipykernel", "bytes_per_s",
                          "ipykernel_bytes_per_s")

    def test_memory(self):
        """As root: others are told that they can't see it."""
        told = self.bench("memory", "-S", "3")
        for prefix in "", "kept_":
            whole, agent, worker = (told[prefix + key] for key in (
                "pss_bytes", "agent_pss_bytes", "worker_pss_bytes"))
            self.assert_between(1 << 17, agent, 16 << 20)
            self.assert_between(1 << 20, worker, 256 << 20)
            self.assertAlmostEqual(agent + worker, whole, delta=whole / 1e4)
        self.assert_between(1 << 20, told["ipykernel_pss_bytes"], 1 << 30)
        # A sanitizer's allocator tells of none.
        self.assert_between(-1, told["host_bytes"], 16 << 20)
        self.assertEqual(3, told["sessions"])

    def test_codec(self):
        told = self.bench("codec", "-n", "3")
        for size in "200b", "64k":
            for step in "write", "read", "sign", "copy":
                self.assertLess(0, told["%s_%s_per_s" % (size, step)])
            for way in "write", "read":
                ratio = told["%s_%s_ratio_to_sign" % (size, way)]
                self.assert_between(0, ratio, 100)

    def test_text_tells_the_same(self):
        done = run("bench", "codec", "-n", "3")
        self.assertEqual((0, ""), (done.status, done.err))
        self.assertRegex(done.out, r"64k: verified and parsed +[\d.]+ GB/s\n")
        self.assertRegex(done.out, r"\non .* cores, Linux .*\n$")


class Peers(BenchTest):
    def test_one_that_is_not_there_is_told_of(self):
        for python in "/no/such/python", "/bin/false":
            with self.subTest(python=python):
                told = self.bench("start", "-n", "1", python=python)
                for key in ("ipykernel_p50_us", "ipykernel_p99_us",
                            "ipykernel_to_cellar"):
                    self.assertIsNone(told[key])
                    self.assertIn(python, told["not_measured"][key])
                self.assertLess(0, told["ratio_to_bare"])

    def test_one_that_talks_nonsense_is_not_believed(self):
        told = self.bench("start", "-n", "1", python="/bin/echo")
        self.assertIsNone(told["ipykernel_p50_us"])

    def test_the_environment_names_one_too(self):
        done = run("bench", "start", "-n", "1", "--json",
                   env=dict(ENVIRONMENT, CELLAR_BENCH_PYTHON="/no/such"))
        told = json.loads(done.out)
        self.assertIn("/no/such",
                      told["not_measured"]["ipykernel_p50_us"])


class Scale(BenchTest):
    def test_tells_what_many_take(self):
        told = self.bench("scale", "-S", "3", "-n", "2")
        self.assertEqual((3, 2, 0, ""),
                         (told["sessions"], told["cells"], told["failures"],
                          told["first_failure"]))
        for step in "start", "in_turn", "at_once", "interrupt", "stop":
            self.assertLess(0, told[step]["p50_us"])
            self.assertLessEqual(told[step]["p99_us"], told[step]["max_us"])
        self.assert_between(1 << 20, told["pss_bytes_per_session"], 256 << 20)
        self.assertEqual(1, told["threads"])


class All(BenchTest):
    def test_unknown_ones_are_named(self):
        done = run("bench", "everything")
        self.assertEqual((2, ""), (done.status, done.out))
        self.assertIn("'codec'", done.err)

    @classmethod
    def tearDownClass(cls):
        left = containers_left()
        if left:
            raise AssertionError("containers left: %s" % left)


if __name__ == "__main__":
    unittest.main()
