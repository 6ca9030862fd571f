/*
 * A container engine that answers what it likes. The first byte of the input
 * names the call that is made of the engine, the second the size of pieces;
 * the rest are the replies, each {status, length (u16, little endian), body}.
 * Whatever comes: each call ends once, with an error that says something or
 * with values that were checked; a stream ends once; and a container that was
 * made for a start that failed is removed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fake_http.h"
#include "fuzz.h"
#include "kernel/engine/engine.h"

#define ID "8c1f04ab3e7d"

static const int statuses[] = {0,   101, 200, 201, 204, 304,
                               400, 403, 404, 409, 500, 503};

static struct {
    const uint8_t *data;
    size_t len;
} script;

/* What came of a call. */
static struct {
    unsigned ends;
    unsigned rows;
    bool stream_over;
    struct cellar_stream *stream;
    bool close_early; /* from within the stream's first event */
    bool failed;
} seen;

static void must(int fine)
{
    if (!fine)
        abort();
}

static struct fake_reply next_reply(const char *method, const char *path)
{
    struct fake_reply reply = {0, NULL, 0};
    (void)method;
    (void)path;
    if (script.len < 3)
        return reply;
    size_t len = script.data[1] | (size_t)script.data[2] << 8;
    reply.status =
        statuses[script.data[0] % (sizeof(statuses) / sizeof(*statuses))];
    reply.body = script.data + 3;
    reply.len = len < script.len - 3 ? len : script.len - 3;
    script.data += 3 + reply.len;
    script.len -= 3 + reply.len;
    return reply;
}

/* ----------------------------------------------------------- callbacks -- */

static void check_error(const struct cellar_error *err)
{
    if (!err)
        return;
    must(err->code != CELLAR_OK && err->code <= CELLAR_E_LOST);
    must(err->msg[0] && memchr(err->msg, '\0', sizeof(err->msg)) != NULL);
}

static void on_done(void *user, const struct cellar_error *err)
{
    (void)user;
    check_error(err);
    seen.ends++;
    seen.failed = err != NULL;
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    must(!id == !stream && !id == !!err);
    must(!id || (*id && strlen(id) <= CELLAR_CONTAINER_ID_MAX &&
                 !strpbrk(id, "/?#% ")));
    seen.stream = stream;
    on_done(user, err);
}

static void close_stream(void)
{
    cellar_stream_close(seen.stream);
    seen.stream = NULL;
}

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    (void)user;
    must(data && len > 0 && !seen.stream_over);
    if (seen.close_early)
        close_stream();
}

static void on_text(void *user, const char *text, size_t len)
{
    on_bytes(user, (const uint8_t *)text, len);
}

static void on_closed(void *user, const struct cellar_error *err)
{
    (void)user;
    check_error(err);
    must(!seen.stream_over);
    seen.stream_over = true;
    if (seen.close_early)
        close_stream();
}

static const struct cellar_stream_events events = {on_bytes, on_text,
                                                   on_closed};

static void on_row(void *user, const struct cellar_container *row)
{
    (void)user;
    must(row->id && *row->id && !strpbrk(row->id, "/?#% "));
    must(row->session && row->owner && row->image && row->state);
    seen.rows++;
}

static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    (void)vital;
    must(reason && *reason);
    on_done(user, NULL);
}

static const struct cellar_spec mine = {.image = "mine:1"};

static void on_check(void *user, const struct cellar_check_row *row)
{
    (void)user;
    must(row->name && *row->name && row->text && *row->text);
    must(row->result <= CELLAR_CHECK_FAIL);
    must(row->result == CELLAR_CHECK_OK || !row->cure || *row->cure);
    seen.rows++;
}

static void on_progress(void *user, const char *line, double fraction)
{
    (void)user;
    must(line && !strpbrk(line, "\r\n") && fraction <= 1);
}

/* --------------------------------------------------------------- calls -- */

