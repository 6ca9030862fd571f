/* Sessions against an engine and an agent that do as the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "kernel/record.h"

/* Deadlines in thousandths: what waits 90 s waits 90 ms here. */
void __real_cellar_timer_set(struct cellar_timer *timer, uint64_t ms);
void __wrap_cellar_timer_set(struct cellar_timer *timer, uint64_t ms);
void __wrap_cellar_timer_set(struct cellar_timer *timer, uint64_t ms)
{
    __real_cellar_timer_set(timer, ms / 1000);
}

/* Cells that may wait: the default of the spec. */
#define QUEUE 64

struct fixture {
    char state_dir[64];
    struct cellar *c;
    struct cellar_session *s;
    struct cellar_error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    (void)snprintf(f->state_dir, sizeof f->state_dir,
                   "/tmp/cellar-test-XXXXXX");
    assert_non_null(mkdtemp(f->state_dir));
    fake_reset();
    struct cellar_config config = {.state_dir = f->state_dir};
    assert_int_equal(
        cellar_supervisor_new(&config, fake_engine_open, &f->c, &f->err), 0);
    fake.owner = cellar_supervisor_owner(f->c);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[128];
    cellar_free(f->c);
    fake_reset();
    (void)snprintf(path, sizeof path, "%s/owner", f->state_dir);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof path, "%s/sessions", f->state_dir);
    /* Fails when a session left its directory behind. */
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(f->state_dir), 0);
    free(f);
    return 0;
}

static enum cellar_code start(struct fixture *f, const char *name)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.name = name;
    return cellar_start(f->c, &spec, &f->s, &f->err);
}

static void start_ok(struct fixture *f, const char *name)
{
    if (start(f, name) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
}

static struct cellar_result *run(struct fixture *f, const char *code)
{
    struct cellar_cell cell = {.code = code};
    struct cellar_result *result = NULL;
    if (cellar_run(f->s, &cell, &result, &f->err) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
    return result;
}

static enum cellar_code run_code(struct fixture *f, const char *code,
                                 size_t len)
{
    struct cellar_cell cell = {.code = code, .code_len = len};
    struct cellar_result *result = NULL;
    enum cellar_code got = cellar_run(f->s, &cell, &result, &f->err);
    cellar_result_free(result);
    return got;
}

/* ------------------------------------------------------------ life ----- */

static void a_cell_runs_and_its_result_comes_back(void **state)
{
    struct fixture *f = *state;
    start_ok(f, NULL);
    for (uint64_t i = 1; i <= 3; i++) {
        struct cellar_result *r = run(f, "6*7");
        assert_int_equal(r->cell, i);
        assert_int_equal(r->status, CELLAR_STATUS_OK);
        assert_string_equal(cellar_result_text(r), "42");
        assert_int_equal(r->wall_us, 7);
        cellar_result_free(r);
    }
    assert_string_equal(cellar_session_python(f->s), "3.11.2");
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    assert_int_equal(fake.removes, 1);
}

static void an_unnamed_session_goes_with_its_supervisor(void **state)
{
    struct fixture *f = *state;
    start_ok(f, NULL);
    cellar_free(f->c);
    f->c = NULL;
    assert_int_equal(fake.removes, 1);
}

static void unfit_image(struct fake_agent *agent,
                        const struct cellar_message *msg)
{
    struct cellar_message fault = {
        .type = CELLAR_MSG_FAULT,
        .u.fault = {.code = CELLAR_FAULT_MUSL,
                    .text = {(const uint8_t *)"built on musl", 13}}};
    if (msg->type != CELLAR_MSG_HELLO)
        return;
    agent->attached = 2; /* no READY */
    fake_polite(agent, msg);
    fake_say(agent, &fault);
}

static void an_unfit_image_is_an_error_that_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    fake.on_message = unfit_image;
    assert_int_equal(start(f, "a"), CELLAR_E_IMAGE);
    assert_non_null(strstr(f->err.msg, "built on musl"));
    assert_int_equal(fake.removes, 1);
}

static void a_start_that_the_engine_refuses_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    fake.start_code = CELLAR_E_ENGINE;
    assert_int_equal(start(f, "a"), CELLAR_E_ENGINE);
    assert_int_equal(fake.removes, 0);
}

