"""What the checks share: the tree's files, and how a finding is told."""

import functools
import pathlib
import re

FOLDERS = ("include", "proto", "kernel", "runtime-image", "tests", "docs",
           "cmake", ".ci")


class Tree:
    """The source tree below `root`; a check adds to `findings`."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.style = pathlib.Path(__file__).resolve().parents[2]
        self.findings = []

    def say(self, path, line, text):
        name = path.relative_to(self.root) if path.is_absolute() else path
        self.findings.append("%s:%d: %s" % (name, line, text))

    @functools.cached_property
    def all_files(self):
        """The text files of the tree's own folders and of its root, but for the
        `.git` of a worktree, which is git's."""
        found = [path for path in self.root.iterdir()
                 if path.is_file() and path.name != ".git"]
        for folder in FOLDERS:
            found += (path for path in (self.root / folder).rglob("*")
                      if path.is_file() and "__pycache__" not in path.parts)
        return sorted(found)

    def files(self, *suffixes):
        return [path for path in self.all_files if path.suffix in suffixes]

    @functools.cached_property
    def scripts(self):
        """The shell's files, known by their first line."""
        first = re.compile(rb"#!.*\b(ba)?sh\b")
        return [path for path in self.all_files
                if path.suffix in ("", ".sh") and
                first.match(path.read_bytes()[:80])]


def code_only(text):
    """C without comments and with empty strings; lines keep their numbers."""
    token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'
                       r"'(?:\\.|[^'\\\n])*'", re.DOTALL)

    def blank(match):
        kept = "\n" * match.group().count("\n")
        return kept if match.group().startswith("/") else '""'

    return token.sub(blank, text)
