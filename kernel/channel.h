/*
 * A channel: the wire to one session's agent, on an engine's stream. It joins
 * the link (frames, keys, handshake) with deliveries: what comes in is given
 * on once and in order, what was settled is acknowledged.
 */
#ifndef CELLAR_KERNEL_CHANNEL_H
#define CELLAR_KERNEL_CHANNEL_H

#include "cellar/error.h"
#include "engine/engine.h"
#include "proto/buf.h"
#include "proto/link.h"

/* Output taken before it is acknowledged by a message of its own; well below
 * CELLAR_RING_BYTES, so that the agent never waits for it. */
#define CELLAR_CHANNEL_ACK_BYTES (1u << 20)

struct cellar_channel {
    struct cellar_link link;
    struct cellar_buf out;        /* frames on their way to the stream */
    struct cellar_stream *stream; /* owned; NULL: not connected */
    uint64_t delivered;           /* the last delivery given on */
    uint64_t settled; /* the last one that may be acknowledged: the agent
                         forgets it; <= delivered */
    uint64_t unacked; /* bytes given on since a mark was sent */
    bool fresh;       /* nothing came in this epoch yet: deliveries may begin
                         anywhere above `delivered` */
};

/* `delivered`: the last delivery an earlier holder settled; 0 at the start. */
void cellar_channel_init(struct cellar_channel *channel,
                         const uint8_t key[CELLAR_KEY_BYTES],
                         uint64_t delivered);
/* Closes the stream, wipes the keys. */
void cellar_channel_done(struct cellar_channel *channel);

/* Begins an epoch: the greeting stands in `channel->out`, for the engine to
 * write before the container starts or for _bind() to write. `first`: the key
 * goes with it. Version, nonce and mark of `hello` are filled in. */
enum cellar_code cellar_channel_greet(struct cellar_channel *channel,
                                      bool first,
                                      const struct cellar_msg_hello *hello,
                                      struct cellar_error *err);

/* Closes the stream: the same agent can be greeted again on another one. */
void cellar_channel_detach(struct cellar_channel *channel);

/* Takes the stream; writes what stands in `out`. */
enum cellar_code cellar_channel_bind(struct cellar_channel *channel,
                                     struct cellar_stream *stream,
                                     struct cellar_error *err);

/* What was given on has been stored, or need not be: it may be acknowledged
 * from now on. */
void cellar_channel_settle(struct cellar_channel *channel);

/* Whether so much waits for its acknowledgement that a message should be sent
 * for that alone; settle first. */
bool cellar_channel_owes(const struct cellar_channel *channel);

/* Signs and writes. Fills msg->mark with what is settled. Fails when there is
 * no stream or the epoch is over. */
enum cellar_code cellar_channel_send(struct cellar_channel *channel,
                                     struct cellar_message *msg,
                                     struct cellar_error *err);

/* Gives every verified message in `data` that is new to `take`, until `take`
 * returns false (the session is on its way out: the rest is dropped). An error
 * is the end of the epoch. */
enum cellar_code cellar_channel_feed(struct cellar_channel *channel,
                                     const uint8_t *data, size_t len,
                                     bool (*take)(void *user,
                                                  struct cellar_message *msg),
                                     void *user, struct cellar_error *err);

#endif
