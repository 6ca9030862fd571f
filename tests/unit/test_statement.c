/* Cells that surely end with a statement, and all those in doubt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime-image/worker/statement.h"

static bool is_last(const char *source)
{
    return cellar_statement_is_last(source, strlen(source));
}

static void assert_all(const char *const *sources, bool expected)
{
    for (size_t i = 0; sources[i]; i++)
        if (is_last(sources[i]) != expected)
            fail_msg("%s: %s", expected ? "in doubt" : "a statement",
                     sources[i]);
}

static void assignments_have_no_value(void **state)
{
    (void)state;
    static const char *const sources[] = {"x+=1",
                                          "x = 6",
                                          "y = f(a, b=3)",
                                          "a = b == c",
                                          "a.b[1:2] = 3",
                                          "x = [1,\n 2,\n]",
                                          "x = 'a=b; c: d'",
                                          "a = b = 'é'",
                                          "x = 1 # y",
                                          "x = 1\n\n",
                                          "x = r'\\''",
                                          "x = \"\"\"\ny\n\"\"\"",
                                          "1\nx = 2",
                                          "x = {'a': 1}",
                                          "x = ''",
                                          "x = 1\r\ny = 2\r\n",
                                          NULL};
    assert_all(sources, true);
}

static void words_begin_statements(void **state)
{
    (void)state;
    static const char *const sources[] = {"import x",
                                          "from x import y",
                                          "del x",
                                          "def f():\n    1",
                                          "pass",
                                          "raise f(x)",
                                          "for i in x: i",
                                          "class A:\n\n  # c\n  x",
                                          "if x:\n y",
                                          "assert x",
                                          "async def f(): 1",
                                          "@d\ndef f(): pass",
                                          "with x:\n\ty\nimport z",
                                          "if x:\n 1\nelse:\n 2",
                                          "match x:\n case 1:\n  2",
                                          NULL};
    assert_all(sources, true);
}

static void expressions_have_one(void **state)
{
    (void)state;
    static const char *const sources[] = {"x",
                                          "x == 1",
                                          "x <= 1",
                                          "f(x=1)",
                                          "x = 1\nx",
                                          "x = 1; x",
                                          "import x; x",
                                          "lambda x=1: x",
                                          "(x := 1)",
                                          "x != 1",
                                          "f(\nx=1\n)",
                                          "'x = 1'",
                                          "imports",
                                          "not x",
                                          "await x",
                                          "yield",
                                          "None",
                                          "if_",
                                          "\"\"\"\nx = 1\n\"\"\"",
                                          "def f():\n  1\nf()",
                                          "# x = 1\nx",
                                          "[a for b in c]",
                                          "x = 1\n# y = 2\nx",
                                          NULL};
    assert_all(sources, false);
}

/* Some of them are statements: to find out would take more. */
static void what_is_in_doubt_is_looked_at(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "",          "   ",        "# only this",        "x = f'{y}'",
        "x = \\\n1", "x: int = 1", "x = lambda: 1",      "x = 1;",
        "x = (1",    "x = 'a",     "x = '''a",           "\fx = 1",
        "x <<= 1",   "x = t'y'",   "x = 1 if y else'2'", NULL};
    assert_all(sources, false);
}

static void reads_nothing_behind_its_end(void **state)
{
    (void)state;
    assert_true(cellar_statement_is_last("x=1\nx", 3));
    assert_false(cellar_statement_is_last("x=1\nx", 5));
    assert_false(cellar_statement_is_last("x='\\", 4));
    assert_false(cellar_statement_is_last("x=1\0", 4));
    assert_false(cellar_statement_is_last("x", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assignments_have_no_value),
        cmocka_unit_test(words_begin_statements),
        cmocka_unit_test(expressions_have_one),
        cmocka_unit_test(what_is_in_doubt_is_looked_at),
        cmocka_unit_test(reads_nothing_behind_its_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
