/* config.json of a container: what container.json asks of Docker, in the words
 * of the OCI runtime specification. Every field has a row here; one that has
 * none is an error, so that no protection is lost on the way. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../json.h"
#include "oci.h"

#define OCI_VERSION "1.0.2"
#define PATH_ENTRY                                                             \
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Of CPU time: what Docker takes. */
#define CPU_PERIOD_US 100000

struct making {
    const struct cellar_container_spec *spec;
    json_t *config;
    struct cellar_error *err;
};

/* Puts `value` (taken) at "linux.resources"; false: out of memory. */
static bool put(struct making *m, const char *path, json_t *value)
{
    json_t *at = m->config;
    size_t len = strcspn(path, ".");
    for (; path[len]; path += len + 1, len = strcspn(path, ".")) {
        json_t *below = json_object_getn(at, path, len);
        if (!below) {
            below = json_object();
            if (json_object_setn_new(at, path, len, below) < 0) {
                json_decref(value);
                return false;
            }
        }
        at = below;
    }
    return value && json_object_set_new(at, path, value) == 0;
}

static bool append(struct making *m, const char *path, json_t *value)
{
    json_t *list = cellar_json_at(m->config, path);
    if (!list && !put(m, path, list = json_array())) {
        json_decref(value);
        return false;
    }
    return value && json_array_append_new(list, value) == 0;
}

static bool refuse(struct making *m, const char *why)
{
    cellar_fail(m->err, CELLAR_E_USAGE, "%s", why);
    return false;
}

/* --------------------------------------------------------- the process -- */

static bool put_user(struct making *m, const json_t *value)
{
    const char *text = json_string_value(value);
    char *end = NULL;
    unsigned long uid = text ? strtoul(text, &end, 10) : 0;
    unsigned long gid = uid && *end == ':' ? strtoul(end + 1, &end, 10) : 0;
    if (!uid || !gid || *end)
        return refuse(m, "container.json: User must be a uid and gid, not "
                         "root's");
    return put(m, "process.user",
               json_pack("{s:I, s:I, s:[]}", "uid", (json_int_t)uid, "gid",
                         (json_int_t)gid, "additionalGids"));
}

static bool put_hostname(struct making *m, const json_t *value)
{
    return put(m, "hostname", json_deep_copy(value));
}

/* Of the entrypoint, and behind it those of the command. */
static bool put_arguments(struct making *m, const json_t *value)
{
    size_t i = 0;
    json_t *one = NULL;
    json_array_foreach(value, i, one)
    {
        if (!append(m, "process.args", json_incref(one)))
            return false;
    }
    return true;
}

static bool put_folder(struct making *m, const json_t *value)
{
    return put(m, "process.cwd", json_deep_copy(value));
}

static bool put_environment(struct making *m, const json_t *value)
{
    json_t *all = json_deep_copy(value);
    bool made = all && json_array_append_new(all, json_string(PATH_ENTRY)) == 0;
    return put(m, "process.env", all) && made;
}

static bool put_no_capabilities(struct making *m, const json_t *value)
{
    const char *all = json_string_value(json_array_get(value, 0));
    if (json_array_size(value) != 1 || !all || strcmp(all, "ALL") != 0)
        return refuse(m, "container.json: CapDrop must be [\"ALL\"]");
    return put(m, "process.capabilities",
               json_pack("{s:[], s:[], s:[], s:[], s:[]}", "bounding",
                         "effective", "inheritable", "permitted", "ambient"));
}

static bool put_security(struct making *m, const json_t *value)
{
    size_t i = 0;
    json_t *option = NULL;
    json_t *profile = NULL;
    json_array_foreach(value, i, option)
    {
        const char *text = json_string_value(option);
        if (text && strcmp(text, "no-new-privileges:true") == 0) {
            if (!put(m, "process.noNewPrivileges", json_true()))
                return false;
        } else if (text && strncmp(text, "seccomp={", 9) == 0) {
            if (cellar_oci_seccomp(m->spec, &profile, m->err) ||
                !put(m, "linux.seccomp", profile))
                return false;
        } else {
            return refuse(m, "container.json: the oci engine knows no such "
                             "SecurityOpt");
        }
    }
    return true;
}

