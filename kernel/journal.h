/*
 * The journal: one SQLite database in the state directory, journal.db, shared
 * by all processes that use the directory. The files journal*.c are the only
 * ones that know SQLite.
 *
 *     sessions  one row per named session, by its container
 *     cells     one row per cell, from its RUN on; its result once it ended
 *     outputs   what cells printed and displayed, in pieces
 *     blobs     pieces above a size, by their hash: stored once
 *
 * It is written by the process that holds the session's lock, in the order
 * that makes a kill at any moment harmless: a cell is written before it is
 * sent, output before it is acknowledged to the agent, an end before anybody
 * is told. WAL mode, synchronous NORMAL: what was committed survives the
 * process; a power cut may take the last moments, never the file.
 *
 * A failed write changes nothing that was stored, and no call waits longer
 * than CELLAR_JOURNAL_BUSY_MS for another process. All failures are E_SYS with
 * the file's path and the cure (no space, not writable, damaged, busy), but
 * for E_NOMEM and where something else is said. A damaged file is never
 * written to or moved.
 */
#ifndef CELLAR_KERNEL_JOURNAL_H
#define CELLAR_KERNEL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellar/history.h"
#include "record.h"
#include "result.h"

#define CELLAR_JOURNAL_BUSY_MS 1000

/* Pieces of output from this size on are blobs: found by their BLAKE2b hash
 * and stored once. Streams are cut at multiples of CELLAR_JOURNAL_PIECE, so
 * that equal outputs make equal pieces. */
#define CELLAR_JOURNAL_BLOB_MIN 4096u
#define CELLAR_JOURNAL_PIECE    65536u

struct cellar_journal;

/* Opens, or makes (0600), the journal of `state_dir`. A file of a later
 * version of Cellar is E_SYS. */
enum cellar_code cellar_journal_open(const char *state_dir,
                                     struct cellar_journal **out,
                                     struct cellar_error *err);
void cellar_journal_close(struct cellar_journal *journal); /* NULL is fine */

/* ------------------------------------------------ written as it happens -- */

/* What is known of a session when it is started or adopted. */
struct cellar_journal_place {
    uint64_t session;   /* its id: all other calls take it */
    uint64_t delivered; /* the last delivery whose content is stored */
    uint64_t last_cell; /* the highest number stored, or 0 */
    bool ended;         /* it was to be stopped, or was taken for lost */
};

/* Finds the session's row by its place (record.h), or makes it. */
enum cellar_code cellar_journal_session(struct cellar_journal *journal,
                                        const struct cellar_record *record,
                                        struct cellar_journal_place *place,
                                        struct cellar_error *err);

/* A branch of session `parent`: a row of its own, with what the parent's cells
 * up to `after` came to, as if they had been its own. */
enum cellar_code cellar_journal_branch(struct cellar_journal *journal,
                                       uint64_t parent, uint64_t after,
                                       const struct cellar_record *branch,
                                       struct cellar_error *err);

/* A session that answers lives, whatever was written of it: the stop may have
 * been killed. */
enum cellar_code cellar_journal_revive(struct cellar_journal *journal,
                                       uint64_t session,
                                       struct cellar_error *err);

/* "stopped" or "lost"; `reason` may be NULL. Cells that have no end yet are
 * ended as LOST with it, told. By place: also for a session that this process
 * never held; one that is not in the journal is fine, one that has
 * ended already stays as it is. */
enum cellar_code cellar_journal_end_session(struct cellar_journal *journal,
                                            const char *place,
                                            const char *ending,
                                            const char *reason,
                                            struct cellar_error *err);

/* Somebody had it reset; had it go back to what it was after `cell`. */
enum cellar_code cellar_journal_reset(struct cellar_journal *journal,
                                      uint64_t session,
                                      struct cellar_error *err);
enum cellar_code cellar_journal_restore(struct cellar_journal *journal,
                                        uint64_t session, uint64_t cell,
                                        struct cellar_error *err);

/* A cell, before it is sent. One that is there already stays as it is, but for
 * code that was missing. */
