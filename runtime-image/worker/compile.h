/*
 * A cell's source to code objects, as a notebook understands a cell: all of
 * it is compiled before anything runs; the value of a last expression is the
 * result; `await` may stand at the top level; a `from __future__` import
 * holds for all later cells too.
 */
#ifndef CELLAR_WORKER_COMPILE_H
#define CELLAR_WORKER_COMPILE_H

#include "runtime-image/worker/worker.h"

/* A cell's code. Zeroed is empty. */
struct cellar_code {
    PyObject *body; /* the statements before `last`, or NULL */
    PyObject *last; /* the last expression, or NULL */
    bool quiet;     /* a ';' follows it: there shall be no result */
    bool awaits;    /* one of them does: for cellar_task_run() alone */
    bool defines;   /* functions, classes, lambdas */
};

bool cellar_compile_init(void);

/* The part of the set-up that takes milliseconds, and that nobody has to wait
 * for but the first cell. */
bool cellar_compile_warm(void);

/* Compiles `source`, which tracebacks will call `name`. `plain`: its last
 * statement is no expression (statement.h), so none is looked for. False: the
 * exception is set, a SyntaxError as a rule. */
bool cellar_compile(PyObject *source, bool plain, PyObject *name,
                    struct cellar_code *code);

void cellar_code_done(struct cellar_code *code);

/* Whether running `code` makes a coroutine. */
bool cellar_code_awaits(PyObject *code);

#endif
