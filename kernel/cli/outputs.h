/* How a cell ended, as the outputs of a code cell in nbformat 4. */
#ifndef CELLAR_CLI_OUTPUTS_H
#define CELLAR_CLI_OUTPUTS_H

#include <jansson.h>

#include "cellar/cellar.h"

/* The list of outputs: stream, display_data, execute_result, error. An ending
 * that is no exception is an error too, named after the status, so that a
 * notebook shows it. The caller owns it; NULL: out of memory. */
json_t *cellar_outputs_new(const struct cellar_result *result);

#endif
