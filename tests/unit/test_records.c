/* What the agent makes of a worker's records, whole, in pieces and broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime-image/agent/records.h"

static struct cellar_records records;
static struct cellar_said said;
static uint8_t large[CELLAR_RESULT_MAX + 64];

static int set_up(void **state)
{
    (void)state;
    cellar_records_init(&records);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cellar_records_done(&records);
    return 0;
}

static void arrive(const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    while (len > 0) {
        uint8_t *room = NULL;
        size_t size = 0;
        assert_int_equal(cellar_records_room(&records, &room, &size),
                         CELLAR_OK);
        size = size < len ? size : len;
        memcpy(room, from, size);
        cellar_records_arrived(&records, size);
        from += size;
        len -= size;
    }
}

static void arrive_record(char kind, const void *body, size_t len)
{
    const uint8_t header[] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16),
                              (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)kind};
    arrive(header, sizeof(header));
    arrive(body, len);
}

static void arrive_end(uint8_t ticket, uint8_t outcome, uint8_t status)
{
    const uint8_t body[CELLAR_RECORD_END_BYTES] = {
        0, 0, 0, 0, 0, 0, 0, ticket, outcome, 0, 0, 0, status};
    arrive_record('E', body, sizeof(body));
}

static enum cellar_code next(void)
{
    return cellar_records_next(&records, &said);
}

static void boot(void)
{
    arrive_record('S', "\6\2", 2);
    arrive_record('R', "3.11.2", 6);
    assert_int_equal(next(), CELLAR_OK);
    assert_int_equal(next(), CELLAR_OK);
    cellar_records_await(&records, CELLAR_RECORDS_RUNNING);
}

static void a_worker_boots(void **state)
{
    (void)state;
    assert_int_equal(next(), CELLAR_E_AGAIN);
    arrive_record('S', "\6\2", 2);
    assert_int_equal(next(), CELLAR_OK);
    assert_int_equal(said.kind, CELLAR_RECORD_SANDBOX);
    assert_int_equal(said.landlock_abi, 6);
    assert_int_equal(said.seccomp, 2);
    arrive_record('R', "3.11.2", 6);
    assert_int_equal(next(), CELLAR_OK);
    assert_int_equal(said.kind, CELLAR_RECORD_READY);
    assert_string_equal(said.python, "3.11.2");
    assert_int_equal(next(), CELLAR_E_AGAIN);
}

static void assert_bytes(struct cellar_bytes bytes, const char *text)
{
    assert_int_equal(bytes.len, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.len);
}

static void an_answer_comes_in_pieces(void **state)
{
    (void)state;
    boot();
    struct cellar_records whole = records;
    arrive_record('M',
                  "text/plain\0"
                  "42",
                  13);
    arrive_record('M', "text/html\0", 10);
    arrive_record('N', "ValueError", 10);
    arrive_record('T', "", 0);
    arrive_end(9, CELLAR_OUTCOME_ERROR, 0);
    size_t len = cellar_buf_len(&records.in);
    uint8_t *bytes = malloc(len);
    memcpy(bytes, cellar_buf_peek(&records.in), len);
    cellar_buf_done(&records.in);
    records = whole;
    cellar_buf_init(&records.in, CELLAR_ANSWER_MAX);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(next(), CELLAR_E_AGAIN);
        arrive(bytes + i, 1);
    }
    free(bytes);
    assert_int_equal(next(), CELLAR_OK);
    assert_int_equal(said.kind, CELLAR_RECORD_END);
    assert_int_equal(said.ticket, 9);
    assert_int_equal(said.outcome, CELLAR_OUTCOME_ERROR);
    struct cellar_msg_done done = {0};
    cellar_records_answer(&records, &done);
    assert_int_equal(done.parts, 2);
    assert_bytes(done.result[0].type, "text/plain");
    assert_bytes(done.result[0].data, "42");
    assert_bytes(done.result[1].type, "text/html");
    assert_bytes(done.result[1].data, "");
    assert_bytes(done.error_name, "ValueError");
    assert_bytes(done.error_message, "");
    assert_int_equal(done.traceback.len, 0);
}

static void the_next_cell_starts_empty(void **state)
{
    (void)state;
    boot();
    arrive_record('M', "a\0b", 3);
    arrive_end(1, CELLAR_OUTCOME_OK, 0);
    assert_int_equal(next(), CELLAR_OK);
    cellar_records_await(&records, CELLAR_RECORDS_IDLE);
    assert_int_equal(next(), CELLAR_E_AGAIN);
    cellar_records_await(&records, CELLAR_RECORDS_RUNNING);
    arrive_end(2, CELLAR_OUTCOME_EXIT, 3);
    assert_int_equal(next(), CELLAR_OK);
    assert_int_equal(said.exit_status, 3);
    struct cellar_msg_done done = {0};
    cellar_records_answer(&records, &done);
    assert_int_equal(done.parts, 0);
}

/* Bytes behind an END stay, and are held against the worker. */
static void nothing_may_follow_an_end(void **state)
{
    (void)state;
    boot();
    arrive_end(1, CELLAR_OUTCOME_OK, 0);
    arrive_end(2, CELLAR_OUTCOME_OK, 0);
    assert_int_equal(next(), CELLAR_OK);
    cellar_records_await(&records, CELLAR_RECORDS_IDLE);
    assert_int_equal(next(), CELLAR_E_PROTO);
    cellar_records_await(&records, CELLAR_RECORDS_RUNNING);
    assert_int_equal(next(), CELLAR_E_PROTO);
    cellar_records_await(&records, CELLAR_RECORDS_LAUNCHING);
    assert_int_equal(next(), CELLAR_E_AGAIN);
    boot();
}

