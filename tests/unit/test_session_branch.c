/* Branches of a session, against an agent that does as the test says: what is
 * sent, what is recorded, and who ends what. */
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
#include "kernel/session.h"
#include "proto/sign.h"
#include "session_fixture.h"

#define FIRST  3 /* the lane of the first branch */
#define REASON "the container has no room for so many branches"

static struct {
    int forks;
    uint64_t count;    /* of the last one */
    int unanswered;    /* so many of the first get no answer */
    bool break_stream; /* it ends when the first has been answered */
    bool refuse;
    uint64_t lane; /* of the first branch; 0: FIRST */
    int stops;
} agent;

static void reply(struct fake_agent *to, uint64_t request, uint64_t lane,
                  const char *why)
{
    struct cellar_message msg = {
        .type = CELLAR_MSG_REPLY,
        .u.reply = {.request = request,
                    .ok = why == NULL,
                    .text = {(const uint8_t *)why, why ? strlen(why) : 0},
                    .after = 5,
                    .took_us = 750,
                    .lane = why ? 0 : lane}};
    fake_say(to, &msg);
}

static void on_fork(struct fake_agent *to, uint64_t count)
{
    agent.forks++;
    agent.count = count;
    if (agent.unanswered-- <= 0)
        reply(to, CELLAR_MSG_FORK, agent.lane ? agent.lane : FIRST,
              agent.refuse ? REASON : NULL);
    to->gone |= agent.break_stream;
    agent.break_stream = false;
}

static void on_message(struct fake_agent *to, const struct cellar_message *msg)
{
    if (msg->type == CELLAR_MSG_FORK) {
        on_fork(to, msg->u.fork.count);
    } else if (msg->type == CELLAR_MSG_STOP) {
        agent.stops++;
        reply(to, CELLAR_MSG_STOP, 0, NULL);
    } else {
        fake_polite(to, msg);
    }
}

static void prepare(struct fixture *f, const char *name)
{
    memset(&agent, 0, sizeof agent);
    fake.on_message = on_message;
    fake.vital = CELLAR_VITAL_ALIVE;
    start_ok(f, name);
}

static enum cellar_code fork_to(struct fixture *f, const char *first,
                                const char *second)
{
    const char *const names[] = {first, second};
    return cellar_fork(f->s, names, second ? 2 : 1, NULL, &f->err);
}

static struct cellar_record load(struct fixture *f, const char *name)
{
    struct cellar_record record = {0};
    assert_int_equal(cellar_record_load(f->state_dir, name, &record, &f->err),
                     CELLAR_OK);
    return record;
}

static void assert_nobody(struct fixture *f, const char *name)
{
    struct cellar_record record;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    assert_int_equal(cellar_record_load(f->state_dir, name, &record, &f->err),
                     CELLAR_E_NOT_FOUND);
    assert_int_equal(cellar_hold_take(f->state_dir, name, &hold, &f->err),
                     CELLAR_OK);
    cellar_hold_tidy(f->state_dir, name, &hold);
}

/* The container's end, for a test that leaves records in it. */
static void stop_all(struct fixture *f, const char *first, const char *second)
{
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? second : first;
        struct cellar_hold hold = CELLAR_HOLD_NONE;
        if (name && cellar_hold_take(f->state_dir, name, &hold, NULL) == 0) {
            cellar_record_remove(f->state_dir, name, &hold);
            cellar_hold_done(&hold);
        }
    }
}

struct answered {
    int count;
    enum cellar_code code;
};

static void on_answer(void *user, const struct cellar_moment *moment,
                      const struct cellar_error *err)
{
    struct answered *answered = user;
    assert_true((moment == NULL) == (err != NULL));
    answered->count++;
    answered->code = err ? err->code : CELLAR_OK;
}

/* ------------------------------------------------------------- made ------ */

