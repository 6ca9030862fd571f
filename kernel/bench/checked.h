/*
 * Sessions of a bench's own with a state of a size, and cells whose every
 * ending, state and value is checked.
 */
#ifndef CELLAR_BENCH_CHECKED_H
#define CELLAR_BENCH_CHECKED_H

#include <stdint.h>

#include "cellar/cellar.h"
#include "cellar/error.h"

/* What a cell must come to. */
struct cellar_expected {
    enum cellar_status status;
    enum cellar_state state;
    enum cellar_taken taken;
    const char *text; /* of its value; NULL: any */
};

/* It ends well, and a checkpoint is taken after it; or is not to be. */
extern const struct cellar_expected cellar_copied;
extern const struct cellar_expected cellar_not_copied;

/* Starts a session that holds so much, each page of it written, and `x`, which
 * is 0. It is of `spec`, but for a short lease and memory for twice the state.
 * On failure `*out` may be there. */
enum cellar_code cellar_checked_start(struct cellar *c,
                                      const struct cellar_spec *spec,
                                      uint64_t bytes,
                                      struct cellar_session **out,
                                      struct cellar_error *err);

/* E_LOST: it did not end as expected. */
enum cellar_code cellar_checked_run(struct cellar_session *s, const char *code,
                                    const struct cellar_expected *expected,
                                    struct cellar_error *err);

/* The first cell of a session of `spec`. */
enum cellar_code cellar_checked_first(struct cellar_session *s,
                                      const struct cellar_spec *spec,
                                      struct cellar_error *err);

/* Waits until it is gone, so that it takes no time from what is measured next;
 * takes `s`, NULL is fine. `code` is what came before; the first error
 * counts. */
enum cellar_code cellar_checked_stop(struct cellar_session *s,
                                     enum cellar_code code,
                                     struct cellar_error *err);

void cellar_checked_rest(uint64_t ms);

/* Microseconds since `began_us`, of cellar_loop_now_us(). */
double cellar_checked_since(uint64_t began_us);

#endif
