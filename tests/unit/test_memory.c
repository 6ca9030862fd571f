/* Numbers in the kernel's text files, and when memory counts as short. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime-image/agent/figures.h"
#include "runtime-image/agent/memory.h"

#define MIB  (1ull << 20)
#define NONE (-1)

static int file_of(const char *text)
{
    int fd = memfd_create("figures", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

/* --------------------------------------------------------------- figures -- */

static uint64_t figure(const char *text, const char *key)
{
    char read_text[CELLAR_FIGURES_MAX];
    int fd = file_of(text);
    cellar_figures_read(fd, read_text);
    close(fd);
    return cellar_figure(read_text, key);
}

static void a_figure_stands_behind_its_key(void **state)
{
    (void)state;
    static const char stat[] = "anon 4096\nfile 12\ninactive_anon 7\n";
    assert_int_equal(figure(stat, "\nanon "), 4096);
    assert_int_equal(figure(stat, "\nfile "), 12);
    assert_int_equal(figure(stat, "\nrss "), 0);
    assert_int_equal(figure("VmHWM:\t    9144 kB\n", "\nVmHWM:"), 9144);
    assert_int_equal(figure("1048576\n", "\n"), 1048576);
    assert_int_equal(figure("max\n", "\n"), 0);
    assert_int_equal(figure("", "\n"), 0);
    assert_int_equal(figure("18446744073709551615\n", "\n"), UINT64_MAX);
}

static void a_file_is_read_anew_each_time(void **state)
{
    (void)state;
    char text[CELLAR_FIGURES_MAX];
    int fd = file_of("1\n");
    cellar_figures_read(fd, text);
    assert_int_equal(cellar_figure(text, "\n"), 1);
    assert_int_equal(pwrite(fd, "2\n", 2, 0), 2);
    cellar_figures_read(fd, text);
    assert_int_equal(cellar_figure(text, "\n"), 2);
    close(fd);
}

static void what_cannot_be_read_has_no_figures(void **state)
{
    (void)state;
    static const char *const nowhere[] = {"/nowhere/a", "/nowhere/b"};
    char text[CELLAR_FIGURES_MAX];
    int fd = cellar_figures_open(nowhere, 2);
    assert_int_equal(fd, NONE);
    memset(text, '7', sizeof(text));
    cellar_figures_read(fd, text);
    assert_string_equal(text, "\n");
}

static void the_first_file_that_is_there_is_opened(void **state)
{
    (void)state;
    static const char *const paths[] = {"/nowhere/a", "/proc/self/status",
                                        "/dev/zero"};
    char text[CELLAR_FIGURES_MAX];
    int fd = cellar_figures_open(paths, 3);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cellar_figures_read(fd, text);
    close(fd);
    assert_int_equal(cellar_figure(text, "\nPid:"), getpid());
}

static void a_long_file_is_cut_off(void **state)
{
    (void)state;
    char text[CELLAR_FIGURES_MAX];
    static char much[3 * CELLAR_FIGURES_MAX];
    memset(much, 'a', sizeof(much) - 1);
    int fd = file_of(much);
    memset(text, 'x', sizeof(text));
    cellar_figures_read(fd, text);
    close(fd);
    assert_int_equal(strlen(text), sizeof(text) - 1);
}

/* ---------------------------------------------------------------- memory -- */

/* Whether it is short with so much in use, and such a memory.stat. */
static bool is_short(uint64_t limit, uint64_t used, const char *stat)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu\n", (unsigned long long)used);
    const struct cellar_memory memory = {
        .usage_fd = file_of(text), .stat_fd = file_of(stat), .limit = limit};
    bool answer = cellar_memory_spare(&memory) == 0;
    close(memory.usage_fd);
    close(memory.stat_fd);
    return answer;
}

