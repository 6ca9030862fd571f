/* The journal's file: opened, made, prepared for; what its failures mean. */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "journal_private.h"
#include "utf8.h"

/* "Cell", in the file's header; and the version of what follows. */
#define APPLICATION_ID 0x43656c6c
#define SCHEMA_VERSION 2

/* No text or blob, and no statement, is longer: a damaged file can't make
 * SQLite take more memory than that. */
#define LENGTH_MAX (64 << 20)

/* A cell's id is its session's id and its number, 32 bits each: one row in one
 * tree is all that a cell without output needs. `untold` is that id until
 * somebody was told, so that its index is empty as a rule. */
#define TAKEN_COLUMN       " taken INTEGER NOT NULL DEFAULT 0"
#define WHY_COLUMN         " taken_why TEXT"
#define CHECKPOINT_COLUMNS TAKEN_COLUMN "," WHY_COLUMN

/* How many restores somebody has asked for, and the cell that the last one went
 * back to; of a cell: before it. */
#define RESTORES_COLUMN " restores INTEGER NOT NULL DEFAULT 0"
#define BACK_COLUMN     " back_to INTEGER NOT NULL DEFAULT 0"
#define RESTORE_COLUMNS RESTORES_COLUMN "," BACK_COLUMN

static const char schema[] =
    "PRAGMA auto_vacuum = INCREMENTAL;"
    "PRAGMA journal_mode = WAL;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS sessions("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL, engine TEXT NOT NULL, image TEXT NOT NULL,"
    " container TEXT NOT NULL UNIQUE, python TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL DEFAULT 0,"
    " ending TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',"
    " resets INTEGER NOT NULL DEFAULT 0," RESTORE_COLUMNS ") STRICT;"
    "CREATE INDEX IF NOT EXISTS sessions_by_name ON sessions(name, id);"
    "CREATE TABLE IF NOT EXISTS cells("
    " id INTEGER PRIMARY KEY,"
    " code TEXT, began_ms INTEGER NOT NULL,"
    " ended_ms INTEGER NOT NULL DEFAULT 0, resets INTEGER NOT NULL,"
    " timeout_ms INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0,"
    " untold INTEGER,"
    " pruned INTEGER NOT NULL DEFAULT 0,"
    " output_bytes INTEGER NOT NULL DEFAULT 0,"
    " status INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL DEFAULT 0,"
    " restored_from INTEGER NOT NULL DEFAULT 0,"
    " truncated INTEGER NOT NULL DEFAULT 0,"
    " dropped_bytes INTEGER NOT NULL DEFAULT 0,"
    " error_name TEXT, error_message TEXT, traceback TEXT,"
    " limit_kind INTEGER NOT NULL DEFAULT 0,"
    " limit_value INTEGER NOT NULL DEFAULT 0,"
    " exit_code INTEGER NOT NULL DEFAULT 0,"
    " signal INTEGER NOT NULL DEFAULT 0, reason TEXT,"
    " wall_us INTEGER NOT NULL DEFAULT 0, cpu_us INTEGER NOT NULL DEFAULT 0,"
    " peak_memory_bytes INTEGER NOT NULL DEFAULT 0," CHECKPOINT_COLUMNS
    "," RESTORE_COLUMNS ") STRICT;"
    "CREATE INDEX IF NOT EXISTS cells_untold ON cells(untold)"
    " WHERE untold NOTNULL;"
    "CREATE TABLE IF NOT EXISTS blobs("
    " id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE,"
    " data BLOB NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS outputs("
    " cell INTEGER NOT NULL REFERENCES cells(id) ON DELETE CASCADE,"
    " kind INTEGER NOT NULL, seq INTEGER NOT NULL, part INTEGER NOT NULL,"
    " type TEXT NOT NULL, data BLOB, blob INTEGER REFERENCES blobs(id),"
    " PRIMARY KEY(cell, kind, seq, part)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS outputs_by_blob ON outputs(blob)"
    " WHERE blob NOTNULL;"
    "PRAGMA application_id = 1130720364;"
    "PRAGMA user_version = 2;"
    "COMMIT;";

