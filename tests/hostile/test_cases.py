"""The table of hostile cases is whole: every case has its tests, every test
named is there, every class of this folder has a case."""

import ast
import os
import re
import unittest

from hostile import run

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)


def rows():
    with open(os.path.join(HERE, "CASES.md"), encoding="utf-8") as file:
        return re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", file.read(), re.M)


def references():
    """(file, name or "") of each test that the table names."""
    for _, _, held_by in rows():
        for path, name in re.findall(
                r"`((?:hostile|e2e|unit|fault)/\w+\.\w+)(?::([\w.]+))?`",
                held_by):
            yield path, name


def read(path):
    with open(os.path.join(TESTS, path), encoding="utf-8") as file:
        return file.read()


def python_tests(path):
    """The classes of a file that have tests, and "Class.test_x" of each."""
    found = set()
    for node in ast.parse(read(path)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        tests = [n.name for n in node.body if isinstance(n, ast.FunctionDef)
                 and n.name.startswith("test_")]
        found.update(node.name + "." + name for name in tests)
        if tests:
            found.add(node.name)
    return found


class Cases(unittest.TestCase):
    def test_the_numbers_are_whole(self):
        numbers = [int(number) for number, _, _ in rows()]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)
        self.assertGreaterEqual(len(numbers), 59)

    def test_every_case_has_a_test(self):
        """But for commands that are not there."""
        without = {number for number, _, held_by in rows()
                   if not re.search(r"`\w+/\w+\.", held_by)}
        self.assertEqual({"59"}, without)
        for command in "put", "get":
            self.assertEqual(2, run(command, "--help").status)

    def test_every_test_that_is_named_is_there(self):
        for path, name in references():
            with self.subTest(path=path, name=name):
                if path.endswith(".py"):
                    self.assertIn(name, python_tests(path) | {""})
                else:
                    self.assertRegex(read(path),
                                     r"\bstatic void %s\(void" % name)
                    self.assertRegex(read(path), r"\(%s\)" % name)

    def test_every_class_of_this_folder_is_named(self):
        named = {(path, name.split(".")[0]) for path, name in references()}
        for file in sorted(os.listdir(HERE)):
            if not re.fullmatch(r"test_\w+\.py", file) or \
                    file == os.path.basename(__file__):
                continue
            for name in sorted(python_tests("hostile/" + file)):
                if "." not in name:
                    self.assertIn(("hostile/" + file, name), named)


if __name__ == "__main__":
    unittest.main()
