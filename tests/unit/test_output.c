/* The worker's output, from real pipes into the ring: the cap, the window, a
 * host that stops, and what belongs to no cell. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime-image/agent/output.h"

#define SECOND 1000000u

static struct cellar_output output;
static struct cellar_wire wire;
static int writers[2]; /* what the worker has as fds 1 and 2 */

static int set_up(void **state)
{
    int out[2];
    int err[2];
    (void)state;
    if (pipe2(out, O_NONBLOCK) != 0 || pipe2(err, O_NONBLOCK) != 0)
        return -1;
    writers[0] = out[1];
    writers[1] = err[1];
    cellar_ring_init(&wire.ring);
    cellar_output_init(&output);
    cellar_output_open(&output, out[0], err[0]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(writers[0]);
    close(writers[1]);
    cellar_output_close(&output);
    cellar_ring_done(&wire.ring);
    return 0;
}

static size_t print(int which, const char *text)
{
    ssize_t n = write(writers[which], text, strlen(text));
    return n > 0 ? (size_t)n : 0;
}

/* Fills the pipe; returns how much it took. */
static size_t flood(int which)
{
    static uint8_t bytes[4096];
    size_t total = 0;
    ssize_t n = write(writers[which], bytes, sizeof(bytes));
    for (; n > 0; n = write(writers[which], bytes, sizeof(bytes)))
        total += (size_t)n;
    return total;
}

/* Takes the next OUTPUT off the ring: of cell 5, of `stream`, saying `text`. */
static void assert_sent(uint64_t stream, const char *text)
{
    struct cellar_bytes payload;
    struct cellar_message msg;
    assert_true(cellar_ring_next(&wire.ring, &payload));
    assert_int_equal(cellar_message_unpack(payload.data, payload.len, &msg),
                     CELLAR_OK);
    assert_int_equal(msg.cell, 5);
    assert_int_equal(msg.u.output.stream, stream);
    assert_int_equal(msg.u.output.data.len, strlen(text));
    assert_memory_equal(msg.u.output.data.data, text, strlen(text));
}

static void assert_nothing_sent(void)
{
    assert_false(cellar_ring_due(&wire.ring));
}

static void read_both(uint64_t now)
{
    cellar_output_read(&output, &wire, 0, now);
    cellar_output_read(&output, &wire, 1, now);
}

static void sends_what_a_cell_prints(void **state)
{
    (void)state;
    cellar_output_begin(&output, 5, 1000);
    print(0, "out");
    print(1, "err");
    read_both(1);
    assert_sent(1, "out");
    assert_sent(2, "err");
    assert_nothing_sent();
}

static void keeps_the_last_words_of_a_start(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++)
        print(1, "long before ");
    print(1, "\033[31mlast words\n\n");
    print(0, "not these");
    read_both(1);
    struct cellar_bytes tail = cellar_output_tail(&output);
    assert_int_equal(tail.len, CELLAR_OUTPUT_TAIL - 2);
    assert_memory_equal(tail.data + tail.len - 15, "?[31mlast words", 15);
    assert_nothing_sent();
}

static void late_output_belongs_to_no_cell(void **state)
{
    (void)state;
    cellar_output_idle(&output);
    print(0, "seen by poll between cells");
    read_both(1);
    print(0, "seen with the next RUN");
    output.maybe[0] = true;
    cellar_output_begin(&output, 5, 1000);
    print(0, "own");
    read_both(2);
    assert_sent(1, "own");
    assert_nothing_sent();
    assert_int_equal(output.dropped[0], 0);
}

/* It fills the pipe and waits, instead of keeping the agent busy. */
static void a_process_left_behind_has_to_wait(void **state)
{
    (void)state;
    cellar_output_idle(&output);
    while (cellar_output_wants(&output, &wire)) {
        flood(0);
        cellar_output_read(&output, &wire, 0, 1);
    }
    assert_in_range(output.discarded, 1u << 20, 2u << 20);
    flood(0);
    cellar_output_begin(&output, 5, 1000);
    assert_true(cellar_output_wants(&output, &wire));
    print(0, "own");
    read_both(2);
    assert_sent(1, "own");
}

