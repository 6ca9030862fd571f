#include "machine.h"

#include <ctype.h>
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static void find_cpu(char *cpu, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    (void)snprintf(cpu, size, "unknown CPU");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(cpu, size, "%s", colon + 2);
        break;
    }
    if (file)
        (void)fclose(file);
}

void cellar_machine(char *text, size_t size)
{
    char cpu[128];
    struct utsname name = {0};
    find_cpu(cpu, sizeof cpu);
    (void)uname(&name);
    (void)snprintf(text, size, "%s, %ld cores, %s %s", cpu,
                   sysconf(_SC_NPROCESSORS_ONLN), name.sysname, name.release);
}

/* A line of one of the kernel's files that counts KiB. */
static uint64_t read_bytes(const char *path, const char *name)
{
    char line[128];
    uint64_t kib = 0;
    FILE *file = fopen(path, "re");
    while (file && kib == 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoull(line + strlen(name), NULL, 10);
    if (file)
        (void)fclose(file);
    return kib << 10;
}

uint64_t cellar_process_bytes(const char *name)
{
    return read_bytes("/proc/self/status", name);
}

uint64_t cellar_machine_free_bytes(void)
{
    return read_bytes("/proc/meminfo", "MemAvailable:");
}

/* ------------------------------------------------------ what it takes -- */

uint64_t cellar_entry_count(const char *path)
{
    DIR *dir = opendir(path);
    uint64_t count = 0;
    for (struct dirent *e = NULL; dir && (e = readdir(dir));)
        count += e->d_name[0] != '.';
    if (dir)
        (void)closedir(dir);
    return count;
}

struct cellar_stock cellar_stock_take(void)
{
    (void)malloc_trim(0);
    struct mallinfo2 info = mallinfo2();
    return (struct cellar_stock){.malloced_bytes = info.uordblks + info.hblkhd,
                                 .rss_bytes = cellar_process_bytes("VmRSS:"),
                                 .descriptors =
                                     cellar_entry_count("/proc/self/fd")};
}

uint64_t cellar_stock_share(uint64_t after, uint64_t before, uint64_t count)
{
    return after > before ? (after - before) / count : 0;
}

/* ------------------------------------------------ what containers take -- */

static bool is_in(const char *pid, const char *container)
{
    char path[64];
    char line[512];
    bool in = false;
    (void)snprintf(path, sizeof path, "/proc/%.20s/cgroup", pid);
    FILE *file = fopen(path, "re");
    while (file && !in && fgets(line, sizeof line, file))
        in = strstr(line, container) != NULL;
    if (file)
        (void)fclose(file);
    return in;
}

/* Whether it is number 1 of its own pid namespace: "NSpid:\t4711\t1". */
static bool is_first(const char *pid)
{
    char path[64];
    char line[256];
    bool first = false;
    (void)snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        const char *last = strrchr(line, '\t');
        if (strncmp(line, "NSpid:", 6) == 0)
            first = last && strcmp(last, "\t1\n") == 0;
    }
    if (file)
        (void)fclose(file);
    return first;
}

static void add_shares(const char *pid, struct cellar_shares *shares)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%.20s/smaps_rollup", pid);
    uint64_t bytes = read_bytes(path, "Pss:");
    shares->processes += bytes > 0;
    if (is_first(pid))
        shares->agent_bytes += bytes;
    else
        shares->worker_bytes += bytes;
}

bool cellar_shares_take(const char *container, struct cellar_shares *shares)
{
    DIR *dir = opendir("/proc");
    *shares = (struct cellar_shares){.processes = 0};
    for (struct dirent *e = NULL; dir && (e = readdir(dir));)
        if (isdigit((unsigned char)e->d_name[0]) && is_in(e->d_name, container))
            add_shares(e->d_name, shares);
    if (dir)
        (void)closedir(dir);
    return shares->agent_bytes > 0 && shares->worker_bytes > 0;
}
