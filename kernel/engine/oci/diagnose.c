/* What became of a container, in words. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "oci.h"

struct diagnosis {
    struct oci_op op; /* first */
    char id[OCI_ID_BYTES];
    cellar_engine_reason_fn *done;
    void *user;
};

static void tell_gone(int bundle_fd, const char *id,
                      const struct oci_labels *labels, char *text, size_t size)
{
    if (cellar_oci_group_kills(bundle_fd, id) && labels->memory_bytes)
        (void)snprintf(text, size,
                       "the kernel's OOM killer ended the container: its "
                       "memory is limited to %" PRIu64 " MiB",
                       labels->memory_bytes >> 20);
    else
        (void)snprintf(text, size,
                       "the container's process is gone: it was killed from "
                       "outside, or its lease or its lifetime was over");
}

static enum cellar_vital look(const struct oci *oci, const char *id, char *text,
                              size_t size)
{
    struct oci_labels labels;
    CELLAR_AUTO_CLOSE int fd = cellar_oci_bundle_open(oci, id);
    if (fd < 0) {
        (void)snprintf(text, size, "the container was removed from outside");
        return CELLAR_VITAL_GONE;
    }
    (void)cellar_oci_labels_read(fd, &labels);
    const char *state = cellar_oci_state(oci, fd, id);
    if (strcmp(state, "running") == 0) {
        (void)snprintf(text, size,
                       "the container runs, but its agent does not answer");
        return CELLAR_VITAL_ALIVE;
    }
    if (strcmp(state, "paused") == 0) {
        (void)snprintf(
            text, size,
            "the container is paused: `%.100s --root %.200s/oci/.run "
            "resume %s` wakes it",
            labels.runtime, oci->state_dir, id);
        return CELLAR_VITAL_PAUSED;
    }
    if (strcmp(state, "created") == 0)
        (void)snprintf(text, size, "the container was never started");
    else
        tell_gone(fd, id, &labels, text, size);
    return CELLAR_VITAL_GONE;
}

static void diagnose(struct oci_op *op)
{
    struct diagnosis is = *(struct diagnosis *)op;
    char text[512];
    enum cellar_vital vital = look(op->oci, is.id, text, sizeof(text));
    cellar_oci_op_free(op);
    is.done(is.user, vital, text);
}

enum cellar_code cellar_oci_diagnose(struct cellar_engine *engine,
                                     const char *id,
                                     cellar_engine_reason_fn *done, void *user,
                                     struct cellar_error *err)
{
    enum cellar_code code = cellar_oci_check_id(id, err);
    if (code)
        return code;
    struct diagnosis *op = calloc(1, sizeof(*op));
    if (!op)
        return cellar_fail(err, CELLAR_E_NOMEM, "diagnose: out of memory");
    op->op.destroy = cellar_oci_op_destroy;
    memcpy(op->id, id, sizeof(op->id));
    op->done = done;
    op->user = user;
    cellar_oci_op_begin((struct oci *)engine, &op->op);
    code = cellar_oci_op_later(&op->op, 0, diagnose, err);
    if (code)
        cellar_oci_op_free(&op->op);
    return code;
}
