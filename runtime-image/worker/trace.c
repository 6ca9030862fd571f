#include "runtime-image/worker/trace.h"

#include <stdio.h>

#include "proto/limits.h"
#include "runtime-image/worker/source.h"
#include "runtime-image/worker/text.h"

static struct {
    PyObject *type_name; /* the descriptor type.__dict__["__name__"] */
    PyObject *format;    /* traceback.format_exception, once it was needed */
    PyObject *empty;     /* "" */
} trace;

bool cellar_trace_init(void)
{
    CELLAR_REF PyObject *members =
        PyObject_GetAttrString((PyObject *)&PyType_Type, "__dict__");
    trace.type_name =
        members ? PyMapping_GetItemString(members, "__name__") : NULL;
    trace.empty = PyUnicode_FromString("");
    return trace.type_name && trace.empty;
}

void cellar_ending_done(struct cellar_ending *ending)
{
    Py_CLEAR(ending->name);
    Py_CLEAR(ending->text);
    Py_CLEAR(ending->trace);
}

/* As the interactive interpreter does, for pdb.pm() and the like. */
static void remember(const struct cellar_raised *raised)
{
    PyObject *traceback = raised->traceback ? raised->traceback : Py_None;
    (void)PySys_SetObject("last_type", raised->type);
    (void)PySys_SetObject("last_value", raised->value);
    (void)PySys_SetObject("last_traceback", traceback);
    (void)PySys_SetObject("last_exc", raised->value);
    PyErr_Clear();
}

/* The class's bare name, past any metaclass: a new str, never NULL unless
 * memory is out. */
static PyObject *class_name(PyObject *type)
{
    PyObject *name = PyObject_CallMethod(trace.type_name, "__get__", "O", type);
    if (name && PyUnicode_Check(name))
        return name;
    Py_XDECREF(name);
    PyErr_Clear();
    return PyUnicode_FromString("Exception");
}

/* str(value): a new str, never NULL unless memory is out. `stuck`: it had to
 * be interrupted. */
static PyObject *message(PyObject *value, bool *stuck)
{
    PyObject *text = PyObject_Str(value);
    if (text)
        return text;
    *stuck = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
    PyErr_Clear();
    return PyUnicode_FromString("<exception str() failed>");
}

/* All of it as the standard library prints it, or NULL and an exception. */
static PyObject *format(const struct cellar_raised *raised)
{
    cellar_source_publish();
    if (!trace.format)
        trace.format = cellar_import_from("traceback", "format_exception");
    if (!trace.format)
        return NULL;
    CELLAR_REF PyObject *pieces = PyObject_CallFunctionObjArgs(
        trace.format, raised->type, raised->value,
        raised->traceback ? raised->traceback : Py_None, NULL);
    CELLAR_REF PyObject *all =
        pieces ? PyUnicode_Join(trace.empty, pieces) : NULL;
    Py_ssize_t len = all ? PyUnicode_GetLength(all) : 0;
    if (len > 0 && PyUnicode_ReadChar(all, len - 1) == '\n')
        return PyUnicode_Substring(all, 0, len - 1);
    return CELLAR_TAKE(all);
}

/* The frames alone, for which no code of the exception's is needed. Never NULL
 * unless memory is out. */
static PyObject *format_frames(PyObject *traceback)
{
    CELLAR_REF PyObject *call =
        traceback ? cellar_import_from("traceback", "format_tb") : NULL;
    CELLAR_REF PyObject *pieces =
        call ? PyObject_CallFunctionObjArgs(call, traceback, NULL) : NULL;
    PyObject *frames = pieces ? PyUnicode_Join(trace.empty, pieces) : NULL;
    PyErr_Clear();
    return frames ? frames : PyUnicode_FromString("");
}

/* What is said where format() failed. */
static PyObject *format_plainly(const struct cellar_raised *raised,
                                PyObject *name, PyObject *text)
{
    PyErr_Clear();
    CELLAR_REF PyObject *frames = format_frames(raised->traceback);
    if (!frames || !name || !text)
        return NULL;
    return PyUnicode_FromFormat("Traceback (most recent call last):\n%U%U: %U",
                                frames, name, text);
}

static void describe(const struct cellar_raised *raised,
                     struct cellar_ending *ending)
{
    bool stuck = false;
    CELLAR_REF PyObject *name = class_name(raised->type);
    CELLAR_REF PyObject *text = message(raised->value, &stuck);
    PyObject *lines = stuck ? NULL : format(raised);
    CELLAR_REF PyObject *told =
        lines ? lines : format_plainly(raised, name, text);
    PyErr_Clear();
    if (name)
        ending->name = cellar_text_head(name, CELLAR_NAME_MAX);
    if (text)
        ending->text = cellar_text_head(text, CELLAR_MESSAGE_MAX);
    if (told)
        ending->trace = cellar_text_ends(told, CELLAR_TRACEBACK_MAX);
    PyErr_Clear();
}

/* The exit status as Python itself maps it; a message is printed. */
static int exit_status(PyObject *value)
{
    CELLAR_REF PyObject *code = PyObject_GetAttrString(value, "code");
    if (!code || code == Py_None)
        return 0;
    if (PyLong_Check(code))
        return (int)PyLong_AsLong(code);
    PyObject *file = PySys_GetObject("stderr");
    if (file && PyFile_WriteObject(code, file, Py_PRINT_RAW) == 0)
        (void)PyFile_WriteString("\n", file);
    return 1;
}

void cellar_trace_take(struct cellar_ending *ending)
{
    struct cellar_raised raised = cellar_raised_take();
    if (PyErr_GivenExceptionMatches(raised.type, PyExc_SystemExit)) {
        ending->outcome = CELLAR_OUTCOME_EXIT;
        ending->status = exit_status(raised.value);
        PyErr_Clear();
    } else {
        bool interrupted =
            PyErr_GivenExceptionMatches(raised.type, PyExc_KeyboardInterrupt);
        ending->outcome =
            interrupted ? CELLAR_OUTCOME_INTERRUPTED : CELLAR_OUTCOME_ERROR;
        remember(&raised);
        describe(&raised, ending);
    }
    cellar_raised_drop(&raised);
}
