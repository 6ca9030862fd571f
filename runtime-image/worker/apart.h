/* What keeps the processes of a branch from those of the branches beside it,
 * which are of the same user. */
#ifndef CELLAR_WORKER_APART_H
#define CELLAR_WORKER_APART_H

#include "runtime-image/worker/worker.h"

/* In a copy that becomes a branch: from now on Landlock, where the kernel has
 * it, refuses all its processes to look into what is not of this branch, and is
 * asked the same for it by the others. What the branch was forked from may
 * look, but not into the worker: see _close(). */
void cellar_apart_begin(void);

/* In a branch, when its agent has all that it needs of the worker's /proc: that
 * is closed to everybody. Elsewhere nothing. */
void cellar_apart_close(void);

#endif
