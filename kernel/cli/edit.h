/*
 * The line editor: history, arrow keys, several lines as one input. The one
 * file that knows libedit.
 */
#ifndef CELLAR_CLI_EDIT_H
#define CELLAR_CLI_EDIT_H

#include <stdbool.h>

#include "cellar/error.h"

struct cellar_edit;

/* Waits until `fd` can be read, doing what else is due; false when a signal
 * came in its place. */
typedef bool cellar_edit_wait_fn(void *user, int fd);

enum cellar_edit_end {
    CELLAR_EDIT_LINE,   /* a line was read */
    CELLAR_EDIT_SIGNAL, /* Ctrl-C, or another signal */
    CELLAR_EDIT_EOF,    /* Ctrl-D, or the terminal is gone */
    CELLAR_EDIT_FAILED  /* out of memory */
};

/* An editor on stdin and stdout, which are terminals. `history` is the file
 * that older inputs are read from, and added to in _free (mode 0600, at most
 * 1,000); one that can't be read or written does no harm. Copies `history`. */
enum cellar_code cellar_edit_new(const char *history, cellar_edit_wait_fn *wait,
                                 void *user, struct cellar_edit **out,
                                 struct cellar_error *err);
void cellar_edit_free(struct cellar_edit *edit); /* NULL is fine */

/* Reads a line after `prompt`. *line, its newline included, is lent until the
 * next call. */
enum cellar_edit_end cellar_edit_read(struct cellar_edit *edit,
                                      const char *prompt, const char **line);

/* Prints the prompt and the line under way again: from within the waiting,
 * after something else was printed. */
void cellar_edit_redraw(struct cellar_edit *edit);

/* Puts an input of any number of lines into the history. */
void cellar_edit_remember(struct cellar_edit *edit, const char *text);

#endif
