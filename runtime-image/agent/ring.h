/*
 * The ring: payloads the host has not acknowledged yet, in the order of their
 * delivery numbers 1, 2, 3, ... through all epochs of a session. It is pure:
 * what it holds is signed and written by the wire.
 *
 *     cellar_ring_add()      numbers a message and keeps its payload
 *     cellar_ring_next()     lends the oldest one this epoch has not sent
 *     cellar_ring_ack()      forgets what the host has taken
 *     cellar_ring_rewind()   a new epoch: what is left is due again
 */
#ifndef CELLAR_AGENT_RING_H
#define CELLAR_AGENT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/message.h"

/* What a payload is charged beyond its bytes: a million outputs of one byte
 * each must hit the ring's bound before they hit the container's memory. */
#define CELLAR_RING_COST 64u

/* Kept free of output, so that a finished cell's DONE, and what the agent has
 * to say of its workers, always finds room. The largest DONE is below it:
 * result, error and traceback at their maxima, and 64 KiB for the rest. */
#define CELLAR_RING_RESERVE                                                    \
    (CELLAR_RESULT_MAX + CELLAR_MESSAGE_MAX + CELLAR_TRACEBACK_MAX +           \
     (64u << 10))

/* Invariant: `sent` <= `count`; `lens` holds `count` lengths (uint32_t, this
 * machine's order) whose sum is the length of `payloads`; the first `sent` of
 * them sum up to `sent_bytes`. */
struct cellar_ring {
    struct cellar_buf payloads;
    struct cellar_buf lens;
    uint64_t first; /* delivery number of the oldest payload held */
    uint64_t count;
    uint64_t sent;
    size_t sent_bytes;
};

void cellar_ring_init(struct cellar_ring *ring);
void cellar_ring_done(struct cellar_ring *ring);

/* Bytes a payload may have now, its charge taken off. */
size_t cellar_ring_room(const struct cellar_ring *ring);

/* The same for output, which leaves CELLAR_RING_RESERVE alone. */
size_t cellar_ring_output_room(const struct cellar_ring *ring);

/* Gives `msg` its number (msg->mark) and copies its payload. E_LIMIT when
 * there is no room, E_NOMEM; then nothing has changed but the mark. */
enum cellar_code cellar_ring_add(struct cellar_ring *ring,
                                 struct cellar_message *msg);

/* Lends the oldest payload not sent in this epoch, until the next call that
 * adds or acknowledges, and counts it as sent. False: all are. */
bool cellar_ring_next(struct cellar_ring *ring, struct cellar_bytes *payload);

/* Whether cellar_ring_next() has something. */
bool cellar_ring_due(const struct cellar_ring *ring);

/* Forgets all up to delivery `mark`. False when that number was never given:
 * the peer doesn't tell the truth; nothing has changed then. */
bool cellar_ring_ack(struct cellar_ring *ring, uint64_t mark);

/* Gives the memory of a large window back, once all but little of it is
 * acknowledged: when no output flows that would need it again at once. */
void cellar_ring_rest(struct cellar_ring *ring);

void cellar_ring_rewind(struct cellar_ring *ring);

/* The highest number given so far; 0 before the first. */
uint64_t cellar_ring_delivered(const struct cellar_ring *ring);

#endif
