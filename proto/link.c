#include "link.h"

#include <string.h>

#include "sign.h"

#define FRAME_MAX (CELLAR_FRAME_HEADER_BYTES + CELLAR_PAYLOAD_MAX)

/* How much of what will be thrown away is taken in at once. */
#define HUNT_WINDOW (64u << 10)

#define LENGTH_BYTES 4

static const uint8_t preamble[CELLAR_PREAMBLE_BYTES] = {
    'C', 'E', 'L', 'L', 'A', 'R', CELLAR_WIRE_VERSION, 0};

/* Who sends a message, and in which state of the receiver it may come. */
static const struct {
    enum cellar_message_type type;
    enum cellar_role sender;
    enum cellar_link_state state;
} rules[] = {
    {CELLAR_MSG_HELLO, CELLAR_ROLE_HOST, CELLAR_LINK_GREETED},
    {CELLAR_MSG_RUN, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_INTERRUPT, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_RESET, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_PING, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_STOP, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_WELCOME, CELLAR_ROLE_AGENT, CELLAR_LINK_GREETED},
    {CELLAR_MSG_READY, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_OUTPUT, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_DISPLAY, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_DONE, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_FAULT, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_PONG, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
};

static bool allowed(enum cellar_message_type type, enum cellar_role sender,
                    enum cellar_link_state state)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].type == type)
            return rules[i].sender == sender && rules[i].state == state;
    return false;
}

/* ----------------------------------------------------- roles and secrets -- */

static enum cellar_role peer_of(const struct cellar_link *link)
{
    return link->role == CELLAR_ROLE_HOST ? CELLAR_ROLE_AGENT
                                          : CELLAR_ROLE_HOST;
}

static enum cellar_direction direction_from(enum cellar_role sender)
{
    return sender == CELLAR_ROLE_HOST ? CELLAR_TO_AGENT : CELLAR_TO_HOST;
}

static const uint8_t *host_nonce(const struct cellar_link *link)
{
    return link->role == CELLAR_ROLE_HOST ? link->nonce : link->peer_nonce;
}

static const uint8_t *agent_nonce(const struct cellar_link *link)
{
    return link->role == CELLAR_ROLE_HOST ? link->peer_nonce : link->nonce;
}

/* What handshake and mark of one direction are bound to. */
static const uint8_t *bound_nonce(const struct cellar_link *link,
                                  enum cellar_role sender)
{
    return sender == CELLAR_ROLE_HOST ? NULL : host_nonce(link);
}

static void make_mark(const struct cellar_link *link, enum cellar_role sender,
                      uint8_t mark[CELLAR_RESYNC_BYTES])
{
    memset(mark, 0xff, LENGTH_BYTES);
    cellar_sign_resync(mark + LENGTH_BYTES, link->key, direction_from(sender),
                       bound_nonce(link, sender));
}

static void open_epoch(struct cellar_link *link, uint64_t epoch)
{
    cellar_sign_epoch_key(link->send_key, link->key, direction_from(link->role),
                          host_nonce(link), agent_nonce(link));
    cellar_sign_epoch_key(link->recv_key, link->key,
                          direction_from(peer_of(link)), host_nonce(link),
                          agent_nonce(link));
    link->send_seq = 0;
    link->recv_seq = 0;
    link->epoch = epoch;
    link->state = CELLAR_LINK_OPEN;
}

static void wipe_epoch(struct cellar_link *link)
{
    cellar_sign_wipe(link->send_key, sizeof(link->send_key));
    cellar_sign_wipe(link->recv_key, sizeof(link->recv_key));
}

static void start_hunting(struct cellar_link *link)
{
    wipe_epoch(link);
    link->state = CELLAR_LINK_HUNTING;
    link->hunted = 0;
    link->scanned = 0;
}

/* Ends the epoch for `code`. An agent that has its key waits for the next
 * host; hunt() reports the fault, unless a greeting stands behind it. */
static enum cellar_code broken(struct cellar_link *link, enum cellar_code code)
{
    bool may_recover =
        link->role == CELLAR_ROLE_AGENT && link->state != CELLAR_LINK_KEYLESS;
    start_hunting(link);
    link->fault = code;
    if (!may_recover) {
        link->state = CELLAR_LINK_BROKEN;
        cellar_buf_done(&link->in);
        link->lent = 0;
    }
    return code;
}

/* The same where the caller is told at once. */
static enum cellar_code broken_and_told(struct cellar_link *link,
                                        enum cellar_code code)
{
    broken(link, code);
    if (link->state == CELLAR_LINK_HUNTING)
        link->fault = CELLAR_OK;
    return code;
}

void cellar_link_break(struct cellar_link *link, enum cellar_code why)
{
    broken_and_told(link, why);
}

void cellar_link_init(struct cellar_link *link, enum cellar_role role,
                      const uint8_t *key)
{
    *link = (struct cellar_link){.role = role, .state = CELLAR_LINK_KEYLESS};
    cellar_buf_init(&link->in, FRAME_MAX);
    if (role == CELLAR_ROLE_HOST) {
        memcpy(link->key, key, CELLAR_KEY_BYTES);
        link->state = CELLAR_LINK_BROKEN;
        link->fault = CELLAR_E_PROTO;
    }
}

