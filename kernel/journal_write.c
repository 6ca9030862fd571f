/* What is written into the journal as it happens. */
#include <string.h>

#include "journal_private.h"

/* ------------------------------------------------------------ sessions -- */

static int add_session(struct cellar_journal *journal,
                       const struct cellar_record *record,
                       struct cellar_journal_place *place)
{
    sqlite3_stmt *add = cellar_journal_statement(journal, JOURNAL_ADD_SESSION);
    char where[CELLAR_PLACE_MAX];
    const char *const values[] = {record->name, record->engine, record->image,
                                  where, record->python};
    cellar_record_place(record, where);
    if (!add)
        return sqlite3_errcode(journal->db);
    for (int i = 0; i < 5; i++)
        cellar_journal_bind_text(add, i + 1, values[i], strlen(values[i]));
    cellar_journal_bind(add, 6, record->created * 1000);
    int rc = cellar_journal_run(add);
    place->session = (uint64_t)sqlite3_last_insert_rowid(journal->db);
    return rc;
}

enum cellar_code cellar_journal_revive(struct cellar_journal *journal,
                                       uint64_t session,
                                       struct cellar_error *err)
{
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    sqlite3_stmt *revive =
        cellar_journal_statement(journal, JOURNAL_REVIVE_SESSION);
    cellar_journal_bind(revive, 1, session);
    return cellar_journal_txn_end(journal, cellar_journal_run(revive), err);
}

/* SQLITE_DONE: there is no such session. */
static int find_session(struct cellar_journal *journal, const char *container,
                        struct cellar_journal_place *place)
{
    sqlite3_stmt *find =
        cellar_journal_statement(journal, JOURNAL_FIND_SESSION);
    if (!find)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind_text(find, 1, container, strlen(container));
    int rc = sqlite3_step(find);
    if (rc == SQLITE_ROW) {
        place->session = cellar_journal_column(find, 0);
        place->ended = cellar_journal_column(find, 1) > 0;
    }
    (void)sqlite3_reset(find);
    return rc;
}

static int find_last_cell(struct cellar_journal *journal,
                          struct cellar_journal_place *place)
{
    sqlite3_stmt *last = cellar_journal_statement(journal, JOURNAL_LAST_CELL);
    if (!last)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(last, 1, place->session);
    int rc = sqlite3_step(last);
    if (rc == SQLITE_ROW) {
        place->last_cell = cellar_journal_column(last, 0);
        place->delivered = cellar_journal_column(last, 1);
    }
    (void)sqlite3_reset(last);
    return rc;
}

enum cellar_code cellar_journal_session(struct cellar_journal *journal,
                                        const struct cellar_record *record,
                                        struct cellar_journal_place *place,
                                        struct cellar_error *err)
{
    struct cellar_journal_place found = {0};
    char where[CELLAR_PLACE_MAX];
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    cellar_record_place(record, where);
    int rc = find_session(journal, where, &found);
    if (rc == SQLITE_DONE)
        rc = add_session(journal, record, &found);
    if (rc == SQLITE_DONE || rc == SQLITE_ROW)
        rc = find_last_cell(journal, &found);
    code = cellar_journal_txn_end(journal, rc, err);
    if (code == CELLAR_OK)
        *place = found;
    return code;
}

/* What was stored of `parent` as the same of `branch`. */
static int copy_past(struct cellar_journal *journal,
                     enum journal_statement which, uint64_t parent,
                     uint64_t branch, uint64_t after)
{
    sqlite3_stmt *copy = cellar_journal_statement(journal, which);
    if (!copy)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(copy, 1, parent);
    cellar_journal_bind(copy, 2, branch);
    cellar_journal_bind(copy, 3, after < UINT32_MAX ? after : UINT32_MAX);
    return cellar_journal_run(copy);
}

