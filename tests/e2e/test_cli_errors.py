"""Bad input of the user, and a user who leaves: each time a definite answer
that names the thing, the right exit status, and nothing left behind."""

import concurrent.futures
import json
import os
import pty
import signal
import subprocess
import tempfile
import time
import unittest

import cellar_test
from cellar_test import (SessionTest, containers_left, popen, run, session,
                         unique, wait_for)

CLOSE_STDIN = "exec 0<&-; exec \"$@\""
CLOSE_STDOUT = "exec 1>&-; exec \"$@\""
FULL_STDOUT = "exec 1>/dev/full; exec \"$@\""

FOREVER = """
import time
print('running', flush=True)
while True:
    time.sleep(1)
"""

STUBBORN = """
import time
words = ['running']
while True:
    try:
        while words:
            print(words.pop(), flush=True)
        time.sleep(1)
    except KeyboardInterrupt:
        print('no', flush=True)
"""


def shell(script, *arguments, timeout=120):
    """Runs `cellar ARGUMENTS` by a shell that changes its descriptors."""
    return subprocess.run(["sh", "-c", script, "sh", cellar_test.CELLAR,
                           *arguments], env=cellar_test.ENVIRONMENT,
                          stdin=subprocess.DEVNULL, timeout=timeout,
                          capture_output=True, text=True)


class ErrorTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="cellar-cli-")
        self.addCleanup(self.folder.cleanup)

    def file(self, name, content):
        path = os.path.join(self.folder.name, name)
        data = content.encode() if isinstance(content, str) else content
        with open(path, "wb") as file:
            file.write(data)
        return path

    def assertRefused(self, done, *words, status=2):
        """The status, one message in words, and no result."""
        self.assertEqual(status, done[0], done)
        self.assertEqual("", done[1])
        self.assertRegex(done[2], r"\Acellar: [^\n]+\n(try 'cellar[^\n]*\n)?\Z")
        for word in words:
            self.assertIn(word, done[2])

    def assertNothingLeft(self):
        wait_for(lambda: not containers_left(), 15)


