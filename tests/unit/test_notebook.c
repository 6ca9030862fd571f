/* Notebooks: read, refused with the place, and written with new outputs and
 * everything else as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cli/notebook.h"

#define HEAD         "{\"nbformat\": 4, \"nbformat_minor\": 5, \"metadata\": {}, "
#define CELLS(list)  HEAD "\"cells\": [" list "]}"
#define CODE(source) "{\"cell_type\": \"code\", \"source\": " source "}"

/* A text that may be written, as a result's own are; lives with the test. */
#define TEXT(text) (((char[]){text}))

static struct cellar_notebook *read_text(const char *text)
{
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = NULL;
    enum cellar_code code =
        cellar_notebook_read("a.ipynb", text, strlen(text), &notebook, &err);
    if (code != CELLAR_OK)
        fail_msg("%s", err.msg);
    return notebook;
}

static void expect_code(const struct cellar_notebook *notebook, size_t i,
                        const char *code, size_t place)
{
    size_t len = 0;
    assert_string_equal(cellar_notebook_code(notebook, i, &len), code);
    assert_int_equal(len, strlen(code));
    assert_int_equal(cellar_notebook_place(notebook, i), place);
}

static void code_cells_are_read(void **state)
{
    struct cellar_notebook *notebook = read_text(CELLS(
        "{\"cell_type\": \"markdown\", \"source\": \"# "
        "T\"}, " CODE("\"x = 1\"") ", " CODE(
            "[\"y = 2\\n\", "
            "\"y\"]") ", " CODE("\"\"") ", " CODE("[]") ", " CODE("\" "
                                                                  "\\n\\t"
                                                                  "\"") ", "
                                                                        "{"
                                                                        "\""
                                                                        "ce"
                                                                        "ll"
                                                                        "_t"
                                                                        "yp"
                                                                        "e"
                                                                        "\""
                                                                        ": "
                                                                        "\""
                                                                        "ra"
                                                                        "w"
                                                                        "\""
                                                                        ", "
                                                                        "\""
                                                                        "so"
                                                                        "ur"
                                                                        "ce"
                                                                        "\""
                                                                        ": "
                                                                        "7}"
                                                                        ","
                                                                        " " CODE(
                                                                            "\""
                                                                            "\\"
                                                                            "u0"
                                                                            "0e"
                                                                            "9"
                                                                            " ="
                                                                            " "
                                                                            "'"
                                                                            "\\"
                                                                            "ud"
                                                                            "83"
                                                                            "d"
                                                                            "\\"
                                                                            "ud"
                                                                            "e4"
                                                                            "2'"
                                                                            "\"")));
    (void)state;
    assert_int_equal(cellar_notebook_count(notebook), 3);
    expect_code(notebook, 0, "x = 1", 2);
    expect_code(notebook, 1, "y = 2\ny", 3);
    expect_code(notebook, 2, "é = '🙂'", 8);
    cellar_notebook_free(notebook);
}

