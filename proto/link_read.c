/* What arrives at a link. link.c is the other half. */
#include "link_private.h"

#include <string.h>

/* How much of what will be thrown away is taken in at once. */
#define HUNT_WINDOW (64u << 10)

/* Forgets the frame that was lent. A large allocation goes back: a thousand
 * idle sessions must not each keep the largest frame they ever saw. */
static void drop_lent(struct cellar_link *link)
{
    if (link->lent == 0)
        return;
    cellar_buf_consume(&link->in, link->lent);
    link->lent = 0;
    link->scanned = 0;
    if (cellar_buf_len(&link->in) == 0)
        cellar_buf_reset(&link->in);
}

static size_t announced(const uint8_t *frame)
{
    return (size_t)frame[0] << 24 | (size_t)frame[1] << 16 |
           (size_t)frame[2] << 8 | frame[3];
}

static enum cellar_code check_length(size_t len)
{
    if (len > CELLAR_PAYLOAD_MAX)
        return CELLAR_E_LIMIT;
    return len > 0 ? CELLAR_OK : CELLAR_E_PROTO;
}

/* Bytes that the input may hold before cellar_link_next() must look. */
static size_t wanted(const struct cellar_link *link)
{
    if (link->state == CELLAR_LINK_KEYLESS)
        return CELLAR_PREAMBLE_BYTES + CELLAR_KEY_BYTES;
    if (link->state == CELLAR_LINK_HUNTING)
        return HUNT_WINDOW;
    if (cellar_buf_len(&link->in) < CELLAR_LENGTH_BYTES)
        return CELLAR_LENGTH_BYTES;
    size_t len = announced(cellar_buf_peek(&link->in));
    return check_length(len) == CELLAR_OK ? CELLAR_FRAME_HEADER_BYTES + len
                                          : CELLAR_LENGTH_BYTES;
}

enum cellar_code cellar_link_feed(struct cellar_link *link, const void *bytes,
                                  size_t len, size_t *used)
{
    if (link->state == CELLAR_LINK_BROKEN)
        return link->fault;
    drop_lent(link);
    const uint8_t *from = bytes;
    size_t taken = 0;
    while (taken < len) {
        size_t want = wanted(link);
        size_t held = cellar_buf_len(&link->in);
        if (held >= want)
            break;
        size_t n = want - held < len - taken ? want - held : len - taken;
        enum cellar_code code = cellar_buf_append(&link->in, from + taken, n);
        if (code != CELLAR_OK) {
            cellar_link_break(link, code);
            return code;
        }
        taken += n;
    }
    *used = taken;
    return CELLAR_OK;
}

static enum cellar_code take_key(struct cellar_link *link)
{
    struct cellar_buf *in = &link->in;
    const size_t len = CELLAR_PREAMBLE_BYTES + CELLAR_KEY_BYTES;
    size_t held = cellar_buf_len(in);
    size_t seen = held < CELLAR_PREAMBLE_BYTES ? held : CELLAR_PREAMBLE_BYTES;
    if (seen > 0 &&
        memcmp(cellar_buf_peek(in), cellar_link_preamble, seen) != 0) {
        cellar_sign_wipe(in->data + in->head, held); /* may hold a key */
        return cellar_link_fail(link, CELLAR_E_PROTO);
    }
    if (held < len)
        return CELLAR_E_AGAIN;
    memcpy(link->key, cellar_buf_peek(in) + CELLAR_PREAMBLE_BYTES,
           sizeof(link->key));
    cellar_sign_wipe(in->data + in->head, len);
    cellar_buf_consume(in, len);
    cellar_link_make_mark(link, CELLAR_ROLE_HOST, link->mark);
    cellar_link_hunt(link);
    return CELLAR_OK;
}

/* The mark's place in the input, or SIZE_MAX; what was searched once is not
 * searched again, so a slow large frame costs one pass. */
static size_t find_mark(struct cellar_link *link)
{
    size_t held = cellar_buf_len(&link->in);
    if (held < link->scanned + CELLAR_RESYNC_BYTES)
        return SIZE_MAX;
    const uint8_t *start = cellar_buf_peek(&link->in);
    const uint8_t *hit = memmem(start + link->scanned, held - link->scanned,
                                link->mark, CELLAR_RESYNC_BYTES);
    if (hit)
        return (size_t)(hit - start);
    link->scanned = held - CELLAR_RESYNC_BYTES + 1;
    return SIZE_MAX;
}

/* How many of the last bytes may be the beginning of a mark. */
static size_t partial_mark(const struct cellar_link *link)
{
    size_t held = cellar_buf_len(&link->in);
    size_t n = held < CELLAR_RESYNC_BYTES ? held : CELLAR_RESYNC_BYTES - 1;
    if (held == 0)
        return 0;
    const uint8_t *end = cellar_buf_peek(&link->in) + held;
    while (n > 0 && memcmp(end - n, link->mark, n) != 0)
        n--;
    return n;
}

static void skip(struct cellar_link *link, size_t len)
{
    cellar_buf_consume(&link->in, len);
    link->hunted += len;
    link->scanned = 0;
    if (cellar_buf_len(&link->in) == 0)
        cellar_buf_reset(&link->in);
}

/* A fault waits while the bytes behind it may become a greeting: the end of a
 * host in the middle of a frame is no fault of the next one. */
