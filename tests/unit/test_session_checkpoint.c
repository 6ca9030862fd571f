/* What is asked of a session about its checkpoints, against an agent that does
 * as the test says: everybody who asks is answered, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "kernel/session.h"
#include "session_fixture.h"

#define REASON "1 of its threads would be missing"

/* What the agent was told, and how it answers. */
static struct {
    int requests;
    enum cellar_message_type last;
    char tag[CELLAR_TAG_BYTES_MAX + 1];
    int unanswered;     /* so many of the first get no answer */
    bool break_stream;  /* its stream ends instead, once */
    const char *refuse; /* the reason; NULL: it does as it is asked */
} agent;

static struct cellar_bytes bytes_of(const char *text)
{
    return (struct cellar_bytes){(const uint8_t *)text, strlen(text)};
}

static void reply(struct fake_agent *to, uint64_t request, const char *why)
{
    struct cellar_message msg = {.type = CELLAR_MSG_REPLY,
                                 .u.reply = {.request = request,
                                             .ok = why == NULL,
                                             .text = bytes_of(why ? why : ""),
                                             .after = 3,
                                             .took_us = 1250}};
    fake_say(to, &msg);
}

/* Names that no host gave stand among the others. */
static void say_copies(struct fake_agent *to)
{
    struct cellar_message msg = {
        .type = CELLAR_MSG_COPIES,
        .u.copies = {.held_bytes = 4096,
                     .count = 4,
                     .kept = {{bytes_of("ready"), 2, 900},
                              {bytes_of("../up"), 2, 800},
                              {bytes_of(""), 3, 70},
                              {bytes_of("\x1b[31m"), 3, 60}}}};
    fake_say(to, &msg);
}

static void answer(struct fake_agent *to, const struct cellar_message *msg)
{
    if (agent.unanswered > 0)
        agent.unanswered--;
    else if (msg->type == CELLAR_MSG_LIST)
        say_copies(to);
    else
        reply(to, msg->type, agent.refuse);
}

static void note(const struct cellar_message *msg)
{
    struct cellar_bytes tag = {0};
    if (msg->type != CELLAR_MSG_LIST)
        tag = msg->u.tag.tag;
    agent.requests++;
    agent.last = msg->type;
    (void)snprintf(agent.tag, sizeof agent.tag, "%.*s", (int)tag.len,
                   tag.data ? (const char *)tag.data : "");
}

static void on_message(struct fake_agent *to, const struct cellar_message *msg)
{
    if (msg->type < CELLAR_MSG_CHECKPOINT || msg->type > CELLAR_MSG_LIST) {
        fake_polite(to, msg);
        return;
    }
    note(msg);
    if (agent.break_stream) {
        agent.break_stream = false;
        to->gone = true;
        return;
    }
    answer(to, msg);
}

static void prepare(struct fixture *f)
{
    memset(&agent, 0, sizeof agent);
    fake.on_message = on_message;
    fake.vital = CELLAR_VITAL_ALIVE;
    start_ok(f, NULL);
}

/* An answer that was given to cellar_ask_async(). */
struct answered {
    int count;
    enum cellar_code code;
    char msg[512];
};

static void on_answer(void *user, const struct cellar_moment *moment,
                      const struct cellar_error *err)
{
    struct answered *answered = user;
    assert_true((moment == NULL) == (err != NULL));
    answered->count++;
    answered->code = err ? err->code : CELLAR_OK;
    (void)snprintf(answered->msg, sizeof answered->msg, "%s",
                   err ? err->msg : "");
}

static enum cellar_code ask(struct fixture *f, enum cellar_ask what,
                            struct answered *answered)
{
    return cellar_ask_async(f->s, what,
                            what == CELLAR_ASK_LIST ? NULL : "ready", on_answer,
                            answered, &f->err);
}

static void turn(struct fixture *f, const struct answered *answered)
{
    while (answered->count == 0 && cellar_dispatch(f->c, 10))
        ;
    assert_int_equal(answered->count, 1);
}

/* -------------------------------------------------- asked and answered --- */

