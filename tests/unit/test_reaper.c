/* Who is alive, and what the dead have left: taken if it is nobody's, and only
 * then. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "kernel/reaper.h"
#include "kernel/record.h"
#include "kernel/supervisor.h"
#include "kernel/wait.h"
#include "session_fixture.h"

static const char dead[] = "0123456789abcdef";

/* -------------------------------------------------------- who is alive -- */

static void a_process_is_alive_until_it_ends(void **state)
{
    struct fixture *f = *state;
    char id[CELLAR_SUPERVISOR_ID_BYTES];
    int fd = -1;
    assert_int_equal(cellar_alive_begin(f->state_dir, id, &fd, &f->err),
                     CELLAR_OK);
    assert_true(cellar_alive_is(f->state_dir, id));
    cellar_alive_sweep(f->state_dir);
    assert_true(cellar_alive_is(f->state_dir, id));
    cellar_alive_end(f->state_dir, id, fd);
    assert_false(cellar_alive_is(f->state_dir, id));
}

static void a_process_that_was_killed_is_dead_and_swept(void **state)
{
    struct fixture *f = *state;
    char id[CELLAR_SUPERVISOR_ID_BYTES];
    char path[128];
    int fd = -1;
    assert_int_equal(cellar_alive_begin(f->state_dir, id, &fd, &f->err),
                     CELLAR_OK);
    (void)snprintf(path, sizeof path, "%s/supervisors/%s", f->state_dir, id);
    close(fd); /* as the kernel does */
    assert_int_equal(access(path, F_OK), 0);
    assert_false(cellar_alive_is(f->state_dir, id));
    cellar_alive_sweep(f->state_dir);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void what_is_no_id_is_dead(void **state)
{
    struct fixture *f = *state;
    static const char *const ids[] = {"",
                                      "../owner",
                                      "0123456789abcdeF",
                                      "0123456789abcde",
                                      "0123456789abcdef0",
                                      "../../../dev/nul"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        assert_false(cellar_alive_is(f->state_dir, ids[i]));
}

/* ------------------------------------------------------- what is taken -- */

static struct cellar_reaper *reaper_new(struct fixture *f, const char *own)
{
    struct cellar_reaper *reaper = NULL;
    assert_int_equal(cellar_reaper_new(f->c, own, &reaper, &f->err), CELLAR_OK);
    return reaper;
}

static struct cellar_container container(struct fixture *f, const char *id,
                                         const char *session,
                                         const char *supervisor,
                                         const char *how)
{
    return (struct cellar_container){.id = id,
                                     .session = session,
                                     .owner = cellar_supervisor_owner(f->c),
                                     .supervisor = supervisor,
                                     .image = "i",
                                     .state = how};
}

static bool takes_as(struct fixture *f, const char *own,
                     const struct cellar_container *what)
{
    struct cellar_reaper *reaper = reaper_new(f, own);
    bool taken = cellar_reaper_look(reaper, what);
    cellar_reaper_free(reaper);
    return taken;
}

static bool takes(struct fixture *f, const char *id, const char *session,
                  const char *supervisor, const char *how)
{
    struct cellar_container what = container(f, id, session, supervisor, how);
    return takes_as(f, NULL, &what);
}

/* Session "b" in container "fake1"; its process has let go of it. */
static void record_b(struct fixture *f)
{
    start_ok(f, "b");
    cellar_close(f->s);
    f->s = NULL;
}

static void stop_b(struct fixture *f)
{
    assert_int_equal(cellar_stop_name(f->c, "b", &f->err), CELLAR_OK);
}

static const char *const states[] = {"created", "running",  "paused",
                                     "exited",  "removing", "dead"};
#define STATES (sizeof states / sizeof *states)

static void what_is_of_another_owner_is_never_taken(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < STATES; i++) {
        struct cellar_container what = container(f, "x", "", dead, states[i]);
        what.owner = "fedcba9876543210";
        assert_false(takes_as(f, NULL, &what));
        what.owner = "";
        assert_false(takes_as(f, NULL, &what));
    }
}

static void what_a_live_process_has_is_never_taken(void **state)
{
    struct fixture *f = *state;
    const char *alive = cellar_supervisor_id(f->c, &f->err);
    for (size_t i = 0; i < STATES; i++) {
        assert_false(takes(f, "x", "", alive, states[i]));
        assert_false(takes(f, "x", "b", alive, states[i]));
    }
}

static void what_the_dead_left_unnamed_or_unrecorded_is_taken(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < STATES; i++) {
        assert_true(takes(f, "x", "", dead, states[i]));
        assert_true(takes(f, "x", "b", dead, states[i]));
        assert_true(takes(f, "x", "", "", states[i]));
        assert_true(takes(f, "x", "../x", dead, states[i]));
    }
}

