/*
 * Both engines as one. A container belongs to the engine its id is of; a new
 * session goes to Docker where that answers soon and has the image, else to an
 * OCI runtime. Where nobody can tell them apart, both are asked.
 */
#include <stdio.h>
#include <string.h>

#include "../fail.h"
#include "../spec.h"
#include "engine.h"

/* For Docker to answer: longer than it takes when it is busy, shorter than
 * what anybody waits for where it is not there. */
#define SOON_MS 2000

struct both_op;

struct both {
    struct cellar_engine engine; /* first */
    struct cellar_engine *docker;
    struct cellar_engine *oci;
    bool docker_only; /* its address was given: it is meant */
    bool told;        /* which one it is */
    bool heard;       /* Docker, when containers were listed last */
    struct both_op *ops;
    void (*warn)(void *user, const char *line);
    void *warn_user;
};

/* One of engine.h's calls under way. It stays until Docker has called back,
 * which may be long after its user was. */
struct both_op {
    struct both *both;
    struct both_op *prev;
    struct both_op *next;
    struct cellar_timer *timer;
    bool asked; /* Docker, and it has not called back */
    bool late;  /* the list goes on without Docker's */
    bool ended; /* the user was called back, or the op is another's now */
    void *user;

    /* list */
    cellar_engine_each_fn *each;
    cellar_engine_done_fn *done;

    /* start: a copy of the launch */
    struct cellar_launch launch;
    struct cellar_spec spec;
    char *texts[3];
    uint8_t *greeting;
    struct cellar_stream_events events;
    cellar_engine_started_fn *started;

    /* check */
    cellar_check_fn *row;

    void (*then)(struct both_op *op, struct cellar_engine *engine,
                 const char *why);
};

static struct both *both_of(struct cellar_engine *engine)
{
    return (struct both *)engine;
}

/* ----------------------------------------------------------------- ops -- */

static void free_op(struct both_op *op)
{
    if (op->prev)
        op->prev->next = op->next;
    else
        op->both->ops = op->next;
    if (op->next)
        op->next->prev = op->prev;
    cellar_timer_close(op->timer);
    cellar_spec_done(&op->spec);
    for (size_t i = 0; i < 3; i++)
        free(op->texts[i]);
    cellar_greeting_wipe(op->greeting, op->launch.greeting_len);
    free(op);
}

/* When the user has been served, and Docker, too. */
static void settle(struct both_op *op)
{
    if (op->ended && !op->asked)
        free_op(op);
}

static struct both_op *new_op(struct both *both, void (*late)(void *user),
                              void *user, struct cellar_error *err)
{
    struct both_op *op = calloc(1, sizeof(*op));
    if (!op) {
        cellar_fail(err, CELLAR_E_NOMEM, "engine: out of memory");
        return NULL;
    }
    op->both = both;
    op->user = user;
    op->next = both->ops;
    if (op->next)
        op->next->prev = op;
    both->ops = op;
    if (cellar_timer_new(both->engine.loop, late, op, &op->timer, err)) {
        free_op(op);
        return NULL;
    }
    cellar_timer_set(op->timer, SOON_MS);
    return op;
}

/* ------------------------------------------------------- one container -- */

static struct cellar_engine *engine_of(struct cellar_engine *engine,
                                       const char *id)
{
    struct both *both = both_of(engine);
    return cellar_oci_owns(id) ? both->oci : both->docker;
}

static const char *name_of(const struct cellar_engine *engine, const char *id)
{
    return engine_of((struct cellar_engine *)engine, id)->ops->name;
}

static bool listed(const struct cellar_engine *engine, const char *id)
{
    return cellar_oci_owns(id) || ((const struct both *)engine)->heard;
}

static enum cellar_code both_attach(struct cellar_engine *engine,
                                    const char *id, uint64_t lane,
                                    const struct cellar_stream_events *events,
                                    cellar_engine_started_fn *done, void *user,
                                    struct cellar_error *err)
{
    engine = engine_of(engine, id);
    return engine->ops->attach(engine, id, lane, events, done, user, err);
}