static void an_agent_may_answer_before_the_engine_does(void **state)
{
    struct fixture *f = *state;
    fake.answer_ms = 20000;
    start_ok(f, "a");
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_OK);
    cellar_result_free(r);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void a_fault_before_the_engines_answer_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    fake.answer_ms = 20000;
    fake.on_message = unfit_image;
    assert_int_equal(start(f, "a"), CELLAR_E_IMAGE);
    assert_int_equal(fake.removes, 1);
}

static void a_mute_agent_meets_the_deadline(void **state)
{
    struct fixture *f = *state;
    fake.agent.mute = true;
    assert_int_equal(start(f, "a"), CELLAR_E_TIMEOUT);
    assert_int_equal(fake.removes, 1);
}

static void a_name_that_lives_is_taken(void **state)
{
    struct fixture *f = *state;
    start_ok(f, "a");
    cellar_close(f->s);
    f->s = NULL;
    fake.listed = "a";
    assert_int_equal(start(f, "a"), CELLAR_E_EXISTS);
    assert_non_null(strstr(f->err.msg, "cellar stop a"));
    assert_int_equal(fake.removes, 0);
    assert_int_equal(cellar_stop_name(f->c, "a", &f->err), CELLAR_OK);
}

/* Its starter was killed before there was a record: nobody has its key. */
static void what_a_killed_start_left_is_removed(void **state)
{
    struct fixture *f = *state;
    fake.listed = "a";
    start_ok(f, "a");
    assert_int_equal(fake.removes, 1);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void a_namesake_of_another_owner_is_left_alone(void **state)
{
    struct fixture *f = *state;
    fake.listed = "a";
    fake.owner = "somebody else";
    start_ok(f, "a");
    assert_int_equal(fake.removes, 0);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void a_name_in_use_is_busy_and_says_by_whom(void **state)
{
    struct fixture *f = *state;
    struct cellar_session *other = NULL;
    char pid[32];
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    start_ok(f, "a");
    assert_int_equal(cellar_adopt(f->c, "a", &other, &f->err), CELLAR_E_BUSY);
    assert_non_null(strstr(f->err.msg, pid));
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

/* ------------------------------------------------------------ cells ---- */

static void only_sound_code_is_sent(void **state)
{
    struct fixture *f = *state;
    size_t large = CELLAR_CODE_MAX + 1;
    char *code = malloc(large + 1);
    assert_non_null(code);
    memset(code, ' ', large);
    code[large] = '\0';
    start_ok(f, NULL);
    assert_int_equal(run_code(f, code, 0), CELLAR_E_LIMIT);
    assert_int_equal(run_code(f, code, large), CELLAR_E_LIMIT);
    assert_int_equal(run_code(f, code, large - 1), CELLAR_OK);
    assert_int_equal(run_code(f, "a\0b", 3), CELLAR_E_USAGE);
    assert_int_equal(run_code(f, "\xed\xa0\x80", 3), CELLAR_E_USAGE);
    assert_int_equal(run_code(f, "", 0), CELLAR_OK);
    free(code);
}

struct seen {
    int results;
    int killed;
    int lost;
    struct fixture *f;
};

static void count(void *user, struct cellar_result *result,
                  const struct cellar_error *err)
{
    struct seen *seen = user;
    assert_null(err);
    seen->results++;
    seen->killed += result->status == CELLAR_STATUS_KILLED;
    seen->lost += result->status == CELLAR_STATUS_LOST;
    cellar_result_free(result);
}

static void silent_on_run(struct fake_agent *agent,
                          const struct cellar_message *msg)
{
    if (msg->type != CELLAR_MSG_RUN)
        fake_polite(agent, msg);
}

static enum cellar_code queue(struct fixture *f, struct seen *seen)
{
    struct cellar_cell cell = {.code = "x", .timeout_ms = UINT64_MAX};
    return cellar_run_async(f->s, &cell, count, seen, &f->err);
}

static void the_queue_is_bounded_and_a_reset_empties_it(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    fake.on_message = silent_on_run;
    start_ok(f, NULL);
    for (int i = 0; i <= QUEUE; i++)
        assert_int_equal(queue(f, &seen), CELLAR_OK);
    assert_int_equal(queue(f, &seen), CELLAR_E_BUSY);
    fake_done(&fake.agent, 1, CELLAR_STATUS_KILLED, CELLAR_STATE_FRESH);
    assert_int_equal(cellar_reset(f->s, &f->err), CELLAR_OK);
    assert_int_equal(seen.results, 1 + QUEUE);
    assert_int_equal(seen.killed, 1 + QUEUE);
}

static void run_again(void *user, struct cellar_result *result,
                      const struct cellar_error *err)
{
    struct seen *seen = user;
    struct cellar_cell cell = {.code = "x"};
    count(seen, result, err);
    if (seen->results < 5)
        assert_int_equal(
            cellar_run_async(seen->f->s, &cell, run_again, seen, &seen->f->err),
            CELLAR_OK);
}

static void a_result_may_queue_the_next_cell(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {.f = f};
    struct cellar_cell cell = {.code = "x"};
    start_ok(f, NULL);
    assert_int_equal(cellar_run_async(f->s, &cell, run_again, &seen, &f->err),
                     CELLAR_OK);
    while (cellar_dispatch(f->c, 10))
        ;
    assert_int_equal(seen.results, 5);
}

static void stopped(void *user, struct cellar_session *s,
                    const struct cellar_error *err)
{
    struct seen *seen = user;
    assert_null(s);
    assert_null(err);
    seen->f->s = NULL;
}

static void stop_now(void *user, struct cellar_result *result,
                     const struct cellar_error *err)
{
    struct seen *seen = user;
    count(seen, result, err);
    assert_int_equal(
        cellar_stop_async(seen->f->s, stopped, seen, &seen->f->err), CELLAR_OK);
}

static void a_result_may_stop_the_session(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {.f = f};
    struct cellar_cell cell = {.code = "x"};
    start_ok(f, "a");
    assert_int_equal(cellar_run_async(f->s, &cell, stop_now, &seen, &f->err),
                     CELLAR_OK);
    assert_int_equal(queue(f, &seen), CELLAR_OK);
    while (cellar_dispatch(f->c, 10))
        ;
    assert_null(f->s);
    assert_int_equal(seen.results, 2);
    assert_int_equal(seen.lost, 1);
    assert_int_equal(fake.removes, 1);
}

static int interrupts;

static void count_interrupts(struct fake_agent *agent,
                             const struct cellar_message *msg)
{
    if (msg->type == CELLAR_MSG_INTERRUPT) {
        interrupts++;
        fake_done(agent, msg->cell, CELLAR_STATUS_INTERRUPTED,
                  CELLAR_STATE_KEPT);
    } else {
        silent_on_run(agent, msg);
    }
}

static void an_interrupt_reaches_the_running_cell_only(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    interrupts = 0;
    fake.on_message = count_interrupts;
    start_ok(f, NULL);
    assert_int_equal(cellar_interrupt(f->s, &f->err), CELLAR_OK);
    assert_int_equal(interrupts, 0);
    assert_int_equal(queue(f, &seen), CELLAR_OK);
    cellar_interrupt_signal(f->s);
    while (cellar_dispatch(f->c, 10))
        ;
    assert_int_equal(interrupts, 1);
    assert_int_equal(seen.results, 1);
}

/* --------------------------------------------------------- deliveries -- */

static void chatty(struct fake_agent *agent, const struct cellar_message *msg)
{
    struct cellar_message output = {
        .type = CELLAR_MSG_OUTPUT,
        .cell = msg->cell,
        .mark = 1, /* READY had it: a repetition */
        .u.output = {.stream = 1, .data = {(const uint8_t *)"old", 3}}};
    if (msg->type != CELLAR_MSG_RUN) {
        fake_polite(agent, msg);
        return;
    }
    assert_int_equal(cellar_link_send(&agent->link, &output, &agent->out), 0);
    output.u.output.data.data = (const uint8_t *)"new";
    fake_say(agent, &output);
    fake_polite(agent, msg);
}

static void a_repeated_delivery_is_taken_once(void **state)
{
    struct fixture *f = *state;
    fake.on_message = chatty;
    start_ok(f, NULL);
    struct cellar_result *r = run(f, "x");
    assert_string_equal(r->stdout_text, "new");
    cellar_result_free(r);
}

static void skips_one(struct fake_agent *agent,
                      const struct cellar_message *msg)
{
    if (msg->type == CELLAR_MSG_RUN)
        agent->delivered++;
    fake_polite(agent, msg);
}

static void a_gap_ends_the_session(void **state)
{
    struct fixture *f = *state;
    fake.on_message = skips_one;
    start_ok(f, NULL);
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    assert_non_null(strstr(r->reason, "delivery"));
    cellar_result_free(r);
    assert_int_equal(fake.removes, 1);
}

static void damages(struct fake_agent *agent, const struct cellar_message *msg)
{
    size_t before = cellar_buf_len(&agent->out);
    fake_polite(agent, msg);
    if (msg->type == CELLAR_MSG_RUN)
        agent->out.data[agent->out.head + before + 30] ^= 1;
}

static void a_damaged_frame_ends_the_session(void **state)
{
    struct fixture *f = *state;
    fake.on_message = damages;
    start_ok(f, "a");
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    assert_non_null(strstr(r->reason, "signature"));
    cellar_result_free(r);
    assert_int_equal(run_code(f, "x", 0), CELLAR_E_LOST);
    assert_int_equal(cellar_reset(f->s, &f->err), CELLAR_E_LOST);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    assert_int_equal(fake.removes, 1);
}

/* -------------------------------------------------------------- loss --- */

static void dies_on_run(struct fake_agent *agent,
                        const struct cellar_message *msg)
{
    if (msg->type == CELLAR_MSG_RUN)
        agent->gone = true;
    else
        fake_polite(agent, msg);
}

static void a_lost_container_is_told_with_the_engines_reason(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    fake.on_message = dies_on_run;
    fake.reason = "killed by the kernel";
    start_ok(f, "a");
    struct cellar_result *r = NULL;
    struct cellar_cell cell = {.code = "x"};
    assert_int_equal(queue(f, &seen), CELLAR_OK);
    assert_int_equal(cellar_run(f->s, &cell, &r, &f->err), CELLAR_OK);
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    assert_non_null(strstr(r->reason, "killed by the kernel"));
    assert_int_equal(seen.lost, 1);
    cellar_result_free(r);
    cellar_close(f->s);
}

static void an_agent_that_forgets_its_cell_is_not_waited_for(void **state)
{
    struct fixture *f = *state;
    struct cellar_cell cell = {.code = "x", .timeout_ms = 1000};
    struct cellar_result *r = NULL;
    fake.on_message = silent_on_run;
    start_ok(f, NULL);
    assert_int_equal(cellar_run(f->s, &cell, &r, &f->err), CELLAR_OK);
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    cellar_result_free(r);
}

static void a_session_that_has_lived_its_time_ends_and_says_so(void **state)
{
    struct fixture *f = *state;
    struct cellar_spec spec;
    struct cellar_cell cell = {.code = "x", .timeout_ms = UINT64_MAX};
    struct cellar_result *r = NULL;
    fake.on_message = silent_on_run;
    cellar_spec_init(&spec);
    spec.name = "a";
    spec.lifetime_ms = 50000;
    assert_int_equal(cellar_start(f->c, &spec, &f->s, &f->err), CELLAR_OK);
    assert_int_equal(cellar_run(f->s, &cell, &r, &f->err), CELLAR_OK);
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    assert_int_equal(r->limit, CELLAR_LIMIT_LIFETIME);
    assert_int_equal(r->limit_value, 50000);
    assert_non_null(strstr(r->reason, "lifetime of 50 s"));
    cellar_result_free(r);
    assert_int_equal(fake.removes, 1);
    assert_int_equal(run_code(f, "x", 0), CELLAR_E_LOST);
}

/* ---------------------------------------------------------- adoption --- */

static void a_named_session_is_adopted_with_its_count(void **state)
{
    struct fixture *f = *state;
    start_ok(f, "a");
    cellar_result_free(run(f, "x"));
    cellar_close(f->s);
    assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err), CELLAR_OK);
    assert_int_equal(fake.agent.attached, 2);
    assert_string_equal(cellar_session_python(f->s), "3.11.2");
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->cell, 2);
    cellar_result_free(r);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void a_record_whose_container_is_gone_is_lost_and_dropped(void **state)
{
    struct fixture *f = *state;
    start_ok(f, "a");
    cellar_close(f->s);
    fake.agent.removed = true;
    assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err), CELLAR_E_LOST);
    assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err),
                     CELLAR_E_NOT_FOUND);
}

