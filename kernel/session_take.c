/* A session that stood ready is taken in place of a new one: from the state
 * directory, or from a pool of this process. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "fail.h"
#include "ready.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"

/* More of them need not be looked at. */
#define STANDS_MAX 64

/* --------------------------------------------- from the state directory -- */

/* The engine lists the newest first, and the oldest is to go first. */
static void note_stand(void *user, const struct cellar_container *container)
{
    struct cellar_session *s = user;
    if (s->stand_count == STANDS_MAX ||
        !cellar_ready_fits(container, cellar_supervisor_owner(s->c),
                           s->ready_key))
        return;
    struct cellar_stand *stand = &s->stands[s->stand_count++];
    (void)snprintf(stand->name, sizeof stand->name, "%s", container->session);
    (void)snprintf(stand->container, sizeof stand->container, "%s",
                   container->id);
}

/* Held, and recorded for this container: nobody else can take it now. */
static bool hold_stand(struct cellar_session *s,
                       const struct cellar_stand *stand,
                       struct cellar_hold *hold)
{
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    struct cellar_record *r = &s->record;
    /* Looked for before the lock, which would make its directory. */
    if (cellar_record_load(state_dir, stand->name, r, NULL) != CELLAR_OK ||
        cellar_hold_take(state_dir, stand->name, hold, NULL) != CELLAR_OK)
        return false;
    if (cellar_record_load(state_dir, stand->name, r, NULL) == CELLAR_OK &&
        !strcmp(r->container, stand->container) && !r->lost[0] && r->cells == 0)
        return true;
    cellar_hold_tidy(state_dir, stand->name, hold);
    return false;
}

/* Its new name in the state directory: the user's, or one that says that it is
 * in use. */
static void name_dir(struct cellar_session *s)
{
    uint8_t random[8];
    char hex[2 * sizeof random + 1];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(hex, sizeof hex, random, sizeof random);
    if (s->spec.name)
        (void)snprintf(s->dir, sizeof s->dir, "%s", s->spec.name);
    else
        (void)snprintf(s->dir, sizeof s->dir, CELLAR_TAKEN_PREFIX "%s", hex);
}

/* From the renaming on it is ours, whatever becomes of us. */
static bool claim(struct cellar_session *s, const struct cellar_stand *stand)
{
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_error err = {0};
    if (!hold_stand(s, stand, &hold))
        return false;
    name_dir(s);
    if (cellar_record_move(state_dir, stand->name, s->dir, &err) != CELLAR_OK) {
        cellar_supervisor_log(s->c, "taking a ready session: %s", err.msg);
        cellar_hold_done(&hold);
        s->dir[0] = '\0';
        return false;
    }
    s->hold = hold;
    (void)snprintf(s->record.name, sizeof s->record.name, "%s",
                   s->spec.name ? s->spec.name : "");
    return true;
}

static enum cellar_code open_taken(struct cellar_session *s,
                                   struct cellar_error *err)
{
    cellar_session_fill_terms(s);
    enum cellar_code code = CELLAR_OK;
    if (s->record.name[0])
        code = cellar_record_amend(&s->hold, &s->record, err);
    s->arrival = CELLAR_ARRIVAL_TAKE;
    cellar_channel_init(&s->channel, s->record.key, s->record.delivered);
    cellar_timer_set(s->deadline, CELLAR_TAKE_MS);
    if (code == CELLAR_OK)
        code = cellar_session_attach(s, err);
    return code;
}

static void start(struct cellar_session *s)
{
    struct cellar_error err = {0};
    s->arrival = CELLAR_ARRIVAL_START;
    sodium_memzero(&s->record, sizeof s->record);
    if (cellar_session_begin_start(s, &err) != CELLAR_OK)
        cellar_session_fail(s, true, err.code, "%s", err.msg);
}

