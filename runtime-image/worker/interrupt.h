/*
 * SIGINT: it hits a cell, or nothing. Python's own C handler stands behind
 * one of ours, which drops a signal that comes while no cell is there: not
 * from cellar_interrupt_forbid() until the next cell's first byte has come.
 * So nothing is blocked, and a cell's threads and children inherit nothing
 * blocked.
 */
#ifndef CELLAR_WORKER_INTERRUPT_H
#define CELLAR_WORKER_INTERRUPT_H

#include "runtime-image/worker/worker.h"

/* SIGINT stays blocked until cellar_interrupt_start(): one for the first cell
 * may come while the worker is still setting up. */
bool cellar_interrupt_init(void);
void cellar_interrupt_start(void);

/* Something is there (cellar_channel_wait()) and not yet read: from now on
 * SIGINT is for it. Then: it is no cell. Both don't need the GIL. */
void cellar_interrupt_allow(void);
void cellar_interrupt_ignore(void);

/* A cell has ended: one that has not been noticed is forgotten, and the
 * handler is Python's own again. */
void cellar_interrupt_forbid(void);

/* Runs the Python handlers of signals that came in and drops what they raise;
 * what is no KeyboardInterrupt is shown on stderr. */
void cellar_interrupt_discard(void);

/* The Python handler of SIGINT: `handler` instead of Python's own (borrowed),
 * or Python's own again for NULL. Nothing happens, and false is returned,
 * where the cell has put in one of its own. */
bool cellar_interrupt_divert(PyObject *handler);

#endif
