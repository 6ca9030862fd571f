#include "json.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* jansson's allocator, ours or the program's own, and whether it failed this
 * thread: the one way to learn of it. */
static json_malloc_t allocate;
static _Thread_local bool starved;
static _Thread_local bool parsing;

/* A token that could not grow lacks a byte, and the parser does not look: with
 * the quote that closes it lost, it would read on behind its end. It looks at
 * the next allocation, so that has to fail, too. */
static void *watched_malloc(size_t size)
{
    void *p = parsing && starved ? NULL : allocate(size);
    if (!p)
        starved = true;
    return p;
}

static void watch(void)
{
    json_free_t release = NULL;
    json_get_alloc_funcs(&allocate, &release);
    json_set_alloc_funcs(watched_malloc, release);
}

static void begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, watch);
    starved = false;
    parsing = true;
}

/* Takes `value`. */
static json_t *finish(json_t *value, json_error_t *where)
{
    parsing = false;
    if (!starved)
        return value;
    json_decref(value);
    if (where)
        *where = (json_error_t){.text = ""};
    return NULL;
}

json_t *cellar_json_parse(const char *text, size_t len, size_t flags,
                          json_error_t *where)
{
    begin();
    return finish(json_loadb(text, len, flags, where), where);
}

json_t *cellar_json_read(FILE *file, size_t flags, json_error_t *where)
{
    begin();
    return finish(json_loadf(file, flags, where), where);
}

bool cellar_json_starved(const json_error_t *where)
{
    return where->text[0] == '\0';
}

/* Twice over, first for the length: into a buffer that is there already
 * jansson loses nothing. */
char *cellar_json_text(const json_t *value, size_t flags)
{
    size_t len = value ? json_dumpb(value, NULL, 0, flags) : 0;
    char *text = len > 0 ? malloc(len + 1) : NULL;
    if (!text)
        return NULL;
    if (json_dumpb(value, text, len, flags) != len) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    return text;
}

json_t *cellar_json_at(const json_t *value, const char *path)
{
    while (value && *path) {
        size_t len = strcspn(path, ".");
        value = json_object_getn(value, path, len);
        path += len + (path[len] == '.');
    }
    return (json_t *)value;
}
