/* What interrupt, reset and stop have in common: one call for a name. */
#ifndef CELLAR_CLI_BYNAME_H
#define CELLAR_CLI_BYNAME_H

#include "front.h"

typedef enum cellar_code cellar_byname_fn(struct cellar *c, const char *name,
                                          struct cellar_error *err);

/* Checks operand 1, opens the supervisor and calls `act` for the name; with
 * --json {"name": ...} is printed. Returns the exit status. */
int cellar_byname_run(struct cellar_front *front, cellar_byname_fn *act);

#endif
