/*
 * Leaves nothing of one worker for the next: empties /tmp and /dev/shm and
 * removes the System V objects of this user. Call it when every other process
 * of the container is dead: then there is nobody to race with.
 */
#ifndef CELLAR_AGENT_WIPE_H
#define CELLAR_AGENT_WIPE_H

#include <stdbool.h>

/* Deletes all below `path`, but nothing behind a mount point or a symbolic
 * link, with two descriptors and no recursion however deep it is. False when
 * something could not be deleted, or when it took over some seconds. A `path`
 * that doesn't exist is empty. */
bool cellar_wipe_directory(const char *path);

/* Shared memory, semaphores and message queues. */
void cellar_wipe_ipc(void);

#endif
