/*
 * The bare thing a cell is compared with: a process that echoes, in a
 * container of the same spec, on the same kind of attached stream, spoken to
 * with plain blocking calls.
 */
#ifndef CELLAR_BENCH_BARE_H
#define CELLAR_BENCH_BARE_H

#include "cellar/cellar.h"
#include "cellar/error.h"

/* What goes each way. A RUN of `x+=1` takes 60 bytes and its DONE 60: an echo
 * of 200 is what others measure. */
#define CELLAR_BARE_BYTES 200

struct cellar_bare;

/* Starts the container and waits for its first echo. */
enum cellar_code cellar_bare_new(struct cellar *c,
                                 const struct cellar_spec *spec,
                                 struct cellar_bare **out,
                                 struct cellar_error *err);

/* One round trip. */
enum cellar_code cellar_bare_round(struct cellar_bare *bare,
                                   struct cellar_error *err);

/* Has it write `bytes` at once, in lines of 1 KB, and reads them. E_TIMEOUT: it
 * wrote less; an image made before it could does. */
enum cellar_code cellar_bare_output(struct cellar_bare *bare, uint64_t bytes,
                                    struct cellar_error *err);

/* Removes the container. NULL is fine. */
void cellar_bare_free(struct cellar_bare *bare);

#endif