class Words(ErrorTest):
    """The command line itself. Nothing of this asks an engine."""

    def setUp(self):
        super().setUp()
        self.environment = dict(cellar_test.ENVIRONMENT,
                                DOCKER_HOST="unix:///nowhere.sock")

    def refused(self, *arguments, words, status=2):
        done = run(*arguments, env=self.environment)
        self.assertRefused(done, *words, status=status)

    def test_commands(self):
        self.refused(words=["command is missing", "cellar --help"])
        self.refused("exce", words=["'exce'", "'exec'?"])
        self.refused("frob", words=["unknown command 'frob'"])
        self.refused("exec", words=["NAME", "cellar exec --help"])
        self.refused("ps", "more", words=["'more'"])
        self.refused("stop", words=["NAME", "--all"])
        self.refused("stop", "--all", "x", words=["--all"])
        self.refused("image", "bild", words=["'bild'", "build"])
        self.refused("image", "build", "--variant", "fat",
                     words=["--variant", "'fat'", "slim", "data"])

    def test_options(self):
        self.refused("start", "x", "--memroy", "1g",
                     words=["--memroy", "--memory?", "cellar start --help"])
        self.refused("ps", "--memory", "1g", words=["--memory", "cellar ps"])
        self.refused("start", "x", "--memory", words=["--memory", "SIZE"])
        self.refused("start", "x", "--json=no", words=["--json", "no value"])
        self.refused("exec", "x", "-1+2", words=["-1+2", "--"])

    def test_numbers(self):
        for option, values, example in (
                ("--timeout", ["-1", "1e308", "nan", "abc", "31d", "0.0001s"],
                 "30s"),
                ("--memory", ["1", str(2 ** 63), str(2 ** 64), "12gg", "-1",
                              "nan", "0", "1e9"], "512m"),
                ("--cpus", ["0", "-1", "inf", "1,5", "1e300"], "1.5"),
                ("--pids", ["0", "1.5", "many"], "128"),
                ("--lease", ["0", "1s", "-5"], "30s")):
            for value in values:
                with self.subTest(option=option, value=value):
                    self.refused("start", "x", option, value,
                                 words=[option, value, example])

    def test_names(self):
        rule = "1 to 63 of a-z 0-9 . _ -"
        names = ["../x", "", "x" * 64, "x" * 4096, "a b", "a;b", "$(id)",
                 "`id`", "a/b", ".hidden", "-x", "Name", "na\u00efve", "a\nb",
                 b"\xff\xfe", "*", "a|b", "~", "a'b", 'a"b']
        for name in names:
            for command in (["start"], ["exec"], ["interrupt"], ["reset"],
                            ["stop"], ["repl"], ["history"],
                            ["run", "-", "--session"]):
                with self.subTest(name=name, command=command[0]):
                    name_word = [name]
                    if command[0] != "run":
                        name_word = ["--", name]
                    if command[0] == "run" and name == "":
                        continue  # an empty value has a message of its own
                    self.refused(*command, *name_word, words=[rule])

    def test_specs(self):
        for option, value, word in (
                ("--image", "a b", "image"), ("--image", "$(id)", "image"),
                ("--network", "-x", "network"), ("--mount", "here:there",
                                                 "/host/dir:/inside"),
                ("--mount", "/a:/../b/../c", "mount")):
            with self.subTest(option=option, value=value):
                self.refused("start", "x", option, value, words=[word])

    def test_config_files(self):
        for content, words in (
                ('{"memroy": "1g"}', ["memroy", "'memory'?"]),
                ('{"memory": "12gg"}', ["memory", "12gg", "512m"]),
                ('{"memory": "1g"', ["line 1"]),
                ("[]", ["object"]), ("", ["line 1"]),
                ('{"help": true}', ["'help'"])):
            path = self.file("c.json", content)
            with self.subTest(content=content):
                self.refused("ps", "--config", path, words=[path, *words])
                self.environment["CELLAR_CONFIG"] = path
                self.refused("ps", words=[path, *words])
                del self.environment["CELLAR_CONFIG"]
        self.refused("ps", "--config", "/nowhere.json",
                     words=["/nowhere.json"])

    def test_files(self):
        self.refused("run", "nothing.ipynb",
                     words=["nothing.ipynb", "No such file"])
        self.refused("run", self.folder.name,
                     words=[self.folder.name, "directory"])
        script = self.file("a.py", "1\n")
        self.refused("run", script, "--output", "/nowhere/o.ipynb",
                     words=["--output", "/nowhere/o.ipynb"])
        self.refused("run", script, "--output", "/dev/null",
                     words=["--output", "/dev/null", "plain file"])
        self.refused("run", self.file("b.py", b"x = 1\ny = '\xe9'\n"),
                     words=["b.py", "line 2", "UTF-8"])
        self.refused("run", self.file("c.py", "#" * ((1 << 20) + 1) + "\nx"),
                     words=["c.py", "cell 1", "1048576"])

    def test_no_terminal(self):
        self.refused("repl", words=["terminal", "cellar run -"])

    @cellar_test.needs_docker
    def test_no_engine(self):
        for command in (["ps"], ["start", "x"], ["stop", "x"],
                        ["stop", "--all"], ["run", self.file("a.py", "1\n")]):
            with self.subTest(command=command[0]):
                self.refused(*command, words=["/nowhere.sock"], status=3)
        done = run("doctor", env=self.environment)
        self.assertEqual(3, done.status)
        self.assertIn("/nowhere.sock", done.out + done.err)

    def test_help_is_there_for_each(self):
        overview = run("--help", env=self.environment)
        self.assertEqual((0, ""), (overview.status, overview.err))
        for command in ("repl", "run", "start", "exec", "interrupt", "reset",
                        "stop", "ps", "doctor", "image", "bench"):
            done = run(command, "--help", env=self.environment)
            self.assertEqual((0, ""), (done.status, done.err))
            self.assertIn("usage: cellar " + command, done.out)
            self.assertRegex(overview.out, r"(?m)^  %s\b" % command)
        self.assertRegex(run("--version").out, r"\Acellar \d+\.\d+\.\d+\n\Z")