static enum cellar_code start(struct cellar_engine *engine,
                              struct cellar_error *err)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.image = "mine:1";
    struct cellar_launch launch = {.spec = &spec,
                                   .owner = "0123456789abcdef",
                                   .uid = 61001,
                                   .greeting = (const uint8_t *)"hello",
                                   .greeting_len = 5,
                                   .pull = true};
    return engine->ops->start(engine, &launch, &events, on_started, NULL, err);
}

/* Of the numbers that stand for a call a second time. */
#define CALL_LANE 31

static enum cellar_code begin(struct cellar_engine *engine, uint8_t call,
                              struct cellar_error *err)
{
    const struct cellar_engine_ops *ops = engine->ops;
    static const char *const args[] = {"A=1", NULL};
    switch (call) {
    case 0:
        return start(engine, err);
    case 1:
        return ops->attach(engine, ID, 0, &events, on_started, NULL, err);
    case 2:
        return ops->remove(engine, ID, on_done, NULL, err);
    case 3:
        return ops->list(engine, on_row, on_done, NULL, err);
    case 4:
        return ops->diagnose(engine, ID, on_reason, NULL, err);
    case 5:
        return ops->check(engine, &mine, on_check, on_done, NULL, err);
    case 6:
        return ops->image_find(engine, "mine:1", on_done, NULL, err);
    case 7:
        return ops->image_pull(engine, "mine:1", on_progress, on_done, NULL,
                               err);
    case 8:
        return ops->image_build(engine, "mine:1", 0, args, on_progress, on_done,
                                NULL, err);
    case CALL_LANE:
        return ops->attach(engine, ID, 7, &events, on_started, NULL, err);
    default:
        return ops->image_import(engine, "mine:1", 0, on_done, NULL, err);
    }
}

/* Reading the container's files anew each time would be most of the work, so
 * one engine serves all inputs but those that ask for its first request. */
static struct cellar_engine *open_engine(void)
{
    struct cellar_engine *engine = NULL;
    must(cellar_docker_new(NULL, "unix:///nowhere",
                           CELLAR_SOURCE_DIR "/kernel/engine", NULL, NULL,
                           &engine, NULL) == CELLAR_OK);
    return engine;
}

static struct fake_reply version_reply(const char *method, const char *path)
{
    static const char text[] = "{\"ApiVersion\":\"1.41\"}";
    (void)method;
    return strcmp(path, "/version") == 0
               ? (struct fake_reply){200, (const uint8_t *)text,
                                     sizeof(text) - 1}
               : (struct fake_reply){404, NULL, 0};
}

static struct cellar_engine *shared_engine(void)
{
    static struct cellar_engine *engine;
    if (engine)
        return engine;
    engine = open_engine();
    fake_http = (struct fake_http){.next = version_reply, .piece = 4096};
    must(begin(engine, 6, NULL) == CELLAR_OK);
    fake_http_run();
    return engine;
}

static void check_call(struct cellar_engine *engine, uint8_t call)
{
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = begin(engine, call, &err);
    must(code == CELLAR_OK || err.code == code);
    fake_http_run();
    must(seen.ends == (code == CELLAR_OK ? 1 : 0));
    must(call != 0 || !seen.failed || fake_http.starts == 0 ||
         fake_http.removals == 1);
    must(call != 0 || seen.failed || fake_http.removals == 0);
    must(!seen.failed || !seen.stream);
    close_stream();
    must(fake_http.streams == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    bool first = data[0] & 0x80;
    struct cellar_engine *engine = first ? open_engine() : shared_engine();
    memset(&seen, 0, sizeof(seen));
    seen.close_early = data[0] & 0x40;
    fake_http = (struct fake_http){
        .next = next_reply, .keep_open = data[0] & 0x20, .piece = 1u + data[1]};
    script.data = data + 2;
    script.len = len - 2;
    uint8_t call = data[0] % 0x20;
    check_call(engine, call == CALL_LANE ? call : call % 10);
    if (first)
        engine->ops->free(engine);
    return 0;
}
