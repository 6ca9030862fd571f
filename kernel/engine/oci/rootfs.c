/* The root file system: an empty folder of the container's own, in which the
 * host's /usr is seen read-only; or an unpacked one. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "../../spec.h"
#include "oci.h"

/* "rbind" would bring along what is mounted below; where that can't be left
 * out it must be read-only, too. */
#define READS "bind,ro,rprivate,nosuid,nodev"

/* Of one call of sendfile(). */
#define COPY_BYTES (1u << 24)

/* Where it is made, and what is mounted. */
struct place {
    int bundle_fd;
    const char *id;
    enum oci_kind kind;
    json_t *mounts;
};

/* ------------------------------------------------------- what is inside -- */

static const char *const folders[] = {
    "usr",        "etc",           "etc/ssl",
    "proc",       "dev",           "tmp",
    "sys",        "sys/fs",        "sys/fs/cgroup",
    "cellar",     "home",          "mnt",
    "root",       "run",           "srv",
    "var",        "var/lib",       "var/tmp",
    "sys/kernel", "sys/kernel/mm", "sys/kernel/mm/transparent_hugepage",
};

/* Of what Python and what is installed in /usr look for in /etc, that which
 * tells nothing of the host but what is installed. */
static const char *const etc_shared[] = {
    "/etc/ld.so.cache", "/etc/alternatives",    "/etc/fonts",
    "/etc/mime.types",  "/etc/ssl/openssl.cnf", "/etc/matplotlibrc",
    "/etc/services",    "/etc/protocols",
};

/* Where the host has merged them into /usr, links. */
static const char *const merged[] = {"/bin",   "/sbin",  "/lib",
                                     "/lib32", "/lib64", "/libx32"};

static const struct {
    const char *name;
    const char *text;
} etc_files[] = {
    {"etc/hosts", "127.0.0.1\tlocalhost cellar\n::1\tlocalhost\n"},
    {"etc/hostname", "cellar\n"},
    {"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
    {"etc/host.conf", "multi on\n"},
};

static bool write_file(int root_fd, const char *name, const char *text)
{
    CELLAR_AUTO_CLOSE int fd =
        openat(root_fd, name,
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    size_t len = strlen(text);
    return fd >= 0 && write(fd, text, len) == (ssize_t)len &&
           fchmod(fd, 0644) == 0;
}

static bool write_users(int root_fd, uint32_t uid)
{
    char text[256];
    (void)snprintf(text, sizeof(text),
                   "root:x:0:0:root:/root:/usr/sbin/nologin\n"
                   "cellar:x:%" PRIu32 ":%" PRIu32 "::/tmp:/usr/sbin/nologin\n"
                   "nobody:x:65534:65534:nobody:/nonexistent:"
                   "/usr/sbin/nologin\n",
                   uid, uid);
    if (!write_file(root_fd, "etc/passwd", text))
        return false;
    (void)snprintf(text, sizeof(text),
                   "root:x:0:\ncellar:x:%" PRIu32 ":\nnogroup:x:65534:\n", uid);
    return write_file(root_fd, "etc/group", text);
}

static bool make_folder(int dir_fd, const char *name)
{
    return mkdirat(dir_fd, name, 0755) == 0 &&
           fchmodat(dir_fd, name, 0755, 0) == 0;
}

static bool make_tree(int bundle_fd, uint32_t uid)
{
    if (!make_folder(bundle_fd, "root"))
        return false;
    CELLAR_AUTO_CLOSE int fd = openat(
        bundle_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    bool made = fd >= 0;
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders) && made; i++)
        made = make_folder(fd, folders[i]);
    for (size_t i = 0; i < sizeof(etc_files) / sizeof(*etc_files) && made; i++)
        made = write_file(fd, etc_files[i].name, etc_files[i].text);
    /* Runtimes give what is mounted there the mode of what was there. */
    made = made && fchmodat(fd, "tmp", 01777, 0) == 0;
    made = made && write_users(fd, uid);
    for (size_t i = 0; i < sizeof(merged) / sizeof(*merged) && made; i++) {
        char link[128];
        ssize_t len = readlink(merged[i], link, sizeof(link) - 1);
        if (len <= 0)
            continue; /* none, or a folder to be mounted */
        link[len] = '\0';
        made = symlinkat(link, fd, merged[i] + 1) == 0;
    }
    return made;
}

/* -------------------------------------------------------------- mounts -- */

static json_t *bind_of(const char *source, const char *target)
{
    json_t *options = json_array();
    for (const char *at = READS; options && *at;) {
        size_t len = strcspn(at, ",");
        if (json_array_append_new(options, json_stringn(at, len)) < 0)
            break;
        at += len + (at[len] == ',');
    }
    return json_pack("{s:s, s:s, s:s, s:o}", "destination", target, "type",
                     "bind", "source", source, "options", options);
}

/* Before all others: a user's may be below. */
static bool add_bind(json_t *mounts, const char *source, const char *target)
{
    return json_array_insert_new(mounts, 0, bind_of(source, target)) == 0;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_plain(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 &&
           (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode));
}

static bool bind_host(json_t *mounts)
{
    bool made = true;
    for (size_t i = 0; i < sizeof(etc_shared) / sizeof(*etc_shared); i++)
        if (is_plain(etc_shared[i]))
            made = made && add_bind(mounts, etc_shared[i], etc_shared[i]);
    for (size_t i = 0; i < sizeof(merged) / sizeof(*merged); i++)
        if (is_folder(merged[i]))
            made = made && add_bind(mounts, merged[i], merged[i]);
    return made && add_bind(mounts, "/usr", "/usr");
}

/* What a session's user must not be able to read: the kernel closes a process
 * of such a file to it from its first moment on. */
static const char *const closed[] = {"agent", "relay"};

static bool copy_file(int from, int to)
{
    ssize_t n = 0;
    do
        n = sendfile(to, from, NULL, COPY_BYTES);
    while (n > 0);
    return n == 0;
}

/* gVisor starts nothing that can't be read: there agent and relay close
 * themselves with the first thing they do. */
static mode_t mode_of(enum oci_kind kind)
{
    return kind == OCI_RUNSC ? 0755 : 0711;
}

/* Installed, these files are readable. And somebody else's that can't be read
 * is closed to a plain user for good, and its namespaces with it, which a relay
 * must enter: that needs one of the user's own. */
static bool needs_copy(int fd, enum oci_kind kind)
{
    struct stat st;
    bool reads = kind == OCI_RUNSC;
    return geteuid() != 0 || fstat(fd, &st) != 0 || st.st_uid != 0 ||
           !(st.st_mode & (S_IRGRP | S_IROTH)) == reads;
}

static bool close_program(const struct oci *oci, const char *folder,
                          const char *name, const struct place *place)
{
    char path[4200];
    char target[64];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    CELLAR_AUTO_CLOSE int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0 || !needs_copy(from, place->kind))
        return true; /* it is closed, or can't be made better */
    CELLAR_AUTO_CLOSE int to =
        openat(place->bundle_fd, name,
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700);
    (void)snprintf(target, sizeof(target), "/cellar/%s", name);
    return to >= 0 && copy_file(from, to) &&
           fchmod(to, mode_of(place->kind)) == 0 &&
           !cellar_oci_path(oci, place->id, name, path, NULL) &&
           add_bind(place->mounts, path, target);
}

