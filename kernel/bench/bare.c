#include "bare.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/engine/docker/demux.h"
#include "kernel/fail.h"
#include "kernel/supervisor.h"

#define ROUND_MS 10000

#define READ_BYTES (64u << 10)

struct cellar_bare {
    struct cellar *c;
    struct cellar_stream *stream;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    bool done;   /* the engine call under way has called back */
    bool framed; /* the engine puts headers before chunks, as Docker does */
    struct cellar_attach attach;
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
    const char *supervisor = cellar_supervisor_id(bare->c, err);
    if (!supervisor)
        return err->code;
    struct cellar_launch launch = {.spec = spec,
                                   .owner = cellar_supervisor_owner(bare->c),
                                   .supervisor = supervisor,
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
    bare->framed =
        strcmp(cellar_engine_name_of(engine, bare->id), "docker") == 0;
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
    cellar_attach_init(&bare->attach);
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

/* What of `len` bytes is the echo's. */
static enum cellar_code count(struct cellar_bare *bare, const uint8_t *data,
                              size_t len, size_t *got)
{
    struct cellar_attach_input in = {data, len};
    struct cellar_attach_slice slice;
    enum cellar_code code = CELLAR_OK;
    if (!bare->framed) {
        *got += len;
        return CELLAR_OK;
    }
    while (!(code = cellar_attach_next(&bare->attach, &in, &slice)))
        *got += slice.len;
    return code == CELLAR_E_AGAIN ? CELLAR_OK : code;
}

/* Blocks in poll() as the plainest program would; the descriptor itself is
 * not blocking, since the event loop shares it. */
static enum cellar_code receive(struct cellar_bare *bare, size_t want,
                                struct cellar_error *err)
{
    static uint8_t in[READ_BYTES];
    int fd = cellar_stream_fd(bare->stream);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    size_t got = 0;
    while (got < want) {
        if (poll(&ready, 1, ROUND_MS) <= 0)
            return cellar_fail(err, CELLAR_E_TIMEOUT,
                               "the echo wrote %zu of %zu bytes", got, want);
        ssize_t n = read(fd, in, sizeof in);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return cellar_fail(err, CELLAR_E_LOST, "the echo's stream ended");
        if (count(bare, in, (size_t)n, &got) != CELLAR_OK)
            return cellar_fail(err, CELLAR_E_PROTO,
                               "the echo's stream makes no sense");
    }
    return CELLAR_OK;
}

static enum cellar_code ask(struct cellar_bare *bare, const uint8_t *out,
                            size_t len, struct cellar_error *err)
{
    enum cellar_code code = cellar_stream_write(bare->stream, out, len);
    if (code != CELLAR_OK)
        return cellar_fail(err, code, "writing to the echo container");
    return CELLAR_OK;
}

enum cellar_code cellar_bare_round(struct cellar_bare *bare,
                                   struct cellar_error *err)
{
    uint8_t out[CELLAR_BARE_BYTES];
    memset(out, 'x', sizeof out);
    enum cellar_code code = ask(bare, out, sizeof out, err);
    return code == CELLAR_OK ? receive(bare, sizeof out, err) : code;
}

enum cellar_code cellar_bare_output(struct cellar_bare *bare, uint64_t bytes,
                                    struct cellar_error *err)
{
    uint8_t out[1 + sizeof bytes] = {0};
    for (size_t i = 1; i < sizeof out; i++)
        out[i] = (uint8_t)(bytes >> (8 * (sizeof out - 1 - i)));
    enum cellar_code code = ask(bare, out, sizeof out, err);
    return code == CELLAR_OK ? receive(bare, bytes, err) : code;
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
