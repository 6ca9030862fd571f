#include "notebook.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernel/fail.h"
#include "kernel/json.h"
#include "kernel/utf8.h"
#include "outputs.h"

#define NBFORMAT       4
#define NBFORMAT_MINOR 4 /* of new ones: the last that needs no cell ids */

struct code_cell {
    char *code;
    size_t len;
    size_t place;
    json_t *cell; /* lent by the root */
};

struct cellar_notebook {
    json_t *root;
    struct code_cell *cells;
    size_t count;
};

static enum cellar_code no_memory(struct cellar_error *err)
{
    return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
}

void cellar_notebook_free(struct cellar_notebook *notebook)
{
    if (!notebook)
        return;
    for (size_t i = 0; i < notebook->count; i++)
        free(notebook->cells[i].code);
    free(notebook->cells);
    json_decref(notebook->root);
    free(notebook);
}

/* ------------------------------------------------------------ reading -- */

/* Whether `source` is what nbformat calls a multi-line text; adds its length
 * to *len. */
static bool measure(const json_t *source, size_t *len)
{
    if (json_is_string(source)) {
        *len += json_string_length(source);
        return true;
    }
    if (!json_is_array(source))
        return false;
    for (size_t i = 0; i < json_array_size(source); i++) {
        const json_t *line = json_array_get(source, i);
        if (!json_is_string(line))
            return false;
        *len += json_string_length(line);
    }
    return true;
}

/* The text of a source that was measured. NULL: out of memory. */
static char *join(const json_t *source, size_t len)
{
    char *text = malloc(len + 1);
    size_t used = 0;
    if (!text)
        return NULL;
    text[len] = '\0';
    if (json_is_string(source)) {
        memcpy(text, json_string_value(source), len);
        return text;
    }
    for (size_t i = 0; i < json_array_size(source); i++) {
        const json_t *line = json_array_get(source, i);
        memcpy(text + used, json_string_value(line), json_string_length(line));
        used += json_string_length(line);
    }
    return text;
}

static bool blank(const char *code, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r\n\f", code[i]) || !code[i])
            return false;
    return true;
}

/* Lists `cell` as one to run. Takes `code`. */
static enum cellar_code list_cell(struct cellar_notebook *notebook,
                                  json_t *cell, char *code, size_t len,
                                  struct cellar_error *err)
{
    struct code_cell *more =
        realloc(notebook->cells, (notebook->count + 1) * sizeof *more);
    if (!more || !code) {
        free(code);
        notebook->cells = more ? more : notebook->cells;
        return no_memory(err);
    }
    notebook->cells = more;
    more[notebook->count++] =
        (struct code_cell){.code = code, .len = len, .cell = cell};
    return CELLAR_OK;
}

static enum cellar_code take_cell(struct cellar_notebook *notebook,
                                  json_t *cell, size_t place,
                                  struct cellar_error *err)
{
    const char *type = json_string_value(json_object_get(cell, "cell_type"));
    const json_t *source = json_object_get(cell, "source");
    size_t len = 0;
    if (!json_is_object(cell))
        return cellar_fail(err, CELLAR_E_USAGE, "cell %zu is no object", place);
    if (!type)
        return cellar_fail(err, CELLAR_E_USAGE, "cell %zu has no cell_type",
                           place);
    if (strcmp(type, "code") != 0)
        return CELLAR_OK;
    if (!measure(source, &len))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "cell %zu: its source is neither a text nor a list "
                           "of texts",
                           place);
    char *code = join(source, len);
    if (code && blank(code, len)) {
        free(code);
        return CELLAR_OK;
    }
    enum cellar_code result = list_cell(notebook, cell, code, len, err);
    if (result == CELLAR_OK)
        notebook->cells[notebook->count - 1].place = place;
    return result;
}

