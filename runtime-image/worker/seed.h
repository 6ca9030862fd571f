/* Random numbers, when one program goes on as two. */
#ifndef CELLAR_WORKER_SEED_H
#define CELLAR_WORKER_SEED_H

#include "runtime-image/worker/worker.h"

/* Seeds the generators that modules share (random's, numpy.random's) from the
 * system, where they are imported. Those that the program made itself go on as
 * they are. */
void cellar_seed_anew(void);

#endif
