#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "figures.h"

/* Nothing the kernel can kill takes longer to die, even under a fork bomb on
 * a busy machine; what does hangs in the kernel, and the session with it. */
#define KILL_ROUNDS_MAX 5000
#define KILL_ROUND_NS   1000000

/* What is stopped can't make others: two rounds find all of them dead, unless
 * a timer of theirs wakes them in between, or memory takes long to be freed. */
#define OTHERS_ROUNDS_MAX 1000
#define OTHERS_ROUND_NS   200000

/* Rounds in which nothing is stopped, when others run beside. */
#define GENTLE_ROUNDS 5

/* Of a process's descent that is looked at. */
#define DEPTH_MAX 64

bool cellar_processes_reap(struct cellar_death *death)
{
    *death = (struct cellar_death){0};
    death->pid = wait4(-1, &death->status, WNOHANG, &death->used);
    return death->pid > 0;
}

bool cellar_processes_kill_all(void)
{
    const struct timespec pause = {.tv_nsec = KILL_ROUND_NS};
    for (int round = 0; round < KILL_ROUNDS_MAX; round++) {
        kill(-1, SIGKILL);
        pid_t pid = 0;
        do
            pid = waitpid(-1, NULL, WNOHANG);
        while (pid > 0);
        if (pid < 0 && errno == ECHILD)
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

pid_t cellar_processes_parent(pid_t pid)
{
    char path[48];
    char text[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    /* "PID (name) S PPID ...", where the name may hold anything. */
    const char *end = strrchr(text, ')');
    return end && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : -1;
}

pid_t cellar_processes_leader(pid_t pid)
{
    char path[48];
    char text[CELLAR_FIGURES_MAX];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cellar_figures_read(fd, text);
    if (fd >= 0)
        close(fd);
    pid_t leader = (pid_t)cellar_figure(text, "\nTgid:");
    return leader > 0 ? leader : pid;
}

static bool is_among(const pid_t *pids, size_t count, pid_t pid)
{
    for (size_t i = 0; i < count; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

/* Orphans are the agent's children, and nobody's kin: whose they were can't be
 * told any more. */
static bool is_spared(const struct cellar_kin *kin, pid_t pid)
{
    if (is_among(kin->frozen, kin->count, pid))
        return true;
    for (int depth = 0; kin->beside && pid > 1 && depth < DEPTH_MAX; depth++) {
        if (is_among(kin->living, kin->living_count, pid))
            return true;
        pid = cellar_processes_parent(pid);
    }
    return pid == 0;
}

/* How many there were, dead ones that nobody has reaped yet among them. */
static size_t kill_listed(DIR *proc, const struct cellar_kin *kin)
{
    size_t found = 0;
    rewinddir(proc);
    const struct dirent *entry = readdir(proc);
    for (; entry; entry = readdir(proc)) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 1 || is_spared(kin, pid))
            continue;
        kill(pid, SIGKILL);
        found++;
    }
    return found;
}

static void reap_all(const struct cellar_kin *kin)
{
    struct cellar_death death;
    while (cellar_processes_reap(&death))
        kin->reaped(kin->user, &death);
}

/* What runs beside is disturbed only when the rest outruns its killers. */
static bool kill_rounds(DIR *proc, const struct cellar_kin *kin, bool *stopped)
{
    const struct timespec pause = {.tv_nsec = OTHERS_ROUND_NS};
    for (int round = 0; round < OTHERS_ROUNDS_MAX; round++) {
        *stopped |= !kin->beside || round >= GENTLE_ROUNDS;
        if (*stopped)
            kill(-1, SIGSTOP);
        reap_all(kin);
        if (kill_listed(proc, kin) == 0)
            return true;
        if (round > 0)
            nanosleep(&pause, NULL);
    }
    return false;
}

static void wake_living(DIR *proc, const struct cellar_kin *kin)
{
    rewinddir(proc);
    const struct dirent *entry = readdir(proc);
    for (; entry; entry = readdir(proc)) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 1 && !is_among(kin->frozen, kin->count, pid))
            kill(pid, SIGCONT);
    }
}

/* A folder without the kernel's files would show nobody. */
static DIR *open_proc(void)
{
    return access("/proc/self", F_OK) == 0 ? opendir("/proc") : NULL;
}

bool cellar_processes_kill_strangers(const struct cellar_kin *kin)
{
    bool stopped = false;
    DIR *proc = open_proc();
    if (!proc)
        return false;
    bool done = kill_rounds(proc, kin, &stopped);
    if (stopped && kin->beside)
        wake_living(proc, kin);
    closedir(proc);
    return done;
}
