/*
 * What a container uses, read from its control groups: microseconds, where an
 * engine takes a second. Only for containers of this machine.
 */
#ifndef CELLAR_ENGINE_CGROUP_H
#define CELLAR_ENGINE_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

#include "engine.h"

/* Of the container `id`, one of whose processes is `pid` by what its engine
 * says. False where that isn't so here: the engine is on another machine, or
 * in another pid namespace (the process's groups don't bear the id); or a
 * figure is missing. cgroup v1, v2, and both at once. */
bool cellar_cgroup_usage(pid_t pid, const char *id, struct cellar_usage *usage);

/* The first number in a file of its group of `controller`, by the file's name
 * in cgroup v1 and in v2; "max" is UINT64_MAX. False: there is no such file, or
 * the group doesn't bear the id. */
bool cellar_cgroup_number(pid_t pid, const char *controller, const char *id,
                          const char *v1, const char *v2, uint64_t *value);
bool cellar_cgroup_is_v2(pid_t pid, const char *controller, const char *id);

#endif
