/* The REPL's loop: reads inputs, runs them, shows what comes of it. */
#ifndef CELLAR_CLI_REPL_H
#define CELLAR_CLI_REPL_H

#include "front.h"

/* Works on front->session until the user leaves. Returns the exit status. */
int cellar_repl_run(struct cellar_front *front);

#endif
