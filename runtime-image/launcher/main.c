#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launcher.h"

#define DEFAULT_PATH                                                           \
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

noreturn void cellar_launcher_die(enum cellar_boot_status status,
                                  const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "%s\n", line);
    exit((int)status);
}

/* Sent after everything is in force and before any of Python runs, so that
 * nothing but the launcher can be the first to speak. */
static void tell_agent(int landlock_abi, int seccomp, int listener)
{
    unsigned char record[] = {0,
                              0,
                              0,
                              2,
                              CELLAR_RECORD_SANDBOX,
                              (unsigned char)landlock_abi,
                              (unsigned char)seccomp};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec bytes = {.iov_base = record, .iov_len = sizeof(record)};
    struct msghdr msg = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (listener >= 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = sizeof(control.room);
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &listener, sizeof(int));
    }
    if (sendmsg(CELLAR_RECORD_FD, &msg, MSG_NOSIGNAL) !=
        (ssize_t)sizeof(record))
        cellar_launcher_die(CELLAR_BOOT_SANDBOX,
                            "the control socket (fd %d) doesn't take a "
                            "record: %m",
                            CELLAR_RECORD_FD);
    if (listener >= 0)
        close(listener);
}

/* The order: limits and the OOM score write below /proc, which Landlock ends;
 * both Landlock and the filter need no_new_privs; the filter comes last, so
 * that it need not allow what only the launcher does. */
int main(int argc, char **argv)
{
    if (argc != 5)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX,
                            "usage: launcher NPROC NOFILE FSIZE MODULES");
    const char *path = getenv("PATH");
    path = path && *path ? path : DEFAULT_PATH;
    setsid();
    cellar_limits_apply(argv + 1);
    const char *python = cellar_python_find(path);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "no_new_privs: %m");
    int landlock_abi = cellar_landlock_apply();
    int listener = -1;
    int seccomp = cellar_filter_apply(&listener);
    tell_agent(landlock_abi, seccomp, listener);
    cellar_python_exec(python, path, argv[4]);
}
