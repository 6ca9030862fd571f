#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "command.h"
#include "file.h"
#include "jobs.h"
#include "kernel/fail.h"
#include "notebook.h"
#include "print.h"
#include "proto/limits.h"
#include "script.h"
#include "signals.h"

static bool is_notebook(const char *path)
{
    size_t n = strlen(path);
    return n > 6 && strcasecmp(path + n - 6, ".ipynb") == 0;
}

static enum cellar_code check_sizes(const char *path,
                                    const struct cellar_notebook *notebook,
                                    struct cellar_error *err)
{
    for (size_t i = 0; i < cellar_notebook_count(notebook); i++) {
        size_t len = 0;
        (void)cellar_notebook_code(notebook, i, &len);
        if (len > CELLAR_CODE_MAX)
            return cellar_fail(
                err, CELLAR_E_USAGE,
                "%.200s: cell %zu has %zu bytes of code; at most %u are taken",
                path, cellar_notebook_place(notebook, i), len, CELLAR_CODE_MAX);
    }
    return CELLAR_OK;
}

static enum cellar_code load(const char *path, struct cellar_notebook **out,
                             struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *text = NULL;
    size_t len = 0;
    const char *name = strcmp(path, "-") == 0 ? "stdin" : path;
    enum cellar_code code =
        cellar_file_read(path, CELLAR_NOTEBOOK_BYTES_MAX, &text, &len, err);
    if (code == CELLAR_OK)
        code = is_notebook(path)
                   ? cellar_notebook_read(name, text, len, out, err)
                   : cellar_script_read(name, text, len, out, err);
    return code == CELLAR_OK ? check_sizes(name, *out, err) : code;
}

static enum cellar_code begin(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    enum cellar_code code = cellar_front_open(front);
    if (code != CELLAR_OK)
        return code;
    return options->session ? cellar_front_adopt(front, options->session)
                            : cellar_front_start(front, &options->spec);
}

static void show(struct cellar_front *front, const struct cellar_result *result)
{
    if (front->options.json)
        cellar_print_json(&front->out, result);
    else
        cellar_print_ending(&front->out, result);
    cellar_front_log(front, "cell %llu: %s, %llu us",
                     (unsigned long long)result->cell,
                     cellar_status_name(result->status),
                     (unsigned long long)result->wall_us);
}

/* Whether the cells after this one are run. A Ctrl-C here means the run; an
 * interrupt from elsewhere only the cell. */
static bool goes_on(const struct cellar_front *front,
                    const struct cellar_result *result)
{
    if (result->status == CELLAR_STATUS_OK)
        return true;
    return front->options.keep_going && cellar_signals_count() == 0 &&
           result->status != CELLAR_STATUS_LOST;
}

/* Runs cell `i`; *status becomes what the cell makes of the exit status. */
static enum cellar_code run_cell(struct cellar_front *front,
                                 struct cellar_notebook *notebook, size_t i,
                                 int *status, bool *more)
{
    size_t len = 0;
    const char *code = cellar_notebook_code(notebook, i, &len);
    struct cellar_result *result = NULL;
    uint64_t timeout_ms = front->options.session
                              ? cellar_options_cell_timeout(&front->options)
                              : 0;
    if (!front->options.json)
        cellar_print_code(&front->out, cellar_session_cells(front->session) + 1,
                          code, len, i == 0);
    enum cellar_code failed =
        cellar_front_run(front, code, len, timeout_ms, &result);
    if (failed != CELLAR_OK)
        return failed;
    show(front, result);
    if (result->status != CELLAR_STATUS_OK)
        *status = CELLAR_EXIT_CELL;
    *more = goes_on(front, result);
    failed = cellar_notebook_record(notebook, i, result, &front->err);
    cellar_result_free(result);
    return failed;
}

static int run_cells(struct cellar_front *front,
                     struct cellar_notebook *notebook)
{
    int status = CELLAR_EXIT_OK;
    bool more = true;
    for (size_t i = 0; more && i < cellar_notebook_count(notebook); i++)
        if (run_cell(front, notebook, i, &status, &more) != CELLAR_OK)
            return cellar_front_fail(front);
    return status;
}

static int run_notebook(struct cellar_front *front,
                        struct cellar_notebook *notebook)
{
    const char *output = front->options.output;
    front->show =
        front->options.json ? CELLAR_SHOW_NOTHING : CELLAR_SHOW_ON_OUT;
    if (cellar_notebook_clear(notebook, &front->err) != CELLAR_OK ||
        begin(front) != CELLAR_OK)
        return cellar_front_fail(front);
    int status = run_cells(front, notebook);
    /* Also when a cell failed, or the user gave up: what was run is there. */
    if (output &&
        cellar_jobs_write(output, notebook, &front->err) != CELLAR_OK) {
        int failed = cellar_front_fail(front);
        return status > failed ? status : failed;
    }
    return status;
}