static void each_request_is_sent_with_its_name_and_answered(void **state)
{
    struct fixture *f = *state;
    struct cellar_moment moment = {0};
    prepare(f);
    assert_int_equal(cellar_checkpoint(f->s, "ready", &moment, &f->err),
                     CELLAR_OK);
    assert_int_equal(agent.last, CELLAR_MSG_CHECKPOINT);
    assert_string_equal(agent.tag, "ready");
    assert_int_equal(moment.after, 3);
    assert_int_equal(moment.took_us, 1250);
    assert_int_equal(cellar_restore(f->s, "a.b-c_2", NULL, &f->err), CELLAR_OK);
    assert_int_equal(agent.last, CELLAR_MSG_RESTORE);
    assert_string_equal(agent.tag, "a.b-c_2");
    assert_int_equal(cellar_checkpoint_drop(f->s, "ready", &f->err), CELLAR_OK);
    assert_int_equal(agent.last, CELLAR_MSG_DROP);
    assert_int_equal(agent.requests, 3);
}

static void a_refusal_is_told_with_its_reason(void **state)
{
    struct fixture *f = *state;
    struct cellar_moment moment = {.after = 77};
    prepare(f);
    agent.refuse = REASON;
    assert_int_equal(cellar_checkpoint(f->s, "ready", &moment, &f->err),
                     CELLAR_E_DENIED);
    assert_string_equal(f->err.msg, REASON);
    assert_int_equal(moment.after, 77);
    cellar_result_free(run(f, "x"));
}

/* As the agent says them. */
static void a_reason_that_is_known_has_a_code_of_its_own(void **state)
{
    static const struct {
        enum cellar_refusal refusal;
        enum cellar_code code;
    } known[] = {
        {CELLAR_REFUSAL_RUNNING, CELLAR_E_BUSY},
        {CELLAR_REFUSAL_ASKED, CELLAR_E_BUSY},
        {CELLAR_REFUSAL_NO_SUCH, CELLAR_E_NOT_FOUND},
        {CELLAR_REFUSAL_CHECKPOINTS, CELLAR_E_LIMIT},
        {CELLAR_REFUSAL_BRANCHES, CELLAR_E_LIMIT},
    };
    struct fixture *f = *state;
    prepare(f);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        agent.refuse = cellar_refusal_text(known[i].refusal);
        assert_int_equal(cellar_restore(f->s, "ready", NULL, &f->err),
                         known[i].code);
        assert_string_equal(f->err.msg, agent.refuse);
    }
    agent.refuse = "there is no checkpoint of this name, or of any";
    assert_int_equal(cellar_restore(f->s, "ready", NULL, &f->err),
                     CELLAR_E_DENIED);
}

static void a_bad_name_is_not_sent(void **state)
{
    static const char *const bad[] = {NULL, "", "A", "a b", "../a", "-a"};
    struct fixture *f = *state;
    char name[CELLAR_TAG_BYTES_MAX + 2];
    prepare(f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(cellar_checkpoint(f->s, bad[i], NULL, &f->err),
                         CELLAR_E_USAGE);
    memset(name, 'a', sizeof name);
    name[CELLAR_TAG_BYTES_MAX + 1] = '\0';
    assert_int_equal(cellar_restore(f->s, name, NULL, &f->err), CELLAR_E_USAGE);
    assert_int_equal(agent.requests, 0);
    name[CELLAR_TAG_BYTES_MAX] = '\0';
    assert_int_equal(cellar_restore(f->s, name, NULL, &f->err), CELLAR_OK);
    assert_string_equal(agent.tag, name);
}

static void note_kept(void *user, const struct cellar_checkpoint *checkpoint)
{
    struct cellar_checkpoint *kept = user;
    if (checkpoint->tag[0]) {
        assert_string_equal(checkpoint->tag, "ready");
        kept[0] = *checkpoint;
    } else {
        kept[1] = *checkpoint;
    }
}

static void a_list_has_no_name_that_was_never_given(void **state)
{
    struct fixture *f = *state;
    struct cellar_moment moment = {0};
    struct cellar_checkpoint kept[2] = {{0}};
    prepare(f);
    assert_int_equal(
        cellar_checkpoint_list(f->s, note_kept, kept, &moment, &f->err),
        CELLAR_OK);
    assert_int_equal(moment.count, 2);
    assert_int_equal(moment.held_bytes, 4096);
    assert_null(moment.list);
    assert_int_equal(kept[0].after, 2);
    assert_int_equal(kept[0].age_ms, 900);
    assert_int_equal(kept[1].after, 3);
    assert_int_equal(kept[1].age_ms, 70);
}

/* ------------------------------------------------------- one at a time --- */

static void ignore(void *user, struct cellar_result *result,
                   const struct cellar_error *err)
{
    (void)user;
    (void)err;
    cellar_result_free(result);
}

static void silent_on_run(struct fake_agent *to,
                          const struct cellar_message *msg)
{
    if (msg->type != CELLAR_MSG_RUN)
        on_message(to, msg);
}

static void while_a_cell_runs_the_session_is_busy(void **state)
{
    struct fixture *f = *state;
    struct answered answered = {0};
    struct cellar_cell cell = {.code = "x", .timeout_ms = UINT64_MAX};
    prepare(f);
    fake.on_message = silent_on_run;
    assert_int_equal(cellar_run_async(f->s, &cell, ignore, NULL, &f->err),
                     CELLAR_OK);
    for (int turns = 0; turns < 2; turns++) { /* queued, then sent */
        assert_int_equal(ask(f, CELLAR_ASK_CHECKPOINT, &answered),
                         CELLAR_E_BUSY);
        assert_non_null(strstr(f->err.msg, "cell 1 is running"));
        (void)cellar_dispatch(f->c, 0);
    }
    fake_done(&fake.agent, 1, CELLAR_STATUS_KILLED, CELLAR_STATE_FRESH);
    assert_int_equal(agent.requests, 0);
    assert_int_equal(answered.count, 0);
}

static void one_request_is_under_way_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct answered first = {0};
    struct answered second = {0};
    prepare(f);
    assert_int_equal(ask(f, CELLAR_ASK_CHECKPOINT, &first), CELLAR_OK);
    assert_int_equal(ask(f, CELLAR_ASK_LIST, &second), CELLAR_E_BUSY);
    turn(f, &first);
    assert_int_equal(first.code, CELLAR_OK);
    assert_int_equal(ask(f, CELLAR_ASK_LIST, &second), CELLAR_OK);
    turn(f, &second);
    assert_int_equal(second.code, CELLAR_OK);
    assert_int_equal(first.count, 1);
}

