#include "bare.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/fail.h"
#include "kernel/supervisor.h"

/* Docker puts 8 bytes before each chunk of output; an echo of 200 bytes is
 * one chunk, or rarely two. */
#define CHUNK_HEADER 8

#define ROUND_MS 10000

struct cellar_bare {
    struct cellar *c;
    struct cellar_stream *stream;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    bool done; /* the engine call under way has called back */
    struct cellar_error err;
};

static void ignore_bytes(void *user, const uint8_t *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}

static void ignore_text(void *user, const char *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}

static void on_closed(void *user, const struct cellar_error *err)
{
    struct cellar_bare *bare = user;
    cellar_fail(&bare->err, CELLAR_E_LOST, "the echo container ended: %s",
                err ? err->msg : "end of file");
}

static const struct cellar_stream_events events = {ignore_bytes, ignore_text,
                                                   on_closed};

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    struct cellar_bare *bare = user;
    bare->done = true;
    bare->stream = stream;
    if (err)
        bare->err = *err;
    else
        (void)snprintf(bare->id, sizeof bare->id, "%s", id);
}

static void on_removed(void *user, const struct cellar_error *err)
{
    struct cellar_bare *bare = user;
    (void)err;
    bare->done = true;
}

static void until_done(struct cellar_bare *bare)
{
    while (!bare->done)
        (void)cellar_loop_run(cellar_supervisor_loop(bare->c), -1);
}

static enum cellar_code start(struct cellar_bare *bare,
                              const struct cellar_spec *spec,
                              struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(bare->c);
    struct cellar_launch launch = {.spec = spec,
                                   .owner = cellar_supervisor_owner(bare->c),
                                   .uid = cellar_supervisor_pick_uid(NULL, 0),
                                   .entrypoint = "/cellar/echo"};
    enum cellar_code code =
        engine->ops->start(engine, &launch, &events, on_started, bare, err);
    if (code != CELLAR_OK)
        return code;
    until_done(bare);
    if (bare->err.code != CELLAR_OK) {
        *err = bare->err;
        return cellar_wrap(err, "the bare echo container");
    }
    if (cellar_stream_fd(bare->stream) < 0)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "the bench needs an engine without TLS");
    return CELLAR_OK;
}

enum cellar_code cellar_bare_new(struct cellar *c,
                                 const struct cellar_spec *spec,
                                 struct cellar_bare **out,
                                 struct cellar_error *err)
{
    struct cellar_bare *bare = calloc(1, sizeof *bare);
    if (!bare)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    bare->c = c;
    enum cellar_code code = start(bare, spec, err);
    if (code == CELLAR_OK)
        code = cellar_bare_round(bare, err);
    if (code != CELLAR_OK) {
        cellar_bare_free(bare);
        return code;
    }
    *out = bare;
    return CELLAR_OK;
}

/* Blocks in poll() as the plainest program would; the descriptor itself is
 * not blocking, since the event loop shares it. */
static enum cellar_code receive(int fd, size_t want, struct cellar_error *err)
{
    char in[2 * (CELLAR_BARE_BYTES + CHUNK_HEADER)];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    size_t got = 0;
    while (got < want) {
        if (poll(&ready, 1, ROUND_MS) <= 0)
            return cellar_fail(err, CELLAR_E_TIMEOUT, "no echo came");
        ssize_t n = recv(fd, in, sizeof in, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return cellar_fail(err, CELLAR_E_LOST, "the echo's stream ended");
        got += (size_t)n;
    }
    return CELLAR_OK;
}

enum cellar_code cellar_bare_round(struct cellar_bare *bare,
                                   struct cellar_error *err)
{
    char out[CELLAR_BARE_BYTES];
    int fd = cellar_stream_fd(bare->stream);
    memset(out, 'x', sizeof out);
    if (send(fd, out, sizeof out, MSG_NOSIGNAL) != (ssize_t)sizeof out)
        return cellar_fail_errno(err, errno, "writing to the echo container");
    return receive(fd, sizeof out + CHUNK_HEADER, err);
}

void cellar_bare_free(struct cellar_bare *bare)
{
    if (!bare)
        return;
    struct cellar_engine *engine = cellar_supervisor_engine(bare->c);
    cellar_stream_close(bare->stream);
    bare->done = false;
    if (bare->id[0] && engine->ops->remove(engine, bare->id, on_removed, bare,
                                           NULL) == CELLAR_OK)
        until_done(bare);
    free(bare);
}
