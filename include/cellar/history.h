/*
 * History: what the journal of a state directory holds of its named sessions,
 * live ones and past ones. Unnamed sessions leave none.
 *
 *     static void show(void *user, const struct cellar_entry *entry)
 *     {
 *         printf("[%llu] %.*s\n", (unsigned long long)entry->cell,
 *                (int)entry->code_len, entry->code);
 *     }
 *     ...
 *     cellar_history(c, "work", 0, show, NULL, &err);
 *
 * A cell stands in it from the moment it is sent, its output as it comes, its
 * end before anybody is told: a process that is killed loses no finished cell.
 */
#ifndef CELLAR_HISTORY_H
#define CELLAR_HISTORY_H

#include "cellar/cellar.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is kept: sessions that ended longer ago go, and the oldest of those
 * that ended, then the outputs of the oldest cells of live ones, while the
 * journal is larger. */
#define CELLAR_HISTORY_AGE_MS ((uint64_t)30 * 24 * 60 * 60 * 1000)
#define CELLAR_HISTORY_BYTES  ((uint64_t)1 << 30)

/* A session in the journal. A name may come again: `id` never does. */
struct cellar_past {
    uint64_t id;
    const char *name;
    const char *engine;
    const char *image;
    const char *container;
    const char *python;
    uint64_t created_ms; /* since 1970, as all times here */
    uint64_t ended_ms;   /* 0: it lives, as far as is known */
    const char *ending;  /* "stopped", "lost"; "" while it lives */
    const char *reason;  /* why it was lost; "" */
    uint64_t cells;
    uint64_t output_bytes;
};

/* A cell in the journal. */
struct cellar_entry {
    uint64_t cell;
    const char *code; /* NULL: not known (it was pruned) */
    size_t code_len;
    uint64_t began_ms;
    uint64_t ended_ms; /* 0: it runs, or was cut off with its session */
    uint64_t resets;   /* of the session before this cell: globals that stood
                          before the last one are gone */
    uint64_t restores; /* before this cell that somebody asked for; */
    uint64_t back_to;  /* the last of them: the cell after which the globals
                          stood; 0: none had changed them */
    bool untold;       /* it ended, and nobody was told of it yet */
    bool pruned;       /* its outputs were given up for room */
    /* Lent, as all of the entry, for the call. While the cell runs it holds
     * the output so far, and its status means nothing. */
    const struct cellar_result *result;
};

typedef void cellar_past_fn(void *user, const struct cellar_past *past);
typedef void cellar_entry_fn(void *user, const struct cellar_entry *entry);

/* Calls `each` for every session in the journal, the oldest first. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_history_sessions(struct cellar *c, cellar_past_fn *each, void *user,
                        struct cellar_error *err);

/* Calls `each` for every cell of a session from number `first` on, in order:
 * of the newest session called `name`. E_NOT_FOUND: the journal holds none;
 * E_SYS: it can't be read, or is damaged (it is named, and left as it is). */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_history(struct cellar *c, const char *name, uint64_t first,
               cellar_entry_fn *each, void *user, struct cellar_error *err);

/* The same of the session with this id. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_history_id(struct cellar *c, uint64_t id, uint64_t first,
                  cellar_entry_fn *each, void *user, struct cellar_error *err);

/* What cellar_history_prune() did. */
struct cellar_pruned {
    uint64_t sessions;   /* taken out whole */
    uint64_t cells;      /* whose outputs were given up, of those that stay */
    uint64_t bytes;      /* the file is smaller by */
    uint64_t size_bytes; /* of what is left */
};

/* Prunes now, to these bounds: UINT64_MAX keeps all, 0 keeps only live
 * sessions, without outputs. With the defaults above it is done by itself. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_history_prune(struct cellar *c, uint64_t max_age_ms, uint64_t max_bytes,
                     struct cellar_pruned *pruned, struct cellar_error *err);

#ifdef __cplusplus
}
#endif
#endif
