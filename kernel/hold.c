/* The state directory, and a session's directory in it: who has it. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fail.h"
#include "record.h"

/* ------------------------------------------------------- directories -- */

static enum cellar_code fail_state(struct cellar_error *err, const char *path)
{
    return cellar_fail_errno(err, errno,
                             "state directory %.300s (--state-dir or "
                             "CELLAR_STATE_DIR names another)",
                             path);
}

/* mkdir -p, 0700. */
static enum cellar_code make_path(const char *path, struct cellar_error *err)
{
    char partial[4096];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof partial)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "bad state directory: 1 to 4095 bytes");
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(partial, path, i);
        partial[i] = '\0';
        if (mkdir(partial, 0700) < 0 && errno != EEXIST)
            return fail_state(err, partial);
    }
    return CELLAR_OK;
}

static enum cellar_code read_owner(int dir_fd, char owner[CELLAR_OWNER_BYTES])
{
    CELLAR_AUTO_CLOSE int fd = openat(dir_fd, "owner", O_RDONLY | O_CLOEXEC);
    char text[CELLAR_OWNER_BYTES] = "";
    if (fd < 0)
        return CELLAR_E_NOT_FOUND;
    if (read(fd, text, sizeof text - 1) != sizeof text - 1 ||
        strspn(text, "0123456789abcdef") != sizeof text - 1)
        return CELLAR_E_SYS;
    memcpy(owner, text, sizeof text);
    return CELLAR_OK;
}

/* Written under another name and linked: of two processes that begin at once
 * the second reads what the first made. */
static enum cellar_code make_owner(int dir_fd, char owner[CELLAR_OWNER_BYTES],
                                   struct cellar_error *err)
{
    uint8_t random[8];
    char text[CELLAR_OWNER_BYTES];
    char name[32];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(text, sizeof text, random, sizeof random);
    (void)snprintf(name, sizeof name, "owner.%s", text);
    CELLAR_AUTO_CLOSE int fd =
        openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, sizeof text - 1) != sizeof text - 1)
        return cellar_fail_errno(err, errno,
                                 "cannot write to the state "
                                 "directory");
    if (linkat(dir_fd, name, dir_fd, "owner", 0) < 0 && errno != EEXIST)
        return cellar_fail_errno(err, errno, "state directory's owner file");
    (void)unlinkat(dir_fd, name, 0);
    if (read_owner(dir_fd, owner) != CELLAR_OK)
        return cellar_fail(err, CELLAR_E_SYS,
                           "state directory: its file 'owner' is damaged; "
                           "remove it");
    return CELLAR_OK;
}

/* Keys are in there, and programs that will be run. */
static enum cellar_code check_owner(int fd, const char *path,
                                    struct cellar_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fail_state(err, path);
    if (st.st_uid != geteuid())
        return cellar_fail(err, CELLAR_E_USAGE,
                           "state directory %s belongs to user %lu, who could "
                           "change what is in it: give one of your own with "
                           "--state-dir or CELLAR_STATE_DIR",
                           path, (unsigned long)st.st_uid);
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "state directory %s can be written by others: "
                           "`chmod go-w %s`",
                           path, path);
    return CELLAR_OK;
}

enum cellar_code cellar_state_open(const char *path,
                                   char owner[CELLAR_OWNER_BYTES],
                                   struct cellar_error *err)
{
    enum cellar_code code = make_path(path, err);
    if (code != CELLAR_OK)
        return code;
    CELLAR_AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_state(err, path);
    code = check_owner(fd, path, err);
    if (code != CELLAR_OK)
        return code;
    if ((mkdirat(fd, "sessions", 0700) < 0 && errno != EEXIST) ||
        (mkdirat(fd, "supervisors", 0700) < 0 && errno != EEXIST))
        return fail_state(err, path);
    if (read_owner(fd, owner) == CELLAR_OK)
        return CELLAR_OK;
    return make_owner(fd, owner, err);
}

int cellar_record_dir(const char *state_dir, const char *name)
{
    char path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/sessions/%s", state_dir, name);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* -------------------------------------------------------------- locks -- */

static void write_holder(int lock_fd)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%ld %lld\n", (long)getpid(),
                     (long long)time(NULL));
    if (ftruncate(lock_fd, 0) == 0)
        (void)!pwrite(lock_fd, text, (size_t)n, 0);
}