static void the_largest_answer_fits(void **state)
{
    (void)state;
    boot();
    memcpy(large, "a", 2);
    arrive_record('M', large, 2 + CELLAR_RESULT_MAX);
    arrive_record('N', large, CELLAR_NAME_MAX);
    arrive_record('T', large, CELLAR_MESSAGE_MAX);
    arrive_record('B', large, CELLAR_TRACEBACK_MAX);
    arrive_record('U', large, CELLAR_WHY_MAX);
    arrive_end(1, CELLAR_OUTCOME_OK, 0);
    assert_int_equal(next(), CELLAR_OK);
    struct cellar_msg_done done = {0};
    cellar_records_answer(&records, &done);
    assert_int_equal(done.result[0].data.len, CELLAR_RESULT_MAX);
    assert_int_equal(done.traceback.len, CELLAR_TRACEBACK_MAX);
    assert_int_equal(done.checkpoint_why.len, CELLAR_WHY_MAX);
}

/* One record that must not come; the stream stays broken after it. */
static void refused(char kind, const void *body, size_t len)
{
    arrive_record(kind, body, len);
    enum cellar_code code = next();
    assert_true(code == CELLAR_E_PROTO || code == CELLAR_E_LIMIT);
    assert_int_equal(next(), CELLAR_E_PROTO);
    cellar_records_await(&records, CELLAR_RECORDS_LAUNCHING);
    boot();
}

