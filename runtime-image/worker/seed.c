#include "runtime-image/worker/seed.h"

/* A module that is broken, or shadowed by another of that name, is left as it
 * is. */
static void seed(const char *module)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *found = PyDict_GetItemString(modules, module);
    CELLAR_REF PyObject *done =
        found ? PyObject_CallMethod(found, "seed", NULL) : NULL;
    if (!done)
        PyErr_Clear();
}

void cellar_seed_anew(void)
{
    seed("random");
    seed("numpy.random");
}
