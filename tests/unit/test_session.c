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
#include "session_fixture.h"

/* Cells that may wait: the default of the spec. */
#define QUEUE 64

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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(a_cell_runs_and_its_result_comes_back),
        T(an_unnamed_session_goes_with_its_supervisor),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
