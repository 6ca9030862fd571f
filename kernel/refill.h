/*
 * Who fills a pool of ready sessions (ready.h), and who empties it.
 *
 *     pools/KEY    in the state directory: byte 0 is locked by who waits for
 *                  its turn to fill the pool, byte 1 by who does. It holds the
 *                  last failure, in a line; nothing after a success
 *
 * Who empties all pools unlinks these files, and who fills one then ends.
 *
 * Of many commands that have taken one and come at once to fill the pool up one
 * does, one waits and then looks again, and the others return: what they came
 * for that one will see. Who was told by the user how many there are to be
 * waits in any case.
 */
#ifndef CELLAR_KERNEL_REFILL_H
#define CELLAR_KERNEL_REFILL_H

#include "cellar/cellar.h"
#include "ready.h"

#define CELLAR_READY_MAX 64

struct cellar_refill_ask {
    size_t size;   /* up to CELLAR_READY_MAX */
    bool at_least; /* more than `size` may stay; and who comes while another one
                      fills and one waits for it leaves it to these */
    bool only;     /* ready ones of other pools go */
};

struct cellar_refilled {
    size_t ready;   /* of this pool; what another one brings up counts */
    size_t others;  /* of other pools */
    size_t removed; /* of whatever pool */
};

/* Has so many sessions of the spec's pool stand ready, no more and no less;
 * waits. Of too many those go that have stood longest, as do ready ones that
 * are not what a start would make any more. A failure is kept for
 * cellar_refill_trouble(). E_BUSY: another one fills the pool, and does not
 * come to an end. */
enum cellar_code cellar_refill(struct cellar *c, const struct cellar_spec *spec,
                               const struct cellar_refill_ask *ask,
                               struct cellar_refilled *told,
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
