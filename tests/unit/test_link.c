/* One link and the other: how epochs begin, and what ends them. What a
 * stranger does to the bytes is in test_link_hostile.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/link.h"
#include "proto/sign.h"
#include "wire.h"

/* Enough for what any test here has under way. */
#define ROOM (8u << 20)

static struct cellar_link host;
static struct cellar_link agent;
static struct cellar_buf out;

static int setup(void **state)
{
    (void)state;
    cellar_buf_init(&out, ROOM);
    wire_open(&host, &agent);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cellar_link_done(&host);
    cellar_link_done(&agent);
    cellar_buf_done(&out);
    return 0;
}

static void send(struct cellar_link *link, const char *example)
{
    struct cellar_message msg = wire_example(example);
    assert_int_equal(cellar_link_send(link, &msg, &out), CELLAR_OK);
}

/* Feeds what is in `out`, and empties it. */
static enum cellar_code deliver(struct cellar_link *link, size_t *taken)
{
    enum cellar_code code =
        wire_feed(link, cellar_buf_peek(&out), cellar_buf_len(&out), taken);
    cellar_buf_reset(&out);
    return code;
}

static void greet(bool first, const uint8_t *nonce)
{
    struct cellar_message hello = wire_example("hello");
    assert_int_equal(cellar_link_greet(&host, first, nonce, &hello, &out),
                     CELLAR_OK);
}

static void welcome(const uint8_t *nonce)
{
    struct cellar_message msg = wire_example("welcome");
    assert_int_equal(cellar_link_welcome(&agent, nonce, &msg, &out), CELLAR_OK);
}

/* That what one side says arrives at the other, both ways. */
static void assert_open(void)
{
    size_t taken = 0;
    send(&host, "ping");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    send(&agent, "pong");
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
}

/* A whole new epoch through an empty `out`. */
static void handshake(void)
{
    size_t taken = 0;
    greet(false, wire_host_nonce);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    welcome(wire_agent_nonce);
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    assert_open();
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
    teardown(state);
    cellar_link_init(&host, CELLAR_ROLE_HOST, wire_key);
    cellar_link_init(&agent, CELLAR_ROLE_AGENT, NULL);
    greet(true, wire_host_nonce);
    assert_page("greeting");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    welcome(wire_agent_nonce);
    assert_page("welcoming");
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    send(&host, "run");
    send(&host, "interrupt");
    assert_page("frames-to-agent");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 2);
    send(&agent, "output");
    send(&agent, "done");
    assert_page("frames-to-host");
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 2);
}

