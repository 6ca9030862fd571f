/* What a program file asks for, read without running it. */
#ifndef CELLAR_LAUNCHER_PROGRAM_H
#define CELLAR_LAUNCHER_PROGRAM_H

#include <stdbool.h>

/* Whether the program asks for musl's loader. What isn't an ELF file of this
 * machine (a script that starts the real one) is left to exec: false. */
bool cellar_program_needs_musl(int fd);

#endif
