/* What goes on after the command has ended: its pool is filled up. */
#ifndef CELLAR_CLI_BACKGROUND_H
#define CELLAR_CLI_BACKGROUND_H

#include "front.h"

/* Starts `cellar pool` with the command's options in a process of its own,
 * without terminal, stdio or descriptors of this one. It ends by itself within
 * some minutes; what fails stands in the state directory (kernel/refill.h). */
void cellar_background_refill(struct cellar_front *front);

#endif
