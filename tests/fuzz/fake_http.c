#include "fake_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/fail.h"

/* A request, or the upgrade of a stream, that waits for its reply. */
struct cellar_http_call {
    struct cellar_http_call *next;
    struct cellar_http_stream *stream; /* NULL: a plain request */
    cellar_http_fn *done;
    enum cellar_code (*on_piece)(void *user, const char *data, size_t len);
    void *user;
    char method[8];
    char path[1024];
};

struct cellar_http_stream {
    struct cellar_http_stream_events events;
    void *user;
    bool open;
    bool closed; /* by its user; freed by whoever is about to call it */
    bool busy;
};

struct cellar_http {
    char name[64];
};

struct fake_http fake_http;
static struct cellar_http_call *waiting;

static const struct cellar_error silent = {CELLAR_E_TIMEOUT, 0,
                                           "no answer within the deadline"};
static const struct cellar_error refused = {CELLAR_E_ENGINE, 0, "refused"};

enum cellar_code cellar_http_new(struct cellar_loop *loop, const char *host,
                                 struct cellar_http **out,
                                 struct cellar_error *err)
{
    struct cellar_http *http = calloc(1, sizeof(*http));
    (void)loop;
    if (!http)
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    (void)snprintf(http->name, sizeof(http->name), "%s", host);
    *out = http;
    return CELLAR_OK;
}

void cellar_http_free(struct cellar_http *http)
{
    free(http);
}

const char *cellar_http_name(const struct cellar_http *http)
{
    return http->name;
}

static void queue(struct cellar_http_call *call)
{
    struct cellar_http_call **end = &waiting;
    while (*end)
        end = &(*end)->next;
    *end = call;
}

static struct cellar_http_call *new_call(const char *method, const char *path,
                                         void *user)
{
    struct cellar_http_call *call = calloc(1, sizeof(*call));
    if (!call)
        return NULL;
    (void)snprintf(call->method, sizeof(call->method), "%s", method);
    (void)snprintf(call->path, sizeof(call->path), "%s", path);
    call->user = user;
    return call;
}

enum cellar_code cellar_http_begin(struct cellar_http *http,
                                   const struct cellar_http_request *request,
                                   cellar_http_fn *done, void *user,
                                   struct cellar_http_call **out,
                                   struct cellar_error *err)
{
    struct cellar_http_call *call =
        new_call(request->method, request->path, user);
    (void)http;
    if (!call)
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    call->done = done;
    call->on_piece = request->on_piece;
    queue(call);
    if (out)
        *out = call;
    return CELLAR_OK;
}

void cellar_http_cancel(struct cellar_http_call *call)
{
    struct cellar_http_call **at = &waiting;
    while (*at && *at != call)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = call->next;
    free(call);
}

enum cellar_code
cellar_http_upgrade(struct cellar_http *http,
                    const struct cellar_http_request *request,
                    const struct cellar_http_stream_events *events, void *user,
                    struct cellar_http_stream **out, struct cellar_error *err)
{
    struct cellar_http_stream *stream = calloc(1, sizeof(*stream));
    struct cellar_http_call *call = new_call("POST", request->path, user);
    (void)http;
    if (!stream || !call) {
        free(stream);
        free(call);
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    }
    stream->events = *events;
    stream->user = user;
    call->stream = stream;
    queue(call);
    fake_http.streams++;
    *out = stream;
    return CELLAR_OK;
}

enum cellar_code cellar_http_stream_write(struct cellar_http_stream *stream,
                                          const uint8_t *data, size_t len)
{
    (void)data;
    if (!stream->open)
        return CELLAR_E_LOST;
    fake_http.written += len;
    return CELLAR_OK;
}

int cellar_http_stream_fd(const struct cellar_http_stream *stream)
{
    (void)stream;
    return -1;
}

void cellar_http_stream_close(struct cellar_http_stream *stream)
{
    if (!stream)
        return;
    struct cellar_http_call *call = waiting;
    while (call && call->stream != stream)
        call = call->next;
    cellar_http_cancel(call);
    fake_http.streams--;
    stream->closed = true;
    if (!stream->busy)
        free(stream);
}

/* Memory of the reply's own, so that a sanitizer sees its end. */
static void *copy_of(const uint8_t *data, size_t len, size_t size)
{
    if (fake_http.quiet)
        fake_http.quiet(true);
    uint8_t *copy = malloc(size);
    if (!copy)
        abort();
    if (len > 0)
        memcpy(copy, data, len);
    if (fake_http.quiet)
        fake_http.quiet(false);
    return copy;
}

/* What follows the upgrade, in memory that is gone after each piece. */
static void play_stream(struct cellar_http_stream *stream,
                        const struct fake_reply *reply)
{
    for (size_t at = 0; at < reply->len && !stream->closed;) {
        size_t size = reply->len - at;
        size = size < fake_http.piece ? size : fake_http.piece;
        uint8_t *copy = copy_of(reply->body + at, size, size);
        stream->events.bytes(stream->user, copy, size);
        free(copy);
        at += size;
    }
}

static void answer_upgrade(struct cellar_http_stream *stream,
                           const struct fake_reply *reply)
{
    stream->busy = true;
    if (reply->status == 101) {
        stream->open = true;
        stream->events.opened(stream->user);
        play_stream(stream, reply);
    }
    bool lasts = reply->status == 101 && fake_http.keep_open;
    if (!stream->closed && reply->status == 101 && !lasts)
        stream->events.closed(stream->user, 0, NULL);
    else if (!stream->closed && !lasts)
        stream->events.closed(stream->user, reply->status,
                              reply->status ? &refused : &silent);
    stream->open = lasts;
    stream->busy = false;
    if (stream->closed)
        free(stream);
}

/* The body whole, or in pieces for those who want it so. */
static void answer_call(const struct cellar_http_call *call,
                        const struct fake_reply *reply)
{
    enum cellar_code code = CELLAR_OK;
    size_t len = call->on_piece && reply->status == 200 ? 0 : reply->len;
    char *body = copy_of(NULL, 0, reply->len + 1);
    for (size_t at = 0; len == 0 && at < reply->len && !code;) {
        size_t size = reply->len - at;
        size = size < fake_http.piece ? size : fake_http.piece;
        memcpy(body, reply->body + at, size);
        code = call->on_piece(call->user, body, size);
        at += size;
    }
    if (len > 0)
        memcpy(body, reply->body, len);
    body[len] = '\0';
    struct cellar_error limit = {code, 0, "the reply is too long"};
    if (code)
        call->done(call->user, 0, NULL, 0, &limit);
    else
        call->done(call->user, reply->status, body, len, NULL);
    free(body);
}

static void answer(const struct cellar_http_call *call)
{
    struct fake_reply reply = fake_http.next(call->method, call->path);
    const char *last = strrchr(call->path, '/');
    fake_http.requests++;
    fake_http.removals += strcmp(call->method, "DELETE") == 0;
    fake_http.starts += last && strcmp(last, "/start") == 0;
    if (call->stream)
        answer_upgrade(call->stream, &reply);
    else if (reply.status == 0)
        call->done(call->user, 0, NULL, 0, &silent);
    else
        answer_call(call, &reply);
}

void fake_http_run(void)
{
    while (waiting) {
        struct cellar_http_call *call = waiting;
        waiting = call->next;
        answer(call);
        free(call);
    }
}
