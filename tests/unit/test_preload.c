/* Which texts name modules: on the wire, and in a session's spec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/spec.h"
#include "proto/preload.h"
#include "wire.h"

static const char *const good[] = {"",      "a",         "numpy",   "a,b",
                                   "a.b.c", "os.path,a", "_x1.Y_2", "A"};

static const char *const bad[] = {
    ",",        ".",     "a,",   ",a",   "a,,b",   "a.",   ".a",    "a..b",
    "a.,b",     "1a",    "a.1b", "a b",  " a",     "a-b",  "a\nb",  "a;b",
    "a=b",      "--x",   "a/b",  "a\\b", "a'b",    "a(b)", "\x7f",  "*",
    "\xc3\xa4", "a\x01", "a:b",  "a\tb", "os.1,a", "a,1",  "a.b.,c"};

static char text[CELLAR_PRELOAD_MAX + 2];

static enum cellar_code pack(const char *preload)
{
    struct cellar_message hello = wire_example("hello");
    memset(hello.u.hello.preload, 0, sizeof hello.u.hello.preload);
    memcpy(hello.u.hello.preload, preload,
           strnlen(preload, sizeof hello.u.hello.preload));
    return wire_pack(&hello);
}

static enum cellar_code check(const char *preload)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.preload = preload;
    return cellar_spec_check(&spec, NULL);
}

static void names_of_modules_are_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(cellar_preload_valid(good[i], strlen(good[i])));
        assert_int_equal(pack(good[i]), CELLAR_OK);
        assert_int_equal(check(good[i]), CELLAR_OK);
    }
}

static void other_texts_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(cellar_preload_valid(bad[i], strlen(bad[i])));
        assert_int_equal(pack(bad[i]), CELLAR_E_PROTO);
        assert_int_equal(check(bad[i]), CELLAR_E_USAGE);
    }
    assert_false(cellar_preload_valid("a\0b", 3));
}

static void they_are_bounded(void **state)
{
    (void)state;
    memset(text, 'a', CELLAR_PRELOAD_MAX);
    assert_true(cellar_preload_valid(text, CELLAR_PRELOAD_MAX));
    assert_int_equal(pack(text), CELLAR_OK);
    assert_int_equal(check(text), CELLAR_OK);
    text[CELLAR_PRELOAD_MAX] = 'a';
    assert_false(cellar_preload_valid(text, CELLAR_PRELOAD_MAX + 1));
    assert_int_equal(pack(text), CELLAR_E_LIMIT);
    assert_int_equal(check(text), CELLAR_E_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_modules_are_taken),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(they_are_bounded),
    };
    return cmocka_run_group_tests_name("preload", tests, NULL, NULL);
}
