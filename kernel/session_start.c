/* How a session comes to be: a container is started for it. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fail.h"
#include "reaper.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"

void cellar_session_fill_terms(struct cellar_session *s)
{
    struct cellar_record *r = &s->record;
    const struct cellar_spec *spec = &s->spec;
    r->created = (uint64_t)time(NULL);
    r->output_bytes = spec->output_bytes;
    r->timeout_ms = spec->timeout_ms;
    r->grace_ms = spec->grace_ms;
    r->lease_ms = spec->lease_ms;
    r->queue_cells = spec->queue_cells;
    r->lifetime_ms = spec->lifetime_ms;
    if (!spec->name && r->lease_ms > CELLAR_UNNAMED_LEASE_MS)
        r->lease_ms = CELLAR_UNNAMED_LEASE_MS;
}

static void fill_record(struct cellar_session *s)
{
    struct cellar_record *r = &s->record;
    const struct cellar_spec *spec = &s->spec;
    (void)snprintf(r->name, sizeof r->name, "%s", spec->name ? spec->name : "");
    (void)snprintf(r->image, sizeof r->image, "%s",
                   spec->rootfs ? spec->rootfs : spec->image);
    (void)snprintf(r->preload, sizeof r->preload, "%s",
                   spec->preload ? spec->preload : "");
    randombytes_buf(r->key, sizeof r->key);
    r->memory_bytes = spec->memory_bytes;
    r->files = spec->files;
    r->file_bytes = spec->file_bytes;
    r->pids = spec->pids;
    r->checkpoint = spec->checkpoint;
    cellar_session_fill_terms(s);
}

/* Of many that start at once some wait for the others: only from here on is
 * the time of this one measured. */
static bool turn_has_come(void *user)
{
    struct cellar_session *s = user;
    if (s->phase != CELLAR_PHASE_STARTING)
        return false;
    cellar_timer_set(s->deadline, CELLAR_START_MS);
    return true;
}

static void launch(struct cellar_session *s)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    struct cellar_error err = {0};
    struct cellar_launch launch = {
        .spec = &s->spec,
        .owner = cellar_supervisor_owner(s->c),
        .supervisor = cellar_supervisor_id(s->c, NULL),
        .uid = cellar_supervisor_pick_uid(s->uids, s->uid_count),
        .pull = true,
        .turn = turn_has_come};
    s->record.uid = launch.uid;
    if (cellar_session_greet(s, true, &err) != CELLAR_OK) {
        cellar_session_fail(s, false, err.code, "%s", err.msg);
        return;
    }
    launch.greeting = cellar_buf_peek(&s->channel.out);
    launch.greeting_len = cellar_buf_len(&s->channel.out);
    cellar_timer_unset(s->deadline);
    s->pending++;
    if (engine->ops->start(engine, &launch, &cellar_session_stream_events,
                           cellar_session_on_started, s, &err) != CELLAR_OK) {
        s->pending--;
        cellar_session_fail(s, false, err.code, "%s", err.msg);
    }
    cellar_buf_reset(&s->channel.out);
}

/* A namesake whose record we have locked: only one that runs, and is recorded,
 * is in the way. */
static void note_container(void *user, const struct cellar_container *container)
{
    struct cellar_session *s = user;
    uint32_t *grown = realloc(s->uids, (s->uid_count + 1) * sizeof s->uids[0]);
    if (grown) {
        s->uids = grown;
        s->uids[s->uid_count++] = container->uid;
    }
    if (cellar_reaper_look(s->reaper, container))
        return;
    bool same = !strcmp(container->session, s->record.name) ||
                !strcmp(container->id, s->old);
    s->old_alive |= s->record.name[0] && same &&
                    !strcmp(container->owner, cellar_supervisor_owner(s->c));
}

/* What dead supervisors left is in nobody's way: a session starts even where
 * it can't be removed. */
static void on_reaped(void *user, const struct cellar_error *err)
{
    struct cellar_session *s = user;
    s->pending--;
    if (err)
        cellar_supervisor_log(s->c, "removing what a dead process left: %s",
                              err->msg);
    if (s->phase != CELLAR_PHASE_STARTING) {
        cellar_session_kick(s);
        return;
    }
    launch(s);
    free(CELLAR_TAKE(s->uids));
    s->uid_count = 0;
}

/* Its container may have outlived it, with its branches, and has its name. */
static void fail_taken(struct cellar_session *s)
{
    const char *name = s->record.name;
    struct cellar_record record;
    if (cellar_record_load(cellar_supervisor_state_dir(s->c), name, &record,
                           NULL) == CELLAR_E_NOT_FOUND)
        cellar_session_fail(s, true, CELLAR_E_EXISTS,
                            "the container of the former session '%s' lives "
                            "on with its branches; stop them, or take another "
                            "name",
                            name);
    else
        cellar_session_fail(s, true, CELLAR_E_EXISTS,
                            "session '%s' exists already; 'cellar exec %s' "
                            "runs a cell in it, 'cellar stop %s' ends it",
                            name, name, name);
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
        fail_taken(s);
    else {
        s->pending++;
        cellar_reaper_run(CELLAR_TAKE(s->reaper), on_reaped, s);
    }
}

/* The session of this name, if there is one, may live in a container that was
 * made under another. */
static enum cellar_code take_name(struct cellar_session *s,
                                  struct cellar_error *err)
{
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    const char *name = s->spec.name;
    struct cellar_record old = {0};
    enum cellar_code code = cellar_hold_take(state_dir, name, &s->hold, err);
    if (code != CELLAR_OK)
        return code;
    (void)snprintf(s->dir, sizeof s->dir, "%s", name);
    if (cellar_record_load(state_dir, name, &old, NULL) == CELLAR_OK)
        (void)snprintf(s->old, sizeof s->old, "%s", old.container);
    sodium_memzero(old.key, sizeof old.key);
    return CELLAR_OK;
}

enum cellar_code cellar_session_begin_start(struct cellar_session *s,
                                            struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    enum cellar_code code = CELLAR_OK;
    if (!cellar_supervisor_id(s->c, err))
        return CELLAR_E_SYS;
    fill_record(s);
    if (s->spec.name)
        code = take_name(s, err);
    if (code == CELLAR_OK)
        code = cellar_reaper_new(s->c, s->spec.name, &s->reaper, err);
    if (code != CELLAR_OK)
        return code;
    cellar_timer_set(s->deadline, CELLAR_START_MS);
    s->pending++;
    code = engine->ops->list(engine, note_container, on_listed, s, err);
    if (code != CELLAR_OK)
        s->pending--;
    return code;
}

enum cellar_code cellar_start_async(struct cellar *c,
                                    const struct cellar_spec *spec,
                                    cellar_session_fn *done, void *user,
                                    struct cellar_error *err)
{
    enum cellar_code code = cellar_spec_check(spec, err);
    return code == CELLAR_OK ? cellar_session_start(c, spec, done, user, err)
                             : code;
}

enum cellar_code cellar_session_start(struct cellar *c,
                                      const struct cellar_spec *spec,
                                      cellar_session_fn *done, void *user,
                                      struct cellar_error *err)
{
    struct cellar_session *s = cellar_session_new(c, err);
    if (!s)
        return CELLAR_E_NOMEM;
    enum cellar_code code = cellar_spec_copy(spec, &s->spec, err);
    if (code == CELLAR_OK)
        code = cellar_session_begin_start(s, err);
    return cellar_session_begun(s, code, done, user);
}
