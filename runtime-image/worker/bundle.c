#include "runtime-image/worker/bundle.h"

#include <string.h>

#include "proto/limits.h"

static const struct {
    const char *method;
    const char *type;
} methods[] = {
    {"_repr_html_", "text/html"},   {"_repr_markdown_", "text/markdown"},
    {"_repr_latex_", "text/latex"}, {"_repr_svg_", "image/svg+xml"},
    {"_repr_png_", "image/png"},    {"_repr_jpeg_", "image/jpeg"},
};
#define METHOD_COUNT (sizeof(methods) / sizeof(methods[0]))

static struct {
    PyObject *names[METHOD_COUNT]; /* of the methods, as str */
    PyObject *mimebundle;
    PyObject *base64;  /* binascii.b2a_base64 */
    PyObject *memory;  /* io.BytesIO */
    PyObject *figures; /* "matplotlib.figure" */
} bundle;

bool cellar_bundle_init(void)
{
    for (size_t i = 0; i < METHOD_COUNT; i++) {
        bundle.names[i] = PyUnicode_InternFromString(methods[i].method);
        if (!bundle.names[i])
            return false;
    }
    bundle.mimebundle = PyUnicode_InternFromString("_repr_mimebundle_");
    bundle.base64 = cellar_import_from("binascii", "b2a_base64");
    bundle.memory = cellar_import_from("io", "BytesIO");
    bundle.figures = PyUnicode_InternFromString("matplotlib.figure");
    return bundle.mimebundle && bundle.base64 && bundle.memory &&
           bundle.figures;
}

/* Parts that are being put together. */
struct parts {
    PyObject *list;
    size_t room;
};

/* False: what is raised is not to be hidden. */
static bool hide_exception(void)
{
    if (!PyErr_Occurred())
        return true;
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return false;
    PyErr_Clear();
    return true;
}

static PyObject *in_base64(PyObject *data)
{
    CELLAR_REF PyObject *text =
        PyObject_CallFunctionObjArgs(bundle.base64, data, NULL);
    Py_ssize_t len = text ? PyBytes_Size(text) : 0;
    return text ? PyBytes_FromStringAndSize(PyBytes_AsString(text),
                                            len > 0 ? len - 1 : 0)
                : NULL;
}

/* The value's bytes as they travel; NULL without an exception: it is of no
 * kind that can. */
static PyObject *encode(PyObject *value)
{
    if (PyUnicode_Check(value))
        return PyUnicode_AsEncodedString(value, "utf-8", "backslashreplace");
    return PyBytes_Check(value) ? in_base64(value) : NULL;
}

static bool has_type(const struct parts *parts, const char *type)
{
    for (Py_ssize_t i = 0; i < PyList_Size(parts->list); i++) {
        PyObject *pair = PyList_GetItem(parts->list, i);
        if (strcmp(PyBytes_AsString(PyTuple_GetItem(pair, 0)), type) == 0)
            return true;
    }
    return strcmp(type, "text/plain") == 0;
}

static bool leave_out(const char *type, size_t len)
{
    PySys_FormatStderr("Cellar: the result's %s is left out: %zu bytes do not "
                       "fit\n",
                       type, len);
    return hide_exception();
}

static bool add(struct parts *parts, const char *type, PyObject *value)
{
    size_t type_len = strlen(type);
    if (value == Py_None || type_len == 0 || type_len > CELLAR_NAME_MAX ||
        has_type(parts, type))
        return true;
    CELLAR_REF PyObject *data = encode(value);
    if (!data)
        return hide_exception();
    size_t len = (size_t)PyBytes_Size(data);
    if (len > parts->room || PyList_Size(parts->list) >= CELLAR_MIME_MAX - 1)
        return leave_out(type, len);
    CELLAR_REF PyObject *pair = Py_BuildValue("(yO)", type, data);
    if (!pair || PyList_Append(parts->list, pair) < 0)
        return false;
    parts->room -= len;
    return true;
}

/* The method `name` of the value's class, called for it; NULL without an
 * exception: there is none, or it raised. */
static PyObject *call(PyObject *value, PyObject *name)
{
    CELLAR_REF PyObject *method =
        PyObject_GetAttr((PyObject *)Py_TYPE(value), name);
    PyObject *given =
        method ? PyObject_CallFunctionObjArgs(method, value, NULL) : NULL;
    return given;
}

/* A dict, or a pair of a dict and what notebooks call metadata. */
static bool add_mimebundle(struct parts *parts, PyObject *value)
{
    CELLAR_REF PyObject *given = call(value, bundle.mimebundle);
    if (!given)
        return hide_exception();
    PyObject *dict = PyTuple_Check(given) && PyTuple_Size(given) > 0
                         ? PyTuple_GetItem(given, 0)
                         : given;
    PyObject *key = NULL;
    PyObject *part = NULL;
    for (Py_ssize_t at = 0;
         PyDict_Check(dict) && PyDict_Next(dict, &at, &key, &part);) {
        CELLAR_REF PyObject *type = encode(key);
        if (!type && !hide_exception())
            return false;
        if (type && PyUnicode_Check(key) &&
            !add(parts, PyBytes_AsString(type), part))
            return false;
    }
    return true;
}

static bool add_methods(struct parts *parts, PyObject *value)
{
    for (size_t i = 0; i < METHOD_COUNT; i++) {
        CELLAR_REF PyObject *given = call(value, bundle.names[i]);
        if (given ? !add(parts, methods[i].type, given) : !hide_exception())
            return false;
    }
    return true;
}

/* Only where the cell has matplotlib already. */
static bool is_figure(PyObject *value)
{
    PyObject *module = PyDict_GetItem(PyImport_GetModuleDict(), bundle.figures);
    CELLAR_REF PyObject *figure =
        module ? PyObject_GetAttrString(module, "Figure") : NULL;
    return figure && PyObject_IsInstance(value, figure) == 1;
}

static bool add_figure(struct parts *parts, PyObject *value)
{
    if (!is_figure(value))
        return hide_exception();
    CELLAR_REF PyObject *file =
        PyObject_CallFunctionObjArgs(bundle.memory, NULL);
    CELLAR_REF PyObject *saved =
        file ? PyObject_CallMethod(value, "savefig", "O", file) : NULL;
    CELLAR_REF PyObject *data =
        saved ? PyObject_CallMethod(file, "getvalue", NULL) : NULL;
    return data ? add(parts, "image/png", data) : hide_exception();
}

PyObject *cellar_bundle_of(PyObject *value, size_t room)
{
    CELLAR_REF PyObject *list = PyList_New(0);
    struct parts parts = {list, room};
    bool plain = PyType_Check(value) ||
                 !(PyType_GetFlags(Py_TYPE(value)) & Py_TPFLAGS_HEAPTYPE);
    if (!list || plain)
        return CELLAR_TAKE(list);
    if (!add_mimebundle(&parts, value) || !add_methods(&parts, value) ||
        !add_figure(&parts, value))
        return NULL;
    return CELLAR_TAKE(list);
}
