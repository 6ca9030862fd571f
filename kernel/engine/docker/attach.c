/* From the id of a container that runs to a stream:
 *
 *     lane 0:  inspect -> attach
 *     others:  inspect -> exec of a relay -> its start, which is the stream
 *
 * What fails leaves nothing: a relay that was made but not started is a line in
 * the engine's books, which go with the container. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "docker.h"

/* Of a uid or gid, at most. */
#define ID_DIGITS 10

struct attach {
    struct docker_op op; /* first */
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    uint32_t lane;
    struct cellar_stream *stream;
    struct cellar_stream_events events;
    cellar_engine_started_fn *done;
    void *user;
};

static struct attach *attach_of(struct docker_op *op)
{
    return (struct attach *)op;
}

static void destroy_attach(struct docker_op *op)
{
    cellar_stream_close(attach_of(op)->stream);
    free(op);
}

/* ---------------------------------------------------------------- ends -- */

static void succeed(void *owner)
{
    struct attach *attach = owner;
    char id[sizeof(attach->id)];
    memcpy(id, attach->id, sizeof(id));
    struct cellar_stream *stream = CELLAR_TAKE(attach->stream);
    cellar_engine_started_fn *done = attach->done;
    void *user = attach->user;
    cellar_docker_stream_release(stream);
    cellar_docker_op_free(&attach->op);
    done(user, id, stream, NULL);
}

static void give_up(struct docker_op *op, const struct cellar_error *err)
{
    struct cellar_error reason = *err;
    cellar_engine_started_fn *done = attach_of(op)->done;
    void *user = attach_of(op)->user;
    cellar_docker_op_free(op);
    done(user, NULL, NULL, &reason);
}

/* An image that was made before there were relays has none. */
static void cure_relay(struct cellar_error *err)
{
    struct cellar_error said = *err;
    if (strstr(said.msg, "/cellar/relay"))
        cellar_fail(err, CELLAR_E_IMAGE,
                    "the image has no /cellar/relay, or none that runs: make "
                    "it anew with this Cellar (`cellar image build`), and the "
                    "session with it (%.300s)",
                    said.msg);
}

/* -------------------------------------------------------------- stream -- */

/* A 404 of a relay's is one that the engine has forgotten, not a container
 * that is gone: whoever asks again will hear of that. */
static void on_stream_ended(void *owner, int status,
                            const struct cellar_error *why)
{
    struct attach *attach = owner;
    struct cellar_error err;
    cellar_docker_stream_fail(
        &err, attach->lane ? CELLAR_E_ENGINE : CELLAR_E_LOST, status, why);
    if (attach->lane)
        cure_relay(&err);
    give_up(&attach->op, &err);
}

static enum cellar_code open_stream(struct attach *attach, const char *path,
                                    const char *body, struct cellar_error *err)
{
    struct docker_stream_ask ask = {
        .path = path,
        .body = body,
        .events = &attach->events,
        .user = attach->user,
        .owner = {succeed, on_stream_ended, attach}};
    return cellar_docker_stream_open(attach->op.docker, &ask, &attach->stream,
                                     err);
}

static enum cellar_code open_stdio(struct attach *attach,
                                   struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    enum cellar_code code =
        cellar_docker_path(path, err, DOCKER_STDIO_PATH, attach->id);
    return code ? code : open_stream(attach, path, NULL, err);
}

/* --------------------------------------------------------------- relay -- */

static enum cellar_code start_relay(struct attach *attach,
                                    const struct docker_reply *r,
                                    struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    json_t *reply = cellar_json_parse(r->body, r->len, 0, NULL);
    const char *id = cellar_docker_string(reply, "Id");
    enum cellar_code code = cellar_docker_check_id(id, NULL);
    if (code)
        code = cellar_fail(err, CELLAR_E_ENGINE,
                           "making a relay: the engine names no id");
    else
        code = cellar_docker_path(path, err, "/exec/%s/start", id);
    json_decref(reply);
    if (code)
        return code;
    return open_stream(attach, path, "{\"Detach\":false,\"Tty\":false}", err);
}

