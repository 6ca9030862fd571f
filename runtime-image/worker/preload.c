#include "runtime-image/worker/preload.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/record.h"
#include "runtime-image/worker/output.h"

static char names[CELLAR_PRELOAD_MAX + 1];

bool cellar_preload_note(void)
{
    PyObject *argv = PySys_GetObject("argv");
    PyObject *text =
        argv && PyList_Size(argv) > 1 ? PyList_GetItem(argv, 1) : NULL;
    CELLAR_REF PyObject *bytes = text ? PyUnicode_AsUTF8String(text) : NULL;
    if (bytes)
        (void)snprintf(names, sizeof(names), "%s", PyBytes_AsString(bytes));
    return !PyErr_Occurred();
}

/* What the exception says, in one line of the bytes that fit; "" when it can't
 * be told. */
static void describe(PyObject *value, char *line, size_t size)
{
    CELLAR_REF PyObject *text = value ? PyObject_Str(value) : NULL;
    CELLAR_REF PyObject *bytes =
        text ? PyUnicode_AsEncodedString(text, "utf-8", "replace") : NULL;
    line[0] = '\0';
    if (bytes)
        (void)snprintf(line, size, "%s", PyBytes_AsString(bytes));
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < ' ')
            *at = ' ';
    PyErr_Clear();
}

static const char *name_of_type(PyObject *type, PyObject **hold)
{
    CELLAR_REF PyObject *name =
        type ? PyObject_GetAttrString(type, "__name__") : NULL;
    *hold = name ? PyUnicode_AsUTF8String(name) : NULL;
    PyErr_Clear();
    return *hold ? PyBytes_AsString(*hold) : "an exception";
}

/* By write(2): sys.stderr is what an import may have replaced. */
static void give_up(const char *name)
{
    struct cellar_raised raised = cellar_raised_take();
    char why[200];
    char line[CELLAR_PRELOAD_MAX + 400];
    CELLAR_REF PyObject *hold = NULL;
    const char *type = name_of_type(raised.type, &hold);
    describe(raised.value, why, sizeof(why));
    cellar_output_finish();
    int len = snprintf(line, sizeof(line), "\nmodule %s: %.100s: %s\n", name,
                       type, why);
    (void)!write(STDERR_FILENO, line,
                 (size_t)len < sizeof(line) ? (size_t)len : sizeof(line) - 1);
    _exit(CELLAR_BOOT_PRELOAD);
}

/* What they print belongs to no cell. */
void cellar_preload_run(void)
{
    char *rest = names;
    char *name = NULL;
    while ((name = strsep(&rest, ",")) && *name) {
        CELLAR_REF PyObject *module = PyImport_ImportModule(name);
        if (!module)
            give_up(name);
    }
    cellar_output_finish();
}
