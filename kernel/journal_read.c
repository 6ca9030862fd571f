/* What is read back from the journal. A damaged file may say anything: every
 * number is checked, every size bounded. */
#include <string.h>

#include "journal_private.h"
#include "proto/limits.h"
#include "utf8.h"

/* Of one cell's output that is read back; no session may be set to more. */
#define OUTPUT_BYTES_MAX ((uint64_t)1 << 32)

/* The columns of a cell, as CELL_COLUMNS in journal.c has them. */
enum column {
    ID,
    CELL,
    CODE,
    BEGAN,
    ENDED,
    RESETS,
    TOLD,
    PRUNED,
    STATUS,
    STATE,
    RESTORED_FROM,
    TRUNCATED,
    DROPPED,
    ERROR_NAME,
    ERROR_MESSAGE,
    TRACEBACK,
    LIMIT,
    LIMIT_VALUE,
    EXIT_CODE,
    SIGNAL,
    REASON,
    WALL_US,
    CPU_US,
    PEAK_MEMORY,
    TIMEOUT_MS,
    TAKEN,
    TAKEN_WHY,
    RESTORES,
    BACK_TO
};

static bool is_sound(const char *text)
{
    return cellar_utf8_valid(text, strlen(text));
}

/* ------------------------------------------------------------- outputs -- */

/* The display that is being put together from its parts' rows. */
struct bundle {
    struct cellar_collect *collect;
    uint64_t seq;
    size_t count;
    struct {
        char *type;
        char *data;
        size_t len;
    } parts[CELLAR_MIME_MAX];
};

static void finish_bundle(struct bundle *bundle)
{
    struct cellar_msg_display display = {.count = bundle->count};
    for (size_t i = 0; i < bundle->count; i++) {
        const char *type = bundle->parts[i].type;
        display.parts[i] = (struct cellar_mime_part){
            {(const uint8_t *)type, type ? strlen(type) : 0},
            {(const uint8_t *)bundle->parts[i].data, bundle->parts[i].len}};
    }
    if (display.count > 0)
        cellar_collect_display(bundle->collect, &display);
    for (size_t i = 0; i < bundle->count; i++) {
        free(bundle->parts[i].type);
        free(bundle->parts[i].data);
    }
    bundle->count = 0;
}

static int add_part(struct bundle *bundle, sqlite3_stmt *row, uint64_t seq)
{
    if (seq != bundle->seq)
        finish_bundle(bundle);
    bundle->seq = seq;
    if (bundle->count >= CELLAR_MIME_MAX)
        return SQLITE_CORRUPT;
    size_t i = bundle->count++;
    bundle->parts[i].type = NULL;
    bundle->parts[i].data = NULL;
    return cellar_journal_column_copy(row, 3, &bundle->parts[i].type) &&
                   cellar_journal_column_bytes(row, 4, &bundle->parts[i].data,
                                               &bundle->parts[i].len)
               ? SQLITE_OK
               : SQLITE_NOMEM;
}

static int add_result(struct cellar_collect *collect, sqlite3_stmt *row)
{
    const void *data = sqlite3_column_blob(row, 4);
    size_t len = (size_t)sqlite3_column_bytes(row, 4);
    switch (cellar_collect_part(collect, cellar_journal_column_text(row, 3),
                                len ? data : "", len)) {
    case CELLAR_OK:
        return SQLITE_OK;
    case CELLAR_E_NOMEM:
        return SQLITE_NOMEM;
    default:
        return SQLITE_CORRUPT;
    }
}

static int add_output(struct bundle *bundle, sqlite3_stmt *row)
{
    uint64_t kind = cellar_journal_column(row, 0);
    uint64_t seq = cellar_journal_column(row, 1);
    struct cellar_collect *collect = bundle->collect;
    switch (kind) {
    case JOURNAL_STDOUT:
    case JOURNAL_STDERR:
        (void)cellar_collect_output(collect, (int)kind,
                                    sqlite3_column_blob(row, 4),
                                    (size_t)sqlite3_column_bytes(row, 4));
        return SQLITE_OK;
    case JOURNAL_DISPLAY:
        return add_part(bundle, row, seq);
    case JOURNAL_RESULT:
        return add_result(collect, row);
    default:
        return SQLITE_CORRUPT;
    }
}