/* Of a journal of version 1. */
static const char upgrade[] =
    "BEGIN IMMEDIATE;"
    "ALTER TABLE cells ADD COLUMN" TAKEN_COLUMN ";"
    "ALTER TABLE cells ADD COLUMN" WHY_COLUMN ";"
    "ALTER TABLE cells ADD COLUMN" RESTORES_COLUMN ";"
    "ALTER TABLE cells ADD COLUMN" BACK_COLUMN ";"
    "ALTER TABLE sessions ADD COLUMN" RESTORES_COLUMN ";"
    "ALTER TABLE sessions ADD COLUMN" BACK_COLUMN ";"
    "PRAGMA user_version = 2;"
    "COMMIT;";

/* Of every connection. A commit is in the file system's hands, not waited for
 * on the disk; the log is moved by upkeep, not by whoever writes last. */
static const char settings[] = "PRAGMA synchronous = NORMAL;"
                               "PRAGMA foreign_keys = ON;"
                               "PRAGMA trusted_schema = OFF;"
                               "PRAGMA cell_size_check = ON;"
                               "PRAGMA wal_autocheckpoint = 0;"
                               "PRAGMA journal_size_limit = 4194304;"
                               "PRAGMA temp_store = MEMORY;"
                               "PRAGMA cache_size = -512;";

/* The cells of session ?1; the number of a cell. */
#define OF_SESSION "id BETWEEN ?1 << 32 AND (?1 << 32) + 4294967295"
#define NUMBER     "id & 4294967295"

#define OF_ITS(column) "(SELECT " column " FROM sessions WHERE id = ?1)"

/* The cells of session ?1 up to number ?3. */
#define UP_TO(id) id " BETWEEN ?1 << 32 AND (?1 << 32) + ?3"

#define RESULT_COLUMNS                                                         \
    "status, state, restored_from, truncated, dropped_bytes, error_name, "     \
    "error_message, traceback, limit_kind, limit_value, exit_code, signal, "   \
    "reason, wall_us, cpu_us, peak_memory_bytes, taken, taken_why"

#define CELL_COLUMNS                                                           \
    "id, " NUMBER                                                              \
    ", code, began_ms, ended_ms, resets, untold ISNULL, pruned, status, "      \
    "state, restored_from, truncated, dropped_bytes, error_name, "             \
    "error_message, traceback, limit_kind, limit_value, exit_code, signal, "   \
    "reason, wall_us, cpu_us, peak_memory_bytes, timeout_ms, taken, "          \
    "taken_why, restores, back_to"

