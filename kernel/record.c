#include "record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fail.h"
#include "json.h"
#include "proto/preload.h"
#include "spec.h"
#include "write.h"

#define RECORD_BYTES_MAX 65536

/* ------------------------------------------------------- directories -- */

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
            return cellar_fail_errno(err, errno, "state directory %s", partial);
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
        return cellar_fail_errno(err, errno, "state directory %s", path);
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
        return cellar_fail_errno(err, errno, "state directory %s", path);
    code = check_owner(fd, path, err);
    if (code != CELLAR_OK)
        return code;
    if ((mkdirat(fd, "sessions", 0700) < 0 && errno != EEXIST) ||
        (mkdirat(fd, "supervisors", 0700) < 0 && errno != EEXIST))
        return cellar_fail_errno(err, errno, "state directory %s", path);
    if (read_owner(fd, owner) == CELLAR_OK)
        return CELLAR_OK;
    return make_owner(fd, owner, err);
}

static int open_session_dir(const char *state_dir, const char *name)
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
    hold->dir_fd = open_session_dir(state_dir, name);
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
    CELLAR_AUTO_CLOSE int dir_fd = open_session_dir(state_dir, name);
    CELLAR_AUTO_CLOSE int fd =
        dir_fd < 0 ? -1 : openat(dir_fd, "lock", O_RDWR | O_CLOEXEC);
    pid_t pid = 0;
    long long since = 0;
    struct flock whole = {.l_type = F_WRLCK};
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &whole) < 0 || whole.l_type == F_UNLCK)
        return 0;
    return read_holder(fd, &pid, &since) ? pid : 0;
}

/* ------------------------------------------------------------ records -- */

/* The numbers of a record, by their names in the file. */
static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
#define NUMBER(field)                                                          \
    {                                                                          \
#field, offsetof(struct cellar_record, field)                          \
    }
    NUMBER(uid),         NUMBER(created),     NUMBER(cells),
    NUMBER(delivered),   NUMBER(pids),        NUMBER(memory_bytes),
    NUMBER(files),       NUMBER(file_bytes),  NUMBER(output_bytes),
    NUMBER(timeout_ms),  NUMBER(grace_ms),    NUMBER(lease_ms),
    NUMBER(queue_cells), NUMBER(lifetime_ms), NUMBER(checkpoint),
    NUMBER(lane),        NUMBER(forked),
#undef NUMBER
};

static const struct {
    const char *name;
    size_t offset;
    size_t size;
} texts[] = {
#define TEXT(field)                                                            \
    {                                                                          \
#field, offsetof(struct cellar_record, field),                         \
            sizeof((struct cellar_record *)NULL)->field                        \
    }
    TEXT(name),   TEXT(engine), TEXT(container), TEXT(image),
    TEXT(python), TEXT(lost),   TEXT(preload),
#undef TEXT
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Whole, or NULL: a member that is missing would make the record a damaged
 * one. */
static json_t *encode(const struct cellar_record *record)
{
    json_t *root = json_object();
    char key[2 * CELLAR_KEY_BYTES + 1];
    bool fine = root != NULL;
    for (size_t i = 0; i < COUNT(texts); i++)
        fine &= json_object_set_new(
                    root, texts[i].name,
                    json_string((const char *)record + texts[i].offset)) == 0;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        uint64_t value = 0;
        memcpy(&value, (const char *)record + numbers[i].offset, sizeof value);
        fine &= json_object_set_new(root, numbers[i].name,
                                    json_integer((json_int_t)value)) == 0;
    }
    sodium_bin2hex(key, sizeof key, record->key, sizeof record->key);
    fine &= json_object_set_new(root, "key", json_string(key)) == 0;
    sodium_memzero(key, sizeof key);
    if (fine)
        return root;
    json_decref(root);
    return NULL;
}

static bool decode_text(const json_t *value, char *out, size_t size)
{
    const char *text = json_string_value(value);
    if (!text || json_string_length(value) >= size)
        return false;
    memcpy(out, text, json_string_length(value) + 1);
    return true;
}

