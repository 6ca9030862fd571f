/* A container is removed. Removals take turns, and those of one container wait
 * for each other: the second finds it gone. */
#include <stdio.h>
#include <string.h>

#include "docker.h"

struct removal {
    struct docker_op op; /* first */
    struct docker_pass pass;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    bool behind; /* another one of the same container goes first */
    uint64_t end_us;
    cellar_engine_done_fn *done;
    void *user;
};

static void destroy_removal(struct docker_op *op);

/* Another removal of the same container: one that is, or is not, behind. */
static struct removal *find_other(const struct removal *removal, bool behind)
{
    for (struct docker_op *op = removal->op.docker->ops; op; op = op->next) {
        struct removal *other = (struct removal *)op;
        if (op->destroy == destroy_removal && other != removal &&
            other->behind == behind && strcmp(other->id, removal->id) == 0)
            return other;
    }
    return NULL;
}

static void go(struct docker_op *op);

static void destroy_removal(struct docker_op *op)
{
    struct removal *removal = (struct removal *)op;
    struct removal *next = removal->behind ? NULL : find_other(removal, true);
    cellar_docker_lane_leave(&removal->pass);
    if (next && cellar_docker_lane_wait(&op->docker->removals, &next->pass,
                                        &next->op, go))
        next->behind = false;
    free(removal);
}

static void end_removal(struct docker_op *op, const struct cellar_error *err)
{
    struct removal removal = *(struct removal *)op;
    cellar_docker_op_free(op);
    removal.done(removal.user, err);
}

static void on_gone(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    if (r->status == 200 || r->status == 404) {
        end_removal(op, NULL);
        return;
    }
    cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, "removing the container",
                             r);
    end_removal(op, &err);
}

/* Docker may leave somebody waiting for a container that is gone. */
static void ask_again(struct docker_op *op, const struct cellar_error *err)
{
    struct cellar_error late;
    op->failed = end_removal;
    if (err->code != CELLAR_E_TIMEOUT ||
        cellar_loop_now_us() < ((struct removal *)op)->end_us) {
        go(op);
        return;
    }
    cellar_fail(&late, CELLAR_E_TIMEOUT,
                "the engine has been removing the container for %d s",
                DOCKER_REMOVE_MS / 1000);
    end_removal(op, &late);
}

/* Somebody else is removing it: its name is free only when that is done. */
static void await_gone(struct docker_op *op)
{
    struct cellar_error err;
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "POST", .path = path, .deadline_ms = DOCKER_GONE_MS};
    op->failed = ask_again;
    if (cellar_docker_path(path, &err, "/containers/%s/wait?condition=removed",
                           ((struct removal *)op)->id))
        end_removal(op, &err);
    else
        cellar_docker_op_next(op, &ask, on_gone);
}

static void on_removed(struct docker_op *op, const struct docker_reply *r)
{
    if (r->status == 409)
        await_gone(op);
    else if (r->status == 204)
        end_removal(op, NULL);
    else
        on_gone(op, r);
}

static enum cellar_code send_removal(struct docker_op *op,
                                     struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct removal *removal = (struct removal *)op;
    struct docker_ask ask = {
        .method = "DELETE", .path = path, .deadline_ms = DOCKER_REMOVE_MS};
    if (removal->end_us == 0)
        removal->end_us =
            cellar_loop_now_us() + UINT64_C(1000) * DOCKER_REMOVE_MS;
    enum cellar_code code = cellar_docker_path(
        path, err, "/containers/%s?force=1&v=1", removal->id);
    return code ? code : cellar_docker_op_send(op, &ask, on_removed, err);
}

static void go(struct docker_op *op)
{
    struct cellar_error err;
    if (send_removal(op, &err))
        end_removal(op, &err);
}

static enum cellar_code ask_removal(struct docker_op *op,
                                    struct cellar_error *err)
{
    struct removal *removal = (struct removal *)op;
    struct docker_lane *lane = &op->docker->removals;
    removal->behind =
        find_other(removal, false) && cellar_docker_lane_ready(lane, op);
    if (removal->behind ||
        !cellar_docker_lane_enter(lane, &removal->pass, op, go))
        return CELLAR_OK;
    return send_removal(op, err);
}

enum cellar_code cellar_docker_remove(struct cellar_engine *engine,
                                      const char *id,
                                      cellar_engine_done_fn *done, void *user,
                                      struct cellar_error *err)
{
    enum cellar_code code = cellar_docker_check_id(id, err);
    if (code)
        return code;
    struct removal *removal = calloc(1, sizeof(*removal));
    if (!removal)
        return cellar_fail(err, CELLAR_E_NOMEM, "remove: out of memory");
    removal->op.failed = end_removal;
    removal->op.destroy = destroy_removal;
    removal->done = done;
    removal->user = user;
    snprintf(removal->id, sizeof(removal->id), "%s", id);
    return cellar_docker_op_begin((struct docker *)engine, &removal->op,
                                  ask_removal, err);
}
