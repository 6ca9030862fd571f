/* A link's epochs, and what it sends. link_read.c is the other half. */
#include "link_private.h"

#include <string.h>

#define FRAME_MAX (CELLAR_FRAME_HEADER_BYTES + CELLAR_PAYLOAD_MAX)

const uint8_t cellar_link_preamble[CELLAR_PREAMBLE_BYTES] = {
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
    {CELLAR_MSG_CHECKPOINT, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_RESTORE, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_DROP, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_LIST, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_FORK, CELLAR_ROLE_HOST, CELLAR_LINK_OPEN},
    {CELLAR_MSG_WELCOME, CELLAR_ROLE_AGENT, CELLAR_LINK_GREETED},
    {CELLAR_MSG_READY, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_OUTPUT, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_DISPLAY, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_DONE, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_FAULT, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_PONG, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_REPLY, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
    {CELLAR_MSG_COPIES, CELLAR_ROLE_AGENT, CELLAR_LINK_OPEN},
};

bool cellar_link_allows(enum cellar_message_type type, enum cellar_role sender,
                        enum cellar_link_state state)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].type == type)
            return rules[i].sender == sender && rules[i].state == state;
    return false;
}

/* ----------------------------------------------------- roles and secrets -- */

enum cellar_role cellar_link_peer(const struct cellar_link *link)
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

void cellar_link_handshake_tag(const struct cellar_link *link,
                               enum cellar_role sender, const uint8_t *payload,
                               size_t len, uint8_t tag[CELLAR_TAG_BYTES])
{
    cellar_sign_handshake(tag, link->key, direction_from(sender),
                          bound_nonce(link, sender), payload, len);
}

void cellar_link_make_mark(const struct cellar_link *link,
                           enum cellar_role sender,
                           uint8_t mark[CELLAR_RESYNC_BYTES])
{
    memset(mark, 0xff, CELLAR_LENGTH_BYTES);
    cellar_sign_resync(mark + CELLAR_LENGTH_BYTES, link->key,
                       direction_from(sender), bound_nonce(link, sender));
}

void cellar_link_open(struct cellar_link *link, uint64_t epoch)
{
    cellar_sign_epoch_key(link->send_key, link->key, direction_from(link->role),
                          host_nonce(link), agent_nonce(link));
    cellar_sign_epoch_key(link->recv_key, link->key,
                          direction_from(cellar_link_peer(link)),
                          host_nonce(link), agent_nonce(link));
    link->send_seq = 0;
    link->recv_seq = 0;
    link->epoch = epoch;
    link->state = CELLAR_LINK_OPEN;
}

void cellar_link_hunt(struct cellar_link *link)
{
    cellar_sign_wipe(link->send_key, sizeof(link->send_key));
    cellar_sign_wipe(link->recv_key, sizeof(link->recv_key));
    link->state = CELLAR_LINK_HUNTING;
    link->hunted = 0;
    link->scanned = 0;
}

enum cellar_code cellar_link_fail(struct cellar_link *link,
                                  enum cellar_code code)
{
    bool may_recover =
        link->role == CELLAR_ROLE_AGENT && link->state != CELLAR_LINK_KEYLESS;
    cellar_link_hunt(link);
    link->fault = code;
    if (!may_recover) {
        link->state = CELLAR_LINK_BROKEN;
        cellar_buf_done(&link->in);
        link->lent = 0;
    }
    return code;
}

/* The caller knows: there is nothing left to report. */
void cellar_link_break(struct cellar_link *link, enum cellar_code why)
{
    cellar_link_fail(link, why);
    if (link->state == CELLAR_LINK_HUNTING)
        link->fault = CELLAR_OK;
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
    } else if (key) {
        memcpy(link->key, key, CELLAR_KEY_BYTES);
        cellar_link_make_mark(link, CELLAR_ROLE_HOST, link->mark);
        cellar_link_hunt(link);
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
    for (size_t i = 0; i < CELLAR_LENGTH_BYTES; i++)
        at[i] = (uint8_t)(len >> (8 * (CELLAR_LENGTH_BYTES - 1 - i)));
}

/* Fills the header of the frame that begins `before` bytes into `out`. */
static enum cellar_code seal(const struct cellar_link *link, bool handshake,
                             struct cellar_buf *out, size_t before)
{
    size_t len = cellar_buf_len(out) - before - CELLAR_FRAME_HEADER_BYTES;
    if (len > CELLAR_PAYLOAD_MAX)
        return CELLAR_E_LIMIT;
    uint8_t *frame = out->data + out->head + before;
    uint8_t *tag = frame + CELLAR_LENGTH_BYTES;
    const uint8_t *payload = frame + CELLAR_FRAME_HEADER_BYTES;
    put_length(frame, len);
    if (handshake)
        cellar_link_handshake_tag(link, link->role, payload, len, tag);
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
        code = cellar_buf_append(out, cellar_link_preamble,
                                 sizeof(cellar_link_preamble));
        if (code == CELLAR_OK)
            code = cellar_buf_append(out, link->key, sizeof(link->key));
    }
    uint8_t mark[CELLAR_RESYNC_BYTES];
    cellar_link_make_mark(link, link->role, mark);
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
    cellar_link_hunt(link);
    cellar_buf_done(&link->in);
    link->lent = 0;
    link->fault = CELLAR_OK;
    memcpy(link->nonce, nonce, CELLAR_NONCE_BYTES);
    cellar_link_make_mark(link, CELLAR_ROLE_AGENT, link->mark);
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
    cellar_link_make_mark(link, CELLAR_ROLE_AGENT, mark);
    enum cellar_code code = cellar_buf_append(out, mark, sizeof(mark));
    if (code == CELLAR_OK)
        code = put_frame(link, true, welcome, (struct cellar_bytes){0}, out);
    if (code != CELLAR_OK) {
        cellar_buf_cut(out, before);
        return code;
    }
    memcpy(link->nonce, nonce, CELLAR_NONCE_BYTES);
    cellar_link_open(link, link->epoch + 1);
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
    if (link->send_seq == UINT64_MAX) {
        cellar_link_break(link, CELLAR_E_LIMIT);
        return CELLAR_E_LIMIT;
    }
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
    if (!cellar_link_allows(msg->type, link->role, CELLAR_LINK_OPEN))
        return CELLAR_E_PROTO;
    return send_frame(link, msg, (struct cellar_bytes){0}, out);
}

enum cellar_code cellar_link_send_payload(struct cellar_link *link,
                                          const uint8_t *payload, size_t len,
                                          struct cellar_buf *out)
{
    return send_frame(link, NULL, (struct cellar_bytes){payload, len}, out);
}
