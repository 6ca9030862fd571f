"""What a cell is: results, exceptions, and what stays for the next cell."""

import unittest

import cellar_test
from cellar_test import RESULT_KEYS, SessionTest


class Value(SessionTest):
    """The value of the last expression is the result."""

    def test_the_last_expression(self):
        self.assertEqual("42", self.value("x = 6\nx * 7"))

    def test_it_is_the_repr(self):
        self.assertEqual("'it\\'s \"so\"\\n'", self.value("'it\\'s \"so\"\\n'"))

    def test_none_is_no_result(self):
        self.assertIsNone(self.value("None"))
        self.assertIsNone(self.value("print('x', end='')"))

    def test_a_statement_has_none(self):
        for code in "x = 1", "pass", "for i in range(3): i", "def f(): 1":
            with self.subTest(code=code):
                self.assertIsNone(self.value(code))

    def test_only_the_last_one_counts(self):
        result = self.ok("1\n2\n3")
        self.assertEqual({"text/plain": "3"}, result["result"])
        self.assertEqual("", result["stdout"])

    def test_a_semicolon_at_the_end_suppresses_it(self):
        self.assertIsNone(self.value("6 * 7;"))
        self.assertIsNone(self.value("6 * 7; # thanks"))
        self.assertEqual("2", self.value("1; 2"))
        self.assertEqual("';'", self.value("';'"))

    def test_underscore_is_the_last_value(self):
        self.value("40 + 2")
        self.value("None")
        self.assertEqual("43", self.value("_ + 1"))

    def test_nothing_at_all(self):
        for code in "", "\n\n", "# only a comment", "   \n\t\n":
            with self.subTest(code=code):
                result = self.ok(code)
                self.assertIsNone(result["result"])
                self.assertEqual("", result["stdout"] + result["stderr"])

    def test_a_docstring_is_an_expression(self):
        self.assertEqual("'words'", self.value('"""words"""'))

    def test_line_ends_of_windows(self):
        self.assertEqual("3", self.value("a = 1\r\nb = 2\r\na + b\r\n"))

    def test_unicode(self):
        self.assertEqual("'Ärger 🍷 \\u200b'",
                         self.value("größe = 'Ärger 🍷 \\u200b'\ngröße"))
        self.assertEqual("Ärger 🍷\n", self.out("print('Ärger 🍷')"))

    def test_a_repr_of_many_lines(self):
        code = ("class Two:\n    def __repr__(self): return 'a\\nb'\n"
                "Two()")
        self.assertEqual("a\nb", self.value(code))

    def test_the_result_object(self):
        result = self.ok("print('out'); 1")
        self.assertEqual(RESULT_KEYS, list(result))
        self.assertEqual({"status": "ok", "state": "kept", "stdout": "out\n",
                          "restored_from": None, "stderr": "",
                          "checkpoint": {"taken": True},
                          "truncated": False, "dropped_bytes": 0,
                          "result": {"text/plain": "1"}, "displays": [],
                          "error": None, "limit": None, "exit_code": None,
                          "signal": None, "reason": None},
                         {key: result[key] for key in RESULT_KEYS
                          if key not in ("cell", "usage")})

    def test_usage_is_measured(self):
        usage = self.ok("import time\ntime.sleep(0.2)\n"
                        "block = bytearray(30 << 20)\n"
                        "sum(range(10 ** 6))\ndel block")["usage"]
        self.assertEqual(["wall_us", "cpu_us", "peak_memory_bytes"],
                         list(usage))
        self.assertGreaterEqual(usage["wall_us"], 200_000)
        self.assertGreater(usage["cpu_us"], 1000)
        self.assertLess(usage["cpu_us"], usage["wall_us"])
        # A kernel in user space tells only what is in use now.
        self.assertGreater(usage["peak_memory_bytes"],
                           (5 if cellar_test.SANDBOX else 30) << 20)

    def test_cells_are_counted(self):
        first = self.ok("1")["cell"]
        self.assertEqual([first + 1, first + 2],
                         [self.ok("2")["cell"], self.ok("3")["cell"]])


