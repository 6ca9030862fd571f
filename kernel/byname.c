/* Sessions by name, from outside, whoever has them. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "fail.h"
#include "found.h"
#include "record.h"
#include "spec.h"
#include "supervisor.h"

/* Of a session that nobody has: adopted for as long as it takes; LEAVE takes
 * it.
 */
static enum cellar_code on_adopted(struct cellar *c, const char *name,
                                   enum cellar_request request,
                                   struct cellar_error *err)
{
    struct cellar_session *s = NULL;
    enum cellar_code code = cellar_adopt(c, name, &s, err);
    if (code != CELLAR_OK)
        return code;
    if (request == CELLAR_REQUEST_LEAVE)
        return cellar_stop(s, err);
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

/* Nobody may be there who would write it. */
static void write_end(struct cellar *c, const char *place)
{
    struct cellar_journal *journal = cellar_supervisor_journal(c, NULL);
    if (journal)
        (void)!cellar_journal_end_session(journal, place, "stopped", NULL,
                                          NULL);
}

/* The session that the container was started for, or the last one in it. */
static bool is_its(struct cellar_finds *finds, const struct cellar_found *f,
                   const char *name)
{
    const char *state_dir = cellar_supervisor_state_dir(finds->c);
    struct cellar_record record;
    bool recorded =
        cellar_record_load(state_dir, name, &record, NULL) == CELLAR_OK &&
        strcmp(record.container, f->id) == 0;
    return (recorded || strcmp(f->session, name) == 0) &&
           !cellar_record_shares(state_dir, name, f->id);
}

static enum cellar_code remove_found(struct cellar_finds *finds,
                                     const char *name, size_t *removed,
                                     struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(finds->c);
    enum cellar_code code = CELLAR_OK;
    for (struct cellar_found *f = finds->first; f && code == CELLAR_OK;
         f = f->next) {
        struct cellar_wait wait = {0};
        if (!is_its(finds, f, name))
            continue;
        write_end(finds->c, f->id);
        code = engine->ops->remove(engine, f->id, cellar_wait_done, &wait, err);
        if (code == CELLAR_OK)
            code = cellar_wait_for(finds->c, &wait, err);
        (*removed)++;
    }
    return code;
}

/* The engine ends containers; what ends beside others its agent has to end. */
static enum cellar_code leave_by_name(struct cellar *c, const char *name,
                                      struct cellar_error *err)
{
    enum cellar_code code = ask_by_name(c, name, CELLAR_REQUEST_LEAVE, err);
    /* Gone with its container meanwhile, which is what was asked for. */
    return code == CELLAR_E_LOST ? CELLAR_OK : code;
}

static bool shares(struct cellar *c, const char *name)
{
    const char *state_dir = cellar_supervisor_state_dir(c);
    struct cellar_record record;
    return cellar_record_load(state_dir, name, &record, NULL) == CELLAR_OK &&
           !record.lost[0] && cellar_record_may_share(&record) &&
           cellar_record_shares(state_dir, name, record.container);
}

enum cellar_code cellar_stop_name(struct cellar *c, const char *name,
                                  struct cellar_error *err)
{
    struct cellar_finds finds = {0};
    struct cellar_record record;
    size_t removed = 0;
    enum cellar_code code = cellar_name_check(name, err);
    if (code != CELLAR_OK)
        return code;
    if (shares(c, name)) {
        bool held = cellar_hold_who(cellar_supervisor_state_dir(c), name) != 0;
        code = leave_by_name(c, name, err);
        if (code == CELLAR_OK && held)
            drop_record(c, name);
        return code;
    }
    code = cellar_finds_init(&finds, c, err);
    if (code == CELLAR_OK)
        code = remove_found(&finds, name, &removed, err);
    cellar_finds_done(&finds);
    if (code != CELLAR_OK)
        return code;
    code =
        cellar_record_load(cellar_supervisor_state_dir(c), name, &record, err);
    if (code == CELLAR_E_NOT_FOUND)
        return removed ? CELLAR_OK : code;
    if (code == CELLAR_OK) {
        char place[CELLAR_PLACE_MAX];
        cellar_record_place(&record, place);
        write_end(c, place);
    }
    drop_record(c, name);
    return CELLAR_OK;
}
