/* From a spec to a container that runs, and its stream:
 *
 *     image -> [pull -> image] -> its turn
 *           -> create -> attach -> greeting -> run
 *
 * Whatever fails, one undo closes the stream and removes what was created. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../spec.h"
#include "docker.h"

struct start {
    struct docker_op op; /* first */
    struct docker_pass pass;
    struct cellar_spec spec;
    struct cellar_container_plan plan;
    uint8_t *greeting;
    size_t greeting_len;
    bool pull; /* not tried yet */
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    bool created; /* the container `id` is ours to undo */
    bool undoing;
    struct cellar_error reason; /* of the undo */
    struct cellar_stream *stream;
    struct cellar_stream_events events;
    bool (*turn)(void *user);
    cellar_engine_started_fn *done;
    void *user;
};

static struct start *start_of(struct docker_op *op)
{
    return (struct start *)op;
}

static void destroy_start(struct docker_op *op)
{
    struct start *start = start_of(op);
    cellar_docker_lane_leave(&start->pass);
    cellar_stream_close(start->stream);
    cellar_container_plan_done(&start->plan);
    cellar_spec_done(&start->spec);
    cellar_greeting_wipe(start->greeting, start->greeting_len);
    free(start);
}

/* ------------------------------------------------------- ends and undo -- */

static void succeed(struct start *start)
{
    char id[sizeof(start->id)];
    memcpy(id, start->id, sizeof(id));
    struct cellar_stream *stream = CELLAR_TAKE(start->stream);
    cellar_engine_started_fn *done = start->done;
    void *user = start->user;
    cellar_docker_stream_release(stream);
    cellar_docker_op_free(&start->op);
    done(user, id, stream, NULL);
}

static void give_up(struct start *start)
{
    struct cellar_error reason = start->reason;
    cellar_engine_started_fn *done = start->done;
    void *user = start->user;
    cellar_docker_op_free(&start->op);
    done(user, NULL, NULL, &reason);
}

static void on_undone(struct docker_op *op, const struct docker_reply *r)
{
    (void)r;
    give_up(start_of(op));
}

static void undo(struct docker_op *op, const struct cellar_error *err)
{
    struct start *start = start_of(op);
    if (start->undoing) {
        cellar_docker_log(op->docker, "container %.12s may be left: %s",
                          start->id, err->msg);
        give_up(start);
        return;
    }
    start->undoing = true;
    start->reason = *err;
    /* Before the removal: see docker/stream.c. */
    cellar_stream_close(CELLAR_TAKE(start->stream));
    cellar_http_cancel(CELLAR_TAKE(op->call));
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "DELETE", .path = path, .deadline_ms = DOCKER_REMOVE_MS};
    if (!start->created ||
        cellar_docker_path(path, NULL, "/containers/%s?force=1&v=1", start->id))
        give_up(start);
    else
        cellar_docker_op_next(op, &ask, on_undone);
}

/* What an engine says when a start fails for a reason a user can cure. */
static const struct cure {
    const char *words;
    enum cellar_code code;
    const char *text;
} cures[] = {
    {"\"/cellar/agent\"", CELLAR_E_IMAGE,
     "the image has no /cellar: add `COPY --from=cellar-runtime:slim /cellar "
     "/cellar` to its Dockerfile"},
    {"invalid runtime name", CELLAR_E_USAGE,
     "the engine has no OCI runtime of this name: `docker info` lists what it "
     "has"},
    {"nknown runtime specified", CELLAR_E_USAGE,
     "the engine has no OCI runtime of this name: `docker info` lists what it "
     "has"},
    {"bind source path does not exist", CELLAR_E_USAGE,
     "a mount's folder does not exist on the engine's machine"},
    {"seccomp is not enabled", CELLAR_E_ENGINE,
     "the engine's machine cannot enforce \"seccomp\": its kernel or its OCI "
     "runtime was built without it"},
};

static void fail_start(struct start *start, const char *context,
                       const struct docker_reply *r)
{
    struct cellar_error err;
    cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, context, r);
    for (size_t i = 0; i < sizeof(cures) / sizeof(*cures); i++) {
        if (!strstr(r->body, cures[i].words) &&
            !strstr(err.msg, cures[i].words))
            continue;
        char said[200];
        cellar_docker_reply_words(r->body, said, sizeof(said));
        cellar_fail(&err, cures[i].code, "%s (the engine says: %s)",
                    cures[i].text, said);
        break;
    }
    undo(&start->op, &err);
}

/* -------------------------------------------------------------- stream -- */

static void on_running(struct docker_op *op, const struct docker_reply *r)
{
    struct start *start = start_of(op);
    struct cellar_error err;
    if (r->status != 204) {
        fail_start(start, "starting the container", r);
    } else if (start->stream) {
        succeed(start);
    } else {
        cellar_fail(&err, CELLAR_E_LOST,
                    "the container ended as soon as it was started");
        undo(op, &err);
    }
}

