/*
 * What every file of the worker shares: Python.h, cut down to the stable ABI,
 * so that one build of the extension is loaded by every CPython from 3.8 on.
 *
 * The worker runs cells in the interpreter it lives in. In order of a cell's
 * way: module.c (set-up, the loop), channel.c (records), cell.c (runs it),
 * compile.c, task.c (top-level await), trace.c (exceptions), source.c (lines
 * for tracebacks), text.c, bundle.c (a result's parts), output.c (streams),
 * interrupt.c (SIGINT); freeze.c, seed.c and apart.c (copies of the worker);
 * preload.c (modules imported at the start).
 *
 * User code may replace or delete anything that it can reach. So whatever a
 * cell's way needs is looked up once, in the _init() calls, before the first
 * cell; what is imported later has a fallback.
 *
 * All calls need the GIL unless they say otherwise. Those that can raise
 * return NULL or false with the exception set.
 */
#ifndef CELLAR_WORKER_H
#define CELLAR_WORKER_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03080000
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void cellar_auto_decref(PyObject **ref)
{
    Py_XDECREF(*ref);
}

/* An owned reference, given back at the end of the scope. */
#define CELLAR_REF __attribute__((cleanup(cellar_auto_decref)))

/* Hands over what `p` holds and leaves NULL. */
#define CELLAR_TAKE(p)                                                         \
    __extension__({                                                            \
        __typeof__(p) cellar_taken = (p);                                      \
        (p) = NULL;                                                            \
        cellar_taken;                                                          \
    })

/* An exception that was taken from the interpreter, normalised. Owned. */
struct cellar_raised {
    PyObject *type;
    PyObject *value;
    PyObject *traceback; /* or NULL */
};

/* Takes the exception that is set, or nothing; none is set afterwards. */
static inline struct cellar_raised cellar_raised_take(void)
{
    struct cellar_raised raised = {0};
    PyErr_Fetch(&raised.type, &raised.value, &raised.traceback);
    if (raised.type)
        PyErr_NormalizeException(&raised.type, &raised.value,
                                 &raised.traceback);
    if (raised.traceback)
        (void)PyException_SetTraceback(raised.value, raised.traceback);
    return raised;
}

/* Sets it again. */
static inline void cellar_raised_give(struct cellar_raised *raised)
{
    PyErr_Restore(raised->type, raised->value, raised->traceback);
    *raised = (struct cellar_raised){0};
}

static inline void cellar_raised_drop(struct cellar_raised *raised)
{
    Py_CLEAR(raised->type);
    Py_CLEAR(raised->value);
    Py_CLEAR(raised->traceback);
}

/* The attribute `name` of the module `module`, which is imported: a new
 * reference. */
static inline PyObject *cellar_import_from(const char *module, const char *name)
{
    CELLAR_REF PyObject *m = PyImport_ImportModule(module);
    return m ? PyObject_GetAttrString(m, name) : NULL;
}

#endif
