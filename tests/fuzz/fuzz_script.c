/*
 * Python text of a user's: a script with cells, and the same bytes as what was
 * typed into the REPL. A script is read when it is UTF-8 and never else, and
 * what it comes to survives being written as a notebook.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "kernel/cli/lines.h"
#include "kernel/cli/script.h"
#include "kernel/utf8.h"

static void must(int fine)
{
    if (!fine)
        abort();
}

static void check_same(const struct cellar_notebook *a,
                       const struct cellar_notebook *b)
{
    must(cellar_notebook_count(a) == cellar_notebook_count(b));
    for (size_t i = 0; i < cellar_notebook_count(a); i++) {
        size_t a_len = 0;
        size_t b_len = 0;
        const char *a_code = cellar_notebook_code(a, i, &a_len);
        const char *b_code = cellar_notebook_code(b, i, &b_len);
        must(a_len == b_len && memcmp(a_code, b_code, a_len) == 0);
    }
}

/* Cells have code, in a writing that Python takes. */
static void check_cells(const struct cellar_notebook *notebook, size_t max)
{
    size_t all = 0;
    for (size_t i = 0; i < cellar_notebook_count(notebook); i++) {
        size_t len = 0;
        const char *code = cellar_notebook_code(notebook, i, &len);
        must(len > 0 && code[len] == '\0' && !memchr(code, '\r', len));
        must(cellar_utf8_valid(code, len));
        must(cellar_lines_state(code, len) != CELLAR_LINES_EMPTY);
        all += len;
    }
    must(all <= max);
}

static void check_notebook(const struct cellar_notebook *notebook)
{
    struct cellar_notebook *twin = NULL;
    char *text = NULL;
    size_t len = 0;
    must(cellar_notebook_write(notebook, &text, &len, NULL) == CELLAR_OK);
    if (cellar_notebook_count(notebook) > 0) {
        must(cellar_notebook_read("twin", text, len, &twin, NULL) == CELLAR_OK);
        check_same(notebook, twin);
        cellar_notebook_free(twin);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cellar_notebook *notebook = NULL;
    struct cellar_error err = {.code = CELLAR_OK};
    const char *text = (const char *)data;
    must(cellar_lines_state(text, len) <= CELLAR_LINES_MORE);
    enum cellar_code code =
        cellar_script_read("fuzz.py", text, len, &notebook, &err);
    must((code == CELLAR_OK) == cellar_utf8_valid(text, len));
    must((code == CELLAR_OK) == (notebook != NULL));
    if (code != CELLAR_OK) {
        must(code == CELLAR_E_USAGE && err.code == code &&
             memcmp(err.msg, "fuzz.py: line ", 14) == 0);
        return 0;
    }
    check_cells(notebook, len);
    check_notebook(notebook);
    cellar_notebook_free(notebook);
    return 0;
}
