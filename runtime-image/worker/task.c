#include "runtime-image/worker/task.h"

#include <string.h>

#include "runtime-image/worker/interrupt.h"

/* The cell as asyncio's tasks want it: an object with a coroutine's methods.
 * Both parts of the cell run within it, so that a loop is running for the
 * body too when only the last expression awaits. */
struct coroutine {
    PyObject_HEAD PyObject *codes[2]; /* body, last; either may be NULL */
    size_t next;                      /* of codes */
    PyObject *inner; /* the coroutine of the part that is being awaited */
};

static struct {
    PyObject *type; /* of struct coroutine */
    PyObject *asyncio;
    PyObject *loop;
    PyObject *handler; /* of SIGINT, while a task runs */
    PyObject *current; /* the task that runs, borrowed */
    bool cancelled;    /* by an interrupt */

    /* Of the cell that runs or ran last. */
    PyObject *globals; /* borrowed */
    PyObject *value;   /* of the part that has ended */
    PyObject *error;   /* what came out of it, and from where */
    PyObject *place;
} tasks;

static void replace(PyObject **slot, PyObject *ref)
{
    PyObject *old = *slot;
    *slot = ref;
    Py_XDECREF(old);
}

/* Notes the exception that leaves the cell, before asyncio adds its frames. */
static PyObject *note_error(void)
{
    struct cellar_raised raised = cellar_raised_take();
    Py_XINCREF(raised.value);
    Py_XINCREF(raised.traceback);
    replace(&tasks.error, raised.value);
    replace(&tasks.place, raised.traceback);
    cellar_raised_give(&raised);
    return NULL;
}

/* A part returned: takes its value out of the StopIteration that is set. */
static bool take_value(void)
{
    struct cellar_raised raised = cellar_raised_take();
    PyObject *value = PyObject_GetAttrString(raised.value, "value");
    cellar_raised_drop(&raised);
    replace(&tasks.value, value);
    return value != NULL;
}

/* Begins the next part: runs it, if nothing in it awaits, or leaves its
 * coroutine in `inner`. */
static bool begin_part(struct coroutine *self)
{
    PyObject *code = self->codes[self->next++];
    if (!code)
        return true;
    PyObject *value = PyEval_EvalCode(code, tasks.globals, tasks.globals);
    if (value && cellar_code_awaits(code))
        self->inner = value;
    else
        replace(&tasks.value, value);
    return value != NULL;
}

/* The inner coroutine raised: takes its value, if it was only its end. */
static bool end_part(struct coroutine *self)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration) || !take_value())
        return false;
    replace(&self->inner, NULL);
    return true;
}

/* Begins parts until one awaits, or none is left. */
static bool begin_parts(struct coroutine *self)
{
    while (!self->inner && self->next < 2)
        if (!begin_part(self))
            return false;
    return true;
}

/* Runs on after the inner coroutine answered with `yielded` (NULL: it ended).
 * The convention is that of send(). */
static PyObject *go_on(struct coroutine *self, PyObject *yielded)
{
    while (!yielded) {
        if ((self->inner && !end_part(self)) || !begin_parts(self))
            return note_error();
        if (!self->inner) {
            PyErr_SetNone(PyExc_StopIteration);
            return NULL;
        }
        yielded = PyObject_CallMethod(self->inner, "send", "O", Py_None);
    }
    return yielded;
}

static PyObject *coroutine_send(PyObject *object, PyObject *value)
{
    struct coroutine *self = (struct coroutine *)object;
    if (!self->inner)
        return go_on(self, NULL);
    return go_on(self, PyObject_CallMethod(self->inner, "send", "(O)", value));
}

static PyObject *coroutine_throw(PyObject *object, PyObject *args)
{
    struct coroutine *self = (struct coroutine *)object;
    PyObject *error = PyTuple_GetItem(args, 0);
    if (!error)
        return NULL;
    if (!self->inner) { /* cancelled before it began */
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        return note_error();
    }
    CELLAR_REF PyObject *method = PyObject_GetAttrString(self->inner, "throw");
    return method ? go_on(self, PyObject_CallObject(method, args)) : NULL;
}

