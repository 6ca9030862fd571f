/* The result object, its JSON, and the mending of bytes that are no text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "kernel/result.h"
#include "kernel/utf8.h"

static const struct cellar_limits limits = {
    .timeout_ms = 1500, .memory_bytes = 1 << 20, .output_bytes = 10};

static struct cellar_bytes bytes(const char *text)
{
    return (struct cellar_bytes){(const uint8_t *)text, strlen(text)};
}

static json_t *finished(struct cellar_collect *collect)
{
    struct cellar_result *result = cellar_collect_take(collect);
    char *line = cellar_result_json(result);
    assert_non_null(line);
    assert_null(strchr(line, '\n'));
    json_t *root = json_loads(line, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    free(line);
    cellar_result_free(result);
    cellar_collect_done(collect);
    return root;
}

static json_t *ended(const struct cellar_msg_done *done, const char *output)
{
    struct cellar_collect collect;
    assert_int_equal(cellar_collect_init(&collect, 7, &limits), CELLAR_OK);
    cellar_collect_output(&collect, 1, (const uint8_t *)output, strlen(output));
    assert_int_equal(cellar_collect_finish(&collect, done), CELLAR_OK);
    return finished(&collect);
}

static void is_null(const json_t *root, const char *key)
{
    assert_true(json_is_null(json_object_get(root, key)));
}

static const char *string(const json_t *root, const char *key)
{
    return json_string_value(json_object_get(root, key));
}

/* ---------------------------------------------------------------- JSON -- */

static void every_key_is_there_in_every_result(void **state)
{
    static const char *const keys[] = {
        "cell",     "status", "state",     "restored_from", "checkpoint",
        "stdout",   "stderr", "truncated", "dropped_bytes", "result",
        "displays", "error",  "limit",     "exit_code",     "signal",
        "reason",   "usage"};
    const struct cellar_msg_done done = {.wall_us = 5};
    json_t *root = ended(&done, "hi");
    (void)state;
    assert_int_equal(json_object_size(root), sizeof keys / sizeof keys[0]);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_non_null(json_object_get(root, keys[i]));
    assert_string_equal(string(root, "status"), "ok");
    assert_string_equal(string(root, "state"), "kept");
    assert_string_equal(string(root, "stdout"), "hi");
    is_null(root, "result");
    is_null(root, "error");
    is_null(root, "limit");
    is_null(root, "exit_code");
    is_null(root, "signal");
    is_null(root, "reason");
    is_null(root, "checkpoint");
    json_decref(root);
}

static void a_checkpoint_that_was_not_taken_says_why(void **state)
{
    static const char why[] = "2 of its \xff threads would be missing";
    const struct cellar_msg_done yes = {.checkpoint = CELLAR_TAKEN_YES};
    const struct cellar_msg_done no = {
        .checkpoint = CELLAR_TAKEN_NO,
        .checkpoint_why = {(const uint8_t *)why, sizeof why - 1}};
    (void)state;
    json_t *root = ended(&yes, "");
    const json_t *told = json_object_get(root, "checkpoint");
    assert_true(json_is_true(json_object_get(told, "taken")));
    assert_int_equal(json_object_size(told), 1);
    json_decref(root);
    root = ended(&no, "");
    told = json_object_get(root, "checkpoint");
    assert_true(json_is_false(json_object_get(told, "taken")));
    assert_string_equal(string(told, "why"),
                        "2 of its \xef\xbf\xbd threads would be missing");
    json_decref(root);
}

static void a_timeout_names_its_limit_in_seconds(void **state)
{
    const struct cellar_msg_done done = {.status = CELLAR_STATUS_TIMEOUT,
                                         .limit = CELLAR_LIMIT_TIMEOUT};
    json_t *root = ended(&done, "");
    json_t *limit = json_object_get(root, "limit");
    (void)state;
    assert_string_equal(string(limit, "name"), "timeout");
    assert_string_equal(string(limit, "unit"), "s");
    assert_true(json_real_value(json_object_get(limit, "value")) == 1.5);
    json_decref(root);
}

static void signals_and_exit_codes_belong_to_their_status(void **state)
{
    const struct cellar_msg_done killed = {.status = CELLAR_STATUS_KILLED,
                                           .state = CELLAR_STATE_FRESH,
                                           .code = 11};
    const struct cellar_msg_done exited = {.status = CELLAR_STATUS_EXITED,
                                           .code = 3};
    (void)state;
    json_t *root = ended(&killed, "");
    assert_string_equal(string(root, "signal"), "SIGSEGV");
    assert_string_equal(string(root, "state"), "fresh");
    is_null(root, "exit_code");
    json_decref(root);
    root = ended(&exited, "");
    assert_int_equal(json_integer_value(json_object_get(root, "exit_code")), 3);
    is_null(root, "signal");
    json_decref(root);
}