enum cellar_code cellar_journal_branch(struct cellar_journal *journal,
                                       uint64_t parent, uint64_t after,
                                       const struct cellar_record *branch,
                                       struct cellar_error *err)
{
    static const enum journal_statement copies[] = {
        JOURNAL_COPY_SESSION, JOURNAL_COPY_CELLS, JOURNAL_COPY_OUTPUTS};
    struct cellar_journal_place place = {0};
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    int rc = add_session(journal, branch, &place);
    for (size_t i = 0; i < 3 && rc == SQLITE_DONE; i++)
        rc = copy_past(journal, copies[i], parent, place.session, after);
    return cellar_journal_txn_end(journal, rc, err);
}

static int end_cells(struct cellar_journal *journal, uint64_t session,
                     const char *reason)
{
    sqlite3_stmt *cells = cellar_journal_statement(journal, JOURNAL_END_CELLS);
    if (!cells)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(cells, 1, session);
    cellar_journal_bind(cells, 2, cellar_journal_clock_ms());
    cellar_journal_bind_text(cells, 3, reason, strlen(reason));
    return cellar_journal_run(cells);
}

enum cellar_code cellar_journal_end_session(struct cellar_journal *journal,
                                            const char *place,
                                            const char *ending,
                                            const char *reason,
                                            struct cellar_error *err)
{
    const char *why = reason ? reason : "";
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    sqlite3_stmt *end = cellar_journal_statement(journal, JOURNAL_END_SESSION);
    if (!end)
        return cellar_journal_txn_end(journal, sqlite3_errcode(journal->db),
                                      err);
    cellar_journal_bind_text(end, 1, place, strlen(place));
    cellar_journal_bind(end, 2, cellar_journal_clock_ms());
    cellar_journal_bind_text(end, 3, ending, strlen(ending));
    cellar_journal_bind_text(end, 4, why, strlen(why));
    int rc = sqlite3_step(end);
    uint64_t session = rc == SQLITE_ROW ? cellar_journal_column(end, 0) : 0;
    (void)sqlite3_reset(end);
    if (session > 0)
        rc = end_cells(journal, session,
                       reason ? reason : "the session was stopped");
    return cellar_journal_txn_end(journal, rc, err);
}

/* Of one session; `cell` where the statement has a place for it. */
static enum cellar_code mark(struct cellar_journal *journal,
                             enum journal_statement which, uint64_t session,
                             uint64_t cell, struct cellar_error *err)
{
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    sqlite3_stmt *update = cellar_journal_statement(journal, which);
    if (!update)
        return cellar_journal_txn_end(journal, sqlite3_errcode(journal->db),
                                      err);
    cellar_journal_bind(update, 1, session);
    if (which == JOURNAL_RESTORE)
        cellar_journal_bind(update, 2, cell);
    return cellar_journal_txn_end(journal, cellar_journal_run(update), err);
}

enum cellar_code cellar_journal_reset(struct cellar_journal *journal,
                                      uint64_t session,
                                      struct cellar_error *err)
{
    return mark(journal, JOURNAL_RESET, session, 0, err);
}

enum cellar_code cellar_journal_restore(struct cellar_journal *journal,
                                        uint64_t session, uint64_t cell,
                                        struct cellar_error *err)
{
    return mark(journal, JOURNAL_RESTORE, session, cell, err);
}

/* --------------------------------------------------------------- cells -- */

/* As an agent may count. */
static enum cellar_code check_number(uint64_t cell, struct cellar_error *err)
{
    return cell <= UINT32_MAX
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_SYS,
                             "the journal can't hold a cell of so high a "
                             "number");
}

static int add_cell(struct cellar_journal *journal, uint64_t session,
                    uint64_t cell, const char *code, size_t code_len,
                    uint64_t timeout_ms)
{
    sqlite3_stmt *add = cellar_journal_statement(journal, JOURNAL_ADD_CELL);
    if (!add)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(add, 1, session);
    cellar_journal_bind(add, 2, cell);
    if (code)
        cellar_journal_bind_text(add, 3, code, code_len);
    cellar_journal_bind(add, 4, cellar_journal_clock_ms());
    cellar_journal_bind(add, 5, timeout_ms);
    return cellar_journal_run(add);
}

