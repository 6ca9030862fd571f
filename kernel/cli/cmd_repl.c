#include <unistd.h>

#include "command.h"
#include "kernel/spec.h"
#include "repl.h"

/* A named session is adopted where it lives, and started where it doesn't. */
static enum cellar_code begin(struct cellar_front *front, const char *name)
{
    enum cellar_code code = cellar_front_open(front);
    if (code != CELLAR_OK)
        return code;
    if (name) {
        code = cellar_front_adopt(front, name);
        if (code != CELLAR_E_NOT_FOUND)
            return code;
    }
    return cellar_front_start(front, &front->options.spec);
}

static void greet(struct cellar_front *front)
{
    const char *name = cellar_session_name(front->session);
    cellar_output_printf(&front->out, "Cellar %s, Python %s, %s%s\n",
                         CELLAR_VERSION, cellar_session_python(front->session),
                         front->ends ? "a session that ends with this REPL"
                                     : "session ",
                         front->ends ? "" : name);
    cellar_output_text(&front->out, "Ctrl-C interrupts a cell, Ctrl-D ends.\n");
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    const char *name = options->operand_count > 1 ? options->operands[1] : NULL;
    if (name && cellar_name_check(name, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return cellar_front_usage(
            front, "the REPL needs a terminal; 'cellar run -' runs stdin");
    front->options.spec.name = name;
    if (begin(front, name) != CELLAR_OK)
        return cellar_front_fail(front);
    greet(front);
    return cellar_repl_run(front);
}

const struct cellar_command cellar_command_repl = {
    .name = "repl",
    .bit = CELLAR_ON_REPL,
    .operands = "[NAME]",
    .operands_min = 0,
    .operands_max = 1,
    .text = "Type Python into a session",
    .details =
        "NAME is a live session, or that of one to start, which stays; without "
        "it the\n"
        "session ends with the REPL. An input ends where its statement does, "
        "that of a\n"
        "block with an empty line. Ctrl-C interrupts the cell and keeps the "
        "state; at\n"
        "the prompt it drops the input. Ctrl-D ends.\n",
    .run = run,
};
