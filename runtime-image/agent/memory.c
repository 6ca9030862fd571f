#include "memory.h"

#include <unistd.h>

#include "figures.h"

/* What is kept free, so that a cell that allocates as fast as the kernel gives
 * finds it before the agent has looked again. */
#define RESERVE_SHARE 8
#define RESERVE_MIN   (16u << 20)

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* cgroup v2, then v1: as the container sees them. */
static const char *const usage_files[] = {
    "/sys/fs/cgroup/memory.current",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes",
};
static const char *const limit_files[] = {
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
};
static const char *const stat_files[] = {
    "/sys/fs/cgroup/memory.stat",
    "/sys/fs/cgroup/memory/memory.stat",
};

static const char *const own_files[] = {"/proc/self/status"};

static uint64_t read_one(int fd)
{
    char text[CELLAR_FIGURES_MAX];
    cellar_figures_read(fd, text);
    return cellar_figure(text, "\n");
}

void cellar_memory_init(struct cellar_memory *memory)
{
    int limit_fd = cellar_figures_open(limit_files, COUNT(limit_files));
    memory->usage_fd = cellar_figures_open(usage_files, COUNT(usage_files));
    memory->stat_fd = cellar_figures_open(stat_files, COUNT(stat_files));
    memory->own_fd = cellar_figures_open(own_files, COUNT(own_files));
    memory->limit = read_one(limit_fd);
    if (limit_fd >= 0)
        close(limit_fd);
}

/* File pages that the kernel gives up before it refuses anybody memory. */
static uint64_t droppable(const struct cellar_memory *memory)
{
    char text[CELLAR_FIGURES_MAX];
    cellar_figures_read(memory->stat_fd, text);
    return cellar_figure(text, "\ninactive_file ") +
           cellar_figure(text, "\nactive_file ");
}

/* The sum over all files takes longer than the one number: it is asked for only
 * when that is too high. */
uint64_t cellar_memory_spare(const struct cellar_memory *memory)
{
    uint64_t reserve = memory->limit / RESERVE_SHARE;
    reserve = reserve > RESERVE_MIN ? reserve : RESERVE_MIN;
    if (memory->limit <= reserve)
        return UINT64_MAX;
    uint64_t used = read_one(memory->usage_fd);
    uint64_t most = memory->limit - reserve;
    if (used > most)
        most += droppable(memory);
    return used > most ? 0 : most - used + 1;
}

uint64_t cellar_memory_private(const struct cellar_memory *memory)
{
    char text[CELLAR_FIGURES_MAX];
    cellar_figures_read(memory->stat_fd, text);
    uint64_t bytes = cellar_figure(text, "\nanon ");
    return bytes > 0 ? bytes : cellar_figure(text, "\nrss ");
}

uint64_t cellar_memory_own(const struct cellar_memory *memory)
{
    char text[CELLAR_FIGURES_MAX];
    cellar_figures_read(memory->own_fd, text);
    return cellar_figure(text, "\nRssAnon:") * 1024;
}
