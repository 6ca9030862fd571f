/*
 * A cell that ended while nobody was attached: told once, on stderr, by the
 * next command that runs cells in its session.
 */
#ifndef CELLAR_CLI_UNATTENDED_H
#define CELLAR_CLI_UNATTENDED_H

#include "cellar/cellar.h"
#include "output.h"

/* How a cell ended, in one line of at most CELLAR_UNATTENDED_MAX - 1 bytes:
 * "ok", "ValueError: no", "timeout after 2 s; state kept". */
#define CELLAR_UNATTENDED_MAX 256
void cellar_unattended_ending(const struct cellar_result *result,
                              char line[CELLAR_UNATTENDED_MAX]);

/* "cellar: cell 7 ended while nobody was attached: ok; ..." with where to see
 * more; as JSON {"unattended": the result object}. */
void cellar_unattended_tell(struct cellar_output *err_out, const char *session,
                            const struct cellar_result *result, bool json);

#endif
