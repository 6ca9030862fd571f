/* How sessions come to be: started, or adopted; and what they leave when they
 * do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "kernel/record.h"
#include "session_fixture.h"

/* ----------------------------------------------------------- start ---- */

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

/* As an agent does that does not know this host's greeting. */
static void ends_unasked(struct fake_agent *agent,
                         const struct cellar_message *msg)
{
    (void)msg;
    agent->gone = true;
}

static void an_end_is_told_once_in_the_engines_words(void **state)
{
    struct fixture *f = *state;
    fake.on_message = ends_unasked;
    fake.reason = "the container ended: its agent was not greeted";
    assert_int_equal(start(f, "a"), CELLAR_E_LOST);
    assert_string_equal(f->err.msg, fake.reason);
}

static void an_end_that_nobody_knows_more_of_is_told_once(void **state)
{
    struct fixture *f = *state;
    fake.on_message = ends_unasked;
    assert_int_equal(start(f, "a"), CELLAR_E_LOST);
    assert_string_equal(f->err.msg, "the container ended");
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

/* Starts "a" beside another container of this state directory; how many
 * containers that removed. */
static int start_beside(struct fixture *f, const char *name, const char *how)
{
    fake.removes = 0;
    fake.state = how;
    fake.listed = name;
    fake_next_agent();
    start_ok(f, "a");
    int removes = fake.removes;
    assert_int_equal(cellar_stop(f->s, &f->err), CELLAR_OK);
    return removes;
}

static void what_a_dead_process_never_recorded_goes_with_any_start(void **state)
{
    assert_int_equal(start_beside(*state, "b", "created"), 1);
    assert_int_equal(start_beside(*state, "b", "running"), 1);
}

static void what_a_dead_process_left_unnamed_goes(void **state)
{
    assert_int_equal(start_beside(*state, "", "running"), 1);
}

static void what_a_live_process_started_is_left_alone(void **state)
{
    struct fixture *f = *state;
    fake.supervisor = cellar_supervisor_id(f->c, &f->err);
    assert_int_equal(start_beside(f, "", "exited"), 0);
    assert_int_equal(start_beside(f, "b", "created"), 0);
}

/* A recorded session, "b" in container fake1, that its process let go of. */
static void record_b(struct fixture *f)
{
    start_ok(f, "b");
    cellar_close(f->s);
    f->s = NULL;
}

static void a_live_session_of_a_dead_process_is_left_alone(void **state)
{
    struct fixture *f = *state;
    record_b(f);
    assert_int_equal(start_beside(f, "b", "running"), 0);
    assert_int_equal(cellar_stop_name(f->c, "b", &f->err), CELLAR_OK);
}

static void an_ended_session_is_removed_and_its_reason_kept(void **state)
{
    struct fixture *f = *state;
    struct cellar_session *s = NULL;
    record_b(f);
    fake.reason = "its lease was over";
    assert_int_equal(start_beside(f, "b", "exited"), 1);
    assert_int_equal(cellar_adopt(f->c, "b", &s, &f->err), CELLAR_E_LOST);
    assert_non_null(strstr(f->err.msg, "its lease was over"));
    assert_int_equal(cellar_adopt(f->c, "b", &s, &f->err), CELLAR_E_NOT_FOUND);
}

static void an_ended_session_that_somebody_has_is_left_to_him(void **state)
{
    struct fixture *f = *state;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    record_b(f);
    assert_int_equal(cellar_hold_take(f->state_dir, "b", &hold, &f->err),
                     CELLAR_OK);
    assert_int_equal(start_beside(f, "b", "exited"), 0);
    cellar_hold_done(&hold);
    assert_int_equal(cellar_stop_name(f->c, "b", &f->err), CELLAR_OK);
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

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(an_unfit_image_is_an_error_that_leaves_nothing),
        T(an_end_is_told_once_in_the_engines_words),
        T(an_end_that_nobody_knows_more_of_is_told_once),
        T(a_start_that_the_engine_refuses_leaves_nothing),
        T(an_agent_may_answer_before_the_engine_does),
        T(a_fault_before_the_engines_answer_leaves_nothing),
        T(a_mute_agent_meets_the_deadline),
        T(a_name_that_lives_is_taken),
        T(what_a_killed_start_left_is_removed),
        T(what_a_dead_process_never_recorded_goes_with_any_start),
        T(what_a_dead_process_left_unnamed_goes),
        T(what_a_live_process_started_is_left_alone),
        T(a_live_session_of_a_dead_process_is_left_alone),
        T(an_ended_session_is_removed_and_its_reason_kept),
        T(an_ended_session_that_somebody_has_is_left_to_him),
        T(a_namesake_of_another_owner_is_left_alone),
        T(a_name_in_use_is_busy_and_says_by_whom),
        T(a_named_session_is_adopted_with_its_count),
        T(a_record_whose_container_is_gone_is_lost_and_dropped),
        T(an_agent_that_is_mute_at_adoption_is_kept),
        T(a_damaged_record_is_reported_and_can_be_stopped),
        T(names_are_checked_before_anything_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