static bool decode_key(const json_t *value, uint8_t key[CELLAR_KEY_BYTES])
{
    const char *hex = json_string_value(value);
    size_t len = 0;
    return hex && strlen(hex) == 2 * CELLAR_KEY_BYTES &&
           sodium_hex2bin(key, CELLAR_KEY_BYTES, hex, 2 * CELLAR_KEY_BYTES,
                          NULL, &len, NULL) == 0 &&
           len == CELLAR_KEY_BYTES;
}

static bool decode(const json_t *root, struct cellar_record *record)
{
    for (size_t i = 0; i < COUNT(texts); i++)
        if (!decode_text(json_object_get(root, texts[i].name),
                         (char *)record + texts[i].offset, texts[i].size))
            return false;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        const json_t *value = json_object_get(root, numbers[i].name);
        uint64_t number = (uint64_t)json_integer_value(value);
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return false;
        memcpy((char *)record + numbers[i].offset, &number, sizeof number);
    }
    return cellar_preload_valid(record->preload, strlen(record->preload)) &&
           decode_key(json_object_get(root, "key"), record->key);
}

static enum cellar_code damaged(const char *name, struct cellar_error *err)
{
    return cellar_fail(err, CELLAR_E_SYS,
                       "the record of session '%s' is damaged; 'cellar stop "
                       "%s' removes it and its container",
                       name, name);
}

/* Its directory's name counts: whoever took it from a pool may not have come as
 * far as to write it down. */
static bool take_name(struct cellar_record *record, const char *name)
{
    if (!cellar_name_is_ready(record->name))
        return strcmp(record->name, name) == 0;
    (void)snprintf(record->name, sizeof record->name, "%.*s",
                   CELLAR_NAME_BYTES_MAX, name);
    return true;
}

