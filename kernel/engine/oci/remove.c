/* A container is removed: its first process killed, which ends all the others
 * of its process namespace, then what the runtime and the kernel keep of it,
 * then its bundle. A runtime that fails, or hangs, is done without. */
#include <stdio.h>
#include <string.h>

#include "oci.h"

/* How long a killed container's end is waited for. */
#define GONE_MS      5000
#define GONE_STEP_MS 5

struct removal {
    struct oci_op op; /* first */
    char id[OCI_ID_BYTES];
    struct oci_born born;
    uint64_t end_us;
    cellar_engine_done_fn *done;
    void *user;
};

static struct removal *removal_of(struct oci_op *op)
{
    return (struct removal *)op;
}

static void end_removal(struct removal *removal, const struct cellar_error *err)
{
    cellar_engine_done_fn *done = removal->done;
    void *user = removal->user;
    cellar_oci_op_free(&removal->op);
    done(user, err);
}

/* Its groups can go only when it is gone. */
static void finish(struct oci_op *op)
{
    struct removal *removal = removal_of(op);
    struct cellar_error err;
    bool late = cellar_loop_now_us() > removal->end_us;
    CELLAR_AUTO_CLOSE int fd = cellar_oci_bundle_open(op->oci, removal->id);
    bool gone = !cellar_oci_lives(&removal->born) &&
                cellar_oci_groups_remove(fd, removal->id);
    if (!gone && !late) {
        cellar_oci_kill(&removal->born);
        if (cellar_oci_op_later(op, GONE_STEP_MS, finish, &err))
            end_removal(removal, &err);
        return;
    }
    if (cellar_oci_lives(&removal->born)) {
        cellar_fail(&err, CELLAR_E_TIMEOUT,
                    "the container's process %ld does not end: the kernel "
                    "keeps it",
                    (long)removal->born.pid);
        end_removal(removal, &err);
        return;
    }
    enum cellar_code code =
        cellar_oci_bundle_remove(op->oci, removal->id, &err);
    end_removal(removal, code ? &err : NULL);
}

static void begin_finish(struct removal *removal)
{
    removal->end_us = cellar_loop_now_us() + UINT64_C(1000) * GONE_MS;
    finish(&removal->op);
}

static void on_deleted(void *user, const struct oci_end *end)
{
    struct removal *removal = user;
    char words[200];
    removal->op.run = NULL;
    cellar_oci_words(end->words, words, sizeof(words));
    if (end->late || end->status != 0)
        cellar_oci_log(removal->op.oci,
                       "removing %s without the OCI runtime, which %s: %s",
                       removal->id, end->late ? "does not answer" : "failed",
                       words);
    begin_finish(removal);
}

static void go(struct oci_op *op)
{
    struct removal *removal = removal_of(op);
    struct cellar_error err;
    struct oci_labels labels;
    struct oci_runtime runtime;
    CELLAR_AUTO_CLOSE int fd = cellar_oci_bundle_open(op->oci, removal->id);
    if (fd >= 0) {
        (void)cellar_oci_labels_read(fd, &labels);
        if (!cellar_oci_born_read(fd, &removal->born))
            cellar_oci_born_find(fd, removal->id, &removal->born);
        cellar_oci_kill(&removal->born);
    }
    const char *const arguments[] = {"delete", "--force", removal->id, NULL};
    struct oci_ask ask = {.runtime = &runtime,
                          .arguments = arguments,
                          .deadline_ms = OCI_DELETE_MS};
    bool asked =
        fd >= 0 &&
        !cellar_oci_runtime_find(*labels.runtime ? labels.runtime : NULL,
                                 &runtime, &err) &&
        !cellar_oci_run(op->oci, &ask, on_deleted, removal, &op->run, &err);
    if (!asked)
        begin_finish(removal);
}

enum cellar_code cellar_oci_remove(struct cellar_engine *engine, const char *id,
                                   cellar_engine_done_fn *done, void *user,
                                   struct cellar_error *err)
{
    struct oci *oci = (struct oci *)engine;
    enum cellar_code code = cellar_oci_check_id(id, err);
    if (code)
        return code;
    struct removal *removal = calloc(1, sizeof(*removal));
    if (!removal)
        return cellar_fail(err, CELLAR_E_NOMEM, "remove: out of memory");
    removal->op.destroy = cellar_oci_op_destroy;
    removal->done = done;
    removal->user = user;
    memcpy(removal->id, id, sizeof(removal->id));
    cellar_oci_op_begin(oci, &removal->op);
    code = cellar_oci_op_turn(&removal->op, &oci->removals, go, err);
    if (code)
        cellar_oci_op_free(&removal->op);
    return code;
}
