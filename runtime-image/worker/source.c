#include "runtime-image/worker/source.h"

/* File names, the oldest of which goes when the queue is full. */
struct queue {
    PyObject **names;
    size_t size;
    size_t first;
    size_t count;
};

enum {
    RECENT_MAX = 64,
    DEFINING_MAX = 4096,
    DEFINING_CHARS_MAX = 16 << 20 /* what 4,096 large cells come to */
};

static PyObject *recent_names[RECENT_MAX];
static PyObject *defining_names[DEFINING_MAX];

static struct {
    PyObject *texts;     /* name -> source of what is kept */
    PyObject *string_io; /* _io.StringIO */
    PyObject *linecache; /* once it is loaded */
    PyObject *finder;
    PyObject *loader; /* linecache's own, while it is being imported */
    struct queue recent;
    struct queue defining;
    Py_ssize_t defining_chars;
} sources = {.recent = {recent_names, RECENT_MAX, 0, 0},
             .defining = {defining_names, DEFINING_MAX, 0, 0}};

PyObject *cellar_source_lines(PyObject *source)
{
    /* With newline=None StringIO takes \r\n and \r for line ends, as Python's
     * tokenizer does; str.splitlines() would split at form feeds too. */
    CELLAR_REF PyObject *file =
        PyObject_CallFunctionObjArgs(sources.string_io, source, Py_None, NULL);
    CELLAR_REF PyObject *lines =
        file ? PyObject_CallMethod(file, "readlines", NULL) : NULL;
    if (!lines)
        return NULL;
    Py_ssize_t count = PyList_Size(lines);
    PyObject *last = count > 0 ? PyList_GetItem(lines, count - 1) : NULL;
    if (!last ||
        PyUnicode_ReadChar(last, PyUnicode_GetLength(last) - 1) == '\n')
        return CELLAR_TAKE(lines);
    PyObject *ended = PyUnicode_FromFormat("%U\n", last);
    if (!ended || PyList_SetItem(lines, count - 1, ended) < 0)
        return NULL;
    return CELLAR_TAKE(lines);
}

/* linecache's table of files: a new reference, or NULL. A user may have put
 * anything there. */
static PyObject *cache(void)
{
    CELLAR_REF PyObject *table =
        PyObject_GetAttrString(sources.linecache, "cache");
    if (table && !PyDict_Check(table))
        PyErr_SetString(PyExc_TypeError, "linecache.cache is no dict");
    return PyErr_Occurred() ? NULL : CELLAR_TAKE(table);
}

/* An entry without a modification time is never looked for on disk. */
static bool publish(PyObject *table, PyObject *name, PyObject *source)
{
    CELLAR_REF PyObject *lines = cellar_source_lines(source);
    CELLAR_REF PyObject *entry =
        lines ? Py_BuildValue("(nOOO)", PyUnicode_GetLength(source), Py_None,
                              lines, name)
              : NULL;
    return entry && PyDict_SetItem(table, name, entry) == 0;
}

static bool publish_all(void)
{
    CELLAR_REF PyObject *table = cache();
    PyObject *name = NULL, *source = NULL;
    Py_ssize_t at = 0;
    while (table && PyDict_Next(sources.texts, &at, &name, &source))
        if (!PyDict_GetItem(table, name) && !publish(table, name, source))
            return false;
    return table != NULL;
}

static void forget(PyObject *name)
{
    CELLAR_REF PyObject *table = sources.linecache ? cache() : NULL;
    if (table && PyDict_GetItem(table, name))
        (void)PyDict_DelItem(table, name);
    (void)PyDict_DelItem(sources.texts, name);
    PyErr_Clear();
}

/* Takes the oldest name out: a new reference. */
static PyObject *pop(struct queue *q)
{
    PyObject *name = q->names[q->first];
    q->first = q->first + 1 < q->size ? q->first + 1 : 0;
    q->count--;
    return name;
}

static void push(struct queue *q, PyObject *name)
{
    if (q->count == q->size) {
        CELLAR_REF PyObject *oldest = pop(q);
        forget(oldest);
    }
    Py_INCREF(name);
    size_t at = q->first + q->count++;
    q->names[at < q->size ? at : at - q->size] = name;
}

static Py_ssize_t text_len(PyObject *name)
{
    PyObject *text = PyDict_GetItem(sources.texts, name);
    return text ? PyUnicode_GetLength(text) : 0;
}

static void push_defining(PyObject *name)
{
    struct queue *q = &sources.defining;
    sources.defining_chars += text_len(name);
    while (q->count > 0 && (q->count == q->size ||
                            sources.defining_chars > DEFINING_CHARS_MAX)) {
        CELLAR_REF PyObject *oldest = pop(q);
        sources.defining_chars -= text_len(oldest);
        forget(oldest);
    }
    push(q, name);
}

/* What is no linecache, be it a user's doing or an import that an interrupt
 * broke off, is imported anew the next time. */
