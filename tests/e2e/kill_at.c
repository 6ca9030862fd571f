/* Preloaded into a command: kills it as `kill -9` would, right before the call
 * to the file system that CELLAR_KILL_AT counts, 1 the first. Only in the
 * command CELLAR_KILL_IN (`start`), so that what it starts in the background
 * goes on. */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long left;

__attribute__((constructor)) static void begin(void)
{
    char words[256] = "";
    const char *command = getenv("CELLAR_KILL_IN");
    const char *at = getenv("CELLAR_KILL_AT");
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, words, sizeof words - 1);
    close(fd);
    bool ours =
        n > 0 && command && at && !strcmp(words + strlen(words) + 1, command);
    left = ours ? strtol(at, NULL, 10) : 0;
}

static void count(void)
{
    if (left > 0 && --left == 0)
        kill(getpid(), SIGKILL);
}

/* Found by the command in the place of libc's, whose parameters have names that
 * are not ours to use. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
#pragma GCC visibility push(default)

/* The call underneath. */
#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

int rename(const char *from, const char *to)
{
    count();
    return REAL(rename)(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    count();
    return REAL(renameat)(from_fd, from, to_fd, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to,
              unsigned flags)
{
    count();
    return REAL(renameat2)(from_fd, from, to_fd, to, flags);
}

int unlinkat(int fd, const char *path, int flags)
{
    count();
    return REAL(unlinkat)(fd, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
    count();
    return REAL(mkdir)(path, mode);
}

int rmdir(const char *path)
{
    count();
    return REAL(rmdir)(path);
}

int fsync(int fd)
{
    count();
    return REAL(fsync)(fd);
}

int ftruncate(int fd, off_t len)
{
    count();
    return REAL(ftruncate)(fd, len);
}

int openat(int fd, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    count();
    return REAL(openat)(fd, path, flags, mode);
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
