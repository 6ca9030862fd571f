/*
 * What the tests of the wire share: the key and nonces of the examples in
 * docs/PROTOCOL.md, its messages as C values, its blocks of hex as bytes, and
 * randomness that a printed seed repeats (CELLAR_TEST_SEED=n).
 */
#ifndef CELLAR_TESTS_WIRE_H
#define CELLAR_TESTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/link.h"
#include "proto/message.h"

extern const uint8_t wire_key[CELLAR_KEY_BYTES];
extern const uint8_t wire_host_nonce[CELLAR_NONCE_BYTES];
extern const uint8_t wire_agent_nonce[CELLAR_NONCE_BYTES];

/* The page's examples, by name: one per message, "done-error" and
 * "reply-refused". */
extern const char *const wire_examples[];
extern const size_t wire_example_count;

/* The example as a message. The page's blocks "hex NAME" as bytes: how many;
 * the test ends when there is no such block or it is over `max`. */
struct cellar_message wire_example(const char *name);
size_t wire_page_block(const char *name, uint8_t *bytes, size_t max);

/* How many blocks of hex the page has; whether it holds `text`. */
size_t wire_page_blocks(void);
bool wire_page_has(const char *text);

/* Packs and unpacks as the wire does, and looks that nothing is changed where
 * that fails; what could be packed the peer must take. */
enum cellar_code wire_pack(const struct cellar_message *msg);
enum cellar_code wire_unpack(const void *bytes, size_t len);
void wire_fits(const struct cellar_message *msg);

/* Two links with an open epoch between them, in the page's key and nonces. */
void wire_open(struct cellar_link *host, struct cellar_link *agent);

/* Feeds all of `bytes`; the first answer that is neither OK nor E_AGAIN, else
 * E_AGAIN. Counts the messages that came out in *taken. */
enum cellar_code wire_feed(struct cellar_link *link, const uint8_t *bytes,
                           size_t len, size_t *taken);

/* Takes the seed from the environment, or makes one; prints it. */
void wire_seed(void);
uint64_t wire_random(void);
uint64_t wire_below(uint64_t n); /* 0..n-1 */

#endif