static void what_a_record_tells_of_is_taken_only_when_it_has_ended(void **state)
{
    struct fixture *f = *state;
    record_b(f);
    assert_true(takes(f, "x", "b", dead, "running"));
    assert_false(takes(f, "fake1", "b", dead, "created"));
    assert_false(takes(f, "fake1", "b", dead, "running"));
    assert_false(takes(f, "fake1", "b", dead, "paused"));
    assert_true(takes(f, "fake1", "b", dead, "exited"));
    assert_true(takes(f, "fake1", "b", dead, "dead"));
    stop_b(f);
}

/* "b" has left the container, or never was there any more. */
static void what_has_live_branches_is_never_taken(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_record branch = {
        .name = "c", .engine = "fake", .container = "fake1", .lane = 2};
    char place[CELLAR_PLACE_MAX];
    assert_int_equal(cellar_hold_take(f->state_dir, "c", &hold, &f->err),
                     CELLAR_OK);
    assert_int_equal(cellar_record_save(&hold, &branch, &f->err), CELLAR_OK);
    cellar_record_place(&branch, place);
    assert_string_equal(place, "fake1/2");
    assert_true(cellar_record_shares(f->state_dir, "b", "fake1"));
    assert_false(cellar_record_shares(f->state_dir, "c", "fake1"));
    assert_false(cellar_record_shares(f->state_dir, "b", "fake"));
    assert_false(cellar_record_shares(f->state_dir, "b", ""));
    for (int i = 0; i < 2; i++) {
        assert_false(takes(f, "fake1", "b", dead, "created"));
        assert_false(takes(f, "fake1", "b", dead, "running"));
        assert_false(takes(f, "fake1", "b", dead, "paused"));
        assert_true(takes(f, "fake1", "b", dead, "exited"));
        assert_true(takes(f, "x", "b", dead, "running"));
        cellar_hold_done(&hold); /* also while somebody has the branch */
    }
    assert_int_equal(cellar_hold_take(f->state_dir, "c", &hold, &f->err),
                     CELLAR_OK);
    (void)snprintf(branch.lost, sizeof branch.lost, "its lease");
    assert_int_equal(cellar_record_save(&hold, &branch, &f->err), CELLAR_OK);
    assert_false(cellar_record_shares(f->state_dir, "b", "fake1"));
    assert_true(takes(f, "fake1", "b", dead, "running"));
    cellar_record_remove(f->state_dir, "c", &hold);
    cellar_hold_done(&hold);
}

static void what_somebody_holds_is_taken_by_him_alone(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_container what = container(f, "fake1", "b", dead, "exited");
    record_b(f);
    assert_int_equal(cellar_hold_take(f->state_dir, "b", &hold, &f->err),
                     CELLAR_OK);
    assert_false(takes_as(f, NULL, &what));
    assert_false(takes_as(f, "a", &what));
    assert_true(takes_as(f, "b", &what));
    cellar_hold_done(&hold);
    stop_b(f);
}

static void what_a_damaged_record_may_tell_of_is_kept(void **state)
{
    struct fixture *f = *state;
    char path[128];
    record_b(f);
    (void)snprintf(path, sizeof path, "%s/sessions/b/record.json",
                   f->state_dir);
    assert_int_equal(truncate(path, 20), 0);
    for (size_t i = 0; i < STATES; i++)
        assert_false(takes(f, "fake1", "b", dead, states[i]));
    stop_b(f);
}

static enum cellar_code reap(struct fixture *f, int count, const char *session);

/* ---------------------------------------------- names that are reserved -- */

/* A session in container "fake1", whatever its directory is called. */
static void record_as(struct fixture *f, const char *name, uint64_t created,
                      struct cellar_hold *hold)
{
    struct cellar_record record = {
        .engine = "fake", .container = "fake1", .created = created};
    (void)snprintf(record.name, sizeof record.name, "%s", name);
    assert_int_equal(cellar_hold_take(f->state_dir, name, hold, &f->err),
                     CELLAR_OK);
    assert_int_equal(cellar_record_save(hold, &record, &f->err), CELLAR_OK);
}

static void remove_record(struct fixture *f, const char *name,
                          struct cellar_hold *hold)
{
    if (hold->dir_fd < 0)
        assert_int_equal(cellar_hold_take(f->state_dir, name, hold, &f->err),
                         CELLAR_OK);
    cellar_record_remove(f->state_dir, name, hold);
    cellar_hold_done(hold);
}

