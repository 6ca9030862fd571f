/*
 * The launcher: makes of a fresh process the worker. The agent starts it with
 * exec, so it holds no secret; it takes away what the worker must not have, in
 * an order that matters, tells the agent what is in force, and execs Python:
 *
 *     launcher NPROC NOFILE FSIZE MODULES
 *
 * with /dev/null, two pipes and the control socket as fds 0 to 3. The limits
 * are decimal, 0 leaves one as the container has it; the modules to preload
 * (proto/preload.h) go on to Python as they are. It fails closed: whatever
 * could not be done ends it with a status of enum cellar_boot_status and one
 * line on stderr.
 */
#ifndef CELLAR_LAUNCHER_LAUNCHER_H
#define CELLAR_LAUNCHER_LAUNCHER_H

#include <stdnoreturn.h>

#include "proto/record.h"

/* Prints the line and ends. */
noreturn void cellar_launcher_die(enum cellar_boot_status status,
                                  const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* --- limits.c --- */
/* Resource limits, and the first place in the queue of the kernel's OOM
 * killer. `args` are the three numbers. */
void cellar_limits_apply(char *const args[3]);

/* --- landlock.c --- */
/* From now on this process writes only below /tmp, /dev/shm and what the user
 * had mounted for it to write to, and to the harmless devices, and signals none
 * but its own children. Returns Landlock's ABI; 0 where the kernel has none,
 * which the host is told and decides on. */
int cellar_landlock_apply(void);

/* --- mounts.c --- */
/* Calls `each` for every place where something is mounted for writing, but
 * the root and those that the container itself needs. None without /proc. */
void cellar_mounts_each(void (*each)(void *user, const char *place),
                        void *user);

/* --- filter.c --- */
/* Loads policy.h. Returns the mode the kernel reports: 2. `*listener` is where
 * the agent is asked, the caller's to give it and to close; -1: nowhere. */
int cellar_filter_apply(int *listener);

/* --- python.c --- */
/* The absolute path of the python3 that PATH finds; ends the launcher when
 * there is none or when it is built on musl. Static. */
const char *cellar_python_find(const char *path);

/* Execs it on the worker's bootstrap, which is given `modules`, with a clean
 * environment. */
noreturn void cellar_python_exec(const char *python, const char *path,
                                 const char *modules);

#endif
