/* The stdio of a container, or of a relay in it, as one stream: three
 * descriptors. What the container does not read now waits here, up to a bound;
 * what it writes is read always. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "oci.h"
#include "proto/buf.h"

/* Reads of one turn of the loop: others want their turn, too. */
#define READS_MAX 8

/* A read that brings less has found a message, and no flood: that the FIFO is
 * empty now need not be asked. */
#define FLOOD_BYTES 4096

struct oci_stream {
    struct cellar_stream base; /* first */
    struct oci *oci;
    int fds[3];
    struct cellar_watch *watches[3];
    struct cellar_buf out;
    struct cellar_stream_events events;
    void *user;
    struct oci_stream_owner owner; /* all NULL once released */
    int depth;                     /* callbacks on the stack */
    bool deaf;                     /* nobody will ever read what is written */
    bool closed;                   /* by its user */
    bool ended;                    /* the last callback was made */
};

static struct oci_stream *stream_of(struct cellar_stream *base)
{
    return (struct oci_stream *)base;
}

/* ---------------------------------------------------------------- ends -- */

static void close_end(struct oci_stream *stream, int i)
{
    cellar_watch_close(CELLAR_TAKE(stream->watches[i]));
    if (stream->fds[i] >= 0)
        close(stream->fds[i]);
    stream->fds[i] = -1;
}

static void free_stream(struct oci_stream *stream)
{
    for (int i = 0; i < 3; i++)
        close_end(stream, i);
    cellar_buf_done(&stream->out);
    free(stream);
}

static void leave(struct oci_stream *stream)
{
    if (--stream->depth == 0 && stream->closed)
        free_stream(stream);
}

static void end(struct oci_stream *stream, const struct cellar_error *err)
{
    if (stream->ended || stream->closed)
        return;
    stream->ended = true;
    (void)cellar_watch_set(stream->watches[1], 0);
    if (stream->owner.ended)
        stream->owner.ended(stream->owner.owner);
    else
        stream->events.closed(stream->user, err);
}

/* ------------------------------------------------------------- reading -- */

static void end_text(struct oci_stream *stream)
{
    close_end(stream, 2);
}

static void give_text(struct oci_stream *stream, size_t len)
{
    const char *text = (const char *)stream->oci->room;
    if (stream->owner.text)
        stream->owner.text(stream->owner.owner, text, len);
    stream->events.text(stream->user, text, len);
}