class Statements(SessionTest):
    """All of Python, as a notebook's user writes it."""

    def test_functions_classes_and_decorators(self):
        self.ok("import functools\n"
                "def twice(f):\n"
                "    @functools.wraps(f)\n"
                "    def g(*a): return 2 * f(*a)\n"
                "    return g\n"
                "@twice\n"
                "def add(a, b): return a + b\n"
                "class Bag:\n"
                "    @property\n"
                "    def size(self): return add(1, 2)\n")
        self.assertEqual("(6, 'add')", self.value("Bag().size, add.__name__"))

    def test_a_decorated_function_may_be_last(self):
        self.assertIsNone(self.value("@staticmethod\ndef f(): pass"))

    def test_it_is_main(self):
        self.assertEqual("main\n", self.out(
            "if __name__ == '__main__':\n    print('main')"))
        self.assertEqual("True", self.value(
            "import sys\nvars(sys.modules['__main__']) is globals()"))

    def test_classes_can_be_pickled(self):
        self.ok("import pickle\nclass Bottle:\n    year = 1985")
        self.assertEqual("1985", self.value(
            "pickle.loads(pickle.dumps(Bottle())).year"))

    def test_comprehensions_see_the_globals(self):
        self.assertEqual("[2, 3]", self.value("k = 2\n[k + i for i in (0, 1)]"))

    def test_global_and_exec(self):
        self.ok("def put():\n    global placed\n    placed = 1\nput()\n"
                "exec('executed = 2')")
        self.assertEqual("(1, 2)", self.value("placed, executed"))

    def test_top_level_await(self):
        self.assertEqual("5", self.value(
            "import asyncio\nawait asyncio.sleep(0.01, 5)"))
        self.assertEqual("[0, 1, 2]", self.value(
            "async def count():\n"
            "    for i in range(3):\n"
            "        await asyncio.sleep(0)\n"
            "        yield i\n"
            "[i async for i in count()]"))
        self.assertEqual("ab\n", self.out(
            "import contextlib\n"
            "@contextlib.asynccontextmanager\n"
            "async def room():\n"
            "    print('a', end='')\n"
            "    yield\n"
            "    print('b')\n"
            "async with room():\n"
            "    await asyncio.sleep(0)"))

    def test_a_task_lives_into_the_next_cell(self):
        self.ok("import asyncio\n"
                "async def slow():\n"
                "    await asyncio.sleep(0.05)\n"
                "    return 'done'\n"
                "task = asyncio.ensure_future(slow())\n"
                "await asyncio.sleep(0)")
        self.assertEqual("'done'", self.value("await task"))

    def test_a_task_made_before_the_await_of_its_cell(self):
        self.assertEqual("'done'", self.value(
            "import asyncio\n"
            "async def work(): return 'done'\n"
            "task = asyncio.create_task(work())\n"
            "await task"))

    def test_asyncio_run_works_too(self):
        self.assertEqual("7", self.value(
            "import asyncio\nasync def f(): return 7\nasyncio.run(f())"))

    def test_await_failing_is_an_exception(self):
        result = self.cell("import asyncio\n"
                           "async def fail(): raise ValueError('async')\n"
                           "await fail()")
        self.assertEqual(("error", "ValueError", "async"),
                         (result["status"], result["error"]["name"],
                          result["error"]["message"]))

    def test_a_long_cell(self):
        code = "".join("v%d = %d\n" % (i, i) for i in range(20000)) + "v19999"
        self.assertEqual("19999", self.value(code))


class Memory(SessionTest):
    """What stays for the next cell."""

    def test_globals_imports_and_objects(self):
        self.ok("import json as j\nnumbers = [1, 2]")
        self.ok("numbers.append(3)")
        self.assertEqual("'[1, 2, 3]'", self.value("j.dumps(numbers)"))

    def test_open_files(self):
        self.ok("f = open('/tmp/open.txt', 'w+')\nf.write('first ')")
        self.ok("print('second', file=f)\nf.seek(0)")
        self.assertEqual("'first second\\n'", self.value("f.read()"))

    def test_generators_keep_their_place(self):
        self.ok("g = iter(range(9))\nnext(g)")
        self.assertEqual("1", self.value("next(g)"))

    def test_threads_go_on(self):
        self.ok("import threading\nevent = threading.Event()\n"
                "t = threading.Thread(target=event.wait)\nt.start()")
        self.assertEqual("True", self.value("t.is_alive()"))
        self.assertEqual("False", self.value(
            "event.set()\nt.join()\nt.is_alive()"))

    def test_the_working_directory_is_tmp(self):
        self.assertEqual("('/tmp', '/tmp')", self.value(
            "import os\nos.getcwd(), os.environ['HOME']"))

    def test_what_a_cell_did_before_its_exception_stays(self):
        self.cell("before = 1\n1 / 0\nafter = 2")
        self.assertEqual("(1, False)", self.value(
            "before, 'after' in globals()"))


