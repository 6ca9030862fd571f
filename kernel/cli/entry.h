/*
 * A cell of the journal, shown: to people as a notebook shows it, with the
 * time before it, or as a line of JSON.
 */
#ifndef CELLAR_CLI_ENTRY_H
#define CELLAR_CLI_ENTRY_H

#include "cellar/history.h"
#include "output.h"

/* What one has to remember from cell to cell. Zero, but for `ended`, before
 * the first one. */
struct cellar_entry_view {
    bool ended;      /* the session has: what has no end was cut off */
    bool any;        /* a cell was shown */
    uint64_t resets; /* of the session before the last one shown */
    uint64_t restores;
};

/* The time, "In [3]: ...", output, result and ending; before it where the
 * session was reset or restored between the last cell shown and this one. */
void cellar_entry_print(struct cellar_output *out,
                        struct cellar_entry_view *view,
                        const struct cellar_entry *entry);

/* {"cell", "code", "began", "ended", "resets", "untold", "pruned", "result"}:
 * times in seconds since 1970; ended null while it runs, and then status and
 * state of the result are null too; code null where it is not known. E_NOMEM.
 */
enum cellar_code cellar_entry_json(struct cellar_output *out,
                                   const struct cellar_entry *entry,
                                   struct cellar_error *err);

#endif
