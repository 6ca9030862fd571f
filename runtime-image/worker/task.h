/*
 * Top-level await: runs a cell's coroutine on the session's event loop. The
 * loop is made at the first use and stays, so background tasks go on whenever
 * a later cell awaits; none is running while other cells run, so that
 * asyncio.run() works there.
 */
#ifndef CELLAR_WORKER_TASK_H
#define CELLAR_WORKER_TASK_H

#include "runtime-image/worker/worker.h"

bool cellar_task_init(void);

/* Runs `coroutine`, made from the cell's `code`, to its end: its value, or
 * NULL and its exception, with no frame of asyncio's above the cell's.
 *
 * An interrupt that hits the cell's own code raises KeyboardInterrupt there.
 * One that hits the event loop cancels the task, so that its `finally` blocks
 * run, and the result is a KeyboardInterrupt from where it was waiting. A
 * second one stops waiting for that. */
PyObject *cellar_task_run(PyObject *coroutine, PyObject *code);

#endif
