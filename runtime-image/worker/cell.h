/*
 * A cell, from its source to its answer.
 */
#ifndef CELLAR_WORKER_CELL_H
#define CELLAR_WORKER_CELL_H

#include "runtime-image/worker/channel.h"
#include "runtime-image/worker/worker.h"

/* `globals` is the dict of __main__, borrowed for ever. */
bool cellar_cell_init(PyObject *globals);

/* Runs the cell and fills `answer` up to its END; SIGINT is forbidden again
 * then. A forked child that comes back from the cell's code does
 * not return from here: it exits. */
void cellar_cell_run(const struct cellar_request *request,
                     struct cellar_answer *answer);

/* This process, a copy of the one before, has its channel from now on. */
void cellar_cell_move(void);

#endif