/* As the agent does: what was asked for is refused before the new worker is
 * there. */
static void refuses_at_reset(struct fake_agent *to,
                             const struct cellar_message *msg)
{
    if (msg->type == CELLAR_MSG_RESET)
        reply(to, CELLAR_MSG_CHECKPOINT, "every process was ended");
    on_message(to, msg);
}

static void a_reset_answers_whoever_waits(void **state)
{
    struct fixture *f = *state;
    struct answered answered = {0};
    struct answered late = {0};
    prepare(f);
    agent.unanswered = 1;
    fake.on_message = refuses_at_reset;
    assert_int_equal(ask(f, CELLAR_ASK_CHECKPOINT, &answered), CELLAR_OK);
    assert_int_equal(cellar_reset_async(f->s, NULL, NULL, &f->err), CELLAR_OK);
    assert_int_equal(ask(f, CELLAR_ASK_LIST, &late), CELLAR_E_BUSY);
    turn(f, &answered);
    assert_int_equal(answered.code, CELLAR_E_DENIED);
    assert_string_equal(answered.msg, "every process was ended");
    cellar_result_free(run(f, "x"));
    assert_int_equal(late.count, 0);
}

/* ----------------------------------------------- nobody waits for ever --- */

static void a_broken_stream_has_the_request_sent_again(void **state)
{
    struct fixture *f = *state;
    struct cellar_moment moment = {0};
    prepare(f);
    agent.break_stream = true;
    assert_int_equal(cellar_checkpoint(f->s, "ready", &moment, &f->err),
                     CELLAR_OK);
    assert_int_equal(agent.requests, 2);
    assert_int_equal(fake.attaches, 1);
    assert_int_equal(moment.after, 3);
}

static void what_is_asked_of_a_session_that_is_away_waits(void **state)
{
    struct fixture *f = *state;
    struct answered answered = {0};
    struct cellar_message ping = {.type = CELLAR_MSG_PING};
    prepare(f);
    fake.agent.gone = true;
    fake.answer_ms = 20000;
    cellar_session_send(f->s, &ping);
    while (f->s->phase == CELLAR_PHASE_LIVE)
        (void)cellar_dispatch(f->c, 1);
    assert_int_equal(ask(f, CELLAR_ASK_LIST, &answered), CELLAR_OK);
    assert_int_equal(agent.requests, 0);
    turn(f, &answered);
    assert_int_equal(answered.code, CELLAR_OK);
    assert_int_equal(agent.requests, 1);
}

