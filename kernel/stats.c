/* A session measured from outside, whoever has it: what its container uses, and
 * what its checkpoints hold. */
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "fail.h"
#include "found.h"
#include "record.h"
#include "spec.h"
#include "supervisor_private.h"

static void fill_stats(struct cellar *c, const struct cellar_record *record,
                       const struct cellar_found *found,
                       struct cellar_stats *stats)
{
    struct cellar_journal *journal = cellar_supervisor_journal(c, NULL);
    struct cellar_journal_glance glance = {.cells = record->cells,
                                           .output_bytes = CELLAR_UNKNOWN};
    char place[CELLAR_PLACE_MAX];
    cellar_record_place(record, place);
    if (journal)
        (void)!cellar_journal_glance(journal, place, &glance, NULL);
    *stats = (struct cellar_stats){.state = glance.running ? "busy" : "idle",
                                   .taken_us = cellar_loop_now_us(),
                                   .cpu_us = found->usage.cpu_us,
                                   .memory_bytes = found->usage.memory_bytes,
                                   .memory_limit_bytes =
                                       found->usage.memory_limit_bytes,
                                   .pids = found->usage.pids,
                                   .pids_limit = found->usage.pids_limit,
                                   .output_bytes = glance.output_bytes,
                                   .cells = glance.cells};
    if (!strcmp(found->state, "paused"))
        stats->state = "paused";
}

static enum cellar_code measure(struct cellar_finds *finds,
                                const struct cellar_record *record,
                                struct cellar_stats *stats,
                                struct cellar_error *err)
{
    struct cellar_found *found =
        cellar_finds_at(finds, record->container, record->name);
    if (!found || record->lost[0])
        return cellar_fail(err, CELLAR_E_LOST, "session '%s' is lost",
                           record->name);
    cellar_found_measure(finds, found);
    if (!found->measured) {
        *err = found->usage_err;
        return cellar_wrap(err, "session '%s'", record->name);
    }
    fill_stats(finds->c, record, found, stats);
    return CELLAR_OK;
}

enum cellar_code cellar_stats_name(struct cellar *c, const char *name,
                                   struct cellar_stats *stats,
                                   struct cellar_error *err)
{
    struct cellar_finds finds = {0};
    struct cellar_record record = {0};
    enum cellar_code code = cellar_name_check(name, err);
    if (code == CELLAR_OK)
        code = cellar_record_load(cellar_supervisor_state_dir(c), name, &record,
                                  err);
    if (code != CELLAR_OK)
        return code;
    code = cellar_finds_init(&finds, c, err);
    if (code == CELLAR_OK)
        code = measure(&finds, &record, stats, err);
    cellar_finds_done(&finds);
    return code;
}

/* ---------------------------------------------------------- checkpoints -- */

static void count_one(void *user, const struct cellar_checkpoint *checkpoint)
{
    (void)user;
    (void)checkpoint;
}

/* Of a session that nobody has, in which nothing runs: whoever takes it while a
 * cell is under way takes that cell's result, too. */
static enum cellar_code copies_of_idle(struct cellar *c, const char *name,
                                       struct cellar_moment *moment,
                                       struct cellar_error *err)
{
    struct cellar_session *s = NULL;
    struct cellar_stats stats = {0};
    enum cellar_code code = cellar_stats_name(c, name, &stats, err);
    if (code != CELLAR_OK)
        return code;
    if (stats.output_bytes == CELLAR_UNKNOWN ||
        strcmp(stats.state, "idle") != 0)
        return cellar_fail(err, CELLAR_E_BUSY, "session '%s' is %s", name,
                           stats.state);
    code = cellar_adopt(c, name, &s, err);
    if (code != CELLAR_OK)
        return code;
    code = cellar_checkpoint_list(s, count_one, NULL, moment, err);
    cellar_close(s);
    return code;
}

enum cellar_code cellar_copies_name(struct cellar *c, const char *name,
                                    struct cellar_moment *moment,
                                    struct cellar_error *err)
{
    const char *state_dir = cellar_supervisor_state_dir(c);
    struct cellar_session *own = NULL;
    enum cellar_code code = cellar_name_check(name, err);
    if (code != CELLAR_OK)
        return code;
    own = cellar_supervisor_session(c, name);
    if (own)
        return cellar_checkpoint_list(own, count_one, NULL, moment, err);
    pid_t holder = cellar_hold_who(state_dir, name);
    if (holder == 0)
        return copies_of_idle(c, name, moment, err);
    /* Asking oneself, of another struct cellar, would wait for itself. */
    if (holder == getpid())
        return cellar_fail(err, CELLAR_E_BUSY,
                           "session '%s' is in use by this process", name);
    return cellar_control_ask_copies(state_dir, name, moment, err);
}
