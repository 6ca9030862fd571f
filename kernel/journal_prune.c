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

/* Cells whose outputs are given up at a time. */
#define CELLS_AT_ONCE "64"

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

/* Runs `sql` and what no row refers to any more goes; *changed: rows of the
 * first statement. */
static enum cellar_code drop(struct cellar_journal *journal, const char *sql,
                             uint64_t *changed, struct cellar_error *err)
{
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    int rc = cellar_journal_exec(journal, sql);
    *changed = (uint64_t)sqlite3_changes(journal->db);
    if (rc == SQLITE_OK && *changed > 0)
        rc = cellar_journal_exec(
            journal, "DELETE FROM outputs WHERE cell IN "
                     "(SELECT id FROM cells WHERE pruned = 1);"
                     "DELETE FROM blobs WHERE id NOT IN "
                     "(SELECT blob FROM outputs WHERE blob NOTNULL)");
    return cellar_journal_txn_end(journal, rc, err);
}

/* A session in which nothing has happened for so long counts as ended: its
 * container may have gone with its engine, unseen. */
static enum cellar_code drop_old(struct cellar_journal *journal,
                                 uint64_t max_age_ms,
                                 struct cellar_pruned *pruned,
                                 struct cellar_error *err)
{
    char sql[512];
    uint64_t now = cellar_journal_clock_ms();
    uint64_t before = max_age_ms < now ? now - max_age_ms : 0;
    (void)snprintf(
        sql, sizeof sql,
        "DELETE FROM sessions WHERE (ended_ms > 0 AND ended_ms <= %" PRIu64
        ") OR (ended_ms = 0 AND %" PRIu64 " > 0 AND created_ms <= %" PRIu64
        " AND NOT EXISTS (SELECT 1 FROM cells WHERE "
        "session = sessions.id AND began_ms > %" PRIu64 "))",
        before, max_age_ms, before, before);
    return before > 0 ? drop(journal, sql, &pruned->sessions, err) : CELLAR_OK;
}

/* The oldest that ended, one by one; then outputs of the oldest cells. */
static enum cellar_code drop_large(struct cellar_journal *journal,
                                   uint64_t max_bytes,
                                   struct cellar_pruned *pruned,
                                   struct cellar_error *err)
{
    static const char *const steps[] = {
        "DELETE FROM sessions WHERE id = (SELECT id FROM sessions "
        "WHERE ended_ms > 0 ORDER BY ended_ms LIMIT 1)",
        "UPDATE cells SET pruned = 1 WHERE id IN (SELECT id FROM cells "
        "WHERE ended_ms > 0 AND pruned = 0 AND told = 1 "
        "AND EXISTS (SELECT 1 FROM outputs WHERE cell = cells.id) "
        "ORDER BY ended_ms LIMIT " CELLS_AT_ONCE ")"};
    uint64_t *const counts[] = {&pruned->sessions, &pruned->cells};
    for (size_t i = 0; i < 2; i++) {
        uint64_t changed = 1;
        while (changed > 0 && bytes_used(journal) > max_bytes) {
            enum cellar_code code = drop(journal, steps[i], &changed, err);
            if (code != CELLAR_OK)
                return code;
            *counts[i] += changed;
        }
    }
    return CELLAR_OK;
}

enum cellar_code cellar_journal_prune(struct cellar_journal *journal,
                                      uint64_t max_age_ms, uint64_t max_bytes,
                                      struct cellar_pruned *pruned,
                                      struct cellar_error *err)
{
    struct cellar_pruned done = {0};
    uint64_t before = bytes_used(journal);
    enum cellar_code code = drop_old(journal, max_age_ms, &done, err);
    if (code == CELLAR_OK && max_bytes < INT64_MAX)
        code = drop_large(journal, max_bytes, &done, err);
    if (code != CELLAR_OK)
        return code;
    /* Free pages go back to the file system where nobody reads the log. */
    (void)cellar_journal_exec(journal, "PRAGMA incremental_vacuum;"
                                       "PRAGMA wal_checkpoint(TRUNCATE)");
    done.size_bytes = bytes_used(journal);
    done.bytes = before > done.size_bytes ? before - done.size_bytes : 0;
    *pruned = done;
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
    struct cellar_pruned pruned;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (log_is_large(journal))
        (void)sqlite3_wal_checkpoint_v2(journal->db, NULL,
                                        SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (journal->pruned_s && now.tv_sec - journal->pruned_s < PRUNE_S)
        return;
    journal->pruned_s = now.tv_sec;
    (void)!cellar_journal_prune(journal, CELLAR_HISTORY_AGE_MS,
                                CELLAR_HISTORY_BYTES, &pruned, NULL);
}