void cellar_link_done(struct cellar_link *link)
{
    enum cellar_role role = link->role;
    cellar_buf_done(&link->in);
    cellar_sign_wipe(link, sizeof(*link));
    *link = (struct cellar_link){
        .role = role, .state = CELLAR_LINK_BROKEN, .fault = CELLAR_E_PROTO};
}

/* --------------------------------------------------------------- sending -- */

static void put_length(uint8_t *at, size_t len)
{
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        at[i] = (uint8_t)(len >> (8 * (LENGTH_BYTES - 1 - i)));
}

/* Fills the header of the frame that begins `before` bytes into `out`. */
static enum cellar_code seal(const struct cellar_link *link, bool handshake,
                             struct cellar_buf *out, size_t before)
{
    size_t len = cellar_buf_len(out) - before - CELLAR_FRAME_HEADER_BYTES;
    if (len > CELLAR_PAYLOAD_MAX)
        return CELLAR_E_LIMIT;
    uint8_t *frame = out->data + out->head + before;
    uint8_t *tag = frame + LENGTH_BYTES;
    const uint8_t *payload = frame + CELLAR_FRAME_HEADER_BYTES;
    put_length(frame, len);
    if (handshake)
        cellar_sign_handshake(tag, link->key, direction_from(link->role),
                              bound_nonce(link, link->role), payload, len);
    else
        cellar_sign_tag(tag, link->send_key, link->send_seq, payload, len);
    return CELLAR_OK;
}

/* Appends a frame around `msg`, or around `payload` when there is no msg.
 * What a failure leaves in `out` is the caller's to cut. */
static enum cellar_code put_frame(const struct cellar_link *link,
                                  bool handshake,
                                  const struct cellar_message *msg,
                                  struct cellar_bytes payload,
                                  struct cellar_buf *out)
{
    static const uint8_t blank[CELLAR_FRAME_HEADER_BYTES];
    size_t before = cellar_buf_len(out);
    enum cellar_code code = cellar_buf_append(out, blank, sizeof(blank));
    if (code == CELLAR_OK)
        code = msg ? cellar_message_pack(msg, out)
                   : cellar_buf_append(out, payload.data, payload.len);
    return code == CELLAR_OK ? seal(link, handshake, out, before) : code;
}

static enum cellar_code put_hello(const struct cellar_link *link, bool first,
                                  const struct cellar_message *hello,
                                  struct cellar_buf *out)
{
    enum cellar_code code = CELLAR_OK;
    if (first) {
        code = cellar_buf_append(out, preamble, sizeof(preamble));
        if (code == CELLAR_OK)
            code = cellar_buf_append(out, link->key, sizeof(link->key));
    }
    uint8_t mark[CELLAR_RESYNC_BYTES];
    make_mark(link, link->role, mark);
    if (code == CELLAR_OK)
        code = cellar_buf_append(out, mark, sizeof(mark));
    if (code == CELLAR_OK)
        code = put_frame(link, true, hello, (struct cellar_bytes){0}, out);
    return code;
}

enum cellar_code cellar_link_greet(struct cellar_link *link, bool first,
                                   const uint8_t nonce[CELLAR_NONCE_BYTES],
                                   struct cellar_message *hello,
                                   struct cellar_buf *out)
{
    if (link->role != CELLAR_ROLE_HOST || hello->type != CELLAR_MSG_HELLO)
        return CELLAR_E_PROTO;
    hello->u.hello.version = CELLAR_WIRE_VERSION;
    memcpy(hello->u.hello.nonce, nonce, CELLAR_NONCE_BYTES);
    size_t before = cellar_buf_len(out);
    enum cellar_code code = put_hello(link, first, hello, out);
    if (code != CELLAR_OK) {
        cellar_buf_cut(out, before);
        return code;
    }
    start_hunting(link);
    cellar_buf_done(&link->in);
    link->lent = 0;
    link->fault = CELLAR_OK;
    memcpy(link->nonce, nonce, CELLAR_NONCE_BYTES);
    make_mark(link, CELLAR_ROLE_AGENT, link->mark);
    return CELLAR_OK;
}

enum cellar_code cellar_link_welcome(struct cellar_link *link,
                                     const uint8_t nonce[CELLAR_NONCE_BYTES],
                                     struct cellar_message *welcome,
                                     struct cellar_buf *out)
{
    if (link->state != CELLAR_LINK_WELCOMING ||
        welcome->type != CELLAR_MSG_WELCOME)
        return CELLAR_E_PROTO;
    welcome->u.welcome.version = CELLAR_WIRE_VERSION;
    welcome->u.welcome.epoch = link->epoch + 1;
    memcpy(welcome->u.welcome.nonce, nonce, CELLAR_NONCE_BYTES);
    size_t before = cellar_buf_len(out);
    uint8_t mark[CELLAR_RESYNC_BYTES];
    make_mark(link, CELLAR_ROLE_AGENT, mark);
    enum cellar_code code = cellar_buf_append(out, mark, sizeof(mark));
    if (code == CELLAR_OK)
        code = put_frame(link, true, welcome, (struct cellar_bytes){0}, out);
    if (code != CELLAR_OK) {
        cellar_buf_cut(out, before);
        return code;
    }
    memcpy(link->nonce, nonce, CELLAR_NONCE_BYTES);
    open_epoch(link, link->epoch + 1);
    return CELLAR_OK;
}

