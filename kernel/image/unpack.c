#include "unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/fail.h"
#include "kernel/supervisor.h"

#define BLOCK_BYTES 65536

/* What a root file system must have for a container to be made of it. */
static const struct {
    const char *name;
    mode_t mode;
} folders[] = {{"proc", 0755},
               {"dev", 0755},
               {"tmp", 01777},
               {"sys", 0755},
               {"sys/fs", 0755},
               {"sys/fs/cgroup", 0755},
               {"sys/kernel", 0755},
               {"sys/kernel/mm", 0755},
               {"sys/kernel/mm/transparent_hugepage", 0755},
               {"cellar", 0755}};

/* ----------------------------------------------------------- taken apart -- */

static void free_reader(struct archive **tar)
{
    archive_read_free(*tar);
}

static void free_writer(struct archive **disk)
{
    archive_write_free(*disk);
}

static enum cellar_code fail_tar(struct archive *tar, const char *name,
                                 struct cellar_error *err)
{
    return cellar_fail(err, CELLAR_E_SYS, "unpacking %.120s: %.100s", name,
                       archive_error_string(tar) ? archive_error_string(tar)
                                                 : "it is damaged");
}

static bool is_wanted(struct archive_entry *entry)
{
    mode_t type = archive_entry_filetype(entry);
    return archive_entry_hardlink(entry) || type == AE_IFREG ||
           type == AE_IFDIR || type == AE_IFLNK;
}

static enum cellar_code copy_data(struct archive *tar, struct archive *disk,
                                  const char *name, struct cellar_error *err)
{
    for (;;) {
        const void *block = NULL;
        size_t len = 0;
        la_int64_t offset = 0;
        int status = archive_read_data_block(tar, &block, &len, &offset);
        if (status == ARCHIVE_EOF)
            return CELLAR_OK;
        if (status < ARCHIVE_WARN)
            return fail_tar(tar, name, err);
        if (archive_write_data_block(disk, block, len, offset) < ARCHIVE_WARN)
            return fail_tar(disk, name, err);
    }
}

static enum cellar_code extract_one(struct archive *tar, struct archive *disk,
                                    struct archive_entry *entry,
                                    struct cellar_error *err)
{
    const char *name = archive_entry_pathname(entry);
    if (!name)
        return cellar_fail(err, CELLAR_E_SYS,
                           "unpacking: an entry without a name");
    archive_entry_set_perm(entry, archive_entry_perm(entry) & 01777);
    archive_entry_acl_clear(entry);
    archive_entry_xattr_clear(entry);
    archive_entry_set_fflags(entry, 0, 0);
    if (archive_write_header(disk, entry) < ARCHIVE_WARN)
        return fail_tar(disk, name, err);
    enum cellar_code code = copy_data(tar, disk, name, err);
    if (!code && archive_write_finish_entry(disk) < ARCHIVE_WARN)
        code = fail_tar(disk, name, err);
    return code;
}

static enum cellar_code extract_all(struct archive *tar, struct archive *disk,
                                    struct cellar_error *err)
{
    for (;;) {
        struct archive_entry *entry = NULL;
        int status = archive_read_next_header(tar, &entry);
        if (status == ARCHIVE_EOF)
            break;
        if (status < ARCHIVE_WARN)
            return fail_tar(tar, "the image", err);
        enum cellar_code code =
            is_wanted(entry) ? extract_one(tar, disk, entry, err) : CELLAR_OK;
        if (code)
            return code;
    }
    /* Modes and times of folders come last. */
    return archive_write_close(disk) < ARCHIVE_WARN
               ? fail_tar(disk, "the image", err)
               : CELLAR_OK;
}

static enum cellar_code extract_here(int tar_fd, struct cellar_error *err)
{
    __attribute__((cleanup(free_reader))) struct archive *tar =
        archive_read_new();
    __attribute__((cleanup(free_writer))) struct archive *disk =
        archive_write_disk_new();
    if (!tar || !disk)
        return cellar_fail(err, CELLAR_E_NOMEM, "unpacking: out of memory");
    int flags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;
    if (geteuid() == 0)
        flags |= ARCHIVE_EXTRACT_OWNER;
    archive_read_support_format_tar(tar);
    archive_write_disk_set_options(disk, flags);
    if (archive_read_open_fd(tar, tar_fd, BLOCK_BYTES) != ARCHIVE_OK)
        return fail_tar(tar, "the image", err);
    return extract_all(tar, disk, err);
}

/* What the image has of these stays as it is, unless it is a link: it would
 * lead the next one elsewhere, here, and whatever is mounted there, later. */
static enum cellar_code make_folders(int dir_fd, struct cellar_error *err)
{
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
        struct stat st;
        const char *name = folders[i].name;
        bool made = mkdirat(dir_fd, name, 0755) == 0 &&
                    fchmodat(dir_fd, name, folders[i].mode, 0) == 0;
        if (!made && errno != EEXIST)
            return cellar_fail_errno(err, errno, "making %s", name);
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(st.st_mode))
            return cellar_fail(err, CELLAR_E_IMAGE,
                               "the image has something else at /%s, where a "
                               "root file system needs a folder",
                               name);
    }
    return CELLAR_OK;
}

