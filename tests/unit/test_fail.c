#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/fail.h"

static void fills_the_error_and_returns_its_code(void **state)
{
    (void)state;
    struct cellar_error err = {.sys_errno = 7};
    assert_int_equal(cellar_fail(&err, CELLAR_E_LIMIT, "frame of %d", 9),
                     CELLAR_E_LIMIT);
    assert_int_equal(err.code, CELLAR_E_LIMIT);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.msg, "frame of 9");
    assert_int_equal(cellar_fail(NULL, CELLAR_E_BUSY, "x"), CELLAR_E_BUSY);
}

static void an_error_may_quote_itself(void **state)
{
    (void)state;
    struct cellar_error err;
    cellar_fail(&err, CELLAR_E_SYS, "inner");
    cellar_fail(&err, CELLAR_E_LOST, "outer: %s", err.msg);
    assert_string_equal(err.msg, "outer: inner");
}

static void a_message_is_one_line(void **state)
{
    (void)state;
    struct cellar_error err;
    cellar_fail(&err, CELLAR_E_ENGINE, "%s", "a\nb\r\x1b[31mc\x7f");
    assert_string_equal(err.msg, "a b  [31mc ");
    cellar_wrap(&err, "%s", "x\ny");
    assert_string_equal(err.msg, "x y: a b  [31mc ");
}

static void tells_the_text_of_an_errno(void **state)
{
    (void)state;
    struct cellar_error err;
    assert_int_equal(cellar_fail_errno(&err, ENOENT, "open %s", "f"),
                     CELLAR_E_SYS);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.msg, "open f: No such file or directory");
    assert_int_equal(cellar_fail_errno(&err, EACCES, "x"), CELLAR_E_DENIED);
    assert_int_equal(cellar_fail_errno(&err, ENOMEM, "x"), CELLAR_E_NOMEM);
}

static void wraps_and_keeps_the_code(void **state)
{
    (void)state;
    struct cellar_error err;
    cellar_fail_errno(&err, EPIPE, "write");
    assert_int_equal(cellar_wrap(&err, "cell %d", 3), CELLAR_E_SYS);
    assert_string_equal(err.msg, "cell 3: write: Broken pipe");
    assert_int_equal(err.sys_errno, EPIPE);
}

static void cuts_what_is_too_long(void **state)
{
    (void)state;
    struct cellar_error err;
    char text[2 * CELLAR_ERROR_MSG_MAX];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    cellar_fail(&err, CELLAR_E_SYS, "%s", text);
    assert_int_equal(strlen(err.msg), CELLAR_ERROR_MSG_MAX - 1);
    cellar_wrap(&err, "outer");
    assert_int_equal(strlen(err.msg), CELLAR_ERROR_MSG_MAX - 1);
    assert_memory_equal(err.msg, "outer: xxx", 10);
    cellar_wrap(&err, "%s", text);
    assert_int_equal(strlen(err.msg), CELLAR_ERROR_MSG_MAX - 1);
    cellar_fail_errno(&err, EPIPE, "%s", text);
    assert_int_equal(strlen(err.msg), CELLAR_ERROR_MSG_MAX - 1);
}

static void taking_leaves_nothing_behind(void **state)
{
    (void)state;
    char *p = malloc(1);
    CELLAR_AUTO_FREE char *q = CELLAR_TAKE(p);
    assert_null(p);
    assert_non_null(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_the_error_and_returns_its_code),
        cmocka_unit_test(an_error_may_quote_itself),
        cmocka_unit_test(a_message_is_one_line),
        cmocka_unit_test(tells_the_text_of_an_errno),
        cmocka_unit_test(wraps_and_keeps_the_code),
        cmocka_unit_test(cuts_what_is_too_long),
        cmocka_unit_test(taking_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
