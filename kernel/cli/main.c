/* The `cellar` command: reads its options and hands over to the command. */
#include <locale.h>
#include <signal.h>
#include <stdlib.h>

#include "command.h"
#include "help.h"
#include "nearest.h"
#include "output.h"

static int unknown_command(struct cellar_front *front, const char *name)
{
    struct cellar_nearest nearest;
    cellar_nearest_init(&nearest, name);
    for (size_t i = 0; cellar_commands[i]; i++)
        cellar_nearest_offer(&nearest, cellar_commands[i]->name);
    if (nearest.best)
        return cellar_front_usage(front,
                                  "unknown command '%.64s'; did you mean '%s'?",
                                  name, nearest.best);
    return cellar_front_usage(front, "unknown command '%.64s'", name);
}

static int run_command(struct cellar_front *front,
                       const struct cellar_command *command)
{
    const struct cellar_options *options = &front->options;
    if (cellar_options_allowed(options, command->bit, command->name,
                               &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    size_t operands = options->operand_count - 1;
    if (operands < command->operands_min)
        return cellar_front_usage(front, "'cellar %s' needs %s", command->name,
                                  command->operands);
    if (operands > command->operands_max)
        return cellar_front_usage(
            front, "'%.64s' is one word too many for 'cellar %s'",
            options->operands[command->operands_max + 1], command->name);
    return command->run(front);
}

static int dispatch(struct cellar_front *front, int argc, char **argv)
{
    const struct cellar_options *options = &front->options;
    enum cellar_code code =
        cellar_options_parse(&front->options, argc, argv, &front->err);
    const struct cellar_command *command = NULL;
    if (options->operand_count > 0)
        command = cellar_command_find(options->operands[0]);
    front->command = command ? command->name : NULL;
    front->on = command ? command->bit : 0;
    if (code != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (options->version) {
        cellar_output_text(&front->out, "cellar " CELLAR_VERSION "\n");
        return CELLAR_EXIT_OK;
    }
    if (options->operand_count > 0 && !command)
        return unknown_command(front, options->operands[0]);
    if (options->help) {
        cellar_help_print(&front->out, command);
        return CELLAR_EXIT_OK;
    }
    if (!command)
        return cellar_front_usage(front, "a command is missing");
    return run_command(front, command);
}

int main(int argc, char **argv)
{
    struct cellar_front front;
    cellar_output_guard();
    signal(SIGPIPE, SIG_IGN);
    /* Characters, for the line editor; numbers stay as C writes them. */
    setlocale(LC_CTYPE, "");
    cellar_front_init(&front);
    int status = dispatch(&front, argc, argv);
    return cellar_front_done(&front, status);
}
