#include "spec.h"

#include <inttypes.h>
#include <string.h>

#include "fail.h"
#include "proto/limits.h"
#include "proto/preload.h"

#define KIB     (UINT64_C(1) << 10)
#define MIB     (UINT64_C(1) << 20)
#define GIB     (UINT64_C(1) << 30)
#define SECONDS UINT64_C(1000)
#define MINUTES (60 * SECONDS)
#define DAYS    (24 * 60 * MINUTES)

#define FIELD(member) offsetof(struct cellar_spec, member)

const struct cellar_spec_field cellar_spec_fields[] = {
    {"memory", CELLAR_UNIT_BYTES, FIELD(memory_bytes), 32 * MIB, 1024 * GIB,
     512 * MIB, false, "memory and swap of the session together"},
    {"cpus", CELLAR_UNIT_CPUS, FIELD(cpu_millis), 10, 1024000, 1000, false,
     "cores the session may use"},
    {"pids", CELLAR_UNIT_COUNT, FIELD(pids), 8, 32768, 128, false,
     "processes and threads in the session"},
    {"files", CELLAR_UNIT_COUNT, FIELD(files), 32, 1048576, 1024, false,
     "open files of one process"},
    {"file-size", CELLAR_UNIT_BYTES, FIELD(file_bytes), 4 * KIB, 1024 * GIB,
     256 * MIB, false, "size of one file"},
    {"tmp-size", CELLAR_UNIT_BYTES, FIELD(tmp_bytes), 64 * KIB, 1024 * GIB,
     64 * MIB, false, "size of /tmp, which counts as memory"},
    {"shm-size", CELLAR_UNIT_BYTES, FIELD(shm_bytes), 64 * KIB, 1024 * GIB,
     64 * MIB, false, "size of /dev/shm, which counts as memory"},
    {"tmp-files", CELLAR_UNIT_COUNT, FIELD(tmp_files), 64, 16777216, 16384,
     false, "files in each of /tmp and /dev/shm"},
    {"output-limit", CELLAR_UNIT_BYTES, FIELD(output_bytes), 1 * KIB, 1 * GIB,
     10 * MIB, false, "stdout and stderr kept of one cell"},
    {"queue", CELLAR_UNIT_COUNT, FIELD(queue_cells), 1, 4096, 64, false,
     "cells that may wait beside the running one"},
    {"timeout", CELLAR_UNIT_MILLIS, FIELD(timeout_ms), 1, 30 * DAYS,
     5 * MINUTES, true, "time one cell may take"},
    {"grace", CELLAR_UNIT_MILLIS, FIELD(grace_ms), 10, 10 * MINUTES,
     2 * SECONDS, false, "time from an interrupt to the worker's end"},
    {"lease", CELLAR_UNIT_MILLIS, FIELD(lease_ms), 5 * SECONDS, 30 * DAYS,
     30 * MINUTES, false, "time the session lives without a supervisor"},
    {"lifetime", CELLAR_UNIT_MILLIS, FIELD(lifetime_ms), 10 * SECONDS,
     365 * DAYS, DAYS, true, "time the session lives at the most"},
    {"checkpoint", CELLAR_UNIT_POLICY, FIELD(checkpoint), CELLAR_CHECKPOINT_OFF,
     CELLAR_CHECKPOINT_AUTO, CELLAR_CHECKPOINT_AUTO, false,
     "what to keep of the globals, to go back to: auto, after every cell too; "
     "manual, what is asked for; or off"},
};

const size_t cellar_spec_field_count =
    sizeof cellar_spec_fields / sizeof cellar_spec_fields[0];

uint64_t cellar_spec_get(const struct cellar_spec *spec,
                         const struct cellar_spec_field *field)
{
    uint64_t value = 0;
    memcpy(&value, (const char *)spec + field->offset, sizeof value);
    return value;
}

void cellar_spec_set(struct cellar_spec *spec,
                     const struct cellar_spec_field *field, uint64_t value)
{
    memcpy((char *)spec + field->offset, &value, sizeof value);
}

void cellar_spec_init(struct cellar_spec *spec)
{
    *spec = (struct cellar_spec){
        .image = CELLAR_IMAGE_PRESET,
        .network = "none",
    };
    for (size_t i = 0; i < cellar_spec_field_count; i++)
        cellar_spec_set(spec, &cellar_spec_fields[i],
                        cellar_spec_fields[i].preset);
}

static bool name_byte(char c, bool first)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
        return true;
    return !first && (c == '.' || c == '_' || c == '-');
}

enum cellar_code cellar_name_check(const char *name, struct cellar_error *err)
{
    size_t len = name ? strnlen(name, CELLAR_NAME_BYTES_MAX + 1) : 0;
    bool fits = len > 0 && len <= CELLAR_NAME_BYTES_MAX;
    for (size_t i = 0; fits && i < len; i++)
        fits = name_byte(name[i], i == 0);
    if (!fits)
        return cellar_fail(err, CELLAR_E_USAGE, "bad session name: %s",
                           CELLAR_NAME_RULE);
    return CELLAR_OK;
}

static bool is_of(const char *name, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(name, prefix, len) == 0 &&
           strlen(name) <= CELLAR_NAME_BYTES_MAX &&
           strspn(name + len, "0123456789abcdef-") == strlen(name + len);
}

bool cellar_name_is_ready(const char *name)
{
    return is_of(name, CELLAR_READY_PREFIX);
}

bool cellar_name_is_taken(const char *name)
{
    return is_of(name, CELLAR_TAKEN_PREFIX);
}

bool cellar_name_is_reserved(const char *name)
{
    return cellar_name_is_ready(name) || cellar_name_is_taken(name);
}

