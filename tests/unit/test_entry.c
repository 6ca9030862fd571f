/* Cells of the journal, as people and as programs see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cli/entry.h"

static char shown[4096];

static struct cellar_result ok_result(void)
{
    static char out[] = "out\n";
    static char empty[] = "";
    return (struct cellar_result){
        .cell = 3, .stdout_text = out, .stdout_len = 4, .stderr_text = empty};
}

static struct cellar_entry entry_of(const struct cellar_result *result)
{
    return (struct cellar_entry){.cell = 3,
                                 .code = "x\ny",
                                 .code_len = 3,
                                 .began_ms = 1763700000000,
                                 .ended_ms = 1763700001500,
                                 .result = result};
}

/* Reads what stands in `file` into `shown`, and closes it. */
static void take(FILE *file, const struct cellar_output *out)
{
    assert_true(cellar_output_ok(out));
    rewind(file);
    shown[fread(shown, 1, sizeof shown - 1, file)] = '\0';
    (void)fclose(file);
}

static void print(struct cellar_entry_view *view,
                  const struct cellar_entry *entry)
{
    struct cellar_output out;
    FILE *file = tmpfile();
    assert_non_null(file);
    cellar_output_init(&out, fileno(file));
    cellar_entry_print(&out, view, entry);
    take(file, &out);
}

static json_t *object_of(const struct cellar_entry *entry)
{
    struct cellar_output out;
    struct cellar_error err = {0};
    FILE *file = tmpfile();
    assert_non_null(file);
    cellar_output_init(&out, fileno(file));
    assert_int_equal(cellar_entry_json(&out, entry, &err), CELLAR_OK);
    take(file, &out);
    assert_string_equal(strchr(shown, '\n'), "\n");
    json_t *object = json_loads(shown, 0, NULL);
    assert_non_null(object);
    return object;
}

static void expect_shown(const char *text)
{
    if (!strstr(shown, text))
        fail_msg("'%s' is not in '%s'", text, shown);
}

static void a_cell_is_shown_with_its_time(void **state)
{
    struct cellar_result result = ok_result();
    struct cellar_entry entry = entry_of(&result);
    struct cellar_entry_view view = {0};
    (void)state;
    setenv("TZ", "UTC", 1);
    print(&view, &entry);
    assert_string_equal(shown, "-- 2025-11-21 04:40:00, 1.5 s\n"
                               "In [3]: x\n   ...: y\nout\n");
}

static void a_reset_is_shown_between_two_cells(void **state)
{
    struct cellar_result result = ok_result();
    struct cellar_entry entry = entry_of(&result);
    struct cellar_entry_view view = {0};
    (void)state;
    entry.resets = 2;
    print(&view, &entry);
    assert_null(strstr(shown, "reset"));
    print(&view, &entry);
    assert_null(strstr(shown, "reset"));
    assert_int_equal(shown[0], '\n');
    entry.resets = 3;
    print(&view, &entry);
    expect_shown("\n-- the session was reset here\n\n-- 2025");
    entry.restores++;
    entry.back_to = 2;
    print(&view, &entry);
    expect_shown("\n-- the session was restored here, to cell 2\n\n-- 2025");
}

static void how_it_ended_is_told(void **state)
{
    struct cellar_result result = ok_result();
    struct cellar_entry entry = entry_of(&result);
    struct cellar_entry_view view = {0};
    (void)state;
    result.status = CELLAR_STATUS_TIMEOUT;
    entry.untold = true;
    entry.pruned = true;
    print(&view, &entry);
    expect_shown("cell 3: timeout; state kept\n");
    expect_shown("cell 3: ended while nobody was attached\n");
    expect_shown("cell 3: its output was pruned\n");
    entry.code = NULL;
    entry.result = NULL;
    print(&view, &entry);
    expect_shown("In [3]: (its code is not known)\n");
}

/* Its status means nothing yet. */
static void a_running_cell_is_shown_with_its_output(void **state)
{
    struct cellar_result result = ok_result();
    struct cellar_entry entry = entry_of(&result);
    struct cellar_entry_view view = {0};
    (void)state;
    result.status = CELLAR_STATUS_LOST;
    entry.ended_ms = 0;
    print(&view, &entry);
    expect_shown("-- 2025-11-21 04:40:00\n");
    expect_shown("out\ncell 3: it has not ended\n");
    assert_null(strstr(shown, "lost"));
    view.ended = true;
    print(&view, &entry);
    expect_shown("cell 3: cut off with its session\n");
}

static void json_has_it_all(void **state)
{
    struct cellar_result result = ok_result();
    struct cellar_entry entry = entry_of(&result);
    (void)state;
    entry.resets = 1;
    entry.restores = 2;
    entry.back_to = 3;
    entry.began_ms = 1763700000123;
    json_t *object = object_of(&entry);
    const char *head =
        "{\"cell\":3,\"code\":\"x\\ny\",\"began\":1763700000.123,\"ended\":"
        "1763700001.5,\"resets\":1,\"restores\":2,\"back_to\":3,"
        "\"untold\":false,\"pruned\":false,"
        "\"result\":{\"cell\":3,\"status\":\"ok\",\"state\":\"kept\",";
    assert_int_equal(strncmp(shown, head, strlen(head)), 0);
    json_decref(object);
}

static void json_of_a_running_cell_has_no_status(void **state)
{
    struct cellar_result result = ok_result();
    struct cellar_entry entry = entry_of(&result);
    (void)state;
    entry.ended_ms = 0;
    entry.code = NULL;
    json_t *object = object_of(&entry);
    json_t *inner = json_object_get(object, "result");
    assert_true(json_is_null(json_object_get(object, "code")));
    assert_true(json_is_null(json_object_get(object, "ended")));
    assert_true(json_is_null(json_object_get(inner, "status")));
    assert_true(json_is_null(json_object_get(inner, "state")));
    assert_string_equal(json_string_value(json_object_get(inner, "stdout")),
                        "out\n");
    json_decref(object);
    entry.result = NULL;
    object = object_of(&entry);
    assert_true(json_is_null(json_object_get(object, "result")));
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cell_is_shown_with_its_time),
        cmocka_unit_test(a_reset_is_shown_between_two_cells),
        cmocka_unit_test(how_it_ended_is_told),
        cmocka_unit_test(a_running_cell_is_shown_with_its_output),
        cmocka_unit_test(json_has_it_all),
        cmocka_unit_test(json_of_a_running_cell_has_no_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