static void an_agent_that_is_mute_at_adoption_is_kept(void **state)
{
    struct fixture *f = *state;
    start_ok(f, "a");
    cellar_close(f->s);
    fake.agent.mute = true;
    assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err), CELLAR_E_TIMEOUT);
    assert_int_equal(fake.removes, 0);
    fake.agent.mute = false;
    fake.listed = "a";
    assert_int_equal(cellar_stop_name(f->c, "a", &f->err), CELLAR_OK);
    assert_int_equal(fake.removes, 1);
}

static void a_damaged_record_is_reported_and_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    char path[128];
    start_ok(f, "a");
    cellar_close(f->s);
    (void)snprintf(path, sizeof path, "%s/sessions/a/record.json",
                   f->state_dir);
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err), CELLAR_E_SYS);
    assert_non_null(strstr(f->err.msg, "cellar stop a"));
    fake.listed = "a";
    assert_int_equal(cellar_stop_name(f->c, "a", &f->err), CELLAR_OK);
    assert_int_equal(fake.removes, 1);
}

static void names_are_checked_before_anything_else(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"",    "../x", "-a", ".a",      "A",
                                      "a b", "a/b",  "a$", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(start(f, bad[i]), CELLAR_E_USAGE);
        assert_int_equal(cellar_adopt(f->c, bad[i], &f->s, &f->err),
                         CELLAR_E_USAGE);
        assert_int_equal(cellar_stop_name(f->c, bad[i], &f->err),
                         CELLAR_E_USAGE);
    }
    assert_int_equal(fake.agent.attached, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(a_cell_runs_and_its_result_comes_back),
        T(an_unnamed_session_goes_with_its_supervisor),
        T(an_unfit_image_is_an_error_that_leaves_nothing),
        T(a_start_that_the_engine_refuses_leaves_nothing),
        T(an_agent_may_answer_before_the_engine_does),
        T(a_fault_before_the_engines_answer_leaves_nothing),
        T(a_mute_agent_meets_the_deadline),
        T(a_name_that_lives_is_taken),
        T(what_a_killed_start_left_is_removed),
        T(a_namesake_of_another_owner_is_left_alone),
        T(a_name_in_use_is_busy_and_says_by_whom),
        T(only_sound_code_is_sent),
        T(the_queue_is_bounded_and_a_reset_empties_it),
        T(a_result_may_queue_the_next_cell),
        T(a_result_may_stop_the_session),
        T(an_interrupt_reaches_the_running_cell_only),
        T(a_repeated_delivery_is_taken_once),
        T(a_gap_ends_the_session),
        T(a_damaged_frame_ends_the_session),
        T(a_lost_container_is_told_with_the_engines_reason),
        T(an_agent_that_forgets_its_cell_is_not_waited_for),
        T(a_session_that_has_lived_its_time_ends_and_says_so),
        T(a_named_session_is_adopted_with_its_count),
        T(a_record_whose_container_is_gone_is_lost_and_dropped),
        T(an_agent_that_is_mute_at_adoption_is_kept),
        T(a_damaged_record_is_reported_and_can_be_stopped),
        T(names_are_checked_before_anything_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