static const char *const texts[JOURNAL_STATEMENTS] = {
    [JOURNAL_BEGIN] = "BEGIN IMMEDIATE",
    [JOURNAL_COMMIT] = "COMMIT",
    [JOURNAL_ROLLBACK] = "ROLLBACK",
    [JOURNAL_FIND_SESSION] =
        "SELECT id, ended_ms FROM sessions WHERE container = ?1",
    [JOURNAL_ADD_SESSION] =
        "INSERT INTO sessions(name, engine, image, container, python, "
        "created_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [JOURNAL_REVIVE_SESSION] =
        "UPDATE sessions SET ended_ms = 0, ending = '', reason = '' "
        "WHERE id = ?1",
    [JOURNAL_COPY_SESSION] =
        "UPDATE sessions SET (resets, restores, back_to) = (SELECT resets, "
        "restores, back_to FROM sessions WHERE id = ?1) "
        "WHERE id = ?2 AND ?3 >= 0",
    [JOURNAL_COPY_CELLS] =
        "INSERT INTO cells(id, code, began_ms, ended_ms, resets, restores, "
        "back_to, timeout_ms, pruned, output_bytes, " RESULT_COLUMNS
        ") SELECT (?2 << 32) + (" NUMBER
        "), code, began_ms, ended_ms, resets, restores, back_to, timeout_ms, "
        "pruned, output_bytes, " RESULT_COLUMNS
        " FROM cells WHERE " UP_TO("id") " AND ended_ms > 0",
    [JOURNAL_COPY_OUTPUTS] =
        "INSERT INTO outputs(cell, kind, seq, part, type, data, blob) "
        "SELECT (?2 << 32) + (cell & 4294967295), kind, seq, part, type, data, "
        "blob FROM outputs WHERE " UP_TO(
            "cell") " AND EXISTS (SELECT 1 FROM cells "
                    "WHERE cells.id = outputs.cell AND cells.ended_ms > 0)",
    [JOURNAL_LAST_CELL] =
        "SELECT max(cell), max(delivered) FROM (SELECT " NUMBER
        " AS cell, delivered FROM cells WHERE " OF_SESSION
        " ORDER BY id DESC LIMIT 100)",
    [JOURNAL_END_SESSION] =
        "UPDATE sessions SET ended_ms = ?2, ending = ?3, reason = ?4 "
        "WHERE container = ?1 AND ended_ms = 0 RETURNING id",
    [JOURNAL_END_CELLS] =
        "UPDATE cells SET ended_ms = ?2, status = 7, state = 2, reason = ?3 "
        "WHERE " OF_SESSION " AND ended_ms = 0",
    [JOURNAL_RESET] = "UPDATE sessions SET resets = resets + 1 WHERE id = ?1",
    [JOURNAL_RESTORE] = "UPDATE sessions SET restores = restores + 1, "
                        "back_to = ?2 WHERE id = ?1",
    [JOURNAL_ADD_CELL] =
        "INSERT INTO cells(id, code, began_ms, timeout_ms, resets, restores, "
        "back_to) VALUES((?1 << 32) + ?2, ?3, ?4, ?5, " OF_ITS(
            "resets") ", " OF_ITS("restores") ", " OF_ITS("back_to") ") "
                                                                     "ON "
                                                                     "CONFLICT("
                                                                     "id) DO "
                                                                     "UPDATE "
                                                                     "SET code "
                                                                     "= "
                                                                     "excluded."
                                                                     "code, "
                                                                     "timeout_"
                                                                     "ms = "
                                                                     "excluded."
                                                                     "timeout_"
                                                                     "ms WHERE "
                                                                     "code "
                                                                     "ISNULL",
    [JOURNAL_FIND_CELL] =
        "SELECT id, timeout_ms FROM cells WHERE id = (?1 << 32) + ?2",
    [JOURNAL_SET_OUTPUT_BYTES] =
        "UPDATE cells SET output_bytes = ?2, delivered = ?3 WHERE id = ?1",
    [JOURNAL_PUT_OUTPUT] =
        "INSERT OR REPLACE INTO outputs(cell, kind, seq, part, type, data, "
        "blob) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [JOURNAL_FIND_BLOB] = "SELECT id FROM blobs WHERE hash = ?1",
    [JOURNAL_ADD_BLOB] = "INSERT INTO blobs(hash, data) VALUES(?1, ?2)",
    [JOURNAL_END_CELL] =
        "UPDATE cells SET ended_ms = ?3, "
        "untold = iif(?4, NULL, id), status = ?5, state = ?6, "
        "restored_from = ?7, truncated = ?8, dropped_bytes = ?9, "
        "error_name = ?10, error_message = ?11, traceback = ?12, "
        "limit_kind = ?13, limit_value = ?14, exit_code = ?15, signal = ?16, "
        "reason = ?17, wall_us = ?18, cpu_us = ?19, peak_memory_bytes = ?20, "
        "output_bytes = ?21, delivered = ?22, taken = ?23, taken_why = ?24 "
        "WHERE id = (?1 << 32) + ?2 AND ended_ms = 0 RETURNING id",
    [JOURNAL_CELLS] = "SELECT " CELL_COLUMNS " FROM cells WHERE " OF_SESSION
                      " AND id >= (?1 << 32) + ?2 ORDER BY id",
    [JOURNAL_UNTOLD] =
        "SELECT " CELL_COLUMNS " FROM cells WHERE untold BETWEEN ?1 << 32 "
        "AND (?1 << 32) + 4294967295 ORDER BY untold LIMIT 1",
    [JOURNAL_TELL] = "UPDATE cells SET untold = NULL WHERE id = ?1",
    [JOURNAL_OUTPUTS] =
        "SELECT o.kind, o.seq, o.part, o.type, coalesce(b.data, o.data) "
        "FROM outputs o LEFT JOIN blobs b ON b.id = o.blob "
        "WHERE o.cell = ?1 ORDER BY o.kind, o.seq, o.part",
    [JOURNAL_GLANCE] = "SELECT count(c.id), sum(c.output_bytes), "
                       "max(s.created_ms, coalesce(max(c.ended_ms), 0)), "
                       "coalesce(max(c.ended_ms = 0), 0), s.id FROM sessions s "
                       "LEFT JOIN cells c ON c.id BETWEEN s.id << 32 "
                       "AND (s.id << 32) + 4294967295 WHERE s.container = ?1",
    [JOURNAL_SESSIONS] =
        "SELECT s.id, s.name, s.engine, s.image, s.container, s.python, "
        "s.created_ms, s.ended_ms, s.ending, s.reason, count(c.id), "
        "sum(c.output_bytes) FROM sessions s "
        "LEFT JOIN cells c ON c.id BETWEEN s.id << 32 "
        "AND (s.id << 32) + 4294967295 GROUP BY s.id ORDER BY s.id",
    [JOURNAL_FIND_NAME] =
        "SELECT id FROM sessions WHERE name = ?1 ORDER BY id DESC LIMIT 1",
};

