/*
 * sys.stdout and sys.stderr: UTF-8 whatever the locale, lines written as they
 * end, and there again in the next cell when a cell has closed them.
 */
#ifndef CELLAR_WORKER_OUTPUT_H
#define CELLAR_WORKER_OUTPUT_H

#include "runtime-image/worker/worker.h"

bool cellar_output_init(void);

/* A cell begins. Runs no code of the user's. */
void cellar_output_begin(void);

/* A cell has ended: writes out what Python's streams and C's stdout hold, and
 * makes anew what the cell has closed. Drops exceptions, an interrupt's too. */
void cellar_output_finish(void);

#endif