static void a_loss_answers_whoever_waits(void **state)
{
    struct fixture *f = *state;
    struct answered late = {0};
    prepare(f);
    fake.vital = CELLAR_VITAL_GONE;
    fake.reason = "killed from outside";
    agent.break_stream = true;
    assert_int_equal(cellar_restore(f->s, "ready", NULL, &f->err),
                     CELLAR_E_LOST);
    assert_non_null(strstr(f->err.msg, "killed from outside"));
    assert_int_equal(ask(f, CELLAR_ASK_LIST, &late), CELLAR_E_LOST);
    assert_non_null(strstr(f->err.msg, "killed from outside"));
    assert_int_equal(late.count, 0);
}

static void a_stop_answers_whoever_waits(void **state)
{
    struct fixture *f = *state;
    struct answered answered = {0};
    prepare(f);
    agent.unanswered = 1;
    assert_int_equal(ask(f, CELLAR_ASK_CHECKPOINT, &answered), CELLAR_OK);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    assert_int_equal(answered.count, 1);
    assert_int_equal(answered.code, CELLAR_E_LOST);
    assert_string_equal(answered.msg, "the session was stopped");
}

static void an_agent_that_does_not_answer_ends_the_waiting(void **state)
{
    struct fixture *f = *state;
    prepare(f);
    agent.unanswered = 1;
    assert_int_equal(cellar_checkpoint(f->s, "ready", NULL, &f->err),
                     CELLAR_E_LOST);
    assert_non_null(strstr(f->err.msg, "did not answer in time"));
}

/* ------------------------------------------------ what nobody asked for -- */

static void says_more(struct fake_agent *to, const struct cellar_message *msg)
{
    if (msg->type == CELLAR_MSG_CHECKPOINT) {
        reply(to, CELLAR_MSG_RESTORE, REASON);
        say_copies(to);
    }
    on_message(to, msg);
    if (msg->type == CELLAR_MSG_CHECKPOINT)
        reply(to, CELLAR_MSG_CHECKPOINT, REASON);
}

static void an_answer_to_another_request_is_none(void **state)
{
    struct fixture *f = *state;
    struct answered answered = {0};
    prepare(f);
    fake.on_message = says_more;
    assert_int_equal(ask(f, CELLAR_ASK_CHECKPOINT, &answered), CELLAR_OK);
    turn(f, &answered);
    assert_int_equal(answered.code, CELLAR_OK);
    cellar_result_free(run(f, "x"));
    assert_int_equal(answered.count, 1);
}

static void keep_line(void *user, const char *line)
{
    (void)snprintf(user, 256, "%s", line);
}

static void late_to_fail(struct fake_agent *to,
                         const struct cellar_message *msg)
{
    on_message(to, msg);
    if (msg->type == CELLAR_MSG_RUN)
        reply(to, 0, "fork: no memory");
}

static void an_automatic_one_that_fails_late_is_a_warning(void **state)
{
    struct fixture *f = *state;
    char line[256] = "";
    struct cellar_config config = {
        .state_dir = f->state_dir, .warn = keep_line, .warn_user = line};
    cellar_free(f->c);
    assert_int_equal(
        cellar_supervisor_new(&config, fake_engine_open, &f->c, &f->err), 0);
    fake.owner = cellar_supervisor_owner(f->c);
    prepare(f);
    fake.on_message = late_to_fail;
    cellar_result_free(run(f, "x"));
    while (!line[0] && cellar_dispatch(f->c, 10))
        ;
    assert_non_null(strstr(line, "no checkpoint after cell 3"));
    assert_non_null(strstr(line, "fork: no memory"));
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_request_is_sent_with_its_name_and_answered),
        T(a_refusal_is_told_with_its_reason),
        T(a_reason_that_is_known_has_a_code_of_its_own),
        T(a_bad_name_is_not_sent),
        T(a_list_has_no_name_that_was_never_given),
        T(while_a_cell_runs_the_session_is_busy),
        T(one_request_is_under_way_at_a_time),
        T(a_reset_answers_whoever_waits),
        T(a_broken_stream_has_the_request_sent_again),
        T(what_is_asked_of_a_session_that_is_away_waits),
        T(a_loss_answers_whoever_waits),
        T(a_stop_answers_whoever_waits),
        T(an_agent_that_does_not_answer_ends_the_waiting),
        T(an_answer_to_another_request_is_none),
        T(an_automatic_one_that_fails_late_is_a_warning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
