/*
 * Modules that are imported before the worker says that it is ready: what they
 * cost is paid by nobody who waits. Nothing of them is bound in __main__.
 */
#ifndef CELLAR_WORKER_PRELOAD_H
#define CELLAR_WORKER_PRELOAD_H

#include "runtime-image/worker/worker.h"

/* Takes their names (proto/preload.h) from sys.argv, where the launcher has put
 * them: before anything cleans it. False: an exception is set. */
bool cellar_preload_note(void);

/* Imports them in their order. One that can't be ends the process with
 * CELLAR_BOOT_PRELOAD; the last line on stderr says which, and why. */
void cellar_preload_run(void);

#endif
