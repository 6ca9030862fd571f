/*
 * JSON that is whole or not there. Out of memory, jansson's reader drops the
 * bytes it can't hold and goes on, and its writer a key: a cell's code, a
 * record or a container's spec would be another one than was meant. Values are
 * jansson's own; only text goes through here.
 */
#ifndef CELLAR_KERNEL_JSON_H
#define CELLAR_KERNEL_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* As json_loadb() and json_loadf(). NULL: the text is damaged, or there is no
 * memory: cellar_json_starved(where) tells which. `where` may be NULL. */
json_t *cellar_json_parse(const char *text, size_t len, size_t flags,
                          json_error_t *where);
json_t *cellar_json_read(FILE *file, size_t flags, json_error_t *where);
bool cellar_json_starved(const json_error_t *where);

/* As json_dumps(): the caller frees. NULL: out of memory, or `value` is. */
char *cellar_json_text(const json_t *value, size_t flags);

/* The member at "HostConfig.Memory"; NULL: there is none. Lent. */
json_t *cellar_json_at(const json_t *value, const char *path);

#endif
