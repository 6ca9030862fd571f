/*
 * Starts and stops sessions one after the other through the library and says
 * what that left behind, as one line of JSON:
 *
 *     soak_start_stop COUNT
 *     {"sessions": 200, "fds": 0, "threads": 0, "listed": 0, "rss_kib": 512}
 *
 * fds, threads and rss_kib are what there is more than after the first few
 * sessions, listed the sessions that the library still knows. Exit status 1:
 * a session failed, and stderr tells which.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cellar/cellar.h"

/* What libraries set up once and for all is there after so many. */
#define WARM_UP 5

struct standing {
    long fds;
    long threads;
    long rss_kib;
};

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

static struct standing look(void)
{
    return (struct standing){.fds = entries("/proc/self/fd"),
                             .threads = entries("/proc/self/task"),
                             .rss_kib = rss_kib()};
}

static void count_one(void *user, const struct cellar_info *info)
{
    (void)info;
    ++*(int *)user;
}

/* One session: started, used, stopped. */
static enum cellar_code live(struct cellar *c, struct cellar_error *err)
{
    struct cellar_spec spec;
    struct cellar_session *session = NULL;
    struct cellar_result *result = NULL;
    const struct cellar_cell cell = {.code = "6 * 7"};
    cellar_spec_init(&spec);
    enum cellar_code code = cellar_start(c, &spec, &session, err);
    if (code != CELLAR_OK)
        return code;
    code = cellar_run(session, &cell, &result, err);
    if (code == CELLAR_OK && strcmp(cellar_result_text(result), "42") != 0) {
        snprintf(err->msg, sizeof err->msg, "6 * 7 gave '%.100s'",
                 cellar_result_text(result));
        code = CELLAR_E_PROTO;
    }
    cellar_result_free(result);
    if (code != CELLAR_OK) {
        cellar_close(session);
        return code;
    }
    return cellar_stop(session, err);
}

static enum cellar_code soak(struct cellar *c, long count,
                             struct cellar_error *err)
{
    struct standing before = {0};
    int listed = 0;
    for (long i = 0; i < WARM_UP + count; i++) {
        if (i == WARM_UP)
            before = look();
        enum cellar_code code = live(c, err);
        if (code != CELLAR_OK)
            return code;
    }
    struct standing after = look();
    enum cellar_code code = cellar_list(c, count_one, &listed, err);
    printf("{\"sessions\": %ld, \"fds\": %ld, \"threads\": %ld, "
           "\"listed\": %d, \"rss_kib\": %ld}\n",
           count, after.fds - before.fds, after.threads - before.threads,
           listed, after.rss_kib - before.rss_kib);
    return code;
}

int main(int argc, char **argv)
{
    struct cellar_error err = {0};
    struct cellar *c = NULL;
    long count = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (count < 1) {
        fputs("usage: soak_start_stop COUNT\n", stderr);
        return 2;
    }
    enum cellar_code code = cellar_new(NULL, &c, &err);
    if (code == CELLAR_OK)
        code = soak(c, count, &err);
    if (code != CELLAR_OK)
        fprintf(stderr, "%s\n", err.msg);
    cellar_free(c);
    return code == CELLAR_OK ? 0 : 1;
}