static void the_cap_is_for_both_streams(void **state)
{
    (void)state;
    cellar_output_begin(&output, 5, 7);
    print(0, "12345");
    print(1, "67890");
    read_both(1);
    print(0, "more");
    read_both(2);
    assert_sent(1, "12345");
    assert_sent(2, "67");
    assert_nothing_sent();
    assert_int_equal(output.dropped[0], 4);
    assert_int_equal(output.dropped[1], 3);
}

static void without_a_cap_to_spend_everything_is_dropped(void **state)
{
    (void)state;
    cellar_output_begin(&output, 5, 0);
    size_t total = flood(0);
    for (int i = 0; i < 10; i++)
        read_both(1);
    assert_nothing_sent();
    assert_int_equal(output.dropped[0], total);
}

/* Prints until the ring's window for output is full and the pipe too. */
static void fill_the_window(uint64_t now)
{
    cellar_output_begin(&output, 5, UINT64_MAX);
    while (cellar_output_wants(&output, &wire)) {
        flood(0);
        cellar_output_read(&output, &wire, 0, now);
    }
}

static void a_slow_host_makes_the_writers_wait(void **state)
{
    (void)state;
    fill_the_window(SECOND);
    uint64_t due = cellar_output_due(&output);
    assert_int_equal(due, SECOND + CELLAR_OUTPUT_STALL_US);
    cellar_output_tick(&output, &wire, due - 1);
    assert_false(cellar_output_wants(&output, &wire));
    assert_true(cellar_ring_ack(&wire.ring, 3));
    cellar_output_tick(&output, &wire, due);
    assert_true(cellar_output_wants(&output, &wire));
    assert_int_equal(cellar_output_due(&output), 0);
    uint64_t before = cellar_ring_delivered(&wire.ring);
    cellar_output_read(&output, &wire, 0, due);
    assert_int_equal(cellar_ring_delivered(&wire.ring), before + 1);
    assert_int_equal(output.dropped[0], 0);
}

static void a_stopped_host_loses_the_rest(void **state)
{
    (void)state;
    fill_the_window(SECOND);
    uint64_t before = cellar_ring_delivered(&wire.ring);
    cellar_output_tick(&output, &wire, cellar_output_due(&output));
    assert_int_equal(cellar_output_due(&output), 0);
    for (int i = 0; i < 10; i++) {
        assert_true(cellar_output_wants(&output, &wire));
        flood(0);
        cellar_output_read(&output, &wire, 0, 9 * SECOND);
    }
    assert_int_equal(cellar_ring_delivered(&wire.ring), before);
    assert_in_range(output.dropped[0], 64u << 10, 64u << 20);
}

/* Its worker has to come to an end, and can't while it waits in a write. */
static void a_cell_that_is_to_end_waits_for_no_host(void **state)
{
    (void)state;
    fill_the_window(SECOND);
    cellar_output_hurry(&output);
    cellar_output_tick(&output, &wire, SECOND + 1);
    assert_true(cellar_output_wants(&output, &wire));
    cellar_output_read(&output, &wire, 0, SECOND + 1);
    assert_in_range(output.dropped[0], 1, CELLAR_CHUNK_MAX);
    cellar_output_begin(&output, 6, 100);
    assert_false(output.hurried);
}

/* An acknowledgement that does not make room yet shows a host that reads. */
static void the_patience_starts_anew_with_each_acknowledgement(void **state)
{
    (void)state;
    fill_the_window(SECOND);
    wire.ring.first++;
    wire.ring.count--;
    cellar_output_tick(&output, &wire, 4 * SECOND);
    assert_int_equal(cellar_output_due(&output),
                     4 * SECOND + CELLAR_OUTPUT_STALL_US);
    wire.ring.first--;
    wire.ring.count++;
}

/* Whoever wrote between two cells keeps the old pipe, which nobody listens to
 * but which does not break. */