static void branches_are_recorded_as_the_agent_made_them(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"b", "c"};
    struct cellar_moment moment = {0};
    prepare(f, "a");
    cellar_result_free(run(f, "x"));
    assert_int_equal(cellar_fork(f->s, names, 2, &moment, &f->err), CELLAR_OK);
    assert_int_equal(agent.count, 2);
    assert_int_equal(moment.after, 5);
    assert_int_equal(moment.took_us, 750);
    struct cellar_record parent = load(f, "a");
    for (uint32_t i = 0; i < 2; i++) {
        struct cellar_record record = load(f, names[i]);
        uint8_t key[CELLAR_KEY_BYTES];
        cellar_sign_lane_key(key, parent.key, FIRST + i);
        assert_memory_equal(record.key, key, sizeof key);
        assert_string_equal(record.name, names[i]);
        assert_int_equal(record.lane, FIRST + i);
        assert_string_equal(record.container, parent.container);
        assert_string_equal(record.image, parent.image);
        assert_int_equal(record.lease_ms, parent.lease_ms);
        assert_int_equal(record.cells, 1);
        assert_int_equal(record.delivered, 0);
        assert_int_equal(cellar_hold_who(f->state_dir, names[i]), 0);
    }
    assert_int_equal(parent.lane, 0);
    assert_true(cellar_record_may_share(&parent));
    stop_all(f, "b", "c");
}

static void a_refusal_makes_none(void **state)
{
    struct fixture *f = *state;
    struct cellar_moment moment = {.after = 77};
    static const char *const names[] = {"b", "c"};
    prepare(f, "a");
    agent.refuse = true;
    assert_int_equal(cellar_fork(f->s, names, 2, &moment, &f->err),
                     CELLAR_E_LIMIT);
    assert_string_equal(f->err.msg, REASON);
    assert_int_equal(moment.after, 77);
    assert_nobody(f, "b");
    assert_nobody(f, "c");
    struct cellar_record parent = load(f, "a");
    assert_false(cellar_record_may_share(&parent));
    cellar_result_free(run(f, "x"));
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void lanes_that_are_none_make_none(void **state)
{
    struct fixture *f = *state;
    static const uint64_t lanes[] = {UINT32_MAX, UINT32_MAX - 1};
    prepare(f, "a");
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) {
        agent.lane = lanes[i];
        assert_int_equal(fork_to(f, "b", "c"), CELLAR_E_PROTO);
        assert_nobody(f, "b");
        assert_nobody(f, "c");
    }
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

/* All or none, on this side too. */
static void a_record_that_can_not_be_written_makes_none(void **state)
{
    struct fixture *f = *state;
    char path[192];
    struct answered answered = {0};
    static const char *const names[] = {"b", "c"};
    prepare(f, "a");
    assert_int_equal(
        cellar_fork_async(f->s, names, 2, on_answer, &answered, &f->err),
        CELLAR_OK);
    (void)snprintf(path, sizeof path, "%s/sessions/c/record.json",
                   f->state_dir);
    assert_int_equal(mkdir(path, 0700), 0); /* in its place */
    while (answered.count == 0 && cellar_dispatch(f->c, 10))
        ;
    assert_int_equal(answered.code, CELLAR_E_SYS);
    assert_int_equal(rmdir(path), 0);
    assert_nobody(f, "b");
    assert_nobody(f, "c");
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
}

static void names_that_can_not_be_had_are_not_asked_for(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *first, *second;
        enum cellar_code code;
    } bad[] = {{"b", "B", CELLAR_E_USAGE},    {"b", "../c", CELLAR_E_USAGE},
               {"b", "", CELLAR_E_USAGE},     {"b", "b", CELLAR_E_EXISTS},
               {"b", "a", CELLAR_E_EXISTS},   {"a", "b", CELLAR_E_EXISTS},
               {"b", "old", CELLAR_E_EXISTS}, {"old", NULL, CELLAR_E_EXISTS}};
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_record old = {.name = "old", .engine = "fake"};
    prepare(f, "a");
    assert_int_equal(cellar_hold_take(f->state_dir, "old", &hold, &f->err), 0);
    assert_int_equal(cellar_record_save(&hold, &old, &f->err), CELLAR_OK);
    cellar_hold_done(&hold);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(fork_to(f, bad[i].first, bad[i].second), bad[i].code);
        assert_nobody(f, "b");
    }
    assert_int_equal(agent.forks, 0);
    stop_all(f, "old", NULL);
}

