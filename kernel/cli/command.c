#include "command.h"

#include <string.h>

const struct cellar_command *const cellar_commands[] = {
    &cellar_command_repl,
    &cellar_command_run,
    &cellar_command_start,
    &cellar_command_exec,
    &cellar_command_interrupt,
    &cellar_command_checkpoint,
    &cellar_command_restore,
    &cellar_command_fork,
    &cellar_command_reset,
    &cellar_command_stop,
    &cellar_command_ps,
    &cellar_command_stats,
    &cellar_command_history,
    &cellar_command_export,
    &cellar_command_pool,
    &cellar_command_doctor,
    &cellar_command_image,
    &cellar_command_bench,
    NULL,
};

const struct cellar_command *cellar_command_find(const char *name)
{
    for (size_t i = 0; cellar_commands[i]; i++)
        if (strcmp(cellar_commands[i]->name, name) == 0)
            return cellar_commands[i];
    return NULL;
}
