/*
 * Ready sessions: started, recorded in the state directory under a reserved
 * name, and nobody's yet. Any process of the user may take one in place of
 * starting its own:
 *
 *     sessions/.pool-KEY-RANDOM   stands ready. KEY is the pool's: what all its
 *                                 sessions have in common
 *     sessions/.taken-RANDOM      was taken by a process that uses it unnamed,
 *                                 or is one of that process's own pool; the
 *                                 process holds its lock until it ends
 *
 * Who has the lock of a ready one may take it, by giving it another name:
 * that is one rename(2). So at any moment it stands ready or is its taker's,
 * and what was taken is never ready again. It has no row in the journal until
 * then.
 */
#ifndef CELLAR_KERNEL_READY_H
#define CELLAR_KERNEL_READY_H

#include "cellar/cellar.h"

#define CELLAR_READY_KEY_BYTES 17 /* 16 hex digits and the NUL */

/* One that the engine has listed. */
struct cellar_stand {
    char name[CELLAR_NAME_BYTES_MAX + 1];
    char container[129];
};

/* The pool of a spec: all that is fixed when a session is made counts, with the
 * engine, where it is, and Cellar's version; and which directory a mount's path
 * leads to now. Its name does not, nor what is agreed upon with the agent at
 * every handshake: timeout, grace, lease, lifetime, queue, output-limit. */
void cellar_ready_key(const struct cellar *c, const struct cellar_spec *spec,
                      char key[CELLAR_READY_KEY_BYTES]);
/* A fresh name in it. */
void cellar_ready_name(const char *key, char name[CELLAR_NAME_BYTES_MAX + 1]);
/* Whether `name` is one of it. */
bool cellar_ready_is_of(const char *name, const char *key);

/* Whether a container of this pool, as the engine lists it, can be had: it
 * runs, and is still what its image's name stands for. */
struct cellar_container;
bool cellar_ready_fits(const struct cellar_container *container,
                       const char *owner, const char *key);

/* Removes directories of reserved names that never got a record, or have lost
 * it, and nobody holds: whoever made or removed them was killed. */
void cellar_ready_sweep(const char *state_dir);

/* As cellar_start_async(), but takes a ready session where there is one; how
 * it came to be only its age tells. */
enum cellar_code cellar_ready_start_async(struct cellar *c,
                                          const struct cellar_spec *spec,
                                          cellar_session_fn *done, void *user,
                                          struct cellar_error *err);

#endif
