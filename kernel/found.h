/*
 * The containers of this state directory, as the engine lists them: for the
 * calls that look at sessions from outside.
 */
#ifndef CELLAR_KERNEL_FOUND_H
#define CELLAR_KERNEL_FOUND_H

#include "engine/engine.h"
#include "reaper.h"
#include "wait.h"

struct cellar_found {
    struct cellar_found *next;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    char session[CELLAR_NAME_BYTES_MAX + 1];
    char image[256];
    char state[16];
    uint64_t created;
    bool leaving; /* the reaper takes it */
    bool told;    /* for whoever goes through them */
    struct cellar_usage usage;
    struct cellar_error usage_err; /* why there is none */
    bool measured;
    struct cellar_finds *finds;
};

struct cellar_finds {
    struct cellar *c;
    struct cellar_found *first;
    struct cellar_reaper *reaper;
    struct cellar_wait wait;
    size_t measuring;
};

/* Lists them; waits. */
enum cellar_code cellar_finds_init(struct cellar_finds *finds, struct cellar *c,
                                   struct cellar_error *err);
/* Frees; leavings that were not reaped stay. */
void cellar_finds_done(struct cellar_finds *finds);

/* Asks what each running one uses, all at once; waits. */
void cellar_finds_measure(struct cellar_finds *finds);
/* The same of one. */
void cellar_found_measure(struct cellar_finds *finds,
                          struct cellar_found *found);

/* Removes what dead processes left; waits. Failures are logged. */
void cellar_finds_reap(struct cellar_finds *finds);

/* The container with this id or, failing that, of this session. NULL. */
struct cellar_found *cellar_finds_at(const struct cellar_finds *finds,
                                     const char *id, const char *session);

#endif