static bool put_ulimits(struct making *m, const json_t *value)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(value, i, row)
    {
        char name[32] = "RLIMIT_";
        size_t len = strlen(name);
        const char *of = json_string_value(json_object_get(row, "Name"));
        for (; of && *of && len < sizeof(name) - 1; of++)
            name[len++] = (char)(*of & ~0x20); /* ASCII, and lower case */
        name[len] = '\0';
        if (!append(m, "process.rlimits",
                    json_pack("{s:s, s:O, s:O}", "type", name, "soft",
                              json_object_get(row, "Soft"), "hard",
                              json_object_get(row, "Hard"))))
            return false;
    }
    return true;
}

/* ---------------------------------------------------------- namespaces -- */

static bool add_namespace(struct making *m, const char *type)
{
    return append(m, "linux.namespaces", json_pack("{s:s}", "type", type));
}

static bool put_ipc(struct making *m, const json_t *value)
{
    (void)value;
    return add_namespace(m, "ipc");
}

static bool put_pid(struct making *m, const json_t *value)
{
    (void)value;
    return add_namespace(m, "pid") && add_namespace(m, "mount");
}

static bool put_uts(struct making *m, const json_t *value)
{
    (void)value;
    return add_namespace(m, "uts");
}

static bool put_cgroup(struct making *m, const json_t *value)
{
    (void)value;
    return add_namespace(m, "cgroup");
}

/* A namespace that nothing was put in: not even the loopback is up. */
static bool put_network(struct making *m, const json_t *value)
{
    const char *name = json_string_value(value);
    if (!name || strcmp(name, "none") != 0) {
        cellar_fail(m->err, CELLAR_E_USAGE,
                    "the oci engine has no network '%.64s', only none: "
                    "networks are --engine docker's",
                    name ? name : "");
        return false;
    }
    return add_namespace(m, "network");
}

/* -------------------------------------------------------------- limits -- */

static bool put_memory(struct making *m, const json_t *value)
{
    return put(m, "linux.resources.memory.limit", json_deep_copy(value));
}

static bool put_swap(struct making *m, const json_t *value)
{
    return put(m, "linux.resources.memory.swap", json_deep_copy(value));
}

static bool put_pids(struct making *m, const json_t *value)
{
    return put(m, "linux.resources.pids.limit", json_deep_copy(value));
}

static bool put_cpu(struct making *m, const json_t *value)
{
    json_int_t nanos = json_integer_value(value);
    return put(m, "linux.resources.cpu",
               json_pack("{s:I, s:i}", "quota",
                         nanos / (1000000000 / CPU_PERIOD_US), "period",
                         CPU_PERIOD_US));
}

static bool put_sysctls(struct making *m, const json_t *value)
{
    return put(m, "linux.sysctl", json_deep_copy(value));
}

/* -------------------------------------------------------------- places -- */

/* Taken apart at the commas. */
static json_t *options_of(const char *text)
{
    json_t *all = json_array();
    while (all && *text) {
        size_t len = strcspn(text, ",");
        if (json_array_append_new(all, json_stringn(text, len)) < 0) {
            json_decref(all);
            return NULL;
        }
        text += len + (text[len] == ',');
    }
    return all;
}

static bool add_mount(struct making *m, const char *type, const char *source,
                      const char *target, const char *options)
{
    return append(m, "mounts",
                  json_pack("{s:s, s:s, s:s, s:o}", "destination", target,
                            "type", type, "source", source, "options",
                            options_of(options)));
}

static bool put_tmpfs(struct making *m, const json_t *value)
{
    const char *target = NULL;
    json_t *options = NULL;
    json_object_foreach((json_t *)value, target, options)
    {
        const char *text = json_string_value(options);
        if (!text || !add_mount(m, "tmpfs", "tmpfs", target, text))
            return false;
    }
    return true;
}

static bool put_mounts(struct making *m, const json_t *value)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(value, i, row)
    {
        const char *source = json_string_value(json_object_get(row, "Source"));
        const char *target = json_string_value(json_object_get(row, "Target"));
        bool reads = json_is_true(json_object_get(row, "ReadOnly"));
        if (access(source, F_OK) != 0) {
            cellar_fail(m->err, CELLAR_E_USAGE,
                        "mount \"%.200s\": there is no such folder", source);
            return false;
        }
        if (!add_mount(m, "bind", source, target,
                       reads ? "bind,ro,rprivate,nosuid,nodev"
                             : "bind,rw,rprivate,nosuid,nodev"))
            return false;
    }
    return true;
}

