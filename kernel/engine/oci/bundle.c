/* Bundles: what of a container stands on disk. Everything is opened below the
 * bundle's own folder, no link is followed, and nothing but plain files of a
 * sane size is read. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "../../json.h"
#include "../../write.h"
#include "oci.h"

/* Folders in a bundle, below each other; what a runtime keeps has fewer. */
#define DEPTH_MAX 16

#define FIFO_BYTES (1 << 20)

static const char *const fifos[3] = {"stdin", "stdout", "stderr"};

/* --------------------------------------------------------------- names -- */

enum cellar_code cellar_oci_check_id(const char *id, struct cellar_error *err)
{
    const size_t prefix = strlen(OCI_ID_PREFIX);
    if (strnlen(id, OCI_ID_BYTES) == OCI_ID_BYTES - 1 &&
        strncmp(id, OCI_ID_PREFIX, prefix) == 0 &&
        strspn(id + prefix, "0123456789abcdef") == OCI_ID_BYTES - 1 - prefix)
        return CELLAR_OK;
    return cellar_fail(err, CELLAR_E_USAGE,
                       "no container's id of the oci engine's");
}

bool cellar_oci_owns(const char *id)
{
    return strncmp(id, OCI_ID_PREFIX, strlen(OCI_ID_PREFIX)) == 0;
}

enum cellar_code cellar_oci_path(const struct oci *oci, const char *id,
                                 const char *name, char path[4096],
                                 struct cellar_error *err)
{
    int n = snprintf(path, 4096, "%s/oci/%s%s%s", oci->state_dir, id,
                     name ? "/" : "", name ? name : "");
    return n > 0 && n < 4096 ? CELLAR_OK
                             : cellar_fail(err, CELLAR_E_USAGE,
                                           "the state directory's path is too "
                                           "long");
}

enum cellar_code cellar_oci_dir(struct oci *oci, int *dir_fd,
                                struct cellar_error *err)
{
    char path[4096];
    if (oci->dir_fd < 0) {
        enum cellar_code code = cellar_oci_path(oci, ".run", NULL, path, err);
        if (code)
            return code;
        *strrchr(path, '/') = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return cellar_fail_errno(err, errno, "making %.200s", path);
        oci->dir_fd =
            open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (oci->dir_fd < 0)
            return cellar_fail_errno(err, errno, "opening %.200s", path);
        if (mkdirat(oci->dir_fd, ".run", 0700) < 0 && errno != EEXIST)
            return cellar_fail_errno(err, errno, "making %.200s/.run", path);
    }
    *dir_fd = oci->dir_fd;
    return CELLAR_OK;
}

/* --------------------------------------------------------------- files -- */

enum cellar_code cellar_oci_file_write(int dir_fd, const char *name,
                                       const char *text,
                                       struct cellar_error *err)
{
    char fresh[64];
    (void)snprintf(fresh, sizeof(fresh), "%s.new", name);
    (void)unlinkat(dir_fd, fresh, 0);
    CELLAR_AUTO_CLOSE int fd =
        openat(dir_fd, fresh,
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || !cellar_write_all(fd, text, strlen(text)) ||
        renameat(dir_fd, fresh, dir_fd, name) < 0)
        return cellar_fail_errno(err, errno, "writing a container's %s", name);
    return CELLAR_OK;
}

char *cellar_oci_file_read(int dir_fd, const char *name)
{
    struct stat st;
    CELLAR_AUTO_CLOSE int fd =
        openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_size > OCI_FILE_MAX)
        return NULL;
    size_t size = (size_t)st.st_size;
    size_t have = 0;
    CELLAR_AUTO_FREE char *text = malloc(size + 1);
    while (text && have < size) {
        ssize_t n = read(fd, text + have, size - have);
        if (n <= 0)
            return NULL;
        have += (size_t)n;
    }
    if (text)
        text[have] = '\0';
    return CELLAR_TAKE(text);
}

/* ----------------------------------------------------- make and remove -- */

#define OCI_FRESH_PREFIX ".new-"

/* A folder of the same mount: what is mounted below a bundle is not ours to
 * empty, whatever brought it there. */
static int open_folder(int dir_fd, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
}

/* NOLINTNEXTLINE(misc-no-recursion): its depth is bounded */
static bool remove_tree(int dir_fd, const char *name, int depth)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return true;
    errno = ELOOP;
    int fd = depth < DEPTH_MAX ? open_folder(dir_fd, name) : -1;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        bool gone = fd < 0 && errno == ENOENT; /* another one was faster */
        if (fd >= 0)
            close(fd);
        return gone;
    }
    bool all = true;
    const struct dirent *entry = NULL;
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            all &= remove_tree(fd, entry->d_name, depth + 1);
    (void)closedir(dir);
    return all &&
           (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT);
}

