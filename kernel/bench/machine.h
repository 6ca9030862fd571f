/* The machine a figure was measured on, in a line. */
#ifndef CELLAR_BENCH_MACHINE_H
#define CELLAR_BENCH_MACHINE_H

#include <stddef.h>

/* "AMD EPYC, 4 cores, Linux 6.1.0"; cut to `size`. */
void cellar_machine(char *text, size_t size);

#endif
