#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "file.h"
#include "kernel/fail.h"
#include "kernel/spec.h"
#include "print.h"
#include "proto/limits.h"

static int finish(struct cellar_front *front,
                  const struct cellar_result *result)
{
    if (front->options.json)
        cellar_print_json(&front->out, result);
    else
        cellar_print_plain(&front->out, &front->err_out, result);
    cellar_front_log(front, "cell %llu: %s, %llu us",
                     (unsigned long long)result->cell,
                     cellar_status_name(result->status),
                     (unsigned long long)result->wall_us);
    return result->status == CELLAR_STATUS_OK ? CELLAR_EXIT_OK
                                              : CELLAR_EXIT_CELL;
}

static int run_code(struct cellar_front *front, const char *code, size_t len)
{
    const struct cellar_options *options = &front->options;
    struct cellar_result *result = NULL;
    uint64_t timeout_ms = cellar_options_cell_timeout(options);
    front->show = options->json ? CELLAR_SHOW_NOTHING : CELLAR_SHOW_APART;
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_front_adopt(front, options->operands[1]) != CELLAR_OK ||
        cellar_front_run(front, code, len, timeout_ms, &result) != CELLAR_OK)
        return cellar_front_fail(front);
    int status = finish(front, result);
    cellar_result_free(result);
    return status;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    const char *code = options->operand_count > 2 ? options->operands[2] : NULL;
    CELLAR_AUTO_FREE char *text = NULL;
    size_t len = 0;
    if (cellar_name_check(options->operands[1], &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (code && strcmp(code, "-") != 0)
        return run_code(front, code, strlen(code));
    if (!code && isatty(STDIN_FILENO))
        return cellar_front_usage(
            front, "the code is missing; give it as a word, or - to type it");
    if (cellar_file_read("-", CELLAR_CODE_MAX, &text, &len, &front->err) !=
        CELLAR_OK)
        return cellar_front_fail(front);
    return run_code(front, text, len);
}

const struct cellar_command cellar_command_exec = {
    .name = "exec",
    .bit = CELLAR_ON_EXEC,
    .operands = "NAME [CODE|-]",
    .operands_min = 1,
    .operands_max = 2,
    .text = "Run one cell in a live session",
    .details =
        "The cell is CODE, or what stdin holds. Its stdout and its result go "
        "to stdout,\n"
        "its stderr and a traceback to stderr, as they come; with --json only "
        "the result\n"
        "object is printed. Ctrl-C interrupts the cell; a second one leaves "
        "it.\n",
    .run = run,
};
