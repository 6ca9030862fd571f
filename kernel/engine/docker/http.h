/*
 * HTTP to a container engine, over a unix socket, TCP or TLS, on the event
 * loop. http*.c are the only files that know libcurl. Every call has a
 * deadline; nothing here blocks. Callbacks come from the loop, never from
 * within a call made here. No proxy is used, whatever the environment says.
 */
#ifndef CELLAR_ENGINE_HTTP_H
#define CELLAR_ENGINE_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "../../loop.h"
#include "cellar/error.h"

struct cellar_http;        /* one server */
struct cellar_http_call;   /* a request under way */
struct cellar_http_stream; /* an upgraded connection */

/* `host`: "unix:///path", "tcp://host:port", "http://...", "https://...".
 * DOCKER_TLS_VERIFY and DOCKER_CERT_PATH (default ~/.docker) make tcp:// TLS
 * with a client certificate, as the docker command does. E_USAGE: `host` is
 * none of these, or a certificate's file can't be read. Copies. */
enum cellar_code cellar_http_new(struct cellar_loop *loop, const char *host,
                                 struct cellar_http **out,
                                 struct cellar_error *err);
/* Cancels calls under way without calling back. Streams must have been closed
 * before. NULL is fine. */
void cellar_http_free(struct cellar_http *http);

/* `host`, as it was given. Lent as long as `http`. */
const char *cellar_http_name(const struct cellar_http *http);

struct cellar_http_request {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *path;   /* "/v1.41/containers/json?all=1", escaped already */
    const char *content_type; /* NULL: application/json where there's a body */
    const char *body;         /* copied; NULL: none */
    size_t body_len;
    int body_fd; /* streams a file instead of `body` when > 0; borrowed
                    until done */
    uint64_t deadline_ms;
    size_t reply_max; /* a longer reply is E_LIMIT */
    /* A streamed reply: called with each piece; the reply isn't collected
     * then. Another return than CELLAR_OK ends the call with that code. */
    enum cellar_code (*on_piece)(void *user, const char *data, size_t len);
};

/* `status` is HTTP's (0 when there was no reply), `body` NUL-terminated and
 * lent for the call. `err` is NULL when a reply came, whatever its status;
 * else E_ENGINE (no such socket, refused, cut, garbage), E_DENIED (the
 * socket's permissions), E_TIMEOUT, E_LIMIT, E_NOMEM. */
typedef void cellar_http_fn(void *user, int status, const char *body,
                            size_t len, const struct cellar_error *err);

/* Begins a request. `done` is called once, unless it is cancelled first.
 * `out` may be NULL. */
enum cellar_code cellar_http_begin(struct cellar_http *http,
                                   const struct cellar_http_request *request,
                                   cellar_http_fn *done, void *user,
                                   struct cellar_http_call **out,
                                   struct cellar_error *err);
void cellar_http_cancel(struct cellar_http_call *call); /* NULL is fine */

struct cellar_http_stream_events {
    /* The engine switched protocols; write from now on. */
    void (*opened)(void *user);
    /* Bytes came. */
    void (*bytes)(void *user, const uint8_t *data, size_t len);
    /* The stream ended; last call. `err` is NULL at a plain end of file.
     * `status` is HTTP's when the upgrade was refused (with `err` set, its
     * message the beginning of the reply's body), else 0. Call _close from
     * here or later. */
    void (*closed)(void *user, int status, const struct cellar_error *err);
};

/* POSTs `request` with "Upgrade: tcp"; 101 and 200 both open the stream. Of
 * the request its path, its body (JSON, or none) and its deadline are used. */
enum cellar_code
cellar_http_upgrade(struct cellar_http *http,
                    const struct cellar_http_request *request,
                    const struct cellar_http_stream_events *events, void *user,
                    struct cellar_http_stream **out, struct cellar_error *err);

/* Writes now what can be written and keeps the rest, up to
 * CELLAR_HTTP_QUEUE_MAX bytes (E_LIMIT beyond). E_LOST: not open, or over.
 * What a peer that is gone can't take is dropped; `closed` follows. */
#define CELLAR_HTTP_QUEUE_MAX (16u << 20)
enum cellar_code cellar_http_stream_write(struct cellar_http_stream *stream,
                                          const uint8_t *data, size_t len);
/* The socket's descriptor, for the bench's bare loop; borrowed. */
int cellar_http_stream_fd(const struct cellar_http_stream *stream);
/* Closes; no callback follows. NULL is fine. */
void cellar_http_stream_close(struct cellar_http_stream *stream);

#endif