class Notebooks(ErrorTest):
    def refused(self, content, *words):
        path = self.file("n.ipynb", content)
        self.assertRefused(run("run", path), path, *words)
        self.assertEqual([], containers_left())

    def test_no_notebook(self):
        self.refused("", "line 1")
        self.refused("print(1)\n", "line 1")
        self.refused('{"nbformat": 4,\n "cells": [,]}', "line 2, column 12")
        self.refused("[]", "nbformat")
        self.refused('{"nbformat": 3, "worksheets": []}', "nbformat 3")
        self.refused('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
                     "no cells")
        self.refused('{"nbformat": 4, "cells": []}', "no cells")
        self.refused('{"nbformat": 4, "cells": [{"cell_type": "code", '
                     '"source": 7}]}', "cell 1", "source")
        self.refused(b'{"nbformat": 4, "cells": ["\xff"]}', "line 1")
        self.refused("[" * 1000000, "line 1")

    def test_too_long(self):
        path = os.path.join(self.folder.name, "long.ipynb")
        with open(path, "wb") as file:
            file.truncate(100 << 20)
        self.assertRefused(run("run", path), path, "64 MB")

    def test_another_language(self):
        self.refused('{"nbformat": 4, "cells": [{}], "metadata": '
                     '{"kernelspec": {"language": "R"}}}', "language is R")


class Code(SessionTest):
    """Code of every kind comes to a definite end; the session lives on."""

    def ends(self, code, status, *options):
        result = self.cell(code, *options)
        self.assertEqual(status, result["status"], result)
        self.assertAlive()
        return result

    def test_nothing_to_run(self):
        for code in ("", "\n", " \n\t\n", "# only\n# comments\n", "\f"):
            with self.subTest(code=code):
                self.assertIsNone(self.ends(code, "ok")["result"])

    def test_lines(self):
        self.assertEqual("2\n", self.ends("if 1:\r\n    print(2)\r\n",
                                          "ok")["stdout"])
        error = self.ends("if 1:\n        x = 1\n\ty = 2\n", "error")["error"]
        self.assertIn(error["name"], ("TabError", "IndentationError"))

    def test_bytes_that_are_no_code(self):
        for code, word in (("x = '\udcff'", "UTF-8"), ("x = 1\0", "NUL")):
            done = run("exec", self.session.name, "-", stdin=code)
            self.assertEqual((2, ""), (done.status, done.out))
            self.assertIn(word, done.err)
            self.assertAlive()

    def test_too_much_code(self):
        for size in ((1 << 20) + 1, 64 << 20):
            done = run("exec", self.session.name, "-", stdin="#" * size)
            self.assertEqual((2, ""), (done.status, done.out))
            self.assertRegex(done.err, "stdin: longer than 1 MB")
        self.ends("#" * ((1 << 20) - 8) + "\n", "ok")

    def test_where_it_all_goes(self):
        code = ("import sys\nprint('out')\nprint('err', file=sys.stderr)\n"
                "sys.stdout.flush()\n6 * 7")
        done = run("exec", self.session.name, code)
        self.assertEqual((0, "out\n42\n", "err\n"), done)
        done = run("exec", self.session.name, "1 / 0")
        self.assertEqual((1, ""), (done.status, done.out))
        self.assertIn("ZeroDivisionError", done.err)
        done = run("exec", self.session.name, "print('a', end='')")
        self.assertEqual((0, "a", ""), done)

    def test_a_cell_that_is_cut(self):
        done = run("exec", self.session.name, "--timeout", "300ms",
                   "print('a', flush=True)\nwhile True: pass")
        self.assertEqual((1, "a\n"), (done.status, done.out))
        self.assertRegex(done.err, r"\Acell \d+: timeout after 300 ms; state "
                                   r"kept\n\Z")


