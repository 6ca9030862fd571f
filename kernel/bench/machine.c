#include "machine.h"

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
