/* How a cell ends, by what the worker says, what befalls it, and what the
 * agent does to it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime-image/agent/cell.h"

#define SECOND 1000000u
#define GRACE  (2 * SECOND)

/* wait(2)'s statuses. */
#define EXITED(code)   ((code) << 8)
#define KILLED(signal) (signal)

static struct cellar_cell cell;
static struct cellar_msg_done done;

static int set_up(void **state)
{
    (void)state;
    cellar_cell_init(&cell);
    memset(&done, 0xa5, sizeof(done));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cellar_cell_done(&cell);
    return 0;
}

static enum cellar_code accept_cell(uint64_t number, uint64_t timeout_ms)
{
    const struct cellar_msg_run run = {.code = {(const uint8_t *)"x", 1},
                                       .timeout_ms = timeout_ms};
    return cellar_cell_accept(&cell, number, &run);
}

/* A cell that has run for a second since time 1 s. */
static void begin(uint64_t timeout_ms)
{
    assert_int_equal(accept_cell(7, timeout_ms), CELLAR_OK);
    cellar_cell_start(&cell, SECOND, 99);
}

/* DRAINING or HELD. What became of the globals is never the cell's to say. */
static void assert_ended(enum cellar_cell_phase phase,
                         enum cellar_status status, enum cellar_limit limit,
                         uint64_t code)
{
    assert_int_equal(cell.phase, phase);
    assert_int_equal(done.status, status);
    assert_int_equal(done.state, CELLAR_STATE_KEPT);
    assert_int_equal(done.limit, limit);
    assert_int_equal(done.code, code);
    assert_int_equal(cellar_cell_wall(&cell), SECOND);
}

static void end(enum cellar_outcome outcome, uint32_t status)
{
    cellar_cell_end(&cell, 2 * SECOND, outcome, status, &done);
    assert_int_equal(cell.phase, CELLAR_CELL_DRAINING);
}

static void no_cell_runs_twice(void **state)
{
    (void)state;
    assert_int_equal(accept_cell(7, 0), CELLAR_OK);
    assert_int_equal(accept_cell(8, 0), CELLAR_E_PROTO);
    cellar_cell_start(&cell, SECOND, 1);
    assert_int_equal(accept_cell(8, 0), CELLAR_E_PROTO);
    end(CELLAR_OUTCOME_OK, 0);
    assert_int_equal(accept_cell(8, 0), CELLAR_E_PROTO);
    cellar_cell_clear(&cell);
    assert_int_equal(accept_cell(7, 0), CELLAR_E_PROTO);
    assert_int_equal(accept_cell(6, 0), CELLAR_E_PROTO);
    assert_int_equal(accept_cell(8, 0), CELLAR_OK);
    assert_int_equal(cell.last, 8);
}

static void the_worker_says_how(void **state)
{
    (void)state;
    begin(0);
    end(CELLAR_OUTCOME_OK, 5);
    assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_OK, CELLAR_LIMIT_NONE, 0);
    end(CELLAR_OUTCOME_ERROR, 5);
    assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_ERROR, CELLAR_LIMIT_NONE,
                 0);
    end(CELLAR_OUTCOME_EXIT, 0x1ff);
    assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_EXITED, CELLAR_LIMIT_NONE,
                 0xff);
}

static void an_interrupt_nobody_asked_for_is_an_error(void **state)
{
    (void)state;
    begin(0);
    end(CELLAR_OUTCOME_INTERRUPTED, 0);
    assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_ERROR, CELLAR_LIMIT_NONE,
                 0);
}

static void an_interrupt_that_worked(void **state)
{
    (void)state;
    begin(0);
    assert_int_equal(cellar_cell_interrupt(&cell, SECOND + 1, GRACE),
                     CELLAR_CELL_SIGNAL);
    end(CELLAR_OUTCOME_INTERRUPTED, 0);
    assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_INTERRUPTED,
                 CELLAR_LIMIT_NONE, 0);
    assert_int_equal(cellar_cell_interrupt(&cell, 2 * SECOND, GRACE),
                     CELLAR_CELL_LEAVE);
}

