/* The journal is kept within its bounds, and its log within the database. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "journal_private.h"

/* The log is moved into the database when it is so large: readers look through
 * all of it. */
#define LOG_BYTES_MAX (16 << 20)

/* Upkeep prunes so often. */
#define PRUNE_S (24 * 60 * 60)

/* Steps of upkeep's pruning at a time: each one is of some milliseconds, and a
 * cell may wait. */
#define STEPS_OF_UPKEEP 1

/* What the database needs, without the pages that are free. */
static uint64_t bytes_used(struct cellar_journal *journal)
{
    int64_t pages = cellar_journal_number(journal, "PRAGMA page_count");
    int64_t unused = cellar_journal_number(journal, "PRAGMA freelist_count");
    int64_t size = cellar_journal_number(journal, "PRAGMA page_size");
    return pages > unused && unused >= 0 && size > 0
               ? (uint64_t)(pages - unused) * (uint64_t)size
               : 0;
}

/* The outputs of the cells from id `first` to `last`, and the blobs that no
 * other output is in. */
static int drop_outputs(struct cellar_journal *journal, int64_t first,
                        int64_t last)
{
    char sql[768];
    (void)snprintf(
        sql, sizeof sql,
        "CREATE TEMP TABLE gone AS SELECT DISTINCT blob FROM outputs "
        "WHERE cell BETWEEN %" PRId64 " AND %" PRId64 " AND blob NOTNULL;"
        "DELETE FROM outputs WHERE cell BETWEEN %" PRId64 " AND %" PRId64 ";"
        "DELETE FROM blobs WHERE id IN (SELECT blob FROM gone) AND NOT EXISTS "
        "(SELECT 1 FROM outputs WHERE blob = blobs.id);"
        "DROP TABLE gone",
        first, last, first, last);
    return cellar_journal_exec(journal, sql);
}

static enum cellar_code drop_session(struct cellar_journal *journal, int64_t id,
                                     struct cellar_error *err)
{
    char sql[256];
    int64_t first = id * (INT64_C(1) << 32);
    int64_t last = first + UINT32_MAX;
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    int rc = drop_outputs(journal, first, last);
    (void)snprintf(sql, sizeof sql,
                   "DELETE FROM cells WHERE id BETWEEN %" PRId64 " AND %" PRId64
                   "; DELETE FROM sessions WHERE id = %" PRId64,
                   first, last, id);
    if (rc == SQLITE_OK)
        rc = cellar_journal_exec(journal, sql);
    return cellar_journal_txn_end(journal, rc, err);
}

static enum cellar_code drop_cell(struct cellar_journal *journal, int64_t id,
                                  struct cellar_error *err)
{
    char sql[128];
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    int rc = drop_outputs(journal, id, id);
    (void)snprintf(sql, sizeof sql,
                   "UPDATE cells SET pruned = 1 WHERE id = %" PRId64, id);
    if (rc == SQLITE_OK)
        rc = cellar_journal_exec(journal, sql);
    return cellar_journal_txn_end(journal, rc, err);
}

/* The session that goes first by age, or -1. One in which nothing has happened
 * for so long counts as ended: its container may have gone unseen. */
static int64_t oldest(struct cellar_journal *journal, uint64_t max_age_ms)
{
    char sql[512];
    uint64_t now = cellar_journal_clock_ms();
    uint64_t before = max_age_ms < now ? now - max_age_ms : 0;
    (void)snprintf(
        sql, sizeof sql,
        "SELECT id FROM sessions WHERE (ended_ms > 0 AND ended_ms <= %" PRIu64
        ") OR (ended_ms = 0 AND %" PRIu64 " > 0 AND created_ms <= %" PRIu64
        " AND NOT EXISTS (SELECT 1 FROM cells WHERE cells.id "
        "BETWEEN sessions.id << 32 AND (sessions.id << 32) + 4294967295 "
        "AND began_ms > %" PRIu64 ")) LIMIT 1",
        before, max_age_ms, before, before);
    return before > 0 ? cellar_journal_number(journal, sql) : -1;
}