static enum cellar_code both_remove(struct cellar_engine *engine,
                                    const char *id, cellar_engine_done_fn *done,
                                    void *user, struct cellar_error *err)
{
    engine = engine_of(engine, id);
    return engine->ops->remove(engine, id, done, user, err);
}

static enum cellar_code both_diagnose(struct cellar_engine *engine,
                                      const char *id,
                                      cellar_engine_reason_fn *done, void *user,
                                      struct cellar_error *err)
{
    engine = engine_of(engine, id);
    return engine->ops->diagnose(engine, id, done, user, err);
}

static enum cellar_code both_usage(struct cellar_engine *engine, const char *id,
                                   cellar_engine_usage_fn *done, void *user,
                                   struct cellar_error *err)
{
    engine = engine_of(engine, id);
    return engine->ops->usage(engine, id, done, user, err);
}

/* ---------------------------------------------------------------- list -- */

static void end_list(struct both_op *op, const struct cellar_error *err)
{
    struct cellar_error own;
    if (err)
        own = *err;
    cellar_engine_done_fn *done = op->done;
    void *user = op->user;
    op->ended = true;
    cellar_timer_unset(op->timer);
    settle(op);
    done(user, err ? &own : NULL);
}

static void give(void *user, const struct cellar_container *container)
{
    struct both_op *op = user;
    if (!op->ended)
        op->each(op->user, container);
}

static void on_oci_list(void *user, const struct cellar_error *err)
{
    end_list(user, err);
}

static void list_oci(struct both_op *op)
{
    struct cellar_error err;
    struct cellar_engine *oci = op->both->oci;
    if (oci->ops->list(oci, give, on_oci_list, op, &err))
        end_list(op, &err);
}

/* Without Docker there are no containers of Docker's to be seen. Late, it is
 * not heard. */
static void on_docker_list(void *user, const struct cellar_error *err)
{
    struct both_op *op = user;
    op->asked = false;
    if (op->late) {
        settle(op);
        return;
    }
    cellar_timer_unset(op->timer);
    op->both->heard = !err;
    if (err && op->both->docker_only)
        end_list(op, err);
    else
        list_oci(op);
}

static void late_list(void *user)
{
    struct both_op *op = user;
    op->late = true;
    op->both->heard = false;
    list_oci(op);
}

static enum cellar_code both_list(struct cellar_engine *engine,
                                  cellar_engine_each_fn *each,
                                  cellar_engine_done_fn *done, void *user,
                                  struct cellar_error *err)
{
    struct both *both = both_of(engine);
    struct both_op *op = new_op(both, late_list, user, err);
    if (!op)
        return CELLAR_E_NOMEM;
    op->each = each;
    op->done = done;
    op->asked = true;
    both->heard = true; /* until it turns out otherwise */
    enum cellar_code code =
        both->docker->ops->list(both->docker, give, on_docker_list, op, err);
    if (code)
        free_op(op);
    return code;
}

/* -------------------------------------------------------------- choose -- */

static void chosen(struct both_op *op, struct cellar_engine *engine,
                   const char *why)
{
    cellar_timer_unset(op->timer);
    op->then(op, engine, why);
}

/* An image of one's own is Docker's affair, and so is a network. */
static bool needs_docker(const struct cellar_spec *spec)
{
    return strcmp(spec->image, CELLAR_IMAGE_PRESET) != 0 ||
           strcmp(spec->network, "none") != 0;
}

static void on_found(void *user, const struct cellar_error *err)
{
    struct both_op *op = user;
    struct both *both = op->both;
    char why[CELLAR_ERROR_MSG_MAX + 64];
    op->asked = false;
    if (op->ended) {
        settle(op);
        return;
    }
    (void)snprintf(why, sizeof(why), "%s",
                   !err ? "Docker answers and has the image" : err->msg);
    chosen(op, err ? both->oci : both->docker, why);
}

static void late_found(void *user)
{
    struct both_op *op = user;
    if (!op->ended)
        chosen(op, op->both->oci, "Docker does not answer");
}

