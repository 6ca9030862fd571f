#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pair.h"

/* Enough for what any test here has under way. */
#define ROOM (8u << 20)

struct cellar_link host;
struct cellar_link agent;
struct cellar_buf out;

int pair_init(void **state)
{
    (void)state;
    cellar_buf_init(&out, ROOM);
    wire_open(&host, &agent);
    return 0;
}

int pair_done(void **state)
{
    (void)state;
    cellar_link_done(&host);
    cellar_link_done(&agent);
    cellar_buf_done(&out);
    return 0;
}

void say(struct cellar_link *link, const char *example)
{
    struct cellar_message msg = wire_example(example);
    assert_int_equal(cellar_link_send(link, &msg, &out), CELLAR_OK);
}

enum cellar_code deliver(struct cellar_link *link, size_t *taken)
{
    enum cellar_code code =
        wire_feed(link, cellar_buf_peek(&out), cellar_buf_len(&out), taken);
    cellar_buf_reset(&out);
    return code;
}

void greet(bool first, const uint8_t *nonce)
{
    struct cellar_message hello = wire_example("hello");
    assert_int_equal(cellar_link_greet(&host, first, nonce, &hello, &out),
                     CELLAR_OK);
}

void welcome(const uint8_t *nonce)
{
    struct cellar_message msg = wire_example("welcome");
    assert_int_equal(cellar_link_welcome(&agent, nonce, &msg, &out), CELLAR_OK);
}

void assert_open(void)
{
    size_t taken = 0;
    say(&host, "ping");
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    say(&agent, "pong");
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
}

void handshake(void)
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
