/*
 * Answers in rows: aligned columns for people, JSON for programs.
 *
 *     static const struct cellar_column columns[] = {{"name", "NAME"}, ...};
 *     struct cellar_table *table = cellar_table_new(columns, 3);
 *     cellar_table_text(table, "first");             the first row's cells,
 *     cellar_table_number(table, 7, "7");            from left to right
 *     cellar_table_text(table, NULL);
 *     cellar_table_print(table, CELLAR_TABLE_JSON, out, &err);
 *     cellar_table_free(table);
 */
#ifndef CELLAR_CLI_TABLE_H
#define CELLAR_CLI_TABLE_H

#include <stdint.h>

#include "cellar/error.h"
#include "output.h"

struct cellar_column {
    const char *key;   /* in JSON */
    const char *title; /* for people; NULL: in JSON only */
};

enum cellar_table_form {
    CELLAR_TABLE_COLUMNS, /* for people */
    CELLAR_TABLE_JSON,    /* an array of objects, on one line */
    CELLAR_TABLE_OBJECT   /* the first row alone, as an object */
};

struct cellar_table;

/* Borrows `columns`. NULL: out of memory. */
struct cellar_table *cellar_table_new(const struct cellar_column *columns,
                                      size_t count);
void cellar_table_free(struct cellar_table *table); /* NULL is fine */

/* Adds the next cell; a text of NULL is null in JSON and "-" for people, who
 * see a number as `shown`. Copies. Texts that are not UTF-8 are mended. That
 * memory ran out is told by _print. */
void cellar_table_text(struct cellar_table *table, const char *text);
void cellar_table_number(struct cellar_table *table, uint64_t number,
                         const char *shown);

/* E_NOMEM. */
enum cellar_code cellar_table_print(const struct cellar_table *table,
                                    enum cellar_table_form form,
                                    struct cellar_output *out,
                                    struct cellar_error *err);

#endif
