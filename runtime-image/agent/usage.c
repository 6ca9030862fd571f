#include "usage.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "figures.h"

/* A shorter cell can't have touched more than some MB, and reading the peak
 * would cost more than a tenth of it. */
#define SHORT_CELL_US 500u

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

static uint64_t read_oom(const struct cellar_usage *usage)
{
    char text[CELLAR_FIGURES_MAX];
    cellar_figures_read(usage->oom_fd, text);
    return cellar_figure(text, "\noom_kill ");
}

/* Where no group tells, the kernel counts: one in user space those of its own
 * container, any other all there are, so that the worker never seems alone. */
static uint64_t count_threads(const struct cellar_usage *usage)
{
    char text[CELLAR_FIGURES_MAX];
    struct sysinfo info = {.procs = 0};
    if (usage->pids_fd < 0)
        return sysinfo(&info) == 0 ? info.procs : UINT64_MAX;
    cellar_figures_read(usage->pids_fd, text);
    return cellar_figure(text, "\n");
}

/* A kernel in user space keeps no peak: there it is the most that was seen. */
static void keep_peak(struct cellar_usage *usage, const char *status)
{
    uint64_t now = cellar_figure(status, "\nVmHWM:") * 1024;
    if (now == 0) {
        now = cellar_figure(status, "\nVmRSS:") * 1024;
        now = now > usage->peak_bytes ? now : usage->peak_bytes;
    }
    usage->peak_bytes = now;
}

/* Peak memory; and whether somebody is there beside this agent, the worker's
 * threads and its copies. */
static void look_at_worker(struct cellar_usage *usage)
{
    char status[CELLAR_FIGURES_MAX];
    cellar_figures_read(usage->status_fd, status);
    keep_peak(usage, status);
    usage->company = count_threads(usage) >
                     cellar_figure(status, "\nThreads:") + 1 + usage->copies;
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
    usage->oom_fd = cellar_figures_open(oom_files, COUNT(oom_files));
    usage->pids_fd = cellar_figures_open(pids_files, COUNT(pids_files));
    usage->oom_kills = read_oom(usage);
}

void cellar_usage_done(struct cellar_usage *usage)
{
    close_fd(&usage->oom_fd);
    close_fd(&usage->status_fd);
    close_fd(&usage->pids_fd);
}

void cellar_usage_attach(struct cellar_usage *usage, pid_t pid)
{
    char path[48];
    const char *const paths[] = {path};
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    close_fd(&usage->status_fd);
    usage->status_fd = cellar_figures_open(paths, 1);
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

uint64_t cellar_usage_private(const struct cellar_usage *usage)
{
    char status[CELLAR_FIGURES_MAX];
    cellar_figures_read(usage->status_fd, status);
    return cellar_figure(status, "\nRssAnon:") * 1024;
}
