#include "guard.h"

#include <errno.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's structures may be larger than those of the headers that this was
 * built with. */
#define ROOM 256

void cellar_guard_init(struct cellar_guard *guard)
{
    *guard = (struct cellar_guard){.count = 0};
}

static void drop(struct cellar_guard *guard, size_t i)
{
    close(guard->fds[i]);
    guard->count--;
    memmove(&guard->fds[i], &guard->fds[i + 1],
            (guard->count - i) * sizeof(guard->fds[0]));
}

void cellar_guard_add(struct cellar_guard *guard, int fd)
{
    if (guard->count == CELLAR_GUARD_MAX)
        drop(guard, 0);
    guard->fds[guard->count++] = fd;
}

/* The process, thread or (negative) group that argument `i` names. */
static pid_t target(const struct seccomp_notif *asked, unsigned i)
{
    return (pid_t)(int32_t)asked->data.args[i];
}

/* Groups are named by the process that leads them. */
static pid_t leader(pid_t who)
{
    return who < 0 && who >= -INT_MAX ? -who : who;
}

static bool reaches(const struct seccomp_notif *asked,
                    bool (*is_spared)(void *user, pid_t pid, pid_t by),
                    void *user)
{
    pid_t first = target(asked, 0);
    pid_t second = target(asked, 1);
    pid_t by = (pid_t)asked->pid;
    switch (asked->data.nr) {
    case SYS_tgkill:
    case SYS_rt_tgsigqueueinfo:
        return is_spared(user, first, by) || is_spared(user, second, by);
    case SYS_setpriority:
    case SYS_ioprio_set:
        return is_spared(user, second, by);
    default: /* kill, tkill, rt_sigqueueinfo, sched_*; kill takes groups too */
        return is_spared(user, leader(first), by);
    }
}

/* Whoever asked may have died meanwhile: then there is nothing to answer. */
void cellar_guard_answer(struct cellar_guard *guard, size_t i,
                         bool (*is_spared)(void *user, pid_t pid, pid_t by),
                         void *user)
{
    union {
        struct seccomp_notif asked;
        struct seccomp_notif_resp answer;
        uint8_t room[ROOM];
    } in, out;
    struct pollfd look = {.fd = guard->fds[i], .events = POLLIN};
    memset(&in, 0, sizeof(in));
    memset(&out, 0, sizeof(out));
    if (poll(&look, 1, 0) <= 0)
        return;
    if (!(look.revents & POLLIN)) {
        drop(guard, i);
        return;
    }
    if (ioctl(look.fd, SECCOMP_IOCTL_NOTIF_RECV, &in.asked) != 0)
        return;
    out.answer.id = in.asked.id;
    if (reaches(&in.asked, is_spared, user))
        out.answer.error = -EPERM;
    else
        out.answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    (void)ioctl(look.fd, SECCOMP_IOCTL_NOTIF_SEND, &out.answer);
}
