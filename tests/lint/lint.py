"""The checks of tests/lint, one by one:

    python3 tests/lint/lint.py [--build DIR] CHECK...

Exit status 1: something was found, and told as FILE:LINE: TEXT.
"""

import argparse
import inspect
import pathlib
import sys

import docs
import text
import tools
from tree import Tree

CHECKS = {check.__name__: check for check in (
    text.words, text.length, text.guards, text.includes, text.machine,
    text.python, tools.format, tools.shell, tools.tidy, tools.symbols,
    docs.links, docs.paths, docs.commands)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root",
                        default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--build", help="a build folder, configured and built")
    parser.add_argument("checks", nargs="+", choices=CHECKS, metavar="CHECK")
    arguments = parser.parse_args()
    found = 0
    for name in arguments.checks:
        tree = Tree(arguments.root)
        needs_build = "build" in inspect.signature(CHECKS[name]).parameters
        CHECKS[name](tree, *([arguments.build] if needs_build else []))
        print("%s: %d found" % (name, len(tree.findings)))
        for finding in tree.findings:
            print("  " + finding)
        found += len(tree.findings)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
