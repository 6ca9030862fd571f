#include "runtime-image/worker/pipes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A program with more of them has some that stay shared. */
#define ENDS_MAX 512

/* All that a pipe holds. */
#define PIPE_BYTES (1u << 20)

struct end {
    int fd;
    int flags; /* of the open file */
    unsigned long long pipe;
};

static struct {
    struct end ends[ENDS_MAX];
    size_t count;
} pipes;

/* -------------------------------------------------------------- finding -- */

/* The name says what it is: "pipe:[NUMBER]". A named pipe has a path. */
static void note(int folder, const char *name)
{
    static const char prefix[] = "pipe:[";
    char text[64] = "";
    struct end *end = &pipes.ends[pipes.count];
    ssize_t len = readlinkat(folder, name, text, sizeof(text) - 1);
    if (len <= 0 || strncmp(text, prefix, sizeof(prefix) - 1) != 0)
        return;
    end->fd = (int)strtol(name, NULL, 10);
    end->flags = fcntl(end->fd, F_GETFL);
    end->pipe = strtoull(text + sizeof(prefix) - 1, NULL, 10);
    if (end->flags >= 0)
        pipes.count++;
}

static void find_all(void)
{
    pipes.count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return;
    const struct dirent *entry = readdir(folder);
    for (; entry && pipes.count < ENDS_MAX; entry = readdir(folder))
        note(dirfd(folder), entry->d_name);
    closedir(folder);
}

/* One of the pipe's ends that is open this way; NULL: it is elsewhere. */
static const struct end *find(unsigned long long pipe, int mode)
{
    for (size_t i = 0; i < pipes.count; i++)
        if (pipes.ends[i].pipe == pipe &&
            (pipes.ends[i].flags & O_ACCMODE) == mode)
            return &pipes.ends[i];
    return NULL;
}

/* ------------------------------------------------------------ replacing -- */

static void put_in_place(const struct end *end, int fresh)
{
    int cloexec = fcntl(end->fd, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
    (void)fcntl(fresh, F_SETFL, end->flags);
    (void)dup3(fresh, end->fd, cloexec);
}

/* Both ends at once, and all that are duplicates of them. */
static void replace(unsigned long long pipe)
{
    const struct end *reader = find(pipe, O_RDONLY);
    const struct end *writer = find(pipe, O_WRONLY);
    int fresh[2];
    if (find(pipe, O_RDWR) || pipe2(fresh, O_CLOEXEC) != 0)
        return;
    if (reader && writer)
        (void)tee(reader->fd, fresh[1], PIPE_BYTES, SPLICE_F_NONBLOCK);
    for (size_t i = 0; i < pipes.count; i++) {
        struct end *end = &pipes.ends[i];
        if (end->pipe != pipe)
            continue;
        put_in_place(end, fresh[(end->flags & O_ACCMODE) == O_WRONLY]);
        end->fd = -1;
    }
    close(fresh[0]);
    close(fresh[1]);
}

void cellar_pipes_part(void)
{
    find_all();
    for (size_t i = 0; i < pipes.count; i++)
        if (pipes.ends[i].fd >= 0)
            replace(pipes.ends[i].pipe);
}