static enum cellar_code hunt(struct cellar_link *link)
{
    size_t mark = find_mark(link);
    if (mark != SIZE_MAX) {
        skip(link, mark + CELLAR_RESYNC_BYTES);
        link->fault = CELLAR_OK;
        link->state = CELLAR_LINK_GREETED;
        return CELLAR_OK;
    }
    skip(link, cellar_buf_len(&link->in) - partial_mark(link));
    if (link->role == CELLAR_ROLE_HOST && link->hunted > CELLAR_HUNT_MAX)
        return cellar_link_fail(link, CELLAR_E_LIMIT);
    if (link->fault == CELLAR_OK || cellar_buf_len(&link->in) > 0)
        return CELLAR_E_AGAIN;
    enum cellar_code fault = link->fault;
    link->fault = CELLAR_OK;
    return fault;
}

/* Goes on to a state in which a frame is next. */
static enum cellar_code seek(struct cellar_link *link)
{
    enum cellar_code code = CELLAR_OK;
    if (link->state == CELLAR_LINK_KEYLESS)
        code = take_key(link);
    if (code == CELLAR_OK && link->state == CELLAR_LINK_HUNTING)
        code = hunt(link);
    if (code != CELLAR_OK)
        return code;
    if (link->state == CELLAR_LINK_BROKEN)
        return link->fault;
    return link->state == CELLAR_LINK_WELCOMING ? CELLAR_E_AGAIN : CELLAR_OK;
}

static enum cellar_code verify(const struct cellar_link *link,
                               const uint8_t *frame, size_t len)
{
    const uint8_t *tag = frame + CELLAR_LENGTH_BYTES;
    const uint8_t *payload = frame + CELLAR_FRAME_HEADER_BYTES;
    bool same = false;
    if (link->state == CELLAR_LINK_OPEN) {
        if (link->recv_seq == UINT64_MAX)
            return CELLAR_E_LIMIT;
        same = cellar_sign_check(tag, link->recv_key, link->recv_seq, payload,
                                 len);
    } else {
        uint8_t right[CELLAR_TAG_BYTES];
        cellar_link_handshake_tag(link, cellar_link_peer(link), payload, len,
                                  right);
        same = cellar_sign_same(tag, right);
    }
    return same ? CELLAR_OK : CELLAR_E_AUTH;
}

static enum cellar_code take_hello(struct cellar_link *link,
                                   const struct cellar_msg_hello *hello)
{
    if (hello->version != CELLAR_WIRE_VERSION)
        return CELLAR_E_PROTO;
    memcpy(link->peer_nonce, hello->nonce, CELLAR_NONCE_BYTES);
    link->state = CELLAR_LINK_WELCOMING;
    return CELLAR_OK;
}

static enum cellar_code take_welcome(struct cellar_link *link,
                                     const struct cellar_msg_welcome *welcome)
{
    if (welcome->version != CELLAR_WIRE_VERSION ||
        welcome->epoch <= link->epoch)
        return CELLAR_E_PROTO;
    memcpy(link->peer_nonce, welcome->nonce, CELLAR_NONCE_BYTES);
    cellar_link_open(link, welcome->epoch);
    return CELLAR_OK;
}

static enum cellar_code admit(struct cellar_link *link,
                              const struct cellar_message *msg)
{
    if (!cellar_link_allows(msg->type, cellar_link_peer(link), link->state))
        return CELLAR_E_PROTO;
    if (msg->type == CELLAR_MSG_HELLO)
        return take_hello(link, &msg->u.hello);
    if (msg->type == CELLAR_MSG_WELCOME)
        return take_welcome(link, &msg->u.welcome);
    link->recv_seq++;
    return CELLAR_OK;
}

/* A frame that verifies but may not come is no place where a mark could be:
 * it goes before the hunt begins. */
static enum cellar_code read_frame(struct cellar_link *link, size_t len,
                                   struct cellar_message *msg)
{
    const uint8_t *frame = cellar_buf_peek(&link->in);
    struct cellar_message got;
    enum cellar_code code = verify(link, frame, len);
    if (code != CELLAR_OK)
        return cellar_link_fail(link, code);
    link->lent = CELLAR_FRAME_HEADER_BYTES + len;
    code = cellar_message_unpack(frame + CELLAR_FRAME_HEADER_BYTES, len, &got);
    if (code == CELLAR_OK)
        code = admit(link, &got);
    if (code != CELLAR_OK) {
        drop_lent(link);
        return cellar_link_fail(link, code);
    }
    *msg = got;
    return CELLAR_OK;
}

/* An agent whose frame stays unfinished may hold the greeting of a new host
 * in what looks like the rest of the old one's frame. */
static enum cellar_code await_rest(struct cellar_link *link)
{
    if (link->role == CELLAR_ROLE_AGENT && find_mark(link) != SIZE_MAX)
        cellar_link_hunt(link);
    return CELLAR_E_AGAIN;
}

static enum cellar_code take_frame(struct cellar_link *link,
                                   struct cellar_message *msg)
{
    size_t held = cellar_buf_len(&link->in);
    if (held < CELLAR_LENGTH_BYTES)
        return CELLAR_E_AGAIN;
    size_t len = announced(cellar_buf_peek(&link->in));
    enum cellar_code code = check_length(len);
    if (code != CELLAR_OK)
        return cellar_link_fail(link, code);
    return held < CELLAR_FRAME_HEADER_BYTES + len ? await_rest(link)
                                                  : read_frame(link, len, msg);
}

enum cellar_code cellar_link_next(struct cellar_link *link,
                                  struct cellar_message *msg)
{
    drop_lent(link);
    enum cellar_code code = seek(link);
    while (code == CELLAR_OK) {
        code = take_frame(link, msg);
        if (code == CELLAR_OK || link->state != CELLAR_LINK_HUNTING)
            return code;
        code = seek(link);
    }
    return code;
}