static PyObject *coroutine_close(PyObject *object, PyObject *ignored)
{
    struct coroutine *self = (struct coroutine *)object;
    (void)ignored;
    if (self->inner)
        return PyObject_CallMethod(self->inner, "close", NULL);
    Py_RETURN_NONE;
}

static PyObject *coroutine_await(PyObject *object, PyObject *ignored)
{
    (void)ignored;
    Py_INCREF(object);
    return object;
}

static void coroutine_free(PyObject *object)
{
    struct coroutine *self = (struct coroutine *)object;
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    Py_CLEAR(self->codes[0]);
    Py_CLEAR(self->codes[1]);
    Py_CLEAR(self->inner);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef coroutine_methods[] = {
    {"send", coroutine_send, METH_O, NULL},
    {"throw", coroutine_throw, METH_VARARGS, NULL},
    {"close", coroutine_close, METH_NOARGS, NULL},
    {"__await__", coroutine_await, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot coroutine_slots[] = {
    {Py_tp_methods, coroutine_methods},
    {Py_tp_dealloc, coroutine_free},
    {0, NULL},
};

static PyType_Spec coroutine_spec = {
    .name = "_cellar.Cell",
    .basicsize = sizeof(struct coroutine),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = coroutine_slots,
};

static PyObject *coroutine_new(const struct cellar_code *code)
{
    PyObject *object = PyObject_CallObject(tasks.type, NULL);
    struct coroutine *self = (struct coroutine *)object;
    if (!self)
        return NULL;
    Py_XINCREF(code->body);
    Py_XINCREF(code->last);
    self->codes[0] = code->body;
    self->codes[1] = code->last;
    return object;
}

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
    tasks.type = PyType_FromSpec(&coroutine_spec);
    return tasks.handler && tasks.type;
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
        Py_XDECREF(run_loop(task));
    }
    PyErr_Clear();
    /* Asking for it keeps asyncio from reporting the exception as lost. */
    Py_XDECREF(PyObject_CallMethod(task, "exception", NULL));
    PyErr_Clear();
}

static bool is_cancellation(PyObject *type)
{
    CELLAR_REF PyObject *cancelled =
        PyObject_GetAttrString(tasks.asyncio, "CancelledError");
    bool is = cancelled && PyErr_GivenExceptionMatches(type, cancelled);
    PyErr_Clear();
    return is;
}

/* Gives what came out of the loop the traceback that it had when it left the
 * cell; the cancellation by an interrupt becomes the interrupt that it was. */
static void tidy(struct cellar_raised *raised)
{
    /* Up to 3.10 asyncio raises another CancelledError than the cell's. */
    bool cancelled = is_cancellation(raised->type);
    bool interrupted = cancelled && tasks.cancelled;
    if (!cancelled && raised->value != tasks.error)
        return;
    if (interrupted) {
        cellar_raised_drop(raised);
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        *raised = cellar_raised_take();
    }
    if (!tasks.place)
        return;
    replace(&raised->traceback, CELLAR_TAKE(tasks.place));
    (void)PyException_SetTraceback(raised->value, raised->traceback);
}

static bool run_task(PyObject *task)
{
    tasks.current = task;
    tasks.cancelled = false;
    bool diverted = cellar_interrupt_divert(tasks.handler);
    CELLAR_REF PyObject *done = PyErr_Occurred() ? NULL : run_loop(task);
    struct cellar_raised raised = cellar_raised_take();
    if (!done)
        wind_up(task);
    if (diverted && !cellar_interrupt_divert(NULL))
        PyErr_Clear();
    tasks.current = NULL;
    if (done)
        return true;
    tidy(&raised);
    cellar_raised_give(&raised);
    return false;
}

/* Lets go of what the cell's end left here. */
static void clear(void)
{
    replace(&tasks.value, NULL);
    replace(&tasks.error, NULL);
    replace(&tasks.place, NULL);
}

PyObject *cellar_task_run(const struct cellar_code *code, PyObject *globals)
{
    tasks.globals = globals;
    if (!prepare_loop())
        return NULL;
    CELLAR_REF PyObject *coroutine = coroutine_new(code);
    CELLAR_REF PyObject *task =
        coroutine
            ? PyObject_CallMethod(tasks.loop, "create_task", "O", coroutine)
            : NULL;
    bool done = task && run_task(task);
    PyObject *value = done && code->last ? tasks.value : Py_None;
    Py_INCREF(value);
    clear();
    if (done)
        return value;
    Py_DECREF(value);
    return NULL;
}

/* ------------------------------------------------------------------ copied --
 */

/* A selector as the loop's, for the same files. */
static PyObject *copy_selector(PyObject *old)
{
    CELLAR_REF PyObject *fresh =
        PyObject_CallObject((PyObject *)Py_TYPE(old), NULL);
    CELLAR_REF PyObject *map = PyObject_CallMethod(old, "get_map", NULL);
    CELLAR_REF PyObject *values = map ? PyMapping_Values(map) : NULL;
    Py_ssize_t count = values ? PyList_Size(values) : -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        /* fileobj, fd, events, data */
        PyObject *key = PyList_GetItem(values, i);
        CELLAR_REF PyObject *done = PyObject_CallMethod(
            fresh, "register", "OOO", PyTuple_GetItem(key, 0),
            PyTuple_GetItem(key, 2), PyTuple_GetItem(key, 3));
        if (!done)
            return NULL;
    }
    return fresh && count >= 0 ? CELLAR_TAKE(fresh) : NULL;
}

