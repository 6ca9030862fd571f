#include "byname.h"
#include "command.h"

static int run(struct cellar_front *front)
{
    return cellar_byname_run(front, cellar_reset_name);
}

const struct cellar_command cellar_command_reset = {
    .name = "reset",
    .bit = CELLAR_ON_RESET,
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .text = "Give a session a fresh Python",
    .details = "Ends all its processes, drops its checkpoints, and empties "
               "/tmp and /dev/shm;\n"
               "the container stays. While branches share the container, the "
               "files stay too.\n",
    .run = run,
};