/* The greeting goes first: it waits in the container's stdin, so that the
 * agent finds it there when it is born. */
static void on_attached(void *owner)
{
    struct start *start = owner;
    struct cellar_error err;
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "POST", .path = path, .deadline_ms = DOCKER_START_MS};
    enum cellar_code code = CELLAR_OK;
    if (start->greeting_len)
        code = cellar_stream_write(start->stream, start->greeting,
                                   start->greeting_len);
    if (code)
        cellar_fail(&err, code, "greeting the agent: %s",
                    cellar_code_text(code));
    else
        code =
            cellar_docker_path(path, &err, "/containers/%s/start", start->id);
    if (code)
        undo(&start->op, &err);
    else
        cellar_docker_op_next(&start->op, &ask, on_running);
}

/* Closed by the engine; with a reset, if it had not read all of the greeting
 * by then. */
static bool is_plain_end(const struct cellar_error *err)
{
    return !err || err->sys_errno == ECONNRESET || err->sys_errno == EPIPE;
}

static void on_stream_ended(void *owner, int status,
                            const struct cellar_error *err)
{
    struct start *start = owner;
    struct cellar_error own;
    if (is_plain_end(err) && start->op.call) {
        /* It ran and is over already; or the call that says why it could not
         * start is about to be answered: that has the better words. */
        cellar_stream_close(CELLAR_TAKE(start->stream));
        return;
    }
    cellar_docker_stream_fail(&own, CELLAR_E_LOST, status, err);
    undo(&start->op, &own);
}

static enum cellar_code attach_stream(struct start *start,
                                      struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct docker_stream_ask ask = {
        .path = path,
        .events = &start->events,
        .user = start->user,
        .owner = {on_attached, on_stream_ended, start}};
    enum cellar_code code =
        cellar_docker_path(path, err, DOCKER_STDIO_PATH, start->id);
    return code ? code
                : cellar_docker_stream_open(start->op.docker, &ask,
                                            &start->stream, err);
}

/* -------------------------------------------------------------- create -- */

static enum cellar_code check_warnings(struct start *start,
                                       const json_t *warnings,
                                       struct cellar_error *err)
{
    size_t i = 0;
    json_t *warning = NULL;
    json_array_foreach(warnings, i, warning)
    {
        const char *text = json_string_value(warning);
        const char *name =
            text ? cellar_container_spec_warned(start->op.docker->spec, text)
                 : NULL;
        if (name && !cellar_container_allowed(&start->spec, name))
            return cellar_fail(err, CELLAR_E_ENGINE,
                               "the engine cannot enforce \"%s\": %s (see "
                               "`cellar doctor`; `--allow %s` does without it)",
                               name, text, name);
        cellar_docker_log(start->op.docker, "the engine warns: %s",
                          text ? text : "");
    }
    return CELLAR_OK;
}

static enum cellar_code take_created(struct start *start,
                                     const struct docker_reply *r,
                                     struct cellar_error *err)
{
    json_t *reply = cellar_json_parse(r->body, r->len, 0, NULL);
    const char *id = cellar_docker_string(reply, "Id");
    enum cellar_code code = cellar_docker_check_id(id, NULL);
    if (code) {
        json_decref(reply);
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "creating the container: the engine names no id");
    }
    snprintf(start->id, sizeof(start->id), "%s", id);
    start->created = true;
    code = check_warnings(start, json_object_get(reply, "Warnings"), err);
    json_decref(reply);
    return code;
}

static void on_created(struct docker_op *op, const struct docker_reply *r)
{
    struct start *start = start_of(op);
    struct cellar_error err;
    if (r->status == 409) {
        cellar_docker_fail_reply(&err, CELLAR_E_EXISTS, "the name is taken", r);
        undo(op, &err);
        return;
    }
    if (r->status != 201) {
        fail_start(start, "creating the container", r);
        return;
    }
    enum cellar_code code = take_created(start, r, &err);
    if (!code)
        code = attach_stream(start, &err);
    if (code)
        undo(op, &err);
}

static void create(struct docker_op *op)
{
    struct start *start = start_of(op);
    struct cellar_error err;
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "POST",
                             .path = path,
                             .body = start->plan.body,
                             .deadline_ms = DOCKER_CREATE_MS};
    enum cellar_code code = cellar_docker_path(
        path, &err, "/containers/create?name=%s", start->plan.name);
    if (!code && start->turn && !start->turn(start->user))
        code = cellar_fail(&err, CELLAR_E_LOST,
                           "the start was given up before its turn came");
    if (code)
        undo(op, &err);
    else
        cellar_docker_op_next(op, &ask, on_created);
}

