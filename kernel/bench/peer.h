/*
 * ipykernel, measured on the host by a script of ours that speaks to it through
 * jupyter_client, in a process of its own with a deadline. It is a figure to
 * compare with, not a part of Cellar: where it isn't installed, the reason
 * stands in its place.
 */
#ifndef CELLAR_BENCH_PEER_H
#define CELLAR_BENCH_PEER_H

#include <stdint.h>

#include "report.h"

/* Which Python has ipykernel and jupyter_client, unless one is named. */
#define CELLAR_PEER_PYTHON_ENV "CELLAR_BENCH_PYTHON"

struct cellar_peer {
    const char *python;   /* a path or a name in PATH; NULL: the environment's,
                             else python3 */
    const char *data_dir; /* where the script is */
};

/* Has the script measure `what` ("start", "cell", "output" or "memory") with
 * `count` (starts, cells, bytes; ignored) and adds to the report what is asked
 * for, each under "ipykernel_" and its key. Never fails: what did not come is
 * a miss. */
struct cellar_peer_figure {
    const char *key;
    const char *text;
};
void cellar_peer_measure(const struct cellar_peer *peer, const char *what,
                         uint64_t count,
                         const struct cellar_peer_figure *figures,
                         size_t figure_count, struct cellar_report *report);

#endif
