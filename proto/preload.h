/*
 * Modules that a session's Python imports before it says that it is ready:
 * dotted names, separated by commas, in one text ("numpy,os.path"); "" is none.
 */
#ifndef CELLAR_PROTO_PRELOAD_H
#define CELLAR_PROTO_PRELOAD_H

#include <stdbool.h>
#include <stddef.h>

/* Whether `len` bytes are such a text: names of letters, digits and _ that
 * begin with no digit, CELLAR_PRELOAD_MAX bytes at most. */
bool cellar_preload_valid(const char *text, size_t len);

#endif
