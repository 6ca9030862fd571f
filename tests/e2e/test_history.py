"""What was run stays known: history and export through the real command, also
after a kill and a stop. Damage and a full disk: test_history_faults.py."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

import cellar_test
from cellar_test import (ENVIRONMENT, Session, SessionTest, run, session,
                         unique, wait_for)
from journal import history, numbers, past

VALIDATE = """
import sys, nbformat
notebook = nbformat.read(sys.argv[1], nbformat.NO_CONVERT)
nbformat.validate(notebook)
print(notebook.metadata.kernelspec.name)
"""

ENTRY_KEYS = ["cell", "code", "began", "ended", "resets", "restores",
              "back_to", "untold", "pruned", "result"]
PAST_KEYS = ["name", "id", "created", "ended", "ending", "reason", "cells",
             "output_bytes", "image", "engine", "container", "python"]


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="cellar-history-") as path:
        yield path


def validate(path):
    """Fails unless nbformat takes it; the kernel's name."""
    done = subprocess.run(["/usr/bin/python3", "-c", VALIDATE, path],
                          capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


class Cells(SessionTest):
    """What is in the history of a live session."""

    def test_every_cell_with_code_output_and_ending(self):
        name = self.session.name
        first = self.ok("print('hello')\n6 * 7")
        second = self.cell("import sys\nprint('oh', file=sys.stderr)\n1/0")
        third = self.cell("while True: pass", "--timeout", "0.3s")
        entries = history(name, "--last", "3")
        self.assertEqual([first, second, third],
                         [entry["result"] for entry in entries])
        for entry in entries:
            self.assertEqual(ENTRY_KEYS, list(entry))
            self.assertFalse(entry["untold"] or entry["pruned"])
            self.assertLessEqual(entry["began"], entry["ended"])
            self.assertLess(abs(time.time() - entry["ended"]), 600)
        self.assertEqual("print('hello')\n6 * 7", entries[0]["code"])
        text = run("history", name, "--last", "3").out
        for word in ("In [%d]: print('hello')\n" % first["cell"],
                     "...: 6 * 7\nhello\n", "Out[%d]: 42\n" % first["cell"],
                     "\noh\nTraceback", "ZeroDivisionError: division by zero\n",
                     "cell %d: timeout after 300 ms" % third["cell"],
                     "== %s (id " % name):
            self.assertIn(word, text)

    def test_one_cell_and_the_last_ones(self):
        name = self.session.name
        for i in range(4):
            self.ok("'number %d'" % i)
        every = history(name)
        self.assertEqual(list(range(1, len(every) + 1)), numbers(every))
        self.assertEqual(every[-2:], history(name, "--last", "2"))
        self.assertEqual(every, history(name, "--last", "1000"))
        self.assertEqual([every[1]], history(name, "--cell", "2"))
        self.assertEqual(1, run("history", name, "--cell", "2").out.count(
            "In ["))
        done = run("history", name, "--cell", "100000")
        self.assertEqual((3, ""), (done.status, done.out))
        self.assertIn("no cell 100000", done.err)

    def test_resets_part_it(self):
        name = self.session.name
        before = self.ok("x = 1")["cell"]
        self.assertEqual(0, run("reset", name).status)
        self.ok("x = 2")
        entries = history(name, "--last", "2")
        self.assertEqual(before, entries[0]["cell"])
        self.assertEqual(entries[0]["resets"] + 1, entries[1]["resets"])
        self.assertIn("-- the session was reset here\n",
                      run("history", name, "--last", "2").out)

    def test_restores_part_it(self):
        name = self.session.name
        before = self.ok("x = 'before'")["cell"]
        self.assertEqual(0, run("checkpoint", name, "before").status)
        self.ok("x = 'after'")
        self.assertEqual(0, run("restore", name, "before").status)
        self.assertEqual("'before'", self.value("x"))
        entries = history(name, "--last", "2")
        self.assertEqual(entries[0]["restores"] + 1, entries[1]["restores"])
        self.assertEqual(before, entries[1]["back_to"])
        self.assertIn("-- the session was restored here, to cell %d\n" % before,
                      run("history", name, "--last", "2").out)
        script = run("export", "--script", name, "-").out
        self.assertIn("restored here, to what it was after cell %d." % before,
                      script)

    def test_a_running_cell_with_its_output_so_far(self):
        name = self.session.name
        with self.session.running("print('so far', flush=True)\n"
                                  "import time\ntime.sleep(60)"):
            wait_for(lambda: "so far\n" in history(name, "--last", "1")[0]
                     ["result"]["stdout"])
            entry = history(name, "--last", "1")[0]
            self.assertIsNone(entry["ended"])
            self.assertIsNone(entry["result"]["status"])
            self.assertIn("so far\ncell %d: it has not ended\n" %
                          entry["cell"], run("history", name).out)
            with folder() as path:
                out = os.path.join(path, "out.ipynb")
                done = run("export", name, out)
                self.assertEqual(0, done.status, done.err)
                self.assertIn("cell %d has not ended" % entry["cell"],
                              done.err)
                self.assertEqual("python3", validate(out))
                outputs = load(out)["cells"][-1]["outputs"]
            self.assertEqual([("stdout", "so far\n")],
                             [(o["name"], o["text"]) for o in outputs])
            self.assertEqual(0, run("interrupt", name).status)
        wait_for(lambda: run("exec", name, "1").status == 0)

    def test_what_cells_print_is_made_safe_for_terminals(self):
        self.ok("print('\\x1b]0;title\\x07\\x1b[2J')")
        done = subprocess.run(
            ["script", "-qec", "%s history %s --last 1" %
             (cellar_test.CELLAR, self.session.name), "/dev/null"],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=60)
        self.assertEqual(0, done.returncode)
        self.assertIn(rb"\x1b]0;title\x07\x1b[2J", done.stdout)
        self.assertNotIn(b"\x1b", done.stdout)


class Unattended(unittest.TestCase):
    """Cells that ended while nobody was attached."""

    def killed_exec(self, live, code):
        """`cellar exec` of `code`, killed while it runs."""
        with live.running(code) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def test_it_is_in_the_history_once_and_told_once(self):
        with session() as live:
            live.exec("x = 1")
            self.killed_exec(live, "import time\ntime.sleep(1)\nx += 1\n"
                                   "print('unattended')\nx")
            done = run("exec", live.name, "x")
            self.assertEqual((0, "2\n"), (done.status, done.out))
            self.assertEqual(
                "cellar: cell 2 ended while nobody was attached: ok; 'cellar "
                "history %s --cell 2' shows it\n" % live.name, done.err)
            self.assertEqual("", run("exec", live.name, "x").err)
            entries = history(live.name)
            self.assertEqual([1, 2, 3, 4], numbers(entries))
            self.assertEqual("unattended\n", entries[1]["result"]["stdout"])
            self.assertEqual({"text/plain": "2"},
                             entries[1]["result"]["result"])

    def test_json_tells_it_as_an_object(self):
        with session() as live:
            self.killed_exec(live, "import time\ntime.sleep(1)\n1/0")
            done = run("exec", "--json", live.name, "5")
            self.assertEqual(0, done.status)
            told = json.loads(done.err)["unattended"]
            self.assertEqual(("error", "ZeroDivisionError"),
                             (told["status"], told["error"]["name"]))
            self.assertEqual(history(live.name)[0]["result"], told)

    def test_only_commands_that_run_cells_tell_it(self):
        with session() as live:
            self.killed_exec(live, "import time\ntime.sleep(0.5)\n"
                                   "open('/dev/shm/done', 'w').close()\n1/0")
            wait_for(lambda: live.has_file("/dev/shm/done"))
            for command in ("ps",), ("history", live.name), \
                           ("interrupt", live.name):
                self.assertEqual("", run(*command).err)
            self.assertIn("ZeroDivisionError: division by zero",
                          run("run", "--session", live.name, "-",
                              stdin="7").err)


class Past(unittest.TestCase):
    """Sessions that are gone."""

    def test_a_stopped_session_stays_known(self):
        live = Session()
        live.exec("print('kept')")
        self.assertEqual(0, live.stop().status)
        listed = past(live.name)
        self.assertEqual([PAST_KEYS], [list(s) for s in listed])
        self.assertEqual(("stopped", 1, 5), tuple(
            listed[0][key] for key in ("ending", "cells", "output_bytes")))
        self.assertLessEqual(listed[0]["created"], listed[0]["ended"])
        self.assertEqual("kept\n", history(live.name)[0]["result"]["stdout"])
        text = run("history").out
        self.assertRegex(text, r"(?m)^NAME +ID +CREATED +ENDED +ENDING +CELLS")
        self.assertIn(live.name, text)

    def test_a_name_that_came_again(self):
        name = unique()
        for code in "'old'", "'new'":
            self.assertEqual(0, run("start", name).status)
            self.assertEqual(0, run("exec", name, code).status)
            self.assertEqual(0, run("stop", name).status)
        old, new = past(name)
        self.assertEqual(["'new'"], [e["code"] for e in history(name)])
        for listed, code in (old, "'old'"), (new, "'new'"):
            entries = history(name, "--id", str(listed["id"]))
            self.assertEqual([code], [e["code"] for e in entries])
            self.assertIn(code, run("export", "--script", name, "-", "--id",
                                    str(listed["id"])).out)
        done = run("history", unique(), "--id", str(old["id"]))
        self.assertEqual(3, done.status)

    def test_a_lost_one_has_its_reason(self):
        live = Session()
        live.exec("1")
        cellar_test.from_outside("rm", live.container())
        self.assertEqual(3, run("exec", live.name, "2").status)
        listed = past(live.name)[0]
        self.assertEqual("lost", listed["ending"])
        self.assertTrue(listed["reason"])
        self.assertIn(listed["reason"], run("history", live.name).out)

    def test_unnamed_ones_leave_nothing(self):
        before = json.loads(run("history", "--json").out)
        self.assertEqual(0, run("run", "-", stdin="1").status)
        self.assertEqual(before, json.loads(run("history", "--json").out))

    def test_names_that_are_not_there(self):
        name = unique()
        with folder() as path:
            for command in (["history", name], ["stats", name],
                            ["export", name, path + "/o.ipynb"],
                            ["export", "--script", name, path + "/o.py"]):
                with self.subTest(command=command[0]):
                    done = run(*command)
                    self.assertEqual((3, ""), (done.status, done.out))
                    self.assertRegex(done.err, r"\Acellar: [^\n]*'%s'[^\n]*\n"
                                               r"\Z" % name)
            self.assertEqual([], os.listdir(path))


class Export(unittest.TestCase):
    """Notebooks and scripts that run again."""

    CELLS = ["x = [1, 2, 3]\nprint(sum(x))",
             "x",
             "import sys\nprint('warned', file=sys.stderr)\n'caf\u00e9 \U0001f600'",
             "1/0",
             "# %% only a comment\ny = '''\n  text'''\nlen(y)",
             "%matplotlib inline",
             "print('long ' * 40000)",
             " "]  # of blanks: nothing to run, and no cell of a script

    def outputs(self, notebook):
        return [(cell["source"], cell.get("outputs"))
                for cell in load(notebook)["cells"]]

    def check_runs_again(self, live, *options):
        """Exports, runs what was exported, and compares."""
        with folder() as path:
            first = os.path.join(path, "first.ipynb")
            second = os.path.join(path, "second.ipynb")
            done = run("export", live.name, first)
            self.assertEqual((0, "", ""), done)
            self.assertEqual("python3", validate(first))
            done = run("run", "--keep-going", *options, "--output", second,
                       first, timeout=300)
            self.assertIn(done.status, (0, 1), done.err)
            self.assertEqual(self.outputs(first), self.outputs(second))
            return load(first)

    def test_a_notebook_runs_again_with_the_same_outputs(self):
        with session() as live:
            for code in self.CELLS:
                live.exec(code)
            notebook = self.check_runs_again(live)
        self.assertEqual(list(range(1, len(self.CELLS) + 1)),
                         [c["execution_count"] for c in notebook["cells"]])
        self.assertEqual(self.CELLS,
                         [c["source"] for c in notebook["cells"]])

    def test_pictures_and_tables(self):
        options = cellar_test.of_image("cellar-runtime:data")
        cells = ["import os\nos.environ['MPLCONFIGDIR'] = '/tmp/mpl'\n"
                 "import matplotlib\nmatplotlib.use('Agg')\n"
                 "matplotlib.set_loglevel('error')\n"
                 "import matplotlib.pyplot as plt, pandas as pd",
                 "plt.plot([1, 3, 2])\nplt.gcf()",
                 "pd.DataFrame({'a': range(3), 'b': list('xyz')})"]
        with session(*options) as live:
            for code in cells:
                self.assertEqual("ok", live.exec(code)["status"])
            notebook = self.check_runs_again(live, *options)
        picture, = notebook["cells"][1]["outputs"]
        self.assertTrue(picture["data"]["image/png"].startswith("iVBORw0KGgo"))
        table, = notebook["cells"][2]["outputs"]
        self.assertIn("<table", "".join(table["data"]["text/html"]))

    def test_a_reset_is_a_remark(self):
        with session() as live:
            live.exec("x = 1")
            run("reset", live.name)
            live.exec("'x' in globals()")
            with folder() as path:
                out = os.path.join(path, "o.ipynb")
                self.assertEqual(0, run("export", live.name, out).status)
                validate(out)
                cells = load(out)["cells"]
            self.assertEqual(["code", "markdown", "code"],
                             [c["cell_type"] for c in cells])
            self.assertIn("reset", cells[1]["source"])
            script = run("export", "--script", live.name, "-").out
            self.assertIn("# %% [markdown]\n# The session was reset", script)

    def test_a_script_runs_again_with_the_same_results(self):
        with session() as live:
            results = [live.exec(code) for code in self.CELLS[:-1]]
            with folder() as path:
                out = os.path.join(path, "o.py")
                self.assertEqual((0, "", ""),
                                 run("export", "--script", live.name, out))
                done = run("run", "--json", "--keep-going", out)
        again = [json.loads(line) for line in done.out.splitlines()]
        for result in results + again:
            del result["usage"]
        self.assertEqual(results, again)

    def test_a_cell_that_a_script_would_part_is_told(self):
        with session() as live:
            live.exec("x = '''\n# %%\n'''")
            done = run("export", "--script", live.name, "-")
            self.assertEqual(0, done.status)
            self.assertIn("cell 1 has a line in quotes, its line 2", done.err)
            self.check_runs_again(live)

    def test_where_it_is_written(self):
        with session() as live, folder() as path:
            live.exec("1")
            done = run("export", live.name, "-")
            self.assertEqual(4, json.loads(done.out)["nbformat"])
            out = os.path.join(path, "o.ipynb")
            done = run("export", "--json", live.name, out)
            self.assertEqual({"name": live.name, "output": out, "cells": 1,
                              "id": past(live.name)[0]["id"]},
                             json.loads(done.out))
            for wrong in ("/dev/full", path, path + "/no/o.ipynb",
                          path + "/o.py"):
                with self.subTest(path=wrong):
                    done = run("export", live.name, wrong)
                    self.assertEqual((2, ""), (done.status, done.out))
                    self.assertIn(wrong, done.err)
            self.assertEqual(["o.ipynb"], os.listdir(path))
            full = subprocess.run(
                ["sh", "-c", '"$@" >/dev/full', "sh", cellar_test.CELLAR,
                 "export", live.name, "-"], env=ENVIRONMENT,
                capture_output=True, text=True, timeout=60)
            self.assertEqual(3, full.returncode)
            self.assertIn("No space left", full.stderr)


if __name__ == "__main__":
    unittest.main()