class Descriptors(ErrorTest):
    def test_stdin_closed(self):
        done = shell(CLOSE_STDIN, "run", "-")
        self.assertNotEqual(0, done.returncode)
        self.assertIn("stdin", done.stderr)
        with session() as live:
            done = shell(CLOSE_STDIN, "exec", live.name, "-")
            self.assertNotEqual(0, done.returncode)
            self.assertIn("stdin", done.stderr)
            done = shell(CLOSE_STDIN, "exec", live.name, "1 + 1")
            self.assertEqual((0, "2\n"), (done.returncode, done.stdout))
        self.assertNothingLeft()

    def test_stdout_closed_or_full(self):
        script = self.file("a.py", "print(1)\n")
        with session() as live:
            for change in (CLOSE_STDOUT, FULL_STDOUT):
                for command in (["--help"], ["ps"], ["run", script],
                                ["run", "--json", script],
                                ["exec", live.name, "print(1)"],
                                ["exec", live.name, "1", "--json"]):
                    with self.subTest(change=change, command=command):
                        done = shell(change, *command)
                        self.assertEqual(3, done.returncode, done)
                        self.assertIn("cellar: stdout: ", done.stderr)
            self.assertEqual("ok", live.exec("1")["status"])
        name = unique()
        self.assertEqual(3, shell(FULL_STDOUT, "start", name).returncode)
        self.assertNothingLeft()

    def test_a_reader_that_leaves(self):
        script = self.file("a.py", "while True: print('x' * 1000)\n")
        with popen("run", script, "--output-limit", "1g") as process:
            process.stdout.read(100)
            process.stdout.close()
            self.assertIn(b"stdout: Broken pipe", process.stderr.read())
            self.assertEqual(3, process.wait(30))
        self.assertNothingLeft()

    def test_a_reader_that_has_stopped(self):
        """Its session is interrupted from elsewhere all the same; then the
        reader gets all of it."""
        with session() as live:
            with popen("exec", live.name, "while True: print('x' * 999)",
                       "--timeout", "60s", bufsize=0) as process:
                self.assertEqual(b"xxx", process.stdout.read(3))
                time.sleep(0.5)
                self.assertEqual(0, run("interrupt", live.name).status)
                out, err = process.communicate(timeout=30)
            self.assertEqual(1, process.returncode)
            self.assertIn(b"interrupted; state kept", err)
            self.assertGreater(len(out), 1 << 20)
            self.assertEqual({b"x" * 999}, set(out[997:].splitlines()[:-1]))
            self.assertEqual("ok", live.exec("1")["status"])

    def test_a_stopped_reader_and_ctrl_c(self):
        script = self.file("a.py", "while True: print('x' * 999)\n")
        with popen("run", script) as process:
            self.assertEqual(b"In", process.stdout.read(2))
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            time.sleep(1)
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            self.assertEqual(130, process.wait(30))
        self.assertNothingLeft()

    def test_stderr_closed(self):
        done = shell("exec 2>&-; exec \"$@\"", "exec")
        self.assertEqual((2, "", ""), (done.returncode, done.stdout,
                                       done.stderr))


