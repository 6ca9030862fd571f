"""The extension loads wherever a CPython from 3.8 on runs: it needs nothing
but libc, and of that nothing newer than GLIBC_2.25; it exports its init
function alone.

usage: test_worker_library.py FILE
"""
import re
import subprocess
import sys
import unittest

FILE = sys.argv.pop(1)
NEWEST = (2, 25)


def read(*options):
    return subprocess.check_output(["readelf", "--wide", *options, FILE],
                                   text=True)


class Library(unittest.TestCase):
    def test_needs_libc_alone(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", read("--dynamic"))
        self.assertEqual(needed, ["libc.so.6"])

    def test_needs_no_new_libc(self):
        versions = {tuple(map(int, version.split(".")))
                    for version in re.findall(r"@GLIBC_([\d.]+)",
                                              read("--dyn-syms"))}
        self.assertTrue(versions)
        self.assertLessEqual(max(versions), NEWEST)

    def test_exports_its_init_function_alone(self):
        names = [line.split()[-1] for line in read("--dyn-syms").splitlines()
                 if re.search(r" (GLOBAL|WEAK) +DEFAULT +\d", line)]
        self.assertEqual(names, ["PyInit__cellar"])


if __name__ == "__main__":
    unittest.main()
