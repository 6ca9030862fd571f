#include "samples.h"

#include <stdlib.h>

bool cellar_samples_init(struct cellar_samples *samples, size_t room)
{
    *samples = (struct cellar_samples){.room = room};
    samples->us = calloc(room ? room : 1, sizeof samples->us[0]);
    return samples->us != NULL;
}

void cellar_samples_done(struct cellar_samples *samples)
{
    free(samples->us);
    *samples = (struct cellar_samples){0};
}

void cellar_samples_add(struct cellar_samples *samples, double us)
{
    if (samples->count < samples->room)
        samples->us[samples->count++] = us;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double cellar_samples_percentile(struct cellar_samples *samples,
                                 unsigned percent)
{
    size_t rank = (samples->count * percent + 99) / 100;
    if (samples->count == 0)
        return 0;
    qsort(samples->us, samples->count, sizeof samples->us[0], by_size);
    return samples->us[rank ? rank - 1 : 0];
}

struct cellar_bench_times cellar_samples_times(struct cellar_samples *samples)
{
    return (struct cellar_bench_times){
        .p50_us = cellar_samples_percentile(samples, 50),
        .p99_us = cellar_samples_percentile(samples, 99),
        .max_us = cellar_samples_percentile(samples, 100)};
}
