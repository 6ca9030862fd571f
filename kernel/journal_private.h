/* What the files journal*.c share: the connection, its statements, errors. */
#ifndef CELLAR_KERNEL_JOURNAL_PRIVATE_H
#define CELLAR_KERNEL_JOURNAL_PRIVATE_H

#include <sqlite3.h>
#include <sys/types.h>

#include "fail.h"
#include "journal.h"

/* The statements that are run again and again: prepared when first used, and
 * kept. */
enum journal_statement {
    JOURNAL_BEGIN,
    JOURNAL_COMMIT,
    JOURNAL_ROLLBACK,
    JOURNAL_FIND_SESSION,
    JOURNAL_ADD_SESSION,
    JOURNAL_REVIVE_SESSION,
    JOURNAL_COPY_SESSION,
    JOURNAL_COPY_CELLS,
    JOURNAL_COPY_OUTPUTS,
    JOURNAL_LAST_CELL,
    JOURNAL_END_SESSION,
    JOURNAL_END_CELLS,
    JOURNAL_RESET,
    JOURNAL_RESTORE,
    JOURNAL_ADD_CELL,
    JOURNAL_FIND_CELL,
    JOURNAL_SET_OUTPUT_BYTES,
    JOURNAL_PUT_OUTPUT,
    JOURNAL_FIND_BLOB,
    JOURNAL_ADD_BLOB,
    JOURNAL_END_CELL,
    JOURNAL_CELLS,
    JOURNAL_UNTOLD,
    JOURNAL_TELL,
    JOURNAL_OUTPUTS,
    JOURNAL_GLANCE,
    JOURNAL_SESSIONS,
    JOURNAL_FIND_NAME,
    JOURNAL_STATEMENTS
};

/* journal_schema.c: what makes an empty file a journal, and one of version 1
 * one of today; the statements' texts. */
extern const char cellar_journal_schema[];
extern const char cellar_journal_upgrade[];
extern const char *const cellar_journal_texts[JOURNAL_STATEMENTS];

/* What a row of outputs holds. */
enum journal_kind {
    JOURNAL_STDOUT = 1,
    JOURNAL_STDERR = 2,
    JOURNAL_DISPLAY = 3,
    JOURNAL_RESULT = 4
};

struct cellar_journal {
    sqlite3 *db;
    char *path;
    dev_t dev; /* of the file that was opened: another one may be at its path */
    ino_t ino;
    sqlite3_stmt *statements[JOURNAL_STATEMENTS];
    uint64_t busy_since_ms; /* while another process is waited for */
    int64_t pruned_s; /* when upkeep has pruned last, monotonic; 0: never */
};

/* The statement, reset and without values. NULL: it can't be prepared. */
sqlite3_stmt *cellar_journal_statement(struct cellar_journal *journal,
                                       enum journal_statement which);
/* Runs a statement that gives no rows; NULL fails. An SQLite code. */
int cellar_journal_run(sqlite3_stmt *statement);
/* Runs SQL that is used seldom. */
int cellar_journal_exec(struct cellar_journal *journal, const char *sql);
/* One number of the first row of seldom used SQL; -1 where there is none. */
int64_t cellar_journal_number(struct cellar_journal *journal, const char *sql);

/* What an SQLite code comes to; CELLAR_OK for _OK, _ROW and _DONE. */
enum cellar_code cellar_journal_fail(const struct cellar_journal *journal,
                                     int rc, struct cellar_error *err);

/* A transaction for writing: begins it, unless the file at the journal's path
 * is another one by now; ends it, by `rc`, and returns what came of it. */
enum cellar_code cellar_journal_txn_begin(struct cellar_journal *journal,
                                          struct cellar_error *err);
enum cellar_code cellar_journal_txn_end(struct cellar_journal *journal, int rc,
                                        struct cellar_error *err);

/* Values: numbers beyond INT64_MAX are kept as that. NULL texts are NULL. */
void cellar_journal_bind(sqlite3_stmt *statement, int at, uint64_t value);
void cellar_journal_bind_text(sqlite3_stmt *statement, int at, const char *text,
                              size_t len);
uint64_t cellar_journal_column(sqlite3_stmt *statement, int at);
/* "" for NULL. Lent until the next step. */
const char *cellar_journal_column_text(sqlite3_stmt *statement, int at);
/* A copy in sound UTF-8 for the caller to free; untouched for NULL. False: no
 * memory. */
bool cellar_journal_column_copy(sqlite3_stmt *statement, int at, char **copy);
/* The same of bytes; a NUL that isn't counted follows. */
bool cellar_journal_column_bytes(sqlite3_stmt *statement, int at, char **copy,
                                 size_t *len);

/* ------------------------------------------------ journal_output.c ------- */

/* Where an output belongs. */
struct journal_slot {
    uint64_t cell; /* the row's id */
    enum journal_kind kind;
    size_t seq, part;
    const char *type;
    bool grows; /* it is not full yet: its bytes will come again, with more */
};

/* All of a stream from the piece on that `from` lies in; `ended`: the last
 * piece stays as it is. SQLITE_DONE. */
int cellar_journal_put_stream(struct cellar_journal *journal,
                              struct journal_slot slot, const char *data,
                              size_t from, size_t len, bool ended);
/* A MIME bundle, into parts of the slot; and a result's displays from `from`
 * on, of the cell with row `cell`. SQLITE_DONE. */
int cellar_journal_put_parts(struct cellar_journal *journal,
                             struct journal_slot slot,
                             const struct cellar_part *parts, size_t count);
int cellar_journal_put_displays(struct cellar_journal *journal, uint64_t cell,
                                const struct cellar_result *result,
                                size_t from);

#endif
