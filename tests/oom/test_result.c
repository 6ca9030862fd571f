/* Collecting a cell's result, and printing it, with no memory. */
#include "oom.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/result.h"

static struct cellar_bytes bytes_of(const char *text)
{
    return (struct cellar_bytes){(const uint8_t *)text, strlen(text)};
}

static enum cellar_code collect(bool failed, struct cellar_result **out)
{
    struct cellar_limits limits = {.output_bytes = 1 << 16};
    struct cellar_msg_display display = {.count = 1};
    struct cellar_msg_done done = {.wall_us = 7};
    struct cellar_collect c;
    display.parts[0].type = bytes_of("image/png");
    display.parts[0].data = bytes_of("iVBORw0=");
    done.has_error = failed;
    done.status = failed ? CELLAR_STATUS_ERROR : CELLAR_STATUS_OK;
    done.parts = failed ? 0 : 1;
    done.result[0] =
        (struct cellar_mime_part){bytes_of("text/plain"), bytes_of("42")};
    done.error_name = done.error_message = bytes_of("ValueError");
    done.traceback = bytes_of("line 1\nline 2");
    enum cellar_code code = cellar_collect_init(&c, 1, &limits);
    if (code != CELLAR_OK)
        return code;
    (void)cellar_collect_output(&c, 1, (const uint8_t *)"out \xff", 5);
    (void)cellar_collect_output(&c, 2, (const uint8_t *)"err", 3);
    cellar_collect_display(&c, &display);
    code = cellar_collect_finish(&c, &done);
    *out = cellar_collect_take(&c);
    cellar_collect_done(&c);
    return code;
}

/* What a result must be, whole or marked as cut. */
static void check_result(const struct cellar_result *r, enum cellar_code code)
{
    bool whole = r->stdout_text && r->stderr_text && r->display_count == 1 &&
                 strcmp(r->stdout_text, "out \xef\xbf\xbd") == 0 &&
                 strcmp(r->stderr_text, "err") == 0;
    assert_true(whole || r->truncated);
    assert_true(code == CELLAR_OK || code == CELLAR_E_NOMEM);
    if (code == CELLAR_OK && r->status == CELLAR_STATUS_OK)
        assert_string_equal(cellar_result_text(r), "42");
}

static enum cellar_code collect_one(void *user)
{
    struct cellar_result *result = NULL;
    enum cellar_code code = collect(*(const bool *)user, &result);
    if (result)
        check_result(result, code);
    cellar_result_free(result);
    return code;
}

static void what_is_lost_of_a_result_is_marked(void **state)
{
    bool failed = false;
    (void)state;
    oom_sweep(collect_one, &failed);
    failed = true;
    oom_sweep(collect_one, &failed);
}

struct printed {
    struct cellar_result *result;
    char *whole;
};

static enum cellar_code print_one(void *user)
{
    const struct printed *p = user;
    char *text = cellar_result_json(p->result);
    if (text)
        assert_string_equal(text, p->whole);
    bool fine = text != NULL;
    free(text);
    return fine ? CELLAR_OK : CELLAR_E_NOMEM;
}

static void sweep_printing(bool failed)
{
    struct printed p = {NULL, NULL};
    assert_int_equal(collect(failed, &p.result), CELLAR_OK);
    p.result->limit = CELLAR_LIMIT_TIMEOUT;
    p.whole = cellar_result_json(p.result);
    assert_non_null(p.whole);
    oom_sweep(print_one, &p);
    free(p.whole);
    cellar_result_free(p.result);
}

static void json_is_whole_or_not_at_all(void **state)
{
    (void)state;
    sweep_printing(false);
    sweep_printing(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_lost_of_a_result_is_marked),
        cmocka_unit_test(json_is_whole_or_not_at_all),
    };
    oom_init();
    return cmocka_run_group_tests_name("oom result", tests, NULL, NULL);
}
