#include "usage.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A shorter cell can't have touched more than some MB, and reading the peak
 * would cost more than a tenth of it. */
#define SHORT_CELL_US 500u

#define FILE_MAX 4096

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* cgroup v2, then v1: where the counter is, as the container sees it. */
static const char *const oom_files[] = {
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
};

static const char *const pids_files[] = {
    "/sys/fs/cgroup/pids.current",
    "/sys/fs/cgroup/pids/pids.current",
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int open_first(const char *const *paths, size_t count)
{
    int fd = -1;
    for (size_t i = 0; i < count && fd < 0; i++)
        fd = open(paths[i], O_RDONLY | O_CLOEXEC);
    return fd;
}

/* The whole file; empty where it can't be read. */
static void read_text(int fd, char text[FILE_MAX])
{
    ssize_t n = fd >= 0 ? pread(fd, text, FILE_MAX - 1, 0) : 0;
    text[n > 0 ? n : 0] = '\0';
}

/* The number behind `key`, which begins a line; 0 where there is none. */
static uint64_t number_in(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static uint64_t read_oom(const struct cellar_usage *usage)
{
    char text[FILE_MAX];
    read_text(usage->oom_fd, text);
    return number_in(text, "\noom_kill ");
}

/* Peak memory; and who is there beside this agent and the worker's threads. */
static void look_at_worker(struct cellar_usage *usage)
{
    char status[FILE_MAX];
    char pids[FILE_MAX];
    read_text(usage->status_fd, status);
    read_text(usage->pids_fd, pids);
    usage->peak_bytes = number_in(status, "\nVmHWM:") * 1024;
    usage->company = number_in(pids, "") > number_in(status, "\nThreads:") + 1;
}

static uint64_t read_cpu(const struct cellar_usage *usage)
{
    struct timespec t = {0};
    if (!usage->has_clock || clock_gettime(usage->clock, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t since(uint64_t later, uint64_t earlier)
{
    return later > earlier ? later - earlier : 0;
}

void cellar_usage_init(struct cellar_usage *usage)
{
    *usage = (struct cellar_usage){.status_fd = -1};
    usage->oom_fd = open_first(oom_files, COUNT(oom_files));
    usage->pids_fd = open_first(pids_files, COUNT(pids_files));
    usage->oom_kills = read_oom(usage);
}

void cellar_usage_attach(struct cellar_usage *usage, pid_t pid)
{
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    close_fd(&usage->status_fd);
    usage->status_fd = open(path, O_RDONLY | O_CLOEXEC);
    usage->has_clock = clock_getcpuclockid(pid, &usage->clock) == 0;
    usage->cpu_us = 0;
    usage->peak_bytes = 0;
    usage->company = false;
}

void cellar_usage_begin(struct cellar_usage *usage)
{
    usage->cpu_us = read_cpu(usage);
}

void cellar_usage_end(struct cellar_usage *usage, uint64_t wall_us,
                      uint64_t *cpu_us, uint64_t *peak_bytes)
{
    if (wall_us >= SHORT_CELL_US || usage->peak_bytes == 0) {
        look_at_worker(usage);
        usage->oom_kills = read_oom(usage);
    }
    *cpu_us = since(read_cpu(usage), usage->cpu_us);
    *peak_bytes = usage->peak_bytes;
}

void cellar_usage_end_by_death(struct cellar_usage *usage,
                               const struct rusage *used, uint64_t *cpu_us,
                               uint64_t *peak_bytes)
{
    uint64_t us =
        (uint64_t)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000 +
        (uint64_t)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
    *cpu_us = since(us, usage->cpu_us);
    *peak_bytes = (uint64_t)used->ru_maxrss * 1024;
    close_fd(&usage->status_fd);
    usage->has_clock = false;
}

bool cellar_usage_oom(struct cellar_usage *usage)
{
    uint64_t before = usage->oom_kills;
    usage->oom_kills = read_oom(usage);
    return usage->oom_kills > before;
}
