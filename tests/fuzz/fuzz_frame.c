/*
 * Bytes to a link, in pieces. The first byte of the input says to which one,
 * the second how large the pieces are. Without SIGNED the bytes are the stream
 * itself, and nothing in it can verify. With SIGNED the rest of the input is
 * [length, payload]...: each payload is signed as the peer would, so that what
 * lies behind the tags is reached.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "proto/link.h"
#include "proto/sign.h"

enum { TO_HOST = 1, OPEN = 2, SIGNED = 4 };

static const uint8_t key[CELLAR_KEY_BYTES] = "a key that the fuzzer can't use";
static const uint8_t nonce[CELLAR_NONCE_BYTES] = "nonce";

struct pair {
    struct cellar_link host;
    struct cellar_link agent;
    struct cellar_buf out;
};

static void must(enum cellar_code code)
{
    if (code != CELLAR_OK)
        abort();
}

static size_t feed(struct cellar_link *link, const uint8_t *data, size_t len,
                   size_t piece)
{
    struct cellar_message msg;
    size_t taken = 0;
    while (len > 0) {
        size_t used = 0;
        if (cellar_link_feed(link, data, len < piece ? len : piece, &used) !=
            CELLAR_OK)
            return taken;
        while (cellar_link_next(link, &msg) == CELLAR_OK)
            taken++;
        if (used == 0 && link->state != CELLAR_LINK_WELCOMING)
            abort();
        if (used == 0)
            return taken;
        if (link->in.size > CELLAR_FRAME_HEADER_BYTES + CELLAR_PAYLOAD_MAX)
            abort();
        data += used;
        len -= used;
    }
    return taken;
}

static void flush(struct pair *pair, struct cellar_link *to)
{
    feed(to, cellar_buf_peek(&pair->out), cellar_buf_len(&pair->out), 4096);
    cellar_buf_reset(&pair->out);
}

static void greet(struct pair *pair)
{
    struct cellar_message hello = {.type = CELLAR_MSG_HELLO,
                                   .u.hello.lease_ms = 1};
    must(cellar_link_greet(&pair->host, true, nonce, &hello, &pair->out));
}

static void open_pair(struct pair *pair)
{
    struct cellar_message welcome = {.type = CELLAR_MSG_WELCOME};
    flush(pair, &pair->agent);
    must(cellar_link_welcome(&pair->agent, nonce, &welcome, &pair->out));
    flush(pair, &pair->host);
    if (pair->host.state != CELLAR_LINK_OPEN ||
        pair->agent.state != CELLAR_LINK_OPEN)
        abort();
}

/* Each record of the input as a frame; a payload that is refused ends it. */
static void feed_signed(struct pair *pair, struct cellar_link *from,
                        struct cellar_link *to, const uint8_t *data, size_t len)
{
    while (len > 0 && from->state == CELLAR_LINK_OPEN) {
        size_t size = data[0];
        size = size < len - 1 ? size : len - 1;
        must(cellar_link_send_payload(from, data + 1, size, &pair->out));
        flush(pair, to);
        if (to->state != CELLAR_LINK_OPEN)
            return;
        data += 1 + size;
        len -= 1 + size;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2 || cellar_sign_init() != CELLAR_OK)
        return 0;
    struct pair pair;
    bool to_host = data[0] & TO_HOST;
    struct cellar_link *to = to_host ? &pair.host : &pair.agent;
    struct cellar_link *from = to_host ? &pair.agent : &pair.host;
    cellar_link_init(&pair.host, CELLAR_ROLE_HOST, key);
    cellar_link_init(&pair.agent, CELLAR_ROLE_AGENT, NULL);
    cellar_buf_init(&pair.out, 1 << 20);
    greet(&pair);
    if (data[0] & (OPEN | SIGNED))
        open_pair(&pair);
    if (data[0] & SIGNED)
        feed_signed(&pair, from, to, data + 2, len - 2);
    else if (feed(to, data + 2, len - 2, 1 + data[1]) > 0 && to_host)
        abort();
    cellar_link_done(&pair.host);
    cellar_link_done(&pair.agent);
    cellar_buf_done(&pair.out);
    return 0;
}