static void lends_what_a_message_holds(void **state)
{
    (void)state;
    struct cellar_message msg;
    size_t used = 0;
    send(&agent, "output");
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
    teardown(state);
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
    send(&agent, "output");
    send(&agent, "done");
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
    send(&host, "ping");
    size_t one = cellar_buf_len(&out);
    send(&host, "ping");
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

/* ------------------------------------------- resync, towards the agent -- */

/* Wherever the last host stopped in its frame, and however the next one's
 * greeting is cut: it is found, and no fault is reported. */
static void finds_the_greeting_in_an_unfinished_frame(void **state)
{
    (void)state;
    uint8_t old[256];
    send(&host, "run");
    size_t len = cellar_buf_len(&out);
    memcpy(old, cellar_buf_peek(&out), len);
    cellar_buf_reset(&out);
    for (size_t cut = 0; cut < len; cut++) {
        size_t taken = 0;
        assert_int_equal(wire_feed(&agent, old, cut, &taken), CELLAR_E_AGAIN);
        greet(false, wire_host_nonce);
        size_t split = (cut * 37) % cellar_buf_len(&out);
        assert_int_equal(
            wire_feed(&agent, cellar_buf_peek(&out), split, &taken),
            CELLAR_E_AGAIN);
        assert_int_equal(taken, 0);
        cellar_buf_consume(&out, split);
        assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
        assert_int_equal(taken, 1);
        welcome(wire_agent_nonce);
        assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
        assert_int_equal(taken, 1);
        assert_open();
        /* the tags of the next round are those of a fresh epoch */
        send(&host, "run");
        memcpy(old, cellar_buf_peek(&out), len);
        cellar_buf_reset(&out);
    }
}

/* The rest that the frame waits for comes from the greeting, so that it ends
 * up complete, with a wrong tag. */
static void finds_the_greeting_that_completed_a_frame(void **state)
{
    (void)state;
    for (size_t split = 1; split < CELLAR_RESYNC_BYTES + 60; split++) {
        uint8_t frame[CELLAR_FRAME_HEADER_BYTES + 200] = {0, 0, 0, 200};
        size_t taken = 0;
        greet(false, wire_host_nonce);
        assert_int_equal(
            wire_feed(&agent, frame, sizeof(frame) - split, &taken),
            CELLAR_E_AGAIN);
        for (size_t i = 0; i < cellar_buf_len(&out); i++) {
            size_t more = 0;
            assert_int_equal(
                wire_feed(&agent, cellar_buf_peek(&out) + i, 1, &more),
                CELLAR_E_AGAIN);
            taken += more;
        }
        assert_int_equal(taken, 1);
        cellar_buf_reset(&out);
        welcome(wire_agent_nonce);
        assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
        assert_open();
    }
}

/* The last host announced the largest frame: the greeting may not have to
 * wait for 4 MiB. */
static void finds_the_greeting_in_a_frame_that_announced_much(void **state)
{
    (void)state;
    const uint8_t length[4] = {0x00, 0x40, 0x00, 0x00};
    size_t taken = 0;
    assert_int_equal(wire_feed(&agent, length, sizeof(length), &taken),
                     CELLAR_E_AGAIN);
    handshake();
}

static void
a_host_that_died_while_greeting_is_followed_by_the_next(void **state)
{
    (void)state;
    size_t taken = 0;
    for (size_t cut = 1; cut < 100; cut++) {
        greet(false, wire_agent_nonce);
        assert_int_equal(wire_feed(&agent, cellar_buf_peek(&out), cut, &taken),
                         CELLAR_E_AGAIN);
        assert_int_equal(taken, 0);
        cellar_buf_reset(&out);
        handshake();
    }
}

static void a_greeting_ends_the_open_epoch_silently(void **state)
{
    (void)state;
    size_t taken = 0;
    uint8_t old[64];
    send(&host, "ping");
    size_t len = cellar_buf_len(&out);
    memcpy(old, cellar_buf_peek(&out), len);
    cellar_buf_reset(&out);
    greet(false, wire_agent_nonce);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(agent.state, CELLAR_LINK_WELCOMING);
    struct cellar_message pong = wire_example("pong");
    assert_int_equal(cellar_link_send(&agent, &pong, &out), CELLAR_E_PROTO);
    welcome(wire_host_nonce);
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(wire_feed(&agent, old, len, &taken), CELLAR_E_AUTH);
    assert_int_equal(taken, 0);
}

static void an_agent_reports_a_fault_once_and_hunts(void **state)
{
    (void)state;
    uint8_t bad[64];
    struct cellar_message msg;
    size_t taken = 0;
    send(&host, "ping");
    size_t len = cellar_buf_len(&out);
    memcpy(bad, cellar_buf_peek(&out), len);
    bad[len - 1] ^= 1;
    cellar_buf_reset(&out);
    assert_int_equal(wire_feed(&agent, bad, len, &taken), CELLAR_E_AUTH);
    assert_int_equal(agent.state, CELLAR_LINK_HUNTING);
    assert_int_equal(cellar_link_next(&agent, &msg), CELLAR_E_AGAIN);
    struct cellar_message pong = wire_example("pong");
    assert_int_equal(cellar_link_send(&agent, &pong, &out), CELLAR_E_PROTO);
    for (size_t i = 0; i < 100; i++) /* what the host had under way */
        assert_int_equal(wire_feed(&agent, bad, len, &taken), CELLAR_E_AGAIN);
    handshake();
}

/* ------------------------------------------- resync, towards the host -- */

static void a_host_skips_what_stands_before_its_welcome(void **state)
{
    (void)state;
    uint8_t old[1024];
    size_t taken = 0;
    send(&agent, "output");
    size_t len = cellar_buf_len(&out);
    memcpy(old, cellar_buf_peek(&out), len);
    cellar_buf_reset(&out);
    for (size_t cut = 0; cut <= len; cut++) {
        greet(false, wire_host_nonce);
        assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
        assert_int_equal(wire_feed(&host, old, cut, &taken), CELLAR_E_AGAIN);
        welcome(wire_agent_nonce);
        size_t split = cut % CELLAR_RESYNC_BYTES;
        assert_int_equal(wire_feed(&host, cellar_buf_peek(&out), split, &taken),
                         CELLAR_E_AGAIN);
        cellar_buf_consume(&out, split);
        assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
        assert_int_equal(taken, 1);
        assert_open();
    }
}

static void an_old_welcome_is_skipped(void **state)
{
    (void)state;
    size_t taken = 0;
    struct cellar_buf old;
    cellar_buf_init(&old, 4096);
    greet(false, wire_agent_nonce);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    welcome(wire_agent_nonce);
    assert_int_equal(
        cellar_buf_append(&old, cellar_buf_peek(&out), cellar_buf_len(&out)),
        CELLAR_OK);
    cellar_buf_reset(&out);
    greet(false, wire_host_nonce);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(
        wire_feed(&host, cellar_buf_peek(&old), cellar_buf_len(&old), &taken),
        CELLAR_E_AGAIN);
    assert_int_equal(taken, 0);
    assert_int_equal(host.state, CELLAR_LINK_HUNTING);
    welcome(wire_agent_nonce);
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    cellar_buf_done(&old);
}

static void a_host_hunts_only_so_far(void **state)
{
    (void)state;
    static const uint8_t noise[64 << 10];
    size_t taken = 0;
    enum cellar_code code = CELLAR_E_AGAIN;
    size_t fed = 0;
    greet(false, wire_host_nonce);
    for (; code == CELLAR_E_AGAIN; fed += sizeof(noise)) {
        assert_true(fed <= CELLAR_HUNT_MAX + sizeof(noise));
        code = wire_feed(&host, noise, sizeof(noise), &taken);
        assert_true(host.in.size <= sizeof(noise) + 4096);
    }
    assert_int_equal(code, CELLAR_E_LIMIT);
    assert_true(fed > CELLAR_HUNT_MAX);
    assert_int_equal(host.state, CELLAR_LINK_BROKEN);
}

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
        send(&agent, "pong");
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
    send(&host, "ping");
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
    send(&host, "ping");
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
    send(&agent, "pong");
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(speaks_the_bytes_of_the_page),
        TEST(lends_what_a_message_holds),
        TEST(takes_everything_byte_by_byte),
        TEST(a_feed_takes_no_more_than_one_frame),
        TEST(opens_epoch_after_epoch),
        TEST(finds_the_greeting_in_an_unfinished_frame),
        TEST(finds_the_greeting_that_completed_a_frame),
        TEST(finds_the_greeting_in_a_frame_that_announced_much),
        TEST(a_host_that_died_while_greeting_is_followed_by_the_next),
        TEST(a_greeting_ends_the_open_epoch_silently),
        TEST(an_agent_reports_a_fault_once_and_hunts),
        TEST(a_host_skips_what_stands_before_its_welcome),
        TEST(an_old_welcome_is_skipped),
        TEST(a_host_hunts_only_so_far),
        TEST(a_broken_host_answers_the_same_until_it_greets),
        TEST(a_layer_above_can_end_the_epoch),
        TEST(a_wrong_preamble_is_final),
        TEST(a_frame_before_the_key_is_final),
        TEST(the_key_is_accepted_once),
        TEST(keys_are_wiped_when_they_are_over),
        TEST(an_epoch_ends_before_a_number_comes_twice),
        TEST(a_failed_send_changes_nothing),
        TEST(a_packed_payload_is_repeated_in_a_new_epoch),
        TEST(a_large_frame_leaves_little_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