/* All outputs of the cell with row `id`, into `collect`. SQLITE_DONE. */
static int read_outputs(struct cellar_journal *journal, uint64_t id,
                        struct cellar_collect *collect)
{
    struct bundle bundle = {.collect = collect};
    sqlite3_stmt *rows = cellar_journal_statement(journal, JOURNAL_OUTPUTS);
    if (!rows)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(rows, 1, id);
    int rc = sqlite3_step(rows);
    while (rc == SQLITE_ROW) {
        rc = add_output(&bundle, rows);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(rows);
    }
    finish_bundle(&bundle);
    (void)sqlite3_reset(rows);
    return rc;
}

/* ------------------------------------------------------------- results -- */

/* False: the numbers are none of a result. */
static bool read_numbers(sqlite3_stmt *row, struct cellar_result *result)
{
    uint64_t status = cellar_journal_column(row, STATUS);
    uint64_t state = cellar_journal_column(row, STATE);
    uint64_t limit = cellar_journal_column(row, LIMIT);
    uint64_t taken = cellar_journal_column(row, TAKEN);
    if (status > CELLAR_STATUS_LOST || state > CELLAR_STATE_FRESH ||
        limit > CELLAR_LIMIT_LIFETIME || taken > CELLAR_TAKEN_NO)
        return false;
    result->checkpoint = (enum cellar_taken)taken;
    result->status = (enum cellar_status)status;
    result->state = (enum cellar_state)state;
    result->limit = (enum cellar_limit)limit;
    result->restored_from = cellar_journal_column(row, RESTORED_FROM);
    result->truncated = cellar_journal_column(row, TRUNCATED) > 0;
    result->exit_code = (int)(cellar_journal_column(row, EXIT_CODE) & 0xff);
    result->signal = (int)(cellar_journal_column(row, SIGNAL) & 0x7f);
    result->wall_us = cellar_journal_column(row, WALL_US);
    result->cpu_us = cellar_journal_column(row, CPU_US);
    result->peak_memory_bytes = cellar_journal_column(row, PEAK_MEMORY);
    return true;
}

static int read_fields(sqlite3_stmt *row, struct cellar_collect *collect)
{
    struct cellar_result *result = collect->result;
    if (!read_numbers(row, result))
        return SQLITE_CORRUPT;
    collect->dropped = cellar_journal_column(row, DROPPED);
    return cellar_journal_column_copy(row, ERROR_NAME, &result->error_name) &&
                   cellar_journal_column_copy(row, ERROR_MESSAGE,
                                              &result->error_message) &&
                   cellar_journal_column_copy(row, TRACEBACK,
                                              &result->traceback) &&
                   cellar_journal_column_copy(row, REASON, &result->reason) &&
                   cellar_journal_column_copy(row, TAKEN_WHY,
                                              &result->checkpoint_why)
               ? SQLITE_OK
               : SQLITE_NOMEM;
}

/* The result that the row tells of; the caller frees it. */
static int read_result(struct cellar_journal *journal, sqlite3_stmt *row,
                       struct cellar_result **out)
{
    struct cellar_collect collect = {0};
    struct cellar_limits limits = {.output_bytes = OUTPUT_BYTES_MAX};
    if (cellar_collect_init(&collect, cellar_journal_column(row, CELL),
                            &limits) != CELLAR_OK)
        return SQLITE_NOMEM;
    int rc = read_fields(row, &collect);
    if (rc == SQLITE_OK)
        rc = read_outputs(journal, cellar_journal_column(row, ID), &collect);
    if (rc != SQLITE_DONE) {
        cellar_collect_done(&collect);
        return rc;
    }
    enum cellar_limit limit = collect.result->limit;
    *out = cellar_collect_take(&collect);
    (*out)->limit = limit;
    (*out)->limit_value = cellar_journal_column(row, LIMIT_VALUE);
    return SQLITE_OK;
}