enum cellar_code cellar_journal_begin(struct cellar_journal *journal,
                                      uint64_t session, uint64_t cell,
                                      const char *code, size_t code_len,
                                      uint64_t timeout_ms,
                                      struct cellar_error *err)
{
    enum cellar_code begun = check_number(cell, err);
    if (begun == CELLAR_OK)
        begun = cellar_journal_txn_begin(journal, err);
    if (begun != CELLAR_OK)
        return begun;
    int rc = add_cell(journal, session, cell, code, code_len, timeout_ms);
    return cellar_journal_txn_end(journal, rc, err);
}

/* *id 0: there is none. */
static int find_cell(struct cellar_journal *journal, uint64_t session,
                     uint64_t cell, uint64_t *id)
{
    sqlite3_stmt *find = cellar_journal_statement(journal, JOURNAL_FIND_CELL);
    *id = 0;
    if (!find)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(find, 1, session);
    cellar_journal_bind(find, 2, cell);
    int rc = sqlite3_step(find);
    if (rc == SQLITE_ROW)
        *id = cellar_journal_column(find, 0);
    (void)sqlite3_reset(find);
    return rc;
}

/* As find_cell(), making what is missing: one whose begin could not be
 * written. */
static int need_cell(struct cellar_journal *journal, uint64_t session,
                     uint64_t cell, uint64_t *id)
{
    int rc = find_cell(journal, session, cell, id);
    if (rc != SQLITE_DONE)
        return rc;
    rc = add_cell(journal, session, cell, NULL, 0, 0);
    return rc == SQLITE_DONE ? find_cell(journal, session, cell, id) : rc;
}

/* ------------------------------------------------------------- outputs -- */

static int set_output_bytes(struct cellar_journal *journal, uint64_t cell,
                            uint64_t bytes, uint64_t delivered)
{
    sqlite3_stmt *set =
        cellar_journal_statement(journal, JOURNAL_SET_OUTPUT_BYTES);
    cellar_journal_bind(set, 1, cell);
    cellar_journal_bind(set, 2, bytes);
    cellar_journal_bind(set, 3, delivered);
    return cellar_journal_run(set);
}

static int put_collected(struct cellar_journal *journal, uint64_t cell,
                         const struct cellar_collect *collect,
                         const struct cellar_journal_mark *mark,
                         uint64_t delivered)
{
    int rc = SQLITE_DONE;
    for (int i = 0; rc == SQLITE_DONE && i < 2; i++)
        rc = cellar_journal_put_stream(
            journal,
            (struct journal_slot){cell, i + JOURNAL_STDOUT, 0, 0, "", false},
            (const char *)cellar_buf_peek(&collect->streams[i]),
            mark->stream_bytes[i], cellar_buf_len(&collect->streams[i]), false);
    if (rc == SQLITE_DONE)
        rc = cellar_journal_put_displays(journal, cell, collect->result,
                                         mark->displays);
    if (rc == SQLITE_DONE)
        rc = set_output_bytes(journal, cell,
                              cellar_buf_len(&collect->streams[0]) +
                                  cellar_buf_len(&collect->streams[1]) +
                                  collect->dropped,
                              delivered);
    return rc;
}

enum cellar_code cellar_journal_output(struct cellar_journal *journal,
                                       uint64_t session, uint64_t cell,
                                       const struct cellar_collect *collect,
                                       struct cellar_journal_mark *mark,
                                       uint64_t delivered,
                                       struct cellar_error *err)
{
    uint64_t id = 0;
    enum cellar_code code = check_number(cell, err);
    if (code == CELLAR_OK)
        code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    int rc = need_cell(journal, session, cell, &id);
    if (rc == SQLITE_ROW)
        rc = put_collected(journal, id, collect, mark, delivered);
    code = cellar_journal_txn_end(journal, rc, err);
    if (code != CELLAR_OK)
        return code;
    mark->stream_bytes[0] = cellar_buf_len(&collect->streams[0]);
    mark->stream_bytes[1] = cellar_buf_len(&collect->streams[1]);
    mark->displays = collect->result->display_count;
    return CELLAR_OK;
}

/* ----------------------------------------------------------------- end -- */

static void bind_optional(sqlite3_stmt *statement, int at, const char *text)
{
    if (text)
        cellar_journal_bind_text(statement, at, text, strlen(text));
}