/* --------------------------------------------------------------- image -- */

/* A volume of the image's would be a folder on the host's disk that the
 * session may fill without limit. */
static enum cellar_code check_image(const struct start *start,
                                    const json_t *image,
                                    struct cellar_error *err)
{
    json_t *volumes = cellar_json_at(image, "Config.Volumes");
    void *first = json_object_iter(volumes);
    if (!first || cellar_container_allowed(&start->spec, "volumes"))
        return CELLAR_OK;
    return cellar_fail(err, CELLAR_E_IMAGE,
                       "the image %s declares the volume %s, which would be "
                       "disk without a limit: build it without VOLUME, or "
                       "use `--allow volumes`",
                       start->spec.image, json_object_iter_key(first));
}

static enum cellar_code ask_image(struct docker_op *op,
                                  struct cellar_error *err);

static void on_pulled(void *user, const struct cellar_error *err)
{
    struct start *start = user;
    struct cellar_error own;
    if (err)
        own = *err;
    if (err || ask_image(&start->op, &own))
        undo(&start->op, &own);
}

static void on_pull_line(void *user, const char *line, double fraction)
{
    struct start *start = user;
    (void)fraction;
    cellar_docker_log(start->op.docker, "%s: %s", start->spec.image, line);
}

static void on_no_image(struct start *start)
{
    struct cellar_error err;
    bool pull =
        start->pull && strncmp(start->spec.image, "cellar-runtime:", 15) != 0;
    start->pull = false;
    enum cellar_code code =
        pull ? cellar_docker_image_pull(&start->op.docker->engine,
                                        start->spec.image, on_pull_line,
                                        on_pulled, start, &err)
             : cellar_docker_fail_image(&err, start->spec.image);
    if (code)
        undo(&start->op, &err);
}

static void on_image(struct docker_op *op, const struct docker_reply *r)
{
    struct start *start = start_of(op);
    struct cellar_error err;
    if (r->status == 404) {
        on_no_image(start);
        return;
    }
    if (r->status != 200) {
        fail_start(start, "looking for the image", r);
        return;
    }
    json_t *image = cellar_json_parse(r->body, r->len, 0, NULL);
    enum cellar_code code = check_image(start, image, &err);
    json_decref(image);
    if (code)
        undo(op, &err);
    else if (cellar_docker_lane_enter(&op->docker->starts, &start->pass, op,
                                      create))
        create(op);
}

static enum cellar_code ask_image(struct docker_op *op,
                                  struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "GET", .path = path};
    enum cellar_code code = cellar_docker_path(path, err, "/images/%s/json",
                                               start_of(op)->spec.image);
    return code ? code : cellar_docker_op_send(op, &ask, on_image, err);
}

/* --------------------------------------------------------------- calls -- */

static enum cellar_code copy_launch(struct start *start, struct docker *docker,
                                    const struct cellar_launch *launch,
                                    struct cellar_error *err)
{
    struct cellar_container_spec *spec = NULL;
    enum cellar_code code = cellar_docker_files(docker, &spec, err);
    if (!code)
        code = cellar_container_plan_init(&start->plan, spec, launch, err);
    if (!code)
        code = cellar_spec_copy(launch->spec, &start->spec, err);
    if (code)
        return code;
    start->pull = launch->pull;
    start->turn = launch->turn;
    start->greeting_len = launch->greeting_len;
    start->greeting = cellar_greeting_copy(launch);
    return start->greeting
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "start: out of memory");
}

static struct start *new_start(const struct cellar_stream_events *events,
                               cellar_engine_started_fn *done, void *user)
{
    struct start *start = calloc(1, sizeof(*start));
    if (!start)
        return NULL;
    start->op.failed = undo;
    start->op.destroy = destroy_start;
    start->events = *events;
    start->done = done;
    start->user = user;
    return start;
}

enum cellar_code cellar_docker_start(struct cellar_engine *engine,
                                     const struct cellar_launch *launch,
                                     const struct cellar_stream_events *events,
                                     cellar_engine_started_fn *done, void *user,
                                     struct cellar_error *err)
{
    struct docker *docker = (struct docker *)engine;
    if (launch->spec->rootfs)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "Docker makes sessions of images: use --engine oci "
                           "with --rootfs %.200s, or --image without it",
                           launch->spec->rootfs);
    struct start *start = new_start(events, done, user);
    if (!start)
        return cellar_fail(err, CELLAR_E_NOMEM, "start: out of memory");
    enum cellar_code code = copy_launch(start, docker, launch, err);
    if (code) {
        destroy_start(&start->op);
        return code;
    }
    return cellar_docker_op_begin(docker, &start->op, ask_image, err);
}