static void take_one(struct cellar_session *s)
{
    struct cellar_error err = {0};
    bool taken = false;
    while (!taken && s->stand_count > 0)
        taken = claim(s, &s->stands[--s->stand_count]);
    free(CELLAR_TAKE(s->stands));
    s->stand_count = 0;
    if (!taken)
        start(s);
    else if (open_taken(s, &err) != CELLAR_OK)
        cellar_session_fail(s, false, err.code, "%s", err.msg);
}

static void on_listed(void *user, const struct cellar_error *err)
{
    struct cellar_session *s = user;
    s->pending--;
    if (s->phase != CELLAR_PHASE_STARTING)
        cellar_session_kick(s);
    else if (err)
        cellar_session_fail(s, true, err->code, "%s", err->msg);
    else
        take_one(s);
}

/* A name that is recorded is for the start to refuse, or to clear up. */
static bool may_take(const struct cellar_session *s)
{
    struct cellar_record record = {0};
    enum cellar_code code = CELLAR_E_NOT_FOUND;
    if (s->spec.name)
        code = cellar_record_load(cellar_supervisor_state_dir(s->c),
                                  s->spec.name, &record, NULL);
    sodium_memzero(record.key, sizeof record.key);
    return code == CELLAR_E_NOT_FOUND;
}

static enum cellar_code begin_take(struct cellar_session *s,
                                   struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    if (!may_take(s))
        return cellar_session_begin_start(s, err);
    cellar_ready_key(s->c, &s->spec, s->ready_key);
    s->stands = calloc(STANDS_MAX, sizeof s->stands[0]);
    if (!s->stands)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    cellar_timer_set(s->deadline, CELLAR_START_MS);
    s->pending++;
    enum cellar_code code =
        engine->ops->list(engine, note_stand, on_listed, s, err);
    if (code != CELLAR_OK)
        s->pending--;
    return code;
}

enum cellar_code cellar_ready_start_async(struct cellar *c,
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
        code = begin_take(s, err);
    return cellar_session_begun(s, code, done, user);
}

/* ------------------------------------------- from a pool of this process - */

static void unshelve(struct cellar_session *s)
{
    cellar_control_free(CELLAR_TAKE(s->control));
    if (s->hold.dir_fd >= 0)
        cellar_record_remove(cellar_supervisor_state_dir(s->c), s->dir,
                             &s->hold);
    cellar_hold_done(&s->hold);
    s->dir[0] = '\0';
}

/* Its lock, its record and its socket are new files, and the record has to come
 * to the disk: that takes longer than all the rest of a take, so it is done
 * while nobody waits. */
void cellar_session_shelve(struct cellar_session *s)
{
    struct cellar_error err = {0};
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    struct cellar_record shelved = s->record;
    name_dir(s);
    (void)snprintf(shelved.name, sizeof shelved.name, "%s", s->dir);
    shelved.lease_ms = s->spec.lease_ms;
    enum cellar_code code = cellar_hold_take(state_dir, s->dir, &s->hold, &err);
    /* The second makes room for the one that bears the name. */
    for (int i = 0; i < 2 && code == CELLAR_OK; i++)
        code = cellar_record_save(&s->hold, &shelved, &err);
    sodium_memzero(shelved.key, sizeof shelved.key);
    if (code == CELLAR_OK) {
        cellar_session_listen(s);
        (void)cellar_supervisor_journal(s->c, NULL);
        return;
    }
    cellar_supervisor_log(s->c, "the pool: %s", err.msg);
    unshelve(s);
}

/* False: the name has to be fought for. */
static bool rename_shelved(struct cellar_session *s, const char *name)
{
    struct cellar_error err = {0};
    if (!s->dir[0] || !cellar_record_move_free(
                          cellar_supervisor_state_dir(s->c), s->dir, name))
        return false;
    (void)snprintf(s->dir, sizeof s->dir, "%s", name);
    (void)snprintf(s->record.name, sizeof s->record.name, "%s", name);
    /* What is there is a record of it, with the former terms. */
    if (cellar_record_amend(&s->hold, &s->record, &err) != CELLAR_OK)
        cellar_supervisor_log(s->c, "%s", err.msg);
    return true;
}

