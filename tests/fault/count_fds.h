/* How many descriptors this process has open. libuv opens two with the first
 * loop and keeps them: call open_first_loop() once before counting. */
#ifndef CELLAR_TESTS_FAULT_COUNT_FDS_H
#define CELLAR_TESTS_FAULT_COUNT_FDS_H

#include <dirent.h>

#include "kernel/loop.h"

static inline int count_fds(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static inline int open_first_loop(void **state)
{
    struct cellar_loop *loop = NULL;
    (void)state;
    if (cellar_loop_new(&loop, NULL))
        return -1;
    cellar_loop_free(loop);
    return 0;
}

#endif