static int run_one(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    struct cellar_notebook *notebook = NULL;
    if (options->output &&
        cellar_file_writable(options->output, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "--output: %s", front->err.msg);
    if (load(options->operands[1], &notebook, &front->err) != CELLAR_OK) {
        cellar_notebook_free(notebook);
        return cellar_front_fail(front);
    }
    int status = run_notebook(front, notebook);
    cellar_notebook_free(notebook);
    return status;
}

/* -------------------------------------------------------- several files -- */

/* DIR/NAME.ipynb for a/b/NAME.py. NULL: out of memory. */
static char *output_path(const char *dir, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    char *to = NULL;
    int len = dot && dot > base ? (int)(dot - base) : (int)strlen(base);
    return asprintf(&to, "%s/%.*s.ipynb", dir, len, base) < 0 ? NULL : to;
}

static enum cellar_code plan_output(const char *dir,
                                    struct cellar_job_file *files, size_t i,
                                    struct cellar_error *err)
{
    struct cellar_job_file *file = &files[i];
    file->output = output_path(dir, file->path);
    if (!file->output)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    for (size_t k = 0; k < i; k++)
        if (strcmp(files[k].output, file->output) == 0)
            return cellar_fail(err, CELLAR_E_USAGE,
                               "--output: %.200s and %.200s would both be "
                               "written to %.200s",
                               files[k].path, file->path, file->output);
    return cellar_file_writable(file->output, err);
}

/* All are read before the first one runs. */
static enum cellar_code load_files(const struct cellar_options *options,
                                   struct cellar_job_file *files, size_t count,
                                   struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (size_t i = 0; code == CELLAR_OK && i < count; i++) {
        files[i].path = options->operands[1 + i];
        if (options->output)
            code = plan_output(options->output, files, i, err);
        if (code == CELLAR_OK)
            code = load(files[i].path, &files[i].notebook, err);
        if (code == CELLAR_OK)
            code = cellar_notebook_clear(files[i].notebook, err);
    }
    return code;
}

static int run_files(struct cellar_front *front, struct cellar_job_file *files,
                     size_t count)
{
    const struct cellar_options *options = &front->options;
    if (load_files(options, files, count, &front->err) != CELLAR_OK ||
        cellar_front_open(front) != CELLAR_OK)
        return cellar_front_fail(front);
    return cellar_jobs_run(front, files, count, options->jobs);
}

static int run_several(struct cellar_front *front)
{
    size_t count = front->options.operand_count - 1;
    struct cellar_job_file *files = calloc(count, sizeof *files);
    if (!files) {
        cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
        return cellar_front_fail(front);
    }
    int status = run_files(front, files, count);
    for (size_t i = 0; i < count; i++) {
        cellar_notebook_free(files[i].notebook);
        free(files[i].output);
    }
    free(files);
    return status;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    bool several = options->operand_count > 2;
    if (options->session && several)
        return cellar_front_usage(
            front, "--session takes one file; each of several has a session "
                   "of its own");
    if (options->session &&
        cellar_name_check(options->session, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "--session: %s", front->err.msg);
    return several ? run_several(front) : run_one(front);
}

const struct cellar_command cellar_command_run = {
    .name = "run",
    .bit = CELLAR_ON_RUN,
    .operands = "FILE.ipynb|FILE.py|- ...",
    .operands_min = 1,
    .operands_max = SIZE_MAX - 1,
    .text = "Run notebooks, scripts or stdin, cell by cell",
    .details =
        "A script's cells begin at lines with \"# %%\"; without any, it is one "
        "cell.\n"
        "The cells run in a session of their own, which ends with the "
        "command, or in\n"
        "the one that --session names. Prints what a notebook would show, on "
        "stdout;\n"
        "with --json one result object per line and cell. Stops at the first "
        "cell that\n"
        "does not end ok, with exit status 1. Ctrl-C interrupts the running "
        "cell; a\n"
        "second one ends the command.\n"
        "Several files run each in a session of its own, --jobs of them at "
        "once; all\n"
        "of what one prints is shown before the next. Then --output names a "
        "directory,\n"
        "--json objects begin with the key \"file\", and a file that fails "
        "does not keep\n"
        "the others.\n",
    .run = run,
};
