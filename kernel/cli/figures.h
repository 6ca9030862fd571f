/*
 * A bench's report, printed: a line a figure for people, with a unit that reads
 * well; one object as JSON, where what was not measured is null and its reason
 * stands below "not_measured".
 */
#ifndef CELLAR_CLI_FIGURES_H
#define CELLAR_CLI_FIGURES_H

#include <jansson.h>

#include "kernel/bench/report.h"
#include "output.h"

void cellar_figures_print(struct cellar_output *out,
                          const struct cellar_report *report);

/* Adds to `root`. False: out of memory. */
bool cellar_figures_json(json_t *root, const struct cellar_report *report);

#endif
