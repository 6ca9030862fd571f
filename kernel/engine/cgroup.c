#include "cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "/sys/fs/cgroup"

/* A group's directory in the hierarchy of one controller. */
struct group {
    char path[PATH_MAX];
    bool v2;
};

/* Whether `name` is one of those in "cpu,cpuacct". */
static bool is_among(const char *names, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = names; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || !at[len]))
            return true;
    }
    return false;
}

/* A line is "4:memory:/docker/ID" in v1, "0::/docker/ID" in v2. On a machine
 * with both, v1 has the controllers. */
static bool match(char *line, const char *controller, const char *id,
                  struct group *group)
{
    char *rest = line;
    (void)strsep(&rest, ":");
    const char *name = strsep(&rest, ":");
    if (!name || !rest)
        return false;
    rest[strcspn(rest, "\n")] = '\0';
    group->v2 = name[0] == '\0';
    if ((!group->v2 && !is_among(name, controller)) || !strstr(rest, id) ||
        strstr(rest, ".."))
        return false;
    int n = snprintf(group->path, sizeof group->path, ROOT "%s%s%s",
                     group->v2 ? "" : "/", name, rest);
    return n > 0 && (size_t)n < sizeof group->path;
}

static bool find(pid_t pid, const char *controller, const char *id,
                 struct group *group)
{
    char path[64];
    char line[PATH_MAX];
    bool found = false;
    (void)snprintf(path, sizeof path, "/proc/%ld/cgroup", (long)pid);
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof line, file))
        found = match(line, controller, id, group);
    if (file)
        (void)fclose(file);
    return found;
}

/* The number in a file, or behind `key` at the beginning of one of its lines;
 * "max" is UINT64_MAX. */
static bool read_number(const struct group *group, const char *name,
                        const char *key, uint64_t *value)
{
    char path[PATH_MAX + 64];
    char line[256];
    size_t skip = key ? strlen(key) : 0;
    bool found = false;
    (void)snprintf(path, sizeof path, "%s/%s", group->path, name);
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        if (key && (strncmp(line, key, skip) != 0 || line[skip] != ' '))
            continue;
        char *end = line + skip;
        *value = strncmp(line + skip, "max", 3) == 0
                     ? UINT64_MAX
                     : strtoull(line + skip, &end, 10);
        found = *value == UINT64_MAX || end != line + skip;
    }
    if (file)
        (void)fclose(file);
    return found;
}

static bool read_memory(const struct group *group, struct cellar_usage *usage)
{
    uint64_t cache = 0;
    bool found = read_number(
        group, group->v2 ? "memory.current" : "memory.usage_in_bytes", NULL,
        &usage->memory_bytes);
    found &= read_number(group, "memory.stat",
                         group->v2 ? "inactive_file" : "total_inactive_file",
                         &cache);
    found &=
        read_number(group, group->v2 ? "memory.max" : "memory.limit_in_bytes",
                    NULL, &usage->memory_limit_bytes);
    usage->memory_bytes -=
        cache < usage->memory_bytes ? cache : usage->memory_bytes;
    return found;
}

static bool read_cpu(const struct group *group, struct cellar_usage *usage)
{
    if (group->v2)
        return read_number(group, "cpu.stat", "usage_usec", &usage->cpu_us);
    bool found = read_number(group, "cpuacct.usage", NULL, &usage->cpu_us);
    usage->cpu_us /= 1000;
    return found;
}

bool cellar_cgroup_number(pid_t pid, const char *controller, const char *id,
                          const char *v1, const char *v2, uint64_t *value)
{
    struct group group;
    return pid > 0 && find(pid, controller, id, &group) &&
           read_number(&group, group.v2 ? v2 : v1, NULL, value);
}

bool cellar_cgroup_is_v2(pid_t pid, const char *controller, const char *id)
{
    struct group group;
    return pid > 0 && find(pid, controller, id, &group) && group.v2;
}

bool cellar_cgroup_usage(pid_t pid, const char *id, struct cellar_usage *usage)
{
    struct cellar_usage taken = {0};
    struct group group;
    if (pid <= 0 || !id[0] || !find(pid, "memory", id, &group) ||
        !read_memory(&group, &taken) || !find(pid, "cpuacct", id, &group) ||
        !read_cpu(&group, &taken) || !find(pid, "pids", id, &group) ||
        !read_number(&group, "pids.current", NULL, &taken.pids) ||
        !read_number(&group, "pids.max", NULL, &taken.pids_limit))
        return false;
    *usage = taken;
    return true;
}
