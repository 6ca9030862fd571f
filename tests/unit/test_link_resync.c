/* How a greeting is found, wherever the last epoch stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"
#include "proto/link.h"

/* ------------------------------------------- resync, towards the agent -- */

/* Wherever the last host stopped in its frame, and however the next one's
 * greeting is cut: it is found, and no fault is reported. */
static void finds_the_greeting_in_an_unfinished_frame(void **state)
{
    (void)state;
    uint8_t old[256];
    say(&host, "run");
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
        say(&host, "run");
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
 * wait for 4 MiB, in whatever pieces it comes. */
static void finds_the_greeting_in_a_frame_that_announced_much(void **state)
{
    (void)state;
    const uint8_t length[4] = {0x00, 0x40, 0x00, 0x00};
    for (size_t piece = 1; piece < 2 * CELLAR_RESYNC_BYTES; piece++) {
        size_t taken = 0;
        assert_int_equal(wire_feed(&agent, length, sizeof(length), &taken),
                         CELLAR_E_AGAIN);
        greet(false, wire_host_nonce);
        while (cellar_buf_len(&out) > piece) {
            assert_int_equal(
                wire_feed(&agent, cellar_buf_peek(&out), piece, &taken),
                CELLAR_E_AGAIN);
            assert_int_equal(taken, 0);
            cellar_buf_consume(&out, piece);
        }
        assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
        assert_int_equal(taken, 1);
        welcome(wire_agent_nonce);
        assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
        assert_open();
    }
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
    say(&host, "ping");
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
    say(&host, "ping");
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
    say(&agent, "output");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR_TEST(finds_the_greeting_in_an_unfinished_frame),
        PAIR_TEST(finds_the_greeting_that_completed_a_frame),
        PAIR_TEST(finds_the_greeting_in_a_frame_that_announced_much),
        PAIR_TEST(a_host_that_died_while_greeting_is_followed_by_the_next),
        PAIR_TEST(a_greeting_ends_the_open_epoch_silently),
        PAIR_TEST(an_agent_reports_a_fault_once_and_hunts),
        PAIR_TEST(a_host_skips_what_stands_before_its_welcome),
        PAIR_TEST(an_old_welcome_is_skipped),
        PAIR_TEST(a_host_hunts_only_so_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