static bool is_recorded(struct fixture *f, const char *name)
{
    struct cellar_record record;
    return cellar_record_load(f->state_dir, name, &record, NULL) == CELLAR_OK;
}

/* Whoever made it is dead; it waits for whoever takes it. */
static void what_stands_ready_is_kept_while_it_lives(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    record_as(f, ".pool-1", 5, &hold);
    cellar_hold_done(&hold);
    assert_false(takes(f, "fake1", ".pool-1", dead, "running"));
    assert_false(takes(f, "fake1", ".pool-1", dead, "created"));
    assert_true(takes(f, "fake1", ".pool-1", dead, "exited"));
    assert_true(takes(f, "x", ".pool-1", dead, "running"));
    assert_true(takes(f, "x", ".pool-2", dead, "running"));
    remove_record(f, ".pool-1", &hold);
}

/* Its container's label does not know of its name, or knows of none. */
static void what_was_taken_from_a_pool_is_its_takers(void **state)
{
    struct fixture *f = *state;
    record_b(f);
    assert_false(takes(f, "fake1", ".pool-1", dead, "running"));
    assert_false(takes(f, "fake1", "", dead, "running"));
    assert_true(takes(f, "fake1", ".pool-1", dead, "exited"));
    char path[128];
    (void)snprintf(path, sizeof path, "%s/sessions/b/record.json",
                   f->state_dir);
    assert_int_equal(truncate(path, 20), 0);
    assert_false(takes(f, "fake1", ".pool-1", dead, "running"));
    assert_false(takes(f, "fake1", "", dead, "running"));
    assert_true(takes(f, "fake1", "", dead, "exited"));
    stop_b(f);
}

static void what_was_used_unnamed_ends_with_its_process(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_container what =
        container(f, "fake1", ".pool-1", dead, "running");
    struct cellar_wait wait = {0};
    record_as(f, ".taken-1", 5, &hold);
    assert_false(takes_as(f, NULL, &what));
    cellar_hold_done(&hold);
    assert_true(takes_as(f, NULL, &what));
    struct cellar_reaper *reaper = reaper_new(f, NULL);
    assert_true(cellar_reaper_look(reaper, &what));
    cellar_reaper_run(reaper, cellar_wait_done, &wait);
    assert_int_equal(cellar_wait_for(f->c, &wait, &f->err), CELLAR_OK);
    assert_int_equal(fake.removes, 1);
    assert_false(is_recorded(f, ".taken-1"));
}

static bool is_dir(struct fixture *f, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/sessions/%s", f->state_dir, name);
    return access(path, F_OK) == 0;
}

/* As whoever is killed before he has a record to write leaves it; or long ago.
 */
static void leave_dir(struct fixture *f, const char *name, bool old)
{
    char path[128];
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    const struct timespec then[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    assert_int_equal(cellar_hold_take(f->state_dir, name, &hold, &f->err),
                     CELLAR_OK);
    cellar_hold_done(&hold);
    (void)snprintf(path, sizeof path, "%s/sessions/%s", f->state_dir, name);
    if (old)
        assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
}

static void what_never_was_recorded_is_swept(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    leave_dir(f, ".pool-1", true);
    leave_dir(f, ".taken-1", true);
    leave_dir(f, ".pool-2", false);
    leave_dir(f, "a", true);
    leave_dir(f, ".pool-3", true);
    assert_int_equal(cellar_hold_take(f->state_dir, ".pool-3", &hold, &f->err),
                     CELLAR_OK);
    assert_int_equal(reap(f, 0, ""), CELLAR_OK);
    assert_false(is_dir(f, ".pool-1"));
    assert_false(is_dir(f, ".taken-1"));
    assert_true(is_dir(f, ".pool-2"));
    assert_true(is_dir(f, ".pool-3"));
    assert_true(is_dir(f, "a"));
    cellar_hold_tidy(f->state_dir, ".pool-3", &hold);
    remove_record(f, ".pool-2", &hold);
    remove_record(f, "a", &hold);
}

/* One that was made just now may not be among the containers yet. */
static void a_ready_one_whose_container_is_gone_is_forgotten(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold old = CELLAR_HOLD_NONE;
    struct cellar_hold fresh = CELLAR_HOLD_NONE;
    struct cellar_hold held = CELLAR_HOLD_NONE;
    record_as(f, ".pool-1", 5, &old);
    cellar_hold_done(&old);
    record_as(f, ".pool-2", (uint64_t)time(NULL), &fresh);
    cellar_hold_done(&fresh);
    record_as(f, ".pool-3", 5, &held);
    record_b(f);
    struct cellar_wait wait = {0};
    cellar_reaper_run(reaper_new(f, NULL), cellar_wait_done, &wait);
    assert_int_equal(cellar_wait_for(f->c, &wait, &f->err), CELLAR_OK);
    assert_false(is_recorded(f, ".pool-1"));
    assert_true(is_recorded(f, ".pool-2"));
    assert_true(is_recorded(f, ".pool-3"));
    assert_true(is_recorded(f, "b"));
    remove_record(f, ".pool-2", &fresh);
    remove_record(f, ".pool-3", &held);
    stop_b(f);
}

/* ------------------------------------------------------------- reaping -- */

static enum cellar_code reap(struct fixture *f, int count, const char *session)
{
    struct cellar_reaper *reaper = reaper_new(f, NULL);
    struct cellar_wait wait = {0};
    for (int i = 0; i < count; i++) {
        struct cellar_container what =
            container(f, "fake1", session, dead, "exited");
        assert_true(cellar_reaper_look(reaper, &what));
    }
    cellar_reaper_run(reaper, cellar_wait_done, &wait);
    f->err = (struct cellar_error){0};
    return cellar_wait_for(f->c, &wait, &f->err);
}

static void all_of_many_are_removed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(reap(f, 0, ""), CELLAR_OK);
    assert_int_equal(fake.removes, 0);
    assert_int_equal(reap(f, 50, ""), CELLAR_OK);
    assert_int_equal(fake.removes, 50);
}