enum cellar_code cellar_journal_resume(struct cellar_journal *journal,
                                       uint64_t session, uint64_t cell,
                                       struct cellar_collect *collect,
                                       struct cellar_journal_mark *mark,
                                       struct cellar_error *err)
{
    sqlite3_stmt *find = cellar_journal_statement(journal, JOURNAL_FIND_CELL);
    if (!find)
        return cellar_journal_fail(journal, sqlite3_errcode(journal->db), err);
    cellar_journal_bind(find, 1, session);
    cellar_journal_bind(find, 2, cell);
    int rc = sqlite3_step(find);
    uint64_t id = rc == SQLITE_ROW ? cellar_journal_column(find, 0) : 0;
    if (id > 0)
        collect->limits.timeout_ms = cellar_journal_column(find, 1);
    (void)sqlite3_reset(find);
    if (id > 0)
        rc = read_outputs(journal, id, collect);
    mark->stream_bytes[0] = cellar_buf_len(&collect->streams[0]);
    mark->stream_bytes[1] = cellar_buf_len(&collect->streams[1]);
    mark->displays = collect->result->display_count;
    return cellar_journal_fail(journal, rc, err);
}

static int take_untold(struct cellar_journal *journal, uint64_t session,
                       struct cellar_result **result)
{
    sqlite3_stmt *row = cellar_journal_statement(journal, JOURNAL_UNTOLD);
    if (!row)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(row, 1, session);
    int rc = sqlite3_step(row);
    uint64_t id = rc == SQLITE_ROW ? cellar_journal_column(row, ID) : 0;
    if (rc == SQLITE_ROW)
        rc = read_result(journal, row, result);
    (void)sqlite3_reset(row);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_stmt *tell = cellar_journal_statement(journal, JOURNAL_TELL);
    cellar_journal_bind(tell, 1, id);
    return cellar_journal_run(tell);
}

enum cellar_code cellar_journal_take_untold(struct cellar_journal *journal,
                                            uint64_t session,
                                            struct cellar_result **result,
                                            struct cellar_error *err)
{
    struct cellar_result *taken = NULL;
    enum cellar_code code = cellar_journal_txn_begin(journal, err);
    if (code != CELLAR_OK)
        return code;
    code = cellar_journal_txn_end(journal,
                                  take_untold(journal, session, &taken), err);
    if (code != CELLAR_OK)
        cellar_result_free(CELLAR_TAKE(taken));
    else
        *result = taken;
    return code;
}

/* ----------------------------------------------------- cells, sessions -- */

static int give_cell(struct cellar_journal *journal, sqlite3_stmt *row,
                     cellar_entry_fn *each, void *user)
{
    struct cellar_result *result = NULL;
    const char *code = cellar_journal_column_text(row, CODE);
    if (!is_sound(code))
        return SQLITE_CORRUPT;
    int rc = read_result(journal, row, &result);
    if (rc != SQLITE_OK)
        return rc;
    bool ended = cellar_journal_column(row, ENDED) > 0;
    struct cellar_entry entry = {
        .cell = result->cell,
        .began_ms = cellar_journal_column(row, BEGAN),
        .ended_ms = cellar_journal_column(row, ENDED),
        .resets = cellar_journal_column(row, RESETS),
        .restores = cellar_journal_column(row, RESTORES),
        .back_to = cellar_journal_column(row, BACK_TO),
        .untold = ended && cellar_journal_column(row, TOLD) == 0,
        .pruned = cellar_journal_column(row, PRUNED) > 0,
        .result = result,
    };
    if (sqlite3_column_type(row, CODE) != SQLITE_NULL) {
        entry.code = cellar_journal_column_text(row, CODE);
        entry.code_len = (size_t)sqlite3_column_bytes(row, CODE);
    }
    each(user, &entry);
    cellar_result_free(result);
    return SQLITE_OK;
}

static int give_cells(struct cellar_journal *journal, uint64_t session,
                      uint64_t first, cellar_entry_fn *each, void *user)
{
    sqlite3_stmt *rows = cellar_journal_statement(journal, JOURNAL_CELLS);
    if (!rows)
        return sqlite3_errcode(journal->db);
    cellar_journal_bind(rows, 1, session);
    cellar_journal_bind(rows, 2, first);
    int rc = sqlite3_step(rows);
    while (rc == SQLITE_ROW) {
        rc = give_cell(journal, rows, each, user);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(rows);
    }
    (void)sqlite3_reset(rows);
    return rc;
}

