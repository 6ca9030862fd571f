#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cellar/history.h"
#include "command.h"
#include "file.h"
#include "kernel/fail.h"
#include "kernel/spec.h"
#include "notebook.h"
#include "past.h"
#include "script.h"
#include "table.h"

static const char reset_remark[] =
    "The session was reset here: what the cells above had made was gone.";

/* An export under way: into a notebook, or into a script. */
struct writing {
    struct cellar_front *front;
    struct cellar_notebook *notebook; /* NULL: a script */
    FILE *script;
    uint64_t resets; /* before the last cell */
    uint64_t restores;
    uint64_t cells;
    uint64_t pruned; /* of them: how many have no output any more */
    struct cellar_error err;
};

/* ------------------------------------------------------------ one cell -- */

static void tell(struct writing *writing, const struct cellar_entry *entry,
                 const char *what)
{
    cellar_output_printf(&writing->front->err_out,
                         "cellar: cell %" PRIu64 " %s\n", entry->cell, what);
}

static enum cellar_code remark(struct writing *writing, const char *text)
{
    if (writing->notebook)
        return cellar_notebook_remark(writing->notebook, text, &writing->err);
    cellar_script_remark(writing->script, text);
    return CELLAR_OK;
}

static enum cellar_code put_script(struct writing *writing,
                                   const struct cellar_entry *entry)
{
    char title[64] = "";
    char told[160] = "";
    size_t parted = 0;
    const char *status = "has not ended";
    if (entry->ended_ms && entry->result)
        status = cellar_status_name(entry->result->status);
    bool fine = strcmp(status, "ok") == 0;
    snprintf(title, sizeof title, "cell %" PRIu64 "%s%s%s", entry->cell,
             fine ? "" : " (", fine ? "" : status, fine ? "" : ")");
    enum cellar_code code =
        cellar_script_put(writing->script, title, entry->code, entry->code_len,
                          &parted, &writing->err);
    if (code == CELLAR_OK && parted) {
        snprintf(told, sizeof told,
                 "has a line in quotes, its line %zu, that begins a cell in a "
                 "script; a notebook keeps it whole",
                 parted);
        tell(writing, entry, told);
    }
    return code;
}

static enum cellar_code put_notebook(struct writing *writing,
                                     const struct cellar_entry *entry)
{
    struct cellar_notebook *notebook = writing->notebook;
    enum cellar_code code = cellar_notebook_add(notebook, entry->code,
                                                entry->code_len, &writing->err);
    if (code != CELLAR_OK || !entry->result)
        return code;
    struct cellar_result result = *entry->result;
    /* While it runs it has no ending to show. */
    if (!entry->ended_ms)
        result.status = CELLAR_STATUS_OK;
    return cellar_notebook_record(notebook, cellar_notebook_count(notebook) - 1,
                                  &result, &writing->err);
}

static enum cellar_code put_cell(struct writing *writing,
                                 const struct cellar_entry *entry)
{
    char text[96] = "";
    if (!entry->code) {
        snprintf(text, sizeof text,
                 "The code of cell %" PRIu64 " is not known.", entry->cell);
        tell(writing, entry, "is left out: its code is not known");
        return remark(writing, text);
    }
    if (!entry->ended_ms)
        tell(writing, entry,
             writing->notebook
                 ? "has not ended; it is exported with its output so far"
                 : "has not ended");
    return writing->notebook ? put_notebook(writing, entry)
                             : put_script(writing, entry);
}

static enum cellar_code remark_restore(struct writing *writing,
                                       const struct cellar_entry *entry)
{
    char text[128] = "";
    snprintf(text, sizeof text,
             "The session was restored here, to what it was after cell %" PRIu64
             ".",
             entry->back_to);
    return remark(writing, text);
}

static void take_entry(void *user, const struct cellar_entry *entry)
{
    struct writing *writing = user;
    enum cellar_code code = writing->err.code;
    if (code != CELLAR_OK)
        return;
    if (entry->resets != writing->resets && writing->cells > 0)
        code = remark(writing, reset_remark);
    if (entry->restores != writing->restores && writing->cells > 0 &&
        code == CELLAR_OK)
        code = remark_restore(writing, entry);
    if (code == CELLAR_OK)
        (void)put_cell(writing, entry);
    writing->resets = entry->resets;
    writing->restores = entry->restores;
    writing->pruned += entry->pruned;
    writing->cells++;
}

/* ----------------------------------------------------------- the whole -- */

static enum cellar_code write_text(struct cellar_front *front, const char *text,
                                   size_t len)
{
    const char *path = front->options.operands[2];
    if (strcmp(path, "-") != 0)
        return cellar_file_replace(path, text, len, &front->err);
    cellar_output_write(&front->out, text, len);
    return CELLAR_OK;
}

