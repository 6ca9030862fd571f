/* Numbers in the kernel's text files: /proc and the control group. */
#ifndef CELLAR_AGENT_FIGURES_H
#define CELLAR_AGENT_FIGURES_H

#include <stddef.h>
#include <stdint.h>

#define CELLAR_FIGURES_MAX 4096

/* Opens the first of `paths` that is there, for reading; or -1. It is read
 * once: the kernel takes the room that it needs for that from the session's
 * memory, and keeps it. Later, where memory is short, this would have a process
 * killed for want of it. */
int cellar_figures_open(const char *const *paths, size_t count);

/* Reads the file from its beginning, behind a newline: so every key in it can
 * be looked for as "\nkey ". Only "\n" where it can't be read, or `fd` is -1.
 */
void cellar_figures_read(int fd, char text[CELLAR_FIGURES_MAX]);

/* The number behind `key`; 0 where there is none. */
uint64_t cellar_figure(const char *text, const char *key);

#endif
