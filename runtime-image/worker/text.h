/*
 * Python text as UTF-8 that fits a bound. Lone surrogates become escapes
 * (\udc80). What is cut, is cut between code points, and says so:
 * "... [123 more bytes]".
 */
#ifndef CELLAR_WORKER_TEXT_H
#define CELLAR_WORKER_TEXT_H

#include "runtime-image/worker/worker.h"

/* The beginning of `str`: a new bytes object of at most `max` bytes, the mark
 * included. NULL: an exception is set. */
PyObject *cellar_text_head(PyObject *str, size_t max);

/* The beginning and the end of `str`, the mark on a line between them. */
PyObject *cellar_text_ends(PyObject *str, size_t max);

#endif