static enum cellar_code make_id(char id[OCI_ID_BYTES], struct cellar_error *err)
{
    uint8_t random[(OCI_ID_BYTES - 1 - 4) / 2];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return cellar_fail_errno(err, errno, "random numbers");
    int at = snprintf(id, OCI_ID_BYTES, OCI_ID_PREFIX);
    for (size_t i = 0; i < sizeof(random); i++, at += 2)
        (void)snprintf(id + at, 3, "%02x", random[i]);
    return CELLAR_OK;
}

/* A runtime may make its container's user the owner of a FIFO, who must not
 * lock the host out: the folder around them is closed to everybody else. */
static bool make_fifos(int bundle_fd)
{
    for (int i = 0; i < 3; i++)
        if (mknodat(bundle_fd, fifos[i], S_IFIFO | 0600, 0) < 0 ||
            fchmodat(bundle_fd, fifos[i], 0666, 0) < 0)
            return false;
    return true;
}

/* Locked by its maker: one that can be locked has lost it. Whoever sweeps may
 * have been there between the making and the lock. */
static int make_locked(int dir_fd, const char *fresh)
{
    struct stat st;
    if (mkdirat(dir_fd, fresh, 0700) < 0)
        return -1;
    int fd = open_folder(dir_fd, fresh);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 &&
        st.st_nlink > 0)
        return fd;
    if (fd >= 0)
        close(fd);
    errno = EAGAIN;
    return -1;
}

/* Under another name until it has its labels: whoever lists sees it with
 * them, or not at all. */
static enum cellar_code make_folder(int dir_fd, const char *id,
                                    const struct oci_labels *labels,
                                    struct cellar_error *err)
{
    char fresh[OCI_ID_BYTES + 8];
    (void)snprintf(fresh, sizeof(fresh), OCI_FRESH_PREFIX "%s", id);
    int made = make_locked(dir_fd, fresh);
    if (made < 0 && errno == EAGAIN)
        made = make_locked(dir_fd, fresh);
    CELLAR_AUTO_CLOSE int fd = made;
    if (fd < 0)
        return cellar_fail_errno(err, errno, "making a container's folder");
    enum cellar_code code = cellar_oci_labels_write(fd, labels, err);
    if (!code && renameat(dir_fd, fresh, dir_fd, id) < 0)
        code = cellar_fail_errno(err, errno, "naming a container's folder");
    if (code)
        (void)remove_tree(dir_fd, fresh, 0);
    return code;
}

enum cellar_code cellar_oci_bundle_make(struct oci *oci,
                                        const struct oci_labels *labels,
                                        char id[OCI_ID_BYTES], int *bundle_fd,
                                        struct cellar_error *err)
{
    int dir_fd = -1;
    char made[OCI_ID_BYTES];
    enum cellar_code code = cellar_oci_dir(oci, &dir_fd, err);
    if (!code)
        code = make_id(made, err);
    if (!code)
        code = make_folder(dir_fd, made, labels, err);
    if (code)
        return code;
    int fd = cellar_oci_bundle_open(oci, made);
    if (fd < 0 || !make_fifos(fd)) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        (void)cellar_oci_bundle_remove(oci, made, NULL);
        return cellar_fail_errno(err, why, "making a container's folder");
    }
    (void)snprintf(id, OCI_ID_BYTES, "%s", made);
    *bundle_fd = fd;
    return CELLAR_OK;
}

int cellar_oci_bundle_open(const struct oci *oci, const char *id)
{
    struct oci *self = (struct oci *)oci;
    int dir_fd = -1;
    if (cellar_oci_check_id(id, NULL) || cellar_oci_dir(self, &dir_fd, NULL))
        return -1;
    return openat(dir_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

enum cellar_code cellar_oci_bundle_remove(struct oci *oci, const char *id,
                                          struct cellar_error *err)
{
    int dir_fd = -1;
    enum cellar_code code = cellar_oci_check_id(id, err);
    if (!code)
        code = cellar_oci_dir(oci, &dir_fd, err);
    if (code)
        return code;
    CELLAR_AUTO_CLOSE int run_fd = open_folder(dir_fd, ".run");
    if (run_fd >= 0)
        (void)remove_tree(run_fd, id, 0);
    if (remove_tree(dir_fd, id, 0))
        return CELLAR_OK;
    return cellar_fail_errno(err, errno,
                             "removing the container's folder %.200s/oci/%s",
                             oci->state_dir, id);
}

/* What a process left that ended between two steps of making a folder. */
void cellar_oci_bundles_sweep(const struct oci *oci, const char *name)
{
    if (strncmp(name, OCI_FRESH_PREFIX, strlen(OCI_FRESH_PREFIX)) != 0)
        return;
    CELLAR_AUTO_CLOSE int fd = open_folder(oci->dir_fd, name);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)remove_tree(oci->dir_fd, name, 0);
}

/* -------------------------------------------------------------- labels -- */

enum cellar_code cellar_oci_labels_write(int bundle_fd,
                                         const struct oci_labels *labels,
                                         struct cellar_error *err)
{
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "session", labels->session,
        "owner", labels->owner, "supervisor", labels->supervisor, "image",
        labels->image, "runtime", labels->runtime, "uid",
        (json_int_t)labels->uid, "created", (json_int_t)labels->created,
        "memory", (json_int_t)labels->memory_bytes);
    CELLAR_AUTO_FREE char *text = cellar_json_text(json, JSON_INDENT(4));
    json_decref(json);
    return text ? cellar_oci_file_write(bundle_fd, "labels.json", text, err)
                : cellar_fail(err, CELLAR_E_NOMEM, "labels: out of memory");
}

