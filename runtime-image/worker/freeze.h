/*
 * Copies of the worker, which checkpoints are made of: an idle worker forks,
 * and the child waits, frozen, until the agent wakes it to be the worker.
 *
 * None of Python's hooks for os.fork() runs, neither here nor there: a copy is
 * no child of the program but the program itself, at an earlier time. The C
 * library's own hooks do (pthread_atfork), so OpenBLAS and its like know.
 */
#ifndef CELLAR_WORKER_FREEZE_H
#define CELLAR_WORKER_FREEZE_H

#include "runtime-image/worker/worker.h"

bool cellar_freeze_init(void);

/* Why the worker can't be copied, in a line, or NULL. Lives until the next
 * call. */
const char *cellar_freeze_hindrance(void);

/* Forks a copy that speaks on `socket`, which is taken; or says there why not.
 * Returns in the worker at once: whether there is one; and in the copy (false)
 * when it has been woken and is the worker. */
bool cellar_freeze(int socket);

#endif
