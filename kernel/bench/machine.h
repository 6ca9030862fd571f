/* What a figure was measured on, and what it took. */
#ifndef CELLAR_BENCH_MACHINE_H
#define CELLAR_BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The machine in a line: "AMD EPYC, 4 cores, Linux 6.1.0"; cut to `size`. */
void cellar_machine(char *text, size_t size);

/* A size in /proc/self/status by its name there: "VmHWM:" is the largest
 * resident set so far. 0 where it doesn't tell. Unlike getrusage(), it doesn't
 * count what the parent had before its child became this program. */
uint64_t cellar_process_bytes(const char *name);

/* Memory of this machine that can be had without swapping; 0 where it doesn't
 * tell. */
uint64_t cellar_machine_free_bytes(void);

/* What a process of ours takes. */
struct cellar_stock {
    uint64_t malloced_bytes; /* given out by the allocator */
    uint64_t rss_bytes;
    uint64_t descriptors;
};

/* Of this process, now; what was freed is given back to the kernel first. */
struct cellar_stock cellar_stock_take(void);

/* The share of one of `count` in what was added. */
uint64_t cellar_stock_share(uint64_t after, uint64_t before, uint64_t count);

uint64_t cellar_entry_count(const char *path);

/* The proportional shares of memory (PSS) of a container's processes. */
struct cellar_shares {
    uint64_t agent_bytes;
    uint64_t worker_bytes; /* all its other processes: worker and copies */
    unsigned processes;
};

/* Finds them by the container's id in their control groups. False: there are
 * none to be seen here, or their memory isn't told; that is root's. */
bool cellar_shares_take(const char *container, struct cellar_shares *shares);

#endif
