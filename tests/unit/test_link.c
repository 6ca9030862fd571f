/* One link and the other: how epochs begin, and what ends them. What a
 * stranger does to the bytes is in test_link_hostile.c, how a greeting is found
 * in test_link_resync.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"
#include "proto/link.h"

/* Whether reallocations fail. */
static bool no_memory;

/* NOLINTBEGIN(readability-identifier-naming): the linker's names */
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
/* NOLINTEND(readability-identifier-naming) */

void *__wrap_realloc(void *old, size_t size)
{
    return no_memory ? NULL : __real_realloc(old, size);
}

static void assert_page(const char *name)
{
    uint8_t page[1024];
    size_t len = wire_page_block(name, page, sizeof(page));
    assert_int_equal(cellar_buf_len(&out), len);
    assert_memory_equal(cellar_buf_peek(&out), page, len);
}

/* -------------------------------------------------------- the handshake -- */

static void speaks_the_bytes_of_the_page(void **state)
{
    size_t taken = 0;
    pair_done(state);
    cellar_link_init(&host, CELLAR_ROLE_HOST, wire_key);
    cellar_link_init(&agent, CELLAR_ROLE_AGENT, NULL);
    greet(true, wire_host_nonce);
    assert_page("greeting");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    welcome(wire_agent_nonce);
    assert_page("welcoming");
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    say(&host, "run");
    say(&host, "interrupt");
    assert_page("frames-to-agent");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 2);
    say(&agent, "output");
    say(&agent, "done");
    assert_page("frames-to-host");
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 2);
}

static void lends_what_a_message_holds(void **state)
{
    (void)state;
    struct cellar_message msg;
    size_t used = 0;
    say(&agent, "output");
    assert_int_equal(cellar_link_feed(&host, cellar_buf_peek(&out),
                                      cellar_buf_len(&out), &used),
                     CELLAR_OK);
    assert_int_equal(used, cellar_buf_len(&out));
    cellar_buf_reset(&out);
    assert_int_equal(cellar_link_next(&host, &msg), CELLAR_OK);
    assert_int_equal(msg.type, CELLAR_MSG_OUTPUT);
    assert_int_equal(msg.u.output.data.len, 6);
    assert_memory_equal(msg.u.output.data.data, "hello\n", 6);
    assert_int_equal(cellar_link_next(&host, &msg), CELLAR_E_AGAIN);
}

static void takes_everything_byte_by_byte(void **state)
{
    size_t taken = 0;
    size_t messages = 0;
    pair_done(state);
    cellar_link_init(&host, CELLAR_ROLE_HOST, wire_key);
    cellar_link_init(&agent, CELLAR_ROLE_AGENT, NULL);
    greet(true, wire_host_nonce);
    for (size_t i = 0; i < cellar_buf_len(&out); i++) {
        assert_int_equal(messages, 0);
        assert_int_equal(
            wire_feed(&agent, cellar_buf_peek(&out) + i, 1, &taken),
            CELLAR_E_AGAIN);
        messages += taken;
    }
    assert_int_equal(messages, 1);
    cellar_buf_reset(&out);
    welcome(wire_agent_nonce);
    say(&agent, "output");
    say(&agent, "done");
    messages = 0;
    for (size_t i = 0; i < cellar_buf_len(&out); i++) {
        assert_int_equal(wire_feed(&host, cellar_buf_peek(&out) + i, 1, &taken),
                         CELLAR_E_AGAIN);
        messages += taken;
    }
    assert_int_equal(messages, 3);
}

