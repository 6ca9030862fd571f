/*
 * What a value shows of itself beside its repr(): a MIME bundle, made by the
 * methods that IPython has given names to (_repr_html_, _repr_png_, ...,
 * _repr_mimebundle_), and a matplotlib figure's picture.
 *
 * They are looked up on the value's class, and only where that was made by a
 * class statement: what is built in has none, and costs nothing.
 */
#ifndef CELLAR_WORKER_BUNDLE_H
#define CELLAR_WORKER_BUNDLE_H

#include "runtime-image/worker/worker.h"

bool cellar_bundle_init(void);

/* The parts, a new list of (type, data), all bytes objects; what is binary is
 * in base64, as notebooks have it. At most `room` bytes of data, and as many
 * parts as an answer may have beside text/plain: what does not fit is left
 * out, and said on stderr. A method that raises leaves its part out. NULL: an
 * exception that is none of theirs to hide is set (an interrupt, an exit). */
PyObject *cellar_bundle_of(PyObject *value, size_t room);

#endif