static enum cellar_code check_format(const json_t *root,
                                     struct cellar_error *err)
{
    const json_t *format = json_object_get(root, "nbformat");
    if (!json_is_object(root) || !json_is_integer(format))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "no notebook: it has no nbformat number");
    if (json_integer_value(format) != NBFORMAT)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "nbformat %" JSON_INTEGER_FORMAT
                           " is not supported, 4 is; convert "
                           "it with 'jupyter nbconvert --to notebook'",
                           json_integer_value(format));
    return CELLAR_OK;
}

static enum cellar_code check_language(const json_t *root,
                                       struct cellar_error *err)
{
    const json_t *metadata = json_object_get(root, "metadata");
    const json_t *name =
        json_object_get(json_object_get(metadata, "language_info"), "name");
    if (!name)
        name = json_object_get(json_object_get(metadata, "kernelspec"),
                               "language");
    const char *language = json_string_value(name);
    if (language && strncasecmp(language, "python", 6) != 0)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "its language is %.40s; Cellar runs Python",
                           language);
    return CELLAR_OK;
}

static enum cellar_code take_cells(struct cellar_notebook *notebook,
                                   struct cellar_error *err)
{
    json_t *cells = json_object_get(notebook->root, "cells");
    enum cellar_code code = CELLAR_OK;
    if (!json_is_array(cells) || json_array_size(cells) == 0)
        return cellar_fail(err, CELLAR_E_USAGE, "it has no cells");
    for (size_t i = 0; code == CELLAR_OK && i < json_array_size(cells); i++)
        code = take_cell(notebook, json_array_get(cells, i), i + 1, err);
    return code;
}

static enum cellar_code parse(struct cellar_notebook *notebook,
                              const char *text, size_t len,
                              struct cellar_error *err)
{
    json_error_t where = {0};
    /* Outputs of an earlier run may well hold \u0000. */
    notebook->root = cellar_json_parse(text, len, JSON_ALLOW_NUL, &where);
    if (!notebook->root && cellar_json_starved(&where))
        return no_memory(err);
    if (!notebook->root)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "no JSON: line %d, column %d: %s", where.line,
                           where.column, where.text);
    enum cellar_code code = check_format(notebook->root, err);
    if (code == CELLAR_OK)
        code = check_language(notebook->root, err);
    if (code == CELLAR_OK)
        code = take_cells(notebook, err);
    return code;
}

enum cellar_code cellar_notebook_read(const char *name, const char *text,
                                      size_t len, struct cellar_notebook **out,
                                      struct cellar_error *err)
{
    struct cellar_notebook *notebook = calloc(1, sizeof *notebook);
    if (!notebook)
        return no_memory(err);
    enum cellar_code code = parse(notebook, text, len, err);
    if (code == CELLAR_OK) {
        *out = notebook;
        return CELLAR_OK;
    }
    cellar_notebook_free(notebook);
    return cellar_wrap(err, "%.200s", name);
}

/* ------------------------------------------------------------- making -- */

enum cellar_code cellar_notebook_new(struct cellar_notebook **out,
                                     struct cellar_error *err)
{
    struct cellar_notebook *notebook = calloc(1, sizeof *notebook);
    if (!notebook)
        return no_memory(err);
    notebook->root = json_pack(
        "{s:[], s:{s:{s:s, s:s, s:s}, s:{s:s}}, s:i, s:i}", "cells", "metadata",
        "kernelspec", "display_name", "Python 3", "language", "python", "name",
        "python3", "language_info", "name", "python", "nbformat", NBFORMAT,
        "nbformat_minor", NBFORMAT_MINOR);
    if (!notebook->root) {
        cellar_notebook_free(notebook);
        return no_memory(err);
    }
    *out = notebook;
    return CELLAR_OK;
}