static void on_relay(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    enum cellar_code code = CELLAR_OK;
    if (r->status == 201) {
        code = start_relay(attach_of(op), r, &err);
    } else {
        code = cellar_docker_fail_reply(
            &err, r->status == 404 ? CELLAR_E_LOST : CELLAR_E_ENGINE,
            "making a relay in the container", r);
        cure_relay(&err);
    }
    if (code)
        give_up(op, &err);
}

/* Digits of a number above zero at the start of `text`; 0: it is none. */
static size_t id_digits(const char *text)
{
    size_t len = strspn(text, "0123456789");
    return *text != '0' && len <= ID_DIGITS ? len : 0;
}

/* "61001:61001", as every container of ours has it; it stands in the relay's
 * description as it is. */
static bool is_user(const char *user)
{
    size_t uid = id_digits(user);
    size_t gid = uid && user[uid] == ':' ? id_digits(user + uid + 1) : 0;
    return gid && user[uid + 1 + gid] == '\0';
}

static enum cellar_code make_relay(struct attach *attach, const json_t *inspect,
                                   struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    char body[256];
    const char *user = cellar_docker_string(inspect, "Config.User");
    struct docker_ask ask = {.method = "POST", .path = path, .body = body};
    if (!is_user(user))
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "the container's user is '%.64s', not a uid and gid "
                           "of a session's own: it is none of Cellar's",
                           user);
    snprintf(body, sizeof(body),
             "{\"AttachStdin\":true,\"AttachStdout\":true,"
             "\"AttachStderr\":true,\"Tty\":false,\"Privileged\":false,"
             "\"User\":\"%s\",\"Cmd\":[\"/cellar/relay\",\"%" PRIu32 "\"]}",
             user, attach->lane);
    enum cellar_code code =
        cellar_docker_path(path, err, "/containers/%s/exec", attach->id);
    return code ? code
                : cellar_docker_op_send(&attach->op, &ask, on_relay, err);
}

/* ---------------------------------------------------------------- call -- */

/* Podman would start an exited container anew when it is attached to, so this
 * asks first. */
static enum cellar_code take_inspected(struct attach *attach,
                                       const json_t *inspect,
                                       struct cellar_error *err)
{
    if (!json_is_true(cellar_json_at(inspect, "State.Running")))
        return cellar_fail(err, CELLAR_E_LOST,
                           "the container does not run any more: it is %s",
                           cellar_docker_string(inspect, "State.Status"));
    return attach->lane ? make_relay(attach, inspect, err)
                        : open_stdio(attach, err);
}

static void on_inspected(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    enum cellar_code code = CELLAR_OK;
    if (r->status == 200) {
        json_t *reply = cellar_json_parse(r->body, r->len, 0, NULL);
        code = take_inspected(attach_of(op), reply, &err);
        json_decref(reply);
    } else {
        code = cellar_docker_fail_reply(
            &err, r->status == 404 ? CELLAR_E_LOST : CELLAR_E_ENGINE,
            "attaching to the container", r);
    }
    if (code)
        give_up(op, &err);
}

static enum cellar_code ask_running(struct docker_op *op,
                                    struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "GET", .path = path};
    enum cellar_code code =
        cellar_docker_path(path, err, "/containers/%s/json", attach_of(op)->id);
    return code ? code : cellar_docker_op_send(op, &ask, on_inspected, err);
}

enum cellar_code cellar_docker_attach(struct cellar_engine *engine,
                                      const char *id, uint64_t lane,
                                      const struct cellar_stream_events *events,
                                      cellar_engine_started_fn *done,
                                      void *user, struct cellar_error *err)
{
    enum cellar_code code = cellar_docker_check_id(id, err);
    if (code)
        return code;
    if (lane > UINT32_MAX)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "there is no lane %" PRIu64 ": the last is %" PRIu32,
                           lane, UINT32_MAX);
    struct attach *attach = calloc(1, sizeof(*attach));
    if (!attach)
        return cellar_fail(err, CELLAR_E_NOMEM, "attach: out of memory");
    attach->op.failed = give_up;
    attach->op.destroy = destroy_attach;
    snprintf(attach->id, sizeof(attach->id), "%s", id);
    attach->lane = (uint32_t)lane;
    attach->events = *events;
    attach->done = done;
    attach->user = user;
    return cellar_docker_op_begin((struct docker *)engine, &attach->op,
                                  ask_running, err);
}
