#include "runtime-image/worker/output.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime-image/worker/stream.h"

/* The streams, by the names that sys has for them. */
static const struct stream {
    const char *name;
    const char *original; /* what the user may have gone back to */
    const char *label;
    int fd;
} streams[] = {
    {"stdout", "__stdout__", "<stdout>", STDOUT_FILENO},
    {"stderr", "__stderr__", "<stderr>", STDERR_FILENO},
};

enum { STREAMS = sizeof(streams) / sizeof(streams[0]) };

static struct {
    PyObject *closed; /* "closed" */
    PyObject *flush;  /* "flush" */
} output;

static bool replace(size_t i)
{
    CELLAR_REF PyObject *file =
        cellar_stream_new(streams[i].fd, streams[i].label);
    return file && PySys_SetObject(streams[i].name, file) == 0 &&
           PySys_SetObject(streams[i].original, file) == 0;
}

static bool is_closed(PyObject *file)
{
    CELLAR_REF PyObject *closed = PyObject_GetAttr(file, output.closed);
    /* A file whose buffer was detached answers with ValueError. */
    bool is = closed ? PyObject_IsTrue(closed) > 0
                     : PyErr_ExceptionMatches(PyExc_ValueError);
    PyErr_Clear();
    return is;
}

bool cellar_output_init(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    output.closed = PyUnicode_InternFromString("closed");
    output.flush = PyUnicode_InternFromString("flush");
    if (!output.closed || !output.flush || !cellar_stream_init())
        return false;
    for (size_t i = 0; i < STREAMS; i++)
        if (!replace(i))
            return false;
    return true;
}

static void flush(PyObject *file)
{
    if (!file || file == Py_None)
        return;
    Py_XDECREF(PyObject_CallMethodObjArgs(file, output.flush, NULL));
    PyErr_Clear();
}

/* A new reference, for flushing may run the user's code, or NULL. */
static PyObject *get(const char *name)
{
    PyObject *file = PySys_GetObject(name);
    Py_XINCREF(file);
    return file;
}

static void finish(size_t i)
{
    CELLAR_REF PyObject *file = get(streams[i].name);
    CELLAR_REF PyObject *original = get(streams[i].original);
    flush(file);
    if (original != file)
        flush(original);
    if ((!file || file == Py_None || is_closed(file)) && !replace(i))
        PyErr_Clear();
}

/* The threads first: what one of them wrote between the flush and the note
 * would stay in the sink, and be the next cell's. */
void cellar_output_finish(void)
{
    cellar_stream_note_threads();
    for (size_t i = 0; i < STREAMS; i++)
        finish(i);
    (void)fflush(stdout);
}

void cellar_output_begin(void)
{
    cellar_stream_note_threads();
}
