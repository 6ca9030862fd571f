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

#include "notebook.h"

/* `name` stands for the file in messages. E_USAGE: `text` is not UTF-8 (the
 * line is named). */
enum cellar_code cellar_script_read(const char *name, const char *text,
                                    size_t len, struct cellar_notebook **out,
                                    struct cellar_error *err);

#endif