class Sessions(ErrorTest):
    def test_a_session_that_is_not_there(self):
        for command in ("exec", "interrupt", "reset", "stop"):
            name = unique()
            words = [name, "1"] if command == "exec" else [name]
            self.assertRefused(run(command, *words), name, status=3)
        script = self.file("a.py", "1\n")
        name = unique()
        self.assertRefused(run("run", script, "--session", name), name,
                           status=3)
        self.assertNothingLeft()

    def test_stopped_and_taken(self):
        with session() as live:
            self.assertRefused(run("start", live.name), live.name, status=3)
            self.assertEqual(0, live.stop().status)
            self.assertRefused(run("exec", live.name, "1"), live.name,
                               status=3)
            self.assertRefused(run("stop", live.name), live.name, status=3)
        self.assertNothingLeft()

    def test_what_an_engine_has_not_is_refused(self):
        """Not passed over: the session would be another than was asked for."""
        for status, options, words in (
                (2, ["--rootfs", "/usr", "--engine", "docker"],
                 ["--engine oci", "/usr"]),
                (3, ["--image", "other", "--engine", "oci"],
                 ["image unpack", "other"]),
                (2, ["--allow", "sekkomp"], ["'sekkomp'", "cellar doctor"])):
            with self.subTest(options=options):
                done = run("start", unique(), *options)
                self.assertRefused(done, *words, status=status)
        self.assertNothingLeft()

    def test_names_of_branches(self):
        with session() as live:
            other = unique()
            for names in [live.name], [other, other]:
                self.assertRefused(run("fork", live.name, *names),
                                   "'%s'" % names[-1], "name of its own",
                                   status=3)
            self.assertRefused(run("exec", other, "1"), "no session", status=3)

    def test_a_checkpoint_that_is_not_there(self):
        with session() as live:
            for command in (["restore"], ["checkpoint", "--delete"]):
                self.assertRefused(
                    run(*command, live.name, "nobody"), "'nobody'",
                    "cellar checkpoint --list " + live.name, status=3)

    def test_a_state_directory_that_cannot_be(self):
        self.assertRefused(run("ps", "--state-dir", "/proc/cellar"),
                           "/proc/cellar", "CELLAR_STATE_DIR", status=3)

    def test_a_busy_session(self):
        with session() as live:
            process = popen("exec", live.name, FOREVER)
            self.assertEqual(b"running\n", process.stdout.readline())
            self.assertRefused(run("exec", live.name, "1"), live.name,
                               str(process.pid), status=3)
            self.assertEqual(0, run("interrupt", live.name).status)
            out, err = process.communicate(timeout=30)
            self.assertEqual((1, b""), (process.returncode, out))
            self.assertIn(b"interrupted; state kept", err)
            self.assertEqual("ok", live.exec("1")["status"])

    def test_a_hundred_at_once(self):
        """Each is run, or told that another one has the session."""
        with session() as live:
            live.exec("n = 0")
            with concurrent.futures.ThreadPoolExecutor(25) as pool:
                jobs = [pool.submit(run, "exec", live.name, "n += 1; n")
                        for _ in range(100)]
                answers = [job.result() for job in jobs]
            ran = [done for done in answers if done.status == 0]
            for done in answers:
                if done.status != 0:
                    self.assertRefused(done, live.name, status=3)
            numbers = sorted(int(done.out) for done in ran)
            self.assertGreater(len(numbers), 0)
            self.assertEqual(list(range(1, len(ran) + 1)), numbers)
            self.assertEqual({"text/plain": str(len(ran))},
                             live.exec("n")["result"])

    def test_stop_all(self):
        names = []
        for _ in range(2):
            name = unique("all")
            self.assertEqual(0, run("start", name).status)
            names.append(name)
        done = run("stop", "--all", "--json")
        self.assertEqual(0, done.status, done)
        stopped = [row["name"] for row in json.loads(done.out)]
        self.assertEqual(sorted(names), sorted(stopped))
        self.assertNothingLeft()

    def test_listings(self):
        with session() as live:
            rows = json.loads(run("ps", "--json").out)
            row, = [row for row in rows if row["name"] == live.name]
            self.assertEqual(["name", "container", "image", "engine", "state",
                              "age_s", "created", "idle_ms", "memory_bytes",
                              "cells", "holder"], list(row))
            self.assertEqual((live.container(), cellar_test.ENGINE, "idle", 0),
                             (row["container"], row["engine"], row["state"],
                              row["holder"]))
            self.assertIn(live.name, run("ps").out)


