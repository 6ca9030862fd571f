/*
 * A host's link and an agent's with an open epoch between them, in the key and
 * nonces of docs/PROTOCOL.md, and the bytes under way: what the tests of links
 * share. Each call asserts that it works.
 */
#ifndef CELLAR_TESTS_PAIR_H
#define CELLAR_TESTS_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/link.h"
#include "wire.h"

extern struct cellar_link host;
extern struct cellar_link agent;
extern struct cellar_buf out;

/* Fresh links and an empty `out` before each test, gone after it. */
int pair_init(void **state);
int pair_done(void **state);

#define PAIR_TEST(name)                                                        \
    cmocka_unit_test_setup_teardown(name, pair_init, pair_done)

/* Appends an example of the page to `out`. */
void say(struct cellar_link *link, const char *example);

/* Append the greeting, its answer. */
void greet(bool first, const uint8_t *nonce);
void welcome(const uint8_t *nonce);

/* Feeds what is in `out`, and empties it: as wire_feed(). */
enum cellar_code deliver(struct cellar_link *link, size_t *taken);

/* A whole new epoch through an empty `out`. */
void handshake(void);

/* That what one side says arrives at the other, both ways. */
void assert_open(void);

#endif
