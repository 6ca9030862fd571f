/* What a container uses, by its control groups. */
#include <stdio.h>
#include <string.h>

#include "../cgroup.h"
#include "oci.h"

struct measure {
    struct oci_op op; /* first */
    char id[OCI_ID_BYTES];
    cellar_engine_usage_fn *done;
    void *user;
};

static void measure(struct oci_op *op)
{
    struct measure is = *(struct measure *)op;
    struct cellar_usage usage;
    struct cellar_error err;
    struct oci_born born;
    CELLAR_AUTO_CLOSE int fd = cellar_oci_bundle_open(op->oci, is.id);
    bool lives =
        fd >= 0 && cellar_oci_born_read(fd, &born) && cellar_oci_lives(&born);
    bool measured = lives && cellar_cgroup_usage(born.pid, is.id, &usage);
    cellar_oci_op_free(op);
    if (!lives)
        cellar_fail(&err, CELLAR_E_LOST, "the container does not run");
    else if (!measured)
        cellar_fail(&err, CELLAR_E_ENGINE,
                    "the container has no control groups of its own to tell "
                    "what it uses");
    is.done(is.user, measured ? &usage : NULL, measured ? NULL : &err);
}

enum cellar_code cellar_oci_usage(struct cellar_engine *engine, const char *id,
                                  cellar_engine_usage_fn *done, void *user,
                                  struct cellar_error *err)
{
    enum cellar_code code = cellar_oci_check_id(id, err);
    if (code)
        return code;
    struct measure *op = calloc(1, sizeof(*op));
    if (!op)
        return cellar_fail(err, CELLAR_E_NOMEM, "measure: out of memory");
    op->op.destroy = cellar_oci_op_destroy;
    memcpy(op->id, id, sizeof(op->id));
    op->done = done;
    op->user = user;
    cellar_oci_op_begin((struct oci *)engine, &op->op);
    code = cellar_oci_op_later(&op->op, 0, measure, err);
    if (code)
        cellar_oci_op_free(&op->op);
    return code;
}
