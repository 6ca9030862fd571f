/* The calls that wait, on top of those that don't; and the calls by name. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "fail.h"
#include "spec.h"
#include "supervisor_private.h"

/* What a waiting call waits for. */
struct wait {
    bool done;
    struct cellar_session *session;
    struct cellar_result *result;
    struct cellar_error err;
};

static enum cellar_code until_done(struct cellar *c, struct wait *wait,
                                   struct cellar_error *err)
{
    while (!wait->done)
        (void)cellar_loop_run(cellar_supervisor_loop(c), -1);
    if (wait->err.code != CELLAR_OK && err)
        *err = wait->err;
    return wait->err.code;
}

static void on_session(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct wait *wait = user;
    wait->done = true;
    wait->session = s;
    if (err)
        wait->err = *err;
}

static void on_result(void *user, struct cellar_result *result,
                      const struct cellar_error *err)
{
    struct wait *wait = user;
    wait->done = true;
    wait->result = result;
    if (err)
        wait->err = *err;
}

static void on_done(void *user, const struct cellar_error *err)
{
    on_session(user, NULL, err);
}

enum cellar_code cellar_start(struct cellar *c, const struct cellar_spec *spec,
                              struct cellar_session **out,
                              struct cellar_error *err)
{
    struct wait wait = {0};
    enum cellar_code code = cellar_start_async(c, spec, on_session, &wait, err);
    if (code == CELLAR_OK)
        code = until_done(c, &wait, err);
    if (code == CELLAR_OK)
        *out = wait.session;
    return code;
}

enum cellar_code cellar_adopt(struct cellar *c, const char *name,
                              struct cellar_session **out,
                              struct cellar_error *err)
{
    struct wait wait = {0};
    enum cellar_code code = cellar_adopt_async(c, name, on_session, &wait, err);
    if (code == CELLAR_OK)
        code = until_done(c, &wait, err);
    if (code == CELLAR_OK)
        *out = wait.session;
    return code;
}

enum cellar_code cellar_run(struct cellar_session *s,
                            const struct cellar_cell *cell,
                            struct cellar_result **out,
                            struct cellar_error *err)
{
    struct wait wait = {0};
    enum cellar_code code = cellar_run_async(s, cell, on_result, &wait, err);
    if (code == CELLAR_OK)
        code = until_done(s->c, &wait, err);
    if (code == CELLAR_OK)
        *out = wait.result;
    return code;
}

enum cellar_code cellar_interrupt(struct cellar_session *s,
                                  struct cellar_error *err)
{
    if (s->phase == CELLAR_PHASE_LOST)
        return cellar_fail(err, CELLAR_E_LOST, "the session is lost: %s",
                           s->err.msg);
    cellar_session_interrupt(s);
    return CELLAR_OK;
}

enum cellar_code cellar_reset(struct cellar_session *s,
                              struct cellar_error *err)
{
    struct wait wait = {0};
    enum cellar_code code = cellar_reset_async(s, on_session, &wait, err);
    return code == CELLAR_OK ? until_done(s->c, &wait, err) : code;
}

enum cellar_code cellar_stop(struct cellar_session *s, struct cellar_error *err)
{
    struct wait wait = {0};
    if (!s)
        return CELLAR_OK;
    struct cellar *c = s->c;
    enum cellar_code code = cellar_stop_async(s, on_session, &wait, err);
    return code == CELLAR_OK ? until_done(c, &wait, err) : code;
}

/* ------------------------------------------------------------ listing -- */

/* A container of ours, as the engine lists it. */
struct found {
    struct found *next;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    char session[CELLAR_NAME_BYTES_MAX + 1];
    char image[256];
    char state[16];
    uint64_t created;
    bool told;
};

struct listing {
    struct cellar *c;
    struct found *found;
    cellar_info_fn *each;
    void *user;
    struct wait wait;
};

static void collect(void *user, const struct cellar_container *container)
{
    struct listing *listing = user;
    if (strcmp(container->owner, cellar_supervisor_owner(listing->c)) != 0)
        return;
    struct found *found = calloc(1, sizeof *found);
    if (!found)
        return;
    (void)snprintf(found->id, sizeof found->id, "%s", container->id);
    (void)snprintf(found->session, sizeof found->session, "%s",
                   container->session);
    (void)snprintf(found->image, sizeof found->image, "%s", container->image);
    (void)snprintf(found->state, sizeof found->state, "%s", container->state);
    found->created = container->created;
    found->next = listing->found;
    listing->found = found;
}

static void on_listed(void *user, const struct cellar_error *err)
{
    struct listing *listing = user;
    on_done(&listing->wait, err);
}

static enum cellar_code find_all(struct listing *listing,
                                 struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(listing->c);
    enum cellar_code code =
        engine->ops->list(engine, collect, on_listed, listing, err);
    return code == CELLAR_OK ? until_done(listing->c, &listing->wait, err)
                             : code;
}

static void free_found(struct found *found)
{
    while (found) {
        struct found *next = found->next;
        free(found);
        found = next;
    }
}

static struct found *find_container(const struct listing *listing,
                                    const struct cellar_record *record)
{
    for (struct found *f = listing->found; f; f = f->next)
        if (!strcmp(f->id, record->container) ||
            !strcmp(f->session, record->name))
            return f;
    return NULL;
}

