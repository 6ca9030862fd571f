/*
 * The guard: before a process of the session signals or schedules another, the
 * kernel asks here (seccomp's user notification: policy.h says for which calls;
 * 0 is whoever asks, or its group). A frozen copy is of the worker's user, so
 * nothing else stands between it and a cell that would kill or starve it. The
 * numbers travel in registers, so what is answered is what is done.
 *
 * Without a listener (an older kernel) nobody asks, and a cell can kill its
 * session's copies: that costs the state they hold and no more.
 */
#ifndef CELLAR_AGENT_GUARD_H
#define CELLAR_AGENT_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* One listener for each launched worker of which something lives: the last
 * one's, and those that its copies descend from. */
#define CELLAR_GUARD_MAX 20

struct cellar_guard {
    int fds[CELLAR_GUARD_MAX];
    size_t count;
};

void cellar_guard_init(struct cellar_guard *guard);

/* Takes a launcher's listener. When all places are taken the oldest goes: what
 * still lives of its worker can't signal anybody then. */
void cellar_guard_add(struct cellar_guard *guard, int fd);

/* Answers one question that waits at listener `i`; `is_spared` says which
 * processes may not be reached, and by which one. A listener that nobody is
 * left of is closed, and others may take its number. */
void cellar_guard_answer(struct cellar_guard *guard, size_t i,
                         bool (*is_spared)(void *user, pid_t pid, pid_t by),
                         void *user);

#endif