static enum cellar_code choose(struct both_op *op, struct cellar_error *err)
{
    struct both *both = op->both;
    if (op->spec.rootfs) {
        chosen(op, both->oci, "a root file system was given");
        return CELLAR_OK;
    }
    if (both->docker_only || needs_docker(&op->spec)) {
        chosen(op, both->docker, "it was asked for");
        return CELLAR_OK;
    }
    op->asked = true;
    enum cellar_code code = both->docker->ops->image_find(
        both->docker, op->spec.image, on_found, op, err);
    if (code)
        op->asked = false;
    return code;
}

/* --------------------------------------------------------------- start -- */

static void tell_oci(struct both *both, const char *why)
{
    char line[CELLAR_ERROR_MSG_MAX + 160];
    if (both->told || !both->warn)
        return;
    both->told = true;
    (void)snprintf(line, sizeof(line),
                   "sessions run on an OCI runtime, with this machine's own "
                   "/usr (--engine oci): %.200s",
                   why);
    both->warn(both->warn_user, line);
}

static void start_at(struct both_op *op, struct cellar_engine *engine,
                     const char *why)
{
    struct cellar_error err;
    cellar_engine_started_fn *started = op->started;
    void *user = op->user;
    if (engine == op->both->oci && !op->spec.rootfs)
        tell_oci(op->both, why);
    enum cellar_code code = engine->ops->start(engine, &op->launch, &op->events,
                                               started, user, &err);
    op->ended = true;
    settle(op);
    if (code)
        started(user, NULL, NULL, &err);
}

/* A copy of `text` that the op owns; NULL of none. False: no memory. */
static bool keep(struct both_op *op, size_t i, const char **text)
{
    if (!*text)
        return true;
    *text = op->texts[i] = strdup(*text);
    return *text != NULL;
}

static enum cellar_code copy_launch(struct both_op *op,
                                    const struct cellar_launch *launch,
                                    struct cellar_error *err)
{
    op->launch = *launch;
    op->launch.greeting_len = 0;
    enum cellar_code code = cellar_spec_copy(launch->spec, &op->spec, err);
    if (code)
        return code;
    op->launch.spec = &op->spec;
    op->greeting = cellar_greeting_copy(launch);
    bool all = keep(op, 0, &op->launch.owner);
    all &= keep(op, 1, &op->launch.supervisor);
    all &= keep(op, 2, &op->launch.entrypoint);
    if (!all || !op->greeting)
        return cellar_fail(err, CELLAR_E_NOMEM, "start: out of memory");
    op->launch.greeting = op->greeting;
    op->launch.greeting_len = launch->greeting_len;
    return CELLAR_OK;
}

/* From the loop: the user may be called back from there alone. */
static void begin(void *user)
{
    struct both_op *op = user;
    struct cellar_error err;
    if (op->asked) {
        late_found(op);
        return;
    }
    cellar_timer_set(op->timer, SOON_MS);
    if (choose(op, &err))
        chosen(op, op->both->oci, err.msg);
}

static enum cellar_code both_start(struct cellar_engine *engine,
                                   const struct cellar_launch *launch,
                                   const struct cellar_stream_events *events,
                                   cellar_engine_started_fn *done, void *user,
                                   struct cellar_error *err)
{
    struct both_op *op = new_op(both_of(engine), begin, user, err);
    if (!op)
        return CELLAR_E_NOMEM;
    op->events = *events;
    op->started = done;
    op->then = start_at;
    enum cellar_code code = copy_launch(op, launch, err);
    if (code)
        free_op(op);
    else
        cellar_timer_set(op->timer, 0);
    return code;
}

/* --------------------------------------------------------------- check -- */

static void check_at(struct both_op *op, struct cellar_engine *engine,
                     const char *why)
{
    struct cellar_error err;
    char text[CELLAR_ERROR_MSG_MAX + 64];
    cellar_engine_done_fn *done = op->done;
    void *user = op->user;
    (void)snprintf(text, sizeof(text), "sessions go to the engine %s: %.200s",
                   engine->ops->name, why);
    op->row(user, &(struct cellar_check_row){.name = "choice",
                                             .result = CELLAR_CHECK_OK,
                                             .text = text});
    enum cellar_code code =
        engine->ops->check(engine, &op->spec, op->row, done, user, &err);
    op->ended = true;
    settle(op);
    if (code)
        done(user, &err);
}

