/* A session's stream breaks, and its container lives: nothing is lost, nothing
 * is done twice; and nobody waits for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cellar/history.h"
#include "fake_engine.h"
#include "session_fixture.h"

/* What the agent was told, and what it does of it. */
static struct {
    int runs, resets, interrupts;
    bool break_on_run;   /* its stream ends instead of an answer */
    bool heard;          /* the RUN came before that */
    bool break_on_reset; /* once */
} agent;

/* The bytes of a cell that was under way when the stream broke. */
static void say_output(struct fake_agent *to, uint64_t cell, const char *text)
{
    struct cellar_message msg = {
        .type = CELLAR_MSG_OUTPUT,
        .cell = cell,
        .u.output = {.stream = 1,
                     .data = {(const uint8_t *)text, strlen(text)}}};
    fake_say(to, &msg);
}

static void break_stream(struct fake_agent *to)
{
    to->gone = true;
    agent.break_on_run = false;
}

static void on_message(struct fake_agent *to, const struct cellar_message *msg)
{
    agent.runs += msg->type == CELLAR_MSG_RUN;
    agent.resets += msg->type == CELLAR_MSG_RESET;
    agent.interrupts += msg->type == CELLAR_MSG_INTERRUPT;
    if (msg->type == CELLAR_MSG_RUN && agent.break_on_run) {
        to->running = agent.heard ? msg->cell : 0;
        to->last_cell = agent.heard ? msg->cell : msg->cell - 1;
        break_stream(to);
        return;
    }
    if (msg->type == CELLAR_MSG_RESET && agent.break_on_reset) {
        agent.break_on_reset = false;
        break_stream(to);
        return;
    }
    fake_polite(to, msg);
    if (msg->type == CELLAR_MSG_HELLO && to->running) {
        say_output(to, to->running, "all of it\n");
        fake_done(to, to->running, CELLAR_STATUS_OK, CELLAR_STATE_KEPT);
        to->running = 0;
    }
}

static void prepare(struct fixture *f, const char *name)
{
    memset(&agent, 0, sizeof agent);
    fake.on_message = on_message;
    fake.vital = CELLAR_VITAL_ALIVE;
    start_ok(f, name);
}

static void a_running_cell_goes_on(void **state)
{
    struct fixture *f = *state;
    prepare(f, NULL);
    agent.break_on_run = true;
    agent.heard = true;
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_OK);
    assert_string_equal(r->stdout_text, "all of it\n");
    assert_int_equal(agent.runs, 1);
    assert_int_equal(fake.attaches, 1);
    cellar_result_free(r);
    r = run(f, "y");
    assert_int_equal(r->cell, 2);
    cellar_result_free(r);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void a_cell_that_never_arrived_is_sent_again(void **state)
{
    struct fixture *f = *state;
    prepare(f, NULL);
    agent.break_on_run = true;
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_OK);
    assert_int_equal(r->cell, 1);
    assert_int_equal(agent.runs, 2);
    cellar_result_free(r);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void a_reset_is_asked_for_again(void **state)
{
    struct fixture *f = *state;
    prepare(f, NULL);
    agent.break_on_reset = true;
    assert_int_equal(cellar_reset(f->s, &f->err), CELLAR_OK);
    assert_int_equal(agent.resets, 2);
    cellar_result_free(run(f, "x"));
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void come_back(void *user)
{
    (void)user;
    fake.attach_code = CELLAR_OK;
    fake.vital = CELLAR_VITAL_ALIVE;
}

/* The engine is away for some tries; what is asked meanwhile is done after. */
static void an_engine_that_is_away_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct cellar_timer *timer = NULL;
    prepare(f, NULL);
    fake.vital = CELLAR_VITAL_UNKNOWN;
    assert_int_equal(cellar_timer_new(cellar_supervisor_loop(f->c), come_back,
                                      NULL, &timer, &f->err),
                     CELLAR_OK);
    cellar_timer_set(timer, 20000);
    agent.break_on_run = true;
    cellar_result_free(run(f, "x"));
    assert_int_equal(agent.runs, 2);
    assert_int_equal(fake.attaches, 1);
    cellar_timer_close(timer);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void an_engine_that_stays_away_ends_the_waiting(void **state)
{
    struct fixture *f = *state;
    struct cellar_session *again = NULL;
    prepare(f, "a");
    fake.vital = CELLAR_VITAL_UNKNOWN;
    fake.reason = "nobody answers";
    agent.break_on_run = true;
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    assert_non_null(strstr(r->reason, "nobody answers"));
    cellar_result_free(r);
    assert_int_equal(fake.removes, 0);
    cellar_close(f->s);
    /* It may live: its record stays, and it can be adopted. */
    fake.agent.running = 0;
    assert_int_equal(cellar_adopt(f->c, "a", &again, &f->err), CELLAR_OK);
    assert_int_equal(cellar_stop(again, &f->err), CELLAR_OK);
}

static void what_was_given_up_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    prepare(f, "a");
    fake.vital = CELLAR_VITAL_UNKNOWN;
    agent.break_on_run = true;
    cellar_result_free(run(f, "x"));
    assert_int_equal(fake.removes, 0);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    assert_int_equal(fake.removes, 1);
}