static void bind_result(sqlite3_stmt *end, const struct cellar_result *result)
{
    cellar_journal_bind(end, 5, (uint64_t)result->status);
    cellar_journal_bind(end, 6, (uint64_t)result->state);
    cellar_journal_bind(end, 7, result->restored_from);
    cellar_journal_bind(end, 8, result->truncated);
    cellar_journal_bind(end, 9, result->dropped_bytes);
    bind_optional(end, 10, result->error_name);
    bind_optional(end, 11, result->error_message);
    bind_optional(end, 12, result->traceback);
    cellar_journal_bind(end, 13, (uint64_t)result->limit);
    cellar_journal_bind(end, 14, result->limit_value);
    cellar_journal_bind(end, 15, (uint64_t)result->exit_code);
    cellar_journal_bind(end, 16, (uint64_t)result->signal);
    bind_optional(end, 17, result->reason);
    cellar_journal_bind(end, 18, result->wall_us);
    cellar_journal_bind(end, 19, result->cpu_us);
    cellar_journal_bind(end, 20, result->peak_memory_bytes);
    cellar_journal_bind(end, 23, (uint64_t)result->checkpoint);
    bind_optional(end, 24, result->checkpoint_why);
    cellar_journal_bind(end, 21,
                        result->stdout_len + result->stderr_len +
                            result->dropped_bytes);
}

/* *id 0: the cell has no row, or an end already. */
static int end_cell(struct cellar_journal *journal, uint64_t session,
                    const struct cellar_result *result, bool told,
                    uint64_t delivered, uint64_t *id)
{
    sqlite3_stmt *end = cellar_journal_statement(journal, JOURNAL_END_CELL);
    if (!end)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(end, 1, session);
    cellar_journal_bind(end, 2, result->cell);
    cellar_journal_bind(end, 3, cellar_journal_clock_ms());
    cellar_journal_bind(end, 4, told);
    bind_result(end, result);
    cellar_journal_bind(end, 22, delivered);
    int rc = sqlite3_step(end);
    *id = rc == SQLITE_ROW ? cellar_journal_column(end, 0) : 0;
    (void)sqlite3_reset(end);
    return rc;
}

static int put_result(struct cellar_journal *journal, uint64_t cell,
                      const struct cellar_result *result,
                      const struct cellar_journal_mark *mark)
{
    struct journal_slot slot = {
        .cell = cell, .kind = JOURNAL_STDOUT, .type = ""};
    int rc = cellar_journal_put_stream(
        journal, slot, result->stdout_text, mark->stream_bytes[0],
        result->stdout_text ? result->stdout_len : 0, true);
    slot.kind = JOURNAL_STDERR;
    if (rc == SQLITE_DONE)
        rc = cellar_journal_put_stream(
            journal, slot, result->stderr_text, mark->stream_bytes[1],
            result->stderr_text ? result->stderr_len : 0, true);
    if (rc == SQLITE_DONE)
        rc = cellar_journal_put_displays(journal, cell, result, mark->displays);
    slot.kind = JOURNAL_RESULT;
    if (rc == SQLITE_DONE)
        rc = cellar_journal_put_parts(journal, slot, result->result,
                                      result->result_count);
    return rc;
}

enum cellar_code cellar_journal_end(struct cellar_journal *journal,
                                    uint64_t session,
                                    const struct cellar_result *result,
                                    const struct cellar_journal_mark *mark,
                                    bool told, uint64_t delivered, bool *first,
                                    struct cellar_error *err)
{
    uint64_t id = 0;
    uint64_t made = 0;
    enum cellar_code code = check_number(result->cell, err);
    if (code == CELLAR_OK)
        code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    int rc = end_cell(journal, session, result, told, delivered, &id);
    if (rc == SQLITE_DONE) {
        rc = need_cell(journal, session, result->cell, &made);
        if (rc == SQLITE_ROW)
            rc = end_cell(journal, session, result, told, delivered, &id);
    }
    if (rc == SQLITE_ROW)
        rc = put_result(journal, id, result, mark);
    code = cellar_journal_txn_end(journal, rc, err);
    if (code == CELLAR_OK)
        *first = id > 0;
    return code;
}
