/* How a session comes to be: a container started for it, or one adopted. */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "fail.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err);

/* A container that was made and not started is nobody's after so long, when
 * it has no name to ask for: no start takes longer than CELLAR_START_MS. */
#define CELLAR_STILLBORN_S 120

/* ------------------------------------------------------------- start -- */

static void fill_record(struct cellar_session *s)
{
    struct cellar_record *r = &s->record;
    const struct cellar_spec *spec = &s->spec;
    const char *engine = cellar_supervisor_engine(s->c)->ops->name;
    (void)snprintf(r->name, sizeof r->name, "%s", spec->name ? spec->name : "");
    (void)snprintf(r->engine, sizeof r->engine, "%s", engine);
    (void)snprintf(r->image, sizeof r->image, "%s", spec->image);
    randombytes_buf(r->key, sizeof r->key);
    r->created = (uint64_t)time(NULL);
    r->memory_bytes = spec->memory_bytes;
    r->files = spec->files;
    r->file_bytes = spec->file_bytes;
    r->pids = spec->pids;
    r->output_bytes = spec->output_bytes;
    r->timeout_ms = spec->timeout_ms;
    r->grace_ms = spec->grace_ms;
    r->lease_ms = spec->lease_ms;
    r->queue_cells = spec->queue_cells;
    r->lifetime_ms = spec->lifetime_ms;
    if (!spec->name && r->lease_ms > CELLAR_UNNAMED_LEASE_MS)
        r->lease_ms = CELLAR_UNNAMED_LEASE_MS;
}

/* Milliseconds from now until the agent ends by itself; 0: never. */
static uint64_t life_left(const struct cellar_record *r)
{
    uint64_t end = r->created * 1000 + r->lifetime_ms;
    uint64_t now = (uint64_t)time(NULL) * 1000;
    if (r->lifetime_ms == 0)
        return 0;
    return (end > now ? end - now : 0) + CELLAR_LIFETIME_SLACK_MS;
}

static enum cellar_code greet(struct cellar_session *s, bool first,
                              struct cellar_error *err)
{
    const struct cellar_record *r = &s->record;
    /* The worker's limit is below the container's, so that the agent can still
     * start the next worker when a fork bomb has used up what there is. */
    struct cellar_msg_hello hello = {.lease_ms = r->lease_ms,
                                     .life_ms = life_left(r),
                                     .grace_ms = r->grace_ms,
                                     .nproc = r->pids > 4 ? r->pids - 4 : 1,
                                     .nofile = r->files,
                                     .fsize = r->file_bytes};
    cellar_channel_init(&s->channel, r->key, r->delivered);
    return cellar_channel_greet(&s->channel, first, &hello, err);
}

static void launch(struct cellar_session *s)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    struct cellar_error err = {0};
    struct cellar_launch launch = {
        .spec = &s->spec,
        .owner = cellar_supervisor_owner(s->c),
        .uid = cellar_supervisor_pick_uid(s->uids, s->uid_count),
        .pull = true};
    s->record.uid = launch.uid;
    if (greet(s, true, &err) != CELLAR_OK) {
        cellar_session_fail(s, false, err.code, "%s", err.msg);
        return;
    }
    launch.greeting = cellar_buf_peek(&s->channel.out);
    launch.greeting_len = cellar_buf_len(&s->channel.out);
    s->pending++;
    if (engine->ops->start(engine, &launch, &cellar_session_stream_events,
                           on_started, s, &err) != CELLAR_OK) {
        s->pending--;
        cellar_session_fail(s, false, err.code, "%s", err.msg);
    }
    cellar_buf_reset(&s->channel.out);
}

/* Whether a container of this state directory was left half-made by a start
 * that was killed, so that nobody will ever have its key. One of our own name,
 * whose lock we hold, is one unless the record tells of it; one that never ran
 * would stay for ever, and is one when nobody holds its name. */