static void the_name_of_a_lost_session_may_be_taken(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_record old = {
        .name = "b", .engine = "fake", .container = "gone", .lost = "long ago"};
    prepare(f, "a");
    assert_int_equal(cellar_hold_take(f->state_dir, "b", &hold, &f->err), 0);
    assert_int_equal(cellar_record_save(&hold, &old, &f->err), CELLAR_OK);
    cellar_hold_done(&hold);
    assert_int_equal(fork_to(f, "b", NULL), CELLAR_OK);
    struct cellar_record now = load(f, "b");
    assert_string_equal(now.lost, "");
    assert_int_equal(now.lane, FIRST);
    stop_all(f, "b", NULL);
}

static void counts_and_sessions_that_can_not_be_forked(void **state)
{
    struct fixture *f = *state;
    static const char *names[CELLAR_FORK_MAX + 1];
    prepare(f, NULL);
    for (size_t i = 0; i <= CELLAR_FORK_MAX; i++)
        names[i] = "b";
    assert_int_equal(cellar_fork(f->s, names, 0, NULL, &f->err),
                     CELLAR_E_USAGE);
    assert_int_equal(
        cellar_fork(f->s, names, CELLAR_FORK_MAX + 1, NULL, &f->err),
        CELLAR_E_USAGE);
    assert_non_null(strstr(f->err.msg, "1 to 16"));
    assert_int_equal(fork_to(f, "b", NULL), CELLAR_E_USAGE);
    assert_non_null(strstr(f->err.msg, "unnamed"));
    assert_nobody(f, "b");
    assert_int_equal(agent.forks, 0);
}

/* --------------------------------------------------------- under way ----- */

static enum cellar_code begin(struct fixture *f, const char *name,
                              struct answered *answered)
{
    return cellar_fork_async(f->s, &name, 1, on_answer, answered, &f->err);
}

static void names_are_held_until_the_answer(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct answered first = {0}, second = {0};
    prepare(f, "a");
    assert_int_equal(begin(f, "b", &first), CELLAR_OK);
    assert_int_equal(cellar_hold_take(f->state_dir, "b", &hold, &f->err),
                     CELLAR_E_BUSY);
    assert_int_equal(begin(f, "c", &second), CELLAR_E_BUSY);
    assert_nobody(f, "c");
    while (first.count == 0 && cellar_dispatch(f->c, 10))
        ;
    assert_int_equal(first.code, CELLAR_OK);
    assert_int_equal(second.count, 0);
    assert_int_equal(agent.forks, 1);
    stop_all(f, "b", NULL);
}

static void an_end_frees_the_names(void **state)
{
    struct fixture *f = *state;
    struct answered answered = {0};
    prepare(f, "a");
    agent.unanswered = 1;
    assert_int_equal(begin(f, "b", &answered), CELLAR_OK);
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    assert_int_equal(answered.count, 1);
    assert_int_equal(answered.code, CELLAR_E_LOST);
    assert_nobody(f, "b");
}

/* An answer of before stands in the agent's ring, and comes after WELCOME. */
static void hello_with_an_answer(struct fake_agent *to,
                                 const struct cellar_message *msg)
{
    bool again = msg->type == CELLAR_MSG_HELLO;
    to->delivered += again;
    on_message(to, msg);
    to->delivered -= again;
    if (again)
        reply(to, CELLAR_MSG_FORK, agent.forks ? FIRST : 11, NULL);
}

/* The answer is in the agent's keeping: to ask again would make more. */
static void a_broken_stream_does_not_fork_twice(void **state)
{
    struct fixture *f = *state;
    prepare(f, "a");
    fake.on_message = hello_with_an_answer;
    agent.unanswered = 1;
    agent.break_stream = true;
    assert_int_equal(fork_to(f, "b", NULL), CELLAR_OK);
    assert_int_equal(fake.attaches, 1);
    assert_int_equal(agent.forks, 1);
    assert_int_equal(load(f, "b").lane, FIRST);
    stop_all(f, "b", NULL);
}

static void one_that_the_agent_never_saw_is_asked_for_again(void **state)
{
    struct fixture *f = *state;
    prepare(f, "a");
    agent.unanswered = 1;
    agent.break_stream = true;
    assert_int_equal(fork_to(f, "b", NULL), CELLAR_OK);
    assert_int_equal(agent.forks, 2);
    assert_int_equal(fake.attaches, 1);
    stop_all(f, "b", NULL);
}

