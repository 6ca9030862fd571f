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
#define SCHEMA_VERSION 2 /* journal_schema.c */

/* No text or blob, and no statement, is longer: a damaged file can't make
 * SQLite take more memory than that. */
#define LENGTH_MAX (64 << 20)

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

/* --------------------------------------------------------- small parts -- */

sqlite3_stmt *cellar_journal_statement(struct cellar_journal *journal,
                                       enum journal_statement which)
{
    sqlite3_stmt **slot = &journal->statements[which];
    if (*slot) {
        (void)sqlite3_reset(*slot);
        (void)sqlite3_clear_bindings(*slot);
    } else {
        (void)sqlite3_prepare_v3(journal->db, cellar_journal_texts[which], -1,
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
    int rc = cellar_journal_exec(journal, cellar_journal_upgrade);
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
        return cellar_journal_fail(
            journal, cellar_journal_exec(journal, cellar_journal_schema), err);
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