static void drop_linecache(void)
{
    PyErr_Clear();
    Py_CLEAR(sources.linecache);
    if (PyDict_DelItemString(PyImport_GetModuleDict(), "linecache") < 0)
        PyErr_Clear();
}

bool cellar_source_add(PyObject *name, PyObject *source, bool defines)
{
    if (PyDict_SetItem(sources.texts, name, source) < 0)
        return false;
    if (defines)
        push_defining(name);
    else
        push(&sources.recent, name);
    if (!sources.linecache)
        return true;
    CELLAR_REF PyObject *table = cache();
    if (!table || !publish(table, name, source))
        drop_linecache();
    return true;
}

void cellar_source_publish(void)
{
    if (!sources.linecache)
        sources.linecache = PyImport_ImportModule("linecache");
    if (!sources.linecache || !publish_all())
        drop_linecache();
}

/* What the other finders know of `name`: a new reference, None for nothing. */
static PyObject *find_elsewhere(PyObject *self, PyObject *args)
{
    PyObject *path = PySys_GetObject("meta_path");
    CELLAR_REF PyObject *finders = path ? PySequence_List(path) : NULL;
    for (Py_ssize_t i = 0; finders && i < PyList_Size(finders); i++) {
        PyObject *finder = PyList_GetItem(finders, i);
        if (finder == self)
            continue;
        CELLAR_REF PyObject *find = PyObject_GetAttrString(finder, "find_spec");
        CELLAR_REF PyObject *spec =
            find ? PyObject_CallObject(find, args) : NULL;
        if (!spec || spec != Py_None)
            return CELLAR_TAKE(spec);
    }
    Py_RETURN_NONE;
}

/* Spec of linecache with this object in its loader's place. */
static PyObject *find_spec(PyObject *self, PyObject *args)
{
    PyObject *name = PyTuple_GetItem(args, 0);
    if (!name)
        return NULL;
    if (!PyUnicode_Check(name) ||
        PyUnicode_CompareWithASCIIString(name, "linecache") != 0)
        Py_RETURN_NONE;
    CELLAR_REF PyObject *spec = find_elsewhere(self, args);
    if (!spec || spec == Py_None)
        return CELLAR_TAKE(spec);
    PyObject *loader = PyObject_GetAttrString(spec, "loader");
    Py_XDECREF(sources.loader);
    sources.loader = loader;
    if (!loader || PyObject_SetAttrString(spec, "loader", self) < 0)
        return NULL;
    return CELLAR_TAKE(spec);
}

static PyObject *create_module(PyObject *self, PyObject *spec)
{
    (void)self;
    return PyObject_CallMethod(sources.loader, "create_module", "O", spec);
}

static bool remove_finder(PyObject *self)
{
    PyObject *path = PySys_GetObject("meta_path");
    CELLAR_REF PyObject *done =
        path ? PyObject_CallMethod(path, "remove", "O", self) : NULL;
    if (!done)
        PyErr_Clear();
    return true;
}

static PyObject *exec_module(PyObject *self, PyObject *module)
{
    CELLAR_REF PyObject *spec = PyObject_GetAttrString(module, "__spec__");
    PyObject *loader = sources.loader;
    if (!spec || PyObject_SetAttrString(spec, "loader", loader) < 0 ||
        PyObject_SetAttrString(module, "__loader__", loader) < 0)
        return NULL;
    CELLAR_REF PyObject *done =
        PyObject_CallMethod(loader, "exec_module", "O", module);
    if (!done)
        return NULL;
    (void)remove_finder(self);
    Py_INCREF(module);
    sources.linecache = module;
    return publish_all() ? CELLAR_TAKE(done) : NULL;
}

static PyMethodDef finder_methods[] = {
    {"find_spec", find_spec, METH_VARARGS, NULL},
    {"create_module", create_module, METH_O, NULL},
    {"exec_module", exec_module, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot finder_slots[] = {
    {Py_tp_methods, finder_methods},
    {0, NULL},
};

static PyType_Spec finder_spec = {
    .name = "_cellar.SourceFinder",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = finder_slots,
};

bool cellar_source_init(void)
{
    PyObject *path = PySys_GetObject("meta_path");
    CELLAR_REF PyObject *type = PyType_FromSpec(&finder_spec);
    sources.texts = PyDict_New();
    sources.string_io = cellar_import_from("_io", "StringIO");
    sources.finder = type ? PyObject_CallObject(type, NULL) : NULL;
    if (!sources.texts || !sources.string_io || !sources.finder || !path ||
        !PyList_Check(path))
        return false;
    PyObject *loaded =
        PyDict_GetItemString(PyImport_GetModuleDict(), "linecache");
    if (loaded) {
        Py_INCREF(loaded);
        sources.linecache = loaded;
        return true;
    }
    return PyList_Insert(path, 0, sources.finder) == 0;
}
