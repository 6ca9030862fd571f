#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "proto/sign.h"

#define LOW_FDS 1024

/* One write, so that lines of agent and launcher don't mix; what a full or
 * closed stderr doesn't take is lost, since nothing here may block. */
__attribute__((format(printf, 1, 0))) static void print(const char *format,
                                                        va_list args)
{
    char line[512] = "cellar-agent: ";
    size_t at = strlen(line);
    int n = vsnprintf(line + at, sizeof(line) - at - 1, format, args);
    if (n < 0)
        return;
    at += (size_t)n < sizeof(line) - at - 1 ? (size_t)n : sizeof(line) - at - 2;
    line[at++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, at);
    (void)written;
}

void cellar_agent_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print(format, args);
    va_end(args);
}

noreturn void cellar_agent_die(enum cellar_agent_exit status,
                               const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print(format, args);
    va_end(args);
    exit(status);
}

/* This kernel's own rule is that nobody looks into a process that is not
 * dumpable; one in user space may let all of them open what it has open. Then
 * a cell could read the host's frames, and spoil the stream: it could not forge
 * one, for want of the key. */
static bool is_shown(void)
{
    struct stat st;
    return stat("/proc/self/fd", &st) == 0 && (st.st_mode & 077);
}

/* As PID 1 of the container nothing inside can kill or stop it, and orphans
 * come to it. Non-dumpable nothing inside can read its key or its stream: the
 * file's mode (0711, not readable) does that from exec on, but an image may
 * have lost it, and then it is made up for here, before any other process. */
static void insist_on_protection(bool open)
{
    if (getpid() != 1)
        cellar_agent_die(CELLAR_AGENT_EXIT_UNSAFE,
                         "it must be the container's first process, but is "
                         "number %d: start the container without an init",
                         (int)getpid());
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
        prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        cellar_agent_die(CELLAR_AGENT_EXIT_UNSAFE,
                         "the kernel does not let it be non-dumpable: its key "
                         "could be read");
    if (!open && is_shown())
        cellar_agent_die(CELLAR_AGENT_EXIT_UNSAFE,
                         "this kernel shows the session what the agent holds "
                         "open, its stream to the host (\"agent\"): use "
                         "another OCI runtime; `--allow agent` does without "
                         "it");
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
}

/* Where a kernel or an engine's filter knows no close_range, engines hand few
 * descriptors on by mistake, and low ones. */
static void close_the_rest(void)
{
    if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0) == 0)
        return;
    for (int fd = STDERR_FILENO + 1; fd < LOW_FDS; fd++)
        close(fd);
}

/* Pipes or sockets, never a terminal: any process of the user could open its
 * other end. Nothing else may be inherited by mistake of an engine. */
static void take_stdio(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || (fd < STDERR_FILENO && isatty(fd)))
            cellar_agent_die(CELLAR_AGENT_EXIT_HOST,
                             "fd %d must be a pipe, not %s", fd,
                             flags < 0 ? "closed" : "a terminal");
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
    close_the_rest();
}

/* A window of output is megabytes: given back when its cell has ended and it is
 * acknowledged, and not kept by malloc for the next one. */
#define LARGE_BYTES (64 << 10)

/* A kernel that shows what is open may not tell a relay either who listens: so
 * nobody else gets the name. */
static void take_name(struct cellar_agent *agent)
{
    if (cellar_door_open(&agent->door, CELLAR_DOOR_NAME) != CELLAR_OK)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF,
                         "it can't listen for the branches' streams: %m");
}

int main(int argc, char **argv)
{
    static struct cellar_agent agent;
    bool open = argc > 1 && strcmp(argv[1], CELLAR_AGENT_OPEN) == 0;
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
    insist_on_protection(open);
    take_stdio();
    if (cellar_sign_init() != CELLAR_OK)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "libsodium does not start");
    cellar_agent_init(&agent);
    if (open)
        take_name(&agent);
    for (;;)
        cellar_agent_turn(&agent);
}
