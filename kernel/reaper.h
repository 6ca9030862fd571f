/*
 * What dead supervisors leave, and who is alive.
 *
 *     supervisors/ID     in the state directory, locked while its process
 *                        lives; ID stands in the label of what it started
 *
 * Whose a container is the records tell, not its label: a session that was
 * taken from a pool has another name than its container. A container is a
 * leaving when it is of this state directory and
 * - its supervisor is dead, and no record tells of it: it is unnamed, or was
 *   never recorded (a start that was cut off); or
 * - a process took it from a pool to use it unnamed, and is dead; or
 * - it has ended, and nobody holds its session: then its end is written into
 *   the journal first, and the record keeps the reason (`lost`) for the next
 *   one who asks for the session.
 * Everything else is somebody's: a live session's, or a foreign one's. Records
 * of a pool whose containers are gone go too: nobody asks for those by name.
 */
#ifndef CELLAR_KERNEL_REAPER_H
#define CELLAR_KERNEL_REAPER_H

#include "cellar/cellar.h"
#include "engine/engine.h"

#define CELLAR_SUPERVISOR_ID_BYTES 17 /* 16 hex digits and the NUL */

/* ------------------------------------------------------ who is alive ---- */

/* Makes and locks this process's file. *fd is the caller's, who closes it
 * after cellar_alive_end(). */
enum cellar_code cellar_alive_begin(const char *state_dir,
                                    char id[CELLAR_SUPERVISOR_ID_BYTES],
                                    int *fd, struct cellar_error *err);
void cellar_alive_end(const char *state_dir, const char *id, int fd);

/* Whether the process `id` lives, as far as this machine can tell: an id that
 * is none is dead. */
bool cellar_alive_is(const char *state_dir, const char *id);

/* Removes the files of the dead. */
void cellar_alive_sweep(const char *state_dir);

/* ------------------------------------------------------------ reaping --- */

struct cellar_reaper;

/* Collects leavings from a listing: _look for each container, then _run. `own`
 * is a session whose lock the caller itself has, or NULL: what ended under that
 * name is a leaving. */
enum cellar_code cellar_reaper_new(struct cellar *c, const char *own,
                                   struct cellar_reaper **out,
                                   struct cellar_error *err);
/* Returns whether `container` is a leaving, which will be removed. */
bool cellar_reaper_look(struct cellar_reaper *reaper,
                        const struct cellar_container *container);
/* Diagnoses and removes them, a few at a time, and for some seconds at most:
 * what is left by then is left to the next. `done` is called once, with the
 * last failure or NULL; the reaper is then gone. With nothing to remove it is
 * called at once. */
void cellar_reaper_run(struct cellar_reaper *reaper,
                       cellar_engine_done_fn *done, void *user);
/* Without running. NULL is fine. */
void cellar_reaper_free(struct cellar_reaper *reaper);

#endif