static void an_error_has_its_lines(void **state)
{
    struct cellar_msg_done done = {.status = CELLAR_STATUS_ERROR,
                                   .has_error = true};
    done.error_name = bytes("ValueError");
    done.error_message = bytes("no \xff");
    done.traceback = bytes("a\n\nb");
    json_t *root = ended(&done, "");
    json_t *error = json_object_get(root, "error");
    json_t *lines = json_object_get(error, "traceback");
    (void)state;
    assert_string_equal(string(error, "name"), "ValueError");
    assert_string_equal(string(error, "message"), "no \xef\xbf\xbd");
    assert_int_equal(json_array_size(lines), 3);
    assert_string_equal(json_string_value(json_array_get(lines, 1)), "");
    json_decref(root);
}

static void output_over_the_cap_is_cut_and_said(void **state)
{
    const struct cellar_msg_done done = {0};
    json_t *root = ended(&done, "0123456789abc");
    (void)state;
    assert_string_equal(string(root, "stdout"), "0123456789");
    assert_true(json_is_true(json_object_get(root, "truncated")));
    assert_int_equal(json_integer_value(json_object_get(root, "dropped_bytes")),
                     3);
    assert_string_equal(string(json_object_get(root, "limit"), "name"),
                        "output");
    json_decref(root);
}

static void a_lost_cell_carries_the_reason(void **state)
{
    struct cellar_collect collect;
    (void)state;
    assert_int_equal(cellar_collect_init(&collect, 1, &limits), CELLAR_OK);
    cellar_collect_end(&collect, CELLAR_STATUS_LOST, CELLAR_STATE_FRESH,
                       "gone");
    json_t *root = finished(&collect);
    assert_string_equal(string(root, "status"), "lost");
    assert_string_equal(string(root, "reason"), "gone");
    json_decref(root);
}

static void displays_are_bounded(void **state)
{
    struct cellar_collect collect;
    struct cellar_msg_display display = {
        .count = 1, .parts = {{bytes("text/plain"), bytes("x")}}};
    (void)state;
    assert_int_equal(cellar_collect_init(&collect, 1, &limits), CELLAR_OK);
    for (int i = 0; i < CELLAR_DISPLAYS_MAX + 5; i++)
        cellar_collect_display(&collect, &display);
    json_t *root = finished(&collect);
    assert_int_equal(json_array_size(json_object_get(root, "displays")),
                     CELLAR_DISPLAYS_MAX);
    assert_true(json_is_true(json_object_get(root, "truncated")));
    json_decref(root);
}

static void a_result_that_nobody_takes_is_freed(void **state)
{
    struct cellar_collect collect;
    (void)state;
    assert_int_equal(cellar_collect_init(&collect, 1, &limits), CELLAR_OK);
    cellar_collect_output(&collect, 2, (const uint8_t *)"x", 1);
    cellar_collect_done(&collect);
}

/* --------------------------------------------------------------- UTF-8 -- */

static void mends(const char *from, size_t len, const char *to)
{
    size_t got_len = 0;
    char *got = cellar_utf8_mend(from, len, &got_len);
    assert_non_null(got);
    assert_int_equal(got_len, strlen(to));
    assert_string_equal(got, to);
    assert_true(cellar_utf8_valid(got, got_len));
    free(got);
}

#define FFFD "\xef\xbf\xbd"

static void what_is_no_text_is_replaced(void **state)
{
    (void)state;
    mends("", 0, "");
    mends("plain text, longer than a word", 30,
          "plain text, longer than a word");
    mends("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9,
          "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    mends("a\x80z", 3, "a" FFFD "z");
    mends("\xc0\xaf", 2, FFFD FFFD);                     /* overlong */
    mends("\xed\xa0\x80", 3, FFFD FFFD FFFD);            /* a surrogate */
    mends("\xf4\x90\x80\x80", 4, FFFD FFFD FFFD FFFD);   /* beyond U+10FFFF */
    mends("12345678\xe2\x82", 10, "12345678" FFFD FFFD); /* cut */
}

static void any_bytes_mend_to_text(void **state)
{
    char random[257];
    unsigned seed = 1;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        size_t len = (size_t)rand_r(&seed) % sizeof random;
        size_t got_len = 0;
        for (size_t i = 0; i < len; i++)
            random[i] = (char)rand_r(&seed);
        char *got = cellar_utf8_mend(random, len, &got_len);
        assert_non_null(got);
        assert_true(cellar_utf8_valid(got, got_len));
        assert_true(got_len >= len);
        free(got);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_there_in_every_result),
        cmocka_unit_test(a_checkpoint_that_was_not_taken_says_why),
        cmocka_unit_test(a_timeout_names_its_limit_in_seconds),
        cmocka_unit_test(signals_and_exit_codes_belong_to_their_status),
        cmocka_unit_test(an_error_has_its_lines),
        cmocka_unit_test(output_over_the_cap_is_cut_and_said),
        cmocka_unit_test(a_lost_cell_carries_the_reason),
        cmocka_unit_test(displays_are_bounded),
        cmocka_unit_test(a_result_that_nobody_takes_is_freed),
        cmocka_unit_test(what_is_no_text_is_replaced),
        cmocka_unit_test(any_bytes_mend_to_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
