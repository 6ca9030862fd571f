/* What cells print and display, as rows: in pieces, large ones once. */
#include <sodium.h>
#include <string.h>

#include "journal_private.h"

/* The id of the blob that holds these bytes. */
static int keep_blob(struct cellar_journal *journal, const void *data,
                     size_t len, uint64_t *id)
{
    uint8_t hash[crypto_generichash_BYTES];
    (void)crypto_generichash(hash, sizeof hash, data, len, NULL, 0);
    sqlite3_stmt *find = cellar_journal_statement(journal, JOURNAL_FIND_BLOB);
    if (!find)
        return sqlite3_errcode(journal->db);
    (void)sqlite3_bind_blob(find, 1, hash, sizeof hash, SQLITE_STATIC);
    int rc = sqlite3_step(find);
    *id = rc == SQLITE_ROW ? cellar_journal_column(find, 0) : 0;
    (void)sqlite3_reset(find);
    if (rc != SQLITE_DONE)
        return rc;
    sqlite3_stmt *add = cellar_journal_statement(journal, JOURNAL_ADD_BLOB);
    if (!add)
        return sqlite3_errcode(journal->db);
    (void)sqlite3_bind_blob(add, 1, hash, sizeof hash, SQLITE_STATIC);
    (void)sqlite3_bind_blob64(add, 2, data, len, SQLITE_STATIC);
    rc = cellar_journal_run(add);
    *id = (uint64_t)sqlite3_last_insert_rowid(journal->db);
    return rc;
}

static int put(struct cellar_journal *journal, const struct journal_slot *slot,
               const void *data, size_t len)
{
    uint64_t blob = 0;
    int rc = SQLITE_DONE;
    if (len >= CELLAR_JOURNAL_BLOB_MIN && !slot->grows)
        rc = keep_blob(journal, data, len, &blob);
    sqlite3_stmt *into = cellar_journal_statement(journal, JOURNAL_PUT_OUTPUT);
    if (!into || (rc != SQLITE_DONE && rc != SQLITE_ROW))
        return into ? rc : sqlite3_errcode(journal->db);
    cellar_journal_bind(into, 1, slot->cell);
    cellar_journal_bind(into, 2, slot->kind);
    cellar_journal_bind(into, 3, slot->seq);
    cellar_journal_bind(into, 4, slot->part);
    cellar_journal_bind_text(into, 5, slot->type, strlen(slot->type));
    if (blob > 0)
        cellar_journal_bind(into, 7, blob);
    else
        (void)sqlite3_bind_blob64(into, 6, len ? data : "", len, SQLITE_STATIC);
    return cellar_journal_run(into);
}

int cellar_journal_put_stream(struct cellar_journal *journal,
                              struct journal_slot slot, const char *data,
                              size_t from, size_t len, bool ended)
{
    int rc = SQLITE_DONE;
    if (len <= from)
        return rc;
    for (size_t i = from / CELLAR_JOURNAL_PIECE;
         rc == SQLITE_DONE && i * CELLAR_JOURNAL_PIECE < len; i++) {
        size_t at = i * CELLAR_JOURNAL_PIECE;
        size_t n =
            len - at < CELLAR_JOURNAL_PIECE ? len - at : CELLAR_JOURNAL_PIECE;
        slot.seq = i;
        slot.grows = !ended && n < CELLAR_JOURNAL_PIECE;
        rc = put(journal, &slot, data + at, n);
    }
    return rc;
}

int cellar_journal_put_parts(struct cellar_journal *journal,
                             struct journal_slot slot,
                             const struct cellar_part *parts, size_t count)
{
    int rc = SQLITE_DONE;
    for (size_t i = 0; rc == SQLITE_DONE && i < count; i++) {
        slot.part = i;
        slot.type = parts[i].type;
        rc = put(journal, &slot, parts[i].data, parts[i].len);
    }
    return rc;
}

int cellar_journal_put_displays(struct cellar_journal *journal, uint64_t cell,
                                const struct cellar_result *result, size_t from)
{
    struct journal_slot slot = {.cell = cell, .kind = JOURNAL_DISPLAY};
    int rc = SQLITE_DONE;
    for (size_t i = from; rc == SQLITE_DONE && i < result->display_count; i++) {
        slot.seq = i;
        rc = cellar_journal_put_parts(journal, slot, result->displays[i].parts,
                                      result->displays[i].count);
    }
    return rc;
}