struct prune {
    struct cellar_journal *journal;
    uint64_t max_age_ms, max_bytes;
    struct cellar_pruned done;
};

/* One step; *more: it did something. By age; then by size: sessions that have
 * ended, the oldest first; then outputs of the oldest cells. */
static enum cellar_code step(struct prune *prune, bool *more,
                             struct cellar_error *err)
{
    struct cellar_journal *journal = prune->journal;
    enum cellar_code code = CELLAR_OK;
    int64_t id = oldest(journal, prune->max_age_ms);
    bool large = bytes_used(journal) > prune->max_bytes;
    if (id < 0 && large)
        id = cellar_journal_number(journal,
                                   "SELECT id FROM sessions WHERE ended_ms > 0 "
                                   "ORDER BY ended_ms LIMIT 1");
    *more = id >= 0;
    if (id >= 0) {
        code = drop_session(journal, id, err);
        prune->done.sessions += code == CELLAR_OK;
    } else if (large) {
        id = cellar_journal_number(
            journal, "SELECT id FROM cells WHERE ended_ms > 0 AND pruned = 0 "
                     "AND untold ISNULL AND EXISTS "
                     "(SELECT 1 FROM outputs WHERE cell = cells.id) "
                     "ORDER BY ended_ms LIMIT 1");
        *more = id >= 0;
        if (id >= 0)
            code = drop_cell(journal, id, err);
        prune->done.cells += id >= 0 && code == CELLAR_OK;
    }
    return code;
}

/* At most so many steps; free pages go back to the file system at the end. */
static enum cellar_code run(struct prune *prune, uint64_t steps,
                            struct cellar_error *err)
{
    uint64_t before = bytes_used(prune->journal);
    bool more = true;
    bool any = false;
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < steps && more && code == CELLAR_OK; i++) {
        code = step(prune, &more, err);
        any |= more;
    }
    if (any)
        (void)cellar_journal_exec(prune->journal, "PRAGMA incremental_vacuum");
    uint64_t after = bytes_used(prune->journal);
    prune->done.size_bytes = after;
    prune->done.bytes = before > after ? before - after : 0;
    return code;
}

enum cellar_code cellar_journal_prune(struct cellar_journal *journal,
                                      uint64_t max_age_ms, uint64_t max_bytes,
                                      struct cellar_pruned *pruned,
                                      struct cellar_error *err)
{
    struct prune prune = {
        .journal = journal, .max_age_ms = max_age_ms, .max_bytes = max_bytes};
    enum cellar_code code = run(&prune, UINT64_MAX, err);
    if (code != CELLAR_OK)
        return code;
    (void)cellar_journal_exec(journal, "PRAGMA wal_checkpoint(TRUNCATE)");
    *pruned = prune.done;
    return CELLAR_OK;
}

static bool log_is_large(const struct cellar_journal *journal)
{
    char path[PATH_MAX];
    struct stat is;
    (void)snprintf(path, sizeof path, "%s-wal", journal->path);
    return stat(path, &is) == 0 && is.st_size > LOG_BYTES_MAX;
}

/* PASSIVE: others that read or write are not waited for. */
void cellar_journal_upkeep(struct cellar_journal *journal)
{
    struct prune prune = {.journal = journal,
                          .max_age_ms = CELLAR_HISTORY_AGE_MS,
                          .max_bytes = CELLAR_HISTORY_BYTES};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (log_is_large(journal))
        (void)sqlite3_wal_checkpoint_v2(journal->db, NULL,
                                        SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (journal->pruned_s && now.tv_sec - journal->pruned_s < PRUNE_S)
        return;
    (void)!run(&prune, STEPS_OF_UPKEEP, NULL);
    if (prune.done.sessions + prune.done.cells == 0)
        journal->pruned_s = now.tv_sec;
}
