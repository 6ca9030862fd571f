/*
 * Text made safe for a terminal. What a session prints may hold escapes that
 * move the cursor, set the title, answer as if typed, or turn text around.
 * Here only newline, tab and printable UTF-8 pass; every other byte or
 * character is shown as \x1b or \u202e. Pure.
 *
 *     struct cellar_terminal terminal = {0};
 *     cellar_terminal_put(&terminal, data, len, sink, user);   as often
 *     cellar_terminal_end(&terminal, sink, user);
 */
#ifndef CELLAR_CLI_TERMINAL_H
#define CELLAR_CLI_TERMINAL_H

#include <stddef.h>

/* The beginning of a character whose rest has not come yet. */
struct cellar_terminal {
    char rest[4];
    size_t rest_len;
};

/* Takes a piece of safe text; lives for the call. */
typedef void cellar_terminal_fn(void *user, const char *text, size_t len);

/* Passes on `data` in safe pieces; a character split between two calls is put
 * together. */
void cellar_terminal_put(struct cellar_terminal *terminal, const char *data,
                         size_t len, cellar_terminal_fn *sink, void *user);

/* Passes on, byte by byte, what was left without its rest. */
void cellar_terminal_end(struct cellar_terminal *terminal,
                         cellar_terminal_fn *sink, void *user);

#endif
