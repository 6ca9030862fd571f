/*
 * Bytes on their way to fd 1 or 2. Lines are written as they end, so that a
 * reader sees them at once and a crash loses none; but a flood of them, which
 * would cost a system call and a wake-up of the reader each, is gathered into
 * large writes. What is gathered leaves within some milliseconds, whatever
 * the interpreter does meanwhile: a thread without Python sees to it. That
 * thread exists only while there is a flood.
 *
 * Calls need the GIL, and let go of it while they wait.
 */
#ifndef CELLAR_WORKER_SINK_H
#define CELLAR_WORKER_SINK_H

#include "runtime-image/worker/worker.h"

struct cellar_sink;

bool cellar_sink_init(void);

/* The sink of fd 1 or 2; lives for ever. */
struct cellar_sink *cellar_sink_of(int fd);

/* From now on it is another cell's turn: of a write that has begun, and waits
 * for its place, no more is taken. With the GIL, as all calls here. */
void cellar_sink_turn(void);

/* Takes what stands at data[*done] up to data[len], and says in *done how far
 * it got. 0, or an errno: after EINTR call it again when the signal has been
 * seen to; with any other the bytes are lost. */
int cellar_sink_write(struct cellar_sink *sink, const char *data, size_t len,
                      size_t *done);

/* Writes all that is gathered. 0 or an errno, as above. */
int cellar_sink_flush(struct cellar_sink *sink);

#endif
