/*
 * The type of sys.stdout and sys.stderr: a TextIOWrapper whose write() goes
 * straight to a sink (sink.h). Where the user reaches for what lies below
 * (buffer, detach(), reconfigure(), close()) it becomes a plain TextIOWrapper,
 * line-buffered, for good.
 *
 * What a thread of an earlier cell writes is dropped: it belongs to no later
 * cell. A thread is one of an earlier cell when it was there as a cell began
 * or ended.
 */
#ifndef CELLAR_WORKER_STREAM_H
#define CELLAR_WORKER_STREAM_H

#include "runtime-image/worker/worker.h"

bool cellar_stream_init(void);

/* A new stream named `name` for fd 1 or 2; the one before it becomes plain. */
PyObject *cellar_stream_new(int fd, const char *name);

/* Notes the threads there are now. */
void cellar_stream_note_threads(void);

#endif