class Leaving(ErrorTest):
    """Ctrl-C and other signals, at every time of a command's life."""

    def begin(self, code, *options, command=("run",)):
        script = self.file("a.py", code)
        process = popen(*command, *options, script)
        self.addCleanup(process.kill)
        line = process.stdout.readline()
        while line and line != b"running\n":
            line = process.stdout.readline()
        self.assertEqual(b"running\n", line)
        return process

    def end(self, process):
        out, err = process.communicate(timeout=30)
        self.assertNothingLeft()
        return process.returncode, out.decode(), err.decode()

    def test_the_first_interrupts_the_cell(self):
        process = self.begin(FOREVER + "\n# %%\nprint('next')\n",
                             "--keep-going")
        process.send_signal(signal.SIGINT)
        status, out, _ = self.end(process)
        self.assertEqual(1, status)
        self.assertIn("interrupted; state kept", out)
        self.assertNotIn("next", out)

    def test_the_second_ends_the_command(self):
        process = self.begin(STUBBORN, "--grace", "60s")
        process.send_signal(signal.SIGINT)
        self.assertEqual(b"no\n", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        self.assertEqual(130, self.end(process)[0])

    def test_others_end_the_command(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number):
                process = self.begin(STUBBORN)
                process.send_signal(number)
                self.assertEqual(128 + number, self.end(process)[0])

    def test_at_any_time_of_a_start(self):
        script = self.file("a.py", FOREVER)
        for command in (["run", script], ["start", unique("early")]):
            for delay in (0, 0.01, 0.05, 0.1, 0.2):
                with self.subTest(command=command[0], delay=delay):
                    process = popen(*command)
                    time.sleep(delay)
                    process.send_signal(signal.SIGTERM)
                    process.communicate(timeout=60)
                    if process.returncode == 0:  # it was done before
                        self.assertEqual(0, run("stop", command[1]).status)
                    self.assertIn(process.returncode,
                                  (0, 128 + signal.SIGTERM, -signal.SIGTERM))
                    self.assertNothingLeft()

    def test_exec_leaves_the_session(self):
        with session("--grace", "300ms") as live:
            process = popen("exec", live.name, STUBBORN)
            self.assertEqual(b"running\n", process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            self.assertEqual(128 + signal.SIGTERM, process.returncode)
            self.assertEqual(0, run("reset", live.name).status)
            self.assertEqual("ok", live.exec("1")["status"])

    def test_what_was_run_is_written(self):
        output = os.path.join(self.folder.name, "o.ipynb")
        process = self.begin("1 + 1\n# %%\n" + FOREVER, "--output", output)
        process.send_signal(signal.SIGTERM)
        self.end(process)
        with open(output, encoding="utf-8") as file:
            cells = json.load(file)["cells"]
        self.assertEqual([1, None],
                         [cell["execution_count"] for cell in cells])
        self.assertEqual(["o.ipynb"], [name for name in
                                       os.listdir(self.folder.name)
                                       if name.startswith("o.")])


class Terminal(ErrorTest):
    """What a terminal is sent, when that is where output goes."""

    def test_no_escape_reaches_a_terminal(self):
        script = self.file("a.py", "print('\\x1b]0;gone\\x07 \\x9b31m "
                                   "\\u202e\\r \\u00e9')\n")
        main, side = pty.openpty()
        with popen("run", script, stdout=side, stderr=side) as process:
            os.close(side)
            text = b""
            try:
                while True:
                    text += os.read(main, 65536)
            except OSError:
                pass  # the terminal's end
        os.close(main)
        shown = text.decode().replace("\r\n", "\n")
        self.assertEqual(0, process.returncode, shown)
        self.assertIn("\\x1b]0;gone\\x07 \\x9b31m \\u202e\\x0d \u00e9\n",
                      shown)
        for bad in "\x1b\x07\x9b\u202e\r":
            self.assertNotIn(bad, shown)

    def test_bytes_pass_a_pipe_unchanged(self):
        script = self.file("a.py", "print('\\x1b[1m\\r')\n")
        self.assertIn("\x1b[1m\r\n", run("run", script).out)


if __name__ == "__main__":
    unittest.main()