static const char *state_word(const struct found *found, pid_t holder)
{
    if (!found)
        return "lost";
    if (strcmp(found->state, "running") != 0)
        return found->state;
    return holder ? "busy" : "idle";
}

static void tell_record(void *user, const struct cellar_record *record)
{
    struct listing *listing = user;
    struct found *found = find_container(listing, record);
    pid_t holder =
        cellar_hold_who(cellar_supervisor_state_dir(listing->c), record->name);
    struct cellar_info info = {.name = record->name,
                               .container =
                                   found ? found->id : record->container,
                               .image = record->image,
                               .engine = record->engine,
                               .state = state_word(found, holder),
                               .created = record->created,
                               .cells = record->cells,
                               .holder = (uint64_t)holder};
    if (found)
        found->told = true;
    listing->each(listing->user, &info);
}

/* Containers without a record: unnamed sessions of live commands. */
static void tell_rest(struct listing *listing)
{
    const char *engine = cellar_supervisor_engine(listing->c)->ops->name;
    for (struct found *f = listing->found; f; f = f->next) {
        struct cellar_info info = {.name = f->session,
                                   .container = f->id,
                                   .image = f->image,
                                   .engine = engine,
                                   .state = state_word(f, 1),
                                   .created = f->created};
        if (!f->told)
            listing->each(listing->user, &info);
    }
}

enum cellar_code cellar_list(struct cellar *c, cellar_info_fn *each, void *user,
                             struct cellar_error *err)
{
    struct listing listing = {.c = c, .each = each, .user = user};
    enum cellar_code code = find_all(&listing, err);
    if (code == CELLAR_OK)
        code = cellar_record_each(cellar_supervisor_state_dir(c), tell_record,
                                  &listing, err);
    if (code == CELLAR_OK)
        tell_rest(&listing);
    free_found(listing.found);
    return code;
}

/* ------------------------------------------------------------ by name -- */

/* Of a session that nobody has: adopted for as long as it takes. */
static enum cellar_code on_adopted(struct cellar *c, const char *name,
                                   enum cellar_request request,
                                   struct cellar_error *err)
{
    struct cellar_session *s = NULL;
    enum cellar_code code = cellar_adopt(c, name, &s, err);
    if (code != CELLAR_OK)
        return code;
    code = request == CELLAR_REQUEST_RESET ? cellar_reset(s, err)
                                           : cellar_interrupt(s, err);
    cellar_close(s);
    return code;
}

static enum cellar_code ask_by_name(struct cellar *c, const char *name,
                                    enum cellar_request request,
                                    struct cellar_error *err)
{
    const char *state_dir = cellar_supervisor_state_dir(c);
    enum cellar_code code = cellar_name_check(name, err);
    if (code == CELLAR_OK && cellar_hold_who(state_dir, name))
        code = cellar_control_ask(state_dir, name, request, err);
    else if (code == CELLAR_OK)
        code = on_adopted(c, name, request, err);
    return code;
}

enum cellar_code cellar_interrupt_name(struct cellar *c, const char *name,
                                       struct cellar_error *err)
{
    return ask_by_name(c, name, CELLAR_REQUEST_INTERRUPT, err);
}

enum cellar_code cellar_reset_name(struct cellar *c, const char *name,
                                   struct cellar_error *err)
{
    return ask_by_name(c, name, CELLAR_REQUEST_RESET, err);
}

/* Whoever has the session sees its container go and drops the record; it is
 * given a moment before it is dropped here. */
static void drop_record(struct cellar *c, const char *name)
{
    const char *state_dir = cellar_supervisor_state_dir(c);
    struct cellar_record record;
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    for (int tries = 0; tries < 50; tries++) {
        if (cellar_record_load(state_dir, name, &record, NULL) ==
            CELLAR_E_NOT_FOUND)
            return;
        if (cellar_hold_take(state_dir, name, &hold, NULL) == CELLAR_OK) {
            cellar_record_remove(state_dir, name, &hold);
            cellar_hold_done(&hold);
            return;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    cellar_supervisor_log(c,
                          "session '%s': its record stays until process "
                          "%ld lets go",
                          name, (long)cellar_hold_who(state_dir, name));
}

static enum cellar_code remove_found(struct listing *listing, const char *name,
                                     size_t *removed, struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(listing->c);
    enum cellar_code code = CELLAR_OK;
    for (struct found *f = listing->found; f && code == CELLAR_OK;
         f = f->next) {
        struct wait wait = {0};
        if (strcmp(f->session, name) != 0)
            continue;
        code = engine->ops->remove(engine, f->id, on_done, &wait, err);
        if (code == CELLAR_OK)
            code = until_done(listing->c, &wait, err);
        (*removed)++;
    }
    return code;
}

enum cellar_code cellar_stop_name(struct cellar *c, const char *name,
                                  struct cellar_error *err)
{
    struct listing listing = {.c = c};
    struct cellar_record record;
    size_t removed = 0;
    enum cellar_code code = cellar_name_check(name, err);
    if (code == CELLAR_OK)
        code = find_all(&listing, err);
    if (code == CELLAR_OK)
        code = remove_found(&listing, name, &removed, err);
    free_found(listing.found);
    if (code != CELLAR_OK)
        return code;
    code =
        cellar_record_load(cellar_supervisor_state_dir(c), name, &record, err);
    if (code == CELLAR_E_NOT_FOUND)
        return removed ? CELLAR_OK : code;
    drop_record(c, name);
    return CELLAR_OK;
}
