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

#include "fail.h"
#include "json.h"
#include "proto/preload.h"
#include "spec.h"
#include "write.h"

#define RECORD_BYTES_MAX 65536
#define RECORD_BLOCK     4096

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
    if (!cellar_name_is_reserved(record->name))
        return strcmp(record->name, name) == 0;
    (void)snprintf(record->name, sizeof record->name, "%.*s",
                   CELLAR_NAME_BYTES_MAX, name);
    return true;
}

enum cellar_code cellar_record_load(const char *state_dir, const char *name,
                                    struct cellar_record *record,
                                    struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int dir_fd = cellar_record_dir(state_dir, name);
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

/* As it is in its file: up to the end of a block, so that the next one can be
 * written over it and needs no room. */
struct record_text {
    char *text;
    size_t len;
};

static enum cellar_code write_down(const struct cellar_record *record,
                                   struct record_text *out,
                                   struct cellar_error *err)
{
    json_t *root = encode(record);
    char *text = cellar_json_text(root, JSON_INDENT(1));
    json_decref(root);
    size_t len = text ? strlen(text) : 0;
    size_t padded = (len / RECORD_BLOCK + 1) * RECORD_BLOCK;
    char *block = text ? malloc(padded + 1) : NULL;
    if (block) {
        (void)snprintf(block, padded + 1, "%-*s", (int)padded, text);
        *out = (struct record_text){block, padded};
    }
    if (text)
        sodium_memzero(text, len);
    free(text);
    return block ? CELLAR_OK
                 : cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
}

static void wipe(struct record_text *record)
{
    sodium_memzero(record->text, record->len);
    free(record->text);
}

/* The former becomes record.new; false: there is none. */
static bool swap(int dir_fd)
{
    struct stat st;
    return fstatat(dir_fd, "record.json", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) &&
           renameat2(dir_fd, "record.new", dir_fd, "record.json",
                     RENAME_EXCHANGE) == 0;
}

static bool put_in_place(int dir_fd)
{
    return swap(dir_fd) ||
           renameat(dir_fd, "record.new", dir_fd, "record.json") == 0;
}

/* In place only once it is on disk: a crash leaves the old or the new. */
static enum cellar_code save(int dir_fd, const struct record_text *record,
                             const char *name, struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int fd =
        openat(dir_fd, "record.new",
               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && cellar_write_all(fd, record->text, record->len) &&
        fsync(fd) == 0 && put_in_place(dir_fd))
        return CELLAR_OK;
    return cellar_fail_errno(err, errno,
                             "cannot write the record of session '%s'", name);
}

enum cellar_code cellar_record_save(const struct cellar_hold *hold,
                                    const struct cellar_record *record,
                                    struct cellar_error *err)
{
    struct record_text made = {0};
    enum cellar_code code = write_down(record, &made, err);
    if (code != CELLAR_OK)
        return code;
    code = save(hold->dir_fd, &made, record->name, err);
    wipe(&made);
    return code;
}

/* The file has its block on the disk already, and in it a record that is whole:
 * whatever a power cut leaves of this write, a record is in place. */
static bool write_over(int dir_fd, const struct record_text *record)
{
    struct stat st;
    CELLAR_AUTO_CLOSE int fd =
        openat(dir_fd, "record.new", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           st.st_size == RECORD_BLOCK && record->len == RECORD_BLOCK &&
           pwrite(fd, record->text, RECORD_BLOCK, 0) == RECORD_BLOCK &&
           swap(dir_fd);
}

enum cellar_code cellar_record_amend(const struct cellar_hold *hold,
                                     const struct cellar_record *record,
                                     struct cellar_error *err)
{
    struct record_text made = {0};
    enum cellar_code code = write_down(record, &made, err);
    if (code != CELLAR_OK)
        return code;
    if (!write_over(hold->dir_fd, &made))
        code = save(hold->dir_fd, &made, record->name, err);
    wipe(&made);
    return code;
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

bool cellar_record_move_free(const char *state_dir, const char *from,
                             const char *to)
{
    char old_path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    char new_path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    (void)snprintf(old_path, sizeof old_path, "%s/sessions/%s", state_dir,
                   from);
    (void)snprintf(new_path, sizeof new_path, "%s/sessions/%s", state_dir, to);
    return renameat2(AT_FDCWD, old_path, AT_FDCWD, new_path,
                     RENAME_NOREPLACE) == 0;
}

enum cellar_code cellar_record_move(const char *state_dir, const char *from,
                                    const char *to, struct cellar_error *err)
{
    struct cellar_hold place = CELLAR_HOLD_NONE;
    if (cellar_record_move_free(state_dir, from, to))
        return CELLAR_OK;
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
