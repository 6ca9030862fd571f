#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "launcher.h"

/* What no cell needs, and what an argument says. */
static const struct {
    const char *name;
    int resource;
    int arg; /* index of the argument, or -1 */
    rlim_t value;
} limits[] = {
    /* A core dump would fill the small tmpfs. */
    {"core", RLIMIT_CORE, -1, 0},
    /* Queues outlive their makers and count against the container's memory. */
    {"msgqueue", RLIMIT_MSGQUEUE, -1, 0},
    /* Crypto libraries pin a page or two; more starves the container. */
    {"memlock", RLIMIT_MEMLOCK, -1, 64 << 10},
    /* Never above the agent. */
    {"nice", RLIMIT_NICE, -1, 0},
    {"rtprio", RLIMIT_RTPRIO, -1, 0},
    /* Below the container's pids limit: the agent must be able to respawn. */
    {"nproc", RLIMIT_NPROC, 0, 0},
    {"nofile", RLIMIT_NOFILE, 1, 0},
    {"fsize", RLIMIT_FSIZE, 2, 0},
};

static rlim_t parse(const char *arg, const char *name)
{
    char *end = NULL;
    errno = 0;
    unsigned long long n = strtoull(arg, &end, 10);
    if (errno || end == arg || *end || *arg == '-')
        cellar_launcher_die(CELLAR_BOOT_SANDBOX,
                            "the limit %s is no number: '%s'", name, arg);
    return n;
}

/* Never above what the container allows: it may only be lowered. */
static void limit(const char *name, int resource, rlim_t value)
{
    struct rlimit now;
    if (getrlimit(resource, &now) != 0)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "reading the limit %s: %m",
                            name);
    if (now.rlim_max != RLIM_INFINITY && now.rlim_max < value)
        value = now.rlim_max;
    /* A kernel in user space lets nobody set those that it does not know. */
    if (now.rlim_cur == value && now.rlim_max == value)
        return;
    const struct rlimit wanted = {value, value};
    if (setrlimit(resource, &wanted) != 0)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "the limit %s: %m", name);
}

/* Where there is no /proc there is no score to set either: without it the
 * worker can't write its own back down. */
static void volunteer_for_oom(void)
{
    static const char score[] = "1000";
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return;
    if (fd < 0 ||
        write(fd, score, sizeof(score) - 1) != (ssize_t)sizeof(score) - 1)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX,
                            "/proc/self/oom_score_adj: %m");
    close(fd);
}

void cellar_limits_apply(char *const args[3])
{
    volunteer_for_oom();
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        bool fixed = limits[i].arg < 0;
        rlim_t value = fixed ? limits[i].value
                             : parse(args[limits[i].arg], limits[i].name);
        if (fixed || value > 0)
            limit(limits[i].name, limits[i].resource, value);
    }
}
