/* Samples of a measurement, in microseconds, and their percentiles. */
#ifndef CELLAR_BENCH_SAMPLES_H
#define CELLAR_BENCH_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>

#include "bench.h"

/* Invariant: count <= room. */
struct cellar_samples {
    double *us;
    size_t count;
    size_t room;
};

/* Room for `room` samples; false: out of memory. */
bool cellar_samples_init(struct cellar_samples *samples, size_t room);
void cellar_samples_done(struct cellar_samples *samples);

/* Adds one; what is over the room is not taken. */
void cellar_samples_add(struct cellar_samples *samples, double us);

/* The smallest sample that `percent` of all are not above (nearest rank);
 * sorts. 0 where there is none. */
double cellar_samples_percentile(struct cellar_samples *samples,
                                 unsigned percent);

/* The median, what 99 percent are not above, and the largest; sorts. */
struct cellar_bench_times cellar_samples_times(struct cellar_samples *samples);

#endif