static void bad_notebooks_are_refused_with_the_place(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"", "line 1, column 0"},
        {"hello", "line 1"},
        {"{\"nbformat\": 4,\n \"cells\": [,]}", "line 2, column 12"},
        {"{\"nbformat\": 4} x", "line 1"},
        {"[]", "no nbformat"},
        {"42", "line 1, column 2"},
        {"{}", "no nbformat"},
        {"{\"nbformat\": \"4\"}", "no nbformat"},
        {"{\"nbformat\": 3, \"worksheets\": []}", "nbformat 3"},
        {"{\"nbformat\": 5, \"cells\": []}", "nbformat 5"},
        {"{\"nbformat\": -1}", "nbformat -1"},
        {"{\"nbformat\": 4}", "no cells"},
        {"{\"nbformat\": 4, \"cells\": {}}", "no cells"},
        {CELLS(""), "no cells"},
        {CELLS(CODE("\"x\"") ", 7"), "cell 2 is no object"},
        {CELLS("{\"source\": \"x\"}"), "cell 1 has no cell_type"},
        {CELLS("{\"cell_type\": 1, \"source\": \"x\"}"),
         "cell 1 has no cell_type"},
        {CELLS("{\"cell_type\": \"code\"}"), "cell 1: its source"},
        {CELLS(CODE("7")), "cell 1: its source"},
        {CELLS(CODE("\"x\"") ", " CODE("[\"x\", 7]")), "cell 2: its source"},
        {CELLS(CODE("\"\\ud800\"")), "line 1"},
        {CELLS(CODE("\"\xff\"")), "line 1"},
        {"{\"nbformat\": 4, \"cells\": [{}], \"metadata\": {\"kernelspec\": "
         "{\"language\": \"R\"}}}",
         "its language is R"},
        {"{\"nbformat\": 4, \"cells\": [{}], \"metadata\": "
         "{\"language_info\": {\"name\": \"julia\"}}}",
         "its language is julia"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cellar_error err = {0};
        struct cellar_notebook *notebook = NULL;
        const char *text = cases[i].text;
        print_message("%s\n", text);
        assert_int_equal(cellar_notebook_read("dir/a.ipynb", text, strlen(text),
                                              &notebook, &err),
                         CELLAR_E_USAGE);
        assert_null(notebook);
        assert_non_null(strstr(err.msg, "dir/a.ipynb: "));
        if (!strstr(err.msg, cases[i].message))
            fail_msg("'%s' is not in '%s'", cases[i].message, err.msg);
    }
}

/* JSON nested deeper than the stack allows is refused, not crashed on. */
static void deep_nesting_is_refused(void **state)
{
    enum { DEPTH = 1000000 };
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = NULL;
    char *text = malloc(DEPTH);
    (void)state;
    assert_non_null(text);
    memset(text, '[', DEPTH);
    assert_int_equal(cellar_notebook_read("deep", text, DEPTH, &notebook, &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "line 1"));
    free(text);
}