static void the_answer_to_a_dead_process_is_not_the_next_ones(void **state)
{
    struct fixture *f = *state;
    prepare(f, "a");
    cellar_close(f->s);
    fake.on_message = hello_with_an_answer;
    assert_int_equal(cellar_adopt(f->c, "a", &f->s, &f->err), CELLAR_OK);
    assert_int_equal(fork_to(f, "b", NULL), CELLAR_OK);
    assert_int_equal(agent.forks, 1);
    assert_int_equal(load(f, "b").lane, FIRST);
    stop_all(f, "b", NULL);
}

/* ----------------------------------------------------------- adopted ----- */

/* The fake agent is that of a branch from now on. */
static void be_branch(const struct cellar_record *record)
{
    fake_next_agent();
    cellar_link_done(&fake.agent.link);
    cellar_link_init(&fake.agent.link, CELLAR_ROLE_AGENT, record->key);
    fake.agent.last_cell = record->cells;
    fake.agent.attached = 1; /* its worker is ready */
}

static void
a_branch_is_adopted_on_its_lane_and_leaves_the_container(void **state)
{
    struct fixture *f = *state;
    struct cellar_session *branch = NULL;
    prepare(f, "a");
    cellar_result_free(run(f, "x"));
    assert_int_equal(fork_to(f, "b", NULL), CELLAR_OK);
    cellar_close(f->s);
    struct cellar_record record = load(f, "b");
    be_branch(&record);
    assert_int_equal(cellar_adopt(f->c, "b", &branch, &f->err), CELLAR_OK);
    assert_int_equal(fake.lane, FIRST);
    f->s = branch;
    struct cellar_result *result = run(f, "y");
    assert_int_equal(result->cell, 2);
    cellar_result_free(result);
    assert_int_equal(cellar_stop(branch, &f->err), CELLAR_OK);
    assert_int_equal(agent.stops, 1);
    assert_int_equal(fake.removes, 0);
    assert_nobody(f, "b");
    load(f, "a");
    assert_int_equal(cellar_stop_name(f->c, "a", &f->err), CELLAR_OK);
    assert_nobody(f, "a");
}

static void says_that_it_has_ended(struct fake_agent *to,
                                   const struct cellar_message *msg)
{
    struct cellar_message fault = {
        .type = CELLAR_MSG_FAULT,
        .u.fault = {.code = CELLAR_FAULT_ENDED,
                    .text = {(const uint8_t *)"its lease", 9}}};
    to->attached = 0; /* it has no worker */
    fake_polite(to, msg);
    if (msg->type == CELLAR_MSG_HELLO)
        fake_say(to, &fault);
}

static void a_branch_that_has_ended_is_lost_and_forgotten(void **state)
{
    struct fixture *f = *state;
    struct cellar_session *branch = NULL;
    prepare(f, "a");
    assert_int_equal(fork_to(f, "b", NULL), CELLAR_OK);
    cellar_close(f->s);
    struct cellar_record record = load(f, "b");
    be_branch(&record);
    fake.on_message = says_that_it_has_ended;
    assert_int_equal(cellar_adopt(f->c, "b", &branch, &f->err), CELLAR_E_LOST);
    assert_string_equal(f->err.msg, "session b is lost: its lease");
    assert_int_equal(fake.removes, 0);
    assert_nobody(f, "b");
    fake.on_message = on_message;
    assert_int_equal(cellar_stop_name(f->c, "a", &f->err), CELLAR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(branches_are_recorded_as_the_agent_made_them),
        T(a_refusal_makes_none),
        T(lanes_that_are_none_make_none),
        T(a_record_that_can_not_be_written_makes_none),
        T(names_that_can_not_be_had_are_not_asked_for),
        T(the_name_of_a_lost_session_may_be_taken),
        T(counts_and_sessions_that_can_not_be_forked),
        T(names_are_held_until_the_answer),
        T(an_end_frees_the_names),
        T(a_broken_stream_does_not_fork_twice),
        T(one_that_the_agent_never_saw_is_asked_for_again),
        T(the_answer_to_a_dead_process_is_not_the_next_ones),
        T(a_branch_is_adopted_on_its_lane_and_leaves_the_container),
        T(a_branch_that_has_ended_is_lost_and_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
