/*
 * Python scripts as notebooks: "# %%" or "#%%" at the beginning of a line
 * begins a cell, what follows on that line is its title; a title that begins
 * with [markdown], [md] or [raw] makes it a cell of text, which is skipped.
 * What stands before the first is a cell too. A script without any is one
 * cell. CRLF and CR end lines as LF does; a byte order mark is dropped. Cells
 * without code, only comments, are skipped. The lines are looked at without
 * Python's eyes: a "# %%" within a text in triple quotes begins a cell too.
 */
#ifndef CELLAR_CLI_SCRIPT_H
#define CELLAR_CLI_SCRIPT_H

#include <stdio.h>

#include "notebook.h"

/* `name` stands for the file in messages. E_USAGE: `text` is not UTF-8 (the
 * line is named). */
enum cellar_code cellar_script_read(const char *name, const char *text,
                                    size_t len, struct cellar_notebook **out,
                                    struct cellar_error *err);

/* The way back: cells written as a script that is read as the same cells. The
 * caller looks for errors of `file` when all is written.
 *
 * A line of the code that would begin a cell is written with a blank before
 * it: to Python it is a comment in either place. Within a text in quotes that
 * would make another text: such a line stays as it is, and *parted becomes its
 * number, from 1 (0: there is none). `title` may be "". E_NOMEM. */
enum cellar_code cellar_script_put(FILE *file, const char *title,
                                   const char *code, size_t len, size_t *parted,
                                   struct cellar_error *err);

/* A cell of text: a word of Cellar's own, one line. */
void cellar_script_remark(FILE *file, const char *text);

#endif