static void a_feed_takes_no_more_than_one_frame(void **state)
{
    (void)state;
    struct cellar_message msg;
    size_t used = 0;
    say(&host, "ping");
    size_t one = cellar_buf_len(&out);
    say(&host, "ping");
    assert_int_equal(cellar_link_feed(&agent, cellar_buf_peek(&out),
                                      cellar_buf_len(&out), &used),
                     CELLAR_OK);
    assert_int_equal(used, one);
    assert_int_equal(cellar_link_feed(&agent, "x", 1, &used), CELLAR_OK);
    assert_int_equal(used, 0);
    assert_int_equal(cellar_link_next(&agent, &msg), CELLAR_OK);
    assert_int_equal(cellar_link_next(&agent, &msg), CELLAR_E_AGAIN);
}

static void opens_epoch_after_epoch(void **state)
{
    (void)state;
    for (uint64_t epoch = 2; epoch < 10; epoch++) {
        handshake();
        assert_int_equal(host.epoch, epoch);
        assert_int_equal(agent.epoch, epoch);
    }
}

/* ------------------------------------------------------------- endings -- */

static void a_broken_host_answers_the_same_until_it_greets(void **state)
{
    (void)state;
    uint8_t zeros[64] = {0};
    struct cellar_message msg;
    struct cellar_message ping = wire_example("ping");
    size_t taken = 0;
    assert_int_equal(wire_feed(&host, zeros, sizeof(zeros), &taken),
                     CELLAR_E_PROTO);
    for (size_t i = 0; i < 3; i++) {
        say(&agent, "pong");
        assert_int_equal(deliver(&host, &taken), CELLAR_E_PROTO);
        assert_int_equal(cellar_link_next(&host, &msg), CELLAR_E_PROTO);
        assert_int_equal(cellar_link_send(&host, &ping, &out), CELLAR_E_PROTO);
    }
    assert_null(host.in.data);
    handshake();
}

static void a_layer_above_can_end_the_epoch(void **state)
{
    (void)state;
    struct cellar_message msg;
    size_t taken = 0;
    cellar_link_break(&host, CELLAR_E_PROTO);
    assert_int_equal(cellar_link_next(&host, &msg), CELLAR_E_PROTO);
    handshake();
    cellar_link_break(&agent, CELLAR_E_PROTO);
    assert_int_equal(cellar_link_next(&agent, &msg), CELLAR_E_AGAIN);
    say(&host, "ping");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 0);
    handshake();
}

/* --------------------------------------------------------------- keys -- */

static void a_wrong_preamble_is_final(void **state)
{
    (void)state;
    greet(true, wire_host_nonce);
    for (size_t i = 0; i < CELLAR_PREAMBLE_BYTES; i++) {
        uint8_t bytes[256];
        size_t taken = 0;
        size_t len = cellar_buf_len(&out);
        struct cellar_link fresh;
        memcpy(bytes, cellar_buf_peek(&out), len);
        bytes[i] ^= 1;
        cellar_link_init(&fresh, CELLAR_ROLE_AGENT, NULL);
        assert_int_equal(wire_feed(&fresh, bytes, i + 1, &taken),
                         CELLAR_E_PROTO);
        assert_int_equal(fresh.state, CELLAR_LINK_BROKEN);
        bytes[i] ^= 1;
        assert_int_equal(wire_feed(&fresh, bytes, len, &taken), CELLAR_E_PROTO);
        assert_int_equal(taken, 0);
        cellar_link_done(&fresh);
    }
}

static void a_frame_before_the_key_is_final(void **state)
{
    (void)state;
    struct cellar_link fresh;
    size_t taken = 0;
    cellar_link_init(&fresh, CELLAR_ROLE_AGENT, NULL);
    greet(false, wire_host_nonce);
    assert_int_equal(
        wire_feed(&fresh, cellar_buf_peek(&out), cellar_buf_len(&out), &taken),
        CELLAR_E_PROTO);
    assert_int_equal(fresh.state, CELLAR_LINK_BROKEN);
    cellar_link_done(&fresh);
}