class Exceptions(SessionTest):
    """An exception is a result, with the cell's own lines."""

    def error(self, code):
        result = self.cell(code)
        self.assertEqual(("error", "kept"),
                         (result["status"], result["state"]), result)
        return result["error"]

    def frames(self, error):
        return [line for line in error["traceback"]
                if line.lstrip().startswith("File ")]

    def test_name_message_traceback(self):
        error = self.error("a = 1\nb = a / 0\n")
        self.assertEqual(["name", "message", "traceback"], list(error))
        self.assertEqual(("ZeroDivisionError", "division by zero"),
                         (error["name"], error["message"]))
        lines = error["traceback"]
        self.assertEqual("Traceback (most recent call last):", lines[0])
        self.assertEqual("ZeroDivisionError: division by zero", lines[-1])
        self.assertEqual(1, len(self.frames(error)), lines)
        self.assertIn("line 2", self.frames(error)[0])
        self.assertIn("    b = a / 0", lines)

    def test_lines_of_earlier_cells(self):
        self.ok("# a comment\ndef divide(x):\n    return 1 / x  # here")
        self.ok("def middle(x):\n    return divide(x)  # there")
        error = self.error("y = 0\nmiddle(y)")
        self.assertEqual(3, len(self.frames(error)), error["traceback"])
        for line in "middle(y)", "return divide(x)  # there", \
                    "return 1 / x  # here":
            self.assertIn("    " + line, error["traceback"])

    def test_a_function_of_the_library(self):
        error = self.error("import json\njson.loads('{')")
        self.assertEqual("JSONDecodeError", error["name"])
        self.assertIn("    json.loads('{')", error["traceback"])
        self.assertTrue(error["traceback"][-1].startswith(
            "json.decoder.JSONDecodeError: "), error["traceback"][-1])

    def test_causes_are_told(self):
        error = self.error("try:\n    {}['k']\nexcept KeyError as e:\n"
                           "    raise RuntimeError('no k') from e")
        text = "\n".join(error["traceback"])
        self.assertIn("direct cause", text)
        self.assertIn("KeyError: 'k'", text)
        self.assertIn("    {}['k']", text)

    def test_a_class_of_ones_own(self):
        error = self.error("class Corked(Exception):\n    pass\n"
                           "raise Corked('red', 1985)")
        self.assertEqual(("Corked", "('red', 1985)"),
                         (error["name"], error["message"]))

    def test_no_message(self):
        error = self.error("raise ValueError")
        self.assertEqual(("ValueError", "", "ValueError"), (
            error["name"], error["message"], error["traceback"][-1]))

    def test_output_before_it_is_kept(self):
        result = self.cell("print('so far')\nraise SystemError('no')")
        self.assertEqual("so far\n", result["stdout"])
        self.assertEqual("SystemError", result["error"]["name"])

    def test_the_value_of_an_earlier_line_is_no_result(self):
        self.assertIsNone(self.cell("1\n1 / 0")["result"])

    def test_recursion(self):
        error = self.error("def f(): f()\nf()")
        self.assertEqual("RecursionError", error["name"])
        self.assertLess(len(error["traceback"]), 100)

    def test_too_much_memory_asked_for(self):
        self.assertEqual("MemoryError", self.error("b'x' * (1 << 60)")["name"])

    def test_warnings_go_to_stderr(self):
        result = self.ok("import warnings\nwarnings.warn('careful')")
        self.assertIn("UserWarning: careful", result["stderr"])


class SyntaxErrors(SessionTest):
    """A cell that does not compile runs nothing."""

    def test_nothing_runs(self):
        result = self.cell("ran = 1\nprint('ran')\nif\n")
        self.assertEqual(("error", "kept", "SyntaxError", ""),
                         (result["status"], result["state"],
                          result["error"]["name"], result["stdout"]))
        self.assertEqual("False", self.value("'ran' in globals()"))

    def test_it_shows_where(self):
        error = self.cell("a = 1\nb = = 2\n")["error"]
        text = "\n".join(error["traceback"])
        self.assertIn("line 2", text)
        self.assertIn("    b = = 2", text)
        self.assertIn("^", text)
        self.assertEqual("SyntaxError: invalid syntax",
                         error["traceback"][-1])

    def test_errors_of_later_passes_too(self):
        for code, name in (("print(1)\nreturn 2", "SyntaxError"),
                           ("print(1)\nbreak", "SyntaxError"),
                           ("print(1)\nx = 1\n  y = 2", "IndentationError"),
                           ("if 1:\n\tx = 1\n        y = 2", "TabError"),
                           ("print(1)\n'unfinished", "SyntaxError"),
                           ("print(1)\nf(", "SyntaxError")):
            with self.subTest(code=code):
                result = self.cell(code)
                self.assertEqual(("error", name, ""), (
                    result["status"], result["error"]["name"],
                    result["stdout"]))

    def test_nested_too_deeply(self):
        result = self.cell("(" * 5000 + ")" * 5000)
        self.assertEqual("error", result["status"])
        self.assertAlive()


if __name__ == "__main__":
    unittest.main()
