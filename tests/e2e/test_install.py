"""What `cmake --install` puts into a prefix is enough: the command runs from
there, and the examples embed the library in each way the manual names."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import cellar_test

BUILD = os.environ["CELLAR_BINARY_DIR"]
ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
README = ROOT / "README.md"

CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(embedder LANGUAGES C)
find_package(Cellar 0.1 REQUIRED COMPONENTS %s)
foreach(example embed checkpoint pool)
    add_executable(${example} ${example}.c)
    target_link_libraries(${example} PRIVATE %s)
endforeach()
"""

PROGRAM = """
%s
#include <err.h>
#include <stdio.h>
int main(void)
{
    struct cellar *c = NULL;
    struct cellar_session *s = NULL;
    struct cellar_result *r = NULL;
    struct cellar_error err = {0};
%s
    cellar_result_free(r);
    cellar_free(c);
    return 0;
}
"""

SAYS = {
    # Three cells, of which the second is ended.
    "embed": """sorting 3
ok, state kept: [1, 2, 3]
timeout, state kept: 
ok, state kept: 6
""",
    # A crash, a restore, and three branches.
    "checkpoint": """root: ok, state kept: 
root: killed, state restored: 
root: ok, state kept: []
root: ok, state kept: [120, 310, 75]
orders.sort(); orders[-1] - orders[0]: ok, state kept: 235
sum(orders) / len(orders): ok, state kept: 168.33333333333334
import os; os._exit(1): exited, state restored: 
root: ok, state kept: [120, 310, 75]
""",
    # Three sessions: the second knows nothing of the first.
    "pool": """ok: '[41, 42]'
ok: False
exited: 
""",
}


def run(*arguments, **options):
    """Runs a command that must end well; what it prints."""
    done = subprocess.run([*map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300,
                          **options)
    if done.returncode != 0:
        raise AssertionError("%s: %s" % (arguments, done.stdout))
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="cellar install ")
        cls.addClassCleanup(folder.cleanup)
        cls.work = pathlib.Path(folder.name)
        cls.prefix = cls.work / "prefix"
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        cls.library = next(cls.prefix.glob("lib/**/libcellar.so")).parent
        cls.environment = dict(
            cellar_test.ENVIRONMENT,
            PKG_CONFIG_PATH=str(cls.library / "pkgconfig"),
            CELLAR_DATA_DIR=str(cls.prefix / "share/cellar"))

    def folder(self, name):
        """A folder with nothing but copies of the examples."""
        folder = self.work / name
        folder.mkdir()
        for example in SAYS:
            shutil.copy(EXAMPLES / (example + ".c"), folder)
        return folder

    def pkg_config(self, *arguments):
        text = run("pkg-config", *arguments, env=self.environment).strip()
        # pkg-config writes a space of a path as "\ ".
        return [word.replace("\\ ", " ")
                for word in re.split(r"(?<!\\) ", text)]

    def built_by_pkg_config(self, package):
        folder = self.folder(package)
        for example in SAYS:
            run("cc", "-Wall", "-Wextra", "-Werror", "-pedantic", "-std=c11",
                example + ".c",
                *self.pkg_config("--cflags", "--libs", package), "-o",
                example, cwd=folder)
        return folder

    def built_by_cmake(self, components, target):
        folder = self.folder("cmake-" + components)
        (folder / "CMakeLists.txt").write_text(CMAKE % (components, target))
        run("cmake", "-S", folder, "-B", folder / "build",
            "-DCMAKE_PREFIX_PATH=%s" % self.prefix)
        run("cmake", "--build", folder / "build")
        return folder / "build"

    def linked(self, program):
        return run("ldd", program, env=dict(self.environment,
                                            LD_LIBRARY_PATH=self.library))

    def assert_shared(self, folder):
        for example in SAYS:
            self.assertRegex(self.linked(folder / example),
                             r"libcellar\.so\.\d+ => " +
                             re.escape(str(self.library)))
        self.assert_run(folder)

    def assert_static(self, folder):
        for example in SAYS:
            self.assertNotIn("libcellar", self.linked(folder / example))
        self.assert_run(folder)

    def assert_run(self, folder):
        for example, says in SAYS.items():
            with self.subTest(example=example):
                said = run(folder / example,
                           env=dict(self.environment,
                                    LD_LIBRARY_PATH=self.library))
                self.assertEqual(says, said)
                self.assertEqual([], cellar_test.containers_left())

    def test_pkg_config_shared(self):
        self.assert_shared(self.built_by_pkg_config("cellar"))

    def test_pkg_config_static(self):
        self.assert_static(self.built_by_pkg_config("cellar-static"))

    def test_cmake_shared(self):
        self.assert_shared(self.built_by_cmake("shared", "Cellar::cellar"))

    def test_cmake_static(self):
        self.assert_static(self.built_by_cmake("static",
                                               "Cellar::cellar_static"))

    def test_the_lines_in_the_readme(self):
        """A program with what stands for its `...` is built, and says what the
        comment does."""
        lines = re.search(r"```c\n(#include .*?)```", README.read_text("utf-8"),
                          re.DOTALL)[1]
        include, _, rest = lines.partition("...\n")
        says = re.search(r"// (.*)", rest)[1]
        folder = self.folder("readme")
        (folder / "a.c").write_text(PROGRAM % (include, rest))
        run("cc", "-Wall", "-Wextra", "-Werror", "-std=c11", "a.c",
            *self.pkg_config("--cflags", "--libs", "cellar-static"), "-o", "a",
            cwd=folder)
        self.assertEqual(says + "\n", run(folder / "a", env=self.environment))

    def test_headers_stand_alone(self):
        """Each header may be the first or the only one, in C and in C++."""
        include = self.prefix / "include"
        for header in sorted(include.glob("cellar/*.h")):
            for compiler in (["cc", "-x", "c", "-std=c11"],
                             ["c++", "-x", "c++", "-std=c++17"]):
                with self.subTest(header=header.name, compiler=compiler[0]):
                    run(*compiler, "-Wall", "-Wextra", "-Werror", "-pedantic",
                        "-fsyntax-only", "-I", include, "-",
                        input="#include <cellar/%s>\nint x;\n" % header.name)

    def test_command_finds_its_data(self):
        """Without a word from the environment."""
        environment = dict(cellar_test.ENVIRONMENT)
        environment.pop("CELLAR_DATA_DIR", None)
        said = run(self.prefix / "bin/cellar", "run", "-", input="6 * 7\n",
                   env=environment)
        self.assertIn("42", said)

    def test_command_finds_its_data_where_path_has_found_it(self):
        environment = dict(os.environ, PATH="%s:%s" % (
            self.prefix / "bin", os.environ["PATH"]))
        environment.pop("CELLAR_DATA_DIR", None)
        subprocess.run(["cellar", "ps"], env=environment, cwd="/", check=True,
                       stdout=subprocess.DEVNULL)

    def test_manual(self):
        for page in "man1/cellar.1", "man3/cellar.3":
            path = self.prefix / "share/man" / page
            with self.subTest(page=page):
                said = run("man", "--warnings", "-E", "UTF-8", "-l", path,
                           env=dict(os.environ, MANROFFOPT="", LC_ALL="C.UTF-8",
                                    MANPAGER="cat", MAN_KEEP_STDERR="1"))
                self.assertNotIn("warning:", said)
                self.assertIn("cellar", said)
        self.assertIn("cellar_interrupt_signal", said)


if __name__ == "__main__":
    unittest.main()