/* --------------------------------------------------------- small parts -- */

sqlite3_stmt *cellar_journal_statement(struct cellar_journal *journal,
                                       enum journal_statement which)
{
    sqlite3_stmt **slot = &journal->statements[which];
    if (*slot) {
        (void)sqlite3_reset(*slot);
        (void)sqlite3_clear_bindings(*slot);
    } else {
        (void)sqlite3_prepare_v3(journal->db, texts[which], -1,
                                 SQLITE_PREPARE_PERSISTENT, slot, NULL);
    }
    return *slot;
}

/* A row that comes of RETURNING is read by the caller, before. */
int cellar_journal_run(sqlite3_stmt *statement)
{
    if (!statement)
        return SQLITE_ERROR;
    int rc = sqlite3_step(statement);
    (void)sqlite3_reset(statement);
    return rc;
}

int cellar_journal_exec(struct cellar_journal *journal, const char *sql)
{
    return sqlite3_exec(journal->db, sql, NULL, NULL, NULL);
}

int64_t cellar_journal_number(struct cellar_journal *journal, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;
    if (sqlite3_prepare_v2(journal->db, sql, -1, &statement, NULL) ==
            SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return number;
}

void cellar_journal_bind(sqlite3_stmt *statement, int at, uint64_t value)
{
    (void)sqlite3_bind_int64(
        statement, at, value > INT64_MAX ? INT64_MAX : (sqlite3_int64)value);
}

void cellar_journal_bind_text(sqlite3_stmt *statement, int at, const char *text,
                              size_t len)
{
    (void)sqlite3_bind_text64(statement, at, text, len, SQLITE_STATIC,
                              SQLITE_UTF8);
}

uint64_t cellar_journal_column(sqlite3_stmt *statement, int at)
{
    sqlite3_int64 value = sqlite3_column_int64(statement, at);
    return value > 0 ? (uint64_t)value : 0;
}

const char *cellar_journal_column_text(sqlite3_stmt *statement, int at)
{
    const char *text = (const char *)sqlite3_column_text(statement, at);
    return text ? text : "";
}

bool cellar_journal_column_copy(sqlite3_stmt *statement, int at, char **copy)
{
    if (sqlite3_column_type(statement, at) == SQLITE_NULL)
        return true;
    const char *text = cellar_journal_column_text(statement, at);
    *copy = cellar_utf8_mend(text, strlen(text), NULL);
    return *copy != NULL;
}

bool cellar_journal_column_bytes(sqlite3_stmt *statement, int at, char **copy,
                                 size_t *len)
{
    const void *data = sqlite3_column_blob(statement, at);
    size_t n = (size_t)sqlite3_column_bytes(statement, at);
    *copy = calloc(1, n + 1);
    if (!*copy)
        return false;
    if (n > 0)
        memcpy(*copy, data, n);
    *len = n;
    return true;
}

uint64_t cellar_journal_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ------------------------------------------------------------- failing -- */

static enum cellar_code fail_system(const struct cellar_journal *journal,
                                    struct cellar_error *err)
{
    int why = sqlite3_system_errno(journal->db);
    if (why == ENOSPC || why == EDQUOT || why == EFBIG)
        return cellar_fail(err, CELLAR_E_SYS,
                           "%s can't be written: %s; cells are not recorded "
                           "until there is room",
                           journal->path, strerror(why));
    return cellar_fail(err, CELLAR_E_SYS, "%s: %s%s%s", journal->path,
                       sqlite3_errmsg(journal->db), why ? ": " : "",
                       why ? strerror(why) : "");
}

enum cellar_code cellar_journal_fail(const struct cellar_journal *journal,
                                     int rc, struct cellar_error *err)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return CELLAR_OK;
    case SQLITE_NOMEM:
        return cellar_fail(err, CELLAR_E_NOMEM, "%s: out of memory",
                           journal->path);
    case SQLITE_FULL:
        return cellar_fail(err, CELLAR_E_SYS,
                           "%s can't be written: no space is left on its file "
                           "system; cells are not recorded until there is",
                           journal->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return cellar_fail(err, CELLAR_E_SYS,
                           "%s is damaged, cells are not recorded; move it "
                           "away (mv %s %s.damaged), and a new one is made",
                           journal->path, journal->path, journal->path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return cellar_fail(err, CELLAR_E_SYS,
                           "%s is in use by another process for too long",
                           journal->path);
    default:
        return fail_system(journal, err);
    }
}

/* ------------------------------------------------------------ opening --- */

/* Made by us, so that nobody else may read it: SQLite gives its other files
 * the same mode. */
static enum cellar_code touch(struct cellar_journal *journal,
                              struct cellar_error *err)
{
    struct stat is;
    CELLAR_AUTO_CLOSE int fd =
        open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fstat(fd, &is) < 0)
        return cellar_fail_errno(err, errno, "%s", journal->path);
    if (!S_ISREG(is.st_mode))
        return cellar_fail(err, CELLAR_E_SYS, "%s is no file", journal->path);
    journal->dev = is.st_dev;
    journal->ino = is.st_ino;
    return CELLAR_OK;
}