static void rules_of_a_cell(void **state)
{
    (void)state;
    const uint8_t outcome[CELLAR_RECORD_END_BYTES] = {[8] = 4};
    boot();
    refused('R', "3.11.2", 6);
    refused('S', "\6\2", 2);
    refused('C', "12345678123456781", 17);
    refused('F', "", 0);
    refused('Z', "", 0);
    refused('W', "\0\1\2\3\4\5\6\7\10", CELLAR_RECORD_WAKE_BYTES);
    refused('A', "12345678", CELLAR_RECORD_AWAKE_BYTES);
    refused('U', "", 0);
    refused('U', large, CELLAR_WHY_MAX + 1);
    refused('x', "", 0);
    refused('M', "no zero byte", 12);
    refused('M', "\0no type", 8);
    refused('M', "", 0);
    refused('N', large, CELLAR_NAME_MAX + 1);
    refused('T', large, CELLAR_MESSAGE_MAX + 1);
    refused('B', large, CELLAR_TRACEBACK_MAX + 1);
    refused('E', outcome, sizeof(outcome));
    refused('E', outcome, sizeof(outcome) - 1);
    arrive_record('N', "a", 1);
    refused('N', "a", 1);
    arrive_record('U', "a", 1);
    refused('U', "a", 1);
    memset(large, 'a', CELLAR_NAME_MAX + 1);
    large[CELLAR_NAME_MAX + 1] = 0;
    refused('M', large, CELLAR_NAME_MAX + 2);
}

/* An answer may say that its worker can't be copied; the next one need not. */
static void a_worker_says_why_it_is_unfit(void **state)
{
    (void)state;
    boot();
    arrive_record('U', "2 threads", 9);
    arrive_end(1, CELLAR_OUTCOME_OK, 0);
    assert_int_equal(next(), CELLAR_OK);
    struct cellar_msg_done done = {0};
    cellar_records_answer(&records, &done);
    assert_bytes(done.checkpoint_why, "2 threads");
    assert_int_equal(done.parts, 0);
    cellar_records_await(&records, CELLAR_RECORDS_RUNNING);
    arrive_end(2, CELLAR_OUTCOME_OK, 0);
    assert_int_equal(next(), CELLAR_OK);
    done = (struct cellar_msg_done){0};
    cellar_records_answer(&records, &done);
    assert_int_equal(done.checkpoint_why.len, 0);
}

/* ------------------------------------------------------- a copy that wakes --
 */

static void a_copy_wakes(void **state)
{
    (void)state;
    boot();
    arrive("half of a dead worker's", 10);
    cellar_records_await(&records, CELLAR_RECORDS_WAKING);
    assert_int_equal(next(), CELLAR_E_AGAIN);
    arrive_record('A', "\1\2\3\4\5\6\7\10", 8);
    assert_int_equal(next(), CELLAR_OK);
    assert_int_equal(said.kind, CELLAR_RECORD_AWAKE);
    assert_int_equal(said.ping, 0x0102030405060708);
    assert_int_equal(next(), CELLAR_E_AGAIN);
    cellar_records_await(&records, CELLAR_RECORDS_RUNNING);
    arrive_end(1, CELLAR_OUTCOME_OK, 0);
    assert_int_equal(next(), CELLAR_OK);
}

/* One record in the place of AWAKE; what a copy of a broken stream says is
 * heard again. */
static void not_awake(char kind, const void *body, size_t len)
{
    cellar_records_await(&records, CELLAR_RECORDS_WAKING);
    arrive_record(kind, body, len);
    enum cellar_code code = next();
    assert_true(code == CELLAR_E_PROTO || code == CELLAR_E_LIMIT);
    assert_int_equal(next(), CELLAR_E_PROTO);
}

static void rules_of_waking(void **state)
{
    (void)state;
    const uint8_t end[CELLAR_RECORD_END_BYTES] = {0};
    not_awake('A', "1234567", 7);
    not_awake('A', "123456789", 9);
    not_awake('A', "", 0);
    not_awake('S', "\6\2", 2);
    not_awake('R', "3.11.2", 6);
    not_awake('E', end, sizeof(end));
    not_awake('M', "a\0b", 3);
    not_awake('U', "a", 1);
    not_awake('Z', "", 0);
    not_awake('F', "", 0);
    not_awake('W', "\0\1\2\3\4\5\6\7\10", CELLAR_RECORD_WAKE_BYTES);
    cellar_records_await(&records, CELLAR_RECORDS_WAKING);
    arrive_record('A', "12345678", 8);
    assert_int_equal(next(), CELLAR_OK);
    arrive_record('A', "12345678", 8);
    assert_int_equal(next(), CELLAR_E_PROTO);
}

