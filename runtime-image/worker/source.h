/*
 * The source lines of cells, for tracebacks, warnings and inspect: the
 * standard library's linecache gets an entry "<cell N>" for each cell.
 *
 * linecache takes some milliseconds to import, most sessions never need it,
 * and nobody can tell beforehand. So a finder in sys.meta_path waits for the
 * first import of it, by whomever, and gives it all entries before its
 * importer sees it; from then on each new cell's entry is put in at once.
 *
 * Sources are kept as long as they may be asked for, within bounds: the last
 * cells, and many more of those that define a function, a class, a lambda.
 */
#ifndef CELLAR_WORKER_SOURCE_H
#define CELLAR_WORKER_SOURCE_H

#include "runtime-image/worker/worker.h"

bool cellar_source_init(void);

/* Keeps the source of the cell with the file name `name`. `defines`: it may
 * be asked for long after the cell. */
bool cellar_source_add(PyObject *name, PyObject *source, bool defines);

/* `source` as a new list of lines as Python counts them, each with "\n". */
PyObject *cellar_source_lines(PyObject *source);

/* Makes sure that linecache is loaded and knows all that is kept, as far as
 * that can be had: no exception is set. */
void cellar_source_publish(void);

#endif
