#include "runtime-image/worker/task.h"

#include <string.h>

#include "runtime-image/worker/interrupt.h"

static struct {
    PyObject *asyncio;
    PyObject *loop;
    PyObject *handler; /* of SIGINT, while a task runs */
    PyObject *current; /* the task that runs, borrowed */
    bool cancelled;    /* by an interrupt */
} tasks;

static bool is_true(PyObject *object, const char *method)
{
    CELLAR_REF PyObject *answer = PyObject_CallMethod(object, method, NULL);
    return answer && PyObject_IsTrue(answer) > 0;
}

/* Whether the interrupted frame is the event loop's, where an exception could
 * tear its books apart. With none at all the loop is one written in C. */
static bool is_loop_frame(PyObject *frame)
{
    if (frame == Py_None)
        return true;
    CELLAR_REF PyObject *globals = PyObject_GetAttrString(frame, "f_globals");
    PyObject *name = globals ? PyDict_GetItemString(globals, "__name__") : NULL;
    CELLAR_REF PyObject *bytes =
        name && PyUnicode_Check(name) ? PyUnicode_AsUTF8String(name) : NULL;
    PyErr_Clear();
    const char *text = bytes ? PyBytes_AsString(bytes) : "";
    return strncmp(text, "asyncio", strlen("asyncio")) == 0 ||
           strcmp(text, "selectors") == 0;
}

static bool cancel(PyObject *task)
{
    CELLAR_REF PyObject *done = PyObject_CallMethod(task, "cancel", NULL);
    return done != NULL;
}

/* The Python handler of SIGINT, called with (number, frame). */
static PyObject *on_interrupt(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *frame = PyTuple_GetItem(args, 1);
    if (!frame)
        return NULL;
    if (tasks.cancelled || !tasks.current || !is_loop_frame(frame)) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    }
    tasks.cancelled = true;
    if (!cancel(tasks.current))
        return NULL;
    /* The selector goes on with its sleep after a signal: anything that is
     * harmless to call wakes it. */
    CELLAR_REF PyObject *nothing =
        PyObject_GetAttrString(tasks.current, "done");
    return nothing ? PyObject_CallMethod(tasks.loop, "call_soon_threadsafe",
                                         "O", nothing)
                   : NULL;
}

static PyMethodDef handler_method = {"interrupt", on_interrupt, METH_VARARGS,
                                     NULL};

bool cellar_task_init(void)
{
    tasks.handler = PyCFunction_New(&handler_method, NULL);
    return tasks.handler != NULL;
}

/* A user may have closed the loop, and asyncio.run() in another cell leaves
 * none set. */
static bool prepare_loop(void)
{
    if (!tasks.asyncio)
        tasks.asyncio = PyImport_ImportModule("asyncio");
    if (!tasks.asyncio)
        return false;
    if (tasks.loop && is_true(tasks.loop, "is_closed"))
        Py_CLEAR(tasks.loop);
    if (!tasks.loop && !PyErr_Occurred())
        tasks.loop = PyObject_CallMethod(tasks.asyncio, "new_event_loop", NULL);
    if (!tasks.loop)
        return false;
    CELLAR_REF PyObject *set =
        PyObject_CallMethod(tasks.asyncio, "set_event_loop", "O", tasks.loop);
    return set != NULL;
}

static PyObject *run_loop(PyObject *task)
{
    return PyObject_CallMethod(tasks.loop, "run_until_complete", "O", task);
}

/* After an interrupt broke out of the loop: lets the task end. */
static void wind_up(PyObject *task)
{
    if (!is_true(task, "done") && cancel(task)) {
        tasks.cancelled = true;
        CELLAR_REF PyObject *ignored = run_loop(task);
    }
    PyErr_Clear();
    /* Asking for it keeps asyncio from reporting the exception as lost. */
    CELLAR_REF PyObject *asked = PyObject_CallMethod(task, "exception", NULL);
    PyErr_Clear();
}

static bool is_frame_of(PyObject *traceback, PyObject *code)
{
    CELLAR_REF PyObject *frame = PyObject_GetAttrString(traceback, "tb_frame");
    CELLAR_REF PyObject *its =
        frame ? PyObject_GetAttrString(frame, "f_code") : NULL;
    return its == code;
}

/* The part of the error's traceback that begins with the cell's frame: a new
 * reference, or NULL, without an exception. */
static PyObject *cell_traceback(PyObject *error, PyObject *code)
{
    CELLAR_REF PyObject *at = PyException_GetTraceback(error);
    while (at && at != Py_None && !is_frame_of(at, code)) {
        PyObject *next = PyObject_GetAttrString(at, "tb_next");
        Py_DECREF(at);
        at = next;
    }
    PyErr_Clear();
    return at != Py_None ? CELLAR_TAKE(at) : NULL;
}

static bool is_cancellation(PyObject *type)
{
    CELLAR_REF PyObject *cancelled =
        PyObject_GetAttrString(tasks.asyncio, "CancelledError");
    bool is = cancelled && PyErr_GivenExceptionMatches(type, cancelled);
    PyErr_Clear();
    return is;
}

/* Makes the interrupt of a cancellation that was one, at the same place. */
static void to_interrupt(struct cellar_raised *raised, PyObject *code)
{
    /* Up to 3.10 the place of the cancellation is in its context. */
    CELLAR_REF PyObject *inner = PyException_GetContext(raised->value);
    CELLAR_REF PyObject *place = cell_traceback(raised->value, code);
    if (!place && inner)
        place = cell_traceback(inner, code);
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    cellar_raised_drop(raised);
    *raised = cellar_raised_take();
    raised->traceback = CELLAR_TAKE(place);
}

/* Takes asyncio's frames out of the traceback. */
static void tidy(struct cellar_raised *raised, PyObject *code)
{
    PyObject *place = cell_traceback(raised->value, code);
    if (!place)
        return;
    Py_XDECREF(raised->traceback);
    raised->traceback = place;
    (void)PyException_SetTraceback(raised->value, place);
}

static PyObject *run_task(PyObject *task, PyObject *code)
{
    tasks.current = task;
    tasks.cancelled = false;
    bool diverted = cellar_interrupt_divert(tasks.handler);
    PyObject *value = PyErr_Occurred() ? NULL : run_loop(task);
    struct cellar_raised raised = cellar_raised_take();
    if (!value)
        wind_up(task);
    if (diverted && !cellar_interrupt_divert(NULL))
        PyErr_Clear();
    tasks.current = NULL;
    if (value)
        return value;
    if (tasks.cancelled && is_cancellation(raised.type))
        to_interrupt(&raised, code);
    else
        tidy(&raised, code);
    cellar_raised_give(&raised);
    return NULL;
}

PyObject *cellar_task_run(PyObject *coroutine, PyObject *code)
{
    CELLAR_REF PyObject *task =
        prepare_loop()
            ? PyObject_CallMethod(tasks.loop, "create_task", "O", coroutine)
            : NULL;
    return task ? run_task(task, code) : NULL;
}
