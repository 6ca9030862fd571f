/* Containers are listed: the bundles there are. One whose labels can't be read
 * is of this state directory all the same, and nobody's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "oci.h"

struct listing {
    struct oci_op op; /* first */
    cellar_engine_each_fn *each;
    cellar_engine_done_fn *done;
    void *user;
};

static void read_owner(const struct oci *oci, char owner[64])
{
    char path[4096];
    char text[64] = "";
    (void)snprintf(path, sizeof(path), "%s/owner", oci->state_dir);
    FILE *file = fopen(path, "re");
    if (file) {
        (void)!fread(text, 1, sizeof(text) - 1, file);
        (void)fclose(file);
    }
    text[strcspn(text, "\n")] = '\0';
    (void)snprintf(owner, 64, "%s", text);
}

const char *cellar_oci_state(const struct oci *oci, int bundle_fd,
                             const char *id)
{
    struct oci_born born;
    if (!cellar_oci_born_read(bundle_fd, &born))
        return "created";
    if (!cellar_oci_lives(&born))
        return "exited";
    return cellar_oci_is_paused(oci, bundle_fd, id) ? "paused" : "running";
}

static void give(const struct listing *listing, const char *id)
{
    const struct oci *oci = listing->op.oci;
    struct oci_labels labels;
    CELLAR_AUTO_CLOSE int fd = cellar_oci_bundle_open(oci, id);
    if (fd < 0)
        return;
    if (!cellar_oci_labels_read(fd, &labels)) {
        labels = (struct oci_labels){.session = ""};
        read_owner(oci, labels.owner);
    }
    struct cellar_container container = {.id = id,
                                         .session = labels.session,
                                         .owner = labels.owner,
                                         .supervisor = labels.supervisor,
                                         .uid = labels.uid,
                                         .image = labels.image,
                                         .state = cellar_oci_state(oci, fd, id),
                                         .created = labels.created};
    listing->each(listing->user, &container);
}

struct entry {
    char id[OCI_ID_BYTES];
    struct timespec made;
};

struct entries {
    struct entry *all;
    size_t count;
};

/* The newest first. */
static int compare(const void *a, const void *b)
{
    const struct timespec *one = &((const struct entry *)a)->made;
    const struct timespec *two = &((const struct entry *)b)->made;
    if (one->tv_sec != two->tv_sec)
        return one->tv_sec < two->tv_sec ? 1 : -1;
    return (one->tv_nsec < two->tv_nsec) - (one->tv_nsec > two->tv_nsec);
}

/* Labels are written once, when a bundle is made. */
static struct timespec made_at(int dir_fd, const char *id)
{
    char path[OCI_ID_BYTES + 16];
    struct stat st = {.st_mtim = {0}};
    (void)snprintf(path, sizeof(path), "%.32s/labels.json", id);
    (void)fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW);
    return st.st_mtim;
}

static bool add(struct entries *entries, int dir_fd, const char *id)
{
    struct entry *grown =
        realloc(entries->all, (entries->count + 1) * sizeof(*entries->all));
    if (!grown)
        return false;
    entries->all = grown;
    struct entry *entry = &grown[entries->count++];
    (void)snprintf(entry->id, sizeof(entry->id), "%.32s", id);
    entry->made = made_at(dir_fd, id);
    return true;
}

static enum cellar_code collect(const struct oci *oci, struct entries *entries,
                                struct cellar_error *err)
{
    int fd = openat(oci->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry = NULL;
    bool all = true;
    if (!dir) {
        cellar_fail_errno(err, errno, "listing %.200s/oci", oci->state_dir);
        if (fd >= 0)
            close(fd);
        return err->code;
    }
    while (all && (entry = readdir(dir))) {
        if (cellar_oci_check_id(entry->d_name, NULL) == CELLAR_OK)
            all = add(entries, fd, entry->d_name);
        else
            cellar_oci_bundles_sweep(oci, entry->d_name);
    }
    (void)closedir(dir);
    return all ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "list: out of memory");
}

static void list(struct oci_op *op)
{
    struct listing listing = *(struct listing *)op;
    struct cellar_error err = {.code = CELLAR_OK};
    struct entries entries = {0};
    enum cellar_code code = collect(op->oci, &entries, &err);
    if (entries.count)
        qsort(entries.all, entries.count, sizeof(*entries.all), compare);
    for (size_t i = 0; i < entries.count && !code; i++)
        give(&listing, entries.all[i].id);
    free(entries.all);
    cellar_oci_op_free(op);
    listing.done(listing.user, code ? &err : NULL);
}

enum cellar_code cellar_oci_list(struct cellar_engine *engine,
                                 cellar_engine_each_fn *each,
                                 cellar_engine_done_fn *done, void *user,
                                 struct cellar_error *err)
{
    struct oci *oci = (struct oci *)engine;
    int dir_fd = -1;
    enum cellar_code code = cellar_oci_dir(oci, &dir_fd, err);
    if (code)
        return code;
    struct listing *listing = calloc(1, sizeof(*listing));
    if (!listing)
        return cellar_fail(err, CELLAR_E_NOMEM, "list: out of memory");
    listing->op.destroy = cellar_oci_op_destroy;
    listing->each = each;
    listing->done = done;
    listing->user = user;
    cellar_oci_op_begin(oci, &listing->op);
    code = cellar_oci_op_later(&listing->op, 0, list, err);
    if (code)
        cellar_oci_op_free(&listing->op);
    return code;
}