static bool is_orphan(const struct cellar_session *s, bool namesake,
                      const struct cellar_container *container)
{
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    const char *name = container->session ? container->session : "";
    struct cellar_record record = {0};
    struct cellar_error err = {0};
    bool stillborn = container->state && !strcmp(container->state, "created");
    if (!namesake && !stillborn)
        return false;
    if (cellar_name_check(name, NULL) != CELLAR_OK)
        return container->created + CELLAR_STILLBORN_S < (uint64_t)time(NULL);
    if (!namesake && cellar_hold_who(state_dir, name) != 0)
        return false;
    enum cellar_code code = cellar_record_load(state_dir, name, &record, &err);
    return code == CELLAR_E_NOT_FOUND ||
           (code == CELLAR_OK && strcmp(record.container, container->id) != 0);
}

static bool add_orphan(struct cellar_session *s, const char *id)
{
    void *grown =
        realloc(s->orphans, (s->orphan_count + 1) * sizeof s->orphans[0]);
    if (!grown)
        return false;
    s->orphans = grown;
    (void)snprintf(s->orphans[s->orphan_count++], sizeof s->orphans[0], "%s",
                   id);
    return true;
}

static void note_container(void *user, const struct cellar_container *container)
{
    struct cellar_session *s = user;
    uint32_t *grown = realloc(s->uids, (s->uid_count + 1) * sizeof s->uids[0]);
    if (grown) {
        s->uids = grown;
        s->uids[s->uid_count++] = container->uid;
    }
    if (!container->owner ||
        strcmp(container->owner, cellar_supervisor_owner(s->c)) != 0)
        return;
    bool namesake = s->record.name[0] && container->session &&
                    !strcmp(container->session, s->record.name);
    if (is_orphan(s, namesake, container) && add_orphan(s, container->id))
        return;
    s->old_alive |= namesake;
}

static void on_orphan_removed(void *user, const struct cellar_error *err);

/* One after the other, then the session's own container. */
static void clear_the_way(struct cellar_session *s)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    struct cellar_error err = {0};
    if (s->orphan_count == 0) {
        launch(s);
        free(CELLAR_TAKE(s->uids));
        s->uid_count = 0;
        return;
    }
    const char *id = s->orphans[--s->orphan_count];
    cellar_supervisor_log(
        s->c, "removing container %s, which a killed start left", id);
    s->pending++;
    if (engine->ops->remove(engine, id, on_orphan_removed, s, &err) !=
        CELLAR_OK) {
        s->pending--;
        cellar_session_fail(s, false, err.code, "%s", err.msg);
    }
}

static void on_orphan_removed(void *user, const struct cellar_error *err)
{
    struct cellar_session *s = user;
    s->pending--;
    if (s->phase != CELLAR_PHASE_STARTING)
        cellar_session_kick(s);
    else if (err)
        cellar_session_fail(s, false, err->code, "%s", err->msg);
    else
        clear_the_way(s);
}

static void on_listed(void *user, const struct cellar_error *err)
{
    struct cellar_session *s = user;
    s->pending--;
    if (s->phase != CELLAR_PHASE_STARTING) {
        cellar_session_kick(s);
        return;
    }
    if (err)
        cellar_session_fail(s, true, err->code, "%s", err->msg);
    else if (s->old_alive)
        cellar_session_fail(s, true, CELLAR_E_EXISTS,
                            "session '%s' exists already; 'cellar exec %s' "
                            "runs a cell in it, 'cellar stop %s' ends it",
                            s->record.name, s->record.name, s->record.name);
    else
        clear_the_way(s);
}

static enum cellar_code begin_start(struct cellar_session *s,
                                    struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    enum cellar_code code = CELLAR_OK;
    fill_record(s);
    if (s->spec.name)
        code = cellar_hold_take(state_dir, s->spec.name, &s->hold, err);
    if (code != CELLAR_OK)
        return code;
    cellar_timer_set(s->deadline, CELLAR_START_MS);
    s->pending++;
    code = engine->ops->list(engine, note_container, on_listed, s, err);
    if (code != CELLAR_OK)
        s->pending--;
    return code;
}