/* A transaction takes some tens of microseconds: SQLite's own waiting, of
 * milliseconds, would let a process that writes much keep all others out. */
static int wait_for_writer(void *user, int tries)
{
    struct cellar_journal *journal = user;
    uint64_t now = cellar_journal_clock_ms();
    if (tries == 0)
        journal->busy_since_ms = now;
    if (now - journal->busy_since_ms >= CELLAR_JOURNAL_BUSY_MS)
        return 0;
    uint32_t us = 20 + randombytes_uniform(tries < 20 ? 200 : 2000);
    (void)nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
    return 1;
}

static int configure(struct cellar_journal *journal)
{
    sqlite3 *db = journal->db;
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_busy_handler(db, wait_for_writer, journal);
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
    (void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    return cellar_journal_exec(journal, settings);
}

/* Another process may do the same at this moment: the one that comes second
 * finds it done. */
static enum cellar_code bring_up(struct cellar_journal *journal,
                                 struct cellar_error *err)
{
    int rc = cellar_journal_exec(journal, upgrade);
    enum cellar_code code = cellar_journal_fail(journal, rc, err);
    if (!sqlite3_get_autocommit(journal->db))
        (void)cellar_journal_exec(journal, "ROLLBACK");
    if (cellar_journal_number(journal, "PRAGMA user_version") == SCHEMA_VERSION)
        code = CELLAR_OK;
    return code;
}

/* An empty file becomes a journal; another program's file, or one of a later
 * version, is left alone. */
static enum cellar_code check_schema(struct cellar_journal *journal,
                                     struct cellar_error *err)
{
    int64_t version = cellar_journal_number(journal, "PRAGMA user_version");
    int64_t owner = cellar_journal_number(journal, "PRAGMA application_id");
    int64_t pages = cellar_journal_number(journal, "PRAGMA page_count");
    if (version < 0 || owner < 0 || pages < 0)
        return cellar_journal_fail(journal,
                                   sqlite3_extended_errcode(journal->db), err);
    if (pages == 0 || (version == 0 && owner == 0))
        return cellar_journal_fail(journal,
                                   cellar_journal_exec(journal, schema), err);
    if (owner != APPLICATION_ID)
        return cellar_fail(err, CELLAR_E_SYS,
                           "%s is no journal of Cellar's; move it away",
                           journal->path);
    if (version > SCHEMA_VERSION)
        return cellar_fail(err, CELLAR_E_SYS,
                           "%s is of a later version of Cellar", journal->path);
    return version < SCHEMA_VERSION ? bring_up(journal, err) : CELLAR_OK;
}

static enum cellar_code open_file(struct cellar_journal *journal,
                                  struct cellar_error *err)
{
    enum cellar_code code = touch(journal, err);
    if (code != CELLAR_OK)
        return code;
    int rc = sqlite3_open_v2(journal->path, &journal->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                                 SQLITE_OPEN_NOFOLLOW,
                             NULL);
    if (rc == SQLITE_OK)
        rc = configure(journal);
    if (rc != SQLITE_OK)
        return journal->db ? cellar_journal_fail(journal, rc, err)
                           : cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    return check_schema(journal, err);
}

enum cellar_code cellar_journal_open(const char *state_dir,
                                     struct cellar_journal **out,
                                     struct cellar_error *err)
{
    char real[PATH_MAX];
    if (!realpath(state_dir, real))
        return cellar_fail_errno(err, errno, "state directory %s", state_dir);
    struct cellar_journal *journal = calloc(1, sizeof *journal);
    if (!journal || asprintf(&journal->path, "%s/journal.db", real) < 0) {
        free(journal);
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    }
    enum cellar_code code = open_file(journal, err);
    if (code != CELLAR_OK) {
        cellar_journal_close(journal);
        return code;
    }
    *out = journal;
    return CELLAR_OK;
}

void cellar_journal_close(struct cellar_journal *journal)
{
    if (!journal)
        return;
    for (size_t i = 0; i < JOURNAL_STATEMENTS; i++)
        (void)sqlite3_finalize(journal->statements[i]);
    (void)sqlite3_close(journal->db);
    free(journal->path);
    free(journal);
}

/* -------------------------------------------------------- transactions -- */

static bool is_there(const struct cellar_journal *journal)
{
    struct stat is;
    return stat(journal->path, &is) == 0 && is.st_dev == journal->dev &&
           is.st_ino == journal->ino;
}

enum cellar_code cellar_journal_txn_begin(struct cellar_journal *journal,
                                          struct cellar_error *err)
{
    if (!is_there(journal))
        return cellar_fail(err, CELLAR_E_SYS,
                           "%s was removed, or replaced, while it was in use: "
                           "cells of this process are not recorded",
                           journal->path);
    int rc =
        cellar_journal_run(cellar_journal_statement(journal, JOURNAL_BEGIN));
    return cellar_journal_fail(journal, rc, err);
}

enum cellar_code cellar_journal_txn_end(struct cellar_journal *journal, int rc,
                                        struct cellar_error *err)
{
    bool fine = rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW;
    if (fine)
        rc = cellar_journal_run(
            cellar_journal_statement(journal, JOURNAL_COMMIT));
    fine = rc == SQLITE_OK || rc == SQLITE_DONE;
    enum cellar_code code = cellar_journal_fail(journal, rc, err);
    /* Some failures have rolled back already. */
    if (!fine && !sqlite3_get_autocommit(journal->db))
        (void)cellar_journal_run(
            cellar_journal_statement(journal, JOURNAL_ROLLBACK));
    return code;
}