static void take_text(const json_t *json, const char *key, char *to,
                      size_t size)
{
    const char *text = json_string_value(json_object_get(json, key));
    (void)snprintf(to, size, "%s", text ? text : "");
}

static uint64_t take_number(const json_t *json, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(json, key));
    return value > 0 ? (uint64_t)value : 0;
}

bool cellar_oci_labels_read(int bundle_fd, struct oci_labels *labels)
{
    CELLAR_AUTO_FREE char *text =
        cellar_oci_file_read(bundle_fd, "labels.json");
    json_t *json = text ? cellar_json_parse(text, strlen(text), 0, NULL) : NULL;
    bool fits = json_is_object(json);
    *labels = (struct oci_labels){.uid = (uint32_t)take_number(json, "uid"),
                                  .created = take_number(json, "created"),
                                  .memory_bytes = take_number(json, "memory")};
    take_text(json, "session", labels->session, sizeof(labels->session));
    take_text(json, "owner", labels->owner, sizeof(labels->owner));
    take_text(json, "supervisor", labels->supervisor,
              sizeof(labels->supervisor));
    take_text(json, "image", labels->image, sizeof(labels->image));
    take_text(json, "runtime", labels->runtime, sizeof(labels->runtime));
    json_decref(json);
    return fits;
}

/* --------------------------------------------------------------- FIFOs -- */

/* Both ends read and write, so that neither end's going is ever an error of
 * the other's writing, and what is not read yet stays. The host does not hold
 * open what the container writes to: it shall see the end. */
static int open_fifo(int bundle_fd, int i, int mode)
{
    struct stat st;
    int fd = openat(bundle_fd, fifos[i], mode | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)))
        return fd;
    close(fd);
    errno = ENOTSUP;
    return -1;
}

static enum cellar_code open_fifos(int bundle_fd, const int modes[3],
                                   int fds[3], struct cellar_error *err)
{
    int opened[3] = {-1, -1, -1};
    for (int i = 0; i < 3; i++) {
        opened[i] = open_fifo(bundle_fd, i, modes[i]);
        if (opened[i] >= 0)
            continue;
        int why = errno;
        while (i-- > 0)
            close(opened[i]);
        return cellar_fail_errno(err, why,
                                 "opening the FIFOs of the container");
    }
    memcpy(fds, opened, sizeof(opened));
    return CELLAR_OK;
}

enum cellar_code cellar_oci_fifos_open(int bundle_fd, int fds[3],
                                       struct cellar_error *err)
{
    static const int modes[3] = {O_RDWR | O_NONBLOCK, O_RDONLY | O_NONBLOCK,
                                 O_RDONLY | O_NONBLOCK};
    enum cellar_code code = open_fifos(bundle_fd, modes, fds, err);
    /* The end of a FIFO that had no writer any more when it was opened is told
     * to nobody, unless a writer comes and goes. */
    for (int i = 1; i < 3 && !code; i++) {
        int passing = open_fifo(bundle_fd, i, O_WRONLY | O_NONBLOCK);
        if (passing >= 0)
            close(passing);
    }
    /* A user's quota of pipes may be used up: a small one does, too. */
    for (int i = 0; i < 2 && !code; i++)
        (void)fcntl(fds[i], F_SETPIPE_SZ, FIFO_BYTES);
    return code;
}

enum cellar_code cellar_oci_fifos_give(int bundle_fd, int fds[3],
                                       struct cellar_error *err)
{
    static const int modes[3] = {O_RDWR, O_RDWR, O_RDWR};
    return open_fifos(bundle_fd, modes, fds, err);
}