/* One snapshot: a cell that ends meanwhile has not. */
enum cellar_code cellar_journal_cells(struct cellar_journal *journal,
                                      uint64_t session, uint64_t first,
                                      cellar_entry_fn *each, void *user,
                                      struct cellar_error *err)
{
    int rc = cellar_journal_exec(journal, "BEGIN");
    if (rc == SQLITE_OK)
        rc = give_cells(journal, session, first, each, user);
    enum cellar_code code = cellar_journal_fail(journal, rc, err);
    (void)cellar_journal_exec(journal, "ROLLBACK");
    return code;
}

static int give_session(sqlite3_stmt *row, cellar_past_fn *each, void *user)
{
    struct cellar_past past = {.id = cellar_journal_column(row, 0),
                               .name = cellar_journal_column_text(row, 1),
                               .engine = cellar_journal_column_text(row, 2),
                               .image = cellar_journal_column_text(row, 3),
                               .container = cellar_journal_column_text(row, 4),
                               .python = cellar_journal_column_text(row, 5),
                               .created_ms = cellar_journal_column(row, 6),
                               .ended_ms = cellar_journal_column(row, 7),
                               .ending = cellar_journal_column_text(row, 8),
                               .reason = cellar_journal_column_text(row, 9),
                               .cells = cellar_journal_column(row, 10),
                               .output_bytes = cellar_journal_column(row, 11)};
    if (!is_sound(past.name) || !is_sound(past.engine) ||
        !is_sound(past.image) || !is_sound(past.container) ||
        !is_sound(past.python) || !is_sound(past.ending) ||
        !is_sound(past.reason))
        return SQLITE_CORRUPT;
    each(user, &past);
    return SQLITE_OK;
}

enum cellar_code cellar_journal_sessions(struct cellar_journal *journal,
                                         cellar_past_fn *each, void *user,
                                         struct cellar_error *err)
{
    sqlite3_stmt *rows = cellar_journal_statement(journal, JOURNAL_SESSIONS);
    if (!rows)
        return cellar_journal_fail(journal, sqlite3_errcode(journal->db), err);
    int rc = sqlite3_step(rows);
    while (rc == SQLITE_ROW) {
        rc = give_session(rows, each, user);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(rows);
    }
    enum cellar_code code = cellar_journal_fail(journal, rc, err);
    (void)sqlite3_reset(rows);
    return code;
}

enum cellar_code cellar_journal_find(struct cellar_journal *journal,
                                     const char *name, uint64_t *session,
                                     struct cellar_error *err)
{
    sqlite3_stmt *find = cellar_journal_statement(journal, JOURNAL_FIND_NAME);
    if (!find)
        return cellar_journal_fail(journal, sqlite3_errcode(journal->db), err);
    cellar_journal_bind_text(find, 1, name, strlen(name));
    int rc = sqlite3_step(find);
    if (rc == SQLITE_ROW)
        *session = cellar_journal_column(find, 0);
    enum cellar_code code = cellar_journal_fail(journal, rc, err);
    (void)sqlite3_reset(find);
    if (rc == SQLITE_DONE)
        return cellar_fail(err, CELLAR_E_NOT_FOUND,
                           "the journal knows no session '%s'; 'cellar "
                           "history' lists them",
                           name);
    return code;
}

enum cellar_code cellar_journal_glance(struct cellar_journal *journal,
                                       const char *place,
                                       struct cellar_journal_glance *glance,
                                       struct cellar_error *err)
{
    sqlite3_stmt *look = cellar_journal_statement(journal, JOURNAL_GLANCE);
    if (!look)
        return cellar_journal_fail(journal, sqlite3_errcode(journal->db), err);
    cellar_journal_bind_text(look, 1, place, strlen(place));
    int rc = sqlite3_step(look);
    bool known = rc == SQLITE_ROW && cellar_journal_column(look, 4) > 0;
    if (known)
        *glance = (struct cellar_journal_glance){
            .cells = cellar_journal_column(look, 0),
            .output_bytes = cellar_journal_column(look, 1),
            .last_ms = cellar_journal_column(look, 2),
            .running = cellar_journal_column(look, 3) > 0};
    enum cellar_code code = cellar_journal_fail(journal, rc, err);
    (void)sqlite3_reset(look);
    if (code == CELLAR_OK && !known)
        return cellar_fail(err, CELLAR_E_NOT_FOUND,
                           "the journal knows no such session");
    return code;
}
