#include "runtime-image/worker/cell.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/limits.h"
#include "runtime-image/worker/bundle.h"
#include "runtime-image/worker/compile.h"
#include "runtime-image/worker/freeze.h"
#include "runtime-image/worker/interrupt.h"
#include "runtime-image/worker/output.h"
#include "runtime-image/worker/source.h"
#include "runtime-image/worker/statement.h"
#include "runtime-image/worker/task.h"
#include "runtime-image/worker/text.h"
#include "runtime-image/worker/trace.h"

static struct {
    PyObject *globals;
    PyObject *module;   /* builtins */
    PyObject *builtins; /* its dict, where `_` goes */
    PyObject *underscore;
    PyObject *builtins_name; /* "__builtins__" */
    pid_t home;              /* the process whose channel it is */
} cells;

bool cellar_cell_init(PyObject *globals)
{
    cells.globals = globals;
    cells.module = PyImport_ImportModule("builtins");
    cells.builtins = cells.module ? PyModule_GetDict(cells.module) : NULL;
    cells.underscore = PyUnicode_InternFromString("_");
    cells.builtins_name = PyUnicode_InternFromString("__builtins__");
    cells.home = getpid();
    return cells.builtins && cells.underscore && cells.builtins_name &&
           cellar_bundle_init();
}

void cellar_cell_move(void)
{
    cells.home = getpid();
}

static PyObject *evaluate(PyObject *code)
{
    return PyEval_EvalCode(code, cells.globals, cells.globals);
}

/* Up to 3.9 code finds no builtins at all where a cell has deleted these. */
static bool ensure_builtins(void)
{
    return PyDict_GetItem(cells.globals, cells.builtins_name) ||
           PyDict_SetItem(cells.globals, cells.builtins_name, cells.module) ==
               0;
}

/* The value of the last expression, None when there is none. */
static PyObject *perform(const struct cellar_code *code)
{
    if (!ensure_builtins())
        return NULL;
    if (code->awaits)
        return cellar_task_run(code, cells.globals);
    if (code->body) {
        CELLAR_REF PyObject *ignored = evaluate(code->body);
        if (!ignored)
            return NULL;
    }
    if (code->last)
        return evaluate(code->last);
    Py_RETURN_NONE;
}

/* The result's repr() as bytes; it becomes `_` unless repr() raises, as in
 * the interactive interpreter. */
static PyObject *represent(PyObject *value)
{
    CELLAR_REF PyObject *text = PyObject_Repr(value);
    CELLAR_REF PyObject *bytes =
        text ? cellar_text_head(text, CELLAR_RESULT_MAX) : NULL;
    if (!bytes || PyDict_SetItem(cells.builtins, cells.underscore, value) < 0)
        return NULL;
    return CELLAR_TAKE(bytes);
}

/* What a cell's last expression came to: new references, NULL where there is
 * none. */
struct shown {
    PyObject *text;
    PyObject *parts; /* bundle.h */
};

static void shown_done(struct shown *shown)
{
    Py_CLEAR(shown->text);
    Py_CLEAR(shown->parts);
}

/* Runs the code. False: its exception is set. */
static bool show(const struct cellar_code *code, struct shown *shown)
{
    CELLAR_REF PyObject *value = perform(code);
    if (!value || value == Py_None || code->quiet)
        return value != NULL;
    shown->text = represent(value);
    if (shown->text)
        shown->parts = cellar_bundle_of(
            value, CELLAR_RESULT_MAX - (size_t)PyBytes_Size(shown->text));
    return shown->parts != NULL;
}

static bool run(const struct cellar_request *request, struct shown *shown)
{
    CELLAR_REF PyObject *name =
        PyUnicode_FromFormat("<cell %llu>", (unsigned long long)request->cell);
    CELLAR_REF PyObject *source =
        PyUnicode_DecodeUTF8(request->code, (Py_ssize_t)request->len, NULL);
    __attribute__((cleanup(cellar_code_done))) struct cellar_code code = {0};
    bool plain = cellar_statement_is_last(request->code, request->len);
    return name && source && cellar_compile(source, plain, name, &code) &&
           cellar_source_add(name, source, code.defines) && show(&code, shown);
}

/* What a child of os.fork() does that ran on behind the end of its cell: it
 * ends, as a script's would, but without the exit handlers of its parent. */
static void leave_child(const struct cellar_ending *ending)
{
    const PyObject *trace = ending->trace;
    if (trace) {
        PySys_FormatStderr("%s\n", PyBytes_AsString(ending->trace));
        cellar_output_finish();
    }
    bool failed = ending->outcome == CELLAR_OUTCOME_ERROR ||
                  ending->outcome == CELLAR_OUTCOME_INTERRUPTED;
    _exit(failed ? EXIT_FAILURE : ending->status);
}

static void add_text(struct cellar_answer *answer, enum cellar_record_kind kind,
                     PyObject *bytes)
{
    if (bytes)
        (void)cellar_answer_add(answer, kind, PyBytes_AsString(bytes),
                                (size_t)PyBytes_Size(bytes));
}

static void add_part(struct cellar_answer *answer, const char *type,
                     PyObject *data)
{
    (void)cellar_answer_add_part(answer, type, PyBytes_AsString(data),
                                 (size_t)PyBytes_Size(data));
}

/* Both or neither: a cell that was interrupted in between has no result. */
static void add_shown(struct cellar_answer *answer, const struct shown *shown)
{
    Py_ssize_t count = shown->parts ? PyList_Size(shown->parts) : 0;
    if (shown->parts)
        add_part(answer, "text/plain", shown->text);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyList_GetItem(shown->parts, i);
        add_part(answer, PyBytes_AsString(PyTuple_GetItem(pair, 0)),
                 PyTuple_GetItem(pair, 1));
    }
}

static void fill(struct cellar_answer *answer,
                 const struct cellar_request *request,
                 const struct shown *shown, const struct cellar_ending *ending)
{
    add_shown(answer, shown);
    add_text(answer, CELLAR_RECORD_NAME, ending->name);
    add_text(answer, CELLAR_RECORD_TEXT, ending->text);
    add_text(answer, CELLAR_RECORD_TRACE, ending->trace);
    const char *hindrance = request->kept ? cellar_freeze_hindrance() : NULL;
    if (hindrance)
        (void)cellar_answer_add(answer, CELLAR_RECORD_UNFIT, hindrance,
                                strlen(hindrance));
    cellar_answer_end(answer, request->ticket, ending->outcome,
                      (uint32_t)ending->status);
}

void cellar_cell_run(const struct cellar_request *request,
                     struct cellar_answer *answer)
{
    __attribute__((cleanup(cellar_ending_done))) struct cellar_ending ending = {
        0};
    __attribute__((cleanup(shown_done))) struct shown shown = {0};
    cellar_output_begin();
    if (!run(request, &shown))
        cellar_trace_take(&ending);
    cellar_output_finish();
    cellar_interrupt_forbid();
    if (getpid() != cells.home)
        leave_child(&ending);
    fill(answer, request, &shown, &ending);
}
