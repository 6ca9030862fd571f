/* The oci engine: its table, its ops, its lifetime. */
#include "oci.h"

#include <stdio.h>
#include <string.h>

static struct oci *oci_of(struct cellar_engine *engine)
{
    return (struct oci *)engine;
}

void cellar_oci_log(const struct oci *oci, const char *fmt, ...)
{
    char line[512];
    if (!oci->log)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    oci->log(oci->log_user, line);
}

enum cellar_code cellar_oci_files(struct oci *oci,
                                  struct cellar_container_spec **out,
                                  struct cellar_error *err)
{
    if (!oci->spec) {
        enum cellar_code code =
            cellar_container_spec_load(oci->data_dir, &oci->spec, err);
        if (code)
            return code;
    }
    *out = oci->spec;
    return CELLAR_OK;
}

/* ----------------------------------------------------------------- ops -- */

void cellar_oci_op_begin(struct oci *oci, struct oci_op *op)
{
    op->oci = oci;
    op->next = oci->ops;
    if (op->next)
        op->next->prev = op;
    oci->ops = op;
}

static void on_timer(void *user)
{
    struct oci_op *op = user;
    op->step(op);
}

enum cellar_code cellar_oci_op_later(struct oci_op *op, uint64_t ms,
                                     void (*step)(struct oci_op *op),
                                     struct cellar_error *err)
{
    op->step = step;
    if (!op->timer) {
        enum cellar_code code = cellar_timer_new(op->oci->engine.loop, on_timer,
                                                 op, &op->timer, err);
        if (code)
            return code;
    }
    cellar_timer_set(op->timer, ms);
    return CELLAR_OK;
}

static enum cellar_code give_turn(struct oci_op *op, struct cellar_error *err)
{
    enum cellar_code code = cellar_oci_op_later(op, 0, op->step, err);
    if (!code) {
        op->waiting = false;
        op->turns->under_way++;
    }
    return code;
}

enum cellar_code cellar_oci_op_turn(struct oci_op *op, struct oci_turns *turns,
                                    void (*step)(struct oci_op *op),
                                    struct cellar_error *err)
{
    /* The timer is made now: there must be memory for it when it is needed. */
    enum cellar_code code = cellar_oci_op_later(op, 0, step, err);
    if (code)
        return code;
    cellar_timer_unset(op->timer);
    op->turns = turns;
    op->waiting = true;
    return turns->under_way < turns->max ? give_turn(op, err) : CELLAR_OK;
}

/* The one that has waited longest is the last of the list. */
static void end_turn(struct oci_op *op)
{
    struct oci_turns *turns = CELLAR_TAKE(op->turns);
    struct oci_op *next = NULL;
    if (!turns || op->waiting)
        return;
    turns->under_way--;
    for (struct oci_op *other = op->oci->ops; other; other = other->next)
        if (other->turns == turns && other->waiting)
            next = other;
    if (next)
        (void)give_turn(next, NULL);
}

void cellar_oci_op_free(struct oci_op *op)
{
    end_turn(op);
    if (op->prev)
        op->prev->next = op->next;
    else
        op->oci->ops = op->next;
    if (op->next)
        op->next->prev = op->prev;
    cellar_oci_run_cancel(CELLAR_TAKE(op->run));
    cellar_timer_close(CELLAR_TAKE(op->timer));
    op->destroy(op);
}

void cellar_oci_op_destroy(struct oci_op *op)
{
    free(op);
}

/* -------------------------------------------------------------- images -- */

/* A root file system is no image: there is nothing to find, pull or make. */
static enum cellar_code no_images(struct cellar_error *err)
{
    return cellar_fail(err, CELLAR_E_USAGE,
                       "the oci engine has no images: sessions run on this "
                       "machine's own /usr, or on what --rootfs names; "
                       "--engine docker has images");
}

/* Each is some processes that take all of a core for tens of milliseconds. */
static void set_turns(struct oci *oci)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    oci->starts.max = oci->removals.max = 2 * (cores > 2 ? (size_t)cores : 2);
}

static enum cellar_code find_image(struct cellar_engine *engine,
                                   const char *image,
                                   cellar_engine_done_fn *done, void *user,
                                   struct cellar_error *err)
{
    (void)engine;
    (void)image;
    (void)done;
    (void)user;
    return no_images(err);
}

static enum cellar_code pull_image(struct cellar_engine *engine,
                                   const char *image,
                                   cellar_progress_fn *progress,
                                   cellar_engine_done_fn *done, void *user,
                                   struct cellar_error *err)
{
    (void)progress;
    return find_image(engine, image, done, user, err);
}

static enum cellar_code
build_image(struct cellar_engine *engine, const char *image, int tar_fd,
            const char *const *args, cellar_progress_fn *progress,
            cellar_engine_done_fn *done, void *user, struct cellar_error *err)
{
    (void)tar_fd;
    (void)args;
    return pull_image(engine, image, progress, done, user, err);
}

static enum cellar_code import_image(struct cellar_engine *engine,
                                     const char *image, int tar_fd,
                                     cellar_engine_done_fn *done, void *user,
                                     struct cellar_error *err)
{
    (void)tar_fd;
    return find_image(engine, image, done, user, err);
}

/* ------------------------------------------------------------ lifetime -- */

static void free_oci(struct oci *oci)
{
    while (oci->ops)
        cellar_oci_op_free(oci->ops);
    cellar_oci_runs_done(oci);
    cellar_container_spec_free(oci->spec);
    if (oci->dir_fd >= 0)
        close(oci->dir_fd);
    free(oci->room);
    free(oci->data_dir);
    free(oci->state_dir);
    free(oci);
}

static void oci_free(struct cellar_engine *engine)
{
    free_oci(oci_of(engine));
}

static const struct cellar_engine_ops oci_ops = {
    .name = "oci",
    .free = oci_free,
    .start = cellar_oci_start,
    .attach = cellar_oci_attach,
    .remove = cellar_oci_remove,
    .list = cellar_oci_list,
    .diagnose = cellar_oci_diagnose,
    .usage = cellar_oci_usage,
    .check = cellar_oci_check,
    .image_find = find_image,
    .image_pull = pull_image,
    .image_build = build_image,
    .image_import = import_image,
    .image_export = import_image,
};

enum cellar_code cellar_oci_new(struct cellar_loop *loop,
                                const struct cellar_engine_place *place,
                                struct cellar_engine **out,
                                struct cellar_error *err)
{
    struct oci *oci = calloc(1, sizeof(*oci));
    if (!oci)
        return cellar_fail(err, CELLAR_E_NOMEM, "engine: out of memory");
    oci->engine = (struct cellar_engine){&oci_ops, loop};
    oci->dir_fd = -1;
    set_turns(oci);
    oci->log = place->log;
    oci->log_user = place->log_user;
    oci->data_dir = realpath(place->data_dir, NULL);
    oci->state_dir = realpath(place->state_dir, NULL);
    oci->room = malloc(OCI_READ_BYTES);
    if (!oci->data_dir || !oci->state_dir || !oci->room) {
        enum cellar_code code =
            oci->data_dir && oci->state_dir
                ? cellar_fail(err, CELLAR_E_NOMEM, "engine: out of memory")
                : cellar_fail(err, CELLAR_E_USAGE,
                              "no such folder: %s (set CELLAR_DATA_DIR to "
                              "where Cellar's share folder is)",
                              oci->data_dir ? place->state_dir
                                            : place->data_dir);
        free_oci(oci);
        return code;
    }
    *out = (struct cellar_engine *)CELLAR_TAKE(oci);
    return CELLAR_OK;
}