enum cellar_code cellar_record_load(const char *state_dir, const char *name,
                                    struct cellar_record *record,
                                    struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int dir_fd = open_session_dir(state_dir, name);
    CELLAR_AUTO_CLOSE int fd =
        dir_fd < 0
            ? -1
            : openat(dir_fd, "record.json", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CELLAR_AUTO_FREE char *text = malloc(RECORD_BYTES_MAX);
    if (fd < 0)
        return errno == ENOENT
                   ? cellar_fail(err, CELLAR_E_NOT_FOUND,
                                 "there is no session '%s'; 'cellar ps' lists "
                                 "them",
                                 name)
                   : cellar_fail_errno(err, errno, "record of session '%s'",
                                       name);
    if (!text)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    ssize_t n = read(fd, text, RECORD_BYTES_MAX);
    json_error_t where = {.text = "empty"};
    json_t *root = n > 0 ? cellar_json_parse(text, (size_t)n, 0, &where) : NULL;
    struct cellar_record loaded = {0};
    bool fine = root && decode(root, &loaded) && take_name(&loaded, name);
    json_decref(root);
    sodium_memzero(text, RECORD_BYTES_MAX);
    if (!root && cellar_json_starved(&where))
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    if (!fine)
        return damaged(name, err);
    *record = loaded;
    return CELLAR_OK;
}

enum cellar_code cellar_record_save(const struct cellar_hold *hold,
                                    const struct cellar_record *record,
                                    struct cellar_error *err)
{
    json_t *root = encode(record);
    char *text = cellar_json_text(root, JSON_INDENT(1));
    json_decref(root);
    if (!text)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    int fd =
        openat(hold->dir_fd, "record.new",
               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    /* Renamed only once it is on disk: a crash leaves the old or the new. */
    bool done =
        fd >= 0 && cellar_write_all(fd, text, strlen(text)) && fsync(fd) == 0 &&
        renameat(hold->dir_fd, "record.new", hold->dir_fd, "record.json") == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    sodium_memzero(text, strlen(text));
    free(text);
    if (!done)
        return cellar_fail_errno(err, why,
                                 "cannot write the record of "
                                 "session '%s'",
                                 record->name);
    return CELLAR_OK;
}

void cellar_record_remove(const char *state_dir, const char *name,
                          const struct cellar_hold *hold)
{
    static const char *const files[] = {"record.json", "record.new", "control",
                                        "lock"};
    char path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    for (size_t i = 0; i < COUNT(files); i++)
        (void)unlinkat(hold->dir_fd, files[i], 0);
    (void)snprintf(path, sizeof path, "%s/sessions/%s", state_dir, name);
    (void)rmdir(path);
}

/* Whoever comes for the name in between makes a lock of his own, and then this
 * fails; whoever waited for ours finds that it went. */
static enum cellar_code move_to(const char *state_dir, const char *from,
                                const char *to, const struct cellar_hold *place,
                                struct cellar_error *err)
{
    static const char *const files[] = {"record.new", "control", "lock"};
    char old_path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    char new_path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    (void)snprintf(old_path, sizeof old_path, "%s/sessions/%s", state_dir,
                   from);
    (void)snprintf(new_path, sizeof new_path, "%s/sessions/%s", state_dir, to);
    for (size_t i = 0; i < COUNT(files); i++)
        (void)unlinkat(place->dir_fd, files[i], 0);
    if (rename(old_path, new_path) == 0)
        return CELLAR_OK;
    int why = errno;
    (void)rmdir(new_path); /* which only an empty one allows */
    errno = why;
    if (errno == ENOTEMPTY || errno == EEXIST)
        return cellar_fail(err, CELLAR_E_BUSY,
                           "session '%s' is being made by another process", to);
    return cellar_fail_errno(err, errno, "session '%s'", to);
}

enum cellar_code cellar_record_move(const char *state_dir, const char *from,
                                    const char *to, struct cellar_error *err)
{
    struct cellar_hold place = CELLAR_HOLD_NONE;
    enum cellar_code code = cellar_hold_take(state_dir, to, &place, err);
    if (code != CELLAR_OK)
        return code;
    if (faccessat(place.dir_fd, "record.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        code = cellar_fail(err, CELLAR_E_EXISTS, "there is a session '%s'", to);
    if (code == CELLAR_OK)
        code = move_to(state_dir, from, to, &place, err);
    cellar_hold_done(&place);
    return code;
}

enum cellar_code cellar_record_each(const char *state_dir,
                                    void (*each)(void *user,
                                                 const struct cellar_record *),
                                    void *user, struct cellar_error *err)
{
    char path[4096 + 16];
    struct dirent **names = NULL;
    (void)snprintf(path, sizeof path, "%s/sessions", state_dir);
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0)
        return cellar_fail_errno(err, errno, "state directory %s", state_dir);
    for (int i = 0; i < count; i++) {
        struct cellar_record record = {0};
        const char *name = names[i]->d_name;
        enum cellar_code code = CELLAR_E_USAGE;
        if (cellar_name_check(name, NULL) == CELLAR_OK ||
            cellar_name_is_reserved(name))
            code = cellar_record_load(state_dir, name, &record, NULL);
        if (code == CELLAR_E_SYS)
            (void)snprintf(record.name, sizeof record.name, "%.*s",
                           CELLAR_NAME_BYTES_MAX, name);
        if (code == CELLAR_OK || code == CELLAR_E_SYS)
            each(user, &record);
        sodium_memzero(record.key, sizeof record.key);
        free(names[i]);
    }
    free(names);
    return CELLAR_OK;
}

/* ------------------------------------------------------------ branches -- */

void cellar_record_place(const struct cellar_record *record,
                         char place[CELLAR_PLACE_MAX])
{
    int n = snprintf(place, CELLAR_PLACE_MAX, "%s", record->container);
    if (record->lane > 0)
        (void)snprintf(place + n, CELLAR_PLACE_MAX - (size_t)n, "/%" PRIu64,
                       record->lane);
}

struct sharing {
    const char *name;
    const char *container;
    bool found;
};

static void look_whether_shares(void *user, const struct cellar_record *record)
{
    struct sharing *sharing = user;
    sharing->found |= strcmp(record->name, sharing->name) != 0 &&
                      !record->lost[0] &&
                      strcmp(record->container, sharing->container) == 0;
}

bool cellar_record_shares(const char *state_dir, const char *name,
                          const char *container)
{
    struct sharing sharing = {.name = name, .container = container};
    return container[0] && (cellar_record_each(state_dir, look_whether_shares,
                                               &sharing, NULL) != CELLAR_OK ||
                            sharing.found);
}

bool cellar_record_may_share(const struct cellar_record *record)
{
    return record->name[0] && (record->lane > 0 || record->forked > 0);
}