static void a_removal_that_fails_is_told_and_the_others_go_on(void **state)
{
    struct fixture *f = *state;
    fake.remove_code = CELLAR_E_ENGINE;
    assert_int_equal(reap(f, 20, ""), CELLAR_E_ENGINE);
    assert_int_equal(fake.removes, 20);
}

static void a_slow_engine_is_left_to_the_next(void **state)
{
    struct fixture *f = *state;
    fake.answer_ms = 1000;
    assert_int_equal(reap(f, 200, ""), CELLAR_OK);
    assert_in_range(fake.removes, 8, 199);
}

static void an_end_is_written_down_before_it_is_removed(void **state)
{
    struct fixture *f = *state;
    struct cellar_record record;
    record_b(f);
    fake.reason = "its lease was over";
    assert_int_equal(reap(f, 1, "b"), CELLAR_OK);
    assert_int_equal(fake.removes, 1);
    assert_int_equal(cellar_record_load(f->state_dir, "b", &record, &f->err),
                     CELLAR_OK);
    assert_string_equal(record.lost, "its lease was over");
    stop_b(f);
}

static void what_the_engine_does_not_say_is_gone_is_kept(void **state)
{
    struct fixture *f = *state;
    static const enum cellar_vital vitals[] = {
        CELLAR_VITAL_ALIVE, CELLAR_VITAL_PAUSED, CELLAR_VITAL_UNKNOWN};
    struct cellar_record record;
    record_b(f);
    for (size_t i = 0; i < sizeof vitals / sizeof *vitals; i++) {
        fake.vital = vitals[i];
        fake.reason = "it is not gone";
        assert_int_equal(reap(f, 1, "b"), CELLAR_E_ENGINE);
        assert_non_null(strstr(f->err.msg, "it is not gone"));
        assert_int_equal(fake.removes, 0);
        assert_int_equal(
            cellar_record_load(f->state_dir, "b", &record, &f->err), CELLAR_OK);
        assert_string_equal(record.lost, "");
    }
    stop_b(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_process_is_alive_until_it_ends),
        T(a_process_that_was_killed_is_dead_and_swept),
        T(what_is_no_id_is_dead),
        T(what_is_of_another_owner_is_never_taken),
        T(what_a_live_process_has_is_never_taken),
        T(what_the_dead_left_unnamed_or_unrecorded_is_taken),
        T(what_a_record_tells_of_is_taken_only_when_it_has_ended),
        T(what_has_live_branches_is_never_taken),
        T(what_somebody_holds_is_taken_by_him_alone),
        T(what_a_damaged_record_may_tell_of_is_kept),
        T(what_stands_ready_is_kept_while_it_lives),
        T(what_was_taken_from_a_pool_is_its_takers),
        T(what_was_used_unnamed_ends_with_its_process),
        T(what_never_was_recorded_is_swept),
        T(a_ready_one_whose_container_is_gone_is_forgotten),
        T(all_of_many_are_removed),
        T(a_removal_that_fails_is_told_and_the_others_go_on),
        T(a_slow_engine_is_left_to_the_next),
        T(an_end_is_written_down_before_it_is_removed),
        T(what_the_engine_does_not_say_is_gone_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
