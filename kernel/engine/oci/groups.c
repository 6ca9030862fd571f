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

/* Where the group of one line of /proc/PID/cgroup is: "4:memory:/cellar/ID",
 * "0::/cellar/ID" in v2. False: it is none of the container's. */
static bool group_path(char *line, const char *id, char *controllers,
                       char path[512])
{
    char *rest = line;
    (void)strsep(&rest, ":");
    char *names = strsep(&rest, ":");
    if (!names || !rest)
        return false;
    rest[strcspn(rest, "\n")] = '\0';
    if (!strstr(rest, id) || strstr(rest, "..") || strchr(names, '/'))
        return false;
    const char *folder = names;
    if (strncmp(names, "name=", 5) == 0)
        folder = names + 5;
    else if (!*names && access(ROOT "/unified", F_OK) == 0)
        folder = "unified";
    (void)snprintf(controllers, 64, "%s", names);
    int n =
        snprintf(path, 512, ROOT "%s%s%s", *folder ? "/" : "", folder, rest);
    return n > 0 && n < 512;
}

/* Where a runtime makes them for root; all there is to go by when a start was
 * cut off. */
static bool each_usual(const char *id, bool (*each)(const char *path))
{
    char path[512];
    (void)snprintf(path, sizeof(path), ROOT "/cellar/%s", id);
    bool none = access(path, F_OK) != 0 || each(path);
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

static bool each_noted(char *text, const char *id,
                       bool (*each)(const char *path))
{
    char controllers[64];
    char path[512];
    bool none = true;
    while (text && *text) {
        char *line = strsep(&text, "\n");
        if (group_path(line, id, controllers, path) && access(path, F_OK) == 0)
            none &= each(path);
    }
    return none;
}

void cellar_oci_groups_note(int bundle_fd, const char *id, pid_t pid)
{
    char path[64];
    char line[512];
    char text[4096] = "";
    size_t len = 0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/cgroup", (long)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        size_t more = strlen(line);
        if (!strstr(line, id) || len + more >= sizeof(text))
            continue;
        memcpy(text + len, line, more + 1);
        len += more;
    }
    if (file)
        (void)fclose(file);
    (void)cellar_oci_file_write(bundle_fd, "groups", text, NULL);
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

bool cellar_oci_groups_remove(int bundle_fd, const char *id)
{
    CELLAR_AUTO_FREE char *text =
        bundle_fd < 0 ? NULL : cellar_oci_file_read(bundle_fd, "groups");
    bool none = cellar_oci_check_id(id, NULL) == CELLAR_OK &&
                each_usual(id, remove_group);
    return (!text || each_noted(text, id, remove_group)) && none;
}

/* ---------------------------------------------------------- controllers -- */

/* A line of words. */
bool cellar_oci_group_gives(const char *path, const char *controller)
{
    char file[1100];
    char words[256] = "";
    bool found = false;
    (void)snprintf(file, sizeof(file), "%s/cgroup.controllers", path);
    FILE *list = fopen(file, "re");
    bool read = list && fgets(words, sizeof(words), list);
    if (list)
        (void)fclose(list);
    char *at = words;
    for (char *word = strsep(&at, " \n"); read && word && !found;
         word = strsep(&at, " \n"))
        found = strcmp(word, controller) == 0;
    return found;
}

/* What each of them enforces, and where it stands in config.json. */
static const struct {
    const char *controller;
    const char *field;
    const char *protections[2];
} controllers[] = {
    {"memory", "memory", {"memory", "swap"}},
    {"pids", "pids", {"pids"}},
    {"cpu", "cpu", {"cpu"}},
};

static enum cellar_code do_without(const struct cellar_spec *spec, size_t i,
                                   struct cellar_error *err)
{
    for (size_t k = 0; k < 2; k++) {
        const char *name = controllers[i].protections[k];
        if (name && !cellar_container_allowed(spec, name))
            return cellar_fail(
                err, CELLAR_E_ENGINE,
                "cgroup v2 has no controller %s on this machine to enforce "
                "\"%s\": it is compiled or switched off, or held by cgroup v1 "
                "(boot with systemd.unified_cgroup_hierarchy=1); `--allow %s` "
                "does without",
                controllers[i].controller, name, name);
    }
    return CELLAR_OK;
}

enum cellar_code cellar_oci_controllers(const struct cellar_spec *spec,
                                        json_t *config,
                                        struct cellar_error *err)
{
    json_t *limits =
        json_object_get(json_object_get(config, "linux"), "resources");
    bool is_v2 = access(ROOT "/cgroup.controllers", F_OK) == 0;
    for (size_t i = 0;
         is_v2 && limits && i < sizeof(controllers) / sizeof(*controllers);
         i++) {
        if (cellar_oci_group_gives(ROOT, controllers[i].controller))
            continue;
        enum cellar_code code = do_without(spec, i, err);
        if (code)
            return code;
        (void)json_object_del(limits, controllers[i].field);
    }
    return CELLAR_OK;
}

/* -------------------------------------------------------------- reading -- */

/* A file of the group of `controller`, by its name in v1 and in v2. */
static FILE *open_file(int bundle_fd, const char *id, const char *controller,
                       const char *v1, const char *v2)
{
    char names[64];
    char path[512];
    char file[600];
    FILE *found = NULL;
    CELLAR_AUTO_FREE char *text = cellar_oci_file_read(bundle_fd, "groups");
    for (char *at = text; at && *at && !found;) {
        char *line = strsep(&at, "\n");
        if (!group_path(line, id, names, path) ||
            (*names && !strstr(names, controller)))
            continue;
        (void)snprintf(file, sizeof(file), "%s/%s", path, *names ? v1 : v2);
        found = fopen(file, "re");
    }
    return found;
}

bool cellar_oci_group_is_frozen(int bundle_fd, const char *id)
{
    char word[64] = "";
    FILE *file =
        open_file(bundle_fd, id, "freezer", "freezer.state", "cgroup.freeze");
    bool read = file && fgets(word, sizeof(word), file);
    if (file)
        (void)fclose(file);
    return read && (strncmp(word, "FROZEN", 6) == 0 || word[0] == '1');
}

/* "oom_kill 3" in a line of its own. */
uint64_t cellar_oci_group_kills(int bundle_fd, const char *id)
{
    char line[128];
    uint64_t kills = 0;
    FILE *file = open_file(bundle_fd, id, "memory", "memory.oom_control",
                           "memory.events");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "oom_kill ", 9) == 0)
            kills = strtoull(line + 9, NULL, 10);
    if (file)
        (void)fclose(file);
    return kills;
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
