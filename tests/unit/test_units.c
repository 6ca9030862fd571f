/* Numbers as people write them: what is read, what is refused, and that what
 * is written is read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "kernel/cli/units.h"

#define COUNT CELLAR_UNIT_COUNT
#define BYTES CELLAR_UNIT_BYTES
#define TIME  CELLAR_UNIT_MILLIS
#define CPUS  CELLAR_UNIT_CPUS

static void numbers_are_read(void **state)
{
    static const struct {
        enum cellar_unit unit;
        const char *text;
        uint64_t value;
    } cases[] = {
        {COUNT, "0", 0},
        {COUNT, "128", 128},
        {COUNT, "18446744073709551615", UINT64_MAX},
        {BYTES, "4096", 4096},
        {BYTES, "512m", UINT64_C(512) << 20},
        {BYTES, "512M", UINT64_C(512) << 20},
        {BYTES, "512MB", UINT64_C(512) << 20},
        {BYTES, "512MiB", UINT64_C(512) << 20},
        {BYTES, "1.5g", UINT64_C(3) << 29},
        {BYTES, "0.5k", 512},
        {BYTES, "7b", 7},
        {BYTES, "16777215t", UINT64_C(16777215) << 40},
        {TIME, "0", 0},
        {TIME, "30s", 30000},
        {TIME, "2", 2000},
        {TIME, "1.5m", 90000},
        {TIME, "2min", 120000},
        {TIME, "250ms", 250},
        {TIME, "0.001s", 1},
        {TIME, "2h", 7200000},
        {TIME, "1d", 86400000},
        {CPUS, "1", 1000},
        {CPUS, "1.5", 1500},
        {CPUS, "0.25", 250},
        {CPUS, "0.0019", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t value = 77;
        print_message("%s\n", cases[i].text);
        assert_int_equal(
            cellar_unit_parse(cases[i].unit, cases[i].text, &value), CELLAR_OK);
        assert_int_equal(value, cases[i].value);
    }
}

static void what_is_no_number_is_refused(void **state)
{
    static const char *const texts[] = {
        "",    "abc",   "nan",  "inf",   "-1",           "+1",    " 1",
        "1 ",  "1 m",   "1.",   ".5",    "1..5",         "1.5.5", "0x10",
        "1e3", "1e308", "12gg", "512mm", "1,5",          "1_000", "m",
        "١",   "1\n",   "1\t",  "--",    "1.0000000001",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (int unit = COUNT; unit <= CPUS; unit++) {
            uint64_t value = 77;
            print_message("'%s'\n", texts[i]);
            assert_int_equal(
                cellar_unit_parse((enum cellar_unit)unit, texts[i], &value),
                CELLAR_E_USAGE);
            assert_int_equal(value, 77);
        }
}

static void a_unit_belongs_to_its_kind(void **state)
{
    uint64_t value = 0;
    (void)state;
    assert_int_equal(cellar_unit_parse(COUNT, "1k", &value), CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(COUNT, "1.5", &value), CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(BYTES, "1s", &value), CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(TIME, "1g", &value), CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(CPUS, "1m", &value), CELLAR_E_USAGE);
}

static void too_much_is_told_from_nonsense(void **state)
{
    static const struct {
        enum cellar_unit unit;
        const char *text;
    } cases[] = {
        {COUNT, "18446744073709551616"},
        {COUNT, "99999999999999999999999999999999999"},
        {BYTES, "16777216t"},
        {BYTES, "18446744073709551615k"},
        {TIME, "18446744073709551615s"},
        {CPUS, "18446744073709551615"},
        {BYTES, "9223372036854775808.5k"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t value = 77;
        assert_int_equal(
            cellar_unit_parse(cases[i].unit, cases[i].text, &value),
            CELLAR_E_LIMIT);
        assert_int_equal(value, 77);
    }
}

/* 0 means no limit: nothing else may become it. */
static void nothing_small_becomes_zero(void **state)
{
    uint64_t value = 77;
    (void)state;
    assert_int_equal(cellar_unit_parse(TIME, "0.0001s", &value),
                     CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(TIME, "0.4ms", &value), CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(CPUS, "0.0001", &value), CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(BYTES, "0.1", &value), CELLAR_E_USAGE);
    assert_int_equal(cellar_unit_parse(TIME, "0.0s", &value), CELLAR_OK);
    assert_int_equal(value, 0);
}

static void what_is_written_is_read_again(void **state)
{
    static const uint64_t values[] = {0,         1,          2,
                                      999,       1000,       1023,
                                      1024,      1500,       60000,
                                      61000,     90000,      3600000,
                                      1048576,   1048577,    536870912,
                                      86400000,  172800001,  1099511627776,
                                      4096,      UINT32_MAX, UINT64_MAX - 1,
                                      UINT64_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        for (int unit = COUNT; unit <= CPUS; unit++) {
            char text[CELLAR_UNIT_TEXT_MAX] = "";
            uint64_t value = 0;
            cellar_unit_write((enum cellar_unit)unit, values[i], text);
            assert_int_equal(
                cellar_unit_parse((enum cellar_unit)unit, text, &value),
                CELLAR_OK);
            assert_int_equal(value, values[i]);
        }
}

static void examples_are_valid(void **state)
{
    (void)state;
    for (int unit = COUNT; unit <= CPUS; unit++) {
        uint64_t value = 0;
        const char *example = cellar_unit_example((enum cellar_unit)unit);
        assert_int_equal(
            cellar_unit_parse((enum cellar_unit)unit, example, &value),
            CELLAR_OK);
        assert_true(value > 0);
    }
}

static void expect_said(enum cellar_unit unit, uint64_t value, const char *text)
{
    char said[CELLAR_UNIT_TEXT_MAX] = "";
    cellar_unit_say(unit, value, said);
    assert_string_equal(said, text);
}

static void numbers_are_said_to_people(void **state)
{
    (void)state;
    expect_said(TIME, 2000, "2 s");
    expect_said(TIME, 1500, "1.5 s");
    expect_said(TIME, 250, "250 ms");
    expect_said(TIME, 90000, "1.5 min");
    expect_said(BYTES, UINT64_C(512) << 20, "512 MiB");
    expect_said(BYTES, 1, "1 byte");
    expect_said(BYTES, 1023, "1023 bytes");
    expect_said(BYTES, UINT64_MAX, "16777215.999 TiB");
    expect_said(CPUS, 1500, "1.5");
    expect_said(COUNT, UINT64_MAX, "18446744073709551615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(a_unit_belongs_to_its_kind),
        cmocka_unit_test(too_much_is_told_from_nonsense),
        cmocka_unit_test(nothing_small_becomes_zero),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(examples_are_valid),
        cmocka_unit_test(numbers_are_said_to_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
