/*
 * Notebook files from anybody. What is taken can be written and read again,
 * with the same cells, and is then written the same; so it is after a run of
 * all its cells was recorded. What is refused says where and leaves nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "kernel/cli/notebook.h"

struct text {
    char *data;
    size_t len;
};

static void must(int fine)
{
    if (!fine)
        abort();
}

static struct text written(const struct cellar_notebook *notebook)
{
    struct text text = {NULL, 0};
    must(cellar_notebook_write(notebook, &text.data, &text.len, NULL) ==
         CELLAR_OK);
    must(text.len == strlen(text.data) && text.data[text.len - 1] == '\n');
    return text;
}

static struct cellar_notebook *reread(const struct text *text)
{
    struct cellar_notebook *notebook = NULL;
    must(cellar_notebook_read("twin", text->data, text->len, &notebook, NULL) ==
         CELLAR_OK);
    return notebook;
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
        must(a_len > 0 && a_code[a_len] == '\0');
        must(a_len == b_len && memcmp(a_code, b_code, a_len) == 0);
        must(cellar_notebook_place(a, i) == cellar_notebook_place(b, i));
    }
}

/* Written, read and written again. */
static void check_writing(const struct cellar_notebook *notebook)
{
    struct text first = written(notebook);
    struct cellar_notebook *twin = reread(&first);
    struct text second = written(twin);
    check_same(notebook, twin);
    must(first.len == second.len &&
         memcmp(first.data, second.data, first.len) == 0);
    cellar_notebook_free(twin);
    free(first.data);
    free(second.data);
}

/* A cell that ends in each way in turn, and whose outputs are its own code: as
 * text, and as what claims to be JSON. */
static void record_one(struct cellar_notebook *notebook, size_t i)
{
    size_t len = 0;
    char *code = (char *)cellar_notebook_code(notebook, i, &len);
    struct cellar_part parts[] = {{"application/json", code, len},
                                  {"text/plain", code, len}};
    struct cellar_result result = {.cell = i + 1,
                                   .stdout_text = code,
                                   .stdout_len = len,
                                   .truncated = i % 2,
                                   .result = parts,
                                   .result_count = 2};
    result.status = (enum cellar_status)(i % (CELLAR_STATUS_LOST + 1));
    if (result.status == CELLAR_STATUS_ERROR)
        result.error_name = result.error_message = result.traceback = code;
    must(cellar_notebook_record(notebook, i, &result, NULL) == CELLAR_OK);
}

static void record_all(struct cellar_notebook *notebook)
{
    must(cellar_notebook_clear(notebook, NULL) == CELLAR_OK);
    for (size_t i = 0; i < cellar_notebook_count(notebook); i++)
        record_one(notebook, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cellar_notebook *notebook = NULL;
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = cellar_notebook_read(
        "fuzz.ipynb", (const char *)data, len, &notebook, &err);
    must((code == CELLAR_OK) == (notebook != NULL));
    if (code != CELLAR_OK) {
        must(code == CELLAR_E_USAGE && err.code == code &&
             memcmp(err.msg, "fuzz.ipynb: ", 12) == 0);
        return 0;
    }
    check_writing(notebook);
    record_all(notebook);
    check_writing(notebook);
    cellar_notebook_free(notebook);
    return 0;
}
