/* The way to an agent that lives: adopted by a new process, or looked for again
 * after the stream to it broke. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"

enum cellar_code cellar_session_begun(struct cellar_session *s,
                                      enum cellar_code code,
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

/* ------------------------------------------------------------- adopt -- */

static enum cellar_code check_record(struct cellar_session *s,
                                     struct cellar_error *err)
{
    const struct cellar_record *r = &s->record;
    const char *engine =
        cellar_engine_name_of(cellar_supervisor_engine(s->c), r->container);
    if (strcmp(r->engine, engine) != 0)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "session '%s' runs on engine %s: give --engine %s",
                           r->name, r->engine, r->engine);
    if (!r->lost[0])
        return CELLAR_OK;
    /* Its container is the reaper's. */
    cellar_record_remove(cellar_supervisor_state_dir(s->c), r->name, &s->hold);
    cellar_hold_done(&s->hold);
    return cellar_fail(err, CELLAR_E_LOST, "session '%s' is lost: %s", r->name,
                       r->lost);
}

enum cellar_code cellar_session_attach(struct cellar_session *s,
                                       struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    s->pending++;
    enum cellar_code code = engine->ops->attach(
        engine, s->record.container, s->record.lane,
        &cellar_session_stream_events, cellar_session_on_started, s, err);
    if (code != CELLAR_OK)
        s->pending--;
    return code;
}

static enum cellar_code begin_adopt(struct cellar_session *s, const char *name,
                                    struct cellar_error *err)
{
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    struct cellar_record *r = &s->record;
    /* Looked for before the lock, which would make its directory; read again
     * below it, since its last holder may just have let go. */
    enum cellar_code code = cellar_record_load(state_dir, name, r, err);
    if (code == CELLAR_OK)
        code = cellar_hold_take(state_dir, name, &s->hold, err);
    if (code == CELLAR_OK)
        code = cellar_record_load(state_dir, name, r, err);
    if (code == CELLAR_OK)
        code = check_record(s, err);
    if (code != CELLAR_OK)
        return code;
    s->arrival = CELLAR_ARRIVAL_ADOPT;
    (void)snprintf(s->dir, sizeof s->dir, "%s", name);
    cellar_session_journal_open(s);
    cellar_timer_set(s->deadline,
                     CELLAR_ADOPT_MS + cellar_session_preload_ms(s));
    return cellar_session_attach(s, err);
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
    return cellar_session_begun(s, begin_adopt(s, name, err), done, user);
}

/* ------------------------------------------------------------- return -- */

/* How long it may be looked for still. */
static void give_time(struct cellar_session *s)
{
    uint64_t now = cellar_loop_now_us();
    bool lasted = now - s->live_since_us >= UINT64_C(1000) * CELLAR_LASTED_MS;
    if (!s->away_since_us || (lasted && s->phase >= CELLAR_PHASE_LIVE)) {
        s->away_since_us = now;
        s->away_tries = 0;
    }
    uint64_t away_ms = (now - s->away_since_us) / 1000;
    cellar_timer_set(s->deadline,
                     away_ms < CELLAR_AWAY_MS ? CELLAR_AWAY_MS - away_ms : 0);
}

/* An engine that is away is waited for, ever more patiently. */
static void seek_later(struct cellar_session *s, const char *why)
{
    uint64_t ms = CELLAR_AWAY_FIRST_MS;
    if (why != s->away)
        (void)snprintf(s->away, sizeof s->away, "%.199s", why);
    for (uint64_t i = 0; i < s->away_tries && ms < CELLAR_AWAY_LAST_MS; i++)
        ms *= 2;
    if (s->away_tries++ == 3)
        cellar_supervisor_warn(
            s->c, "session '%s' is away: %s; it is looked for, for up to %d s",
            s->record.name, why, CELLAR_AWAY_MS / 1000);
    s->detached = true;
    s->phase = CELLAR_PHASE_STARTING;
    cellar_timer_set(s->turn,
                     ms < CELLAR_AWAY_LAST_MS ? ms : CELLAR_AWAY_LAST_MS);
}

void cellar_session_detach(struct cellar_session *s,
                           const struct cellar_error *err)
{
    if (s->leaving)
        cellar_session_left(s);
    if (s->phase >= CELLAR_PHASE_LOST || s->detached)
        return;
    (void)snprintf(s->away, sizeof s->away, "%.199s",
                   err ? err->msg : CELLAR_STREAM_ENDED);
    if (s->live_since_us > 0)
        give_time(s);
    s->detached = true;
    s->phase = CELLAR_PHASE_STARTING;
    /* An engine that breaks one stream after the other is asked less often. */
    if (s->away_tries > 0)
        seek_later(s, s->away);
    else
        cellar_session_kick(s);
    s->away_tries++;
}

