/* What a figure was measured on, and what it took. */
#ifndef CELLAR_BENCH_MACHINE_H
#define CELLAR_BENCH_MACHINE_H

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

#endif
