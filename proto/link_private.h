/*
 * What the two halves of a link share: link.c opens epochs and sends,
 * link_read.c takes what arrives. Nobody else includes this.
 */
#ifndef CELLAR_PROTO_LINK_PRIVATE_H
#define CELLAR_PROTO_LINK_PRIVATE_H

#include "link.h"
#include "sign.h"

/* Of a frame's header. */
#define CELLAR_LENGTH_BYTES 4

/* The first bytes that an agent takes. */
extern const uint8_t cellar_link_preamble[CELLAR_PREAMBLE_BYTES];

/* Whether `sender` may send such a message to a link in `state`. */
bool cellar_link_allows(enum cellar_message_type type, enum cellar_role sender,
                        enum cellar_link_state state);

enum cellar_role cellar_link_peer(const struct cellar_link *link);

/* The tag of a handshake frame that `sender` makes. */
void cellar_link_handshake_tag(const struct cellar_link *link,
                               enum cellar_role sender, const uint8_t *payload,
                               size_t len, uint8_t tag[CELLAR_TAG_BYTES]);

/* The resync mark that `sender` makes. */
void cellar_link_make_mark(const struct cellar_link *link,
                           enum cellar_role sender,
                           uint8_t mark[CELLAR_RESYNC_BYTES]);

/* Derives the keys from both nonces; the link is OPEN from then. */
void cellar_link_open(struct cellar_link *link, uint64_t epoch);

/* Wipes the epoch's keys; looks for a mark from then. */
void cellar_link_hunt(struct cellar_link *link);

/* Ends the epoch for `code`, which it returns. An agent that has its key
 * waits for the next host; cellar_link_next() reports the fault, unless a
 * greeting stands behind it. */
enum cellar_code cellar_link_fail(struct cellar_link *link,
                                  enum cellar_code code);

#endif
