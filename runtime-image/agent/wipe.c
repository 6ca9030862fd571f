#include "wipe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A tmpfs of some million inodes is empty long before. */
#define WIPE_SECONDS_MAX 10

/* The directory that is emptied. */
struct top {
    int fd;
    dev_t device;     /* what lies on another one is mounted here */
    uint64_t moved;   /* names given so far */
    uint64_t changes; /* of a pass */
    time_t until;
    bool late;
};

static void done_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* A directory of ours may be closed to us: a cell made it so. */
static DIR *open_dir(int at, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(at, name, flags);
    if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, 0) == 0)
        fd = openat(at, name, flags);
    if (fd < 0)
        return NULL;
    (void)fchmod(fd, 0700);
    DIR *dir = fdopendir(fd);
    if (!dir)
        close(fd);
    return dir;
}

static bool on_time(struct top *top)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    top->late = now.tv_sec > top->until;
    return !top->late;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool is_mounted(const struct top *top, int at, const char *name)
{
    struct stat st;
    return fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_dev != top->device;
}

static bool move(struct top *top, int at, const char *name)
{
    char to[32];
    int rc = 0;
    do {
        snprintf(to, sizeof(to), ".wipe-%" PRIu64, top->moved++);
        rc = renameat2(at, name, top->fd, to, RENAME_NOREPLACE);
    } while (rc != 0 && errno == EEXIST);
    top->changes += rc == 0;
    return rc == 0;
}

/* Moves a directory up to the top, where its turn comes: the depth of a tree
 * costs neither stack nor descriptors. One that is closed to us is opened
 * first: its entry ".." has to be written. */
static bool move_up(struct top *top, int at, const char *name)
{
    return move(top, at, name) ||
           (errno == EACCES && fchmodat(at, name, 0700, 0) == 0 &&
            move(top, at, name));
}

/* Deletes `name`, if it is a file or (with AT_REMOVEDIR) an empty directory. */
static bool erase(struct top *top, int at, const char *name, int flag)
{
    bool gone = unlinkat(at, name, flag) == 0;
    top->changes += gone;
    return gone;
}

/* Deletes the files of one directory and moves its directories up. */
static bool empty_one(struct top *top, int at, const char *name)
{
    __attribute__((cleanup(done_dir))) DIR *dir = open_dir(at, name);
    if (!dir)
        return false;
    const struct dirent *entry = readdir(dir);
    for (; entry && on_time(top); entry = readdir(dir)) {
        if (is_dots(entry->d_name) ||
            erase(top, dirfd(dir), entry->d_name, 0) ||
            is_mounted(top, dirfd(dir), entry->d_name))
            continue;
        if (!move_up(top, dirfd(dir), entry->d_name))
            return false;
    }
    return !top->late;
}

/* One pass over the top itself. */
static bool pass(struct top *top)
{
    __attribute__((cleanup(done_dir))) DIR *dir = open_dir(top->fd, ".");
    if (!dir)
        return false;
    const struct dirent *entry = readdir(dir);
    for (; entry && on_time(top); entry = readdir(dir)) {
        const char *name = entry->d_name;
        if (is_dots(name) || erase(top, top->fd, name, 0) ||
            erase(top, top->fd, name, AT_REMOVEDIR) ||
            is_mounted(top, top->fd, name))
            continue;
        if (!empty_one(top, top->fd, name))
            return false;
        erase(top, top->fd, name, AT_REMOVEDIR);
    }
    return !top->late;
}

/* When a pass changes nothing, what is left are mounts and what holds one. */
static bool empty(struct top *top)
{
    do {
        top->changes = 0;
        if (!pass(top))
            return false;
    } while (top->changes > 0);
    return true;
}

bool cellar_wipe_directory(const char *path)
{
    struct stat st;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct top top = {.until = now.tv_sec + WIPE_SECONDS_MAX};
    top.fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top.fd < 0)
        return errno == ENOENT;
    bool ok = fstat(top.fd, &st) == 0;
    top.device = st.st_dev;
    ok = ok && empty(&top);
    close(top.fd);
    return ok;
}

/* The kernel numbers the objects of the IPC namespace; those of other users
 * refuse to be removed, and there are none in a session's own. */
void cellar_wipe_ipc(void)
{
    struct shm_info shm;
    struct seminfo sem;
    struct msginfo msg;
    struct shmid_ds shm_one;
    struct semid_ds sem_one;
    struct msqid_ds msg_one;
    int last = shmctl(0, SHM_INFO, (struct shmid_ds *)&shm);
    for (int i = 0; i <= last; i++)
        (void)shmctl(shmctl(i, SHM_STAT, &shm_one), IPC_RMID, NULL);
    last = semctl(0, 0, SEM_INFO, &sem);
    for (int i = 0; i <= last; i++)
        (void)semctl(semctl(i, 0, SEM_STAT, &sem_one), 0, IPC_RMID);
    last = msgctl(0, MSG_INFO, (struct msqid_ds *)&msg);
    for (int i = 0; i <= last; i++)
        (void)msgctl(msgctl(i, MSG_STAT, &msg_one), IPC_RMID, NULL);
}
