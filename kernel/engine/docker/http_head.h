/*
 * The head of an HTTP reply, read by hand: libcurl does not follow a reply
 * that turns into a raw stream. Pure.
 */
#ifndef CELLAR_ENGINE_HTTP_HEAD_H
#define CELLAR_ENGINE_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellar/error.h"

/* Bytes of a head; Docker's are under 300. */
#define CELLAR_HTTP_HEAD_MAX (16u << 10)

struct cellar_http_head {
    int status;       /* 100..999 */
    size_t len;       /* bytes up to and with the empty line */
    bool upgrade_tcp; /* "Upgrade: tcp" */
    bool raw_stream;  /* "Content-Type: application/vnd.docker..." */
    bool chunked;     /* any "Transfer-Encoding" */
    bool has_length;  /* "Content-Length: `length`" */
    uint64_t length;
};

/* Reads the head that `data` begins with. CELLAR_E_AGAIN: it is not complete
 * yet; CELLAR_E_PROTO: it is none; CELLAR_E_LIMIT: longer than
 * CELLAR_HTTP_HEAD_MAX. */
enum cellar_code cellar_http_head_parse(const char *data, size_t len,
                                        struct cellar_http_head *out);

/* Whether a reply to "Upgrade: tcp" opens the stream: 101 that names the same
 * protocol, or 200 with Docker's content type and no body of its own. */
bool cellar_http_head_is_stream(const struct cellar_http_head *head);

#endif