static void memory_is_short_when_an_eighth_is_left(void **state)
{
    (void)state;
    assert_false(is_short(800 * MIB, 0, ""));
    assert_false(is_short(800 * MIB, 700 * MIB, ""));
    assert_true(is_short(800 * MIB, 700 * MIB + 1, ""));
    assert_true(is_short(800 * MIB, 800 * MIB, ""));
}

static void what_is_to_spare_is_told_in_bytes(void **state)
{
    struct cellar_memory memory = {.stat_fd = file_of("inactive_file 1024\n"),
                                   .limit = 800 * MIB};
    (void)state;
    memory.usage_fd = file_of("734002176\n"); /* 700 MiB - 1 KiB */
    assert_int_equal(cellar_memory_spare(&memory), 1025);
    close(memory.usage_fd);
    memory.usage_fd = file_of("734003300\n"); /* 700 MiB + 100 */
    assert_int_equal(cellar_memory_spare(&memory), 925);
    close(memory.usage_fd);
    close(memory.stat_fd);
}

static void small_limits_keep_a_reserve_too(void **state)
{
    (void)state;
    assert_false(is_short(64 * MIB, 48 * MIB, ""));
    assert_true(is_short(64 * MIB, 48 * MIB + 1, ""));
    /* all of it would be reserve */
    assert_false(is_short(16 * MIB, 16 * MIB, ""));
}

static void pages_of_files_are_as_good_as_free(void **state)
{
    (void)state;
    static const char stat[] = "anon 1\n"
                               "inactive_anon 1048576\n"
                               "inactive_file 1048576\n"
                               "active_file 2097152\n";
    assert_false(is_short(800 * MIB, 703 * MIB, stat));
    assert_true(is_short(800 * MIB, 703 * MIB + 1, stat));
}

static void without_a_limit_it_is_never_short(void **state)
{
    (void)state;
    const struct cellar_memory blind = {
        .usage_fd = NONE, .stat_fd = NONE, .limit = 800 * MIB};
    assert_false(is_short(0, 1ull << 50, ""));
    assert_int_not_equal(cellar_memory_spare(&blind), 0);
    assert_int_equal(cellar_memory_private(&blind), 0);
}

static uint64_t private_of(const char *stat)
{
    const struct cellar_memory memory = {.usage_fd = NONE,
                                         .stat_fd = file_of(stat)};
    uint64_t bytes = cellar_memory_private(&memory);
    close(memory.stat_fd);
    return bytes;
}

static void private_memory_has_a_name_in_each_version(void **state)
{
    (void)state;
    assert_int_equal(private_of("anon 4096\nfile 1\n"), 4096);
    assert_int_equal(private_of("cache 1\nrss 8192\nrss_huge 2\n"), 8192);
    assert_int_equal(private_of("file 1\n"), 0);
}

/* Whatever this machine's control groups look like. */
static void init_finds_the_files_or_does_without(void **state)
{
    (void)state;
    struct cellar_memory memory;
    cellar_memory_init(&memory);
    assert_true(memory.usage_fd >= NONE && memory.stat_fd >= NONE);
    (void)cellar_memory_spare(&memory);
    if (memory.usage_fd >= 0)
        close(memory.usage_fd);
    if (memory.stat_fd >= 0)
        close(memory.stat_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_figure_stands_behind_its_key),
        cmocka_unit_test(a_file_is_read_anew_each_time),
        cmocka_unit_test(what_cannot_be_read_has_no_figures),
        cmocka_unit_test(the_first_file_that_is_there_is_opened),
        cmocka_unit_test(a_long_file_is_cut_off),
        cmocka_unit_test(memory_is_short_when_an_eighth_is_left),
        cmocka_unit_test(what_is_to_spare_is_told_in_bytes),
        cmocka_unit_test(small_limits_keep_a_reserve_too),
        cmocka_unit_test(pages_of_files_are_as_good_as_free),
        cmocka_unit_test(without_a_limit_it_is_never_short),
        cmocka_unit_test(private_memory_has_a_name_in_each_version),
        cmocka_unit_test(init_finds_the_files_or_does_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
