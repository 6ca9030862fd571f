/* What a container uses: by its control groups where they are this machine's,
 * else as the engine measures it, which takes it up to a second. */
#include <stdio.h>
#include <string.h>

#include "../cgroup.h"
#include "docker.h"

struct measure {
    struct docker_op op; /* first */
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    cellar_engine_usage_fn *done;
    void *user;
};

static void end_measure(struct docker_op *op, const struct cellar_usage *usage,
                        const struct cellar_error *err)
{
    struct measure measure = *(struct measure *)op;
    cellar_docker_op_free(op);
    measure.done(measure.user, usage, err);
}

static void fail_measure(struct docker_op *op, const struct cellar_error *err)
{
    end_measure(op, NULL, err);
}

/* A number of the engine's; 0 where there is none. Read as reals: what has no
 * limit has one of 2^64 - 1, too large for an integer of JSON's. */
static uint64_t number(const json_t *reply, const char *path)
{
    double value = json_number_value(cellar_json_at(reply, path));
    if (value >= (double)UINT64_MAX)
        return UINT64_MAX;
    return value > 0 ? (uint64_t)value : 0;
}

/* Pages of files that the kernel would drop before it killed anything do not
 * count: named so in cgroup v1, and in v2. */
static uint64_t memory_of(const json_t *reply)
{
    uint64_t used = number(reply, "memory_stats.usage");
    uint64_t cache = number(reply, "memory_stats.stats.total_inactive_file");
    if (!cache)
        cache = number(reply, "memory_stats.stats.inactive_file");
    return used > cache ? used - cache : 0;
}

static enum cellar_code read_usage(const struct docker_reply *r,
                                   struct cellar_usage *usage,
                                   struct cellar_error *err)
{
    json_t *reply =
        cellar_json_parse(r->body, r->len, JSON_DECODE_INT_AS_REAL, NULL);
    bool fits = json_is_object(reply);
    *usage = (struct cellar_usage){
        .cpu_us = number(reply, "cpu_stats.cpu_usage.total_usage") / 1000,
        .memory_bytes = memory_of(reply),
        .memory_limit_bytes = number(reply, "memory_stats.limit"),
        .pids = number(reply, "pids_stats.current"),
        .pids_limit = number(reply, "pids_stats.limit")};
    json_decref(reply);
    if (!fits)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "asking what the container uses: the engine's "
                           "answer makes no sense");
    /* One that has ended is described with nothing in it. */
    if (usage->pids == 0 && usage->memory_bytes == 0)
        return cellar_fail(err, CELLAR_E_LOST, "the container does not run");
    return CELLAR_OK;
}

static void on_measured(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    struct cellar_usage usage;
    enum cellar_code code =
        r->status == 200
            ? read_usage(r, &usage, &err)
            : cellar_docker_fail_reply(
                  &err, r->status == 404 ? CELLAR_E_LOST : CELLAR_E_ENGINE,
                  "asking what the container uses", r);
    end_measure(op, code ? NULL : &usage, code ? &err : NULL);
}

/* one-shot: without it the engine measures for a second or two. */
static void ask_engine(struct docker_op *op)
{
    struct cellar_error err;
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "GET", .path = path, .deadline_ms = DOCKER_USAGE_MS};
    if (cellar_docker_path(path, &err,
                           "/containers/%s/stats?stream=false&one-shot=true",
                           ((struct measure *)op)->id))
        fail_measure(op, &err);
    else
        cellar_docker_op_next(op, &ask, on_measured);
}

static void on_described(struct docker_op *op, const struct docker_reply *r)
{
    const char *id = ((struct measure *)op)->id;
    struct cellar_usage usage;
    json_t *reply =
        r->status == 200 ? cellar_json_parse(r->body, r->len, 0, NULL) : NULL;
    json_int_t pid = json_integer_value(cellar_json_at(reply, "State.Pid"));
    json_decref(reply);
    if (pid > 0 && pid <= INT32_MAX &&
        cellar_cgroup_usage((pid_t)pid, id, &usage))
        end_measure(op, &usage, NULL);
    else
        ask_engine(op);
}

static enum cellar_code ask_pid(struct docker_op *op, struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "GET", .path = path, .deadline_ms = DOCKER_USAGE_MS};
    enum cellar_code code = cellar_docker_path(path, err, "/containers/%s/json",
                                               ((struct measure *)op)->id);
    return code ? code : cellar_docker_op_send(op, &ask, on_described, err);
}

enum cellar_code cellar_docker_usage(struct cellar_engine *engine,
                                     const char *id,
                                     cellar_engine_usage_fn *done, void *user,
                                     struct cellar_error *err)
{
    enum cellar_code code = cellar_docker_check_id(id, err);
    if (code)
        return code;
    struct measure *measure = calloc(1, sizeof(*measure));
    if (!measure)
        return cellar_fail(err, CELLAR_E_NOMEM, "usage: out of memory");
    measure->op.failed = fail_measure;
    measure->op.destroy = cellar_docker_op_destroy;
    measure->done = done;
    measure->user = user;
    snprintf(measure->id, sizeof(measure->id), "%s", id);
    return cellar_docker_op_begin((struct docker *)engine, &measure->op,
                                  ask_pid, err);
}
