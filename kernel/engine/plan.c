/* One container to be: container.json, filled in. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "../fail.h"
#include "../json.h"
#include "cellar/version.h"
#include "container.h"
#include "proto/message.h"

#define AGENT "/cellar/agent"

/* -------------------------------------------------------------- mounts -- */

/* Where a mount would undo what the container is. */
static const char *const reserved[] = {"/cellar", "/dev", "/proc", "/sys",
                                       "/tmp"};

static bool is_under(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 &&
           (path[len] == '\0' || path[len] == '/');
}

/* Absolute, and every part of it is a name: no "..", no ".", no "//". */
static bool is_plain_path(const char *path)
{
    if (path[0] != '/' || path[1] == '\0')
        return false;
    for (const char *part = path; *part;) {
        size_t len = strcspn(++part, "/");
        bool dots = (len == 1 && part[0] == '.') ||
                    (len == 2 && part[0] == '.' && part[1] == '.');
        if (!len || dots)
            return false;
        part += len;
    }
    return true;
}

static const char *mount_fault(const char *source, const char *target,
                               const char *mode)
{
    if (!is_plain_path(source))
        return "the host's folder must be an absolute path without . and ..";
    if (!is_plain_path(target))
        return "the place inside must be an absolute path without . and ..";
    if (mode && strcmp(mode, "rw") != 0 && strcmp(mode, "ro") != 0)
        return "what follows the second colon must be rw or ro";
    for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
        if (is_under(target, reserved[i]))
            return "nothing can be mounted under /cellar, /dev, /proc, /sys "
                   "or /tmp";
    return NULL;
}

/* "/host/dir:/inside[:rw]". Submounts of the host's folder stay outside: the
 * kernel's read-only does not reach them. */
static json_t *make_mount(const char *text, const char **fault)
{
    CELLAR_AUTO_FREE char *source = strdup(text);
    if (!source)
        return NULL;
    char *target = strchr(source, ':');
    if (target)
        *target++ = '\0';
    char *mode = target ? strchr(target, ':') : NULL;
    if (mode)
        *mode++ = '\0';
    *fault = target ? mount_fault(source, target, mode) : "it has no colon";
    if (*fault)
        return NULL;
    bool writable = mode && strcmp(mode, "rw") == 0;
    return json_pack("{s:s, s:s, s:s, s:b, s:{s:s, s:b}}", "Type", "bind",
                     "Source", source, "Target", target, "ReadOnly", !writable,
                     "BindOptions", "Propagation", "rprivate", "NonRecursive",
                     1);
}

static enum cellar_code make_mounts(const struct cellar_spec *spec,
                                    json_t **out, struct cellar_error *err)
{
    json_t *all = json_array();
    for (size_t i = 0; i < CELLAR_MOUNTS_MAX; i++) {
        if (!spec->mounts[i])
            continue;
        const char *fault = NULL;
        json_t *one = make_mount(spec->mounts[i], &fault);
        if (one && json_array_append_new(all, one) == 0)
            continue;
        json_decref(all);
        if (!fault)
            return cellar_fail(err, CELLAR_E_NOMEM, "mounts: out of memory");
        return cellar_fail(err, CELLAR_E_USAGE, "mount \"%s\": %s",
                           spec->mounts[i], fault);
    }
    *out = all;
    return CELLAR_OK;
}

/* -------------------------------------------------------- placeholders -- */

struct fill {
    const struct cellar_container_spec *spec;
    const struct cellar_launch *launch;
    json_t *mounts;
    const char *unknown; /* a placeholder nobody knows */
};

CELLAR_PRINTF(1, 2) static json_t *text(const char *fmt, ...)
{
    char line[256];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    return len < 0 || (size_t)len >= sizeof(line) ? NULL : json_string(line);
}

static json_t *number(uint64_t value)
{
    return value > INT64_MAX ? NULL : json_integer((json_int_t)value);
}

/* An inode of tmpfs costs the kernel about 1 KB that no limit of bytes sees. */
static json_t *tmpfs_options(const struct fill *f, uint64_t bytes)
{
    return text("rw,noexec,nosuid,nodev,mode=1777,size=%" PRIu64
                ",nr_inodes=%" PRIu64,
                bytes, f->launch->spec->tmp_files);
}

