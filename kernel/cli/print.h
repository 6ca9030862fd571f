/*
 * A cell and how it ended, for people: as a notebook shows it, or plainly.
 */
#ifndef CELLAR_CLI_PRINT_H
#define CELLAR_CLI_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "cellar/cellar.h"
#include "output.h"

/* "In [3]: x = 1" and its further lines, indented alike; `first` leaves out
 * the empty line before it. */
void cellar_print_code(struct cellar_output *out, uint64_t cell,
                       const char *code, size_t len, bool first);

/* What follows the streamed output of a cell, in a notebook's way: displays,
 * "Out[3]: 42", the traceback, and the ending line where there's one. */
void cellar_print_ending(struct cellar_output *out,
                         const struct cellar_result *result);

/* The same for a shell: the bare result on `out`; what went wrong on
 * `err_out`. */
void cellar_print_plain(struct cellar_output *out,
                        struct cellar_output *err_out,
                        const struct cellar_result *result);

/* The result object as a line of JSON. */
void cellar_print_json(struct cellar_output *out,
                       const struct cellar_result *result);

/* The same with the key "file" in front. */
void cellar_print_file_json(struct cellar_output *out, const char *file,
                            const struct cellar_result *result);

/* "timeout after 2 s; state kept"; "" for a cell that ended ok. */
#define CELLAR_ENDING_MAX 512
void cellar_print_ending_line(const struct cellar_result *result,
                              char line[CELLAR_ENDING_MAX]);

#endif