static void attach_again(struct cellar_session *s)
{
    struct cellar_error err = {0};
    s->arrival = CELLAR_ARRIVAL_RETURN;
    s->detached = false;
    s->ready = false;
    if (cellar_session_attach(s, &err) != CELLAR_OK)
        seek_later(s, err.msg);
}

static void on_vital(void *user, enum cellar_vital vital, const char *reason)
{
    struct cellar_session *s = user;
    const char *why = reason && *reason ? reason : s->away;
    s->pending--;
    if (s->phase >= CELLAR_PHASE_LOST) {
        cellar_session_kick(s);
        return;
    }
    if (vital == CELLAR_VITAL_GONE) {
        s->diagnosed = true;
        cellar_session_fail(s, false, CELLAR_E_LOST, "%s", s->away);
        if (reason && *reason)
            cellar_session_explain(s, reason);
    } else if (s->live_since_us == 0) {
        cellar_session_fail(s, true, CELLAR_E_ENGINE,
                            "session '%s' could not be adopted: %s",
                            s->record.name, why);
    } else if (vital == CELLAR_VITAL_ALIVE) {
        attach_again(s);
    } else {
        seek_later(s, why);
    }
}

void cellar_session_seek(struct cellar_session *s)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    struct cellar_error err = {0};
    cellar_channel_detach(&s->channel);
    cellar_timer_unset(s->keepalive);
    if (s->pending > 0)
        return;
    if (s->arrival != CELLAR_ARRIVAL_ADOPT && s->live_since_us == 0) {
        cellar_session_fail(s, false, CELLAR_E_LOST, "%s", s->away);
        return;
    }
    s->pending++;
    if (engine->ops->diagnose(engine, s->record.container, on_vital, s, &err) ==
        CELLAR_OK)
        return;
    s->pending--;
    seek_later(s, err.msg);
}

/* ------------------------------------------------- the engine answers --- */

/* The container is there: it is written down before anything else. */
static void note_start(struct cellar_session *s, const char *id)
{
    struct cellar_error err = {0};
    struct cellar_record *r = &s->record;
    const char *engine =
        cellar_engine_name_of(cellar_supervisor_engine(s->c), id);
    (void)snprintf(r->container, sizeof r->container, "%s", id);
    (void)snprintf(r->engine, sizeof r->engine, "%s", engine);
    (void)snprintf(r->image, sizeof r->image, "%s",
                   cellar_spec_root(&s->spec, engine));
    if (s->record.name[0] &&
        cellar_record_save(&s->hold, &s->record, &err) != CELLAR_OK)
        cellar_session_fail(s, false, err.code, "%s", err.msg);
}

static void attach_failed(struct cellar_session *s,
                          const struct cellar_error *err)
{
    if (s->phase >= CELLAR_PHASE_LOST)
        cellar_session_kick(s);
    else if (s->arrival == CELLAR_ARRIVAL_RETURN)
        seek_later(s, err->msg);
    else if (s->arrival == CELLAR_ARRIVAL_TAKE)
        cellar_session_fail(s, false, err->code, "%s", err->msg);
    else if (s->arrival == CELLAR_ARRIVAL_ADOPT && err->code == CELLAR_E_LOST)
        cellar_session_fail(s, false, CELLAR_E_LOST, "session '%s' is lost",
                            s->record.name);
    else /* a failed start has undone itself, but for the name's directory */
        cellar_session_fail(s, s->arrival == CELLAR_ARRIVAL_ADOPT, err->code,
                            "%s", err->msg);
}

void cellar_session_on_started(void *user, const char *id,
                               struct cellar_stream *stream,
                               const struct cellar_error *err)
{
    struct cellar_session *s = user;
    struct cellar_error why = {0};
    bool start = s->arrival == CELLAR_ARRIVAL_START;
    s->pending--;
    if (err) {
        attach_failed(s, err);
        return;
    }
    if (start)
        note_start(s, id);
    else if (s->phase == CELLAR_PHASE_STARTING &&
             cellar_session_greet(s, false, &why) != CELLAR_OK)
        cellar_session_fail(s, true, why.code, "%s", why.msg);
    if (cellar_channel_bind(&s->channel, stream, &why) != CELLAR_OK)
        cellar_session_detach(s, &why);
    /* The agent may have answered before the engine did. */
    if (s->phase == CELLAR_PHASE_STARTING && !s->detached)
        s->phase = CELLAR_PHASE_GREETING;
    if (s->ready && s->phase == CELLAR_PHASE_BOOTING)
        cellar_session_open_up(s);
    cellar_session_kick(s);
}
