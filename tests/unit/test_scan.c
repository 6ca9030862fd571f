#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message.h"

#define CASE(text, code)                                                       \
    {                                                                          \
        (const uint8_t *)(text), sizeof(text) - 1, code                        \
    }

static const struct {
    const uint8_t *bytes;
    size_t len;
    enum cellar_code code;
} cases[] = {
    /* One value of each form is fine, */
    CASE("\x00", CELLAR_OK),
    CASE("\x7f", CELLAR_OK),
    CASE("\xe0", CELLAR_OK),
    CASE("\xff", CELLAR_OK),
    CASE("\xc0", CELLAR_OK),
    CASE("\xc2", CELLAR_OK),
    CASE("\xc3", CELLAR_OK),
    CASE("\xc4\x02"
         "ab",
         CELLAR_OK),
    CASE("\xc5\x00\x01"
         "a",
         CELLAR_OK),
    CASE("\xc6\x00\x00\x00\x01"
         "a",
         CELLAR_OK),
    CASE("\xca\x00\x00\x00\x00", CELLAR_OK),
    CASE("\xcb\x00\x00\x00\x00\x00\x00\x00\x00", CELLAR_OK),
    CASE("\xcc\x80", CELLAR_OK),
    CASE("\xcd\x01\x00", CELLAR_OK),
    CASE("\xce\x00\x01\x00\x00", CELLAR_OK),
    CASE("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", CELLAR_OK),
    CASE("\xd0\x80", CELLAR_OK),
    CASE("\xd1\x80\x00", CELLAR_OK),
    CASE("\xd2\x80\x00\x00\x00", CELLAR_OK),
    CASE("\xd3\x80\x00\x00\x00\x00\x00\x00\x00", CELLAR_OK),
    CASE("\xa0", CELLAR_OK),
    CASE("\xa3"
         "abc",
         CELLAR_OK),
    CASE("\xd9\x01"
         "a",
         CELLAR_OK),
    CASE("\xda\x00\x01"
         "a",
         CELLAR_OK),
    CASE("\xdb\x00\x00\x00\x01"
         "a",
         CELLAR_OK),
    CASE("\x90", CELLAR_OK),
    CASE("\x92\x01\x90", CELLAR_OK),
    CASE("\xdc\x00\x02\x01\x02", CELLAR_OK),
    CASE("\xdd\x00\x00\x00\x01\x01", CELLAR_OK),
    CASE("\x80", CELLAR_OK),
    CASE("\x81\x01\x02", CELLAR_OK),
    CASE("\xde\x00\x01\x01\x02", CELLAR_OK),
    CASE("\xdf\x00\x00\x00\x01\x01\x02", CELLAR_OK),
    /* but not none, not two, not half of one, */
    CASE("", CELLAR_E_PROTO),
    CASE("\x00\x00", CELLAR_E_PROTO),
    CASE("\x90\x00", CELLAR_E_PROTO),
    CASE("\x92\x00", CELLAR_E_PROTO),
    CASE("\x82\x00\x00\x00", CELLAR_E_PROTO),
    CASE("\xcf\x00\x00", CELLAR_E_PROTO),
    CASE("\xc6\x00\x00\x00", CELLAR_E_PROTO),
    CASE("\xdd\x00\x00\x00", CELLAR_E_PROTO),
    /* nor 0xc1 and the ext types, */
    CASE("\xc1", CELLAR_E_PROTO),
    CASE("\x91\xc1", CELLAR_E_PROTO),
    CASE("\xd4\x01\x00", CELLAR_E_PROTO),
    CASE("\xd8\x01"
         "0123456789abcdef",
         CELLAR_E_PROTO),
    CASE("\xc7\x01\x01\x00", CELLAR_E_PROTO),
    CASE("\xc8\x00\x01\x01\x00", CELLAR_E_PROTO),
    CASE("\xc9\xff\xff\xff\xff\x01", CELLAR_E_PROTO),
    /* nor lengths that the payload can't have, */
    CASE("\xa2"
         "a",
         CELLAR_E_PROTO),
    CASE("\xc4\xff", CELLAR_E_PROTO),
    CASE("\xc6\xff\xff\xff\xff", CELLAR_E_PROTO),
    CASE("\xdb\xff\xff\xff\xff"
         "a",
         CELLAR_E_PROTO),
    /* nor headers that announce a multitude. */
    CASE("\xdd\xff\xff\xff\xff", CELLAR_E_LIMIT),
    CASE("\xdf\xff\xff\xff\xff", CELLAR_E_LIMIT),
    CASE("\xdf\x80\x00\x00\x00", CELLAR_E_LIMIT),
    CASE("\xdc\x04\x00", CELLAR_E_LIMIT),
    CASE("\xde\x02\x00", CELLAR_E_LIMIT),
};

