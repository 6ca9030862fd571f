/*
 * How a cell's exception is told: what kind of ending it is, and name, text
 * and traceback for the answer, made by the standard library's traceback.
 * Exceptions are the user's objects: every piece has a plain fallback.
 */
#ifndef CELLAR_WORKER_TRACE_H
#define CELLAR_WORKER_TRACE_H

#include "proto/record.h"
#include "runtime-image/worker/worker.h"

/* How a cell ended. Zeroed is OK. */
struct cellar_ending {
    enum cellar_outcome outcome;
    int status;     /* exit status, of an EXIT */
    PyObject *name; /* bytes; NULL: none */
    PyObject *text;
    PyObject *trace; /* lines joined with \n */
};

bool cellar_trace_init(void);

/* Takes the exception that is set and describes it. Leaves it in
 * sys.last_value and the like, as the interactive interpreter does. A
 * SystemExit's message goes to sys.stderr. No exception is set afterwards,
 * whatever the exception's own code does. */
void cellar_trace_take(struct cellar_ending *ending);

void cellar_ending_done(struct cellar_ending *ending);

#endif
