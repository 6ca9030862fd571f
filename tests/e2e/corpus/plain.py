"""Runs one page's examples under plain Python's doctest.

    python3 plain.py PAGE.rst.txt SEED    prints a JSON list, an entry a step:
    {"passed": true, "got": "..."}

Run it in a scratch directory: the examples write files. SEED is random's (and
should be PYTHONHASHSEED too): what passes under some seeds only, such as the
order of a set, passed by chance.
"""

import doctest
import json
import os
import random
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from examples import FLAGS, read_page


LIMIT_SECONDS = 5  # a page has an example that waits for Ctrl-C for ever


class TooLong(BaseException):
    """What ends an example, as a cell's timeout ends a cell."""


def end_example(*_):
    raise TooLong


class Recorder(doctest.DocTestRunner):
    """doctest's own runner and verdict; only the report is ours."""

    def __init__(self):
        super().__init__(verbose=False, optionflags=FLAGS)
        self.current = None
        self.outcomes = {}  # by the example's identity; none when skipped

    def record(self, example, passed, got):
        signal.alarm(0)
        self.outcomes[id(example)] = {"passed": passed, "got": got}

    def report_start(self, out, test, example):
        self.current = example
        signal.alarm(LIMIT_SECONDS)

    def report_success(self, out, test, example, got):
        self.record(example, True, got)

    def report_failure(self, out, test, example, got):
        self.record(example, False, got)

    def report_unexpected_exception(self, out, test, example, exc_info):
        self.record(example, False, repr(exc_info[1]))


def run_all(recorder, examples):
    """doctest gives up at a KeyboardInterrupt; the page goes on after it."""
    globs = {"__name__": "__main__"}
    rest = list(examples)
    while rest:
        test = doctest.DocTest(rest, globs, "page", None, None, None)
        globs = test.globs
        try:
            recorder.run(test, out=lambda text: None, clear_globs=False)
            return
        except KeyboardInterrupt:
            recorder.record(recorder.current, False, "KeyboardInterrupt")
            rest = rest[rest.index(recorder.current) + 1:]


def main():
    signal.signal(signal.SIGALRM, end_example)
    random.seed(int(sys.argv[2]))
    examples = [step.example() for step in read_page(sys.argv[1])]
    report = os.fdopen(os.dup(1), "w")
    recorder = Recorder()
    run_all(recorder, examples)
    skipped = {"passed": False, "got": ""}
    json.dump([recorder.outcomes.get(id(example), skipped)
               for example in examples], report)
    report.flush()
    os._exit(0)  # the page's own threads and loggers end here


if __name__ == "__main__":
    main()
