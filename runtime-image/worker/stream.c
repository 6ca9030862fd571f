#include "runtime-image/worker/stream.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime-image/worker/sink.h"

/* The streams that are not plain, by fd - 1. Borrowed: compared, never used;
 * one that is freed was closed before, and so is plain. */
enum { STREAMS = 2 };
static PyObject *direct[STREAMS];

/* Methods of TextIOWrapper. */
enum base { WRITE, FLUSH, CLOSE, DETACH, RECONFIGURE, BASES };
static const char *const base_names[BASES] = {"write", "flush", "close",
                                              "detach", "reconfigure"};

static struct {
    PyObject *type;
    PyObject *base[BASES];
    PyObject *buffer; /* the descriptor TextIOWrapper.buffer */
    PyObject *open;   /* _io.open */
    PyObject *count;  /* _thread._count */
    unsigned long main_thread;
} stream;

/* Threads of earlier cells, sorted. The kernel's ids: those of pthreads are
 * used again as soon as a thread has ended. */
static struct {
    pid_t *ids;
    size_t count;
    size_t size;
} late;

static int compare(const void *a, const void *b)
{
    pid_t left = *(const pid_t *)a, right = *(const pid_t *)b;
    return (left > right) - (left < right);
}

static bool is_late(void)
{
    if (late.count == 0 || PyThread_get_thread_ident() == stream.main_thread)
        return false;
    pid_t id = (pid_t)syscall(SYS_gettid);
    return bsearch(&id, late.ids, late.count, sizeof(id), compare) != NULL;
}

static void add_late(pid_t id)
{
    if (late.count == late.size) {
        size_t size = late.size ? late.size * 2 : 64;
        pid_t *moved = realloc(late.ids, size * sizeof(*moved));
        if (!moved)
            return;
        late.ids = moved;
        late.size = size;
    }
    late.ids[late.count++] = id;
}

static void forget_late(void)
{
    late.count = 0;
}

static bool has_threads(void)
{
    CELLAR_REF PyObject *count = PyObject_CallObject(stream.count, NULL);
    bool has = count && PyLong_AsLong(count) > 0;
    PyErr_Clear();
    return has;
}

void cellar_stream_note_threads(void)
{
    cellar_sink_turn();
    forget_late();
    DIR *tasks = has_threads() ? opendir("/proc/self/task") : NULL;
    if (!tasks)
        return;
    for (struct dirent *entry; (entry = readdir(tasks));)
        if (entry->d_name[0] != '.')
            add_late((pid_t)strtoul(entry->d_name, NULL, 10));
    closedir(tasks);
    qsort(late.ids, late.count, sizeof(*late.ids), compare);
}

/* The sink of a stream that is not plain, else NULL. */
static struct cellar_sink *sink_of(PyObject *self)
{
    for (int i = 0; i < STREAMS; i++)
        if (direct[i] == self)
            return cellar_sink_of(STDOUT_FILENO + i);
    return NULL;
}

/* What a sink's call returned, as an exception. EINTR is none, unless the
 * signal's handler raises. */
static bool is_fine(int failed)
{
    if (failed == 0)
        return true;
    if (failed == EINTR)
        return PyErr_CheckSignals() == 0;
    errno = failed;
    PyErr_SetFromErrno(PyExc_OSError);
    return false;
}

static bool drain(struct cellar_sink *sink)
{
    int failed = EINTR;
    while (failed == EINTR) {
        failed = cellar_sink_flush(sink);
        if (!is_fine(failed))
            return false;
    }
    return true;
}

static bool put(struct cellar_sink *sink, PyObject *bytes)
{
    size_t len = (size_t)PyBytes_Size(bytes), done = 0;
    int failed = EINTR;
    while (failed == EINTR) {
        if (is_late())
            return true;
        failed = cellar_sink_write(sink, PyBytes_AsString(bytes), len, &done);
        if (!is_fine(failed))
            return false;
    }
    return true;
}

/* Nearly all text is sound, and nearly all of the way to an error handler by
 * its name is spared then. */
