/*
 * Is this Python input complete? What a REPL has to know after every line:
 * run it, or ask for another one. Pure; no Python is asked.
 *
 *     while (cellar_lines_state(text, len) == CELLAR_LINES_MORE)
 *         ... append another line ...
 *
 * More is needed while a bracket, a text in triple quotes, or a line that
 * ends with a backslash is open; and after a compound statement (one whose
 * line ends with a colon, that begins with a word like `for`, or a decorator)
 * until an empty line. What no further line can mend, such as a bracket too
 * many, is complete: Python says best what is wrong with it. Texts within the
 * braces of an f-string are looked at as the text they stand in.
 */
#ifndef CELLAR_CLI_LINES_H
#define CELLAR_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

enum cellar_lines {
    CELLAR_LINES_EMPTY,    /* nothing but blanks and comments */
    CELLAR_LINES_COMPLETE, /* can be run */
    CELLAR_LINES_MORE      /* another line is needed */
};

/* Looks at `text`, whole lines of which the last may lack its newline. */
enum cellar_lines cellar_lines_state(const char *text, size_t len);

/* Sets inside[i], of `len`, for each byte that follows the opening quote of a
 * text in quotes, its closing ones included; clears all others. What stands
 * behind something that no Python reads, such as a bracket too many, is taken
 * to be in no quotes. */
void cellar_lines_mark_quoted(const char *text, size_t len, bool *inside);

#endif
