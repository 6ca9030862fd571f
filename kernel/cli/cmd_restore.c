#include "command.h"
#include "kernel/spec.h"
#include "moment.h"

static int run(struct cellar_front *front)
{
    const char *name = front->options.operands[1];
    const char *tag = front->options.operands[2];
    struct cellar_moment moment = {0};
    if (cellar_name_check(name, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_front_adopt(front, name) != CELLAR_OK)
        return cellar_front_fail(front);
    if (cellar_restore(front->session, tag, &moment, &front->err) != CELLAR_OK)
        return cellar_moment_fail(front, name, tag);
    return cellar_moment_print(front, "restored", tag, &moment);
}

const struct cellar_command cellar_command_restore = {
    .name = "restore",
    .bit = CELLAR_ON_RESTORE,
    .operands = "NAME TAG",
    .operands_min = 2,
    .operands_max = 2,
    .text = "Go back to a checkpoint of a session",
    .details = "Its globals are those of the moment when the checkpoint was "
               "taken, as often as\n"
               "one likes; named checkpoints stay, automatic ones go. "
               "Processes that cells\n"
               "started end; files in /tmp and /dev/shm stay as they are. With "
               "--json:\n"
               "{restored, after, took_us}; after is the cell after which the "
               "globals stand.\n",
    .run = run,
};
