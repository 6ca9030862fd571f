/*
 * A link: one end of the wire, from bytes to verified messages and back. It
 * does no I/O and has no clock; nonces come in from outside. The host and the
 * agent each hold one, in its role:
 *
 *   host                                    agent
 *   cellar_link_init(HOST, key)             cellar_link_init(AGENT, NULL)
 *   cellar_link_greet() -> bytes  ------->  cellar_link_feed(), _next(): HELLO
 *   _feed(), _next(): WELCOME     <-------  cellar_link_welcome() -> bytes
 *   cellar_link_send() / _next()  <------>  cellar_link_send() / _next()
 *
 * The bytes of a greeting are [preamble and key, once in a session's life],
 * the host's resync mark, HELLO. A resync mark is 4 bytes that can be no
 * frame's length followed by 28 that only holders of the key can make, so the
 * reader finds it also in the middle of a frame that the last host, or the
 * last epoch, left unfinished. The host hunts for the agent's mark, which
 * depends on its own fresh nonce, and skips everything before it.
 *
 * What arrives and fails is final for the epoch: a host's link answers with
 * the same code until it greets anew. Nothing is skipped silently. A call that
 * sends and fails changes nothing.
 *
 *     while (len > 0) {
 *         code = cellar_link_feed(&link, bytes, len, &used);
 *         ... bytes += used, len -= used
 *         while ((code = cellar_link_next(&link, &msg)) == CELLAR_OK)
 *             ... msg; an agent answers HELLO with cellar_link_welcome()
 *         ... E_AGAIN: go on; else the epoch is over, but an agent goes on too:
 *         the next greeting may stand in the rest
 *     }
 */
#ifndef CELLAR_PROTO_LINK_H
#define CELLAR_PROTO_LINK_H

#include "buf.h"
#include "cellar/error.h"
#include "limits.h"
#include "message.h"

/* "CELLAR", wire version, a zero byte; then the key. */
#define CELLAR_PREAMBLE_BYTES 8
#define CELLAR_RESYNC_BYTES   32

enum cellar_role { CELLAR_ROLE_HOST, CELLAR_ROLE_AGENT };

enum cellar_link_state {
    CELLAR_LINK_KEYLESS,   /* agent: the preamble has not come yet */
    CELLAR_LINK_HUNTING,   /* looks for the peer's resync mark */
    CELLAR_LINK_GREETED,   /* the mark was seen: HELLO (WELCOME) must follow */
    CELLAR_LINK_WELCOMING, /* agent: HELLO taken, cellar_link_welcome() is due*/
    CELLAR_LINK_OPEN,
    CELLAR_LINK_BROKEN /* `fault` says why */
};

struct cellar_link {
    enum cellar_role role;
    enum cellar_link_state state;
    enum cellar_code fault;
    uint8_t key[CELLAR_KEY_BYTES];      /* the session's */
    uint8_t send_key[CELLAR_KEY_BYTES]; /* this epoch's, by direction */
    uint8_t recv_key[CELLAR_KEY_BYTES];
    uint64_t send_seq; /* the next frame's nonce */
    uint64_t recv_seq;
    uint8_t nonce[CELLAR_NONCE_BYTES]; /* ours, of this epoch */
    uint8_t peer_nonce[CELLAR_NONCE_BYTES];
    uint8_t mark[CELLAR_RESYNC_BYTES]; /* the peer's, which is looked for */
    uint64_t epoch;                    /* 0 before the first handshake */
    size_t hunted;                     /* bytes thrown away while hunting */
    size_t scanned; /* bytes of `in` already searched for a mark */
    size_t lent;    /* bytes of the frame whose payload is lent out */
    struct cellar_buf in;
};

/* Host: `key` is the session's. Agent: `key` is NULL, the preamble brings it; a
 * branch's is known before, and no preamble comes. Copies; allocates nothing. A
 * host's link is BROKEN until it greets. */
void cellar_link_init(struct cellar_link *link, enum cellar_role role,
                      const uint8_t *key);

/* Wipes the keys and frees. */
void cellar_link_done(struct cellar_link *link);

/* Host: begins an epoch with a fresh random nonce: appends a greeting to
 * `out`. `first` sends the preamble and the key, once in a session's life.
 * `hello` is {type HELLO, cell 0, mark = last delivery taken, ...}; version
 * and nonce are filled in here. */
enum cellar_code cellar_link_greet(struct cellar_link *link, bool first,
                                   const uint8_t nonce[CELLAR_NONCE_BYTES],
                                   struct cellar_message *hello,
                                   struct cellar_buf *out);

/* Agent, in state WELCOMING: appends the agent's resync mark and WELCOME;
 * version, nonce and epoch are filled in here. The link is open from then. */
enum cellar_code cellar_link_welcome(struct cellar_link *link,
                                     const uint8_t nonce[CELLAR_NONCE_BYTES],
                                     struct cellar_message *welcome,
                                     struct cellar_buf *out);

/* Copies what arrived. Takes at most what one frame needs beyond what is
 * held; *used says how much (feed the rest after cellar_link_next()): 0 when
 * a whole frame, or a HELLO without its welcome, waits. The caller wipes its
 * own copy of what may hold the key. E_NOMEM ends the epoch; a BROKEN link
 * answers with its fault. */
enum cellar_code cellar_link_feed(struct cellar_link *link, const void *bytes,
                                  size_t len, size_t *used);

/* The next verified message: CELLAR_OK and `msg`, which lends bytes until the
 * next call on the link; CELLAR_E_AGAIN when more bytes are needed; else what
 * broke the epoch (E_AUTH, E_PROTO, E_LIMIT, E_NOMEM). Which type may come in
 * which state, and from which side, is checked here by a table.
 *
 * An agent whose epoch broke goes on hunting: the call answers with the fault
 * once, then E_AGAIN until a new host greets. A greeting in an open epoch
 * ends that epoch silently: HELLO is returned; so a fault is held back while
 * the last bytes may be the beginning of a mark. An agent that was given a
 * wrong preamble stays BROKEN: no key can come any more. */
enum cellar_code cellar_link_next(struct cellar_link *link,
                                  struct cellar_message *msg);

/* Appends a signed frame to `out`. E_PROTO when the link isn't open or the
 * type isn't this side's to send; E_LIMIT when `out` is full or a field is over
 * its bound; E_NOMEM. The epoch ends (E_LIMIT) before a sequence number could
 * come twice. */
enum cellar_code cellar_link_send(struct cellar_link *link,
                                  const struct cellar_message *msg,
                                  struct cellar_buf *out);

/* As cellar_link_send(), for a payload that cellar_message_pack() made before
 * and that isn't looked into: what the agent's ring repeats in a new epoch. */
enum cellar_code cellar_link_send_payload(struct cellar_link *link,
                                          const uint8_t *payload, size_t len,
                                          struct cellar_buf *out);

/* Ends the epoch because of `why`, which a layer above the link saw: a host's
 * link is broken from then, an agent's waits for the next greeting. */
void cellar_link_break(struct cellar_link *link, enum cellar_code why);

#endif