/* Remembers who waits for the session; or, when its beginning failed, lets go
 * of it. Returns `code`. */
static enum cellar_code begun(struct cellar_session *s, enum cellar_code code,
                              cellar_session_fn *done, void *user)
{
    if (code == CELLAR_OK) {
        s->opened = (struct cellar_waiter){done, user};
    } else {
        s->phase = CELLAR_PHASE_CLOSING;
        cellar_session_kick(s);
    }
    return code;
}

enum cellar_code cellar_start_async(struct cellar *c,
                                    const struct cellar_spec *spec,
                                    cellar_session_fn *done, void *user,
                                    struct cellar_error *err)
{
    enum cellar_code code = cellar_spec_check(spec, err);
    if (code != CELLAR_OK)
        return code;
    struct cellar_session *s = cellar_session_new(c, err);
    if (!s)
        return CELLAR_E_NOMEM;
    code = cellar_spec_copy(spec, &s->spec, err);
    if (code == CELLAR_OK)
        code = begin_start(s, err);
    return begun(s, code, done, user);
}

/* ------------------------------------------------------------- adopt -- */

static enum cellar_code begin_adopt(struct cellar_session *s, const char *name,
                                    struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    struct cellar_record *r = &s->record;
    /* Looked for before the lock, which would make its directory; read again
     * below it, since its last holder may just have let go. */
    enum cellar_code code = cellar_record_load(state_dir, name, r, err);
    if (code == CELLAR_OK)
        code = cellar_hold_take(state_dir, name, &s->hold, err);
    if (code == CELLAR_OK)
        code = cellar_record_load(state_dir, name, r, err);
    if (code == CELLAR_OK && strcmp(r->engine, engine->ops->name) != 0)
        code = cellar_fail(err, CELLAR_E_USAGE,
                           "session '%s' runs on engine %s: give --engine %s",
                           name, r->engine, r->engine);
    if (code != CELLAR_OK)
        return code;
    s->adopting = true;
    cellar_timer_set(s->deadline, CELLAR_ADOPT_MS);
    s->pending++;
    code =
        engine->ops->attach(engine, r->container, &cellar_session_stream_events,
                            on_started, s, err);
    if (code != CELLAR_OK)
        s->pending--;
    return code;
}

enum cellar_code cellar_adopt_async(struct cellar *c, const char *name,
                                    cellar_session_fn *done, void *user,
                                    struct cellar_error *err)
{
    enum cellar_code code = cellar_name_check(name, err);
    if (code != CELLAR_OK)
        return code;
    struct cellar_session *s = cellar_session_new(c, err);
    if (!s)
        return CELLAR_E_NOMEM;
    return begun(s, begin_adopt(s, name, err), done, user);
}

/* ---------------------------------------- from the engine to the agent -- */

static void save(struct cellar_session *s)
{
    struct cellar_error err = {0};
    if (s->record.name[0] &&
        cellar_record_save(&s->hold, &s->record, &err) != CELLAR_OK)
        cellar_session_fail(s, false, err.code, "%s", err.msg);
}

static void start_failed(struct cellar_session *s,
                         const struct cellar_error *err)
{
    if (s->adopting && err->code == CELLAR_E_LOST)
        cellar_session_fail(s, false, CELLAR_E_LOST, "session '%s' is lost",
                            s->record.name);
    else
        cellar_session_fail(s, s->adopting, err->code, "%s", err->msg);
    /* A failed start has undone itself, but for the name's directory. */
    cellar_session_kick(s);
}

static void on_control(void *user, enum cellar_request request)
{
    struct cellar_session *s = user;
    struct cellar_error err = {0};
    if (request == CELLAR_REQUEST_INTERRUPT)
        cellar_session_interrupt(s);
    else if (cellar_reset_async(s, NULL, NULL, &err) != CELLAR_OK)
        cellar_supervisor_log(s->c, "reset of session '%s': %s", s->record.name,
                              err.msg);
}

