#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/fail.h"
#include "kernel/write.h"

#define FIRST_ROOM 65536u

/* What the user named is the user's to put right. */
static enum cellar_code bad_file(struct cellar_error *err, const char *path,
                                 const char *what)
{
    return cellar_fail(err, CELLAR_E_USAGE, "%.300s: %s", path, what);
}

/* Room for one byte more than `max`, so that a longer file shows. */
static char *grow(char *text, size_t *room, size_t max)
{
    size_t more = *room ? *room * 2 : FIRST_ROOM;
    if (more > max + 2)
        more = max + 2;
    char *bigger = realloc(text, more);
    if (bigger)
        *room = more;
    return bigger;
}

static enum cellar_code read_all(int fd, const char *path, size_t max,
                                 char **text, size_t *len,
                                 struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *all = NULL;
    size_t room = 0;
    size_t used = 0;
    for (;;) {
        if (used + 1 >= room) {
            char *bigger = grow(all, &room, max);
            if (!bigger)
                return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
            all = bigger;
        }
        ssize_t n = read(fd, all + used, room - used - 1);
        if (n < 0)
            return bad_file(err, path, strerror(errno));
        used += (size_t)n;
        if (used > max)
            return cellar_fail(err, CELLAR_E_USAGE,
                               "%.300s: longer than %zu MB", path, max >> 20);
        if (n == 0)
            break;
    }
    all[used] = '\0';
    *text = CELLAR_TAKE(all);
    *len = used;
    return CELLAR_OK;
}

enum cellar_code cellar_file_read(const char *path, size_t max, char **text,
                                  size_t *len, struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int fd = -1;
    if (strcmp(path, "-") == 0)
        return read_all(STDIN_FILENO, "stdin", max, text, len, err);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return bad_file(err, path, strerror(errno));
    return read_all(fd, path, max, text, len, err);
}

/* Where a rename has to put the file: behind symbolic links. */
static enum cellar_code resolve(const char *path, char real[PATH_MAX],
                                struct cellar_error *err)
{
    char copy[PATH_MAX] = "";
    char last[PATH_MAX] = "";
    char folder[PATH_MAX] = "";
    if (strlen(path) >= sizeof copy - 1)
        return bad_file(err, path, "the name is too long");
    if (realpath(path, real))
        return CELLAR_OK;
    if (errno != ENOENT)
        return bad_file(err, path, strerror(errno));
    memcpy(copy, path, strlen(path) + 1);
    memcpy(last, path, strlen(path) + 1);
    if (!realpath(dirname(copy), folder))
        return bad_file(err, path, "its directory is not there");
    int n = snprintf(real, PATH_MAX, "%s/%s", folder, basename(last));
    if (n < 0 || n >= PATH_MAX)
        return bad_file(err, path, "the name is too long");
    return CELLAR_OK;
}

enum cellar_code cellar_file_writable(const char *path,
                                      struct cellar_error *err)
{
    char real[PATH_MAX] = "";
    struct stat st = {0};
    enum cellar_code code = resolve(path, real, err);
    if (code != CELLAR_OK)
        return code;
    /* A rename over /dev/null would replace the device. */
    if (stat(real, &st) == 0 && !S_ISREG(st.st_mode))
        return bad_file(err, path, "not a plain file");
    if (access(dirname(real), W_OK | X_OK) != 0)
        return bad_file(err, path, "its directory can't be written");
    return CELLAR_OK;
}

static mode_t mode_of(const char *path)
{
    struct stat st = {0};
    if (stat(path, &st) == 0)
        return st.st_mode & 0777;
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

enum cellar_code cellar_file_replace(const char *path, const char *text,
                                     size_t len, struct cellar_error *err)
{
    char real[PATH_MAX] = "";
    char fresh[PATH_MAX] = "";
    enum cellar_code code = cellar_file_writable(path, err);
    if (code == CELLAR_OK)
        code = resolve(path, real, err);
    if (code != CELLAR_OK)
        return code;
    int n = snprintf(fresh, sizeof fresh, "%s.XXXXXX", real);
    if (n < 0 || (size_t)n >= sizeof fresh)
        return bad_file(err, path, "the name is too long");
    CELLAR_AUTO_CLOSE int fd = mkostemp(fresh, O_CLOEXEC);
    if (fd < 0)
        return cellar_fail_errno(err, errno, "%.300s", path);
    if (cellar_write_all(fd, text, len) && fchmod(fd, mode_of(real)) == 0 &&
        fsync(fd) == 0 && rename(fresh, real) == 0)
        return CELLAR_OK;
    int sys_errno = errno;
    unlink(fresh);
    return cellar_fail_errno(err, sys_errno, "%.300s", path);
}