static PyObject *encode(PyObject *text)
{
    PyObject *bytes = PyUnicode_AsUTF8String(text);
    if (bytes || !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return bytes;
    PyErr_Clear();
    return PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
}

static PyObject *stream_write(PyObject *self, PyObject *text)
{
    struct cellar_sink *sink = sink_of(self);
    if (!sink || !PyUnicode_Check(text))
        return PyObject_CallFunctionObjArgs(stream.base[WRITE], self, text,
                                            NULL);
    if (!is_late()) {
        CELLAR_REF PyObject *bytes = encode(text);
        if (!bytes || !put(sink, bytes))
            return NULL;
    }
    return PyLong_FromSsize_t(PyUnicode_GetLength(text));
}

static PyObject *stream_flush(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    struct cellar_sink *sink = sink_of(self);
    if (!sink)
        return PyObject_CallFunctionObjArgs(stream.base[FLUSH], self, NULL);
    if (!drain(sink))
        return NULL;
    Py_RETURN_NONE;
}

/* Makes the stream plain; what is gathered leaves before. */
static bool give_up(PyObject *self)
{
    struct cellar_sink *sink = sink_of(self);
    if (!sink)
        return true;
    for (int i = 0; i < STREAMS; i++)
        if (direct[i] == self)
            direct[i] = NULL;
    return drain(sink);
}

static PyObject *stream_close(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    if (!give_up(self))
        PyErr_Clear();
    return PyObject_CallFunctionObjArgs(stream.base[CLOSE], self, NULL);
}

static PyObject *stream_detach(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return give_up(self)
               ? PyObject_CallFunctionObjArgs(stream.base[DETACH], self, NULL)
               : NULL;
}

static PyObject *stream_reconfigure(PyObject *self, PyObject *args,
                                    PyObject *options)
{
    CELLAR_REF PyObject *first = Py_BuildValue("(O)", self);
    CELLAR_REF PyObject *all = first ? PySequence_Concat(first, args) : NULL;
    if (!all || !give_up(self))
        return NULL;
    return PyObject_Call(stream.base[RECONFIGURE], all, options);
}

static PyObject *stream_buffer(PyObject *self, void *ignored)
{
    (void)ignored;
    if (!give_up(self))
        return NULL;
    return PyObject_CallMethod(stream.buffer, "__get__", "OO", self,
                               (PyObject *)Py_TYPE(self));
}

static PyMethodDef methods[] = {
    {"write", stream_write, METH_O, NULL},
    {"flush", stream_flush, METH_NOARGS, NULL},
    {"close", stream_close, METH_NOARGS, NULL},
    {"detach", stream_detach, METH_NOARGS, NULL},
    {"reconfigure", (PyCFunction)(void (*)(void))stream_reconfigure,
     METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"buffer", stream_buffer, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

/* Size 0: that of the base. */
static PyType_Spec spec = {
    .name = "_cellar.Stream",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

bool cellar_stream_init(void)
{
    CELLAR_REF PyObject *base = cellar_import_from("_io", "TextIOWrapper");
    CELLAR_REF PyObject *bases = base ? PyTuple_Pack(1, base) : NULL;
    stream.type = bases ? PyType_FromSpecWithBases(&spec, bases) : NULL;
    stream.buffer = base ? PyObject_GetAttrString(base, "buffer") : NULL;
    stream.open = cellar_import_from("_io", "open");
    stream.count = cellar_import_from("_thread", "_count");
    stream.main_thread = PyThread_get_thread_ident();
    for (int i = 0; base && i < BASES; i++) {
        stream.base[i] = PyObject_GetAttrString(base, base_names[i]);
        if (!stream.base[i])
            return false;
    }
    return stream.type && stream.buffer && stream.open && stream.count &&
           cellar_sink_init() && pthread_atfork(NULL, NULL, forget_late) == 0;
}

/* The binary file below. closefd=False: closing it must not close what C code
 * and subprocesses write to. */
static PyObject *open_buffer(int fd, const char *name)
{
    CELLAR_REF PyObject *file =
        PyObject_CallFunction(stream.open, "isiOOOO", fd, "wb", -1, Py_None,
                              Py_None, Py_None, Py_False);
    CELLAR_REF PyObject *raw =
        file ? PyObject_GetAttrString(file, "raw") : NULL;
    CELLAR_REF PyObject *text = raw ? PyUnicode_FromString(name) : NULL;
    return text && PyObject_SetAttrString(raw, "name", text) == 0
               ? CELLAR_TAKE(file)
               : NULL;
}

PyObject *cellar_stream_new(int fd, const char *name)
{
    CELLAR_REF PyObject *buffer = open_buffer(fd, name);
    CELLAR_REF PyObject *file =
        buffer ? PyObject_CallFunction(stream.type, "OsssO", buffer, "utf-8",
                                       "backslashreplace", "\n", Py_True)
               : NULL;
    CELLAR_REF PyObject *mode = file ? PyUnicode_FromString("w") : NULL;
    if (!mode || PyObject_SetAttrString(file, "mode", mode) < 0)
        return NULL;
    direct[fd - STDOUT_FILENO] = file;
    return CELLAR_TAKE(file);
}
