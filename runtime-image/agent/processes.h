/*
 * The processes of the container, the agent's own apart: reaped as they die,
 * and killed together. Some may be spared: frozen copies, and other lanes'.
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

/* Who is spared: copies that are frozen, and stay stopped; and, `beside` them,
 * other lanes: workers that go on, all that descends from them, and what the
 * engine started. Both lists are the caller's. */
struct cellar_kin {
    pid_t *frozen;
    size_t count;
    pid_t *living;
    size_t living_count;
    bool beside;
    void (*reaped)(void *user, const struct cellar_death *death);
    void *user;
};

/* Kills and reaps every one that is not spared; `reaped` is told of each that
 * has died, spared ones too. False when there is no /proc to tell them apart,
 * or when others keep coming: kill all then. */
bool cellar_processes_kill_strangers(const struct cellar_kin *kin);

/* The parent of `pid`: 0 of one that the engine started, and of the agent; -1
 * when there is no such process. */
pid_t cellar_processes_parent(pid_t pid);

/* The process that `pid` is a thread of: the kernel takes the number of any
 * thread for its process. `pid` itself where that can't be told. */
pid_t cellar_processes_leader(pid_t pid);

#endif