/* A second preamble with another key: skipped like any noise. */
static void the_key_is_accepted_once(void **state)
{
    (void)state;
    struct cellar_link other;
    struct cellar_message hello = wire_example("hello");
    size_t taken = 0;
    cellar_link_init(&other, CELLAR_ROLE_HOST, wire_agent_nonce);
    assert_int_equal(
        cellar_link_greet(&other, true, wire_host_nonce, &hello, &out),
        CELLAR_OK);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_LIMIT);
    assert_int_equal(taken, 0);
    assert_memory_equal(agent.key, wire_key, sizeof(wire_key));
    greet(true, wire_host_nonce);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    cellar_link_done(&other);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    while (len > 0 && bytes[len - 1] == 0)
        len--;
    return len == 0;
}

static void keys_are_wiped_when_they_are_over(void **state)
{
    (void)state;
    uint8_t zeros[64] = {0};
    size_t taken = 0;
    struct cellar_link fresh;
    assert_int_equal(wire_feed(&agent, zeros, sizeof(zeros), &taken),
                     CELLAR_E_PROTO);
    assert_true(is_zero(agent.recv_key, sizeof(agent.recv_key)));
    assert_true(is_zero(agent.send_key, sizeof(agent.send_key)));
    assert_false(is_zero(agent.key, sizeof(agent.key)));
    cellar_link_done(&agent);
    assert_true(is_zero(agent.key, sizeof(agent.key)));
    cellar_link_init(&fresh, CELLAR_ROLE_AGENT, NULL);
    greet(true, wire_host_nonce);
    assert_int_equal(wire_feed(&fresh, cellar_buf_peek(&out),
                               CELLAR_PREAMBLE_BYTES + CELLAR_KEY_BYTES,
                               &taken),
                     CELLAR_E_AGAIN);
    assert_int_equal(fresh.state, CELLAR_LINK_HUNTING);
    assert_null(memmem(fresh.in.data, CELLAR_PREAMBLE_BYTES + CELLAR_KEY_BYTES,
                       wire_key + 1, CELLAR_KEY_BYTES - 1));
    cellar_link_done(&fresh);
}

/* ------------------------------------------------------------- numbers -- */

static void an_epoch_ends_before_a_number_comes_twice(void **state)
{
    (void)state;
    struct cellar_message ping = wire_example("ping");
    struct cellar_message pong = wire_example("pong");
    size_t taken = 0;
    host.send_seq = agent.recv_seq = UINT64_MAX - 1;
    say(&host, "ping");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    assert_int_equal(cellar_link_send(&host, &ping, &out), CELLAR_E_LIMIT);
    assert_int_equal(host.state, CELLAR_LINK_BROKEN);
    assert_int_equal(cellar_buf_len(&out), 0);
    handshake();
    agent.send_seq = UINT64_MAX;
    assert_int_equal(cellar_link_send(&agent, &pong, &out), CELLAR_E_LIMIT);
    assert_int_equal(agent.state, CELLAR_LINK_HUNTING);
    handshake();
    host.recv_seq = UINT64_MAX;
    say(&agent, "pong");
    assert_int_equal(deliver(&host, &taken), CELLAR_E_LIMIT);
    assert_int_equal(taken, 0);
}

static void a_failed_send_changes_nothing(void **state)
{
    (void)state;
    struct cellar_message run = wire_example("run");
    struct cellar_message pong = wire_example("pong");
    uint64_t seq = host.send_seq;
    for (size_t max = 0; max < 40; max++) {
        struct cellar_buf small;
        cellar_buf_init(&small, max);
        assert_int_equal(cellar_link_send(&host, &run, &small), CELLAR_E_LIMIT);
        assert_int_equal(cellar_buf_len(&small), 0);
        cellar_buf_done(&small);
    }
    assert_int_equal(cellar_link_send(&host, &pong, &out), CELLAR_E_PROTO);
    run.cell = 0;
    assert_int_equal(cellar_link_send(&host, &run, &out), CELLAR_E_PROTO);
    assert_int_equal(cellar_buf_len(&out), 0);
    assert_int_equal(host.send_seq, seq);
    assert_open();
}

