/*
 * The processes of the container, the agent's own apart: reaped as they die,
 * and killed together. Some may be spared: the frozen copies of the worker.
 */
#ifndef CELLAR_AGENT_PROCESSES_H
#define CELLAR_AGENT_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

struct cellar_death {
    pid_t pid;
    int status; /* as from wait(2) */
    struct rusage used;
};

/* Reaps one that has died; false when there is none. */
bool cellar_processes_reap(struct cellar_death *death);

/* Kills and reaps every one. Fork bombs lose: nothing can fork between a
 * kill(-1) that hit it and its death. False after some seconds in which
 * something could not be killed. */
bool cellar_processes_kill_all(void);

/* Kills and reaps every one but the `count` in `spared`, which are left
 * stopped; one of those that is found dead becomes 0. False when there is no
 * /proc to tell them apart, or when others keep coming: kill all then. */
bool cellar_processes_kill_others(pid_t *spared, size_t count);

#endif
