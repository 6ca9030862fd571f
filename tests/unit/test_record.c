/* A session's record: saved whole, amended without a wait for the disk, and
 * made beforehand where a name is to be given quickly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "kernel/record.h"
#include "kernel/spec.h"
#include "session_fixture.h"

static unsigned waits;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    waits++;
    return __real_fsync(fd);
}

static struct cellar_hold hold_of(struct fixture *f, const char *name)
{
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    assert_int_equal(cellar_hold_take(f->state_dir, name, &hold, &f->err),
                     CELLAR_OK);
    return hold;
}

static void save(struct fixture *f, const struct cellar_hold *hold,
                 uint64_t cells)
{
    struct cellar_record record = {.name = "a", .cells = cells};
    assert_int_equal(cellar_record_save(hold, &record, &f->err), CELLAR_OK);
}

static void amend(struct fixture *f, const struct cellar_hold *hold,
                  uint64_t cells)
{
    struct cellar_record record = {.name = "a", .cells = cells};
    assert_int_equal(cellar_record_amend(hold, &record, &f->err), CELLAR_OK);
}

static uint64_t cells_of(struct fixture *f)
{
    struct cellar_record record = {0};
    assert_int_equal(cellar_record_load(f->state_dir, "a", &record, &f->err),
                     CELLAR_OK);
    return record.cells;
}

static void finish(struct fixture *f, struct cellar_hold *hold)
{
    cellar_record_remove(f->state_dir, "a", hold);
    cellar_hold_done(hold);
}

static void a_record_saved_twice_is_amended_without_a_wait(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = hold_of(f, "a");
    save(f, &hold, 1);
    save(f, &hold, 2);
    waits = 0;
    amend(f, &hold, 3);
    assert_int_equal(cells_of(f), 3);
    amend(f, &hold, 4);
    assert_int_equal(cells_of(f), 4);
    assert_int_equal(waits, 0);
    finish(f, &hold);
}

static void what_a_power_cut_may_leave_of_an_amended_one_is_whole(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = hold_of(f, "a");
    save(f, &hold, 1);
    save(f, &hold, 2);
    amend(f, &hold, 3);
    /* The renaming is lost: what was in place is a record. */
    assert_int_equal(
        renameat(hold.dir_fd, "record.new", hold.dir_fd, "record.json"), 0);
    assert_int_equal(cells_of(f), 2);
    finish(f, &hold);
}

static void one_that_was_saved_once_is_amended_on_the_disk(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = hold_of(f, "a");
    save(f, &hold, 1);
    waits = 0;
    amend(f, &hold, 2);
    assert_int_equal(waits, 1);
    assert_int_equal(cells_of(f), 2);
    finish(f, &hold);
}

/* Cut short by whoever was killed, or anything at all. */
static void no_other_file_is_written_over(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = hold_of(f, "a");
    char path[128];
    save(f, &hold, 1);
    save(f, &hold, 2);
    (void)snprintf(path, sizeof path, "%s/sessions/a/record.new", f->state_dir);
    assert_int_equal(truncate(path, 100), 0);
    waits = 0;
    amend(f, &hold, 3);
    assert_int_equal(waits, 1);
    assert_int_equal(cells_of(f), 3);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof path, "%s/owner", f->state_dir);
    struct stat before;
    struct stat after;
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(symlinkat(path, hold.dir_fd, "record.new"), 0);
    struct cellar_record record = {.name = "a"};
    assert_int_not_equal(cellar_record_amend(&hold, &record, &f->err),
                         CELLAR_OK);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(cells_of(f), 3);
    finish(f, &hold);
}

/* ---------------------------------------------------- a pool's takes ---- */

static struct cellar_pool *full_pool(struct fixture *f)
{
    struct cellar_pool *pool = NULL;
    struct cellar_pool_stats stats = {0};
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    assert_int_equal(cellar_pool_new(f->c, &spec, 1, &pool, &f->err),
                     CELLAR_OK);
    for (int i = 0; i < 10000 && stats.ready == 0; i++) {
        (void)cellar_dispatch(f->c, 10);
        cellar_pool_stats(pool, &stats);
    }
    assert_int_equal(stats.ready, 1);
    return pool;
}

static void a_named_take_waits_for_no_disk(void **state)
{
    struct fixture *f = *state;
    struct cellar_record record = {0};
    struct cellar_pool *pool = full_pool(f);
    waits = 0;
    assert_int_equal(cellar_pool_take(pool, "a", &f->s, &f->err), CELLAR_OK);
    assert_int_equal(waits, 0);
    assert_int_equal(cellar_record_load(f->state_dir, "a", &record, &f->err),
                     CELLAR_OK);
    assert_string_equal(record.name, "a");
    assert_string_equal(record.container, "fake1");
    cellar_pool_free(pool);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

/* What it is held under meanwhile is gone with it. */
static void a_lost_session_of_the_name_gives_way(void **state)
{
    struct fixture *f = *state;
    struct cellar_record record = {.name = "a", .lost = "long ago"};
    struct cellar_hold hold = hold_of(f, "a");
    assert_int_equal(cellar_record_save(&hold, &record, &f->err), CELLAR_OK);
    cellar_hold_done(&hold);
    struct cellar_pool *pool = full_pool(f);
    assert_int_equal(cellar_pool_take(pool, "a", &f->s, &f->err), CELLAR_OK);
    assert_int_equal(cellar_record_load(f->state_dir, "a", &record, &f->err),
                     CELLAR_OK);
    assert_string_equal(record.container, "fake1");
    assert_string_equal(record.lost, "");
    cellar_pool_free(pool);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_record_saved_twice_is_amended_without_a_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(
            what_a_power_cut_may_leave_of_an_amended_one_is_whole, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            one_that_was_saved_once_is_amended_on_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(no_other_file_is_written_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_named_take_waits_for_no_disk, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_lost_session_of_the_name_gives_way,
                                        setup, teardown),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