static void a_nul_in_a_source_is_kept(void **state)
{
    struct cellar_notebook *notebook = read_text(CELLS(CODE("\"x\\u0000y\"")));
    size_t len = 0;
    (void)state;
    const char *code = cellar_notebook_code(notebook, 0, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(code, "x\0y", 4);
    cellar_notebook_free(notebook);
}

/* -------------------------------------------------------------- writing -- */

static json_t *written(struct cellar_notebook *notebook)
{
    struct cellar_error err = {0};
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(cellar_notebook_write(notebook, &text, &len, &err),
                     CELLAR_OK);
    assert_int_equal(text[len - 1], '\n');
    json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

static const json_t *cell_of(const json_t *root, size_t i)
{
    return json_array_get(json_object_get(root, "cells"), i);
}

static const json_t *output_of(const json_t *root, size_t cell, size_t i)
{
    return json_array_get(json_object_get(cell_of(root, cell), "outputs"), i);
}

static void expect_json(const json_t *value, const char *text)
{
    json_t *wanted = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(wanted);
    if (!json_equal(value, wanted)) {
        char *got = json_dumps(value, JSON_ENCODE_ANY);
        fail_msg("%s is not %s", got, text);
    }
    json_decref(wanted);
}

static struct cellar_result ok_result(uint64_t cell)
{
    static char empty[] = "";
    return (struct cellar_result){
        .cell = cell, .stdout_text = empty, .stderr_text = empty};
}

/* Records `result` for the only cell of a notebook, and returns it written. */
static json_t *recorded(const struct cellar_result *result)
{
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = read_text(CELLS(CODE("\"x\"")));
    assert_int_equal(cellar_notebook_record(notebook, 0, result, &err),
                     CELLAR_OK);
    json_t *root = written(notebook);
    cellar_notebook_free(notebook);
    return root;
}

static void a_result_becomes_outputs(void **state)
{
    struct cellar_result result = ok_result(7);
    struct cellar_part parts[] = {{"text/plain", "42", 2},
                                  {"application/json", "{\"a\": [1]}", 10}};
    (void)state;
    result.stdout_text = TEXT("hé\n");
    result.stdout_len = 4;
    result.stderr_text = TEXT("warn\0!");
    result.stderr_len = 6;
    result.result = parts;
    result.result_count = 2;
    json_t *root = recorded(&result);
    expect_json(json_object_get(cell_of(root, 0), "execution_count"), "7");
    expect_json(output_of(root, 0, 0),
                "{\"output_type\": \"stream\", \"name\": "
                "\"stdout\", \"text\": \"h\\u00e9\\n\"}");
    assert_int_equal(
        json_string_length(json_object_get(output_of(root, 0, 1), "text")), 6);
    expect_json(output_of(root, 0, 2),
                "{\"output_type\": \"execute_result\", \"execution_count\": 7, "
                "\"metadata\": {}, \"data\": {\"text/plain\": \"42\", "
                "\"application/json\": {\"a\": [1]}}}");
    assert_null(output_of(root, 0, 3));
    json_decref(root);
}

static void displays_become_outputs(void **state)
{
    struct cellar_result result = ok_result(1);
    struct cellar_part parts[] = {{"image/png", "iVBORw0=", 8},
                                  {"application/json", "no json", 7}};
    (void)state;
    result.displays = calloc(1, sizeof *result.displays);
    assert_non_null(result.displays);
    result.displays[0].parts = parts;
    result.displays[0].count = 2;
    result.display_count = 1;
    json_t *root = recorded(&result);
    expect_json(output_of(root, 0, 0),
                "{\"output_type\": \"display_data\", \"metadata\": {}, "
                "\"data\": {\"image/png\": \"iVBORw0=\", "
                "\"application/json\": \"no json\"}}");
    json_decref(root);
    free(result.displays);
}

static void an_exception_becomes_an_error(void **state)
{
    struct cellar_result result = ok_result(3);
    (void)state;
    result.status = CELLAR_STATUS_ERROR;
    result.error_name = TEXT("ValueError");
    result.error_message = TEXT("no");
    result.traceback = TEXT("Traceback:\n  x\nValueError: no");
    json_t *root = recorded(&result);
    expect_json(output_of(root, 0, 0),
                "{\"output_type\": \"error\", \"ename\": \"ValueError\", "
                "\"evalue\": \"no\", \"traceback\": [\"Traceback:\", \"  x\", "
                "\"ValueError: no\"]}");
    json_decref(root);
}

static void another_ending_becomes_an_error_too(void **state)
{
    struct cellar_result result = ok_result(3);
    (void)state;
    result.status = CELLAR_STATUS_TIMEOUT;
    result.limit = CELLAR_LIMIT_TIMEOUT;
    result.limit_value = 2000;
    result.stdout_text = TEXT("part");
    result.stdout_len = 4;
    result.truncated = true;
    result.dropped_bytes = 9;
    json_t *root = recorded(&result);
    expect_json(json_object_get(output_of(root, 0, 0), "text"), "\"part\"");
    expect_json(json_object_get(output_of(root, 0, 1), "text"),
                "\"output cut; 9 bytes more were dropped\\n\"");
    expect_json(output_of(root, 0, 2),
                "{\"output_type\": \"error\", \"ename\": \"timeout\", "
                "\"evalue\": \"timeout after 2 s; state kept\", "
                "\"traceback\": [\"timeout after 2 s; state kept\"]}");
    json_decref(root);
}

static const char old_notebook[] =
    "{\"cells\": [{\"cell_type\": \"markdown\", \"id\": \"m1\", \"metadata\": "
    "{\"tags\": [\"a\"]}, \"source\": [\"# T\\n\", \"b\"], \"attachments\": "
    "{\"i.png\": {\"image/png\": \"AA==\"}}}, {\"cell_type\": \"code\", "
    "\"id\": \"c1\", \"metadata\": {\"collapsed\": true}, \"source\": "
    "[\"x\\n\", \"y\"], \"execution_count\": 9, \"outputs\": "
    "[{\"output_type\": \"stream\", \"name\": \"stdout\", \"text\": "
    "\"old\"}]}, {\"cell_type\": \"code\", \"id\": \"c2\", \"metadata\": {}, "
    "\"source\": \"z\", \"execution_count\": 10, \"outputs\": [{}]}], "
    "\"metadata\": {\"kernelspec\": {\"name\": \"python3\", \"language\": "
    "\"python\", \"display_name\": \"P\"}, \"x\": 0.1, \"big\": "
    "9007199254740993}, \"nbformat\": 4, \"nbformat_minor\": 5}";

static void all_but_the_outputs_stays(void **state)
{
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = read_text(old_notebook);
    struct cellar_result result = ok_result(1);
    json_t *old = json_loads(old_notebook, 0, NULL);
    (void)state;
    assert_int_equal(cellar_notebook_clear(notebook, &err), CELLAR_OK);
    assert_int_equal(cellar_notebook_record(notebook, 0, &result, &err),
                     CELLAR_OK);
    json_t *new = written(notebook);
    expect_json(json_object_get(cell_of(new, 1), "outputs"), "[]");
    expect_json(json_object_get(cell_of(new, 1), "execution_count"), "1");
    expect_json(json_object_get(cell_of(new, 2), "outputs"), "[]");
    expect_json(json_object_get(cell_of(new, 2), "execution_count"), "null");
    for (size_t i = 1; i <= 2; i++) {
        json_t *from = (json_t *)cell_of(old, i);
        json_t *to = (json_t *)cell_of(new, i);
        json_object_update(to, from);
    }
    assert_true(json_equal(old, new));
    json_decref(old);
    json_decref(new);
    cellar_notebook_free(notebook);
}

static void a_new_notebook_is_whole(void **state)
{
    struct cellar_error err = {0};
    struct cellar_notebook *notebook = NULL;
    (void)state;
    assert_int_equal(cellar_notebook_new(&notebook, &err), CELLAR_OK);
    assert_int_equal(cellar_notebook_count(notebook), 0);
    assert_int_equal(cellar_notebook_add(notebook, "a = 1\na", 7, &err),
                     CELLAR_OK);
    assert_int_equal(cellar_notebook_add(notebook, "\xff", 1, &err),
                     CELLAR_E_USAGE);
    expect_code(notebook, 0, "a = 1\na", 1);
    json_t *root = written(notebook);
    expect_json(json_object_get(root, "nbformat"), "4");
    expect_json(
        cell_of(root, 0),
        "{\"cell_type\": \"code\", \"execution_count\": null, "
        "\"metadata\": {}, \"outputs\": [], \"source\": \"a = 1\\na\"}");
    json_decref(root);
    cellar_notebook_free(notebook);
}

/* Each byte of a good notebook changed, one after the other: an answer each
 * time, and what is read can be written. */
static void changed_bytes_get_an_answer(void **state)
{
    char text[sizeof old_notebook];
    (void)state;
    for (size_t i = 0; i + 1 < sizeof old_notebook; i++) {
        struct cellar_error err = {0};
        struct cellar_notebook *notebook = NULL;
        memcpy(text, old_notebook, sizeof text);
        text[i] = (char)(text[i] ^ (1 << i % 8));
        if (cellar_notebook_read("a", text, sizeof text - 1, &notebook, &err) ==
            CELLAR_OK)
            json_decref(written(notebook));
        else
            assert_int_equal(err.code, CELLAR_E_USAGE);
        cellar_notebook_free(notebook);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_cells_are_read),
        cmocka_unit_test(bad_notebooks_are_refused_with_the_place),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(a_nul_in_a_source_is_kept),
        cmocka_unit_test(a_result_becomes_outputs),
        cmocka_unit_test(displays_become_outputs),
        cmocka_unit_test(an_exception_becomes_an_error),
        cmocka_unit_test(another_ending_becomes_an_error_too),
        cmocka_unit_test(all_but_the_outputs_stays),
        cmocka_unit_test(a_new_notebook_is_whole),
        cmocka_unit_test(changed_bytes_get_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