/* Its record is there before anybody is told of it. */
static enum cellar_code christen(struct cellar_session *s, const char *name,
                                 struct cellar_error *err)
{
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_record old = {0};
    if (rename_shelved(s, name))
        return CELLAR_OK;
    enum cellar_code code = cellar_hold_take(state_dir, name, &hold, err);
    if (code != CELLAR_OK)
        return code;
    bool exists =
        cellar_record_load(state_dir, name, &old, NULL) != CELLAR_E_NOT_FOUND &&
        !old.lost[0];
    sodium_memzero(old.key, sizeof old.key);
    if (exists)
        code = cellar_fail(err, CELLAR_E_EXISTS,
                           "session '%s' exists already; 'cellar exec %s' "
                           "runs a cell in it, 'cellar stop %s' ends it",
                           name, name, name);
    (void)snprintf(s->record.name, sizeof s->record.name, "%s", name);
    if (code == CELLAR_OK)
        code = cellar_record_save(&hold, &s->record, err);
    if (code == CELLAR_OK) {
        unshelve(s);
        (void)snprintf(s->dir, sizeof s->dir, "%s", name);
        s->hold = hold;
        return CELLAR_OK;
    }
    s->record.name[0] = '\0';
    cellar_hold_tidy(state_dir, name, &hold);
    return code;
}

static enum cellar_code adapt(struct cellar_session *s, const char *name,
                              struct cellar_error *err)
{
    char *copy = name ? strdup(name) : NULL;
    if (name && !copy)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    s->spec.name = copy;
    cellar_session_fill_terms(s);
    enum cellar_code code = name ? christen(s, name, err) : CELLAR_OK;
    if (code != CELLAR_OK) {
        s->spec.name = NULL;
        free(copy);
    }
    return code;
}

static enum cellar_code greet_anew(struct cellar_session *s,
                                   struct cellar_error *err)
{
    enum cellar_code code = cellar_session_greet(s, false, err);
    return code == CELLAR_OK
               ? cellar_channel_bind(&s->channel, s->channel.stream, err)
               : code;
}

/* The handshake tells the agent the new terms, and us that it answers. */
enum cellar_code cellar_session_give(struct cellar_session *s, const char *name,
                                     cellar_session_fn *done, void *user,
                                     struct cellar_error *err)
{
    struct cellar_error why = {0};
    enum cellar_code code = adapt(s, name, err);
    if (code != CELLAR_OK)
        return code;
    s->gone = (struct cellar_waiter){0};
    s->opened = (struct cellar_waiter){done, user};
    s->arrival = CELLAR_ARRIVAL_TAKE;
    s->phase = CELLAR_PHASE_GREETING;
    s->ready = false;
    s->live_since_us = 0;
    cellar_timer_unset(s->keepalive);
    cellar_timer_set(s->deadline, CELLAR_TAKE_MS);
    if (greet_anew(s, &why) != CELLAR_OK)
        cellar_session_fail(s, false, CELLAR_E_LOST, "%s", why.msg);
    return CELLAR_OK;
}

/* ----------------------------------------------------- it can't be had --- */

void cellar_session_start_instead(struct cellar_session *s)
{
    cellar_supervisor_log(s->c, "%s; another is started in its place",
                          s->err.msg);
    cellar_channel_done(&s->channel);
    s->channel = (struct cellar_channel){0};
    s->dir[0] = '\0';
    s->err = (struct cellar_error){0};
    s->place = (struct cellar_journal_place){0};
    s->remove = s->removed = s->kept = s->diagnosed = s->ready = false;
    s->words_len = 0;
    s->phase = CELLAR_PHASE_STARTING;
    start(s);
}