static enum cellar_code fill(struct writing *writing,
                             const struct cellar_pick *pick)
{
    struct cellar_front *front = writing->front;
    enum cellar_code code = cellar_history_id(front->c, pick->id, 0, take_entry,
                                              writing, &front->err);
    if (code == CELLAR_OK && writing->err.code != CELLAR_OK) {
        front->err = writing->err;
        code = writing->err.code;
    }
    if (code == CELLAR_OK && writing->pruned > 0 && writing->notebook)
        cellar_output_printf(&front->err_out,
                             "cellar: the outputs of %" PRIu64
                             " cells were pruned; they are not in the "
                             "notebook\n",
                             writing->pruned);
    if (code == CELLAR_OK && writing->cells == 0)
        cellar_output_printf(&front->err_out,
                             "cellar: session '%s' has run no cell\n",
                             pick->name);
    return code;
}

static enum cellar_code to_notebook(struct writing *writing,
                                    const struct cellar_pick *pick)
{
    struct cellar_front *front = writing->front;
    CELLAR_AUTO_FREE char *text = NULL;
    size_t len = 0;
    enum cellar_code code =
        cellar_notebook_new(&writing->notebook, &front->err);
    if (code == CELLAR_OK)
        code = fill(writing, pick);
    if (code == CELLAR_OK)
        code =
            cellar_notebook_write(writing->notebook, &text, &len, &front->err);
    cellar_notebook_free(writing->notebook);
    if (code == CELLAR_OK && len > CELLAR_NOTEBOOK_BYTES_MAX)
        cellar_output_printf(&front->err_out,
                             "cellar: the notebook has %zu MB; 'cellar run' "
                             "reads up to %u\n",
                             len >> 20, CELLAR_NOTEBOOK_BYTES_MAX >> 20);
    return code == CELLAR_OK ? write_text(front, text, len) : code;
}

static enum cellar_code to_script(struct writing *writing,
                                  const struct cellar_pick *pick)
{
    struct cellar_front *front = writing->front;
    CELLAR_AUTO_FREE char *text = NULL;
    size_t len = 0;
    writing->script = open_memstream(&text, &len);
    if (!writing->script)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    fprintf(writing->script, "# Session %s (id %" PRIu64 ") of Cellar.\n",
            pick->name, pick->id);
    enum cellar_code code = fill(writing, pick);
    bool whole = !ferror(writing->script);
    whole &= fclose(writing->script) == 0;
    if (code == CELLAR_OK && !whole)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    return code == CELLAR_OK ? write_text(front, text, len) : code;
}

static const struct cellar_column columns[] = {
    {"name", NULL}, {"id", NULL}, {"output", NULL}, {"cells", NULL}};

static enum cellar_code print_object(struct cellar_front *front,
                                     const struct writing *writing,
                                     const struct cellar_pick *pick)
{
    struct cellar_table *table = cellar_table_new(columns, 4);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_table_text(table, pick->name);
    cellar_table_number(table, pick->id, "");
    cellar_table_text(table, front->options.operands[2]);
    cellar_table_number(table, writing->cells, "");
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

static int write_export(struct cellar_front *front)
{
    struct cellar_pick pick = {0};
    struct writing writing = {.front = front};
    enum cellar_code code = cellar_front_open(front);
    if (code == CELLAR_OK)
        code = cellar_past_pick(front, &pick);
    if (code == CELLAR_OK)
        code = front->options.script ? to_script(&writing, &pick)
                                     : to_notebook(&writing, &pick);
    if (code == CELLAR_OK && front->options.json)
        code = print_object(front, &writing, &pick);
    return code == CELLAR_OK ? CELLAR_EXIT_OK : cellar_front_fail(front);
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t n = strlen(end);
    return len >= n && strcasecmp(text + len - n, end) == 0;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    const char *path = options->operands[2];
    bool to_stdout = strcmp(path, "-") == 0;
    if (cellar_name_check(options->operands[1], &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (to_stdout && options->json)
        return cellar_front_usage(front,
                                  "both --json and - want stdout; give a file");
    if (!options->script && ends_with(path, ".py"))
        return cellar_front_usage(
            front, "%.200s: a script is written with --script", path);
    if (options->script && ends_with(path, ".ipynb"))
        return cellar_front_usage(
            front, "%.200s: a notebook is written without --script", path);
    if (!to_stdout && cellar_file_writable(path, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    return write_export(front);
}

const struct cellar_command cellar_command_export = {
    .name = "export",
    .bit = CELLAR_ON_EXPORT,
    .operands = "NAME OUT.ipynb|OUT.py|-",
    .operands_min = 2,
    .operands_max = 2,
    .text = "Write what a session ran as a notebook or a script",
    .details = "A notebook has every cell with its outputs, pictures and "
               "errors, and the cell's\n"
               "number as its count; 'cellar run' and Jupyter open it. With "
               "--script, a Python\n"
               "script whose cells begin at lines with \"# %%\", which 'cellar "
               "run' runs. The\n"
               "newest session called NAME is taken, or with --id an older "
               "one; it need not\n"
               "live any more. - is stdout. With --json the name, id, output "
               "and number of\n"
               "cells are printed as an object.\n",
    .run = run,
};
