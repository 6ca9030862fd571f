/* Sessions that share a container: forked from one another, ended one by one.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fail.h"
#include "proto/sign.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"
#include "wait.h"

_Static_assert(CELLAR_FORK_MAX == CELLAR_BRANCHES_MAX,
               "as many as the wire's FORK makes");

struct branch {
    char name[CELLAR_NAME_BYTES_MAX + 1];
    struct cellar_hold hold;
};

struct cellar_branches {
    size_t count;
    struct branch all[CELLAR_FORK_MAX];
};

/* -------------------------------------------------------------- names -- */

size_t cellar_branches_count(const struct cellar_branches *branches)
{
    return branches->count;
}

void cellar_branches_free(const char *state_dir,
                          struct cellar_branches *branches)
{
    if (!branches)
        return;
    for (size_t i = 0; i < branches->count; i++)
        cellar_hold_tidy(state_dir, branches->all[i].name,
                         &branches->all[i].hold);
    free(branches);
}

/* Its own name, and one that is given twice, this process holds already. */
static enum cellar_code check_name(const struct cellar_session *s,
                                   const char *const *names, size_t i,
                                   struct cellar_error *err)
{
    bool used = strcmp(names[i], s->record.name) == 0;
    for (size_t j = 0; j < i && !used; j++)
        used = strcmp(names[i], names[j]) == 0;
    return used ? cellar_fail(err, CELLAR_E_EXISTS,
                              "'%.63s' is the session itself, or given twice: "
                              "each branch needs a name of its own",
                              names[i])
                : CELLAR_OK;
}

/* Held until the branch is recorded, so that nobody takes the name meanwhile.
 * What is left of a lost session is in nobody's way. */
static enum cellar_code take_name(struct cellar_session *s, const char *name,
                                  struct branch *branch,
                                  struct cellar_error *err)
{
    const char *state_dir = cellar_supervisor_state_dir(s->c);
    struct cellar_record record = {0};
    enum cellar_code code = cellar_name_check(name, err);
    if (code != CELLAR_OK)
        return code;
    (void)snprintf(branch->name, sizeof branch->name, "%s", name);
    code = cellar_hold_take(state_dir, name, &branch->hold, err);
    if (code != CELLAR_OK)
        return code;
    code = cellar_record_load(state_dir, name, &record, err);
    sodium_memzero(record.key, sizeof record.key);
    if (code == CELLAR_E_NOT_FOUND || (code == CELLAR_OK && record.lost[0]))
        return CELLAR_OK;
    return code != CELLAR_OK
               ? code
               : cellar_fail(err, CELLAR_E_EXISTS,
                             "session '%s' exists already; take another "
                             "name, or end it: 'cellar stop %s'",
                             name, name);
}

static enum cellar_code take_names(struct cellar_session *s,
                                   const char *const *names, size_t count,
                                   struct cellar_branches *branches,
                                   struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (size_t i = 0; i < count && code == CELLAR_OK; i++) {
        branches->all[i].hold = CELLAR_HOLD_NONE;
        branches->count = i + 1;
        code = check_name(s, names, i, err);
        if (code == CELLAR_OK)
            code = take_name(s, names[i], &branches->all[i], err);
    }
    return code;
}

/* ------------------------------------------------------------ forking -- */

static enum cellar_code check_fork(const struct cellar_session *s, size_t count,
                                   struct cellar_error *err)
{
    if (count < 1 || count > CELLAR_FORK_MAX)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%zu branches at once: 1 to %d can be made", count,
                           CELLAR_FORK_MAX);
    if (!s->record.name[0])
        return cellar_fail(err, CELLAR_E_USAGE,
                           "an unnamed session ends with its process: only one "
                           "with a name can be forked");
    return CELLAR_OK;
}

enum cellar_code cellar_fork_async(struct cellar_session *s,
                                   const char *const *names, size_t count,
                                   cellar_moment_fn *done, void *user,
                                   struct cellar_error *err)
{
    struct cellar_asked asked = {
        .request = CELLAR_MSG_FORK, .done = done, .user = user};
    enum cellar_code code = check_fork(s, count, err);
    if (code != CELLAR_OK)
        return code;
    asked.branches = calloc(1, sizeof *asked.branches);
    if (!asked.branches)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    code = take_names(s, names, count, asked.branches, err);
    if (code == CELLAR_OK)
        code = cellar_session_request(s, &asked, err);
    if (code != CELLAR_OK)
        cellar_branches_free(cellar_supervisor_state_dir(s->c), asked.branches);
    return code;
}