enum cellar_code cellar_notebook_add(struct cellar_notebook *notebook,
                                     const char *code, size_t len,
                                     struct cellar_error *err)
{
    json_t *cells = json_object_get(notebook->root, "cells");
    json_t *source = json_stringn(code, len);
    if (!source && cellar_utf8_valid(code, len))
        return no_memory(err);
    if (!source)
        return cellar_fail(err, CELLAR_E_USAGE, "the code is not UTF-8");
    json_t *cell =
        json_pack("{s:s, s:n, s:{}, s:[], s:o}", "cell_type", "code",
                  "execution_count", "metadata", "outputs", "source", source);
    if (!cell || json_array_append_new(cells, cell) != 0)
        return no_memory(err);
    enum cellar_code result =
        list_cell(notebook, cell, join(source, len), len, err);
    if (result == CELLAR_OK)
        notebook->cells[notebook->count - 1].place = json_array_size(cells);
    return result;
}

enum cellar_code cellar_notebook_remark(struct cellar_notebook *notebook,
                                        const char *text,
                                        struct cellar_error *err)
{
    json_t *cells = json_object_get(notebook->root, "cells");
    json_t *cell = json_pack("{s:s, s:{}, s:s}", "cell_type", "markdown",
                             "metadata", "source", text);
    if (!cell || json_array_append_new(cells, cell) != 0)
        return no_memory(err);
    return CELLAR_OK;
}

/* ----------------------------------------------------------- the rest -- */

size_t cellar_notebook_count(const struct cellar_notebook *notebook)
{
    return notebook->count;
}

const char *cellar_notebook_code(const struct cellar_notebook *notebook,
                                 size_t i, size_t *len)
{
    *len = notebook->cells[i].len;
    return notebook->cells[i].code;
}

size_t cellar_notebook_place(const struct cellar_notebook *notebook, size_t i)
{
    return notebook->cells[i].place;
}

/* Sets outputs and count (taken, also on failure), and the metadata that
 * nbformat demands where the file left it out. */
static bool complete(json_t *cell, json_t *outputs, json_t *count)
{
    bool ok = json_object_set_new(cell, "outputs", outputs) == 0;
    ok &= json_object_set_new(cell, "execution_count", count) == 0;
    if (ok && !json_is_object(json_object_get(cell, "metadata")))
        ok = json_object_set_new(cell, "metadata", json_object()) == 0;
    return ok;
}

enum cellar_code cellar_notebook_clear(struct cellar_notebook *notebook,
                                       struct cellar_error *err)
{
    json_t *cells = json_object_get(notebook->root, "cells");
    for (size_t i = 0; i < json_array_size(cells); i++) {
        json_t *cell = json_array_get(cells, i);
        const char *type =
            json_string_value(json_object_get(cell, "cell_type"));
        if (type && strcmp(type, "code") == 0 &&
            !complete(cell, json_array(), json_null()))
            return no_memory(err);
    }
    return CELLAR_OK;
}

enum cellar_code cellar_notebook_record(struct cellar_notebook *notebook,
                                        size_t i,
                                        const struct cellar_result *result,
                                        struct cellar_error *err)
{
    json_t *outputs = cellar_outputs_new(result);
    if (!outputs)
        return no_memory(err);
    return complete(notebook->cells[i].cell, outputs,
                    json_integer((json_int_t)result->cell))
               ? CELLAR_OK
               : no_memory(err);
}

enum cellar_code cellar_notebook_write(const struct cellar_notebook *notebook,
                                       char **text, size_t *len,
                                       struct cellar_error *err)
{
    if (!json_object_get(notebook->root, "metadata") &&
        json_object_set_new(notebook->root, "metadata", json_object()) != 0)
        return no_memory(err);
    CELLAR_AUTO_FREE char *json =
        cellar_json_text(notebook->root, JSON_INDENT(1));
    if (!json)
        return no_memory(err);
    size_t n = strlen(json);
    char *line = realloc(json, n + 2);
    if (!line)
        return no_memory(err);
    json = line;
    json[n] = '\n';
    json[n + 1] = '\0';
    *len = n + 1;
    *text = CELLAR_TAKE(json);
    return CELLAR_OK;
}