static bool put_masked(struct making *m, const json_t *value)
{
    return put(m, "linux.maskedPaths", json_deep_copy(value));
}

static bool put_readonly(struct making *m, const json_t *value)
{
    return put(m, "linux.readonlyPaths", json_deep_copy(value));
}

/* ----------------------------------------------------------- the table -- */

static bool put_nothing(struct making *m, const json_t *value)
{
    (void)m;
    (void)value;
    return true;
}

/* `is`: the one value (as JSON) that a container of this engine has, or can
 * have; NULL: any. */
static const struct row {
    const char *path;
    const char *is;
    bool (*put)(struct making *m, const json_t *value);
} rows[] = {
    {"Image", NULL, put_nothing},
    {"User", NULL, put_user},
    {"Hostname", NULL, put_hostname},
    {"Entrypoint", NULL, put_arguments},
    {"Cmd", NULL, put_arguments},
    {"Env", NULL, put_environment},
    {"WorkingDir", NULL, put_folder},
    {"Labels", NULL, put_nothing}, /* labels.json has them */
    {"Healthcheck", "{\"Test\": [\"NONE\"]}", put_nothing},
    {"Tty", "false", put_nothing},
    {"OpenStdin", "true", put_nothing},
    {"StdinOnce", "false", put_nothing},
    {"AttachStdin", "true", put_nothing},
    {"AttachStdout", "true", put_nothing},
    {"AttachStderr", "true", put_nothing},
    {"NetworkDisabled", NULL, put_nothing},
    {"HostConfig.AutoRemove", "false", put_nothing},
    {"HostConfig.Init", "false", put_nothing},
    {"HostConfig.Privileged", "false", put_nothing},
    {"HostConfig.CapDrop", NULL, put_no_capabilities},
    {"HostConfig.CapAdd", "[]", put_nothing},
    {"HostConfig.SecurityOpt", NULL, put_security},
    {"HostConfig.ReadonlyRootfs", "true", put_nothing},
    {"HostConfig.NetworkMode", NULL, put_network},
    {"HostConfig.PublishAllPorts", "false", put_nothing},
    {"HostConfig.PortBindings", "{}", put_nothing},
    {"HostConfig.IpcMode", "\"private\"", put_ipc},
    {"HostConfig.PidMode", "\"\"", put_pid},
    {"HostConfig.UTSMode", "\"\"", put_uts},
    {"HostConfig.CgroupnsMode", "\"private\"", put_cgroup},
    {"HostConfig.GroupAdd", "[]", put_nothing},
    {"HostConfig.Memory", NULL, put_memory},
    {"HostConfig.MemorySwap", NULL, put_swap},
    {"HostConfig.PidsLimit", NULL, put_pids},
    {"HostConfig.NanoCpus", NULL, put_cpu},
    {"HostConfig.OomKillDisable", "false", put_nothing},
    {"HostConfig.Ulimits", NULL, put_ulimits},
    {"HostConfig.Tmpfs", NULL, put_tmpfs},
    {"HostConfig.ShmSize", NULL, put_nothing}, /* Tmpfs has /dev/shm */
    {"HostConfig.Sysctls", NULL, put_sysctls},
    {"HostConfig.LogConfig", "{\"Type\": \"none\", \"Config\": {}}",
     put_nothing},
    {"HostConfig.RestartPolicy", "{\"Name\": \"no\", \"MaximumRetryCount\": 0}",
     put_nothing},
    {"HostConfig.Binds", "[]", put_nothing},
    {"HostConfig.Mounts", NULL, put_mounts},
    {"HostConfig.VolumesFrom", "[]", put_nothing},
    {"HostConfig.Devices", "[]", put_nothing},
    {"HostConfig.DeviceCgroupRules", "[]", put_nothing},
    {"HostConfig.DeviceRequests", "[]", put_nothing},
    {"HostConfig.MaskedPaths", NULL, put_masked},
    {"HostConfig.ReadonlyPaths", NULL, put_readonly},
    {"HostConfig.Runtime", NULL, put_nothing}, /* it is what is run */
};

