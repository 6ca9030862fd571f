/*
 * A command: one const entry beside its function, one file each. The list of
 * them drives dispatch, --help and the check of the man page.
 */
#ifndef CELLAR_CLI_COMMAND_H
#define CELLAR_CLI_COMMAND_H

#include "front.h"

struct cellar_command {
    const char *name;
    unsigned bit;         /* of enum cellar_on: which options it takes */
    const char *operands; /* as --help shows them: "NAME [CODE|-]" */
    size_t operands_min;
    size_t operands_max;
    const char *text;    /* what it does, in a line */
    const char *details; /* what one has to know to use it; lines of at most
                            79 bytes, each ended */
    /* Operand 0 is the command itself. Returns the exit status. */
    int (*run)(struct cellar_front *front);
};

/* All commands, in the order --help shows them; ends with NULL. */
extern const struct cellar_command *const cellar_commands[];

extern const struct cellar_command cellar_command_repl;
extern const struct cellar_command cellar_command_run;
extern const struct cellar_command cellar_command_start;
extern const struct cellar_command cellar_command_exec;
extern const struct cellar_command cellar_command_interrupt;
extern const struct cellar_command cellar_command_reset;
extern const struct cellar_command cellar_command_checkpoint;
extern const struct cellar_command cellar_command_restore;
extern const struct cellar_command cellar_command_fork;
extern const struct cellar_command cellar_command_pool;
extern const struct cellar_command cellar_command_stop;
extern const struct cellar_command cellar_command_ps;
extern const struct cellar_command cellar_command_stats;
extern const struct cellar_command cellar_command_history;
extern const struct cellar_command cellar_command_export;
extern const struct cellar_command cellar_command_doctor;
extern const struct cellar_command cellar_command_image;
extern const struct cellar_command cellar_command_bench;

/* The command called `name`, or NULL. */
const struct cellar_command *cellar_command_find(const char *name);

#endif