/* It came too late, or the cell dealt with it. */
static void an_interrupted_cell_may_end_as_it_likes(void **state)
{
    (void)state;
    begin(0);
    cellar_cell_interrupt(&cell, SECOND + 1, GRACE);
    end(CELLAR_OUTCOME_OK, 0);
    assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_OK, CELLAR_LIMIT_NONE, 0);
}

static void an_ignored_interrupt_kills_after_the_grace(void **state)
{
    (void)state;
    begin(0);
    cellar_cell_interrupt(&cell, SECOND + 500000, GRACE);
    cellar_cell_interrupt(&cell, SECOND + 900000, GRACE);
    uint64_t due = SECOND + 500000 + GRACE;
    assert_int_equal(cellar_cell_due(&cell), due);
    assert_int_equal(cellar_cell_tick(&cell, due - 1, GRACE),
                     CELLAR_CELL_LEAVE);
    assert_int_equal(cellar_cell_tick(&cell, due, GRACE), CELLAR_CELL_KILL);
    cellar_cell_end_by_kill(&cell, 2 * SECOND, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_INTERRUPTED, CELLAR_LIMIT_NONE,
                 0);
}

/* A SIGINT right behind the code may find the worker still idle. */
static void an_early_interrupt_is_repeated_once(void **state)
{
    (void)state;
    begin(0);
    cellar_cell_interrupt(&cell, SECOND + 10, GRACE);
    uint64_t again = cellar_cell_due(&cell);
    assert_in_range(again, SECOND + 11, SECOND + GRACE);
    assert_int_equal(cellar_cell_tick(&cell, again, GRACE), CELLAR_CELL_SIGNAL);
    assert_int_equal(cellar_cell_due(&cell), SECOND + 10 + GRACE);
}

static void a_waiting_cell_is_cancelled(void **state)
{
    (void)state;
    assert_int_equal(accept_cell(7, 1000), CELLAR_OK);
    assert_int_equal(cellar_cell_due(&cell), 0);
    assert_int_equal(cellar_cell_tick(&cell, 9 * SECOND, GRACE),
                     CELLAR_CELL_LEAVE);
    assert_int_equal(cellar_cell_interrupt(&cell, SECOND, GRACE),
                     CELLAR_CELL_CANCEL);
    cellar_cell_end_by_kill(&cell, 2 * SECOND, &done);
    assert_int_equal(cell.phase, CELLAR_CELL_HELD);
    assert_int_equal(done.status, CELLAR_STATUS_INTERRUPTED);
    assert_int_equal(cellar_cell_wall(&cell), 0);
}

static void a_timeout_is_one_whatever_the_worker_says(void **state)
{
    (void)state;
    const enum cellar_outcome all[] = {CELLAR_OUTCOME_OK, CELLAR_OUTCOME_ERROR,
                                       CELLAR_OUTCOME_INTERRUPTED,
                                       CELLAR_OUTCOME_EXIT};
    begin(900);
    assert_int_equal(cellar_cell_due(&cell), SECOND + 900000);
    assert_int_equal(cellar_cell_tick(&cell, SECOND + 899999, GRACE),
                     CELLAR_CELL_LEAVE);
    assert_int_equal(cellar_cell_tick(&cell, SECOND + 900000, GRACE),
                     CELLAR_CELL_SIGNAL);
    assert_int_equal(cellar_cell_tick(&cell, SECOND + 900001, GRACE),
                     CELLAR_CELL_LEAVE);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        end(all[i], 3);
        assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_TIMEOUT,
                     CELLAR_LIMIT_TIMEOUT, 0);
    }
}

static void a_timeout_that_is_ignored(void **state)
{
    (void)state;
    begin(500);
    cellar_cell_tick(&cell, SECOND + 500000, GRACE);
    uint64_t due = SECOND + 500000 + GRACE;
    assert_int_equal(cellar_cell_tick(&cell, due, GRACE), CELLAR_CELL_KILL);
    cellar_cell_end_by_kill(&cell, 2 * SECOND, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_TIMEOUT, CELLAR_LIMIT_TIMEOUT,
                 0);
    cellar_cell_end_by_death(&cell, 2 * SECOND, KILLED(SIGSEGV), false, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_TIMEOUT, CELLAR_LIMIT_TIMEOUT,
                 0);
}

