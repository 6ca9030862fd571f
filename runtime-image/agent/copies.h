/*
 * Frozen copies of the worker: what checkpoints are made of. A copy is a child
 * that an idle worker forked (copy-on-write: it holds what has changed since),
 * with a socket to the agent of its own; it is stopped, and does nothing until
 * it is woken to be the worker. It is as untrusted as the worker is.
 *
 *     cellar_copies_ask()    a place, and the end of a socket for the worker
 *     cellar_copies_hear()   the copy says that it is there: FROZEN
 *     cellar_copies_newest() whom to wake when the worker is gone
 *     cellar_copy_drop()     kills and forgets
 *
 * The kernel says who wrote to the socket; so the pid of a copy is right, or
 * that of another process of this session that its worker put in its place.
 */
#ifndef CELLAR_AGENT_COPIES_H
#define CELLAR_AGENT_COPIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cellar/error.h"
#include "proto/limits.h"

enum cellar_copy_phase {
    CELLAR_COPY_NONE,
    CELLAR_COPY_ASKED, /* the worker was asked for it */
    CELLAR_COPY_FROZEN
};

struct cellar_copy {
    enum cellar_copy_phase phase;
    char tag[CELLAR_CHECKPOINT_TAG_MAX + 1]; /* "": an automatic one */
    uint64_t after;  /* the cell after which it was taken; 0: none had run */
    uint64_t order;  /* the newest has the highest */
    uint64_t asked;  /* when, in microseconds */
    uint64_t taken;  /* when it was frozen */
    pid_t pid;       /* FROZEN */
    uint32_t branch; /* the lane that it is to become; 0: it is kept */
    int control;     /* our end of its socket */
};

/* One place more than may be kept: a new one is there before the old one goes.
 */
#define CELLAR_COPY_PLACES (CELLAR_COPIES_MAX + 1)

struct cellar_copies {
    struct cellar_copy all[CELLAR_COPY_PLACES];
    uint64_t order;
    pid_t leaving; /* the last that was thinned out, until it is reaped; 0 */
};

void cellar_copies_init(struct cellar_copies *copies);

/* A place in phase ASKED; `*give` is the worker's end of its socket, which the
 * caller passes on and closes. NULL: there is no place, or no descriptor. */
struct cellar_copy *cellar_copies_ask(struct cellar_copies *copies,
                                      const char *tag, uint64_t after,
                                      uint64_t now, int *give);

/* What came from a copy that was asked for: CELLAR_OK when it is frozen now,
 * E_AGAIN, or E_SYS with the reason in `why`, which is not empty and of ASCII's
 * printable characters; then it is dropped. */
enum cellar_code cellar_copies_hear(struct cellar_copy *copy, uint64_t now,
                                    char why[CELLAR_WHY_MAX]);

/* The one that is asked for and not there yet, or NULL. */
struct cellar_copy *cellar_copies_asked(struct cellar_copies *copies);

/* The newest, or NULL. */
struct cellar_copy *cellar_copies_newest(struct cellar_copies *copies);

/* The frozen one of this name, or NULL. */
struct cellar_copy *cellar_copies_find(struct cellar_copies *copies,
                                       const char *tag);

/* How many are frozen; of these, how many have a name. */
size_t cellar_copies_count(const struct cellar_copies *copies);
size_t cellar_copies_named(const struct cellar_copies *copies);

/* How many processes they are: with the one that was thinned out last and is
 * not reaped yet. */
size_t cellar_copies_processes(const struct cellar_copies *copies);

/* The pids of those that are frozen; gives their number. */
size_t cellar_copies_pids(const struct cellar_copies *copies,
                          pid_t pids[CELLAR_COPY_PLACES]);

/* Whether `pid` is one of them. */
bool cellar_copies_have(const struct cellar_copies *copies, pid_t pid);

/* It has died and was reaped: forgotten. False: it was none of them, and none
 * that was leaving. */
bool cellar_copies_died(struct cellar_copies *copies, pid_t pid);

/* Kills it, if it lives, and forgets it. Whoever reaps deals with the rest. */
void cellar_copy_drop(struct cellar_copy *copy);

/* Forgets it, and gives its socket: it is to be the worker. */
int cellar_copy_take(struct cellar_copy *copy);

/* Drops those without a name, but for the newest `keep`. Whether there were
 * any to drop. */
bool cellar_copies_thin(struct cellar_copies *copies, size_t keep);

/* Drops all. */
void cellar_copies_clear(struct cellar_copies *copies);

#endif
