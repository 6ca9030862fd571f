#include "byname.h"
#include "command.h"

static int run(struct cellar_front *front)
{
    return cellar_byname_run(front, cellar_interrupt_name);
}

const struct cellar_command cellar_command_interrupt = {
    .name = "interrupt",
    .bit = CELLAR_ON_INTERRUPT,
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .text = "Interrupt the running cell of a session",
    .details = "The cell gets a KeyboardInterrupt. If it has not ended after "
               "the session's\n"
               "grace time, its Python is ended and started anew. Nothing "
               "happens when no cell\n"
               "runs.\n",
    .run = run,
};
