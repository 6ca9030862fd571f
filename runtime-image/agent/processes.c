#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Nothing the kernel can kill takes longer to die, even under a fork bomb on
 * a busy machine; what does hangs in the kernel, and the session with it. */
#define KILL_ROUNDS_MAX 5000
#define KILL_ROUND_NS   1000000

/* What is stopped can't make others: two rounds find all of them dead, unless
 * a timer of theirs wakes them in between, or memory takes long to be freed. */
#define OTHERS_ROUNDS_MAX 1000
#define OTHERS_ROUND_NS   200000

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

static bool is_spared(const pid_t *spared, size_t count, pid_t pid)
{
    for (size_t i = 0; i < count; i++)
        if (spared[i] == pid)
            return true;
    return false;
}

/* How many there were, dead ones that nobody has reaped yet among them. */
static size_t kill_listed(DIR *proc, const pid_t *spared, size_t count)
{
    size_t found = 0;
    rewinddir(proc);
    const struct dirent *entry = readdir(proc);
    for (; entry; entry = readdir(proc)) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 1 || is_spared(spared, count, pid))
            continue;
        kill(pid, SIGKILL);
        found++;
    }
    return found;
}

static void reap_all(pid_t *spared, size_t count)
{
    pid_t pid = waitpid(-1, NULL, WNOHANG);
    while (pid > 0) {
        for (size_t i = 0; i < count; i++)
            if (spared[i] == pid)
                spared[i] = 0;
        pid = waitpid(-1, NULL, WNOHANG);
    }
}

static bool kill_rounds(DIR *proc, pid_t *spared, size_t count)
{
    const struct timespec pause = {.tv_nsec = OTHERS_ROUND_NS};
    for (int round = 0; round < OTHERS_ROUNDS_MAX; round++) {
        kill(-1, SIGSTOP);
        reap_all(spared, count);
        if (kill_listed(proc, spared, count) == 0)
            return true;
        if (round > 0)
            nanosleep(&pause, NULL);
    }
    return false;
}

/* A folder without the kernel's files would show nobody. */
static DIR *open_proc(void)
{
    return access("/proc/self", F_OK) == 0 ? opendir("/proc") : NULL;
}

bool cellar_processes_kill_others(pid_t *spared, size_t count)
{
    DIR *proc = open_proc();
    if (!proc)
        return false;
    bool done = kill_rounds(proc, spared, count);
    closedir(proc);
    return done;
}
