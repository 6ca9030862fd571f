/* Whether Python input is complete, as a REPL asks after every line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "kernel/cli/lines.h"

#define EMPTY    CELLAR_LINES_EMPTY
#define COMPLETE CELLAR_LINES_COMPLETE
#define MORE     CELLAR_LINES_MORE

/* Looks at a copy of just the length: the sanitizer sees a byte read too far.
 */
static enum cellar_lines state_of(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    enum cellar_lines state = cellar_lines_state(copy, len);
    free(copy);
    return state;
}

static void expect(enum cellar_lines state, const char *const *texts)
{
    for (; *texts; texts++) {
        print_message("%s|\n", *texts);
        assert_int_equal(state_of(*texts, strlen(*texts)), state);
    }
}

static void nothing_to_run(void **state)
{
    static const char *const texts[] = {"",     "\n",     "   \n",  "\t",
                                        "# hi", "# hi\n", "\n\n\n", "  # a",
                                        "\r\n", "# a:\n", NULL};
    (void)state;
    expect(EMPTY, texts);
}

static void simple_statements(void **state)
{
    static const char *const texts[] = {
        "x = 1",
        "x = 1\n",
        "print('a')\n",
        "x = 1 # (\n",
        "a; b\n",
        "x[1:2]\n",
        "{1: 2}\n",
        "f(a=lambda: 1)\n",
        "x: int = 1\n",
        "iffy = 1\n",
        "format(1)\n",
        "classes = 2\n",
        "import os\n",
        "match = 1\n",
        "match(1)\n",
        "'#'\n",
        "x = '['\n",
        "\"it's\"\n",
        "'it\\'s'\n",
        "r'\\'\n'x'\n" /* broken: Python says so */,
        "é = 1\n",
        "if_ = 3\n",
        "x\r\n",
        "lambda: 0\n",
        "return\n",
        "pass\n",
        NULL};
    (void)state;
    expect(COMPLETE, texts);
}

static void open_brackets(void **state)
{
    static const char *const texts[] = {"f(",          "f(\n",
                                        "x = [\n",     "x = [1,\n2,\n",
                                        "{'a':\n",     "f(a, [b\n",
                                        "(\n\n\n",     "f( # )\n",
                                        "f(')'\n",     "x = (1 +\n2\n",
                                        "[')', \"]\"", "def f(a,\n",
                                        "f(\n\n",      "print(\"\"\"a\"\"\",\n",
                                        NULL};
    (void)state;
    expect(MORE, texts);
}

static void closed_brackets(void **state)
{
    static const char *const texts[] = {
        "f()\n",    "f(\n)\n",     "x = [1,\n2]\n", "{'a':\n1}\n",
        "f(')')\n", "f( # )\n)\n", "(\n\n)\n",      NULL};
    (void)state;
    expect(COMPLETE, texts);
}

static void texts_in_quotes(void **state)
{
    static const char *const more[] = {
        "'''",          "'''abc\n",   "x = \"\"\"\n", "'''a'\n",     "'''a''\n",
        "\"\"\"'''\n",  "'''\\'''\n", "f'''{x\n",     "'a\\\n",      "'a\\",
        "rb'''x\n\n\n", "'''if x:\n", "'''a\\\n",     "\"\"\"a\"\"", NULL};
    static const char *const complete[] = {"'''a'''\n",
                                           "'''a\nb'''\n",
                                           "\"\"\"'''\"\"\"\n",
                                           "''\n",
                                           "''",
                                           "\"\"\n",
                                           "'' ''\n",
                                           "'''a\\'''b'''\n",
                                           "'a\\\nb'\n",
                                           "f'{x!r:>{w}}'\n",
                                           "f\"{d['a']}\"\n",
                                           "f\"{d[\"a\"]}\"\n",
                                           "b'\\x00'\n",
                                           "'a",
                                           "'a\n",
                                           "x = \"abc\n",
                                           NULL};
    (void)state;
    expect(MORE, more);
    expect(COMPLETE, complete);
}

static void joined_lines(void **state)
{
    static const char *const more[] = {"x = 1 + \\\n", "x = \\",
                                       "x = 1 + \\\r\n", "a \\\n + \\\n", NULL};
    static const char *const complete[] = {"x = 1 + \\\n2\n", "# a \\\n1\n",
                                           "x = 1 \\\n\n", NULL};
    (void)state;
    expect(MORE, more);
    expect(COMPLETE, complete);
}

