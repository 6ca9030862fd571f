"""The examples of a page of Python's documentation, in order.

    for step in read_page("/usr/share/doc/.../tutorial/errors.rst.txt"):
        step.source, step.want, step.exc_msg, step.counted

`>>>` examples come from doctest's own parser. The hidden `testsetup` and the
`testcode` blocks of a page are what its examples stand on, so they are steps
too, one per statement; but they promise no output and are not counted.
"""

import ast
import doctest
import hashlib
import json
import re
import textwrap

SETUP = re.compile(r"^\.\. (testsetup|testcode)::")

# What Sphinx's doctest builder assumes when it checks these pages.
FLAGS = (doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
         | doctest.DONT_ACCEPT_TRUE_FOR_1)


class Step:
    """One `>>>` example, or one statement of a set-up block."""

    def __init__(self, source, line, want="", exc_msg=None, options=None,
                 counted=False):
        self.source = source
        self.line = line
        self.want = want
        self.exc_msg = exc_msg
        self.options = options or {}
        self.counted = counted

    def example(self):
        return doctest.Example(self.source, self.want, self.exc_msg,
                               self.line, 0, self.options)

    def flags(self):
        flags = FLAGS
        for flag, on in self.options.items():
            flags = flags | flag if on else flags & ~flag
        return flags

    def key(self):
        """Names the example without quoting it."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


def setup_blocks(lines):
    """(first line, text) of each testsetup and testcode block."""
    for start, line in enumerate(lines):
        if not SETUP.match(line):
            continue
        end = start + 1
        while end < len(lines) and (not lines[end].strip()
                                    or lines[end].startswith(" ")):
            end += 1
        body = [text for text in lines[start + 1:end]
                if not re.match(r"\s+:\w+:", text)]
        yield start, textwrap.dedent("\n".join(body))


def first_line(statement):
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno] + [d.lineno for d in decorators])


def setup_steps(lines):
    for start, text in setup_blocks(lines):
        for statement in ast.parse(text).body:
            part = text.splitlines()[first_line(statement) - 1:
                                     statement.end_lineno]
            yield Step("\n".join(part) + "\n", start)


def read_page(path):
    """All steps of a page in the order of their lines."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    steps = [Step(e.source, e.lineno, e.want, e.exc_msg, e.options, True)
             for e in doctest.DocTestParser().get_examples(text)]
    steps += setup_steps(text.splitlines())
    return sorted(steps, key=lambda step: step.line)


def as_notebook(steps):
    """The steps as a notebook file's text, a code cell each."""
    cells = [{"cell_type": "code", "id": "step-%d" % number, "metadata": {},
              "execution_count": None, "outputs": [],
              "source": step.source.rstrip("\n")}
             for number, step in enumerate(steps)]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4,
                       "nbformat_minor": 5})
