/* A container's control groups, by the name it was given: also those of one
 * whose processes are gone. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../cgroup.h"
#include "oci.h"

#define ROOT "/sys/fs/cgroup"

/* What a group that was cut off amid its start can hold. */
#define PROCESSES_MAX 4096

/* Calls `each` with the group of `id` in every hierarchy that has one; true:
 * there is none (any more). */
static bool each_group(const char *id, bool (*each)(const char *path))
{
    char path[512];
    bool none = true;
    (void)snprintf(path, sizeof(path), ROOT "/cellar/%s", id);
    none &= access(path, F_OK) != 0 || each(path);
    DIR *dir = opendir(ROOT);
    const struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(path, sizeof(path), ROOT "/%s/cellar/%s",
                         entry->d_name, id);
        if (n > 0 && (size_t)n < sizeof(path) && access(path, F_OK) == 0)
            none &= each(path);
    }
    if (dir)
        (void)closedir(dir);
    return none;
}

/* What was started in it and never became the container's. */
static void kill_members(const char *path)
{
    char file[600];
    char line[32];
    (void)snprintf(file, sizeof(file), "%s/cgroup.procs", path);
    FILE *members = fopen(file, "re");
    for (int i = 0;
         members && i < PROCESSES_MAX && fgets(line, sizeof(line), members);
         i++) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1 && pid != (long)getpid())
            (void)kill((pid_t)pid, SIGKILL);
    }
    if (members)
        (void)fclose(members);
}

static bool remove_group(const char *path)
{
    if (rmdir(path) == 0 || errno == ENOENT)
        return true;
    kill_members(path);
    return rmdir(path) == 0 || errno == ENOENT;
}

bool cellar_oci_groups_remove(const char *id)
{
    return cellar_oci_check_id(id, NULL) == CELLAR_OK &&
           each_group(id, remove_group);
}

/* -------------------------------------------------------------- reading -- */

static bool read_word(const char *id, const char *controller, const char *file,
                      char *word, size_t size)
{
    char path[512];
    (void)snprintf(path, sizeof(path), ROOT "/%s%scellar/%s/%s", controller,
                   *controller ? "/" : "", id, file);
    FILE *text = fopen(path, "re");
    bool found = text && fgets(word, (int)size, text);
    if (text)
        (void)fclose(text);
    return found;
}

bool cellar_oci_group_is_frozen(const char *id, pid_t pid)
{
    char word[64];
    (void)pid;
    if (read_word(id, "freezer", "freezer.state", word, sizeof(word)))
        return strncmp(word, "FROZEN", 6) == 0;
    return read_word(id, "", "cgroup.freeze", word, sizeof(word)) &&
           word[0] == '1';
}

/* "oom_kill 3" in a line of its own. */
static uint64_t kills_in(const char *path)
{
    char line[128];
    uint64_t kills = 0;
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "oom_kill ", 9) == 0)
            kills = strtoull(line + 9, NULL, 10);
    if (file)
        (void)fclose(file);
    return kills;
}

uint64_t cellar_oci_group_kills(const char *id)
{
    char path[512];
    (void)snprintf(path, sizeof(path),
                   ROOT "/memory/cellar/%s/memory.oom_control", id);
    uint64_t kills = kills_in(path);
    (void)snprintf(path, sizeof(path), ROOT "/cellar/%s/memory.events", id);
    return kills ? kills : kills_in(path);
}

/* A runtime that was cut off has written the number alone: whose it is now, its
 * groups tell. */
void cellar_oci_born_find(int bundle_fd, const char *id, struct oci_born *born)
{
    char path[64];
    char line[512];
    bool ours = false;
    CELLAR_AUTO_FREE char *text = cellar_oci_file_read(bundle_fd, "pid");
    long pid = text ? strtol(text, NULL, 10) : 0;
    struct oci_born found = {0};
    if (pid > 1 && pid <= INT32_MAX)
        found = (struct oci_born){(pid_t)pid, cellar_oci_began((pid_t)pid)};
    (void)snprintf(path, sizeof(path), "/proc/%ld/cgroup", pid);
    FILE *file = found.began ? fopen(path, "re") : NULL;
    while (file && !ours && fgets(line, sizeof(line), file))
        ours = strstr(line, id) != NULL;
    if (file)
        (void)fclose(file);
    *born = ours ? found : (struct oci_born){0};
}