static enum cellar_code bind_cellar(const struct oci *oci,
                                    const struct place *place,
                                    struct cellar_error *err)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/cellar", oci->data_dir);
    if (n <= 0 || (size_t)n >= sizeof(path) || !is_folder(path))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%.200s has no folder cellar with the agent: set "
                           "CELLAR_DATA_DIR to where Cellar's share folder is",
                           oci->data_dir);
    for (size_t i = 0; i < sizeof(closed) / sizeof(*closed); i++)
        if (!close_program(oci, path, closed[i], place))
            return cellar_fail_errno(err, errno, "copying %.200s/%s", path,
                                     closed[i]);
    return add_bind(place->mounts, path, "/cellar")
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "mounts: out of memory");
}

/* ---------------------------------------------------------------- call -- */

static enum cellar_code put_root(json_t *config, const char *path,
                                 struct cellar_error *err)
{
    json_t *root = json_object_get(config, "root");
    return json_object_set_new(root, "path", json_string(path)) == 0
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "root: out of memory");
}

static enum cellar_code use_host(struct oci *oci, const struct place *place,
                                 json_t *config, struct cellar_error *err)
{
    json_int_t uid =
        json_integer_value(cellar_json_at(config, "process.user.uid"));
    if (!make_tree(place->bundle_fd, (uint32_t)uid))
        return cellar_fail_errno(err, errno,
                                 "making the container's root folder");
    if (!bind_host(place->mounts))
        return cellar_fail(err, CELLAR_E_NOMEM, "mounts: out of memory");
    enum cellar_code code = bind_cellar(oci, place, err);
    return code ? code : put_root(config, "root", err);
}

