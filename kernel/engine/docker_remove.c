/* A container is removed. */
#include <stdio.h>

#include "docker_private.h"

struct removal {
    struct docker_op op; /* first */
    struct docker_pass pass;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    cellar_engine_done_fn *done;
    void *user;
};

static void destroy_removal(struct docker_op *op)
{
    cellar_docker_lane_leave(&((struct removal *)op)->pass);
    free(op);
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

/* Somebody else is removing it: its name is free only when that is done. */
static void await_gone(struct docker_op *op)
{
    struct cellar_error err;
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "POST", .path = path, .deadline_ms = DOCKER_REMOVE_MS};
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
    struct docker_ask ask = {
        .method = "DELETE", .path = path, .deadline_ms = DOCKER_REMOVE_MS};
    enum cellar_code code = cellar_docker_path(
        path, err, "/containers/%s?force=1&v=1", ((struct removal *)op)->id);
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
    return cellar_docker_lane_enter(&op->docker->removals,
                                    &((struct removal *)op)->pass, op, go)
               ? send_removal(op, err)
               : CELLAR_OK;
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
