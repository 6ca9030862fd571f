/*
 * Notebooks: .ipynb files of nbformat 4, read and written; everything but the
 * outputs of code cells goes through untouched. A script is turned into the
 * same thing (script.h), so that whatever runs cells knows only notebooks.
 *
 *     cellar_notebook_read("a.ipynb", text, len, &notebook, &err);
 *     for (size_t i = 0; i < cellar_notebook_count(notebook); i++) {
 *         ... run cellar_notebook_code(notebook, i, &len) ...
 *         cellar_notebook_record(notebook, i, result, &err);
 *     }
 *     cellar_notebook_write(notebook, &text, &len, &err);
 *     cellar_notebook_free(notebook);
 */
#ifndef CELLAR_CLI_NOTEBOOK_H
#define CELLAR_CLI_NOTEBOOK_H

#include <stddef.h>

#include "cellar/cellar.h"

/* Of a file. Figures make notebooks large; beyond this it is no notebook. */
#define CELLAR_NOTEBOOK_BYTES_MAX (64u << 20)

struct cellar_notebook;

/* Reads JSON. `name` stands for the file in messages. E_USAGE, with line and
 * column or the cell's number: it is no JSON, no notebook of nbformat 4, not
 * in Python, or has no cells. */
enum cellar_code cellar_notebook_read(const char *name, const char *text,
                                      size_t len, struct cellar_notebook **out,
                                      struct cellar_error *err);

/* A notebook of Python with no cells yet, and one more code cell for it
 * (copied). E_NOMEM; E_USAGE: the code is not UTF-8. */
enum cellar_code cellar_notebook_new(struct cellar_notebook **out,
                                     struct cellar_error *err);
enum cellar_code cellar_notebook_add(struct cellar_notebook *notebook,
                                     const char *code, size_t len,
                                     struct cellar_error *err);

/* A markdown cell of `text` (copied): a word of Cellar's own. E_NOMEM. */
enum cellar_code cellar_notebook_remark(struct cellar_notebook *notebook,
                                        const char *text,
                                        struct cellar_error *err);

void cellar_notebook_free(struct cellar_notebook *notebook); /* NULL is fine */

/* Code cells that are not blank, from 0. The code is lent, NUL-terminated,
 * until the notebook is freed. _place is the cell's number in the file, from
 * 1, markdown counted, as messages name it. */
size_t cellar_notebook_count(const struct cellar_notebook *notebook);
const char *cellar_notebook_code(const struct cellar_notebook *notebook,
                                 size_t i, size_t *len);
size_t cellar_notebook_place(const struct cellar_notebook *notebook, size_t i);

/* Removes the outputs and counts of all code cells: those of an earlier run
 * would look like this one's. E_NOMEM. */
enum cellar_code cellar_notebook_clear(struct cellar_notebook *notebook,
                                       struct cellar_error *err);

/* Puts what cell `i` printed and how it ended into the notebook. E_NOMEM. */
enum cellar_code cellar_notebook_record(struct cellar_notebook *notebook,
                                        size_t i,
                                        const struct cellar_result *result,
                                        struct cellar_error *err);

/* The notebook as Jupyter writes one. The caller frees *text. E_NOMEM. */
enum cellar_code cellar_notebook_write(const struct cellar_notebook *notebook,
                                       char **text, size_t *len,
                                       struct cellar_error *err);

#endif
