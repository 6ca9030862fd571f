/* A whole session with no memory: started, a cell run, forked, reset, stopped,
 * on an engine and a loop of the test's own. Whoever waits is told once, and
 * nothing is left behind. */
#include "oom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/sign.h"
#include "tests/fuzz/fake_loop.h"
#include "tests/fuzz/puppet.h"

static char state_dir[64];

static struct {
    struct cellar *c;
    struct cellar_session *s;
    unsigned opened, ended, forked, reset, stopped;
    bool failed; /* any of them */
} run;

/* ----------------------------------------------------------- the agent -- */

static void answer_run(uint64_t cell)
{
    struct cellar_message output = {
        .type = CELLAR_MSG_OUTPUT,
        .cell = cell,
        .u.output = {.stream = 1, .data = {(const uint8_t *)"printed", 7}}};
    struct cellar_message display = {.type = CELLAR_MSG_DISPLAY, .cell = cell};
    struct cellar_message done = {.type = CELLAR_MSG_DONE, .cell = cell};
    struct cellar_mime_part part = {{(const uint8_t *)"text/plain", 10},
                                    {(const uint8_t *)"42", 2}};
    display.u.display.count = 1;
    display.u.display.parts[0] = part;
    done.u.done.parts = 1;
    done.u.done.result[0] = part;
    puppet_say(&output);
    puppet_say(&display);
    puppet_say(&done);
}

static void answer_fork(void)
{
    struct cellar_message reply = {.type = CELLAR_MSG_REPLY};
    reply.u.reply.request = CELLAR_MSG_FORK;
    reply.u.reply.ok = true;
    reply.u.reply.lane = 3;
    puppet_say(&reply);
}

static void on_message(const struct cellar_message *msg)
{
    if (msg->type == CELLAR_MSG_HELLO) {
        puppet_welcome();
        puppet_ready(1);
    } else if (msg->type == CELLAR_MSG_RUN) {
        answer_run(msg->cell);
    } else if (msg->type == CELLAR_MSG_FORK) {
        answer_fork();
    } else if (msg->type == CELLAR_MSG_RESET) {
        puppet_ready(2);
    }
}

/* ------------------------------------------------------------ the user -- */

static void on_opened(void *user, struct cellar_session *s,
                      const struct cellar_error *err)
{
    (void)user;
    assert_true(!s == !!err);
    run.s = s;
    run.opened++;
    run.failed |= err != NULL;
}

static void on_result(void *user, struct cellar_result *result,
                      const struct cellar_error *err)
{
    (void)user;
    assert_true(!result == !!err);
    run.ended++;
    run.failed |= err || result->status != CELLAR_STATUS_OK;
    if (result && result->status == CELLAR_STATUS_OK && !result->truncated) {
        assert_string_equal(result->stdout_text, "printed");
        assert_string_equal(cellar_result_text(result), "42");
        assert_int_equal(result->display_count, 1);
    }
    cellar_result_free(result);
}

static void on_reset(void *user, struct cellar_session *s,
                     const struct cellar_error *err)
{
    (void)user;
    (void)s;
    run.reset++;
    run.failed |= err != NULL;
}

static void on_forked(void *user, const struct cellar_moment *moment,
                      const struct cellar_error *err)
{
    (void)user;
    assert_true(!moment == !!err);
    run.forked++;
    run.failed |= err != NULL;
}

static void on_stopped(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    (void)user;
    (void)err;
    assert_null(s);
    run.stopped++;
}

static void wait_for(const unsigned *told)
{
    for (int i = 0; i < 10000 && !*told; i++)
        (void)cellar_dispatch(run.c, 1000);
    assert_int_equal(*told, 1);
}

/* How many of the two there are; none any more. */
static unsigned drop_branches(const char *const *names)
{
    unsigned count = 0;
    oom_pause(true);
    for (size_t i = 0; i < 2; i++) {
        struct cellar_hold hold = CELLAR_HOLD_NONE;
        struct cellar_record record;
        if (cellar_record_load(state_dir, names[i], &record, NULL) != CELLAR_OK)
            continue;
        assert_int_equal(record.lane, 3 + i);
        assert_int_equal(cellar_hold_take(state_dir, names[i], &hold, NULL),
                         CELLAR_OK);
        cellar_record_remove(state_dir, names[i], &hold);
        cellar_hold_done(&hold);
        count++;
    }
    oom_pause(false);
    return count;
}

static enum cellar_code fork_it(struct cellar_error *err)
{
    static const char *const names[] = {"twig", "sprig"};
    enum cellar_code code =
        cellar_fork_async(run.s, names, 2, on_forked, NULL, err);
    if (code == CELLAR_OK)
        wait_for(&run.forked);
    unsigned count = drop_branches(names);
    assert_true(count == 0 || count == 2);
    assert_true(code == CELLAR_OK || count == 0);
    return code;
}

