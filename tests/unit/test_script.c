/* Scripts as cells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cli/script.h"

static struct cellar_notebook *read_text(const char *text)
{
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = NULL;
    assert_int_equal(
        cellar_script_read("a.py", text, strlen(text), &notebook, &err),
        CELLAR_OK);
    return notebook;
}

/* `codes`: that of each cell, a '|' after it. */
static void expect(const char *text, const char *codes)
{
    char found[256] = "";
    size_t used = 0;
    struct cellar_notebook *notebook = read_text(text);
    for (size_t i = 0; i < cellar_notebook_count(notebook); i++) {
        size_t len = 0;
        const char *code = cellar_notebook_code(notebook, i, &len);
        assert_int_equal(len, strlen(code));
        used +=
            (size_t)snprintf(found + used, sizeof found - used, "%s|", code);
        assert_true(used < sizeof found);
    }
    assert_string_equal(found, codes);
    cellar_notebook_free(notebook);
}

static void a_script_without_markers_is_one_cell(void **state)
{
    (void)state;
    expect("x = 1\nprint(x)\n", "x = 1\nprint(x)|");
    expect("x = 1", "x = 1|");
    expect("#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\nx = 1\n",
           "#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\nx = 1|");
}

static void markers_begin_cells(void **state)
{
    (void)state;
    expect("a\n# %%\nb\n#%%\nc\n#  %% a title\nd\n", "a|b|c|d|");
    expect("# %%\na\n# %%\nb\n", "a|b|");
    expect("# %%\n\n\na\n\n\n# %%\nb", "\n\na|b|");
    expect("# %% [python] x\na\n#%%[1]\nb\n", "a|b|");
    expect("# %%", "");
}

static void what_only_looks_like_a_marker_is_code(void **state)
{
    (void)state;
    expect("a\n # %%\nb\n# %%time\nc\n# % %\nx = '# %%'\n##%%\n",
           "a\n # %%\nb\n# %%time\nc\n# % %\nx = '# %%'\n##%%|");
}

static void cells_of_text_are_skipped(void **state)
{
    (void)state;
    expect("a\n# %% [markdown]\n# words\n# %%\nb\n", "a|b|");
    expect("#%%[markdown]\n'''\nwords\n'''\n#%%\nb\n", "b|");
    expect("# %% [md]\nx\n# %% [raw] y\nx\n", "");
}

static void cells_without_code_are_skipped(void **state)
{
    (void)state;
    expect("", "");
    expect("\n \n\t\n", "");
    expect("\f\n\f # words\n", "");
    expect("# only\n# words\n", "");
    expect("#!/usr/bin/python3\n# %%\na\n# %%\n\n# %%\n# x\n# %%\nb\n", "a|b|");
}

static void line_endings_and_byte_order_marks(void **state)
{
    (void)state;
    expect("# %%\r\na\r\nb\r\n# %%\r\nc\r\n", "a\nb|c|");
    expect("a\rb\r", "a\nb|");
    expect("\xef\xbb\xbf# %%\na\n", "a|");
    expect("x = 'é'\n", "x = 'é'|");
}

static void what_is_not_utf8_is_refused_by_line(void **state)
{
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = NULL;
    static const char text[] = "# -*- coding: latin-1 -*-\nx = 1\ny = '\xe9'\n";
    (void)state;
    assert_int_equal(
        cellar_script_read("old.py", text, sizeof text - 1, &notebook, &err),
        CELLAR_E_USAGE);
    assert_null(notebook);
    assert_non_null(strstr(err.msg, "old.py"));
    assert_non_null(strstr(err.msg, "line 3"));
    assert_non_null(strstr(err.msg, "UTF-8"));
}

/* Python refuses a NUL; it gets there, and is not cut off here. */
static void a_nul_stays_in_the_code(void **state)
{
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = NULL;
    size_t len = 0;
    (void)state;
    assert_int_equal(cellar_script_read("a.py", "x\0y\n", 4, &notebook, &err),
                     CELLAR_OK);
    assert_int_equal(cellar_notebook_count(notebook), 1);
    const char *code = cellar_notebook_code(notebook, 0, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(code, "x\0y", 4);
    cellar_notebook_free(notebook);
}

/* ------------------------------------------------------------ writing -- */

#define CODES_MAX 4

/* Writes `codes`, up to a NULL, as a script; *parted is the last one's. */
static char *put_all(const char *const codes[], size_t *parted)
{
    char *text = NULL;
    size_t len = 0;
    struct cellar_error err = {0};
    FILE *file = open_memstream(&text, &len);
    assert_non_null(file);
    for (size_t i = 0; i < CODES_MAX && codes[i]; i++)
        assert_int_equal(cellar_script_put(file, "a title", codes[i],
                                           strlen(codes[i]), parted, &err),
                         CELLAR_OK);
    cellar_script_remark(file, "a word");
    assert_int_equal(fclose(file), 0);
    return text;
}

static void expect_round_trip(const char *const codes[], const char *found)
{
    size_t parted = 0;
    char *text = put_all(codes, &parted);
    assert_int_equal(parted, 0);
    expect(text, found);
    free(text);
}

static void what_is_written_is_read_again(void **state)
{
    const char *plain[CODES_MAX] = {"a", "b\nc\n", "if x:\n    '''\n    d'''"};
    const char *magic[CODES_MAX] = {"%matplotlib inline", "%%time\na", "!ls"};
    const char *odd[CODES_MAX] = {"x = 1 \\", "(", "'''open"};
    (void)state;
    expect_round_trip(plain, "a|b\nc|if x:\n    '''\n    d'''|");
    expect_round_trip(magic, "%matplotlib inline|%%time\na|!ls|");
    expect_round_trip(odd, "x = 1 \\|(|'''open|");
}

static void a_comment_that_begins_a_cell_is_moved(void **state)
{
    const char *codes[CODES_MAX] = {"a\n# %% b\nc", "#%%[markdown]\nd",
                                    "(\n# %%\n1)"};
    (void)state;
    expect_round_trip(codes, "a\n # %% b\nc| #%%[markdown]\nd|(\n # %%\n1)|");
}

static void a_text_in_quotes_that_begins_a_cell_is_told(void **state)
{
    const char *codes[CODES_MAX] = {"x = 1\ny = '''\n# %% b\n# %%\n'''\n"};
    size_t parted = 0;
    (void)state;
    char *text = put_all(codes, &parted);
    assert_int_equal(parted, 3);
    assert_non_null(strstr(text, "y = '''\n# %% b\n# %%\n'''\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_script_without_markers_is_one_cell),
        cmocka_unit_test(markers_begin_cells),
        cmocka_unit_test(what_only_looks_like_a_marker_is_code),
        cmocka_unit_test(cells_of_text_are_skipped),
        cmocka_unit_test(cells_without_code_are_skipped),
        cmocka_unit_test(line_endings_and_byte_order_marks),
        cmocka_unit_test(what_is_not_utf8_is_refused_by_line),
        cmocka_unit_test(a_nul_stays_in_the_code),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(a_comment_that_begins_a_cell_is_moved),
        cmocka_unit_test(a_text_in_quotes_that_begins_a_cell_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
