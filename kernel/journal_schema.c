/* The journal's SQL: its tables, how those of a version before become them, and
 * the statements that are run again and again. */
#include "journal_private.h"

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

const char cellar_journal_schema[] =
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
const char cellar_journal_upgrade[] =
    "BEGIN IMMEDIATE;"
    "ALTER TABLE cells ADD COLUMN" TAKEN_COLUMN ";"
    "ALTER TABLE cells ADD COLUMN" WHY_COLUMN ";"
    "ALTER TABLE cells ADD COLUMN" RESTORES_COLUMN ";"
    "ALTER TABLE cells ADD COLUMN" BACK_COLUMN ";"
    "ALTER TABLE sessions ADD COLUMN" RESTORES_COLUMN ";"
    "ALTER TABLE sessions ADD COLUMN" BACK_COLUMN ";"
    "PRAGMA user_version = 2;"
    "COMMIT;";

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

const char *const cellar_journal_texts[JOURNAL_STATEMENTS] = {
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
