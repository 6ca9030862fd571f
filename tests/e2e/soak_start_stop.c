/*
 * Starts, uses and stops sessions one after the other through the library,
 * every second one named, and says what that left behind, as one line of JSON:
 *
 *     soak_start_stop COUNT
 *     {"sessions": 200, "fds": 0, "threads": 0, "listed": 0, "rss_kib": 512,
 *      "before": {"fds": 12, "threads": 1, "rss_kib": 9000,
 *                 "containers": 0, "control_groups": 0}, "after": {...}}
 *
 * Before is after the first few sessions; fds, threads and rss_kib are what
 * there is more since, listed the sessions that the library still knows.
 * Containers and control groups are those of the soak's own sessions. Exit
 * status 1: a session failed, and stderr tells which.
 */
#include <dirent.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cellar/cellar.h"
#include "child.h"

/* What libraries set up once and for all is there after so many. */
#define WARM_UP 5

#define ID_MAX 80

struct standing {
    long fds;
    long threads;
    long rss_kib;
    long containers;
    long control_groups;
};

/* The containers that there were, and control groups found with their names:
 * nftw() passes nothing on. */
static char (*ids)[ID_MAX];
static long id_count;
static long groups_found;

static long entries(const char *path)
{
    long count = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static long rss_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return -1;
    if (fscanf(file, "%*d %ld", &pages) != 1)
        pages = -1;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static bool is_ours(const char *text)
{
    for (long i = 0; i < id_count; i++)
        if (strstr(text, ids[i]))
            return true;
    return false;
}

static void count_ours(void *user, const char *line)
{
    *(long *)user += is_ours(line);
}

/* Those of the oci engine are folders. */
static long bundles(void)
{
    char path[512];
    long count = 0;
    snprintf(path, sizeof path, "%s/oci", getenv("CELLAR_STATE_DIR"));
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        count += is_ours(entry->d_name);
    closedir(dir);
    return count;
}

/* -1: the engine's own command doesn't tell. */
static long containers(void)
{
    const char *engine = getenv("CELLAR_ENGINE");
    if (engine && strcmp(engine, "oci") == 0)
        return bundles();
    static const char *const list[] = {"docker", "ps", "-aq", "--no-trunc",
                                       NULL};
    long count = 0;
    return child_lines(list, count_ours, &count) == 0 ? count : -1;
}

static int look_at_group(const char *path, const struct stat *st, int type,
                         struct FTW *at)
{
    (void)st;
    if (type == FTW_D && is_ours(path + at->base))
        groups_found++;
    return 0;
}

static long control_groups(void)
{
    groups_found = 0;
    (void)nftw("/sys/fs/cgroup", look_at_group, 16, FTW_PHYS);
    return groups_found;
}

static struct standing look(void)
{
    return (struct standing){.fds = entries("/proc/self/fd"),
                             .threads = entries("/proc/self/task"),
                             .rss_kib = rss_kib(),
                             .containers = containers(),
                             .control_groups = control_groups()};
}

static void count_one(void *user, const struct cellar_info *info)
{
    (void)info;
    ++*(int *)user;
}

static enum cellar_code use(struct cellar_session *session,
                            struct cellar_error *err)
{
    struct cellar_result *result = NULL;
    const struct cellar_cell cell = {.code = "6 * 7"};
    enum cellar_code code = cellar_run(session, &cell, &result, err);
    if (code == CELLAR_OK && strcmp(cellar_result_text(result), "42") != 0) {
        snprintf(err->msg, sizeof err->msg, "6 * 7 gave '%.100s'",
                 cellar_result_text(result));
        code = CELLAR_E_PROTO;
    }
    cellar_result_free(result);
    return code;
}

/* One session: started, used, stopped. */
static enum cellar_code live(struct cellar *c, const char *name,
                             struct cellar_error *err)
{
    struct cellar_spec spec;
    struct cellar_session *session = NULL;
    struct cellar_error ours = {0};
    cellar_spec_init(&spec);
    spec.name = name;
    enum cellar_code code = cellar_start(c, &spec, &session, err);
    if (code != CELLAR_OK)
        return code;
    snprintf(ids[id_count++], ID_MAX, "%s", cellar_session_container(session));
    code = use(session, err);
    if (code == CELLAR_OK)
        return cellar_stop(session, err);
    (void)!cellar_stop(session, &ours);
    return code;
}

static void print_standing(const char *name, const struct standing *standing)
{
    printf(", \"%s\": {\"fds\": %ld, \"threads\": %ld, \"rss_kib\": %ld, "
           "\"containers\": %ld, \"control_groups\": %ld}",
           name, standing->fds, standing->threads, standing->rss_kib,
           standing->containers, standing->control_groups);
}

static enum cellar_code soak(struct cellar *c, long count,
                             struct cellar_error *err)
{
    struct standing before = {0};
    int listed = 0;
    for (long i = 0; i < WARM_UP + count; i++) {
        if (i == WARM_UP)
            before = look();
        enum cellar_code code = live(c, i % 2 ? "soak" : NULL, err);
        if (code != CELLAR_OK)
            return code;
    }
    struct standing after = look();
    enum cellar_code code = cellar_list(c, count_one, &listed, err);
    printf("{\"sessions\": %ld, \"fds\": %ld, \"threads\": %ld, "
           "\"listed\": %d, \"rss_kib\": %ld",
           count, after.fds - before.fds, after.threads - before.threads,
           listed, after.rss_kib - before.rss_kib);
    print_standing("before", &before);
    print_standing("after", &after);
    puts("}");
    return code;
}

int main(int argc, char **argv)
{
    struct cellar_error err = {0};
    struct cellar *c = NULL;
    long count = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (count < 1 || count > 1000000) {
        fputs("usage: soak_start_stop COUNT\n", stderr);
        return 2;
    }
    ids = calloc((size_t)(WARM_UP + count), sizeof *ids);
    if (!ids) {
        fputs("soak_start_stop: out of memory\n", stderr);
        return 1;
    }
    enum cellar_code code = cellar_new(NULL, &c, &err);
    if (code == CELLAR_OK)
        code = soak(c, count, &err);
    if (code != CELLAR_OK)
        fprintf(stderr, "%s\n", err.msg);
    cellar_free(c);
    free(ids);
    return code == CELLAR_OK ? 0 : 1;
}
