"""Wherever a cell is taken to end with a statement, Python's own parser says
so too: of every module of the standard library, cut behind each statement.

usage: test_statement_corpus.py LIBRARY
"""
import ast
import ctypes
import pathlib
import sys
import sysconfig
import unittest
import warnings

LIBRARY = ctypes.CDLL(sys.argv.pop(1))
LIBRARY.cellar_statement_is_last.restype = ctypes.c_bool
LIBRARY.cellar_statement_is_last.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

# Statements looked at in each file, the last ones: the whole of it stands
# before each.
CUTS_MAX = 12


def is_last(source):
    return LIBRARY.cellar_statement_is_last(source, len(source))


def cuts(source):
    """(text up to the end of a statement, whether that is an expression)."""
    lines = source.splitlines(keepends=True)
    for statement in ast.parse(source).body[-CUTS_MAX:]:
        last = lines[statement.end_lineno - 1][:statement.end_col_offset]
        yield (b"".join(lines[:statement.end_lineno - 1]) + last,
               isinstance(statement, ast.Expr))


def inner(source):
    """The statements within others, as cells of their own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Expr, ast.Assign, ast.AugAssign, ast.Assert)):
            text = ast.unparse(node).encode()
            yield text, isinstance(node, ast.Expr)


class Corpus(unittest.TestCase):
    def check(self, pieces):
        plain = statements = 0
        for text, is_expression in pieces:
            statements += not is_expression
            if is_last(text):
                plain += 1
                self.assertFalse(is_expression, text[-500:])
        return plain, statements

    def test_never_takes_an_expression_for_a_statement(self):
        warnings.simplefilter("ignore")
        plain = statements = 0
        root = pathlib.Path(sysconfig.get_path("stdlib"))
        for path in sorted(root.glob("*.py")):
            source = path.read_bytes()
            if b"\f" in source:
                continue
            for found in self.check(cuts(source)), self.check(inner(source)):
                plain += found[0]
                statements += found[1]
        self.assertGreater(statements, 10000)
        self.assertGreater(plain, statements / 2)


if __name__ == "__main__":
    unittest.main()
