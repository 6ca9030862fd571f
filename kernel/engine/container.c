#include "container.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "../fail.h"
#include "../json.h"

/* Larger than either file can sensibly be. */
#define FILE_BYTES_MAX (1u << 20)

struct cellar_container_spec {
    json_t *container;
    json_t *protections;
    char *seccomp; /* "seccomp={...}", one of SecurityOpt */
};

/* What a container can't be without, whatever the file says. */
static const char *const required[] = {
    "user",      "init",   "agent",   "capabilities", "seccomp",
    "read_only", "mounts", "network", "namespaces",   "swap",
    "memory",    "pids",   "cpu",     "ulimits",      "tmpfs",
    "sysctls",   "log",    "life",    "kernel",
};

/* --------------------------------------------------------------- files -- */

/* JSON has no comments: "// ..." keys are ours. */
static void drop_remarks(json_t *value)
{
    const char *key = NULL;
    void *next = NULL;
    json_t *member = NULL;
    size_t i = 0;
    json_array_foreach(value, i, member) drop_remarks(member);
    json_object_foreach_safe(value, next, key, member)
    {
        if (strncmp(key, "//", 2) == 0)
            json_object_del(value, key);
        else
            drop_remarks(member);
    }
}

static enum cellar_code load_file(const char *dir, const char *name,
                                  json_t **out, struct cellar_error *err)
{
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return cellar_fail(err, CELLAR_E_USAGE, "data folder: path too long");
    FILE *file = fopen(path, "re");
    if (!file)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "cannot read %s (%s): set CELLAR_DATA_DIR to where "
                           "Cellar's share folder is",
                           path, strerror(errno));
    json_error_t wrong;
    json_t *value = cellar_json_read(file, JSON_REJECT_DUPLICATES, &wrong);
    fclose(file);
    if (!value && cellar_json_starved(&wrong))
        return cellar_fail(err, CELLAR_E_NOMEM, "%s: out of memory", path);
    if (!json_is_object(value)) {
        json_decref(value);
        return cellar_fail(err, CELLAR_E_USAGE, "%s is damaged: line %d: %s",
                           path, value ? 1 : wrong.line,
                           value ? "no object" : wrong.text);
    }
    drop_remarks(value);
    *out = value;
    return CELLAR_OK;
}

static enum cellar_code load_seccomp(const char *dir, char **out,
                                     struct cellar_error *err)
{
    json_t *profile = NULL;
    enum cellar_code code = load_file(dir, "seccomp.json", &profile, err);
    if (code)
        return code;
    const char *action =
        json_string_value(json_object_get(profile, "defaultAction"));
    bool refuses = action && strcmp(action, "SCMP_ACT_ERRNO") == 0;
    char *text = cellar_json_text(profile, JSON_COMPACT);
    json_decref(profile);
    if (!refuses) {
        free(text);
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%s/seccomp.json must refuse what it does not "
                           "name: defaultAction SCMP_ACT_ERRNO",
                           dir);
    }
    int len = text ? asprintf(out, "seccomp=%s", text) : -1;
    free(text);
    if (len >= 0)
        return CELLAR_OK;
    *out = NULL;
    return cellar_fail(err, CELLAR_E_NOMEM, "seccomp.json: out of memory");
}

/* The protection `name` of the file; NULL: there is none. */
static json_t *find_protection(const json_t *protections, const char *name)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(protections, i, row)
    {
        const char *is = json_string_value(json_object_get(row, "name"));
        if (is && strcmp(is, name) == 0)
            return row;
    }
    return NULL;
}

static const char *missing_field(const json_t *container, const json_t *row)
{
    size_t i = 0;
    json_t *field = NULL;
    json_array_foreach(json_object_get(row, "fields"), i, field)
    {
        const char *path = json_string_value(field);
        if (!path || !cellar_json_at(container, path))
            return path ? path : "?";
    }
    return NULL;
}

static enum cellar_code check_spec(const struct cellar_container_spec *spec,
                                   const char *dir, struct cellar_error *err)
{
    for (size_t i = 0; i < sizeof(required) / sizeof(*required); i++) {
        json_t *row = find_protection(spec->protections, required[i]);
        if (!row)
            return cellar_fail(err, CELLAR_E_USAGE,
                               "%s/container.json is damaged: no protection "
                               "\"%s\"",
                               dir, required[i]);
        const char *missing = missing_field(spec->container, row);
        if (missing)
            return cellar_fail(err, CELLAR_E_USAGE,
                               "%s/container.json is damaged: no field %s, "
                               "which the protection \"%s\" needs",
                               dir, missing, required[i]);
    }
    return CELLAR_OK;
}

static enum cellar_code load_spec(struct cellar_container_spec *spec,
                                  const char *dir, struct cellar_error *err)
{
    json_t *file = NULL;
    enum cellar_code code = load_file(dir, "container.json", &file, err);
    if (code)
        return code;
    spec->container = json_incref(json_object_get(file, "container"));
    spec->protections = json_incref(json_object_get(file, "protections"));
    json_decref(file);
    code = check_spec(spec, dir, err);
    return code ? code : load_seccomp(dir, &spec->seccomp, err);
}

enum cellar_code cellar_container_spec_load(const char *data_dir,
                                            struct cellar_container_spec **out,
                                            struct cellar_error *err)
{
    struct cellar_container_spec *spec = calloc(1, sizeof(*spec));
    if (!spec)
        return cellar_fail(err, CELLAR_E_NOMEM, "spec: out of memory");
    enum cellar_code code = load_spec(spec, data_dir, err);
    if (code) {
        cellar_container_spec_free(spec);
        return code;
    }
    *out = spec;
    return CELLAR_OK;
}

void cellar_container_spec_free(struct cellar_container_spec *spec)
{
    if (!spec)
        return;
    json_decref(spec->container);
    json_decref(spec->protections);
    free(spec->seccomp);
    free(spec);
}

const json_t *
cellar_container_spec_container(const struct cellar_container_spec *spec)
{
    return spec->container;
}

const char *
cellar_container_spec_seccomp(const struct cellar_container_spec *spec)
{
    return spec->seccomp;
}

const json_t *
cellar_container_spec_protections(const struct cellar_container_spec *spec)
{
    return spec->protections;
}

const char *cellar_container_spec_text(const struct cellar_container_spec *spec,
                                       const char *name)
{
    const json_t *row = find_protection(spec->protections, name);
    return json_string_value(json_object_get(row, "text"));
}

/* ------------------------------------------------------------ warnings -- */

static bool mentions(const json_t *row, const char *warning)
{
    size_t i = 0;
    json_t *words = NULL;
    json_array_foreach(json_object_get(row, "warnings"), i, words)
    {
        const char *word = json_string_value(words);
        if (word && strcasestr(warning, word))
            return true;
    }
    return false;
}

const char *
cellar_container_spec_warned(const struct cellar_container_spec *spec,
                             const char *warning)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cellar_container_spec_protections(spec), i, row)
    {
        if (mentions(row, warning))
            return json_string_value(json_object_get(row, "name"));
    }
    return NULL;
}

bool cellar_container_allowed(const struct cellar_spec *spec, const char *name)
{
    for (size_t i = 0; i < CELLAR_ALLOW_MAX; i++)
        if (spec->allow[i] && strcmp(spec->allow[i], name) == 0)
            return true;
    return false;
}