static void refused_at_launch(char kind, const void *body, size_t len)
{
    cellar_records_await(&records, CELLAR_RECORDS_LAUNCHING);
    refused(kind, body, len);
}

static void refused_at_boot(char kind, const void *body, size_t len)
{
    cellar_records_await(&records, CELLAR_RECORDS_LAUNCHING);
    arrive_record('S', "\0\2", 2);
    assert_int_equal(next(), CELLAR_OK);
    refused(kind, body, len);
}

static void rules_of_a_start(void **state)
{
    (void)state;
    refused_at_launch('R', "3.11.2", 6);
    refused_at_launch('S', "\6\3", 2);
    refused_at_launch('S', "\6", 1);
    refused_at_launch('U', "a", 1);
    refused_at_launch('A', "12345678", CELLAR_RECORD_AWAKE_BYTES);
    refused_at_boot('R', "3.11\033[31m", 9);
    refused_at_boot('R', "3.11\0002", 6);
    refused_at_boot('S', "\6\2", 2);
    refused_at_boot('U', "a", 1);
    refused_at_boot('A', "12345678", CELLAR_RECORD_AWAKE_BYTES);
}

static void parts_are_bounded_together(void **state)
{
    (void)state;
    boot();
    memcpy(large, "a", 2);
    arrive_record('M', large, 2 + CELLAR_RESULT_MAX);
    refused('M', "a\0b", 3);
    for (unsigned i = 0; i < CELLAR_MIME_MAX; i++)
        arrive_record('M', "a\0b", 3);
    assert_int_equal(next(), CELLAR_E_AGAIN);
    refused('M', "a\0b", 3);
}

/* A length is refused before its bytes are waited for. */
static void announced_lengths_are_checked_at_once(void **state)
{
    (void)state;
    boot();
    arrive("\377\377\377\377M", 5);
    assert_int_equal(next(), CELLAR_E_LIMIT);
}

/* A byte of garbage on an idle socket is seen before a record is complete. */
static void an_idle_worker_is_silent(void **state)
{
    (void)state;
    boot();
    cellar_records_await(&records, CELLAR_RECORDS_IDLE);
    assert_int_equal(next(), CELLAR_E_AGAIN);
    refused('A', "12345678", CELLAR_RECORD_AWAKE_BYTES);
    cellar_records_await(&records, CELLAR_RECORDS_IDLE);
    arrive("\0", 1);
    assert_int_equal(next(), CELLAR_E_PROTO);
}

static void a_flood_ends_at_the_bound(void **state)
{
    (void)state;
    boot();
    enum cellar_code code = CELLAR_OK;
    size_t total = 0;
    arrive("\0\17\377\377M", 5);
    while (code == CELLAR_OK && total < 64u << 20) {
        uint8_t *room = NULL;
        size_t len = 0;
        code = cellar_records_room(&records, &room, &len);
        if (code == CELLAR_OK) {
            memset(room, 'a', len);
            cellar_records_arrived(&records, len);
            total += len;
        }
    }
    assert_int_equal(code, CELLAR_E_LIMIT);
    assert_in_range(total, CELLAR_RESULT_MAX, 4u << 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_worker_boots),
        TEST(an_answer_comes_in_pieces),
        TEST(the_next_cell_starts_empty),
        TEST(nothing_may_follow_an_end),
        TEST(the_largest_answer_fits),
        TEST(rules_of_a_cell),
        TEST(a_worker_says_why_it_is_unfit),
        TEST(a_copy_wakes),
        TEST(rules_of_waking),
        TEST(rules_of_a_start),
        TEST(parts_are_bounded_together),
        TEST(announced_lengths_are_checked_at_once),
        TEST(an_idle_worker_is_silent),
        TEST(a_flood_ends_at_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
