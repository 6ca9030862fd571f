"""The example notebooks, through the real command, cell by cell.

tests/data/notebooks/NAME.json holds what each code cell of
docs/examples/NAME.ipynb must give. It was made by plain Python
(plain_cells.py), but for what a container refuses.
"""

import json
import os
import subprocess
import tempfile
import unittest

import cellar_test
from plain_cells import code_cells

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

VALIDATE = """
import sys, nbformat
notebook = nbformat.read(sys.argv[1], nbformat.NO_CONVERT)
nbformat.validate(notebook)
print(notebook.nbformat, len(notebook.cells))
"""


def example(name):
    return os.path.join(ROOT, "docs", "examples", name + ".ipynb")


def expectations(name):
    path = os.path.join(ROOT, "tests", "data", "notebooks", name + ".json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)["cells"]


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def joined(text):
    return text if isinstance(text, str) else "".join(text)


def as_expectation(outputs):
    """The outputs of a notebook's cell, as an expectation tells them."""
    cell = {"stdout": "", "stderr": "", "result": None}
    for output in outputs:
        if output["output_type"] == "stream":
            cell[output["name"]] += joined(output["text"])
        elif output["output_type"] == "execute_result":
            cell["result"] = joined(output["data"]["text/plain"])
        else:
            raise AssertionError("unexpected output: %r" % output)
    return cell


class NotebookTest:
    """What holds for each example; NAME and OPTIONS say which."""

    def run_example(self, *options, path=None):
        return cellar_test.run("run", *self.OPTIONS, *options,
                               path or example(self.NAME), timeout=300)

    def test_every_cell_gives_what_is_expected(self):
        done = self.run_example("--json")
        self.assertEqual(0, done.status, done.err)
        results = [json.loads(line) for line in done.out.splitlines()]
        expected = expectations(self.NAME)
        self.assertEqual(len(expected), len(results))
        for number, (cell, result) in enumerate(zip(expected, results), 1):
            with self.subTest(cell=number):
                value = result["result"] and result["result"]["text/plain"]
                self.assertEqual(cell, {"stdout": result["stdout"],
                                        "stderr": result["stderr"],
                                        "result": value})
                self.assertEqual(("ok", "kept", number, False),
                                 (result["status"], result["state"],
                                  result["cell"], result["truncated"]))

    def test_the_terminal_shows_every_output(self):
        done = self.run_example()
        self.assertEqual(0, done.status, done.err)
        position = 0
        for cell in expectations(self.NAME):
            for text in cell["stdout"], cell["result"]:
                for line in (text or "").splitlines():
                    position = done.out.find(line, position)
                    self.assertGreaterEqual(position, 0, line)
                    position += len(line)

    def test_the_executed_notebook_is_valid_and_runs_again(self):
        with tempfile.TemporaryDirectory() as folder:
            first = os.path.join(folder, "first.ipynb")
            second = os.path.join(folder, "second.ipynb")
            done = self.run_example("--output", first)
            self.assertEqual(0, done.status, done.err)
            done = self.run_example("--output", second, path=first)
            self.assertEqual(0, done.status, done.err)
            self.check_executed(first)
            self.assertEqual(self.without_times(load(first)),
                             self.without_times(load(second)))

    def check_executed(self, path):
        checked = subprocess.run(["/usr/bin/python3", "-c", VALIDATE, path],
                                 capture_output=True, text=True, timeout=60)
        self.assertEqual(0, checked.returncode, checked.stderr)
        source, executed = load(example(self.NAME)), load(path)
        self.assertEqual("4 %d\n" % len(source["cells"]), checked.stdout)
        self.assertEqual([joined(c["source"]) for c in source["cells"]],
                         [joined(c["source"]) for c in executed["cells"]])
        self.assertEqual([c["id"] for c in source["cells"]],
                         [c["id"] for c in executed["cells"]])
        code = [c for c in executed["cells"] if c["cell_type"] == "code"]
        self.assertEqual(list(range(1, len(code) + 1)),
                         [c["execution_count"] for c in code])
        for cell, expected in zip(code, expectations(self.NAME)):
            self.assertEqual(expected, as_expectation(cell["outputs"]))

    @staticmethod
    def without_times(notebook):
        """Cells' metadata may tell when they ran; nothing else may differ."""
        return [{key: value for key, value in cell.items()
                 if key != "metadata"} for cell in notebook["cells"]]

    def test_the_example_holds_no_outputs(self):
        for cell in load(example(self.NAME))["cells"]:
            self.assertFalse(cell.get("outputs"))
            self.assertIsNone(cell.get("execution_count"))

    def tearDown(self):
        self.assertEqual([], cellar_test.containers_left())


class Tour(NotebookTest, unittest.TestCase):
    NAME = "tour"
    OPTIONS = ()

    def test_it_is_short(self):
        self.assertIn(len(code_cells(example("tour"))), range(10, 15))


class Data(NotebookTest, unittest.TestCase):
    NAME = "data"
    OPTIONS = cellar_test.of_image("cellar-runtime:data")

    def test_it_is_long(self):
        self.assertGreaterEqual(len(code_cells(example("data"))), 30)

    def test_state_flows_from_cell_to_cell(self):
        """The cells need each other: the last one fails when it is alone."""
        cells = code_cells(example("data"))
        with cellar_test.session(*self.OPTIONS) as session:
            alone = session.exec(cells[-1])
            self.assertEqual("error", alone["status"])
            self.assertEqual("NameError", alone["error"]["name"])


if __name__ == "__main__":
    unittest.main()
