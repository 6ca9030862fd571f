#include "runtime-image/worker/interrupt.h"

#include <errno.h>
#include <signal.h>

#include "runtime-image/worker/channel.h"

static volatile sig_atomic_t idle = 1;

static struct {
    PyObject *get;           /* _signal.getsignal */
    PyObject *set;           /* _signal.signal */
    PyObject *python;        /* signal.default_int_handler */
    PyObject *divert;        /* what stands in for it, or NULL */
    PyObject *number;        /* SIGINT */
    struct sigaction behind; /* with Python's C handler */
} interrupt;

/* May run in any thread. A signal that is handled after the next cell has
 * come can only be meant for that cell: the agent sends none to an idle
 * worker, but one may cross the end of its cell. */
static void on_signal(int number)
{
    int saved = errno;
    if (!idle || cellar_channel_has_bytes())
        interrupt.behind.sa_handler(number);
    errno = saved;
}

static bool is_wrapped(void)
{
    struct sigaction now = {0};
    return sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == on_signal;
}

static void wrap(void)
{
    struct sigaction ours = interrupt.behind;
    ours.sa_handler = on_signal;
    (void)sigaction(SIGINT, &ours, NULL);
}

/* Puts Python's C handler in place, for which wrap() is the remedy. */
static bool set_handler(PyObject *handler)
{
    CELLAR_REF PyObject *old = PyObject_CallFunctionObjArgs(
        interrupt.set, interrupt.number, handler, NULL);
    return old != NULL;
}

static bool is_handler(PyObject *handler)
{
    CELLAR_REF PyObject *now =
        PyObject_CallFunctionObjArgs(interrupt.get, interrupt.number, NULL);
    return now == handler;
}

/* sigprocmask() is per thread on Linux, and unlike pthread_sigmask() has the
 * same symbol version in every glibc. */
static void mask(int how)
{
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGINT);
    (void)sigprocmask(how, &only, NULL);
}

bool cellar_interrupt_init(void)
{
    mask(SIG_BLOCK);
    interrupt.get = cellar_import_from("_signal", "getsignal");
    interrupt.set = cellar_import_from("_signal", "signal");
    interrupt.python = cellar_import_from("_signal", "default_int_handler");
    interrupt.number = PyLong_FromLong(SIGINT);
    if (!interrupt.get || !interrupt.set || !interrupt.python ||
        !interrupt.number || !set_handler(interrupt.python) ||
        sigaction(SIGINT, NULL, &interrupt.behind) < 0)
        return false;
    wrap();
    return true;
}

void cellar_interrupt_start(void)
{
    mask(SIG_UNBLOCK);
}

void cellar_interrupt_allow(void)
{
    idle = 0;
}

void cellar_interrupt_ignore(void)
{
    idle = 1;
}

void cellar_interrupt_discard(void)
{
    while (PyErr_CheckSignals() < 0)
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
            PyErr_Clear();
        else
            PyErr_WriteUnraisable(NULL);
}

void cellar_interrupt_forbid(void)
{
    idle = 1;
    if (!is_wrapped())
        wrap();
    mask(SIG_UNBLOCK); /* the cell may have blocked it */
    cellar_interrupt_discard();
    interrupt.divert = NULL;
    if (is_handler(interrupt.python))
        return;
    /* As ipykernel does: a cell's own handler lasts as long as the cell, for
     * with SIG_IGN left behind no later cell could be interrupted. */
    if (!set_handler(interrupt.python))
        PyErr_WriteUnraisable(NULL);
    wrap();
    cellar_interrupt_discard();
}

bool cellar_interrupt_divert(PyObject *handler)
{
    PyObject *now = interrupt.divert ? interrupt.divert : interrupt.python;
    if (!is_handler(now))
        return false;
    interrupt.divert = handler;
    return set_handler(handler ? handler : interrupt.python);
}