enum cellar_code cellar_journal_begin(struct cellar_journal *journal,
                                      uint64_t session, uint64_t cell,
                                      const char *code, size_t code_len,
                                      uint64_t timeout_ms,
                                      struct cellar_error *err);

/* How far a running cell's output is stored. Zero at its begin. */
struct cellar_journal_mark {
    size_t stream_bytes[2];
    size_t displays;
};

/* Stores what `collect` holds beyond `mark`, and `delivered` with it, in one
 * transaction; moves `mark`. Full pieces are stored for good, a piece that is
 * not full yet may be stored again, longer. */
enum cellar_code cellar_journal_output(struct cellar_journal *journal,
                                       uint64_t session, uint64_t cell,
                                       const struct cellar_collect *collect,
                                       struct cellar_journal_mark *mark,
                                       uint64_t delivered,
                                       struct cellar_error *err);

/* Stores the end of a cell: its result, output beyond `mark`, `delivered`, in
 * one transaction. Makes the cell's row where it is missing. `told`: whoever
 * asked for the cell is there and is told next. A cell that has an end keeps
 * it: *first says whether this was its first. */
enum cellar_code cellar_journal_end(struct cellar_journal *journal,
                                    uint64_t session,
                                    const struct cellar_result *result,
                                    const struct cellar_journal_mark *mark,
                                    bool told, uint64_t delivered, bool *first,
                                    struct cellar_error *err);

/* Brings the stored output of a running cell back into `collect`, which is
 * empty, and sets `mark`; and the cell's timeout into collect->limits. Nothing
 * stored is fine. */
enum cellar_code cellar_journal_resume(struct cellar_journal *journal,
                                       uint64_t session, uint64_t cell,
                                       struct cellar_collect *collect,
                                       struct cellar_journal_mark *mark,
                                       struct cellar_error *err);

/* The oldest result of the session that nobody was told of, marked as told;
 * *result NULL: there is none. The caller frees it. */
enum cellar_code cellar_journal_take_untold(struct cellar_journal *journal,
                                            uint64_t session,
                                            struct cellar_result **result,
                                            struct cellar_error *err);

/* --------------------------------------------------------------- read -- */

/* For `ps` and `stats`, by place. E_NOT_FOUND. */
struct cellar_journal_glance {
    uint64_t cells;
    uint64_t output_bytes;
    uint64_t last_ms; /* of the last cell's end, or the session's start */
    bool running;     /* a cell has begun and not ended */
};
enum cellar_code cellar_journal_glance(struct cellar_journal *journal,
                                       const char *place,
                                       struct cellar_journal_glance *glance,
                                       struct cellar_error *err);

/* As cellar_history_sessions(), cellar_history_id(), and the newest session
 * called `name` (E_NOT_FOUND). Read in one snapshot. */
enum cellar_code cellar_journal_sessions(struct cellar_journal *journal,
                                         cellar_past_fn *each, void *user,
                                         struct cellar_error *err);
enum cellar_code cellar_journal_find(struct cellar_journal *journal,
                                     const char *name, uint64_t *session,
                                     struct cellar_error *err);
enum cellar_code cellar_journal_cells(struct cellar_journal *journal,
                                      uint64_t session, uint64_t first,
                                      cellar_entry_fn *each, void *user,
                                      struct cellar_error *err);

/* Milliseconds since 1970: the clock of all times in the journal. */
uint64_t cellar_journal_clock_ms(void);

/* -------------------------------------------------------------- upkeep -- */

/* As cellar_history_prune(). */
enum cellar_code cellar_journal_prune(struct cellar_journal *journal,
                                      uint64_t max_age_ms, uint64_t max_bytes,
                                      struct cellar_pruned *pruned,
                                      struct cellar_error *err);

/* Moves the write-ahead log into the database when it has grown, and prunes to
 * the defaults once a day and process. It may take some milliseconds (it waits
 * for the disk): called when no cell waits. Failures are of no consequence. */
void cellar_journal_upkeep(struct cellar_journal *journal);

#endif
