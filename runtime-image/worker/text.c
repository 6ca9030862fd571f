#include "runtime-image/worker/text.h"

#include <stdio.h>
#include <string.h>

enum {
    MARK_BYTES = 64,      /* room for a mark with any number in it */
    CHUNK_CHARS = 1 << 20 /* that are encoded at a time to be counted */
};

static PyObject *encode(PyObject *str)
{
    return PyUnicode_AsEncodedString(str, "utf-8", "backslashreplace");
}

static PyObject *encode_part(PyObject *str, Py_ssize_t from, Py_ssize_t to)
{
    CELLAR_REF PyObject *part = PyUnicode_Substring(str, from, to);
    return part ? encode(part) : NULL;
}

/* The length of `str` in UTF-8, found without a second copy of what may be
 * all the memory there is. Negative: an exception is set. */
static Py_ssize_t count(PyObject *str)
{
    Py_ssize_t chars = PyUnicode_GetLength(str), bytes = 0;
    for (Py_ssize_t at = 0; at < chars; at += CHUNK_CHARS) {
        CELLAR_REF PyObject *part = encode_part(str, at, at + CHUNK_CHARS);
        if (!part)
            return -1;
        bytes += PyBytes_Size(part);
    }
    return bytes;
}

static bool is_inside(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* The whole text, when it fits; else NULL, without an exception unless there
 * is one. */
static PyObject *whole(PyObject *str, size_t max)
{
    if ((size_t)PyUnicode_GetLength(str) > max)
        return NULL;
    CELLAR_REF PyObject *bytes = encode(str);
    return bytes && (size_t)PyBytes_Size(bytes) <= max ? CELLAR_TAKE(bytes)
                                                       : NULL;
}

/* Bytes of `bytes`, at most `max`, that end between code points. */
static size_t head_len(PyObject *bytes, size_t max)
{
    size_t len = (size_t)PyBytes_Size(bytes);
    if (len <= max)
        return len;
    const char *data = PyBytes_AsString(bytes);
    while (max > 0 && is_inside(data[max]))
        max--;
    return max;
}

static size_t tail_len(PyObject *bytes, size_t max)
{
    size_t len = (size_t)PyBytes_Size(bytes);
    if (len <= max)
        return len;
    const char *data = PyBytes_AsString(bytes);
    while (max > 0 && is_inside(data[len - max]))
        max--;
    return max;
}

/* head, mark and tail in one bytes object; `total` is the whole text's. */
static PyObject *join(PyObject *head, size_t before, PyObject *tail,
                      size_t after, size_t total)
{
    const char *line = tail ? "\n" : "";
    char mark[MARK_BYTES];
    int len = snprintf(mark, sizeof(mark), "%s... [%zu more bytes]%s", line,
                       total - before - after, line);
    PyObject *out = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(before + (size_t)len + after));
    if (!out)
        return NULL;
    char *at = PyBytes_AsString(out);
    memcpy(at, PyBytes_AsString(head), before);
    memcpy(at + before, mark, (size_t)len);
    if (tail)
        memcpy(at + before + (size_t)len,
               PyBytes_AsString(tail) + PyBytes_Size(tail) - after, after);
    return out;
}

PyObject *cellar_text_head(PyObject *str, size_t max)
{
    PyObject *all = whole(str, max);
    if (all || PyErr_Occurred())
        return all;
    Py_ssize_t total = count(str);
    CELLAR_REF PyObject *head = encode_part(str, 0, (Py_ssize_t)max);
    if (total < 0 || !head)
        return NULL;
    return join(head, head_len(head, max - MARK_BYTES), NULL, 0, (size_t)total);
}

PyObject *cellar_text_ends(PyObject *str, size_t max)
{
    PyObject *all = whole(str, max);
    if (all || PyErr_Occurred())
        return all;
    Py_ssize_t chars = PyUnicode_GetLength(str), total = count(str);
    Py_ssize_t half = (Py_ssize_t)(max - MARK_BYTES) / 2;
    CELLAR_REF PyObject *head = encode_part(str, 0, half);
    CELLAR_REF PyObject *tail =
        encode_part(str, chars > half ? chars - half : 0, chars);
    if (total < 0 || !head || !tail)
        return NULL;
    return join(head, head_len(head, (size_t)half), tail,
                tail_len(tail, (size_t)half), (size_t)total);
}