/* The last number is never used: an epoch ends before a nonce can repeat. */
static enum cellar_code send_frame(struct cellar_link *link,
                                   const struct cellar_message *msg,
                                   struct cellar_bytes payload,
                                   struct cellar_buf *out)
{
    if (link->state != CELLAR_LINK_OPEN)
        return CELLAR_E_PROTO;
    if (link->send_seq == UINT64_MAX)
        return broken_and_told(link, CELLAR_E_LIMIT);
    size_t before = cellar_buf_len(out);
    enum cellar_code code = put_frame(link, false, msg, payload, out);
    if (code != CELLAR_OK) {
        cellar_buf_cut(out, before);
        return code;
    }
    link->send_seq++;
    return CELLAR_OK;
}

enum cellar_code cellar_link_send(struct cellar_link *link,
                                  const struct cellar_message *msg,
                                  struct cellar_buf *out)
{
    if (!allowed(msg->type, link->role, CELLAR_LINK_OPEN))
        return CELLAR_E_PROTO;
    return send_frame(link, msg, (struct cellar_bytes){0}, out);
}

enum cellar_code cellar_link_send_payload(struct cellar_link *link,
                                          const uint8_t *payload, size_t len,
                                          struct cellar_buf *out)
{
    return send_frame(link, NULL, (struct cellar_bytes){payload, len}, out);
}

/* ------------------------------------------------------------- receiving -- */

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
    if (cellar_buf_len(&link->in) < LENGTH_BYTES)
        return LENGTH_BYTES;
    size_t len = announced(cellar_buf_peek(&link->in));
    return check_length(len) == CELLAR_OK ? CELLAR_FRAME_HEADER_BYTES + len
                                          : LENGTH_BYTES;
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
        if (code != CELLAR_OK)
            return broken_and_told(link, code);
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
    size_t seen = held < sizeof(preamble) ? held : sizeof(preamble);
    if (seen > 0 && memcmp(cellar_buf_peek(in), preamble, seen) != 0)
        return broken(link, CELLAR_E_PROTO);
    if (held < len)
        return CELLAR_E_AGAIN;
    memcpy(link->key, cellar_buf_peek(in) + sizeof(preamble),
           sizeof(link->key));
    cellar_sign_wipe(in->data + in->head, len);
    cellar_buf_consume(in, len);
    make_mark(link, CELLAR_ROLE_HOST, link->mark);
    start_hunting(link);
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
        return broken(link, CELLAR_E_LIMIT);
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
    const uint8_t *tag = frame + LENGTH_BYTES;
    const uint8_t *payload = frame + CELLAR_FRAME_HEADER_BYTES;
    bool same = false;
    if (link->state == CELLAR_LINK_OPEN) {
        if (link->recv_seq == UINT64_MAX)
            return CELLAR_E_LIMIT;
        same = cellar_sign_check(tag, link->recv_key, link->recv_seq, payload,
                                 len);
    } else {
        uint8_t right[CELLAR_TAG_BYTES];
        cellar_sign_handshake(right, link->key, direction_from(peer_of(link)),
                              bound_nonce(link, peer_of(link)), payload, len);
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
    open_epoch(link, welcome->epoch);
    return CELLAR_OK;
}

static enum cellar_code admit(struct cellar_link *link,
                              const struct cellar_message *msg)
{
    if (!allowed(msg->type, peer_of(link), link->state))
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
        return broken(link, code);
    link->lent = CELLAR_FRAME_HEADER_BYTES + len;
    code = cellar_message_unpack(frame + CELLAR_FRAME_HEADER_BYTES, len, &got);
    if (code == CELLAR_OK)
        code = admit(link, &got);
    if (code != CELLAR_OK) {
        drop_lent(link);
        return broken(link, code);
    }
    *msg = got;
    return CELLAR_OK;
}

/* An agent whose frame stays unfinished may hold the greeting of a new host
 * in what looks like the rest of the old one's frame. */
static enum cellar_code await_rest(struct cellar_link *link)
{
    if (link->role == CELLAR_ROLE_AGENT && find_mark(link) != SIZE_MAX)
        start_hunting(link);
    return CELLAR_E_AGAIN;
}

static enum cellar_code take_frame(struct cellar_link *link,
                                   struct cellar_message *msg)
{
    size_t held = cellar_buf_len(&link->in);
    if (held < LENGTH_BYTES)
        return CELLAR_E_AGAIN;
    size_t len = announced(cellar_buf_peek(&link->in));
    enum cellar_code code = check_length(len);
    if (code != CELLAR_OK)
        return broken(link, code);
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
