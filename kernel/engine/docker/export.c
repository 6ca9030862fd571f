/* An image's files as a tar: a container is made of it, which never runs, and
 * removed again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "docker.h"

struct outflow {
    struct docker_op op; /* first */
    char *image;
    int tar_fd;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    struct cellar_error reason; /* of the removal; OK: all is there */
    bool removing;
    cellar_engine_done_fn *done;
    void *user;
};

static struct outflow *outflow_of(struct docker_op *op)
{
    return (struct outflow *)op;
}

static void destroy_export(struct docker_op *op)
{
    free(outflow_of(op)->image);
    free(op);
}

static void end_export(struct outflow *outflow)
{
    struct cellar_error reason = outflow->reason;
    cellar_engine_done_fn *done = outflow->done;
    void *user = outflow->user;
    cellar_docker_op_free(&outflow->op);
    done(user, reason.code ? &reason : NULL);
}

static void on_removed(struct docker_op *op, const struct docker_reply *r)
{
    struct outflow *outflow = outflow_of(op);
    if (r->status != 204 && r->status != 404 && !outflow->reason.code)
        cellar_docker_fail_reply(&outflow->reason, CELLAR_E_ENGINE,
                                 "removing the container", r);
    end_export(outflow);
}

static void remove_container(struct outflow *outflow)
{
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "DELETE", .path = path, .deadline_ms = DOCKER_REMOVE_MS};
    outflow->removing = true;
    if (!*outflow->id ||
        cellar_docker_path(path, NULL, "/containers/%s?force=1&v=1",
                           outflow->id))
        end_export(outflow);
    else
        cellar_docker_op_next(&outflow->op, &ask, on_removed);
}

static void fail_export(struct docker_op *op, const struct cellar_error *err)
{
    struct outflow *outflow = outflow_of(op);
    if (!outflow->reason.code)
        outflow->reason = *err;
    if (outflow->removing)
        end_export(outflow);
    else
        remove_container(outflow);
}

static void on_exported(struct docker_op *op, const struct docker_reply *r)
{
    if (r->status != 200)
        cellar_docker_fail_reply(&outflow_of(op)->reason, CELLAR_E_ENGINE,
                                 "exporting the image", r);
    remove_container(outflow_of(op));
}

static enum cellar_code on_piece(void *op, const char *data, size_t len)
{
    struct outflow *outflow = op;
    while (len > 0) {
        ssize_t n = write(outflow->tar_fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return cellar_fail_errno(&outflow->reason, errno,
                                     "writing the image's files");
        data += n;
        len -= (size_t)n;
    }
    return CELLAR_OK;
}

static void on_created(struct docker_op *op, const struct docker_reply *r)
{
    struct outflow *outflow = outflow_of(op);
    struct cellar_error err;
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "GET",
                             .path = path,
                             .deadline_ms = DOCKER_IMAGE_MS,
                             .on_piece = on_piece};
    json_t *reply = cellar_json_parse(r->body, r->len, 0, NULL);
    const char *id = cellar_docker_string(reply, "Id");
    enum cellar_code code = CELLAR_OK;
    if (r->status == 404)
        code = cellar_docker_fail_image(&err, outflow->image);
    else if (r->status != 201)
        code = cellar_docker_fail_reply(&err, CELLAR_E_ENGINE,
                                        "creating a container", r);
    else if (cellar_docker_check_id(id, NULL))
        code = cellar_fail(&err, CELLAR_E_ENGINE,
                           "creating a container: the engine names no id");
    else
        (void)snprintf(outflow->id, sizeof(outflow->id), "%s", id);
    json_decref(reply);
    if (!code)
        code = cellar_docker_path(path, &err, "/containers/%s/export",
                                  outflow->id);
    if (code)
        fail_export(op, &err);
    else
        cellar_docker_op_next(op, &ask, on_exported);
}

static enum cellar_code create(struct docker_op *op, struct cellar_error *err)
{
    json_t *body =
        json_pack("{s:s, s:[s], s:{s:s}}", "Image", outflow_of(op)->image,
                  "Entrypoint", "/never", "HostConfig", "NetworkMode", "none");
    CELLAR_AUTO_FREE char *text = cellar_json_text(body, JSON_COMPACT);
    json_decref(body);
    struct docker_ask ask = {.method = "POST",
                             .path = "/containers/create",
                             .body = text,
                             .deadline_ms = DOCKER_CREATE_MS};
    return text ? cellar_docker_op_send(op, &ask, on_created, err)
                : cellar_fail(err, CELLAR_E_NOMEM, "export: out of memory");
}

enum cellar_code cellar_docker_image_export(struct cellar_engine *engine,
                                            const char *image, int tar_fd,
                                            cellar_engine_done_fn *done,
                                            void *user,
                                            struct cellar_error *err)
{
    struct outflow *outflow = calloc(1, sizeof(*outflow));
    if (!outflow)
        return cellar_fail(err, CELLAR_E_NOMEM, "export: out of memory");
    outflow->op.failed = fail_export;
    outflow->op.destroy = destroy_export;
    outflow->tar_fd = tar_fd;
    outflow->done = done;
    outflow->user = user;
    outflow->image = strdup(image);
    if (outflow->image)
        return cellar_docker_op_begin((struct docker *)engine, &outflow->op,
                                      create, err);
    free(outflow);
    return cellar_fail(err, CELLAR_E_NOMEM, "export: out of memory");
}