static bool read_holder(int lock_fd, pid_t *pid, long long *since)
{
    char text[64] = "";
    char *end = text;
    if (pread(lock_fd, text, sizeof text - 1, 0) <= 0)
        return false;
    *pid = (pid_t)strtol(text, &end, 10);
    *since = strtoll(end, &end, 10);
    return *pid > 0 && *since > 0;
}

static enum cellar_code busy(const char *name, int lock_fd,
                             struct cellar_error *err)
{
    pid_t pid = 0;
    long long since = 0;
    if (!read_holder(lock_fd, &pid, &since))
        return cellar_fail(err, CELLAR_E_BUSY,
                           "session '%s' is in use by another process", name);
    return cellar_fail(err, CELLAR_E_BUSY,
                       "session '%s' is in use by process %ld, for %lld s "
                       "now; interrupt or stop it, or wait",
                       name, (long)pid, (long long)time(NULL) - since);
}

/* Open file description locks: they go with the last descriptor, not with
 * any close() of this process, and can be asked about without being taken. */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/* Whether the file that was locked is still the one at its name, and so its
 * directory: the holder before us may have removed the session in between, or
 * given it another name. */
static bool lock_stands(const struct cellar_hold *hold, const char *path)
{
    struct stat ours;
    struct stat named;
    return fstat(hold->lock_fd, &ours) == 0 &&
           fstatat(hold->dir_fd, "lock", &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           same_file(&ours, &named) && fstat(hold->dir_fd, &ours) == 0 &&
           lstat(path, &named) == 0 && same_file(&ours, &named);
}

static enum cellar_code try_hold(const char *state_dir, const char *name,
                                 struct cellar_hold *hold,
                                 struct cellar_error *err)
{
    char path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/sessions/%s", state_dir, name);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return cellar_fail_errno(err, errno, "session '%s'", name);
    hold->dir_fd = cellar_record_dir(state_dir, name);
    if (hold->dir_fd < 0)
        return errno == ENOENT
                   ? CELLAR_E_AGAIN
                   : cellar_fail_errno(err, errno, "session '%s'", name);
    hold->lock_fd = openat(hold->dir_fd, "lock",
                           O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (hold->lock_fd < 0)
        return errno == ENOENT ? CELLAR_E_AGAIN
                               : cellar_fail_errno(
                                     err, errno, "lock of session '%s'", name);
    struct flock whole = {.l_type = F_WRLCK};
    if (fcntl(hold->lock_fd, F_OFD_SETLK, &whole) < 0)
        return busy(name, hold->lock_fd, err);
    if (!lock_stands(hold, path))
        return CELLAR_E_AGAIN;
    write_holder(hold->lock_fd);
    return CELLAR_OK;
}

enum cellar_code cellar_hold_take(const char *state_dir, const char *name,
                                  struct cellar_hold *hold,
                                  struct cellar_error *err)
{
    for (int tries = 0; tries < 8; tries++) {
        struct cellar_hold taken = CELLAR_HOLD_NONE;
        enum cellar_code code = try_hold(state_dir, name, &taken, err);
        if (code == CELLAR_OK) {
            *hold = taken;
            return code;
        }
        cellar_hold_done(&taken);
        if (code != CELLAR_E_AGAIN)
            return code;
    }
    return cellar_fail(err, CELLAR_E_BUSY,
                       "session '%s' is being removed and made anew", name);
}

void cellar_hold_done(struct cellar_hold *hold)
{
    if (hold->lock_fd >= 0)
        close(hold->lock_fd);
    if (hold->dir_fd >= 0)
        close(hold->dir_fd);
    *hold = CELLAR_HOLD_NONE;
}

void cellar_hold_tidy(const char *state_dir, const char *name,
                      struct cellar_hold *hold)
{
    if (hold->dir_fd >= 0 && name[0] &&
        faccessat(hold->dir_fd, "record.json", F_OK, 0) < 0 && errno == ENOENT)
        cellar_record_remove(state_dir, name, hold);
    cellar_hold_done(hold);
}

pid_t cellar_hold_who(const char *state_dir, const char *name)
{
    CELLAR_AUTO_CLOSE int dir_fd = cellar_record_dir(state_dir, name);
    CELLAR_AUTO_CLOSE int fd =
        dir_fd < 0 ? -1 : openat(dir_fd, "lock", O_RDWR | O_CLOEXEC);
    pid_t pid = 0;
    long long since = 0;
    struct flock whole = {.l_type = F_WRLCK};
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &whole) < 0 || whole.l_type == F_UNLCK)
        return 0;
    return read_holder(fd, &pid, &since) ? pid : 0;
}