static void answers_each_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum cellar_code code = cellar_scan(cases[i].bytes, cases[i].len);
        if (code != cases[i].code)
            fail_msg("case %zu, first byte %02x: %s, not %s", i,
                     cases[i].len ? cases[i].bytes[0] : 0,
                     cellar_code_name(code), cellar_code_name(cases[i].code));
    }
}

/* `depth` arrays around a number. */
static enum cellar_code scan_nested(size_t depth)
{
    uint8_t *bytes = test_malloc(depth + 1);
    memset(bytes, 0x91, depth);
    bytes[depth] = 0;
    enum cellar_code code = cellar_scan(bytes, depth + 1);
    test_free(bytes);
    return code;
}

static void bounds_the_depth(void **state)
{
    (void)state;
    assert_int_equal(scan_nested(CELLAR_DEPTH_MAX), CELLAR_OK);
    assert_int_equal(scan_nested(CELLAR_DEPTH_MAX + 1), CELLAR_E_LIMIT);
    assert_int_equal(scan_nested(33), CELLAR_E_LIMIT);
    assert_int_equal(scan_nested(64), CELLAR_E_LIMIT);
    assert_int_equal(scan_nested(10000), CELLAR_E_LIMIT);
}

/* `count` zeros in an array16, counting the array itself as an item. */
static enum cellar_code scan_items(size_t count)
{
    uint8_t *bytes = test_calloc(count + 3, 1);
    bytes[0] = 0xdc;
    bytes[1] = (uint8_t)(count >> 8);
    bytes[2] = (uint8_t)count;
    enum cellar_code code = cellar_scan(bytes, count + 3);
    test_free(bytes);
    return code;
}

static void bounds_the_items(void **state)
{
    (void)state;
    assert_int_equal(scan_items(CELLAR_ITEMS_MAX - 1), CELLAR_OK);
    assert_int_equal(scan_items(CELLAR_ITEMS_MAX), CELLAR_E_LIMIT);
    assert_int_equal(scan_items(60000), CELLAR_E_LIMIT);
}

/* `count` arrays of 64 zeros in one array: no single one is large. */
static enum cellar_code scan_arrays(uint8_t count)
{
    uint8_t bytes[3 + 16 * (3 + 64)] = {0xdc, 0, count};
    size_t len = 3;
    for (size_t i = 0; i < count; i++) {
        memcpy(bytes + len, (const uint8_t[]){0xdc, 0, 64}, 3);
        len += 3 + 64;
    }
    return cellar_scan(bytes, len);
}

static void bounds_the_items_of_all_containers_together(void **state)
{
    (void)state;
    assert_int_equal(scan_arrays(15), CELLAR_OK);
    assert_int_equal(scan_arrays(16), CELLAR_E_LIMIT);
}

static void thirty_one_nested_giants_are_refused_at_the_first(void **state)
{
    (void)state;
    uint8_t bytes[31 * 5];
    for (size_t i = 0; i < 31; i++)
        memcpy(bytes + 5 * i, (const uint8_t[]){0xdd, 1, 0, 0, 0}, 5);
    assert_int_equal(cellar_scan(bytes, sizeof(bytes)), CELLAR_E_LIMIT);
}

static void a_mebibyte_of_nil_is_refused(void **state)
{
    (void)state;
    const size_t len = 5 + (1 << 20);
    uint8_t *bytes = test_malloc(len);
    memset(bytes, 0xc0, len);
    assert_int_equal(cellar_scan(bytes, len), CELLAR_E_PROTO);
    memcpy(bytes, (const uint8_t[]){0xdd, 0, 16, 0, 0}, 5);
    assert_int_equal(cellar_scan(bytes, len), CELLAR_E_LIMIT);
    test_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_each_case),
        cmocka_unit_test(bounds_the_depth),
        cmocka_unit_test(bounds_the_items),
        cmocka_unit_test(bounds_the_items_of_all_containers_together),
        cmocka_unit_test(thirty_one_nested_giants_are_refused_at_the_first),
        cmocka_unit_test(a_mebibyte_of_nil_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