/* The folder around all is ours: an image may have a word on it, too. */
static enum cellar_code take_back(int dir_fd, struct cellar_error *err)
{
    return fchown(dir_fd, geteuid(), getegid()) == 0 &&
                   fchmod(dir_fd, 0755) == 0
               ? CELLAR_OK
               : cellar_fail_errno(err, errno, "closing the folder");
}

/* libarchive knows its place by the working directory alone. */
enum cellar_code cellar_image_extract(int tar_fd, int dir_fd,
                                      struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (here < 0 || fchdir(dir_fd) != 0)
        return cellar_fail_errno(err, errno, "entering the folder");
    mode_t mask = umask(022);
    enum cellar_code code = extract_here(tar_fd, err);
    (void)umask(mask);
    if (fchdir(here) != 0 && !code)
        code = cellar_fail_errno(err, errno, "leaving the folder");
    if (!code)
        code = take_back(dir_fd, err);
    return code ? code : make_folders(dir_fd, err);
}

/* -------------------------------------------------------------- folders -- */

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path);
    return 0;
}

/* From inside: an image's paths may be as long as a path can be, and with ours
 * before them they could not be named. */
static void remove_tree(const char *path)
{
    CELLAR_AUTO_CLOSE int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (here >= 0 && chdir(path) == 0) {
        (void)nftw(".", remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
        (void)!fchdir(here);
    }
    (void)rmdir(path);
}

/* "cellar-runtime:data" -> STATE/rootfs/cellar-runtime-data */
static enum cellar_code usual_path(const struct cellar *c, const char *image,
                                   char path[CELLAR_UNPACK_PATH_MAX],
                                   struct cellar_error *err)
{
    const char *state = cellar_supervisor_state_dir(c);
    int n = snprintf(path, CELLAR_UNPACK_PATH_MAX, "%s/rootfs", state);
    if (n <= 0 || n + 300 >= CELLAR_UNPACK_PATH_MAX)
        return cellar_fail(err, CELLAR_E_USAGE, "the path is too long");
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return cellar_fail_errno(err, errno, "making %s", path);
    (void)snprintf(path + n, CELLAR_UNPACK_PATH_MAX - (size_t)n, "/%.255s",
                   image);
    for (char *p = path + n + 1; *p; p++)
        if (strchr("/:@", *p))
            *p = '-';
    return CELLAR_OK;
}

/* `dir` with the folder we are in before it, where that is missing. */
static enum cellar_code given_path(const char *dir,
                                   char path[CELLAR_UNPACK_PATH_MAX],
                                   struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *here = *dir == '/' ? NULL : getcwd(NULL, 0);
    if (*dir != '/' && !here)
        return cellar_fail_errno(err, errno, "the current folder");
    int n = snprintf(path, CELLAR_UNPACK_PATH_MAX, "%s%s%s", here ? here : "",
                     here ? "/" : "", dir);
    return n < CELLAR_UNPACK_PATH_MAX
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_USAGE, "the path is too long");
}

struct unpack {
    bool done;
    struct cellar_error err;
};

static void on_done(void *user, const struct cellar_error *err)
{
    struct unpack *unpack = user;
    unpack->done = true;
    unpack->err = err ? *err : (struct cellar_error){.code = CELLAR_OK};
}

/* The tar lies in a file without a name beside the folder. */
static enum cellar_code export_image(struct cellar *c, const char *image,
                                     int tar_fd, struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(c);
    struct unpack unpack = {.done = false};
    enum cellar_code code =
        engine->ops->image_export(engine, image, tar_fd, on_done, &unpack, err);
    if (code)
        return code;
    while (!unpack.done)
        (void)cellar_loop_run(cellar_supervisor_loop(c), -1);
    *err = unpack.err;
    if (!err->code && lseek(tar_fd, 0, SEEK_SET) != 0)
        return cellar_fail_errno(err, errno, "reading the image's files");
    return err->code;
}

static enum cellar_code fill(struct cellar *c, const char *image,
                             const char *fresh, struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int dir_fd =
        open(fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    CELLAR_AUTO_CLOSE int tar_fd =
        open(fresh, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (dir_fd < 0 || tar_fd < 0)
        return cellar_fail_errno(err, errno, "unpacking to %.200s", fresh);
    enum cellar_code code = export_image(c, image, tar_fd, err);
    return code ? code : cellar_image_extract(tar_fd, dir_fd, err);
}

enum cellar_code cellar_image_unpack(struct cellar *c, const char *image,
                                     const char *dir,
                                     char path[CELLAR_UNPACK_PATH_MAX],
                                     struct cellar_error *err)
{
    char fresh[CELLAR_UNPACK_PATH_MAX + 32];
    enum cellar_code code =
        dir ? given_path(dir, path, err) : usual_path(c, image, path, err);
    if (code)
        return code;
    if (access(path, F_OK) == 0)
        return cellar_fail(err, CELLAR_E_EXISTS,
                           "%.150s is there already: use it with --rootfs, "
                           "remove it, or name another folder",
                           path);
    (void)snprintf(fresh, sizeof(fresh), "%s.%ld", path, (long)getpid());
    if (mkdir(fresh, 0755) != 0)
        return cellar_fail_errno(err, errno, "making %.200s", fresh);
    code = fill(c, image, fresh, err);
    if (!code && rename(fresh, path) != 0)
        code = cellar_fail_errno(err, errno, "naming %.200s", path);
    if (code)
        remove_tree(fresh);
    return code;
}