static void a_block_ends_with_an_empty_line(void **state)
{
    static const char *const more[] = {"if x:\n",
                                       "if x:",
                                       "for i in y:\n    print(i)\n",
                                       "def f():\n    return 1\n",
                                       "def f():\n    return 1",
                                       "def f(a,\n      b):\n",
                                       "class A:\n    x = 1\n",
                                       "async def f():\n    await g()\n",
                                       "with a as b:\n  pass\n",
                                       "while True: # for ever\n",
                                       "while True:\n    pass # so\n",
                                       "try:\n    a\nexcept B:\n    c\n",
                                       "if a:\n    b\nelse:\n",
                                       "match x:\n    case 1:\n        pass\n",
                                       "@decorator\n",
                                       "@decorator\ndef f():\n    pass\n",
                                       "if x: pass\n",
                                       "for i in y: print(i)\n",
                                       "if x:\n    if y:\n        z\n",
                                       "x = 1\nif x:\n    y\n",
                                       "if x:\n    a = (1,\n         2)\n",
                                       "def f():\n    '''doc\n\n    more'''\n",
                                       NULL};
    static const char *const complete[] = {
        "if x:\n    y\n\n",
        "if x:\n    y\n   \n",
        "if x:\n    y\n\t\r\n",
        "if x: pass\n\n",
        "def f():\n    return 1\n\n",
        "@decorator\ndef f():\n    pass\n\n",
        "try:\n    a\nexcept B:\n    c\n\n",
        "if x:\n\n",
        "if x:\n    y\nz = 1\n", /* a statement at the margin ends it */
        "def f():\n    pass\nf()\n",
        NULL};
    (void)state;
    expect(MORE, more);
    expect(COMPLETE, complete);
}

static void a_colon_is_not_always_a_block(void **state)
{
    static const char *const texts[] = {"x[1:\n2]\n", "{'a':\n1}\n",
                                        "x = ':'\n",  "# :\n1\n",
                                        "y = 1 #:\n", NULL};
    (void)state;
    expect(COMPLETE, texts);
}

static void what_no_line_can_mend_is_for_python_to_tell(void **state)
{
    static const char *const texts[] = {
        ")", "f())\n", "]\n", "x = (1]]\n)", "'abc\n", "if x:\n    )\n", NULL};
    (void)state;
    expect(COMPLETE, texts);
}

/* Bytes of any kind, cut anywhere: no crash, no read too far, an answer. */
static void any_bytes_get_an_answer(void **state)
{
    static const char alphabet[] = "'\"\\\n([{}]):#@ \tif\r\xc3\xff";
    char text[64];
    bool inside[64];
    uint32_t seed = 12345;
    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t len = 0;
        seed = seed * 1103515245 + 12345;
        size_t want = seed >> 16 & 31;
        for (; len < want; len++) {
            seed = seed * 1103515245 + 12345;
            text[len] = alphabet[(seed >> 16) % sizeof alphabet];
        }
        assert_in_range(state_of(text, len), EMPTY, MORE);
        cellar_lines_mark_quoted(text, len, inside);
    }
}

/* `marks` has a '^' under each byte that is in quotes. */
static void expect_marks(const char *text, const char *marks)
{
    bool inside[64];
    size_t len = strlen(text);
    assert_int_equal(strlen(marks), len);
    cellar_lines_mark_quoted(text, len, inside);
    for (size_t i = 0; i < len; i++)
        if (inside[i] != (marks[i] == '^'))
            fail_msg("byte %zu of %s", i, text);
}

static void what_is_in_quotes_is_marked(void **state)
{
    (void)state;
    expect_marks("x = 'a' # 'b'\n", "     ^^       ");
    expect_marks("'''\n#'''\n#", " ^^^^^^^  ");
    expect_marks("'\\\n#'\n#", " ^^^^  ");
    expect_marks("'a\n# b", " ^    ");
    expect_marks("r\"\"\"\n#", "  ^^^^");
    expect_marks(") '''\n#", "       ");
    expect_marks("", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_run),
        cmocka_unit_test(simple_statements),
        cmocka_unit_test(open_brackets),
        cmocka_unit_test(closed_brackets),
        cmocka_unit_test(texts_in_quotes),
        cmocka_unit_test(joined_lines),
        cmocka_unit_test(a_block_ends_with_an_empty_line),
        cmocka_unit_test(a_colon_is_not_always_a_block),
        cmocka_unit_test(what_no_line_can_mend_is_for_python_to_tell),
        cmocka_unit_test(any_bytes_get_an_answer),
        cmocka_unit_test(what_is_in_quotes_is_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
