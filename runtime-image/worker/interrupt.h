/*
 * SIGINT: it hits a cell, or nothing. It is blocked but for the time from
 * cellar_interrupt_allow() to cellar_interrupt_forbid(), and while the worker
 * waits for a cell, where it is thrown away.
 */
#ifndef CELLAR_WORKER_INTERRUPT_H
#define CELLAR_WORKER_INTERRUPT_H

#include <signal.h>

#include "runtime-image/worker/worker.h"

bool cellar_interrupt_init(void);

/* A cell begins: SIGINT is deliverable, to Python's own handler. */
void cellar_interrupt_allow(void);

/* A cell has ended: SIGINT is blocked, one that has not been noticed is
 * forgotten, and the handler is Python's own again. */
void cellar_interrupt_forbid(void);

/* Runs the Python handlers of signals that came in and drops what they raise;
 * what is no KeyboardInterrupt is shown on stderr. */
void cellar_interrupt_discard(void);

/* The signal mask for the time between cells: lent. */
const sigset_t *cellar_interrupt_idle_mask(void);

/* The Python handler of SIGINT: `handler` instead of Python's own (borrowed),
 * or Python's own again for NULL. Nothing happens, and false is returned,
 * where the cell has put in one of its own. */
bool cellar_interrupt_divert(PyObject *handler);

#endif
