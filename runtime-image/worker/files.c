#include "runtime-image/worker/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A program with more of them has some that stay shared. */
#define FILES_MAX 256

/* What opening anew may ask for; the rest was for the first time. */
#define KEPT_FLAGS                                                             \
    (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_SYNC)

struct file {
    int fd;
    int flags; /* of the open file */
    off_t offset;
    dev_t device;
    ino_t number;
    size_t first; /* that this is a duplicate of; its own place: of none */
};

static struct {
    struct file all[FILES_MAX];
    size_t count;
} files;

/* ---------------------------------------------------------------- noting -- */

static bool look_at(int fd, struct file *file)
{
    struct stat st;
    *file = (struct file){.fd = fd, .flags = fcntl(fd, F_GETFL)};
    if (file->flags < 0 || file->flags & O_PATH ||
        syscall(SYS_fstat, fd, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    file->offset = lseek(fd, 0, SEEK_CUR);
    file->device = st.st_dev;
    file->number = st.st_ino;
    return file->offset >= 0;
}

/* Two that stand at one place of a file may have been opened apart: whether one
 * moves with the other shows it. */
static bool is_duplicate(const struct file *file, const struct file *other)
{
    if (file->device != other->device || file->number != other->number ||
        file->flags != other->flags || file->offset != other->offset)
        return false;
    (void)lseek(file->fd, file->offset + 1, SEEK_SET);
    bool moved = lseek(other->fd, 0, SEEK_CUR) != other->offset;
    (void)lseek(file->fd, file->offset, SEEK_SET);
    return moved;
}

static void note(int fd)
{
    struct file *file = &files.all[files.count];
    if (!look_at(fd, file))
        return;
    file->first = 0;
    while (file->first < files.count &&
           !is_duplicate(file, &files.all[file->first]))
        file->first++;
    files.count++;
}

void cellar_files_note(void)
{
    files.count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return;
    const struct dirent *entry = readdir(folder);
    for (; entry && files.count < FILES_MAX; entry = readdir(folder))
        if (entry->d_name[0] != '.')
            note((int)strtol(entry->d_name, NULL, 10));
    closedir(folder);
}

/* --------------------------------------------------------------- parting -- */

static bool open_anew(const struct file *file)
{
    char path[32];
    int cloexec = fcntl(file->fd, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
    /* Somebody's lease on it is no reason to wait. */
    int fresh = open(path, (file->flags & KEPT_FLAGS) | O_NONBLOCK | O_CLOEXEC);
    if (fresh < 0)
        return false;
    bool done = fcntl(fresh, F_SETFL, file->flags) == 0 &&
                lseek(fresh, file->offset, SEEK_SET) == file->offset &&
                dup3(fresh, file->fd, cloexec) == file->fd;
    close(fresh);
    return done;
}

static void follow(int first, int fd)
{
    int cloexec = fcntl(fd, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0;
    (void)dup3(first, fd, cloexec);
}

void cellar_files_part(void)
{
    for (size_t i = 0; i < files.count; i++) {
        const struct file *file = &files.all[i];
        if (file->first < i)
            follow(files.all[file->first].fd, file->fd);
        else
            (void)open_anew(file);
    }
}
