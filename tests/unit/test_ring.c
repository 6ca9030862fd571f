/* The agent's ring: numbers, order, repetition, and room that is always there
 * for a cell's DONE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime-image/agent/ring.h"

static struct cellar_ring ring;
static uint8_t chunk[CELLAR_CHUNK_MAX];

static int set_up(void **state)
{
    (void)state;
    cellar_ring_init(&ring);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cellar_ring_done(&ring);
    return 0;
}

static enum cellar_code add_output(size_t len)
{
    struct cellar_message msg = {.type = CELLAR_MSG_OUTPUT, .cell = 1};
    msg.u.output.stream = 1;
    msg.u.output.data = (struct cellar_bytes){chunk, len};
    return cellar_ring_add(&ring, &msg);
}

/* The delivery number of what is due next, or 0. */
static uint64_t next_mark(void)
{
    struct cellar_bytes payload;
    struct cellar_message msg;
    if (!cellar_ring_next(&ring, &payload))
        return 0;
    assert_int_equal(cellar_message_unpack(payload.data, payload.len, &msg),
                     CELLAR_OK);
    return msg.mark;
}

static void numbers_and_lends_in_order(void **state)
{
    (void)state;
    assert_int_equal(cellar_ring_delivered(&ring), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(add_output(10 + i), CELLAR_OK);
    assert_int_equal(cellar_ring_delivered(&ring), 3);
    assert_int_equal(next_mark(), 1);
    assert_int_equal(next_mark(), 2);
    assert_true(cellar_ring_due(&ring));
    assert_int_equal(next_mark(), 3);
    assert_false(cellar_ring_due(&ring));
    assert_int_equal(next_mark(), 0);
}

static void repeats_what_was_not_acknowledged(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(add_output(100), CELLAR_OK);
    assert_int_equal(next_mark(), 1);
    assert_int_equal(next_mark(), 2);
    assert_true(cellar_ring_ack(&ring, 1));
    assert_int_equal(next_mark(), 3);
    cellar_ring_rewind(&ring);
    assert_int_equal(next_mark(), 2);
    assert_true(cellar_ring_ack(&ring, 4));
    assert_int_equal(next_mark(), 0);
    assert_int_equal(add_output(1), CELLAR_OK);
    assert_int_equal(next_mark(), 5);
}

/* The last host had them and told this one, which has not been sent any. */
static void acknowledged_before_sent(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(add_output(100), CELLAR_OK);
    assert_true(cellar_ring_ack(&ring, 2));
    assert_int_equal(next_mark(), 3);
    assert_true(cellar_ring_ack(&ring, 2));
    assert_true(cellar_ring_ack(&ring, 0));
    assert_int_equal(cellar_ring_delivered(&ring), 3);
}

static void a_number_never_given_is_no_acknowledgement(void **state)
{
    (void)state;
    assert_false(cellar_ring_ack(&ring, 1));
    assert_int_equal(add_output(5), CELLAR_OK);
    assert_false(cellar_ring_ack(&ring, 2));
    assert_false(cellar_ring_ack(&ring, UINT64_MAX));
    assert_int_equal(next_mark(), 1);
}

static void fill_with_output(size_t len)
{
    while (cellar_ring_output_room(&ring) > len + 64)
        assert_int_equal(add_output(len), CELLAR_OK);
}

/* The largest that the message layer lets pass. */
static struct cellar_message largest_done(const uint8_t *bytes)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DONE, .cell = 1};
    struct cellar_msg_done *done = &msg.u.done;
    done->parts = CELLAR_MIME_MAX;
    for (size_t i = 0; i < CELLAR_MIME_MAX; i++) {
        done->result[i].type = (struct cellar_bytes){bytes, CELLAR_NAME_MAX};
        done->result[i].data =
            (struct cellar_bytes){bytes, CELLAR_RESULT_MAX / CELLAR_MIME_MAX};
    }
    return msg;
}

static void a_done_fits_beside_all_output(void **state)
{
    (void)state;
    uint8_t *bytes = calloc(1, CELLAR_RESULT_MAX);
    struct cellar_message ok = largest_done(bytes);
    struct cellar_message error = {.type = CELLAR_MSG_DONE, .cell = 1};
    error.u.done.status = CELLAR_STATUS_ERROR;
    error.u.done.has_error = true;
    error.u.done.error_name = (struct cellar_bytes){bytes, CELLAR_NAME_MAX};
    error.u.done.error_message =
        (struct cellar_bytes){bytes, CELLAR_MESSAGE_MAX};
    error.u.done.traceback = (struct cellar_bytes){bytes, CELLAR_TRACEBACK_MAX};
    fill_with_output(CELLAR_CHUNK_MAX);
    fill_with_output(1);
    assert_int_equal(cellar_ring_add(&ring, &ok), CELLAR_OK);
    assert_true(cellar_ring_ack(&ring, cellar_ring_delivered(&ring)));
    fill_with_output(CELLAR_CHUNK_MAX);
    assert_int_equal(cellar_ring_add(&ring, &error), CELLAR_OK);
    free(bytes);
}

/* Outputs of one byte are charged more than that. */
static void many_small_payloads_are_bounded(void **state)
{
    (void)state;
    fill_with_output(1);
    assert_in_range(cellar_ring_delivered(&ring), 1000,
                    CELLAR_RING_BYTES / CELLAR_RING_COST);
    assert_in_range(ring.payloads.size + ring.lens.size, 1,
                    CELLAR_RING_BYTES * 2);
}

static void full_is_an_error_that_changes_nothing(void **state)
{
    (void)state;
    enum cellar_code code = CELLAR_OK;
    while (code == CELLAR_OK)
        code = add_output(CELLAR_CHUNK_MAX);
    assert_int_equal(code, CELLAR_E_LIMIT);
    uint64_t count = cellar_ring_delivered(&ring);
    for (uint64_t i = 1; i <= count; i++)
        assert_int_equal(next_mark(), i);
    assert_int_equal(next_mark(), 0);
    assert_int_equal(add_output(0), CELLAR_E_PROTO);
    assert_int_equal(cellar_ring_delivered(&ring), count);
}

static void gives_a_large_window_back(void **state)
{
    (void)state;
    fill_with_output(CELLAR_CHUNK_MAX);
    assert_int_equal(add_output(7), CELLAR_OK);
    assert_in_range(ring.payloads.size, 1u << 20, CELLAR_RING_BYTES);
    uint64_t last = cellar_ring_delivered(&ring);
    cellar_ring_rest(&ring);
    assert_in_range(ring.payloads.size, 1u << 20, CELLAR_RING_BYTES);
    assert_true(cellar_ring_ack(&ring, last - 1));
    assert_in_range(ring.payloads.size, 1u << 20, CELLAR_RING_BYTES);
    cellar_ring_rest(&ring);
    assert_in_range(ring.payloads.size, 1, 64u << 10);
    assert_int_equal(next_mark(), last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_and_lends_in_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(repeats_what_was_not_acknowledged,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(acknowledged_before_sent, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            a_number_never_given_is_no_acknowledgement, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_done_fits_beside_all_output, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_small_payloads_are_bounded, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(full_is_an_error_that_changes_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(gives_a_large_window_back, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
