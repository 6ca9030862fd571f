/*
 * The agent's end of the wire: a stream, the link, and the ring of
 * what the host has not acknowledged. Nothing in here blocks.
 *
 *     cellar_wire_read()     each message that came, to a callback
 *     cellar_wire_post()     a message that must be delivered: into the ring
 *     cellar_wire_send()     one that need not be: PONG
 *     cellar_wire_flush()    signs what is due and writes, in one write
 *
 * What is signed but not written is bounded (the ring is not signed before
 * there is room), so a host that stops reading costs the ring and no more.
 */
#ifndef CELLAR_AGENT_WIRE_H
#define CELLAR_AGENT_WIRE_H

#include <stdbool.h>

#include "proto/buf.h"
#include "proto/link.h"
#include "ring.h"

struct cellar_wire {
    struct cellar_link link;
    struct cellar_ring ring;
    struct cellar_buf out;
    int in_fd, out_fd;      /* of the stream; -1: there is none now */
    bool ended;             /* stdin is at its end or failing, for now */
    bool deaf;              /* stdout has no reader; a new HELLO tries again */
    uint64_t verified;      /* messages taken so far */
    enum cellar_code fault; /* what ended the last epoch */
};

void cellar_wire_init(struct cellar_wire *wire);
void cellar_wire_done(struct cellar_wire *wire);

/* Of a lane whose key did not come by its stream, which it has none of yet. */
void cellar_wire_begin(struct cellar_wire *wire,
                       const uint8_t key[CELLAR_KEY_BYTES]);

/* Reads once and gives every verified message to `take`, in order; `msg` lends
 * bytes for that call. A mark that was never given out ends the epoch. */
void cellar_wire_read(struct cellar_wire *wire,
                      void (*take)(void *user, struct cellar_message *msg),
                      void *user);

/* Answers a HELLO that was just taken, and makes everything in the ring above
 * `mark` due again. What the last epoch had not written is dropped: the host
 * hunts for this one's mark. */
enum cellar_code cellar_wire_welcome(struct cellar_wire *wire, uint64_t mark,
                                     struct cellar_message *welcome);

/* Numbers and keeps. E_LIMIT: the ring is full, which for anything but output
 * means a host that acknowledges nothing. */
enum cellar_code cellar_wire_post(struct cellar_wire *wire,
                                  struct cellar_message *msg);

/* Sends without a number; silently nothing when no epoch is open. */
void cellar_wire_send(struct cellar_wire *wire,
                      const struct cellar_message *msg);

/* Ends the epoch from this side: the host broke a rule above the link. */
void cellar_wire_break(struct cellar_wire *wire, enum cellar_code why);

/* One write of what is due, as far as stdout takes it. */
void cellar_wire_flush(struct cellar_wire *wire);

/* Gives back what a flood took: when no output flows. */
void cellar_wire_rest(struct cellar_wire *wire);

/* Whether the wire waits for stdout to take more. */
bool cellar_wire_waits(const struct cellar_wire *wire);

#endif
