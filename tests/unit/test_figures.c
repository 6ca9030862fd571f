/* What a bench found, as people and programs read it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/bench/report.h"
#include "kernel/bench/samples.h"
#include "kernel/cli/figures.h"

static struct cellar_report report;

static int fresh(void **state)
{
    (void)state;
    report = (struct cellar_report){.count = 0};
    return 0;
}

static void assert_printed(const char *expected)
{
    char text[4096] = "";
    struct cellar_output out;
    int fd = memfd_create("printed", MFD_CLOEXEC);
    cellar_output_init(&out, fd);
    cellar_figures_print(&out, &report);
    cellar_output_done(&out);
    assert_true(pread(fd, text, sizeof(text) - 1, 0) >= 0);
    (void)close(fd);
    assert_string_equal(text, expected);
}

static void assert_shown(const char *key, double value, const char *expected)
{
    char line[128];
    report.count = 0;
    cellar_report_add(&report, key, "it", value);
    (void)snprintf(line, sizeof(line), "%-40s %14s\n", "it", expected);
    assert_printed(line);
}

static void a_key_says_its_unit(void **state)
{
    (void)state;
    assert_shown("p50_us", 142.25, "142.2 us");
    assert_shown("p50_us", 12345, "12.3 ms");
    assert_shown("p50_us", 1.5e6, "1.50 s");
    assert_shown("added_us", -20000, "-20.0 ms");
    assert_shown("bytes_per_s", 2.5e9, "2.50 GB/s");
    assert_shown("bare_bytes_per_s", 2.5e6, "2.5 MB/s");
    assert_shown("200b_write_per_s", 1234567, "1234567 /s");
    assert_shown("pss_bytes", 5 << 20, "5.00 MiB");
    assert_shown("host_bytes", 20 << 10, "20.0 KiB");
    assert_shown("rounds", 2000, "2000");
    assert_shown("ratio_to_bare", 1.234, "1.23");
}

static void what_was_not_measured_says_why(void **state)
{
    (void)state;
    cellar_report_miss(&report, "ipykernel_p50_us", "theirs", "not there");
    assert_printed("theirs                                                "
                   "-  not there\n");
    json_t *root = json_object();
    assert_true(cellar_figures_json(root, &report));
    assert_true(json_is_null(json_object_get(root, "ipykernel_p50_us")));
    const json_t *missing = json_object_get(root, "not_measured");
    assert_string_equal(
        json_string_value(json_object_get(missing, "ipykernel_p50_us")),
        "not there");
    json_decref(root);
}

static void whole_numbers_are_whole_in_json(void **state)
{
    (void)state;
    cellar_report_add(&report, "rounds", "rounds", 2000);
    cellar_report_add(&report, "p50_us", "p50", 142.5);
    json_t *root = json_object();
    assert_true(cellar_figures_json(root, &report));
    assert_true(json_is_integer(json_object_get(root, "rounds")));
    assert_true(json_is_real(json_object_get(root, "p50_us")));
    assert_int_equal(json_object_size(json_object_get(root, "not_measured")),
                     0);
    json_decref(root);
}

static void times_are_two_figures(void **state)
{
    (void)state;
    const struct cellar_bench_times times = {.p50_us = 1, .p99_us = 2};
    cellar_report_times(&report, "bare_", "echo", &times);
    assert_int_equal(report.count, 2);
    assert_true(cellar_report_find(&report, "bare_p50_us")->value == 1);
    assert_true(cellar_report_find(&report, "bare_p99_us")->value == 2);
    assert_string_equal(report.list[1].text, "echo, p99");
}

static void a_ratio_of_what_is_missing_is_missing(void **state)
{
    (void)state;
    cellar_report_add(&report, "p50_us", "p50", 3);
    cellar_report_add(&report, "zero_us", "zero", 0);
    cellar_report_add(&report, "two_us", "two", 2);
    cellar_report_miss(&report, "none_us", "none", "because");
    cellar_report_ratio(&report, "a", "a", "p50_us", "two_us");
    cellar_report_ratio(&report, "b", "b", "p50_us", "none_us");
    cellar_report_ratio(&report, "c", "c", "p50_us", "zero_us");
    cellar_report_ratio(&report, "d", "d", "p50_us", "nobody");
    assert_true(cellar_report_find(&report, "a")->value == 1.5);
    assert_string_equal(cellar_report_find(&report, "b")->why, "because");
    assert_true(cellar_report_find(&report, "c")->why[0] != '\0');
    assert_true(cellar_report_find(&report, "d")->why[0] != '\0');
}

static void one_too_many_is_not_taken(void **state)
{
    (void)state;
    for (int i = 0; i <= CELLAR_REPORT_MAX; i++)
        cellar_report_add(&report, "rounds", "rounds", i);
    assert_int_equal(report.count, CELLAR_REPORT_MAX);
}

/* ---------------------------------------------------------------- samples --
 */

static void percentiles_are_of_the_nearest_rank(void **state)
{
    (void)state;
    struct cellar_samples samples;
    assert_true(cellar_samples_init(&samples, 100));
    assert_true(cellar_samples_percentile(&samples, 50) == 0);
    for (int i = 100; i > 0; i--)
        cellar_samples_add(&samples, i);
    cellar_samples_add(&samples, 1000);
    assert_true(cellar_samples_percentile(&samples, 50) == 50);
    assert_true(cellar_samples_percentile(&samples, 99) == 99);
    assert_true(cellar_samples_times(&samples).max_us == 100);
    cellar_samples_done(&samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_key_says_its_unit, fresh),
        cmocka_unit_test_setup(what_was_not_measured_says_why, fresh),
        cmocka_unit_test_setup(whole_numbers_are_whole_in_json, fresh),
        cmocka_unit_test_setup(times_are_two_figures, fresh),
        cmocka_unit_test_setup(a_ratio_of_what_is_missing_is_missing, fresh),
        cmocka_unit_test_setup(one_too_many_is_not_taken, fresh),
        cmocka_unit_test(percentiles_are_of_the_nearest_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
