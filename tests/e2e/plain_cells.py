"""What cells mean, in plain Python: the oracle the tests compare Cellar with.

    for cell in PlainCells().run_all(["x = 20", "x + 1"]):
        print(cell["stdout"], cell["result"])

Every cell runs in one namespace called __main__; the value of a last
expression is the result; `await` works at the top level. Nothing of Cellar
is used here, and nothing here is used by Cellar.

As a program it prints the expectations of a notebook, as JSON:

    /usr/bin/python3 -I tests/e2e/plain_cells.py docs/examples/tour.ipynb
"""

import ast
import asyncio
import inspect
import json
import os
import sys
import tempfile
import types


class Capture:
    """Catches what reaches descriptors 1 and 2, subprocesses included."""

    def __enter__(self):
        sys.stdout.flush()
        sys.stderr.flush()
        self.saved = [os.dup(1), os.dup(2)]
        self.files = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]
        for number, file in enumerate(self.files, start=1):
            os.dup2(file.fileno(), number)
        return self

    def __exit__(self, *_):
        sys.stdout.flush()
        sys.stderr.flush()
        self.texts = []
        for number, (saved, file) in enumerate(zip(self.saved, self.files), 1):
            os.dup2(saved, number)
            os.close(saved)
            file.seek(0)
            self.texts.append(file.read().decode("utf-8", "replace"))
            file.close()


class PlainCells:
    """One namespace, one event loop, any number of cells."""

    def __init__(self):
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self.loop = asyncio.new_event_loop()

    def compile(self, body, mode, name):
        return compile(body, name, mode, dont_inherit=True,
                       flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def evaluate(self, codes):
        """The value of the last one; all of them on one running loop."""
        value = None
        for code in codes:
            value = eval(code, self.module.__dict__)
            if code.co_flags & inspect.CO_COROUTINE:
                value = await value
        return value

    def run(self, source, name="<cell>"):
        tree = ast.parse(source, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        codes = [self.compile(tree, "exec", name)]
        codes.append(self.compile(last or "None", "eval", name))
        if any(code.co_flags & inspect.CO_COROUTINE for code in codes):
            return self.loop.run_until_complete(self.evaluate(codes))
        eval(codes[0], self.module.__dict__)
        return eval(codes[1], self.module.__dict__)

    def run_all(self, sources):
        """Runs each cell; an exception ends the program: it is a mistake."""
        cells = []
        for source in sources:
            with Capture() as capture:
                value = self.run(source)
                text = None if value is None else repr(value)
            cells.append({"stdout": capture.texts[0],
                          "stderr": capture.texts[1], "result": text})
        return cells


def code_cells(notebook):
    """The sources of the code cells of a notebook file."""
    with open(notebook, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    return ["".join(cell["source"]) for cell in cells
            if cell["cell_type"] == "code"]


def main():
    cells = PlainCells().run_all(code_cells(os.path.abspath(sys.argv[1])))
    json.dump({"cells": cells}, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