static enum cellar_code both_check(struct cellar_engine *engine,
                                   const struct cellar_spec *spec,
                                   cellar_check_fn *row,
                                   cellar_engine_done_fn *done, void *user,
                                   struct cellar_error *err)
{
    struct both_op *op = new_op(both_of(engine), begin, user, err);
    if (!op)
        return CELLAR_E_NOMEM;
    op->row = row;
    op->done = done;
    op->then = check_at;
    enum cellar_code code = cellar_spec_copy(spec, &op->spec, err);
    if (code)
        free_op(op);
    else
        cellar_timer_set(op->timer, 0);
    return code;
}

/* -------------------------------------------------------------- images -- */

static enum cellar_code both_find(struct cellar_engine *engine,
                                  const char *image,
                                  cellar_engine_done_fn *done, void *user,
                                  struct cellar_error *err)
{
    engine = both_of(engine)->docker;
    return engine->ops->image_find(engine, image, done, user, err);
}

static enum cellar_code both_pull(struct cellar_engine *engine,
                                  const char *image,
                                  cellar_progress_fn *progress,
                                  cellar_engine_done_fn *done, void *user,
                                  struct cellar_error *err)
{
    engine = both_of(engine)->docker;
    return engine->ops->image_pull(engine, image, progress, done, user, err);
}

static enum cellar_code
both_build(struct cellar_engine *engine, const char *image, int tar_fd,
           const char *const *args, cellar_progress_fn *progress,
           cellar_engine_done_fn *done, void *user, struct cellar_error *err)
{
    engine = both_of(engine)->docker;
    return engine->ops->image_build(engine, image, tar_fd, args, progress, done,
                                    user, err);
}

static enum cellar_code both_import(struct cellar_engine *engine,
                                    const char *image, int tar_fd,
                                    cellar_engine_done_fn *done, void *user,
                                    struct cellar_error *err)
{
    engine = both_of(engine)->docker;
    return engine->ops->image_import(engine, image, tar_fd, done, user, err);
}

static enum cellar_code both_export(struct cellar_engine *engine,
                                    const char *image, int tar_fd,
                                    cellar_engine_done_fn *done, void *user,
                                    struct cellar_error *err)
{
    engine = both_of(engine)->docker;
    return engine->ops->image_export(engine, image, tar_fd, done, user, err);
}

/* ------------------------------------------------------------ lifetime -- */

/* The engines first: they let go of the ops without a word. */
static void both_free(struct cellar_engine *engine)
{
    struct both *both = both_of(engine);
    if (both->docker)
        both->docker->ops->free(both->docker);
    if (both->oci)
        both->oci->ops->free(both->oci);
    while (both->ops)
        free_op(both->ops);
    free(both);
}

static const struct cellar_engine_ops both_ops = {
    .name = "auto",
    .name_of = name_of,
    .listed = listed,
    .free = both_free,
    .start = both_start,
    .attach = both_attach,
    .remove = both_remove,
    .list = both_list,
    .diagnose = both_diagnose,
    .usage = both_usage,
    .check = both_check,
    .image_find = both_find,
    .image_pull = both_pull,
    .image_build = both_build,
    .image_import = both_import,
    .image_export = both_export,
};

enum cellar_code cellar_auto_new(struct cellar_loop *loop,
                                 const struct cellar_engine_place *place,
                                 struct cellar_engine **out,
                                 struct cellar_error *err)
{
    const char *host = getenv("DOCKER_HOST");
    struct both *both = calloc(1, sizeof(*both));
    if (!both)
        return cellar_fail(err, CELLAR_E_NOMEM, "engine: out of memory");
    both->engine = (struct cellar_engine){&both_ops, loop};
    both->docker_only = (place->host && *place->host) || (host && *host);
    both->warn = place->warn;
    both->warn_user = place->warn_user;
    enum cellar_code code =
        cellar_docker_new(loop, place->host, place->data_dir, place->log,
                          place->log_user, &both->docker, err);
    if (!code)
        code = cellar_oci_new(loop, place, &both->oci, err);
    if (code) {
        both_free(&both->engine);
        return code;
    }
    *out = &both->engine;
    return CELLAR_OK;
}
