/* Containers are listed. */
#include <string.h>

#include "docker.h"

struct listing {
    struct docker_op op; /* first */
    cellar_engine_each_fn *each;
    cellar_engine_done_fn *done;
    void *user;
};

static void end_listing(struct docker_op *op, const struct cellar_error *err)
{
    struct listing listing = *(struct listing *)op;
    cellar_docker_op_free(op);
    listing.done(listing.user, err);
}

static uint32_t uid_of(const char *label)
{
    char *end = NULL;
    unsigned long uid = strtoul(label, &end, 10);
    return end == label || *end || uid > UINT32_MAX ? 0 : (uint32_t)uid;
}

static const char *label(const json_t *row, const char *name)
{
    const char *value = json_string_value(
        json_object_get(json_object_get(row, "Labels"), name));
    return value ? value : "";
}

static void give_row(const struct listing *listing, const json_t *row)
{
    const char *id = cellar_docker_string(row, "Id");
    if (cellar_docker_check_id(id, NULL))
        return; /* nothing could be done with it */
    json_int_t created = json_integer_value(json_object_get(row, "Created"));
    struct cellar_container container = {
        .id = id,
        .session = label(row, CELLAR_LABEL_SESSION),
        .owner = label(row, CELLAR_LABEL_OWNER),
        .supervisor = label(row, CELLAR_LABEL_SUPERVISOR),
        .uid = uid_of(label(row, CELLAR_LABEL_UID)),
        .image = cellar_docker_string(row, "Image"),
        .state = cellar_docker_string(row, "State"),
        .created = created > 0 ? (uint64_t)created : 0,
    };
    listing->each(listing->user, &container);
}

static void on_list(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    if (r->status != 200) {
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, "listing containers",
                                 r);
        end_listing(op, &err);
        return;
    }
    json_t *rows = cellar_json_parse(r->body, r->len, 0, NULL);
    bool fits = json_is_array(rows);
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(rows, i, row) give_row((struct listing *)op, row);
    json_decref(rows);
    if (!fits)
        cellar_fail(&err, CELLAR_E_ENGINE,
                    "listing containers: the engine's answer is no list");
    end_listing(op, fits ? NULL : &err);
}

/* By a label that only containers have: those of an image pass to everything
 * that is run from it, by whomever. */
static enum cellar_code ask_list(struct docker_op *op, struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *filter =
        cellar_docker_escape("{\"label\":[\"" CELLAR_LABEL_OWNER "\"]}");
    if (!filter)
        return cellar_fail(err, CELLAR_E_NOMEM, "list: out of memory");
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {
        .method = "GET", .path = path, .reply_max = DOCKER_LIST_MAX};
    enum cellar_code code = cellar_docker_path(
        path, err, "/containers/json?all=1&filters=%s", filter);
    return code ? code : cellar_docker_op_send(op, &ask, on_list, err);
}

enum cellar_code cellar_docker_list(struct cellar_engine *engine,
                                    cellar_engine_each_fn *each,
                                    cellar_engine_done_fn *done, void *user,
                                    struct cellar_error *err)
{
    struct listing *listing = calloc(1, sizeof(*listing));
    if (!listing)
        return cellar_fail(err, CELLAR_E_NOMEM, "list: out of memory");
    listing->op.failed = end_listing;
    listing->op.destroy = cellar_docker_op_destroy;
    listing->each = each;
    listing->done = done;
    listing->user = user;
    return cellar_docker_op_begin((struct docker *)engine, &listing->op,
                                  ask_list, err);
}
