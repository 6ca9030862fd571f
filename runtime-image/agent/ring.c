#include "ring.h"

#include <string.h>

/* As many lengths as the charges allow payloads. */
#define LENS_MAX (CELLAR_RING_BYTES / CELLAR_RING_COST * sizeof(uint32_t))

/* From here on a buffer is worth giving back. */
#define LARGE_BYTES (256u << 10)

void cellar_ring_init(struct cellar_ring *ring)
{
    *ring = (struct cellar_ring){.first = 1};
    cellar_buf_init(&ring->payloads, CELLAR_RING_BYTES);
    cellar_buf_init(&ring->lens, LENS_MAX);
}

void cellar_ring_done(struct cellar_ring *ring)
{
    cellar_buf_done(&ring->payloads);
    cellar_buf_done(&ring->lens);
}

size_t cellar_ring_room(const struct cellar_ring *ring)
{
    size_t used = cellar_buf_len(&ring->payloads) +
                  (size_t)(ring->count + 1) * CELLAR_RING_COST;
    return used < CELLAR_RING_BYTES ? CELLAR_RING_BYTES - used : 0;
}

size_t cellar_ring_output_room(const struct cellar_ring *ring)
{
    size_t room = cellar_ring_room(ring);
    return room > CELLAR_RING_RESERVE ? room - CELLAR_RING_RESERVE : 0;
}

/* Packs behind what is held; takes it back when it is over the room. */
static enum cellar_code pack(struct cellar_ring *ring,
                             const struct cellar_message *msg, uint32_t *len)
{
    size_t before = cellar_buf_len(&ring->payloads);
    size_t room = cellar_ring_room(ring);
    enum cellar_code code = cellar_message_pack(msg, &ring->payloads);
    if (code != CELLAR_OK)
        return code;
    size_t added = cellar_buf_len(&ring->payloads) - before;
    if (added > room) {
        cellar_buf_cut(&ring->payloads, before);
        return CELLAR_E_LIMIT;
    }
    *len = (uint32_t)added;
    return CELLAR_OK;
}

enum cellar_code cellar_ring_add(struct cellar_ring *ring,
                                 struct cellar_message *msg)
{
    size_t before = cellar_buf_len(&ring->payloads);
    uint32_t len = 0;
    msg->mark = ring->first + ring->count;
    enum cellar_code code = pack(ring, msg, &len);
    if (code != CELLAR_OK)
        return code;
    code = cellar_buf_append(&ring->lens, &len, sizeof(len));
    if (code != CELLAR_OK) {
        cellar_buf_cut(&ring->payloads, before);
        return code;
    }
    ring->count++;
    return CELLAR_OK;
}

static uint32_t len_at(const struct cellar_ring *ring, uint64_t i)
{
    uint32_t len = 0;
    memcpy(&len, cellar_buf_peek(&ring->lens) + i * sizeof(len), sizeof(len));
    return len;
}

bool cellar_ring_due(const struct cellar_ring *ring)
{
    return ring->sent < ring->count;
}

bool cellar_ring_next(struct cellar_ring *ring, struct cellar_bytes *payload)
{
    if (!cellar_ring_due(ring))
        return false;
    payload->data = cellar_buf_peek(&ring->payloads) + ring->sent_bytes;
    payload->len = len_at(ring, ring->sent);
    ring->sent_bytes += payload->len;
    ring->sent++;
    return true;
}

/* An acknowledged payload may not have been sent in this epoch: the last host
 * had it, and told this one. */
static void drop_first(struct cellar_ring *ring)
{
    uint32_t len = len_at(ring, 0);
    cellar_buf_consume(&ring->payloads, len);
    cellar_buf_consume(&ring->lens, sizeof(len));
    ring->first++;
    ring->count--;
    if (ring->sent > 0) {
        ring->sent--;
        ring->sent_bytes -= len;
    }
}

/* What is left after a large window may be a DONE of some bytes that waits for
 * the next message: it does not keep the window's memory. */
static void shrink(struct cellar_buf *buf)
{
    struct cellar_buf small;
    cellar_buf_init(&small, buf->max);
    if (cellar_buf_len(buf) > buf->size / 16 ||
        cellar_buf_append(&small, cellar_buf_peek(buf), cellar_buf_len(buf)) !=
            CELLAR_OK)
        return;
    cellar_buf_done(buf);
    *buf = small;
}

bool cellar_ring_ack(struct cellar_ring *ring, uint64_t mark)
{
    if (mark > cellar_ring_delivered(ring))
        return false;
    while (ring->count > 0 && ring->first <= mark)
        drop_first(ring);
    return true;
}

void cellar_ring_rest(struct cellar_ring *ring)
{
    if (ring->payloads.size >= LARGE_BYTES)
        shrink(&ring->payloads);
    if (ring->lens.size >= LARGE_BYTES)
        shrink(&ring->lens);
}

void cellar_ring_rewind(struct cellar_ring *ring)
{
    ring->sent = 0;
    ring->sent_bytes = 0;
}

uint64_t cellar_ring_delivered(const struct cellar_ring *ring)
{
    return ring->first + ring->count - 1;
}
