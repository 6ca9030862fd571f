#include "script.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/fail.h"
#include "kernel/utf8.h"
#include "lines.h"

/* A line of the text, its newline included. */
struct line {
    const char *text;
    size_t len;
};

static struct line next_line(const char *text, size_t len)
{
    const char *end = memchr(text, '\n', len);
    return (struct line){text, end ? (size_t)(end - text) + 1 : len};
}

/* A copy with LF as the one line ending, and without a byte order mark. */
static char *normalize(const char *text, size_t len, size_t *out_len)
{
    char *copy = calloc(1, len + 1);
    size_t used = 0;
    size_t i = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    if (!copy)
        return NULL;
    for (; i < len; i++) {
        if (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n')
            continue;
        copy[used++] = text[i];
        if (text[i] == '\r')
            copy[used - 1] = '\n';
    }
    copy[used] = '\0';
    *out_len = used;
    return copy;
}

static enum cellar_code check_text(const char *text, size_t len,
                                   struct cellar_error *err)
{
    size_t number = 0;
    while (len > 0) {
        struct line line = next_line(text, len);
        number++;
        if (!cellar_utf8_valid(line.text, line.len))
            return cellar_fail(err, CELLAR_E_USAGE,
                               "line %zu is not UTF-8; save it as UTF-8",
                               number);
        text += line.len;
        len -= line.len;
    }
    return CELLAR_OK;
}

static size_t skip_spaces(struct line line, size_t at)
{
    while (at < line.len && (line.text[at] == ' ' || line.text[at] == '\t'))
        at++;
    return at;
}

/* Whether `line` begins a cell; *title is where its title begins. */
static bool is_marker(struct line line, size_t *title)
{
    if (line.len == 0 || line.text[0] != '#')
        return false;
    size_t at = skip_spaces(line, 1);
    if (line.len < at + 2 || memcmp(line.text + at, "%%", 2) != 0)
        return false;
    at += 2;
    /* "# %%time" is a magic word commented out. */
    if (at < line.len && !strchr(" \t\n[", line.text[at]))
        return false;
    *title = skip_spaces(line, at);
    return true;
}

static bool is_text(struct line marker, size_t title)
{
    static const char *const kinds[] = {"[markdown]", "[md]", "[raw]"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t n = strlen(kinds[i]);
        if (marker.len - title >= n &&
            memcmp(marker.text + title, kinds[i], n) == 0)
            return true;
    }
    return false;
}

/* To Python a form feed is a blank, too. */
static bool has_code(const char *text, size_t len)
{
    while (len > 0) {
        struct line line = next_line(text, len);
        size_t at = skip_spaces(line, 0);
        while (at < line.len && line.text[at] == '\f')
            at = skip_spaces(line, at + 1);
        if (at < line.len && line.text[at] != '#' && line.text[at] != '\n')
            return true;
        text += line.len;
        len -= line.len;
    }
    return false;
}

/* Blank lines at the end are the script's, not the cell's; those at the front
 * stay, so that a traceback counts lines from the marker. */
static enum cellar_code add_cell(struct cellar_notebook *notebook,
                                 const char *text, size_t len,
                                 struct cellar_error *err)
{
    if (!has_code(text, len))
        return CELLAR_OK;
    while (len > 0 && text[len - 1] && strchr(" \t\n", text[len - 1]))
        len--;
    return cellar_notebook_add(notebook, text, len, err);
}

static enum cellar_code add_cells(struct cellar_notebook *notebook,
                                  const char *text, size_t len,
                                  struct cellar_error *err)
{
    const char *from = text;
    const char *end = text + len;
    bool skip = false;
    enum cellar_code code = CELLAR_OK;
    while (code == CELLAR_OK && text < end) {
        size_t title = 0;
        struct line line = next_line(text, (size_t)(end - text));
        if (is_marker(line, &title)) {
            if (!skip)
                code = add_cell(notebook, from, (size_t)(text - from), err);
            skip = is_text(line, title);
            from = text + line.len;
        }
        text += line.len;
    }
    if (code == CELLAR_OK && !skip)
        code = add_cell(notebook, from, (size_t)(end - from), err);
    return code;
}

enum cellar_code cellar_script_read(const char *name, const char *text,
                                    size_t len, struct cellar_notebook **out,
                                    struct cellar_error *err)
{
    struct cellar_notebook *notebook = NULL;
    size_t plain_len = 0;
    CELLAR_AUTO_FREE char *plain = normalize(text, len, &plain_len);
    if (!plain)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    enum cellar_code code = check_text(plain, plain_len, err);
    if (code == CELLAR_OK)
        code = cellar_notebook_new(&notebook, err);
    if (code == CELLAR_OK)
        code = add_cells(notebook, plain, plain_len, err);
    if (code != CELLAR_OK) {
        cellar_notebook_free(notebook);
        return cellar_wrap(err, "%.200s", name);
    }
    *out = notebook;
    return CELLAR_OK;
}

/* ------------------------------------------------------------ writing -- */

void cellar_script_remark(FILE *file, const char *text)
{
    fprintf(file, "\n# %%%% [markdown]\n# %s\n", text);
}

enum cellar_code cellar_script_put(FILE *file, const char *title,
                                   const char *code, size_t len, size_t *parted,
                                   struct cellar_error *err)
{
    size_t plain_len = 0;
    size_t number = 0;
    /* Python ends lines at CR too; a reader of the script sees only LF. */
    CELLAR_AUTO_FREE char *plain = normalize(code, len, &plain_len);
    CELLAR_AUTO_FREE bool *quoted = calloc(len + 1, sizeof *quoted);
    *parted = 0;
    if (!plain || !quoted)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    cellar_lines_mark_quoted(plain, plain_len, quoted);
    fprintf(file, "\n# %%%%%s%s\n", title[0] ? " " : "", title);
    for (size_t at = 0; at < plain_len;) {
        size_t ignored = 0;
        struct line line = next_line(plain + at, plain_len - at);
        bool marker = is_marker(line, &ignored);
        number++;
        if (marker && quoted[at] && *parted == 0)
            *parted = number;
        fputs(marker && !quoted[at] ? " " : "", file);
        fwrite(line.text, 1, line.len, file);
        at += line.len;
    }
    if (plain_len > 0 && plain[plain_len - 1] != '\n')
        fputc('\n', file);
    return CELLAR_OK;
}