static json_t *fill_image(const struct fill *f)
{
    return json_string(f->launch->spec->image);
}

static json_t *fill_user(const struct fill *f)
{
    return text("%" PRIu32 ":%" PRIu32, f->launch->uid, f->launch->uid);
}

static json_t *fill_entrypoint(const struct fill *f)
{
    return json_string(f->launch->entrypoint ? f->launch->entrypoint : AGENT);
}

/* The agent alone knows this one. */
static json_t *fill_arguments(const struct fill *f)
{
    bool open = !f->launch->entrypoint &&
                cellar_container_allowed(f->launch->spec, "agent");
    return open ? json_pack("[s]", CELLAR_AGENT_OPEN) : json_array();
}

static json_t *fill_session(const struct fill *f)
{
    return json_string(f->launch->spec->name ? f->launch->spec->name : "");
}

static json_t *fill_supervisor(const struct fill *f)
{
    return json_string(f->launch->supervisor ? f->launch->supervisor : "");
}

static json_t *fill_owner(const struct fill *f)
{
    return json_string(f->launch->owner ? f->launch->owner : "");
}

static json_t *fill_uid(const struct fill *f)
{
    return text("%" PRIu32, f->launch->uid);
}

static json_t *fill_version(const struct fill *f)
{
    (void)f;
    return json_string(CELLAR_VERSION);
}

static json_t *fill_network(const struct fill *f)
{
    return json_string(f->launch->spec->network);
}

static json_t *fill_network_disabled(const struct fill *f)
{
    return json_boolean(strcmp(f->launch->spec->network, "none") == 0);
}

static json_t *fill_memory(const struct fill *f)
{
    return number(f->launch->spec->memory_bytes);
}

static json_t *fill_pids(const struct fill *f)
{
    return number(f->launch->spec->pids);
}

static json_t *fill_nano_cpus(const struct fill *f)
{
    return number(f->launch->spec->cpu_millis * 1000000);
}

static json_t *fill_files(const struct fill *f)
{
    return number(f->launch->spec->files);
}

static json_t *fill_tmp(const struct fill *f)
{
    return tmpfs_options(f, f->launch->spec->tmp_bytes);
}

static json_t *fill_shm_options(const struct fill *f)
{
    return tmpfs_options(f, f->launch->spec->shm_bytes);
}

static json_t *fill_shm(const struct fill *f)
{
    return number(f->launch->spec->shm_bytes);
}

static json_t *fill_mounts(const struct fill *f)
{
    return json_incref(f->mounts);
}

static json_t *fill_seccomp(const struct fill *f)
{
    return json_string(cellar_container_spec_seccomp(f->spec));
}

/* Without one the field is left out, and the engine takes its default. */
static json_t *fill_runtime(const struct fill *f)
{
    const char *runtime = f->launch->spec->runtime;
    return runtime ? json_string(runtime) : json_null();
}

static const struct slot {
    const char *name;
    json_t *(*fill)(const struct fill *f);
} slots[] = {
    {"$image", fill_image},
    {"$user", fill_user},
    {"$entrypoint", fill_entrypoint},
    {"$arguments", fill_arguments},
    {"$session", fill_session},
    {"$owner", fill_owner},
    {"$supervisor", fill_supervisor},
    {"$uid", fill_uid},
    {"$version", fill_version},
    {"$network", fill_network},
    {"$network_disabled", fill_network_disabled},
    {"$memory", fill_memory},
    {"$pids", fill_pids},
    {"$nano_cpus", fill_nano_cpus},
    {"$files", fill_files},
    {"$tmp_options", fill_tmp},
    {"$shm_options", fill_shm_options},
    {"$shm", fill_shm},
    {"$mounts", fill_mounts},
    {"$seccomp", fill_seccomp},
    {"$runtime", fill_runtime},
};

/* A new value for `value`, placeholders filled in; NULL: out of memory, or
 * f->unknown. */
static json_t *filled(struct fill *f, const json_t *value);