static bool is_as_it_must_be(const struct row *row, const json_t *value)
{
    if (!row->is)
        return true;
    json_t *is = json_loads(row->is, JSON_DECODE_ANY, NULL);
    bool same = is && json_equal(is, value);
    json_decref(is);
    return same;
}

static bool put_field(struct making *m, const char *path, const json_t *value)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (strcmp(rows[i].path, path) != 0)
            continue;
        if (is_as_it_must_be(&rows[i], value))
            return rows[i].put(m, value);
        cellar_fail(m->err, CELLAR_E_USAGE,
                    "container.json: on the oci engine %s can only be %s", path,
                    rows[i].is);
        return false;
    }
    cellar_fail(m->err, CELLAR_E_USAGE,
                "container.json: the oci engine does not know the field %s",
                path);
    return false;
}

static bool put_fields(struct making *m, const json_t *body, const char *prefix)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)body, key, value)
    {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s%s", prefix, key);
        bool made = strcmp(path, "HostConfig") == 0
                        ? put_fields(m, value, "HostConfig.")
                        : put_field(m, path, value);
        if (!made)
            return false;
    }
    return true;
}

/* ------------------------------------------------- what every one has -- */

/* What the C library wants to know before it asks for large pages. */
static bool put_large_pages(struct making *m)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage";
    return access(path, F_OK) != 0 ||
           add_mount(m, "bind", path, path,
                     "bind,ro,rprivate,nosuid,noexec,nodev");
}

/* The machine has some thousand terminals in all: one container could have them
 * all, and all others none. */
#define TERMINALS "max=64"

/* What Docker mounts by itself; but of /sys only the container's own limits and
 * large pages, and no message queues. */
static bool put_systems(struct making *m)
{
    return add_mount(m, "proc", "proc", "/proc", "nosuid,noexec,nodev") &&
           add_mount(m, "tmpfs", "tmpfs", "/dev",
                     "nosuid,noexec,strictatime,mode=755,size=65536") &&
           add_mount(m, "devpts", "devpts", "/dev/pts",
                     "nosuid,noexec,newinstance,ptmxmode=0666,mode="
                     "0620," TERMINALS) &&
           add_mount(m, "cgroup", "cgroup", "/sys/fs/cgroup",
                     "nosuid,noexec,nodev,relatime,ro") &&
           put_large_pages(m);
}

static bool put_frame(struct making *m, const char *id)
{
    char group[64];
    (void)snprintf(group, sizeof(group), "/cellar/%s", id);
    return put(m, "ociVersion", json_string(OCI_VERSION)) &&
           put(m, "process.terminal", json_false()) &&
           put(m, "process.oomScoreAdj", json_integer(0)) &&
           put(m, "root.readonly", json_true()) &&
           put(m, "linux.rootfsPropagation", json_string("rprivate")) &&
           put(m, "linux.cgroupsPath", json_string(group)) &&
           put(m, "linux.resources.devices",
               json_pack("[{s:b, s:s}]", "allow", 0, "access", "rwm")) &&
           put_systems(m);
}

enum cellar_code cellar_oci_config(struct oci *oci,
                                   const struct cellar_launch *launch,
                                   const char *id, json_t **out,
                                   struct cellar_error *err)
{
    struct cellar_container_spec *spec = NULL;
    struct cellar_container_plan plan = {.body = NULL};
    struct cellar_error why = {.code = CELLAR_OK};
    enum cellar_code code = cellar_oci_files(oci, &spec, err);
    if (!code)
        code = cellar_container_plan_init(&plan, spec, launch, err);
    if (code)
        return code;
    json_t *body = cellar_json_parse(plan.body, strlen(plan.body), 0, NULL);
    cellar_container_plan_done(&plan);
    struct making m = {.spec = spec, .config = json_object(), .err = &why};
    bool made =
        body && m.config && put_frame(&m, id) && put_fields(&m, body, "");
    json_decref(body);
    if (made) {
        *out = m.config;
        return CELLAR_OK;
    }
    json_decref(m.config);
    if (!why.code)
        cellar_fail(&why, CELLAR_E_NOMEM, "config.json: out of memory");
    *err = why;
    return why.code;
}
