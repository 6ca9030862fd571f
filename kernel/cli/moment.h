/* What a request about checkpoints came to, for people and in JSON. */
#ifndef CELLAR_CLI_MOMENT_H
#define CELLAR_CLI_MOMENT_H

#include "front.h"

/* "checkpoint before: after cell 3, 1.2 ms", or with --json an object whose
 * first key is `what`. `moment` NULL: only what and tag. Returns the command's
 * exit status. */
int cellar_moment_print(struct cellar_front *front, const char *what,
                        const char *tag, const struct cellar_moment *moment);

/* front->err, when the agent has refused what was asked of the checkpoint
 * `tag` of the session `name`: said with both names. Returns the command's
 * exit status. */
int cellar_moment_fail(struct cellar_front *front, const char *name,
                       const char *tag);

#endif
