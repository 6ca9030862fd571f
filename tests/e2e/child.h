/* Another command, run from a test without a shell. */
#ifndef CELLAR_TESTS_CHILD_H
#define CELLAR_TESTS_CHILD_H

/* Runs argv[0], found in PATH, to its end, and gives each line that it prints
 * to `line`, which may be NULL. Returns its exit status; -1: it could not be
 * run, or died of a signal. */
int child_lines(const char *const argv[],
                void (*line)(void *user, const char *text), void *user);

/* What an administrator may do to a container of this process's state
 * directory: "pause", "unpause" or "rm". As child_lines. */
int child_from_outside(const char *word, const char *container);

#endif
