/*
 * What a bench found: figures in order, each with a key that ends in its unit
 * (_us, _bytes, _bytes_per_s, _per_s; a ratio and a count have none). What
 * wasn't there to measure is a figure too, with the reason in its place. One
 * report is printed for people and as JSON by the front end.
 */
#ifndef CELLAR_BENCH_REPORT_H
#define CELLAR_BENCH_REPORT_H

#include <stddef.h>

#include "bench.h"

#define CELLAR_REPORT_MAX      64
#define CELLAR_REPORT_KEY_MAX  48
#define CELLAR_REPORT_TEXT_MAX 64
#define CELLAR_REPORT_WHY_MAX  256

struct cellar_figure {
    char key[CELLAR_REPORT_KEY_MAX];
    char text[CELLAR_REPORT_TEXT_MAX]; /* what it is, for people */
    char why[CELLAR_REPORT_WHY_MAX];   /* it was not measured; "": it was */
    double value;
};

/* Invariant: count <= CELLAR_REPORT_MAX; keys differ. */
struct cellar_report {
    struct cellar_figure list[CELLAR_REPORT_MAX];
    size_t count;
};

/* Adds a figure; one over the maximum is not taken. */
void cellar_report_add(struct cellar_report *report, const char *key,
                       const char *text, double value);

/* Adds one that could not be measured. */
void cellar_report_miss(struct cellar_report *report, const char *key,
                        const char *text, const char *why);

/* Adds PREFIXp50_us and PREFIXp99_us. */
void cellar_report_times(struct cellar_report *report, const char *prefix,
                         const char *text,
                         const struct cellar_bench_times *times);

/* Adds `over` / `under`; a miss where either was not measured. Both are keys of
 * figures that are there. */
void cellar_report_ratio(struct cellar_report *report, const char *key,
                         const char *text, const char *over, const char *under);

/* The figure of that key, or NULL. */
const struct cellar_figure *
cellar_report_find(const struct cellar_report *report, const char *key);

#endif