static enum cellar_code check_numbers(const struct cellar_spec *spec,
                                      struct cellar_error *err)
{
    for (size_t i = 0; i < cellar_spec_field_count; i++) {
        const struct cellar_spec_field *field = &cellar_spec_fields[i];
        uint64_t value = cellar_spec_get(spec, field);
        if (value == 0 && field->none)
            continue;
        if (value < field->min || value > field->max)
            return cellar_fail(err, CELLAR_E_USAGE,
                               "%s of %" PRIu64 " is out of bounds: %" PRIu64
                               " to %" PRIu64,
                               field->name, value, field->min, field->max);
    }
    return CELLAR_OK;
}

/* Image, network and runtime names go into JSON and URLs, escaped there; a
 * byte that no such name has is refused here, where it can be explained. */
static enum cellar_code check_word(const char *what, const char *word,
                                   struct cellar_error *err)
{
    size_t len = word ? strnlen(word, 256) : 0;
    bool fits = len > 0 && len < 256 && word[0] != '-';
    for (size_t i = 0; fits && i < len; i++)
        fits = (word[i] >= 'a' && word[i] <= 'z') ||
               (word[i] >= 'A' && word[i] <= 'Z') ||
               (word[i] >= '0' && word[i] <= '9') || strchr("._-/:@+", word[i]);
    if (!fits)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "bad %s name: 1 to 255 of letters, digits and "
                           ". _ - / : @ +",
                           what);
    return CELLAR_OK;
}

static enum cellar_code check_rootfs(const char *path, struct cellar_error *err)
{
    if (path[0] == '/' && path[1] && strnlen(path, 1024) < 1024 &&
        !strstr(path, "/../"))
        return CELLAR_OK;
    return cellar_fail(err, CELLAR_E_USAGE,
                       "bad rootfs '%.100s': give the absolute path of an "
                       "unpacked root file system",
                       path);
}

static enum cellar_code check_mount(const char *mount, struct cellar_error *err)
{
    const char *colon = strchr(mount, ':');
    bool fits = mount[0] == '/' && colon && colon[1] == '/' &&
                strnlen(mount, 4096) < 4096 && !strstr(mount, "/../");
    if (!fits)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "bad mount '%.100s': write "
                           "/host/dir:/inside or /host/dir:/inside:rw",
                           mount);
    return CELLAR_OK;
}

static enum cellar_code check_preload(const char *preload,
                                      struct cellar_error *err)
{
    size_t len = strnlen(preload, CELLAR_PRELOAD_MAX + 1);
    if (len > CELLAR_PRELOAD_MAX)
        return cellar_fail(err, CELLAR_E_USAGE, "preload is over %u bytes long",
                           CELLAR_PRELOAD_MAX);
    if (!cellar_preload_valid(preload, len))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "bad preload '%.100s': write names of modules "
                           "with commas between them, like numpy,os.path",
                           preload);
    return CELLAR_OK;
}

enum cellar_code cellar_spec_check(const struct cellar_spec *spec,
                                   struct cellar_error *err)
{
    enum cellar_code code = check_numbers(spec, err);
    if (code == CELLAR_OK && spec->name)
        code = cellar_name_check(spec->name, err);
    if (code == CELLAR_OK)
        code = check_word("image", spec->image, err);
    if (code == CELLAR_OK)
        code = check_word("network", spec->network, err);
    if (code == CELLAR_OK && spec->runtime)
        code = check_word("runtime", spec->runtime, err);
    if (code == CELLAR_OK && spec->preload)
        code = check_preload(spec->preload, err);
    if (code == CELLAR_OK && spec->rootfs)
        code = check_rootfs(spec->rootfs, err);
    for (size_t i = 0; code == CELLAR_OK && i < CELLAR_MOUNTS_MAX; i++)
        if (spec->mounts[i])
            code = check_mount(spec->mounts[i], err);
    return code;
}

const char *cellar_spec_root(const struct cellar_spec *spec, const char *engine)
{
    if (strcmp(engine, "oci") != 0)
        return spec->image;
    return spec->rootfs ? spec->rootfs : "/usr";
}

/* Duplicates the string in *slot; leaves NULL on failure. */
static bool own(const char **slot)
{
    if (!*slot)
        return true;
    *slot = strdup(*slot);
    return *slot != NULL;
}

enum cellar_code cellar_spec_copy(const struct cellar_spec *from,
                                  struct cellar_spec *to,
                                  struct cellar_error *err)
{
    struct cellar_spec copy = *from;
    /* Every string, also after one that failed: what is not a copy of ours
     * must not be freed. */
    bool all = own(&copy.name);
    all &= own(&copy.image);
    all &= own(&copy.runtime);
    all &= own(&copy.rootfs);
    all &= own(&copy.network);
    all &= own(&copy.preload);
    for (size_t i = 0; i < CELLAR_MOUNTS_MAX; i++)
        all &= own(&copy.mounts[i]);
    for (size_t i = 0; i < CELLAR_ALLOW_MAX; i++)
        all &= own(&copy.allow[i]);
    if (!all) {
        cellar_spec_done(&copy);
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    }
    *to = copy;
    return CELLAR_OK;
}

void cellar_spec_done(struct cellar_spec *spec)
{
    free((char *)spec->name);
    free((char *)spec->image);
    free((char *)spec->runtime);
    free((char *)spec->rootfs);
    free((char *)spec->network);
    free((char *)spec->preload);
    for (size_t i = 0; i < CELLAR_MOUNTS_MAX; i++)
        free((char *)spec->mounts[i]);
    for (size_t i = 0; i < CELLAR_ALLOW_MAX; i++)
        free((char *)spec->allow[i]);
    *spec = (struct cellar_spec){0};
}