static void on_text(void *user, int events)
{
    struct oci_stream *stream = user;
    (void)events;
    ssize_t n = read(stream->fds[2], stream->oci->room, OCI_READ_BYTES);
    stream->depth++;
    if (n > 0)
        give_text(stream, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        end_text(stream);
    leave(stream);
}

/* What the container said last comes before its end. */
static void drain_text(struct oci_stream *stream)
{
    for (int i = 0; i < READS_MAX && stream->fds[2] >= 0 && !stream->closed;
         i++) {
        ssize_t n = read(stream->fds[2], stream->oci->room, OCI_READ_BYTES);
        if (n <= 0)
            return;
        give_text(stream, (size_t)n);
    }
}

static void end_bytes(struct oci_stream *stream, int why)
{
    struct cellar_error err;
    drain_text(stream);
    if (why)
        cellar_fail_errno(&err, why, "reading the container's stdout");
    end(stream, why ? &err : NULL);
}

/* Whether more may be there. */
static bool take_bytes(struct oci_stream *stream)
{
    ssize_t n = read(stream->fds[1], stream->oci->room, OCI_READ_BYTES);
    if (n > 0)
        stream->events.bytes(stream->user, stream->oci->room, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        end_bytes(stream, n == 0 ? 0 : errno);
    return n >= FLOOD_BYTES && !stream->closed && !stream->ended;
}

static void on_bytes(void *user, int events)
{
    struct oci_stream *stream = user;
    (void)events;
    stream->depth++;
    for (int i = 0; i < READS_MAX && take_bytes(stream); i++)
        continue;
    leave(stream);
}

/* ------------------------------------------------------------- writing -- */

/* Bytes written; what fails for good is left to the reading side to tell. */
static size_t write_some(struct oci_stream *stream, const uint8_t *data,
                         size_t len)
{
    ssize_t n = write(stream->fds[0], data, len);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        stream->deaf = true;
    return n > 0 ? (size_t)n : 0;
}

static void flush(struct oci_stream *stream)
{
    size_t len = cellar_buf_len(&stream->out);
    if (len && !stream->deaf)
        cellar_buf_consume(
            &stream->out,
            write_some(stream, cellar_buf_peek(&stream->out), len));
    if (stream->deaf || !cellar_buf_len(&stream->out))
        cellar_buf_reset(&stream->out);
    (void)cellar_watch_set(stream->watches[0],
                           cellar_buf_len(&stream->out) ? CELLAR_WRITABLE : 0);
}

static void on_room(void *user, int events)
{
    (void)events;
    flush(user);
}

static enum cellar_code stream_write(struct cellar_stream *base,
                                     const uint8_t *data, size_t len)
{
    struct oci_stream *stream = stream_of(base);
    if (stream->ended || stream->closed)
        return CELLAR_E_LOST;
    if (!cellar_buf_len(&stream->out) && !stream->deaf) {
        size_t sent = write_some(stream, data, len);
        data += sent;
        len -= sent;
    }
    if (!len || stream->deaf)
        return CELLAR_OK;
    enum cellar_code code = cellar_buf_append(&stream->out, data, len);
    if (!code)
        (void)cellar_watch_set(stream->watches[0], CELLAR_WRITABLE);
    return code;
}

static int stream_fd(const struct cellar_stream *base)
{
    return ((const struct oci_stream *)base)->fds[1];
}

static void stream_close(struct cellar_stream *base)
{
    struct oci_stream *stream = stream_of(base);
    stream->closed = true;
    stream->depth++;
    leave(stream);
}

static const struct cellar_stream_ops stream_ops = {
    .write = stream_write,
    .fd = stream_fd,
    .close = stream_close,
};

/* ---------------------------------------------------------------- open -- */

static enum cellar_code watch(struct oci_stream *stream,
                              struct cellar_error *err)
{
    static void (*const ready[3])(void *, int) = {on_room, on_bytes, on_text};
    for (int i = 0; i < 3; i++) {
        if (stream->fds[i] < 0)
            continue;
        enum cellar_code code =
            cellar_watch_new(stream->oci->engine.loop, stream->fds[i], ready[i],
                             stream, &stream->watches[i], err);
        if (!code && i > 0)
            code = cellar_watch_set(stream->watches[i], CELLAR_READABLE);
        if (code)
            return code;
    }
    return CELLAR_OK;
}

enum cellar_code
cellar_oci_stream_new(struct oci *oci, const int fds[3],
                      const struct cellar_stream_events *events, void *user,
                      struct cellar_stream **out, struct cellar_error *err)
{
    struct oci_stream *stream = calloc(1, sizeof(*stream));
    if (!stream) {
        for (int i = 0; i < 3; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        return cellar_fail(err, CELLAR_E_NOMEM, "stream: out of memory");
    }
    stream->base.ops = &stream_ops;
    stream->oci = oci;
    memcpy(stream->fds, fds, sizeof(stream->fds));
    stream->events = *events;
    stream->user = user;
    cellar_buf_init(&stream->out, OCI_OUT_MAX);
    enum cellar_code code = watch(stream, err);
    if (code) {
        free_stream(stream);
        return code;
    }
    *out = &stream->base;
    return CELLAR_OK;
}

void cellar_oci_stream_own(struct cellar_stream *stream,
                           const struct oci_stream_owner *owner)
{
    struct oci_stream *is = stream_of(stream);
    is->owner = *owner;
    if (!owner->ended)
        (void)cellar_watch_set(is->watches[1], 0);
}

void cellar_oci_stream_release(struct cellar_stream *stream)
{
    struct oci_stream *is = stream_of(stream);
    bool unread = is->ended || !is->owner.ended;
    is->owner = (struct oci_stream_owner){0};
    if (!unread)
        return;
    is->ended = false; /* its end is read once more */
    (void)cellar_watch_set(is->watches[1], CELLAR_READABLE);
}
