/*
 * What a cell used, in the agent's own measure: CPU time and peak memory of
 * the worker, whether the kernel killed for memory, and whether the worker is
 * alone. Works without /proc and without a readable cgroup, then with zeros,
 * and with a worker that is never alone.
 */
#ifndef CELLAR_AGENT_USAGE_H
#define CELLAR_AGENT_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct rusage;

struct cellar_usage {
    int oom_fd;    /* the cgroup's counter of OOM kills, or -1 */
    int status_fd; /* /proc/PID/status of the worker, or -1 */
    int pids_fd;   /* the cgroup's count of threads, or -1 */
    bool company;  /* others than the worker and its copies lived when last
                      looked at */
    size_t copies; /* frozen ones, and one that ends, as the agent knows */
    bool has_clock;
    clockid_t clock;     /* the worker's CPU time */
    uint64_t oom_kills;  /* when a cell was last known to be innocent */
    uint64_t cpu_us;     /* at the cell's start */
    uint64_t peak_bytes; /* of the worker, when last looked at */
};

void cellar_usage_init(struct cellar_usage *usage);

void cellar_usage_done(struct cellar_usage *usage);

/* A new worker. */
void cellar_usage_attach(struct cellar_usage *usage, pid_t pid);

/* A cell starts. */
void cellar_usage_begin(struct cellar_usage *usage);

/* It has ended after `wall_us` with the worker alive. Memory is looked at only
 * when the cell was long enough to have used some that counts. */
void cellar_usage_end(struct cellar_usage *usage, uint64_t wall_us,
                      uint64_t *cpu_us, uint64_t *peak_bytes);

/* It has ended by the worker's death. */
void cellar_usage_end_by_death(struct cellar_usage *usage,
                               const struct rusage *used, uint64_t *cpu_us,
                               uint64_t *peak_bytes);

/* Memory of the worker that is no file's, in bytes; 0 where it can't be told.
 */
uint64_t cellar_usage_private(const struct cellar_usage *usage);

/* Whether the kernel has killed for memory since this was last asked or a
 * long cell ended well. */
bool cellar_usage_oom(struct cellar_usage *usage);

#endif