/* What it has from its parent, and what is its own. */
static void fill(struct cellar_record *record,
                 const struct cellar_record *parent, const char *name,
                 uint64_t lane)
{
    *record = *parent;
    (void)snprintf(record->name, sizeof record->name, "%s", name);
    record->lane = lane;
    record->created = (uint64_t)time(NULL);
    record->delivered = 0;
    record->lost[0] = '\0';
    cellar_sign_lane_key(record->key, parent->key, (uint32_t)lane);
}

static enum cellar_code save_all(struct cellar_session *s,
                                 const struct cellar_branches *branches,
                                 uint64_t first, struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (size_t i = 0; i < branches->count && code == CELLAR_OK; i++) {
        struct cellar_record record;
        fill(&record, &s->record, branches->all[i].name, first + i);
        code = cellar_record_save(&branches->all[i].hold, &record, err);
        sodium_memzero(record.key, sizeof record.key);
    }
    return code;
}

/* Nobody will come for what the agent has made: it ends with its lease. */
static void forget_all(struct cellar_session *s,
                       const struct cellar_branches *branches)
{
    for (size_t i = 0; i < branches->count; i++)
        cellar_record_remove(cellar_supervisor_state_dir(s->c),
                             branches->all[i].name, &branches->all[i].hold);
}

static void write_all(struct cellar_session *s,
                      const struct cellar_branches *branches, uint64_t first)
{
    for (size_t i = 0; i < branches->count; i++) {
        struct cellar_record record;
        fill(&record, &s->record, branches->all[i].name, first + i);
        cellar_session_journal_branch(s, &record, s->record.cells);
        sodium_memzero(record.key, sizeof record.key);
    }
}

enum cellar_code cellar_branches_record(struct cellar_session *s,
                                        const struct cellar_branches *branches,
                                        const struct cellar_msg_reply *reply,
                                        struct cellar_error *err)
{
    uint64_t first = reply->lane;
    if (first == 0 || first > UINT32_MAX - branches->count)
        return cellar_fail(err, CELLAR_E_PROTO,
                           "the agent gave no lanes to the branches");
    s->record.forked = 1;
    enum cellar_code code = cellar_record_save(&s->hold, &s->record, err);
    if (code == CELLAR_OK)
        code = save_all(s, branches, first, err);
    if (code == CELLAR_OK)
        write_all(s, branches, first);
    else
        forget_all(s, branches);
    return code;
}

struct fork {
    struct cellar_wait wait;
    struct cellar_moment moment;
};

static void on_forked(void *user, const struct cellar_moment *moment,
                      const struct cellar_error *err)
{
    struct fork *fork = user;
    if (moment)
        fork->moment = *moment;
    cellar_wait_done(&fork->wait, err);
}

enum cellar_code cellar_fork(struct cellar_session *s, const char *const *names,
                             size_t count, struct cellar_moment *moment,
                             struct cellar_error *err)
{
    struct fork fork = {.moment = {0}};
    enum cellar_code code =
        cellar_fork_async(s, names, count, on_forked, &fork, err);
    if (code == CELLAR_OK)
        code = cellar_wait_for(s->c, &fork.wait, err);
    if (code == CELLAR_OK && moment)
        *moment = fork.moment;
    return code;
}

/* ---------------------------------------------------- ends beside others -- */

bool cellar_session_shares(const struct cellar_session *s)
{
    return cellar_record_may_share(&s->record) &&
           cellar_record_shares(cellar_supervisor_state_dir(s->c),
                                s->record.name, s->record.container);
}

/* Its container is for others to keep; whoever asked for the end is told when
 * it has come. */
void cellar_session_left(struct cellar_session *s)
{
    if (!s->leaving)
        return;
    s->leaving = false;
    if (s->stopped.done) {
        s->phase = CELLAR_PHASE_CLOSING;
        cellar_session_kick(s);
    } else {
        cellar_session_fail(s, false, CELLAR_E_LOST,
                            "the session was stopped by another process");
        s->diagnosed = true;
    }
}

bool cellar_session_leave(struct cellar_session *s)
{
    struct cellar_message stop = {.type = CELLAR_MSG_STOP};
    struct cellar_error err = {0};
    s->leaving = s->phase == CELLAR_PHASE_LIVE && cellar_session_shares(s) &&
                 cellar_channel_send(&s->channel, &stop, &err) == CELLAR_OK;
    if (s->leaving)
        cellar_timer_set(s->deadline, CELLAR_SLACK_MS);
    return s->leaving;
}
