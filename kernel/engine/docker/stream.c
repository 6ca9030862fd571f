/* The stdio of a container, or of a program in it, as one stream: the upgraded
 * connection, and Docker's multiplexing on it. It is read always: an attached
 * stream that nobody reads makes the engine hang on every call about the
 * container (moby#41827). */
#include <stdio.h>
#include <string.h>

#include "demux.h"
#include "docker.h"

struct docker_stream {
    struct cellar_stream base; /* first */
    struct cellar_http_stream *http;
    struct cellar_attach attach;
    struct cellar_stream_events events;
    void *user;
    struct docker_stream_owner owner; /* all NULL once released */
    int depth;                        /* callbacks on the stack */
    bool closed;                      /* by its user */
    bool ended;                       /* the last callback was made */
};

static void leave(struct docker_stream *stream)
{
    if (--stream->depth > 0 || !stream->closed)
        return;
    cellar_http_stream_close(stream->http);
    free(stream);
}

static void end(struct docker_stream *stream, int status,
                const struct cellar_error *err)
{
    if (stream->ended || stream->closed)
        return;
    stream->ended = true;
    if (stream->owner.ended)
        stream->owner.ended(stream->owner.owner, status, err);
    else
        stream->events.closed(stream->user, err);
}

static void on_opened(void *user)
{
    struct docker_stream *stream = user;
    stream->depth++;
    stream->owner.opened(stream->owner.owner);
    leave(stream);
}

static void on_closed(void *user, int status, const struct cellar_error *err)
{
    struct docker_stream *stream = user;
    stream->depth++;
    end(stream, status, err);
    leave(stream);
}

static void end_system(struct docker_stream *stream,
                       const struct cellar_attach_slice *slice)
{
    struct cellar_error err;
    int len = slice->len < 300 ? (int)slice->len : 300;
    cellar_fail(&err, CELLAR_E_ENGINE, "the engine broke the stream off: %.*s",
                len, (const char *)slice->data);
    end(stream, 0, &err);
}

static void give_slice(struct docker_stream *stream,
                       const struct cellar_attach_slice *slice)
{
    if (slice->stream == CELLAR_ATTACH_SYSTEM)
        end_system(stream, slice);
    else if (slice->stream == CELLAR_ATTACH_STDERR)
        stream->events.text(stream->user, (const char *)slice->data,
                            slice->len);
    else
        stream->events.bytes(stream->user, slice->data, slice->len);
}

static void end_broken(struct docker_stream *stream, enum cellar_code code)
{
    struct cellar_error err;
    cellar_fail(&err, CELLAR_E_ENGINE, "the engine's stream is broken: %s",
                code == CELLAR_E_LIMIT ? "a chunk is too long"
                                       : "a chunk of no known kind");
    end(stream, 0, &err);
}

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    struct docker_stream *stream = user;
    struct cellar_attach_input in = {data, len};
    struct cellar_attach_slice slice;
    enum cellar_code code = CELLAR_OK;
    stream->depth++;
    while (!stream->closed && !stream->ended &&
           !(code = cellar_attach_next(&stream->attach, &in, &slice)))
        give_slice(stream, &slice);
    if (code && code != CELLAR_E_AGAIN)
        end_broken(stream, code);
    leave(stream);
}

static const struct cellar_http_stream_events http_events = {
    .opened = on_opened,
    .bytes = on_bytes,
    .closed = on_closed,
};

static struct docker_stream *stream_of(struct cellar_stream *base)
{
    return (struct docker_stream *)base;
}

static enum cellar_code stream_write(struct cellar_stream *base,
                                     const uint8_t *data, size_t len)
{
    struct docker_stream *stream = stream_of(base);
    if (stream->ended)
        return CELLAR_E_LOST;
    return cellar_http_stream_write(stream->http, data, len);
}

static int stream_fd(const struct cellar_stream *base)
{
    return cellar_http_stream_fd(((const struct docker_stream *)base)->http);
}

static void stream_close(struct cellar_stream *base)
{
    struct docker_stream *stream = stream_of(base);
    stream->closed = true;
    stream->depth++;
    leave(stream);
}

static const struct cellar_stream_ops stream_ops = {
    .write = stream_write,
    .fd = stream_fd,
    .close = stream_close,
};

static enum cellar_code upgrade(struct docker *docker,
                                struct docker_stream *stream,
                                const struct docker_stream_ask *ask,
                                struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct cellar_http_request request = {.path = path,
                                          .body = ask->body,
                                          .body_len =
                                              ask->body ? strlen(ask->body) : 0,
                                          .deadline_ms = DOCKER_CALL_MS};
    enum cellar_code code =
        cellar_docker_path(path, err, "/v1.%d%s", docker->api_minor, ask->path);
    return code ? code
                : cellar_http_upgrade(docker->http, &request, &http_events,
                                      stream, &stream->http, err);
}

enum cellar_code cellar_docker_stream_open(struct docker *docker,
                                           const struct docker_stream_ask *ask,
                                           struct cellar_stream **out,
                                           struct cellar_error *err)
{
    CELLAR_AUTO_FREE struct docker_stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        return cellar_fail(err, CELLAR_E_NOMEM, "stream: out of memory");
    stream->base.ops = &stream_ops;
    stream->events = *ask->events;
    stream->user = ask->user;
    stream->owner = ask->owner;
    cellar_attach_init(&stream->attach);
    enum cellar_code code = upgrade(docker, stream, ask, err);
    if (code)
        return code;
    *out = &CELLAR_TAKE(stream)->base;
    return CELLAR_OK;
}

enum cellar_code cellar_docker_stream_fail(struct cellar_error *err,
                                           enum cellar_code gone, int status,
                                           const struct cellar_error *why)
{
    static const char context[] = "attaching to the container";
    if (status && why) {
        struct docker_reply r = {status, why->msg, strlen(why->msg)};
        return cellar_docker_fail_reply(
            err, status == 404 ? gone : CELLAR_E_ENGINE, context, &r);
    }
    if (!why)
        return cellar_fail(err, CELLAR_E_LOST,
                           "the container ended as soon as it was attached "
                           "to");
    *err = *why;
    cellar_wrap(err, context);
    return err->code;
}

void cellar_docker_stream_release(struct cellar_stream *stream)
{
    stream_of(stream)->owner = (struct docker_stream_owner){0};
}
