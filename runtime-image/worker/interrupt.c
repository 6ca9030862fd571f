#include "runtime-image/worker/interrupt.h"

#include <time.h>

static struct {
    PyObject *get;    /* _signal.getsignal */
    PyObject *set;    /* _signal.signal */
    PyObject *python; /* signal.default_int_handler */
    PyObject *divert; /* what stands in for it, or NULL */
    PyObject *number; /* SIGINT */
    void (*c_handler)(int);
    sigset_t only; /* SIGINT alone */
    sigset_t idle;
} interrupt;

/* sigprocmask() is per thread on Linux, and unlike pthread_sigmask() it has
 * the same symbol version in every glibc. */
static void block(int how, const sigset_t *set, sigset_t *old)
{
    (void)sigprocmask(how, set, old);
}

static void (*c_handler(void))(int)
{
    struct sigaction now = {0};
    (void)sigaction(SIGINT, NULL, &now);
    return now.sa_handler;
}

static bool set_handler(PyObject *handler)
{
    CELLAR_REF PyObject *old = PyObject_CallFunctionObjArgs(
        interrupt.set, interrupt.number, handler, NULL);
    return old != NULL;
}

bool cellar_interrupt_init(void)
{
    sigemptyset(&interrupt.only);
    sigaddset(&interrupt.only, SIGINT);
    sigemptyset(&interrupt.idle);
    block(SIG_SETMASK, &interrupt.only, NULL);
    interrupt.get = cellar_import_from("_signal", "getsignal");
    interrupt.set = cellar_import_from("_signal", "signal");
    interrupt.python = cellar_import_from("_signal", "default_int_handler");
    interrupt.number = PyLong_FromLong(SIGINT);
    if (!interrupt.get || !interrupt.set || !interrupt.python ||
        !interrupt.number || !set_handler(interrupt.python))
        return false;
    interrupt.c_handler = c_handler();
    return true;
}

void cellar_interrupt_allow(void)
{
    block(SIG_UNBLOCK, &interrupt.only, NULL);
}

void cellar_interrupt_discard(void)
{
    while (PyErr_CheckSignals() < 0)
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
            PyErr_Clear();
        else
            PyErr_WriteUnraisable(NULL);
}

static bool is_handler(PyObject *handler)
{
    CELLAR_REF PyObject *now =
        PyObject_CallFunctionObjArgs(interrupt.get, interrupt.number, NULL);
    return now == handler;
}

/* As ipykernel does: a cell's own handler lasts as long as the cell, for with
 * SIG_IGN left behind no later cell could be interrupted. */
static void restore_handler(void)
{
    interrupt.divert = NULL;
    if (c_handler() == interrupt.c_handler && is_handler(interrupt.python))
        return;
    if (!set_handler(interrupt.python))
        PyErr_WriteUnraisable(NULL);
}

void cellar_interrupt_forbid(void)
{
    block(SIG_BLOCK, &interrupt.only, &interrupt.idle);
    sigdelset(&interrupt.idle, SIGINT);
    while (sigtimedwait(&interrupt.only, NULL, &(struct timespec){0}) > 0)
        continue;
    cellar_interrupt_discard();
    restore_handler();
}

const sigset_t *cellar_interrupt_idle_mask(void)
{
    return &interrupt.idle;
}

bool cellar_interrupt_divert(PyObject *handler)
{
    PyObject *now = interrupt.divert ? interrupt.divert : interrupt.python;
    if (!is_handler(now))
        return false;
    interrupt.divert = handler;
    return set_handler(handler ? handler : interrupt.python);
}