static bool call(PyObject *object, const char *method)
{
    CELLAR_REF PyObject *done = PyObject_CallMethod(object, method, NULL);
    return done != NULL;
}

static long own_end(PyObject *loop)
{
    CELLAR_REF PyObject *end = PyObject_GetAttrString(loop, "_csock");
    CELLAR_REF PyObject *fd =
        end ? PyObject_CallMethod(end, "fileno", NULL) : NULL;
    return fd ? PyLong_AsLong(fd) : -1;
}

/* For a loop's signal handlers the interpreter writes to this pipe. Where it
 * writes to another of the program's, that goes on. */
static bool renew_pipe(PyObject *loop)
{
    CELLAR_REF PyObject *wake = cellar_import_from("signal", "set_wakeup_fd");
    CELLAR_REF PyObject *before =
        wake ? PyObject_CallFunction(wake, "i", -1) : NULL;
    long old = before ? own_end(loop) : -1;
    if (old < 0 || !call(loop, "_close_self_pipe") ||
        !call(loop, "_make_self_pipe"))
        return false;
    long fd = PyLong_AsLong(before);
    CELLAR_REF PyObject *done =
        PyObject_CallFunction(wake, "l", fd == old ? own_end(loop) : fd);
    if (!done)
        PyErr_Clear(); /* it wrote to what is closed by now */
    return true;
}

static bool renew_loop(PyObject *loop)
{
    CELLAR_REF PyObject *old = PyObject_GetAttrString(loop, "_selector");
    CELLAR_REF PyObject *fresh = old ? copy_selector(old) : NULL;
    return fresh && PyObject_SetAttrString(loop, "_selector", fresh) == 0 &&
           call(old, "close") && renew_pipe(loop);
}

void cellar_task_renew(void)
{
    if (!tasks.loop || is_true(tasks.loop, "is_closed") ||
        (!PyErr_Occurred() && renew_loop(tasks.loop)))
        return;
    PyErr_Clear();
    Py_CLEAR(tasks.loop);
}
