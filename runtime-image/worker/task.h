/*
 * Top-level await: runs a cell as a task of the session's event loop. The
 * loop is made at the first use and stays, so background tasks go on whenever
 * a later cell awaits; none is running while other cells run, so that
 * asyncio.run() works there.
 */
#ifndef CELLAR_WORKER_TASK_H
#define CELLAR_WORKER_TASK_H

#include "runtime-image/worker/compile.h"
#include "runtime-image/worker/worker.h"

bool cellar_task_init(void);

/* Runs all of `code`, of which a part awaits, in `globals`: the value of the
 * last expression (None without one), or NULL and the cell's exception, with
 * no frame of asyncio's above the cell's.
 *
 * An interrupt that hits the user's own code raises KeyboardInterrupt there.
 * One that hits the event loop cancels the task, so that its `finally` blocks
 * run, and the result is a KeyboardInterrupt from where it was waiting. A
 * second one stops waiting for that. */
PyObject *cellar_task_run(const struct cellar_code *code, PyObject *globals);

/* In a process that was copied: the loop shares its epoll and its wake-up pipe
 * with the one it was copied from, and gets its own. A loop that can't be given
 * them is let go of, with the tasks it had. */
void cellar_task_renew(void);

#endif