static enum cellar_code use(struct cellar_error *err)
{
    struct cellar_cell cell = {.code = "print('printed'); 42"};
    enum cellar_code code =
        cellar_run_async(run.s, &cell, on_result, NULL, err);
    if (code != CELLAR_OK)
        return code;
    wait_for(&run.ended);
    code = fork_it(err);
    if (code != CELLAR_OK)
        return code;
    code = cellar_reset_async(run.s, on_reset, NULL, err);
    if (code == CELLAR_OK)
        wait_for(&run.reset);
    return code;
}

static enum cellar_code live(struct cellar_error *err)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.name = "tour";
    enum cellar_code code =
        cellar_start_async(run.c, &spec, on_opened, NULL, err);
    if (code != CELLAR_OK)
        return code;
    wait_for(&run.opened);
    if (!run.s)
        return CELLAR_E_NOMEM;
    code = use(err);
    struct cellar_error ignored;
    if (cellar_stop_async(run.s, on_stopped, NULL, &ignored) == CELLAR_OK)
        wait_for(&run.stopped);
    /* A session that lost its agent for want of memory is lost, and says so. */
    return code != CELLAR_OK || run.failed ? CELLAR_E_NOMEM : CELLAR_OK;
}

/* One that stood ready. */
static enum cellar_code live_pooled(struct cellar_error *err)
{
    struct cellar_pool *pool = NULL;
    struct cellar_pool_stats stats = {0};
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    enum cellar_code code = cellar_pool_new(run.c, &spec, 1, &pool, err);
    if (code != CELLAR_OK)
        return code;
    for (int i = 0; i < 10000 && !stats.ready && !stats.trouble; i++) {
        (void)cellar_dispatch(run.c, 1000);
        cellar_pool_stats(pool, &stats);
    }
    bool failed = stats.trouble != NULL;
    code = cellar_pool_take_async(pool, "tour", on_opened, NULL, err);
    cellar_pool_free(pool);
    if (code != CELLAR_OK)
        return code;
    wait_for(&run.opened);
    if (!run.s)
        return CELLAR_E_NOMEM;
    code = use(err);
    struct cellar_error ignored;
    if (cellar_stop_async(run.s, on_stopped, NULL, &ignored) == CELLAR_OK)
        wait_for(&run.stopped);
    return code != CELLAR_OK || run.failed || failed ? CELLAR_E_NOMEM
                                                     : CELLAR_OK;
}

static void check_state_is_empty(void)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/sessions", state_dir);
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof(path), "%s/supervisors", state_dir);
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof(path), "%s/journal.db", state_dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/owner", state_dir);
    (void)unlink(path);
}

static enum cellar_code session(void *user)
{
    struct cellar_config config = {.state_dir = state_dir};
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code (*const *lives)(struct cellar_error *) = user;
    memset(&run, 0, sizeof(run));
    oom_pause(true);
    puppet_init();
    puppet.on_message = on_message;
    puppet.quiet = oom_pause;
    fake_loop = (struct fake_loop){.turn = puppet_turn, .now_us = 1000000};
    oom_pause(false);
    enum cellar_code code =
        cellar_supervisor_new(&config, puppet_open, &run.c, &err);
    bool made = code == CELLAR_OK;
    if (made) {
        code = (*lives)(&err);
        cellar_free(run.c);
    }
    assert_false(puppet.running);
    assert_false(puppet.attached);
    assert_false(puppet.bad_host);
    assert_int_equal(fake_loop.handles, 0);
    puppet_done();
    if (made)
        check_state_is_empty();
    return code;
}

static void sweep(enum cellar_code (*lives)(struct cellar_error *err))
{
    assert_int_equal(cellar_sign_init(), CELLAR_OK);
    (void)snprintf(state_dir, sizeof(state_dir), "/tmp/cellar-oom-XXXXXX");
    assert_non_null(mkdtemp(state_dir));
    oom_sweep(session, &lives);
    assert_int_equal(rmdir(state_dir), 0);
}

static void a_session_lives_or_ends_and_says_so(void **state)
{
    (void)state;
    sweep(live);
}

static void so_does_one_that_stood_ready(void **state)
{
    (void)state;
    sweep(live_pooled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_lives_or_ends_and_says_so),
        cmocka_unit_test(so_does_one_that_stood_ready),
    };
    oom_init();
    return cmocka_run_group_tests_name("oom session", tests, NULL, NULL);
}