static void a_packed_payload_is_repeated_in_a_new_epoch(void **state)
{
    (void)state;
    struct cellar_message done = wire_example("done");
    struct cellar_buf payload;
    size_t taken = 0;
    cellar_buf_init(&payload, CELLAR_PAYLOAD_MAX);
    assert_int_equal(cellar_message_pack(&done, &payload), CELLAR_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(
            cellar_link_send_payload(&agent, cellar_buf_peek(&payload),
                                     cellar_buf_len(&payload), &out),
            CELLAR_OK);
        assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
        assert_int_equal(taken, 1);
        handshake();
    }
    cellar_buf_done(&payload);
}

/* A frame that is larger than what is held, while there is no memory. */
static void feed_without_memory(struct cellar_link *from,
                                struct cellar_link *to,
                                const struct cellar_message *msg)
{
    size_t taken = 0;
    assert_int_equal(cellar_link_send(from, msg, &out), CELLAR_OK);
    no_memory = true;
    assert_int_equal(
        wire_feed(to, cellar_buf_peek(&out), cellar_buf_len(&out), &taken),
        CELLAR_E_NOMEM);
    no_memory = false;
    cellar_buf_reset(&out);
    assert_int_equal(taken, 0);
}

static void no_memory_ends_the_epoch_and_no_more(void **state)
{
    (void)state;
    static const uint8_t large[CELLAR_CHUNK_MAX];
    struct cellar_message output = wire_example("output");
    struct cellar_message run = wire_example("run");
    struct cellar_message msg;
    output.u.output.data = (struct cellar_bytes){large, sizeof(large)};
    run.u.run.code = (struct cellar_bytes){large, sizeof(large)};
    feed_without_memory(&agent, &host, &output);
    assert_int_equal(cellar_link_next(&host, &msg), CELLAR_E_NOMEM);
    handshake();
    feed_without_memory(&host, &agent, &run);
    assert_int_equal(cellar_link_next(&agent, &msg), CELLAR_E_AGAIN);
    handshake();
    no_memory = true;
    assert_int_equal(cellar_link_send(&agent, &output, &out), CELLAR_E_NOMEM);
    no_memory = false;
    assert_int_equal(cellar_buf_len(&out), 0);
    assert_open();
}

/* An idle link keeps no memory of the largest frame it saw. */
static void a_large_frame_leaves_little_behind(void **state)
{
    (void)state;
    static uint8_t code[CELLAR_CODE_MAX];
    struct cellar_message run = wire_example("run");
    size_t taken = 0;
    run.u.run.code = (struct cellar_bytes){code, sizeof(code)};
    assert_int_equal(cellar_link_send(&host, &run, &out), CELLAR_OK);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    assert_true(agent.in.size <= 4096);
    assert_open();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR_TEST(speaks_the_bytes_of_the_page),
        PAIR_TEST(lends_what_a_message_holds),
        PAIR_TEST(takes_everything_byte_by_byte),
        PAIR_TEST(a_feed_takes_no_more_than_one_frame),
        PAIR_TEST(opens_epoch_after_epoch),
        PAIR_TEST(a_broken_host_answers_the_same_until_it_greets),
        PAIR_TEST(a_layer_above_can_end_the_epoch),
        PAIR_TEST(a_wrong_preamble_is_final),
        PAIR_TEST(a_frame_before_the_key_is_final),
        PAIR_TEST(the_key_is_accepted_once),
        PAIR_TEST(keys_are_wiped_when_they_are_over),
        PAIR_TEST(an_epoch_ends_before_a_number_comes_twice),
        PAIR_TEST(a_failed_send_changes_nothing),
        PAIR_TEST(a_packed_payload_is_repeated_in_a_new_epoch),
        PAIR_TEST(no_memory_ends_the_epoch_and_no_more),
        PAIR_TEST(a_large_frame_leaves_little_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
