/*
 * The module _cellar: its main() makes the process a worker.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime-image/worker/apart.h"
#include "runtime-image/worker/cell.h"
#include "runtime-image/worker/channel.h"
#include "runtime-image/worker/compile.h"
#include "runtime-image/worker/freeze.h"
#include "runtime-image/worker/interrupt.h"
#include "runtime-image/worker/output.h"
#include "runtime-image/worker/preload.h"
#include "runtime-image/worker/source.h"
#include "runtime-image/worker/task.h"
#include "runtime-image/worker/trace.h"
#include "runtime-image/worker/worker.h"

static void remove_key(PyObject *dict, PyObject *key)
{
    if (PyDict_DelItem(dict, key) < 0)
        PyErr_Clear();
}

/* Takes out of sys what starting the worker, from `file`, left there. */
static bool clean_sys(PyObject *file)
{
    static const char *const last[] = {"last_type", "last_value",
                                       "last_traceback", "last_exc"};
    for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++)
        (void)PySys_SetObject(last[i], NULL);
    PyErr_Clear();
    PyObject *path = PySys_GetObject("path");
    PyObject *importers = PySys_GetObject("path_importer_cache");
    PyObject *hook = PySys_GetObject("__excepthook__");
    PyObject *folder = path ? PyList_GetItem(path, 0) : NULL;
    CELLAR_REF PyObject *argv = Py_BuildValue("[s]", "");
    if (!argv || !folder || !importers || !hook)
        return false;
    remove_key(importers, folder);
    remove_key(importers, file);
    return PyList_SetSlice(path, 0, 1, NULL) == 0 &&
           PySys_SetObject("argv", argv) == 0 &&
           PySys_SetObject("excepthook", hook) == 0 &&
           PyDict_DelItemString(PyImport_GetModuleDict(), "_cellar") == 0;
}

/* Leaves no trace of boot.py, and in __main__ what the interactive interpreter
 * has there. Returns its dict, borrowed. */
static PyObject *clean(void)
{
    PyObject *module = PyImport_AddModule("__main__");
    CELLAR_REF PyObject *builtins = PyImport_ImportModule("builtins");
    CELLAR_REF PyObject *loader =
        cellar_import_from("_frozen_importlib", "BuiltinImporter");
    CELLAR_REF PyObject *fresh =
        Py_BuildValue("{sssOsOsOsOsO}", "__name__", "__main__", "__doc__",
                      Py_None, "__package__", Py_None, "__loader__", loader,
                      "__spec__", Py_None, "__builtins__", builtins);
    PyObject *globals = module ? PyModule_GetDict(module) : NULL;
    PyObject *file = globals ? PyDict_GetItemString(globals, "__file__") : NULL;
    if (!file || !fresh || !clean_sys(file))
        return NULL;
    PyDict_Clear(globals);
    return PyDict_Update(globals, fresh) == 0 ? globals : NULL;
}

static bool set_up(void)
{
    PyObject *globals = clean();
    return globals && cellar_interrupt_init() && cellar_output_init() &&
           cellar_source_init() && cellar_compile_init() &&
           cellar_task_init() && cellar_trace_init() && cellar_freeze_init() &&
           cellar_cell_init(globals);
}

static void announce(struct cellar_answer *answer)
{
    const char *version = Py_GetVersion();
    if (!cellar_answer_add(answer, CELLAR_RECORD_READY, version,
                           strcspn(version, " ")))
        _exit(CELLAR_BOOT_EXTENSION);
    cellar_channel_send(answer);
}

/* The answer leaves and the next cell is waited for in one stretch without
 * the GIL: it need not be won back from a busy thread twice. */
static void next(struct cellar_answer *answer, struct cellar_request *request)
{
    PyThreadState *state = PyEval_SaveThread();
    cellar_channel_send(answer);
    while (!cellar_channel_wait()) {
        PyEval_RestoreThread(state);
        cellar_interrupt_discard();
        state = PyEval_SaveThread();
    }
    cellar_interrupt_allow(); /* before it is read: see on_signal() */
    cellar_channel_read(request);
    if (request->kind == CELLAR_RECORD_FREEZE)
        cellar_interrupt_ignore();
    PyEval_RestoreThread(state);
}

/* After a fork the first write to a page copies it, which takes some
 * microseconds for each of the hundred pages that the shortest cell writes to.
 * An empty one, run while nobody waits, has them copied before the next. */
static void rehearse(struct cellar_answer *answer)
{
    static const struct cellar_request nothing = {.kind = CELLAR_RECORD_CODE,
                                                  .socket = -1,
                                                  .kept = true,
                                                  .code = "pass",
                                                  .len = 4};
    if (cellar_channel_has_bytes())
        return;
    cellar_cell_run(&nothing, answer);
    answer->len = 0;
}

static PyObject *worker_main(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    if (!cellar_preload_note() || !set_up()) {
        PyErr_Print();
        _exit(CELLAR_BOOT_EXTENSION);
    }
    if (!cellar_channel_init(CELLAR_RECORD_FD)) {
        PySys_WriteStderr("worker: fd %d is no socket\n", CELLAR_RECORD_FD);
        _exit(CELLAR_BOOT_EXTENSION);
    }
    struct cellar_answer answer = {0};
    struct cellar_request request = {0};
    cellar_preload_run(); /* a child of theirs has no channel */
    announce(&answer);
    if (!cellar_compile_warm()) {
        PyErr_Print();
        _exit(CELLAR_BOOT_EXTENSION);
    }
    cellar_interrupt_start();
    for (;;) {
        next(&answer, &request);
        cellar_apart_close();
        if (request.kind != CELLAR_RECORD_FREEZE)
            cellar_cell_run(&request, &answer);
        else if (request.socket >= 0 && cellar_freeze(request.socket))
            rehearse(&answer);
    }
}

static PyMethodDef methods[] = {
    {"main", worker_main, METH_VARARGS,
     "Runs the cells that come over the control socket; never returns."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_cellar",
    .m_size = -1,
    .m_methods = methods,
};

/* Python's name for it. NOLINTNEXTLINE(readability-identifier-naming) */
PyMODINIT_FUNC PyInit__cellar(void);

/* NOLINTNEXTLINE(readability-identifier-naming) */
PyMODINIT_FUNC PyInit__cellar(void)
{
    return PyModule_Create(&module);
}