/* The session can run cells: whoever started or adopted it is told. */
static void open_up(struct cellar_session *s)
{
    struct cellar_error err = {0};
    cellar_timer_unset(s->deadline);
    cellar_timer_set(s->keepalive, s->record.lease_ms / 3);
    if (s->record.lifetime_ms > 0)
        cellar_timer_set(s->lifetime,
                         life_left(&s->record) - CELLAR_LIFETIME_SLACK_MS);
    s->adopting = false;
    s->phase = CELLAR_PHASE_LIVE;
    if (s->record.name[0] &&
        cellar_control_new(cellar_supervisor_loop(s->c), &s->hold, on_control,
                           s, &s->control, &err) != CELLAR_OK)
        cellar_supervisor_log(s->c, "session '%s': %s", s->record.name,
                              err.msg);
    cellar_waiter_tell(&s->opened, s, NULL);
    cellar_session_kick(s);
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    struct cellar_session *s = user;
    struct cellar_error why = {0};
    s->pending--;
    if (err) {
        start_failed(s, err);
        return;
    }
    if (!s->adopting)
        (void)snprintf(s->record.container, sizeof s->record.container, "%s",
                       id);
    if (s->adopting && s->phase == CELLAR_PHASE_STARTING &&
        greet(s, false, &why) != CELLAR_OK)
        cellar_session_fail(s, true, why.code, "%s", why.msg);
    if (cellar_channel_bind(&s->channel, stream, &why) != CELLAR_OK)
        cellar_session_fail(s, s->adopting, why.code, "%s", why.msg);
    /* The agent may have answered before the engine did. */
    if (s->phase == CELLAR_PHASE_STARTING)
        s->phase = CELLAR_PHASE_GREETING;
    if (!s->adopting)
        save(s);
    if (s->ready && s->phase == CELLAR_PHASE_BOOTING)
        open_up(s);
    cellar_session_kick(s);
}

void cellar_session_on_welcome(struct cellar_session *s,
                               const struct cellar_msg_welcome *welcome)
{
    if (s->phase > CELLAR_PHASE_GREETING)
        return;
    s->phase = CELLAR_PHASE_BOOTING;
    s->generation = welcome->generation;
    /* A record that is behind (its holder was killed) must not make a cell's
     * number come twice. */
    if (welcome->last_cell > s->record.cells)
        s->record.cells = welcome->last_cell;
    if (welcome->running)
        cellar_session_expect(s, welcome->running);
    if (s->adopting && welcome->ready)
        open_up(s);
}

void cellar_session_on_ready(struct cellar_session *s,
                             const struct cellar_msg_ready *ready)
{
    bool anew = ready->generation > s->generation;
    s->generation = ready->generation;
    s->landlock_abi = ready->landlock_abi;
    (void)snprintf(s->record.python, sizeof s->record.python, "%.*s",
                   (int)ready->python.len, (const char *)ready->python.data);
    if (s->phase == CELLAR_PHASE_BOOTING) {
        /* Without its stream a session can't run cells, nor be recorded. */
        s->ready = true;
        if (s->channel.stream)
            open_up(s);
    } else if (s->phase == CELLAR_PHASE_RESETTING && anew) {
        cellar_timer_unset(s->deadline);
        s->phase = CELLAR_PHASE_LIVE;
        cellar_session_tell_doomed(s);
        cellar_waiter_tell(&s->reset, s, NULL);
        cellar_session_kick(s);
    }
}

void cellar_session_on_fault(struct cellar_session *s,
                             const struct cellar_msg_fault *fault)
{
    bool image = fault->code <= CELLAR_FAULT_EXTENSION;
    s->words_len = 0;
    s->diagnosed = true; /* by the agent: it lives, and has told why */
    cellar_session_fail(s, false, image ? CELLAR_E_IMAGE : CELLAR_E_LOST,
                        "image %s: %.*s", s->record.image,
                        (int)(fault->text.len < 300 ? fault->text.len : 300),
                        (const char *)fault->text.data);
}
