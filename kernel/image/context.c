#include "context.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "kernel/fail.h"

/* Any fixed time will do. */
#define FIXED_TIME 1000000000

enum { PATH_BYTES = 4096 };

struct context {
    struct archive *tar;
    uint64_t digest; /* FNV-1a, over cellar/ */
    struct cellar_error *err;
};

static void digest_add(struct context *ctx, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++)
        ctx->digest = (ctx->digest ^ bytes[i]) * 0x100000001b3u;
}

static enum cellar_code fail_tar(const struct context *ctx, const char *name)
{
    return cellar_fail(ctx->err, CELLAR_E_SYS, "writing %s to the context: %s",
                       name, archive_error_string(ctx->tar));
}

static void auto_entry_free(struct archive_entry **entry)
{
    archive_entry_free(*entry);
}

static enum cellar_code add_header(struct context *ctx, const char *name,
                                   mode_t type, mode_t mode, int64_t size)
{
    __attribute__((cleanup(auto_entry_free))) struct archive_entry *entry =
        archive_entry_new();
    if (entry == NULL)
        return cellar_fail(ctx->err, CELLAR_E_NOMEM, "out of memory");
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, mode);
    archive_entry_set_size(entry, size);
    archive_entry_set_mtime(entry, FIXED_TIME, 0);
    archive_entry_set_uid(entry, 0);
    archive_entry_set_gid(entry, 0);
    digest_add(ctx, name, strlen(name) + 1);
    digest_add(ctx, &mode, sizeof(mode));
    if (archive_write_header(ctx->tar, entry) != ARCHIVE_OK)
        return fail_tar(ctx, name);
    return CELLAR_OK;
}

static enum cellar_code add_bytes(struct context *ctx, int fd, const char *path,
                                  int64_t size)
{
    char data[16384];
    int64_t left = size;
    while (left > 0) {
        ssize_t n = read(fd, data, sizeof(data));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cellar_fail_errno(ctx->err, errno, "reading %s", path);
        if (n == 0 || n > left)
            return cellar_fail(ctx->err, CELLAR_E_SYS,
                               "%s changed while it was read", path);
        if (archive_write_data(ctx->tar, data, (size_t)n) != n)
            return fail_tar(ctx, path);
        digest_add(ctx, data, (size_t)n);
        left -= n;
    }
    return CELLAR_OK;
}

/* Agent and relay may be run but not read: that makes them non-dumpable from
 * their first instruction on (docs/SECURITY.md). */
static mode_t mode_of(const char *name, const struct stat *st)
{
    if (strcmp(name, "cellar/agent") == 0 || strcmp(name, "cellar/relay") == 0)
        return 0711;
    return (st->st_mode & 0111) != 0 ? 0755 : 0644;
}

static enum cellar_code add_file(struct context *ctx, const char *path,
                                 const char *name)
{
    CELLAR_AUTO_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return cellar_fail(ctx->err, CELLAR_E_NOT_FOUND,
                           "%s is missing: build or install Cellar, or let "
                           "CELLAR_DATA_DIR name the folder it is in",
                           path);
    if (fd < 0 || fstat(fd, &st) != 0)
        return cellar_fail_errno(ctx->err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return cellar_fail(ctx->err, CELLAR_E_USAGE, "%s is no file", path);
    enum cellar_code code =
        add_header(ctx, name, AE_IFREG, mode_of(name, &st), st.st_size);
    return code != CELLAR_OK ? code : add_bytes(ctx, fd, path, st.st_size);
}

static enum cellar_code add_found(struct context *ctx, const FTSENT *found,
                                  const char *name)
{
    switch (found->fts_info) {
    case FTS_D:
        return add_header(ctx, name, AE_IFDIR, 0755, 0);
    case FTS_DP:
        return CELLAR_OK;
    case FTS_F:
        return add_file(ctx, found->fts_path, name);
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return cellar_fail_errno(ctx->err, found->fts_errno, "%s",
                                 found->fts_path);
    default:
        return cellar_fail(ctx->err, CELLAR_E_USAGE,
                           "%s is neither a file nor a folder",
                           found->fts_path);
    }
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void auto_fts_close(FTS **walk)
{
    if (*walk != NULL)
        fts_close(*walk);
}

/* `root`/cellar and all below it, in an order that never changes. */
static enum cellar_code add_tree(struct context *ctx, char *path,
                                 size_t root_len)
{
    char *roots[] = {path, NULL};
    __attribute__((cleanup(auto_fts_close))) FTS *walk =
        fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    if (walk == NULL)
        return cellar_fail_errno(ctx->err, errno, "%s", path);
    enum cellar_code code = CELLAR_OK;
    FTSENT *found = NULL;
    while (code == CELLAR_OK && (found = fts_read(walk)) != NULL)
        code = add_found(ctx, found, found->fts_path + root_len + 1);
    return code;
}

static enum cellar_code join(char out[PATH_BYTES], const char *dir,
                             const char *name, struct cellar_error *err)
{
    int len = snprintf(out, PATH_BYTES, "%s/%s", dir, name);
    if (len < 0 || len >= PATH_BYTES)
        return cellar_fail(err, CELLAR_E_LIMIT,
                           "the data directory's name is too long");
    return CELLAR_OK;
}

static enum cellar_code add_all(struct context *ctx, const char *data_dir)
{
    char path[PATH_BYTES];
    enum cellar_code code = join(path, data_dir, "Dockerfile", ctx->err);
    if (code == CELLAR_OK)
        code = add_file(ctx, path, "Dockerfile");
    if (code == CELLAR_OK)
        code = join(path, data_dir, "cellar/agent", ctx->err);
    if (code == CELLAR_OK && access(path, F_OK) != 0)
        code = add_file(ctx, path, "cellar/agent");
    /* The label tells of the runtime files only. */
    ctx->digest = 0xcbf29ce484222325u;
    if (code == CELLAR_OK)
        code = join(path, data_dir, "cellar", ctx->err);
    if (code == CELLAR_OK)
        code = add_tree(ctx, path, strlen(data_dir));
    return code;
}

static void auto_tar_free(struct archive **tar)
{
    archive_write_free(*tar);
}

static enum cellar_code write_tar(const char *data_dir, int fd,
                                  uint64_t *digest, struct cellar_error *err)
{
    __attribute__((cleanup(auto_tar_free))) struct archive *tar =
        archive_write_new();
    if (tar == NULL)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    struct context ctx = {.tar = tar, .err = err};
    if (archive_write_set_format_ustar(tar) != ARCHIVE_OK ||
        archive_write_open_fd(tar, fd) != ARCHIVE_OK)
        return fail_tar(&ctx, data_dir);
    enum cellar_code code = add_all(&ctx, data_dir);
    if (code == CELLAR_OK && archive_write_close(tar) != ARCHIVE_OK)
        return fail_tar(&ctx, data_dir);
    *digest = ctx.digest;
    return code;
}

enum cellar_code cellar_image_context(const char *data_dir, int *fd,
                                      char digest[CELLAR_IMAGE_DIGEST_BYTES],
                                      struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int file = -1;
    uint64_t hash = 0;
    enum cellar_code code = cellar_image_temp(&file, err);
    if (code == CELLAR_OK)
        code = write_tar(data_dir, file, &hash, err);
    if (code != CELLAR_OK)
        return code;
    if (lseek(file, 0, SEEK_SET) != 0)
        return cellar_fail_errno(err, errno, "the context's tar");
    snprintf(digest, CELLAR_IMAGE_DIGEST_BYTES, "%016llx",
             (unsigned long long)hash);
    *fd = file;
    file = -1;
    return CELLAR_OK;
}