static bool has_python(const char *root)
{
    static const char *const places[] = {
        "usr/bin/python3", "usr/local/bin/python3", "bin/python3"};
    char path[4096];
    struct stat st;
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", root, places[i]);
        if (lstat(path, &st) == 0)
            return true;
    }
    return false;
}

/* -------------------------------------------------- places in a folder -- */

/* Where it is fresh: what the folder has below these is not seen. */
static const char *const fresh[] = {"/proc/", "/dev/", "/tmp/"};

static bool is_below_fresh(const char *place)
{
    for (size_t i = 0; i < sizeof(fresh) / sizeof(*fresh); i++)
        if (strncmp(place, fresh[i], strlen(fresh[i])) == 0)
            return true;
    return false;
}

/* Root's runtime goes there as root, and what it goes through is to stay what
 * it was when it was looked at. */
static bool is_others(const struct stat *st)
{
    return geteuid() == 0 && !cellar_oci_is_roots(st);
}

/* What is wrong with a folder on the way to `place`, which is cut off behind
 * it; or NULL. What is missing the runtime makes. */
static const char *look_along(int root_fd, char *place)
{
    for (char *end = place; end;) {
        struct stat st;
        end = strchr(end + 1, '/');
        if (end)
            *end = '\0';
        if (fstatat(root_fd, place + 1, &st, AT_SYMLINK_NOFOLLOW) != 0)
            return errno == ENOENT ? NULL : "can't be looked at";
        if (S_ISLNK(st.st_mode))
            return "is a link: have a folder there, or name where it leads";
        if (end && is_others(&st))
            return "could be changed by others meanwhile: `chown root` and "
                   "`chmod go-w` it";
        if (end)
            *end = '/';
    }
    return NULL;
}

/* A runtime makes what is missing where it is to mount, and puts links into
 * /dev, before the folder is its root: some follow a link of the folder's out
 * of it, onto the host. Inside, a link could lead one mount over another. */
static enum cellar_code check_places(const char *path, const json_t *mounts,
                                     struct cellar_error *err)
{
    size_t i = 0;
    json_t *row = NULL;
    struct stat st;
    CELLAR_AUTO_CLOSE int fd =
        open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0)
        return cellar_fail_errno(err, errno, "rootfs %.200s", path);
    const char *fault = is_others(&st) ? "must be root's, and written by no "
                                         "other: `chown root` and `chmod go-w`"
                                       : NULL;
    char place[4096] = "";
    json_array_foreach(mounts, i, row)
    {
        const char *target =
            json_string_value(json_object_get(row, "destination"));
        if (fault || !target || is_below_fresh(target))
            continue;
        (void)snprintf(place, sizeof(place), "%s", target);
        fault = look_along(fd, place);
    }
    return fault ? cellar_fail(err, CELLAR_E_USAGE, "rootfs: %.150s%.150s %s",
                               path, place, fault)
                 : CELLAR_OK;
}

/* Our agent, not one that may be in there: host and agent are of one make. */
static enum cellar_code use_folder(struct oci *oci, const struct place *place,
                                   const char *given, json_t *config,
                                   struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *path = realpath(given, NULL);
    if (!path || !is_folder(path))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "rootfs: there is no folder %.200s", given);
    if (strcmp(path, "/") == 0)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "rootfs: this machine's own / would show all of it: "
                           "leave --rootfs out for its /usr alone");
    if (!has_python(path))
        return cellar_fail(err, CELLAR_E_IMAGE,
                           "%.200s has no python3 in /usr/bin, /usr/local/bin "
                           "or /bin: unpack an image that has one with "
                           "`cellar image unpack`",
                           path);
    enum cellar_code code = bind_cellar(oci, place, err);
    if (!code)
        code = check_places(path, place->mounts, err);
    return code ? code : put_root(config, path, err);
}

static bool is_preset(const char *image)
{
    return strcmp(image, CELLAR_IMAGE_PRESET) == 0;
}

enum cellar_code cellar_oci_rootfs(const struct oci_bundle *bundle,
                                   const struct cellar_spec *spec,
                                   json_t *config, struct cellar_error *err)
{
    if (!is_preset(spec->image))
        return cellar_fail(
            err, CELLAR_E_IMAGE,
            "the oci engine has no images, so not %.100s: unpack "
            "it with `cellar image unpack %.100s` and give the "
            "folder with --rootfs, or use --engine docker",
            spec->image, spec->image);
    struct place place = {bundle->fd, bundle->id, bundle->kind,
                          json_object_get(config, "mounts")};
    return spec->rootfs
               ? use_folder(bundle->oci, &place, spec->rootfs, config, err)
               : use_host(bundle->oci, &place, config, err);
}
