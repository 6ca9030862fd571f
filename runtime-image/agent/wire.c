#include "wire.h"

#include <errno.h>
#include <sys/random.h>
#include <unistd.h>

/* Signed and not written yet: some chunks, so that one write fills what a pipe
 * or the engine takes at a time. */
#define OUT_WINDOW (256u << 10)

/* Above the window: one largest frame, and the answers to pings meanwhile. */
#define OUT_MAX (OUT_WINDOW + CELLAR_PAYLOAD_MAX + (64u << 10))

#define READ_BYTES (64u << 10)

void cellar_wire_init(struct cellar_wire *wire)
{
    *wire = (struct cellar_wire){
        .fault = CELLAR_OK, .in_fd = STDIN_FILENO, .out_fd = STDOUT_FILENO};
    cellar_link_init(&wire->link, CELLAR_ROLE_AGENT, NULL);
    cellar_ring_init(&wire->ring);
    cellar_buf_init(&wire->out, OUT_MAX);
}

void cellar_wire_done(struct cellar_wire *wire)
{
    cellar_link_done(&wire->link);
    cellar_ring_done(&wire->ring);
    cellar_buf_done(&wire->out);
}

void cellar_wire_begin(struct cellar_wire *wire,
                       const uint8_t key[CELLAR_KEY_BYTES])
{
    cellar_link_init(&wire->link, CELLAR_ROLE_AGENT, key);
    wire->in_fd = wire->out_fd = -1;
}

/* A HELLO's mark is of the host's record: it is looked at by _welcome(). */
static bool acknowledge(struct cellar_wire *wire,
                        const struct cellar_message *msg)
{
    return msg->type == CELLAR_MSG_HELLO ||
           cellar_ring_ack(&wire->ring, msg->mark);
}

/* All complete messages of what was fed. */
static void drain(struct cellar_wire *wire,
                  void (*take)(void *, struct cellar_message *), void *user)
{
    struct cellar_message msg;
    enum cellar_code code = cellar_link_next(&wire->link, &msg);
    while (code == CELLAR_OK) {
        wire->verified++;
        if (acknowledge(wire, &msg))
            take(user, &msg);
        else
            cellar_wire_break(wire, CELLAR_E_PROTO);
        code = cellar_link_next(&wire->link, &msg);
    }
    if (code != CELLAR_E_AGAIN)
        wire->fault = code;
}

void cellar_wire_read(struct cellar_wire *wire,
                      void (*take)(void *, struct cellar_message *), void *user)
{
    static uint8_t bytes[READ_BYTES];
    ssize_t n = read(wire->in_fd, bytes, sizeof(bytes));
    wire->ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    const uint8_t *at = bytes;
    size_t left = n > 0 ? (size_t)n : 0;
    while (left > 0) {
        size_t used = 0;
        enum cellar_code code = cellar_link_feed(&wire->link, at, left, &used);
        if (code != CELLAR_OK) {
            wire->fault = code;
            return; /* the rest belongs to the epoch that broke */
        }
        at += used;
        left -= used;
        drain(wire, take, user);
    }
}

enum cellar_code cellar_wire_welcome(struct cellar_wire *wire, uint64_t mark,
                                     struct cellar_message *welcome)
{
    uint8_t nonce[CELLAR_NONCE_BYTES];
    if (!cellar_ring_ack(&wire->ring, mark))
        return CELLAR_E_PROTO;
    if (getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
        return CELLAR_E_SYS;
    cellar_buf_reset(&wire->out);
    cellar_ring_rewind(&wire->ring);
    wire->deaf = false;
    wire->fault = CELLAR_OK;
    return cellar_link_welcome(&wire->link, nonce, welcome, &wire->out);
}

enum cellar_code cellar_wire_post(struct cellar_wire *wire,
                                  struct cellar_message *msg)
{
    return cellar_ring_add(&wire->ring, msg);
}

void cellar_wire_send(struct cellar_wire *wire,
                      const struct cellar_message *msg)
{
    if (wire->link.state != CELLAR_LINK_OPEN)
        return;
    enum cellar_code code = cellar_link_send(&wire->link, msg, &wire->out);
    if (code != CELLAR_OK)
        cellar_wire_break(wire, code);
}

void cellar_wire_break(struct cellar_wire *wire, enum cellar_code why)
{
    wire->fault = why;
    cellar_link_break(&wire->link, why);
}

static void sign_due(struct cellar_wire *wire)
{
    struct cellar_bytes payload;
    while (wire->link.state == CELLAR_LINK_OPEN &&
           cellar_buf_len(&wire->out) < OUT_WINDOW &&
           cellar_ring_next(&wire->ring, &payload)) {
        enum cellar_code code = cellar_link_send_payload(
            &wire->link, payload.data, payload.len, &wire->out);
        if (code != CELLAR_OK)
            cellar_wire_break(wire, code);
    }
}

void cellar_wire_flush(struct cellar_wire *wire)
{
    sign_due(wire);
    size_t len = cellar_buf_len(&wire->out);
    if (len == 0 || wire->deaf || wire->out_fd < 0)
        return;
    ssize_t n = write(wire->out_fd, cellar_buf_peek(&wire->out), len);
    if (n > 0)
        cellar_buf_consume(&wire->out, (size_t)n);
    else if (errno != EAGAIN && errno != EINTR)
        wire->deaf = true;
}

void cellar_wire_rest(struct cellar_wire *wire)
{
    if (cellar_buf_len(&wire->out) == 0)
        cellar_buf_reset(&wire->out);
    cellar_ring_rest(&wire->ring);
}

bool cellar_wire_waits(const struct cellar_wire *wire)
{
    bool due =
        wire->link.state == CELLAR_LINK_OPEN && cellar_ring_due(&wire->ring);
    return !wire->deaf && wire->out_fd >= 0 &&
           (due || cellar_buf_len(&wire->out) > 0);
}