static void an_engine_that_breaks_every_stream_is_given_up(void **state)
{
    struct fixture *f = *state;
    prepare(f, NULL);
    fake.attach_code = CELLAR_E_ENGINE;
    agent.break_on_run = true;
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    assert_true(fake.attaches > 2);
    cellar_result_free(r);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void a_container_that_is_gone_is_lost_at_once(void **state)
{
    struct fixture *f = *state;
    prepare(f, NULL);
    fake.vital = CELLAR_VITAL_GONE;
    fake.reason = "the container ended: killed from outside";
    agent.break_on_run = true;
    agent.heard = true;
    struct cellar_result *r = run(f, "x");
    assert_int_equal(r->status, CELLAR_STATUS_LOST);
    assert_string_equal(r->reason, fake.reason);
    assert_int_equal(fake.attaches, 0);
    cellar_result_free(r);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

/* ---------------------------------------------------- in the journal ---- */

static void note_cell(void *user, const struct cellar_entry *entry)
{
    bool *seen = user;
    if (entry->cell != 1)
        return;
    assert_string_equal(entry->code, "long()");
    assert_string_equal(entry->result->stdout_text, "all of it\n");
    assert_int_equal(entry->result->status, CELLAR_STATUS_OK);
    *seen = true;
}

static int told;

static void count_unattended(void *user, struct cellar_session *s,
                             struct cellar_result *result)
{
    (void)user;
    (void)s;
    assert_int_equal(result->cell, 1);
    assert_string_equal(result->stdout_text, "all of it\n");
    cellar_result_free(result);
    told++;
}

static void ignore_result(void *user, struct cellar_result *result,
                          const struct cellar_error *err)
{
    (void)user;
    (void)err;
    cellar_result_free(result);
}

/* A cell is begun, and its process lets go of the session. */
static void leave_running(struct fixture *f)
{
    struct cellar_cell cell = {.code = "long()"};
    prepare(f, "a");
    agent.break_on_run = true;
    agent.heard = true;
    assert_int_equal(
        cellar_run_async(f->s, &cell, ignore_result, NULL, &f->err), CELLAR_OK);
    cellar_close(f->s);
    f->s = NULL;
    (void)cellar_dispatch(f->c, 0);
}

static void reopen(struct fixture *f, bool listens)
{
    struct cellar_config config = {.state_dir = f->state_dir,
                                   .unattended =
                                       listens ? count_unattended : NULL};
    cellar_free(f->c);
    assert_int_equal(
        cellar_supervisor_new(&config, fake_engine_open, &f->c, &f->err), 0);
}

static void what_ended_unattended_is_told_once(void **state)
{
    struct fixture *f = *state;
    bool seen = false;
    leave_running(f);
    told = 0;
    /* One that does not listen leaves it to the next. */
    for (int listens = 0; listens < 3; listens++) {
        reopen(f, listens > 0);
        assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err), CELLAR_OK);
        cellar_result_free(run(f, "own"));
        assert_int_equal(told, listens > 0);
        assert_int_equal(
            cellar_history(f->c, "a", 2, note_cell, &seen, &f->err), CELLAR_OK);
        cellar_close(f->s);
    }
    assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err), CELLAR_OK);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_running_cell_goes_on),
        T(a_cell_that_never_arrived_is_sent_again),
        T(a_reset_is_asked_for_again),
        T(an_engine_that_is_away_is_waited_for),
        T(an_engine_that_stays_away_ends_the_waiting),
        T(what_was_given_up_can_be_stopped),
        T(an_engine_that_breaks_every_stream_is_given_up),
        T(a_container_that_is_gone_is_lost_at_once),
        T(what_ended_unattended_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
