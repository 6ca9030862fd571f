/* Ready sessions: of this process's pool, and taken from the state directory;
 * given out once, unused, or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "kernel/ready.h"
#include "kernel/record.h"
#include "kernel/refill.h"
#include "kernel/spec.h"
#include "kernel/wait.h"
#include "session_fixture.h"

/* The fake engine has one container at a time: a pool has one session. */
static struct cellar_pool *pool_of_one(struct fixture *f)
{
    struct cellar_pool *pool = NULL;
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    if (cellar_pool_new(f->c, &spec, 1, &pool, &f->err) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
    return pool;
}

static struct cellar_pool_stats stats_of(const struct cellar_pool *pool)
{
    struct cellar_pool_stats stats;
    cellar_pool_stats(pool, &stats);
    return stats;
}

static void wait_ready(struct fixture *f, struct cellar_pool *pool)
{
    for (int i = 0; i < 10000 && stats_of(pool).ready == 0; i++)
        (void)cellar_dispatch(f->c, 10);
    assert_int_equal(stats_of(pool).ready, 1);
}

/* The last take: the pool ends with it, since it would start another session in
 * the one container there is. */
static void begin_last_take(struct fixture *f, struct cellar_pool *pool,
                            const char *name, struct cellar_wait *wait)
{
    struct cellar_pool_stats before = stats_of(pool);
    if (cellar_pool_take_async(pool, name, cellar_wait_session, wait,
                               &f->err) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
    assert_int_equal(stats_of(pool).taken, before.taken + before.ready);
    assert_int_equal(stats_of(pool).missed, before.ready == 0);
    assert_int_equal(stats_of(pool).ready, 0);
    cellar_pool_free(pool);
}

static void end_take(struct fixture *f, struct cellar_wait *wait)
{
    if (cellar_wait_for(f->c, wait, &f->err) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
    f->s = wait->session;
}

/* As _end_take(): what is started in its place is another container. The engine
 * is slow, so that nothing else happens before. */
static void end_replaced(struct fixture *f, struct cellar_wait *wait)
{
    fake.answer_ms = 5000;
    while (fake.removes == 0)
        (void)cellar_dispatch(f->c, 0);
    fake_next_agent();
    end_take(f, wait);
}

static void take_last(struct fixture *f, struct cellar_pool *pool,
                      const char *name)
{
    struct cellar_wait wait = {0};
    begin_last_take(f, pool, name, &wait);
    end_take(f, &wait);
}

/* It runs a cell, and goes. */
static void use(struct fixture *f)
{
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_OK);
    cellar_result_free(r);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

/* ------------------------------------------------- in this process ------ */

static void a_ready_session_is_taken(void **state)
{
    struct fixture *f = *state;
    struct cellar_pool *pool = pool_of_one(f);
    wait_ready(f, pool);
    assert_int_equal(fake.agent.attached, 1);
    take_last(f, pool, NULL);
    assert_string_equal(cellar_session_name(f->s), "");
    assert_int_equal(fake.agent.attached, 1);
    use(f);
    assert_int_equal(fake.removes, 1);
}

static void a_taken_session_may_have_a_name(void **state)
{
    struct fixture *f = *state;
    struct cellar_record record;
    struct cellar_pool *pool = pool_of_one(f);
    wait_ready(f, pool);
    take_last(f, pool, "a");
    assert_string_equal(cellar_session_name(f->s), "a");
    assert_int_equal(cellar_record_load(f->state_dir, "a", &record, &f->err),
                     CELLAR_OK);
    assert_string_equal(record.container, "fake1");
    assert_int_not_equal(cellar_hold_who(f->state_dir, "a"), 0);
    /* Its container's label has no name: it lives on all the same. */
    cellar_close(f->s);
    fake.listed = "";
    fake.supervisor = "0123456789abcdef";
    fake_next_agent();
    assert_int_equal(start(f, "b"), CELLAR_OK);
    assert_int_equal(fake.removes, 0);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    assert_int_equal(start(f, "a"), CELLAR_E_EXISTS);
    assert_int_equal(cellar_stop_name(f->c, "a", &f->err), CELLAR_OK);
}

static void a_name_that_is_taken_leaves_the_session_ready(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_record other = {
        .name = "a", .engine = "fake", .container = "other"};
    struct cellar_pool *pool = pool_of_one(f);
    assert_int_equal(cellar_hold_take(f->state_dir, "a", &hold, &f->err),
                     CELLAR_OK);
    assert_int_equal(cellar_record_save(&hold, &other, &f->err), CELLAR_OK);
    wait_ready(f, pool);
    assert_int_equal(cellar_pool_take(pool, "a", &f->s, &f->err),
                     CELLAR_E_BUSY);
    cellar_hold_done(&hold);
    assert_int_equal(cellar_pool_take(pool, "a", &f->s, &f->err),
                     CELLAR_E_EXISTS);
    assert_int_equal(cellar_pool_take(pool, "../a", &f->s, &f->err),
                     CELLAR_E_USAGE);
    assert_int_equal(stats_of(pool).ready, 1);
    assert_int_equal(cellar_hold_take(f->state_dir, "a", &hold, &f->err),
                     CELLAR_OK);
    cellar_record_remove(f->state_dir, "a", &hold);
    cellar_hold_done(&hold);
    take_last(f, pool, "a");
    use(f);
}

static void where_none_is_ready_one_is_started(void **state)
{
    struct fixture *f = *state;
    struct cellar_pool *pool = pool_of_one(f);
    take_last(f, pool, "a");
    assert_string_equal(cellar_session_name(f->s), "a");
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void one_that_does_not_answer_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct cellar_pool *pool = pool_of_one(f);
    struct cellar_wait wait = {0};
    wait_ready(f, pool);
    fake.agent.mute = true;
    begin_last_take(f, pool, "a", &wait);
    end_replaced(f, &wait);
    assert_string_equal(cellar_session_name(f->s), "a");
    use(f);
}

/* However that came about: a cell ran in it. */
static void one_that_was_used_is_not_given_out(void **state)
{
    struct fixture *f = *state;
    struct cellar_pool *pool = pool_of_one(f);
    struct cellar_wait wait = {0};
    wait_ready(f, pool);
    fake.agent.last_cell = 1;
    begin_last_take(f, pool, NULL, &wait);
    end_replaced(f, &wait);
    assert_int_equal(cellar_session_cells(f->s), 0);
    use(f);
}

static void one_that_is_lost_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct cellar_pool *pool = pool_of_one(f);
    wait_ready(f, pool);
    fake.reason = "somebody removed it";
    fake.agent.gone = true;
    for (int i = 0; i < 10000 && !stats_of(pool).trouble; i++)
        (void)cellar_dispatch(f->c, 10);
    assert_non_null(strstr(stats_of(pool).trouble, "somebody removed it"));
    assert_int_equal(stats_of(pool).ready, 0);
    fake_next_agent();
    wait_ready(f, pool);
    assert_null(stats_of(pool).trouble);
    cellar_pool_free(pool);
}

static void a_start_that_fails_is_told_and_tried_again(void **state)
{
    struct fixture *f = *state;
    fake.start_code = CELLAR_E_ENGINE;
    struct cellar_pool *pool = pool_of_one(f);
    for (int i = 0; i < 10000 && !stats_of(pool).trouble; i++)
        (void)cellar_dispatch(f->c, 10);
    assert_non_null(stats_of(pool).trouble);
    fake.start_code = CELLAR_OK;
    wait_ready(f, pool);
    assert_null(stats_of(pool).trouble);
    cellar_pool_free(pool);
}

static void what_nobody_took_goes_with_the_pool(void **state)
{
    struct fixture *f = *state;
    struct cellar_pool *pool = pool_of_one(f);
    wait_ready(f, pool);
    cellar_pool_free(pool);
    for (int i = 0; i < 10000 && fake.removes == 0; i++)
        (void)cellar_dispatch(f->c, 10);
    assert_int_equal(fake.removes, 1);
    /* Also while it is being started. */
    fake_next_agent();
    fake.answer_ms = 5000;
    pool = pool_of_one(f);
    while (stats_of(pool).starting == 0)
        (void)cellar_dispatch(f->c, 10);
    cellar_pool_free(pool);
    cellar_pool_free(NULL);
}

static void a_pool_has_bounds(void **state)
{
    struct fixture *f = *state;
    struct cellar_pool *pool = NULL;
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    assert_int_equal(cellar_pool_new(f->c, &spec, 0, &pool, &f->err),
                     CELLAR_E_USAGE);
    assert_int_equal(
        cellar_pool_new(f->c, &spec, CELLAR_POOL_MAX + 1, &pool, &f->err),
        CELLAR_E_USAGE);
    spec.name = "a";
    assert_int_equal(cellar_pool_new(f->c, &spec, 1, &pool, &f->err),
                     CELLAR_E_USAGE);
    spec.name = NULL;
    spec.pids = 0;
    assert_int_equal(cellar_pool_new(f->c, &spec, 1, &pool, &f->err),
                     CELLAR_E_USAGE);
    assert_null(pool);
}

/* ------------------------------------------- in the state directory ----- */

static char stand[CELLAR_NAME_BYTES_MAX + 1];

static void note_stand(void *user, const struct cellar_record *record)
{
    (void)user;
    if (cellar_name_is_ready(record->name))
        (void)snprintf(stand, sizeof stand, "%s", record->name);
}

static enum cellar_code refill(struct fixture *f,
                               const struct cellar_spec *spec, size_t size,
                               struct cellar_refilled *told)
{
    const struct cellar_refill_ask ask = {.size = size};
    return cellar_refill(f->c, spec, &ask, told, &f->err);
}

/* One of the default spec, which the engine lists from then on. */
static void fill(struct fixture *f)
{
    struct cellar_spec spec;
    struct cellar_refilled told = {0};
    cellar_spec_init(&spec);
    if (refill(f, &spec, 1, &told) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
    assert_int_equal(told.ready, 1);
    stand[0] = '\0';
    assert_int_equal(cellar_record_each(f->state_dir, note_stand, NULL, NULL),
                     CELLAR_OK);
    assert_true(cellar_name_is_ready(stand));
    fake.listed = stand;
}

static enum cellar_code take(struct fixture *f, const char *name)
{
    struct cellar_spec spec;
    struct cellar_wait wait = {0};
    cellar_spec_init(&spec);
    spec.name = name;
    enum cellar_code code = cellar_ready_start_async(
        f->c, &spec, cellar_wait_session, &wait, &f->err);
    if (code == CELLAR_OK)
        code = cellar_wait_for(f->c, &wait, &f->err);
    f->s = wait.session;
    return code;
}

static void forget_pools(struct fixture *f)
{
    char path[128];
    size_t removed = 0;
    fake.listed = NULL;
    assert_int_equal(cellar_ready_clear(f->c, &removed, &f->err), CELLAR_OK);
    (void)snprintf(path, sizeof path, "%s/pools", f->state_dir);
    assert_int_equal(rmdir(path), 0);
}

static void one_that_stands_there_is_taken_by_its_name(void **state)
{
    struct fixture *f = *state;
    fill(f);
    assert_int_equal(take(f, "a"), CELLAR_OK);
    assert_int_equal(fake.attaches, 1);
    assert_string_equal(cellar_session_name(f->s), "a");
    struct cellar_record record;
    assert_int_equal(cellar_record_load(f->state_dir, stand, &record, NULL),
                     CELLAR_E_NOT_FOUND);
    assert_int_equal(cellar_record_load(f->state_dir, "a", &record, NULL),
                     CELLAR_OK);
    use(f);
    forget_pools(f);
}

static void one_that_is_used_unnamed_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    fill(f);
    assert_int_equal(take(f, NULL), CELLAR_OK);
    assert_int_equal(fake.attaches, 1);
    assert_string_equal(cellar_session_name(f->s), "");
    use(f);
    forget_pools(f);
}

static void one_that_somebody_holds_is_left_to_him(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    fill(f);
    assert_int_equal(cellar_hold_take(f->state_dir, stand, &hold, &f->err),
                     CELLAR_OK);
    fake_next_agent();
    assert_int_equal(take(f, "a"), CELLAR_OK);
    assert_int_equal(fake.attaches, 0);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    cellar_hold_done(&hold);
    forget_pools(f);
}

static void one_that_has_ended_or_is_of_another_image_is_not_taken(void **state)
{
    struct fixture *f = *state;
    static const char *const states[] = {"exited", "paused", "created"};
    fill(f);
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        fake.state = states[i];
        fake_next_agent();
        assert_int_equal(take(f, NULL), CELLAR_OK);
        assert_int_equal(fake.attaches, 0);
        assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    }
    struct cellar_container container = {.session = stand,
                                         .owner = fake.owner,
                                         .image = "i",
                                         .state = "running"};
    char key[CELLAR_READY_KEY_BYTES];
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    cellar_ready_key(f->c, &spec, key);
    assert_true(cellar_ready_fits(&container, fake.owner, key));
    container.image = "sha256:0123";
    assert_false(cellar_ready_fits(&container, fake.owner, key));
    container.image = "i";
    container.owner = "fedcba9876543210";
    assert_false(cellar_ready_fits(&container, fake.owner, key));
    forget_pools(f);
}

static void what_is_gone_when_it_is_taken_is_started(void **state)
{
    struct fixture *f = *state;
    fill(f);
    fake.attach_code = CELLAR_E_LOST;
    fake_next_agent();
    assert_int_equal(take(f, "a"), CELLAR_OK);
    assert_int_equal(fake.attaches, 1);
    assert_string_equal(cellar_session_name(f->s), "a");
    fake.listed = NULL;
    use(f);
    forget_pools(f);
}

static void the_last_failure_is_kept_until_a_success(void **state)
{
    struct fixture *f = *state;
    struct cellar_spec spec;
    char key[CELLAR_READY_KEY_BYTES];
    char text[CELLAR_TROUBLE_MAX];
    struct cellar_refilled told = {0};
    cellar_spec_init(&spec);
    cellar_ready_key(f->c, &spec, key);
    assert_false(cellar_refill_trouble(f->state_dir, key, text));
    fake.start_code = CELLAR_E_ENGINE;
    assert_int_equal(refill(f, &spec, 2, &told), CELLAR_E_ENGINE);
    assert_true(cellar_refill_trouble(f->state_dir, key, text));
    assert_non_null(strstr(text, spec.image));
    fake.start_code = CELLAR_OK;
    fill(f);
    assert_false(cellar_refill_trouble(f->state_dir, key, text));
    assert_int_equal(refill(f, &spec, CELLAR_READY_MAX + 1, &told),
                     CELLAR_E_USAGE);
    forget_pools(f);
}

/* What makes a session another one makes its pool another one. */
static void a_pools_key_has_all_that_a_session_is(void **state)
{
    struct fixture *f = *state;
    struct cellar_spec specs[11];
    char keys[11][CELLAR_READY_KEY_BYTES];
    for (size_t i = 0; i < 11; i++)
        cellar_spec_init(&specs[i]);
    specs[1].image = "other";
    specs[2].runtime = "runsc";
    specs[3].network = "net";
    specs[4].preload = "json";
    specs[5].memory_bytes++;
    specs[6].mounts[0] = "/a:/b";
    specs[7].mounts[1] = "/a:/b";
    specs[8].allow[0] = "seccomp";
    specs[9].checkpoint = CELLAR_CHECKPOINT_OFF;
    specs[10].tmp_files++;
    for (size_t i = 0; i < 11; i++) {
        cellar_ready_key(f->c, &specs[i], keys[i]);
        assert_int_equal(strlen(keys[i]), CELLAR_READY_KEY_BYTES - 1);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(keys[i], keys[k]);
    }
    specs[1] = specs[0];
    specs[1].name = "a";
    specs[1].timeout_ms++;
    specs[1].lease_ms++;
    specs[1].lifetime_ms++;
    specs[1].grace_ms++;
    specs[1].queue_cells++;
    specs[1].output_bytes++;
    cellar_ready_key(f->c, &specs[1], keys[1]);
    assert_string_equal(keys[0], keys[1]);
}

static void reserved_names_are_nobodys_to_give(void **state)
{
    char name[CELLAR_NAME_BYTES_MAX + 1];
    static const char *const none[] = {"",       "a",         ".",
                                       "..",     ".pool",     ".pool-../x",
                                       ".poolx", ".pool-a/b", "pool-0"};
    (void)state;
    cellar_ready_name("0123456789abcdef", name);
    assert_true(cellar_name_is_ready(name));
    assert_false(cellar_name_is_taken(name));
    assert_true(cellar_ready_is_of(name, "0123456789abcdef"));
    assert_false(cellar_ready_is_of(name, "0123456789abcdee"));
    assert_int_equal(cellar_name_check(name, NULL), CELLAR_E_USAGE);
    assert_true(cellar_name_is_taken(CELLAR_TAKEN_PREFIX "01"));
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(cellar_name_is_reserved(none[i]));
}

/* ------------------------------------------------------------- moving --- */

static void record(struct fixture *f, const char *name,
                   struct cellar_hold *hold)
{
    struct cellar_record made = {.engine = "fake", .container = "fake1"};
    (void)snprintf(made.name, sizeof made.name, "%s", name);
    assert_int_equal(cellar_hold_take(f->state_dir, name, hold, &f->err),
                     CELLAR_OK);
    assert_int_equal(cellar_record_save(hold, &made, &f->err), CELLAR_OK);
}

static void a_move_is_whole_or_not_at_all(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_hold other = CELLAR_HOLD_NONE;
    struct cellar_record got;
    record(f, ".pool-1", &hold);
    /* Somebody has the name: held, then recorded. */
    assert_int_equal(cellar_hold_take(f->state_dir, "a", &other, &f->err),
                     CELLAR_OK);
    assert_int_equal(cellar_record_move(f->state_dir, ".pool-1", "a", &f->err),
                     CELLAR_E_BUSY);
    cellar_hold_tidy(f->state_dir, "a", &other);
    record(f, "a", &other);
    cellar_hold_done(&other);
    assert_int_equal(cellar_record_move(f->state_dir, ".pool-1", "a", &f->err),
                     CELLAR_E_EXISTS);
    assert_int_equal(cellar_record_load(f->state_dir, ".pool-1", &got, NULL),
                     CELLAR_OK);
    /* The lock goes along. */
    assert_int_equal(cellar_record_move(f->state_dir, ".pool-1", "b", &f->err),
                     CELLAR_OK);
    assert_int_equal(cellar_hold_take(f->state_dir, "b", &other, &f->err),
                     CELLAR_E_BUSY);
    assert_int_equal(cellar_record_load(f->state_dir, ".pool-1", &got, NULL),
                     CELLAR_E_NOT_FOUND);
    assert_int_equal(cellar_record_load(f->state_dir, "b", &got, NULL),
                     CELLAR_OK);
    assert_string_equal(got.name, "b");
    /* And whoever asks for the old name then does not get the new one's. */
    cellar_hold_done(&hold);
    assert_int_equal(cellar_hold_take(f->state_dir, ".pool-1", &other, &f->err),
                     CELLAR_OK);
    assert_int_equal(cellar_hold_take(f->state_dir, "b", &hold, &f->err),
                     CELLAR_OK);
    cellar_hold_tidy(f->state_dir, ".pool-1", &other);
    cellar_record_remove(f->state_dir, "b", &hold);
    cellar_hold_done(&hold);
    assert_int_equal(cellar_hold_take(f->state_dir, "a", &other, &f->err),
                     CELLAR_OK);
    cellar_record_remove(f->state_dir, "a", &other);
    cellar_hold_done(&other);
}

static void a_records_own_name_counts_where_it_is_no_pools(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_record got;
    char from[128], to[128];
    record(f, "a", &hold);
    (void)snprintf(from, sizeof from, "%s/sessions/a", f->state_dir);
    (void)snprintf(to, sizeof to, "%s/sessions/b", f->state_dir);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(cellar_record_load(f->state_dir, "b", &got, &f->err),
                     CELLAR_E_SYS);
    cellar_record_remove(f->state_dir, "b", &hold);
    cellar_hold_done(&hold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_ready_session_is_taken),
        T(a_taken_session_may_have_a_name),
        T(a_name_that_is_taken_leaves_the_session_ready),
        T(where_none_is_ready_one_is_started),
        T(one_that_does_not_answer_is_replaced),
        T(one_that_was_used_is_not_given_out),
        T(one_that_is_lost_is_replaced),
        T(a_start_that_fails_is_told_and_tried_again),
        T(what_nobody_took_goes_with_the_pool),
        T(a_pool_has_bounds),
        T(one_that_stands_there_is_taken_by_its_name),
        T(one_that_is_used_unnamed_leaves_nothing),
        T(one_that_somebody_holds_is_left_to_him),
        T(one_that_has_ended_or_is_of_another_image_is_not_taken),
        T(what_is_gone_when_it_is_taken_is_started),
        T(the_last_failure_is_kept_until_a_success),
        T(a_pools_key_has_all_that_a_session_is),
        T(reserved_names_are_nobodys_to_give),
        T(a_move_is_whole_or_not_at_all),
        T(a_records_own_name_counts_where_it_is_no_pools),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
