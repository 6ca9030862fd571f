/*
 * Who fills a pool of ready sessions (ready.h), and who empties it.
 *
 *     pools/KEY    in the state directory: byte 0 is locked by who waits for
 *                  its turn to fill the pool, byte 1 by who does. It holds the
 *                  last failure, in a line; nothing after a success
 *
 * Who empties all pools unlinks these files, and who fills one then ends.
 *
 * Of many that come at once one fills, one waits and then looks again, and the
 * others return: what they came for that one will see.
 */
#ifndef CELLAR_KERNEL_REFILL_H
#define CELLAR_KERNEL_REFILL_H

#include "cellar/cellar.h"
#include "ready.h"

#define CELLAR_READY_MAX 64

/* Has `size` (up to CELLAR_READY_MAX) sessions of the spec's pool stand ready;
 * waits. Ready ones that are not what a start would make any more go. *ready:
 * how many there are, or (another one fills the pool) will be. A failure is
 * kept for cellar_refill_trouble(). */
enum cellar_code cellar_refill(struct cellar *c, const struct cellar_spec *spec,
                               size_t size, size_t *ready,
                               struct cellar_error *err);

/* Removes all ready sessions of this engine, of whatever pool; *removed is how
 * many. Waits. */
enum cellar_code cellar_ready_clear(struct cellar *c, size_t *removed,
                                    struct cellar_error *err);

/* The last failure of the pool `key`, of the last day, if it has not been
 * filled since: false, there is none. */
#define CELLAR_TROUBLE_MAX 600
bool cellar_refill_trouble(const char *state_dir, const char *key,
                           char text[CELLAR_TROUBLE_MAX]);
/* Calls `each` for all of them. */
void cellar_refill_troubles(const char *state_dir,
                            void (*each)(void *user, const char *text),
                            void *user);

#endif
