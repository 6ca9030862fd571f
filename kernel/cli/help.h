/* --help, made from the tables of commands and options. */
#ifndef CELLAR_CLI_HELP_H
#define CELLAR_CLI_HELP_H

#include "command.h"

/* Prints the help of `command`; NULL: of cellar as a whole. */
void cellar_help_print(struct cellar_output *out,
                       const struct cellar_command *command);

#endif
