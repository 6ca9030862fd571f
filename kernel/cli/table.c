#include "table.h"

#include <jansson.h>
#include <string.h>

#include "kernel/fail.h"
#include "kernel/json.h"
#include "kernel/utf8.h"

/* rows is an array of objects; shown, beside it, an array with what people
 * see of each cell, row after row. */
struct cellar_table {
    const struct cellar_column *columns;
    size_t count;
    json_t *rows;
    json_t *shown;
    bool failed;
};

struct cellar_table *cellar_table_new(const struct cellar_column *columns,
                                      size_t count)
{
    struct cellar_table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    *table = (struct cellar_table){.columns = columns,
                                   .count = count,
                                   .rows = json_array(),
                                   .shown = json_array()};
    if (table->rows && table->shown)
        return table;
    cellar_table_free(table);
    return NULL;
}

void cellar_table_free(struct cellar_table *table)
{
    if (!table)
        return;
    json_decref(table->rows);
    json_decref(table->shown);
    free(table);
}

/* Takes `value`. */
static void add(struct cellar_table *table, json_t *value, const char *shown)
{
    size_t at = json_array_size(table->shown);
    size_t column = at % table->count;
    if (column == 0)
        table->failed |= json_array_append_new(table->rows, json_object()) != 0;
    json_t *row = json_array_get(table->rows, at / table->count);
    table->failed |=
        json_object_set_new(row, table->columns[column].key, value) != 0;
    table->failed |=
        json_array_append_new(table->shown, json_string(shown)) != 0;
}

void cellar_table_text(struct cellar_table *table, const char *text)
{
    size_t len = 0;
    if (!text) {
        add(table, json_null(), "-");
        return;
    }
    CELLAR_AUTO_FREE char *mended = cellar_utf8_mend(text, strlen(text), &len);
    if (!mended) {
        table->failed = true;
        return;
    }
    add(table, json_string(mended), mended);
}

void cellar_table_number(struct cellar_table *table, uint64_t number,
                         const char *shown)
{
    json_int_t value =
        number > INT64_MAX ? (json_int_t)INT64_MAX : (json_int_t)number;
    add(table, json_integer(value), shown);
}

/* Characters, as far as columns need them: bytes that begin one. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static const char *shown_at(const struct cellar_table *table, size_t row,
                            size_t column)
{
    const char *text = json_string_value(
        json_array_get(table->shown, row * table->count + column));
    return text ? text : "";
}

static size_t column_width(const struct cellar_table *table, size_t column)
{
    size_t width = width_of(table->columns[column].title);
    for (size_t row = 0; row < json_array_size(table->rows); row++) {
        size_t w = width_of(shown_at(table, row, column));
        width = w > width ? w : width;
    }
    return width;
}

/* Row 0 is the titles. The last column is not padded. */
static void print_row(const struct cellar_table *table, size_t row,
                      struct cellar_output *out)
{
    size_t pad = 0;
    for (size_t c = 0; c < table->count; c++) {
        if (!table->columns[c].title)
            continue;
        const char *text =
            row ? shown_at(table, row - 1, c) : table->columns[c].title;
        cellar_output_printf(out, "%*s%s", (int)pad, "", text);
        pad = column_width(table, c) - width_of(text) + 2;
    }
    cellar_output_text(out, "\n");
}

enum cellar_code cellar_table_print(const struct cellar_table *table,
                                    enum cellar_table_form form,
                                    struct cellar_output *out,
                                    struct cellar_error *err)
{
    if (table->failed)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    if (form == CELLAR_TABLE_COLUMNS) {
        for (size_t row = 0; row <= json_array_size(table->rows); row++)
            print_row(table, row, out);
        return CELLAR_OK;
    }
    const json_t *root = form == CELLAR_TABLE_OBJECT
                             ? json_array_get(table->rows, 0)
                             : table->rows;
    CELLAR_AUTO_FREE char *text = cellar_json_text(root, JSON_COMPACT);
    if (!text)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    cellar_output_text(out, text);
    cellar_output_text(out, "\n");
    return CELLAR_OK;
}
