"""The linter finds what it is for: each check meets a tree with a mistake."""

import pathlib
import tempfile
import unittest

import docs
import text
import tools
from tree import Tree

GUARDED = "#ifndef CELLAR_X_H\n#define CELLAR_X_H\n#endif\n"


class Findings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def check(self, check, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        tree = Tree(self.root)
        check(tree)
        path.unlink()
        return len(tree.findings)

    def test_words(self):
        def found(code):
            return self.check(text.words, "kernel/a.c", code)

        self.assertEqual(1, found("void f(void) { system(x); }"))
        self.assertEqual(1, found("goto out;"))
        self.assertEqual(1, found("/* TO" "DO */"))
        self.assertEqual(0, found("/* goto */ char *s = \"strcpy(a, b)\";"))
        self.assertEqual(0, found("int system_load, file_system(x);"))

    def test_length(self):
        def found(lines):
            return self.check(text.length, "proto/a.c", "int a;\n" * lines)

        self.assertEqual([0, 1], [found(600), found(601)])

    def test_guards(self):
        def found(code):
            return self.check(text.guards, "proto/x.h", code)

        self.assertEqual(0, found("/* What. */\n" + GUARDED))
        self.assertEqual(1, found("int a;\n"))
        self.assertEqual(1, found(GUARDED.replace("_X_", "_Y_")))
        (self.root / "kernel").mkdir()
        (self.root / "kernel/x.h").write_text(GUARDED)
        self.assertEqual(1, found(GUARDED))

    def test_includes(self):
        def found(name, header):
            return self.check(text.includes, name, "#include %s\n" % header)

        self.assertEqual(1, found("kernel/session.c", "<curl/curl.h>"))
        self.assertEqual(0, found("kernel/engine/docker/http.c", "<curl/curl.h>"))
        self.assertEqual(1, found("proto/buf.c", "<stdio.h>"))
        self.assertEqual(1, found("kernel/x.c", '"runtime-image/a.h"'))

    def test_machine(self):
        self.assertEqual(1, self.check(text.machine, "docs/a.md",
                                       "see /home" "/someone/x"))

    def test_python(self):
        def found(name):
            return self.check(text.python, name, "match x:\n case 1: pass\n")

        self.assertEqual(0, found("tests/a.py"))
        self.assertEqual(1, found("runtime-image/worker/a.py"))
        self.assertEqual(1, self.check(text.python, "tests/b.py", "def"))

    def test_format(self):
        def found(code):
            return self.check(tools.format, "proto/a.c", code)

        self.assertEqual([0, 1], [found("int a;\n"), found("int  a ;\n")])

    def test_shell(self):
        def found(line):
            return self.check(tools.shell, "go", "#!/bin/sh\n%s\n" % line)

        self.assertEqual([0, 1], [found('echo "$1"'), found("echo $1")])

    def test_links(self):
        def found(page):
            return self.check(docs.links, "docs/a.md", "# A page\n" + page)

        self.assertEqual(0, found("[a](a.md#a-page) [b](https://x.org/)"))
        self.assertEqual(1, found("[a](b.md)"))
        self.assertEqual(1, found("[a](#b)"))

    def test_paths(self):
        self.assertEqual(1, self.check(docs.paths, "a.md", "`kernel/no.c`"))
        self.assertEqual(0, self.check(docs.paths, "docs/a.md", "`docs/a.md`"))

    def commands(self, page):
        """Against a command that knows `run --output` and nothing else."""
        cellar = self.root / "build/cellar"
        cellar.parent.mkdir(exist_ok=True)
        cellar.write_text('#!/bin/sh\ncase "$1" in\n--help | run) '
                          'echo "-o, --output FILE  --json";;\n'
                          '*) exit 2;;\nesac\n')
        cellar.chmod(0o755)
        (self.root / "CMakePresets.json").write_text(
            '{"configurePresets": [{"name": "dev"}]}')
        return self.check(lambda tree: docs.commands(tree, str(cellar.parent)),
                          "README.md", page)

    def test_commands(self):
        self.assertEqual(0, self.commands("`cellar run a.py --output b`"))
        self.assertEqual(1, self.commands("`cellar run --outputs b`"))
        self.assertEqual(1, self.commands("```\n$ cellar walk\n```\n"))
        self.assertEqual(1, self.commands("`./quickstart tests`"))
        self.assertEqual(1, self.commands("`cmake --preset none`"))
        self.assertEqual(0, self.commands("`./quickstart test` `cellar`"))


if __name__ == "__main__":
    unittest.main()