static void a_late_writer_keeps_a_pipe_of_its_own(void **state)
{
    (void)state;
    int fresh[2][2];
    cellar_output_begin(&output, 4, 1000);
    assert_false(output.late);
    cellar_output_idle(&output);
    print(0, "late");
    cellar_output_read(&output, &wire, 0, 1);
    cellar_output_begin(&output, 5, 1000);
    assert_true(output.late);
    assert_int_equal(pipe2(fresh[0], O_NONBLOCK), 0);
    assert_int_equal(pipe2(fresh[1], O_NONBLOCK), 0);
    cellar_output_replace(&output, fresh[0][0], fresh[1][0]);
    print(0, "later");
    assert_int_equal(write(fresh[0][1], "mine", 4), 4);
    cellar_output_read(&output, &wire, 0, 1);
    assert_sent(1, "mine");
    cellar_output_idle(&output);
    cellar_output_begin(&output, 6, 1000);
    assert_false(output.late);
    /* It is read away while a cell runs, so its writer never waits long. */
    assert_int_equal(output.left_count, 2);
    flood(0);
    cellar_output_tick(&output, &wire, SECOND);
    assert_in_range(cellar_output_due(&output), SECOND + 1, 2 * SECOND);
    cellar_output_tick(&output, &wire, 2 * SECOND);
    assert_true(print(0, "still") > 0);
    assert_nothing_sent();
    close(fresh[0][1]);
    close(fresh[1][1]);
}

static void the_end_takes_what_the_pipes_hold(void **state)
{
    (void)state;
    cellar_output_begin(&output, 5, 1000);
    print(0, "a");
    cellar_output_read(&output, &wire, 0, 1);
    print(1, "b");
    cellar_output_end(&output, true);
    assert_true(cellar_output_drained(&output, &wire, 1));
    assert_sent(1, "a");
    assert_sent(2, "b");
}

/* poll() has looked at the pipes after the END: nothing is read in vain. */
static void the_end_looks_only_where_something_may_be(void **state)
{
    (void)state;
    cellar_output_begin(&output, 5, 1000);
    print(1, "not announced");
    cellar_output_end(&output, false);
    assert_true(cellar_output_drained(&output, &wire, 1));
    assert_nothing_sent();
}

static void a_full_window_delays_the_end(void **state)
{
    (void)state;
    fill_the_window(SECOND);
    cellar_output_end(&output, false);
    assert_false(cellar_output_drained(&output, &wire, SECOND));
    assert_true(cellar_ring_ack(&wire.ring, 10));
    assert_true(cellar_output_drained(&output, &wire, SECOND));
    assert_int_equal(output.dropped[0], 0);
}

/* A process left behind writes on: the cell's end doesn't wait for it. */
static void the_end_is_bounded(void **state)
{
    (void)state;
    fcntl(writers[0], F_SETPIPE_SZ, CELLAR_OUTPUT_PIPE_BYTES);
    cellar_output_begin(&output, 5, UINT64_MAX);
    flood(0);
    cellar_output_end(&output, true);
    assert_true(cellar_output_drained(&output, &wire, 1));
    /* A frame's data is a little less than the most, so a rest is left. */
    assert_in_range(cellar_ring_delivered(&wire.ring), 1,
                    CELLAR_OUTPUT_PIPE_BYTES / CELLAR_CHUNK_MAX + 1);
}

static void closed_pipes_are_quiet(void **state)
{
    (void)state;
    cellar_output_begin(&output, 5, 1000);
    close(writers[0]);
    writers[0] = -1;
    read_both(1);
    assert_int_equal(output.fds[0], -1);
    cellar_output_end(&output, true);
    assert_true(cellar_output_drained(&output, &wire, 1));
    assert_nothing_sent();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sends_what_a_cell_prints),
        TEST(keeps_the_last_words_of_a_start),
        TEST(late_output_belongs_to_no_cell),
        TEST(a_process_left_behind_has_to_wait),
        TEST(the_cap_is_for_both_streams),
        TEST(without_a_cap_to_spend_everything_is_dropped),
        TEST(a_slow_host_makes_the_writers_wait),
        TEST(a_stopped_host_loses_the_rest),
        TEST(a_cell_that_is_to_end_waits_for_no_host),
        TEST(the_patience_starts_anew_with_each_acknowledgement),
        TEST(a_late_writer_keeps_a_pipe_of_its_own),
        TEST(the_end_takes_what_the_pipes_hold),
        TEST(the_end_looks_only_where_something_may_be),
        TEST(a_full_window_delays_the_end),
        TEST(the_end_is_bounded),
        TEST(closed_pipes_are_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
