/*
 * What `cellar bench` measures. Each measurement sets Cellar beside the bare
 * thing, in turn in one run: absolute times drift from machine to machine and
 * from minute to minute, ratios much less.
 */
#ifndef CELLAR_BENCH_BENCH_H
#define CELLAR_BENCH_BENCH_H

#include "cellar/cellar.h"
#include "cellar/error.h"

struct cellar_bench_cell {
    uint64_t rounds; /* of each */
    double p50_us, p99_us;
    double bare_p50_us, bare_p99_us;
    double ratio_to_bare; /* of the medians */
};

#define CELLAR_BENCH_ROUNDS 2000

/* The round trip of `x+=1` in session `s`, beside that of a bare echo process
 * over the same kind of stream. `spec` is that of `s`. */
enum cellar_code cellar_bench_cell(struct cellar *c, struct cellar_session *s,
                                   const struct cellar_spec *spec,
                                   uint64_t rounds,
                                   struct cellar_bench_cell *out,
                                   struct cellar_error *err);

#endif