static json_t *filled_string(struct fill *f, const char *string)
{
    if (*string != '$')
        return json_string(string);
    for (size_t i = 0; i < sizeof(slots) / sizeof(*slots); i++)
        if (strcmp(slots[i].name, string) == 0)
            return slots[i].fill(f);
    f->unknown = string;
    return NULL;
}

static json_t *filled_object(struct fill *f, const json_t *value)
{
    json_t *made = json_object();
    const char *key = NULL;
    json_t *member = NULL;
    json_object_foreach((json_t *)value, key, member)
    {
        json_t *one = filled(f, member);
        if (json_is_null(one) || json_object_set_new(made, key, one) == 0)
            continue;
        json_decref(made);
        return NULL;
    }
    return made;
}

static json_t *filled_array(struct fill *f, const json_t *value)
{
    json_t *made = json_array();
    size_t i = 0;
    json_t *member = NULL;
    json_array_foreach(value, i, member)
    {
        if (json_array_append_new(made, filled(f, member)) == 0)
            continue;
        json_decref(made);
        return NULL;
    }
    return made;
}

static json_t *filled(struct fill *f, const json_t *value)
{
    if (json_is_string(value))
        return filled_string(f, json_string_value(value));
    if (json_is_object(value))
        return filled_object(f, value);
    if (json_is_array(value))
        return filled_array(f, value);
    return json_deep_copy(value);
}

static enum cellar_code make_body(struct fill *f, char **out,
                                  struct cellar_error *err)
{
    json_t *body = filled(f, cellar_container_spec_container(f->spec));
    char *text_of_body = cellar_json_text(body, JSON_COMPACT);
    json_decref(body);
    if (text_of_body) {
        *out = text_of_body;
        return CELLAR_OK;
    }
    if (f->unknown)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "container.json: nobody knows the placeholder "
                           "\"%s\"",
                           f->unknown);
    return cellar_fail(err, CELLAR_E_NOMEM, "container spec: out of memory");
}

static enum cellar_code make_name(char name[CELLAR_CONTAINER_NAME_MAX],
                                  const struct cellar_spec *spec,
                                  struct cellar_error *err)
{
    uint64_t random = 0;
    if (spec->name) {
        snprintf(name, CELLAR_CONTAINER_NAME_MAX, "cellar-%s", spec->name);
        return CELLAR_OK;
    }
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return cellar_fail_errno(err, errno, "random numbers");
    snprintf(name, CELLAR_CONTAINER_NAME_MAX, "cellar-%016" PRIx64, random);
    return CELLAR_OK;
}

/* A misspelt one would allow nothing, and be noticed late. */
static enum cellar_code check_allowed(const struct cellar_container_spec *spec,
                                      const struct cellar_spec *wanted,
                                      struct cellar_error *err)
{
    for (size_t i = 0; i < CELLAR_ALLOW_MAX; i++) {
        const char *name = wanted->allow[i];
        if (name && strcmp(name, "volumes") != 0 &&
            strcmp(name, "other") != 0 &&
            !cellar_container_spec_text(spec, name))
            return cellar_fail(err, CELLAR_E_USAGE,
                               "--allow: there is no protection '%.100s'; "
                               "`cellar doctor` names them",
                               name);
    }
    return CELLAR_OK;
}

enum cellar_code
cellar_container_plan_init(struct cellar_container_plan *plan,
                           const struct cellar_container_spec *spec,
                           const struct cellar_launch *launch,
                           struct cellar_error *err)
{
    struct cellar_container_plan made = {0};
    struct fill f = {.spec = spec, .launch = launch};
    enum cellar_code code = check_allowed(spec, launch->spec, err);
    if (!code)
        code = make_name(made.name, launch->spec, err);
    if (!code)
        code = make_mounts(launch->spec, &f.mounts, err);
    if (!code)
        code = make_body(&f, &made.body, err);
    json_decref(f.mounts);
    if (!code)
        *plan = made;
    return code;
}

void cellar_container_plan_done(struct cellar_container_plan *plan)
{
    free(plan->body);
    *plan = (struct cellar_container_plan){0};
}