static void deaths(void **state)
{
    (void)state;
    begin(0);
    cellar_cell_end_by_death(&cell, 2 * SECOND, EXITED(7), true, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_EXITED, CELLAR_LIMIT_NONE, 7);
    cellar_cell_end_by_death(&cell, 2 * SECOND, KILLED(SIGSEGV) | 0x80, true,
                             &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE,
                 SIGSEGV);
    cellar_cell_end_by_death(&cell, 2 * SECOND, KILLED(SIGKILL), false, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE,
                 SIGKILL);
    cellar_cell_end_by_death(&cell, 2 * SECOND, KILLED(SIGKILL), true, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_OUT_OF_MEMORY,
                 CELLAR_LIMIT_MEMORY, 0);
    cellar_cell_end_by_death(&cell, 2 * SECOND, KILLED(SIGINT), false, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE,
                 SIGINT);
    cellar_cell_end_by_kill(&cell, 2 * SECOND, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE,
                 SIGKILL);
}

static void an_interrupted_worker_may_die_of_it(void **state)
{
    (void)state;
    begin(0);
    cellar_cell_interrupt(&cell, SECOND + 1, GRACE);
    cellar_cell_end_by_death(&cell, 2 * SECOND, KILLED(SIGINT), false, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_INTERRUPTED, CELLAR_LIMIT_NONE,
                 0);
    cellar_cell_end_by_death(&cell, 2 * SECOND, KILLED(SIGSEGV), false, &done);
    assert_ended(CELLAR_CELL_HELD, CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE,
                 SIGSEGV);
}

/* Nothing can be done to a cell that waits to hear of its globals, and no other
 * comes before it is dealt with. */
static void a_held_cell_only_waits(void **state)
{
    (void)state;
    begin(900);
    cellar_cell_end_by_death(&cell, 2 * SECOND, EXITED(1), false, &done);
    assert_int_equal(cell.phase, CELLAR_CELL_HELD);
    assert_int_equal(cellar_cell_due(&cell), 0);
    assert_int_equal(cellar_cell_tick(&cell, 99 * SECOND, GRACE),
                     CELLAR_CELL_LEAVE);
    assert_int_equal(cellar_cell_interrupt(&cell, 99 * SECOND, GRACE),
                     CELLAR_CELL_LEAVE);
    assert_false(cell.interrupted || cell.timed_out);
    assert_int_equal(accept_cell(8, 0), CELLAR_E_PROTO);
    cellar_cell_clear(&cell);
    assert_int_equal(accept_cell(8, 0), CELLAR_OK);
}

static void the_next_cell_knows_nothing_of_it(void **state)
{
    (void)state;
    begin(100);
    cellar_cell_tick(&cell, 2 * SECOND, GRACE);
    cellar_cell_interrupt(&cell, 2 * SECOND, GRACE);
    end(CELLAR_OUTCOME_OK, 0);
    cellar_cell_clear(&cell);
    assert_int_equal(cell.phase, CELLAR_CELL_NONE);
    assert_int_equal(accept_cell(8, 0), CELLAR_OK);
    cellar_cell_start(&cell, SECOND, 100);
    assert_int_equal(cellar_cell_due(&cell), 0);
    end(CELLAR_OUTCOME_OK, 0);
    assert_ended(CELLAR_CELL_DRAINING, CELLAR_STATUS_OK, CELLAR_LIMIT_NONE, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_cell_runs_twice),
        TEST(the_worker_says_how),
        TEST(an_interrupt_nobody_asked_for_is_an_error),
        TEST(an_interrupt_that_worked),
        TEST(an_interrupted_cell_may_end_as_it_likes),
        TEST(an_ignored_interrupt_kills_after_the_grace),
        TEST(an_early_interrupt_is_repeated_once),
        TEST(a_waiting_cell_is_cancelled),
        TEST(a_timeout_is_one_whatever_the_worker_says),
        TEST(a_timeout_that_is_ignored),
        TEST(deaths),
        TEST(an_interrupted_worker_may_die_of_it),
        TEST(a_held_cell_only_waits),
        TEST(the_next_cell_knows_nothing_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
