/* What the runtime made of config.json, as the kernel shows it of the
 * container's first process: believed is what is in force, not what was asked
 * for. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../cgroup.h"
#include "look.h"

#define LINE_BYTES 4096

const char *cellar_oci_wrong(struct oci_look *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(l->wrong, sizeof(l->wrong), fmt, args);
    va_end(args);
    return l->wrong;
}

FILE *cellar_oci_look_open(const struct oci_look *l, const char *name)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "/proc/%ld/%s", (long)l->pid, name);
    return fopen(path, "re");
}

/* Behind "CapEff:" and its blanks, up to the end of the line. */
bool cellar_oci_look_status(const struct oci_look *l, const char *key,
                            char *text, size_t size)
{
    char begin[32];
    (void)snprintf(begin, sizeof(begin), "\n%s:", key);
    const char *at = strstr(l->status, begin);
    if (!at)
        return false;
    at += strlen(begin);
    at += strspn(at, " \t");
    (void)snprintf(text, size, "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

static json_int_t wanted(const struct oci_look *l, const char *path)
{
    return json_integer_value(cellar_json_at(l->config, path));
}

/* ------------------------------------------------------------- process -- */

static const char *check_ids(struct oci_look *l, const char *key,
                             json_int_t wanted_id)
{
    char text[128];
    if (!cellar_oci_look_status(l, key, text, sizeof(text)))
        return cellar_oci_wrong(l, "its %s can't be read", key);
    char *end = text;
    for (int i = 0; i < 4; i++) { /* real, effective, saved, of files */
        long long id = strtoll(end, &end, 10);
        if (id != (long long)wanted_id)
            return cellar_oci_wrong(l, "its %s is %lld, not %lld", key, id,
                                    (long long)wanted_id);
    }
    return NULL;
}

static const char *check_user(struct oci_look *l)
{
    char text[128];
    uint64_t uid = cellar_oci_host_id(l->config, "uidMappings",
                                      (uint64_t)wanted(l, "process.user.uid"));
    uint64_t gid = cellar_oci_host_id(l->config, "gidMappings",
                                      (uint64_t)wanted(l, "process.user.gid"));
    const char *fault = check_ids(l, "Uid", (json_int_t)uid);
    if (!fault)
        fault = check_ids(l, "Gid", (json_int_t)gid);
    if (fault)
        return fault;
    if (uid == geteuid())
        return cellar_oci_wrong(l, "it runs under this user's own uid");
    /* A plain user can't give up groups; inside they are of nothing. */
    if (geteuid() != 0)
        return NULL;
    if (!cellar_oci_look_status(l, "Groups", text, sizeof(text)) || *text)
        return cellar_oci_wrong(l, "it is in the groups %.60s", text);
    return NULL;
}

static const char *check_init(struct oci_look *l)
{
    char text[128];
    if (!cellar_oci_look_status(l, "NSpid", text, sizeof(text)))
        return cellar_oci_wrong(l, "its number inside can't be read");
    const char *last = strrchr(text, '\t');
    return last && strcmp(last, "\t1") == 0
               ? NULL
               : cellar_oci_wrong(l, "the agent is not process 1 inside");
}

static const char *check_capabilities(struct oci_look *l)
{
    static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd",
                                       "CapAmb"};
    char text[64];
    for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++)
        if (!cellar_oci_look_status(l, sets[i], text, sizeof(text)) ||
            strspn(text, "0") != strlen(text))
            return cellar_oci_wrong(l, "%s is %s, not empty", sets[i], text);
    return NULL;
}

const char *cellar_oci_check_filters(struct oci_look *l)
{
    char text[16];
    if (!cellar_oci_look_status(l, "NoNewPrivs", text, sizeof(text)) ||
        strcmp(text, "1") != 0)
        return cellar_oci_wrong(l, "new privileges are not ruled out");
    if (!cellar_oci_look_status(l, "Seccomp", text, sizeof(text)) ||
        strcmp(text, "2") != 0)
        return cellar_oci_wrong(l, "no filter of system calls is in force");
    return NULL;
}

/* ---------------------------------------------------------- namespaces -- */

/* Not the host's own. What can't be read (a plain user, looking at an agent
 * that lets nobody look) is told by `readable`. */
const char *cellar_oci_check_namespace(struct oci_look *l, const char *name)
{
    char path[64];
    struct stat ours;
    struct stat theirs;
    (void)snprintf(path, sizeof(path), "/proc/%ld/ns/%s", (long)l->pid, name);
    int failed = stat(path, &theirs);
    (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
    if (failed != 0)
        return errno == EACCES || errno == EPERM
                   ? NULL
                   : cellar_oci_wrong(l, "its %s namespace can't be looked at",
                                      name);
    if (stat(path, &ours) != 0)
        return cellar_oci_wrong(l, "the kernel has no %s namespaces", name);
    return ours.st_ino == theirs.st_ino
               ? cellar_oci_wrong(l, "it shares the host's %s namespace", name)
               : NULL;
}

static const char *check_namespaces(struct oci_look *l)
{
    static const char *const names[] = {"ipc", "pid", "uts", "mnt", "cgroup"};
    const char *fault = NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !fault; i++)
        fault = cellar_oci_check_namespace(l, names[i]);
    return fault;
}

/* Two lines of headings; then an interface each. */
const char *cellar_oci_check_network(struct oci_look *l)
{
    char line[LINE_BYTES];
    const char *fault = cellar_oci_check_namespace(l, "net");
    FILE *file = fault ? NULL : cellar_oci_look_open(l, "net/dev");
    for (int i = 0; file && !fault && fgets(line, sizeof(line), file); i++) {
        char *name = line + strspn(line, " ");
        name[strcspn(name, ":")] = '\0';
        /* Tunnels that some kernels give to every namespace are down. */
        if (i >= 2 && strcmp(name, "lo") != 0 && !strstr(name, "tun") &&
            !strstr(name, "sit") && !strstr(name, "gre") &&
            !strstr(name, "vti") && !strstr(name, "ip6") &&
            !strstr(name, "erspan"))
            fault =
                cellar_oci_wrong(l, "it has the network interface %.40s", name);
    }
    if (file)
        (void)fclose(file);
    return fault;
}

/* -------------------------------------------------------------- limits -- */

/* Of a user who has no groups there was nothing to ask for. */
static bool is_limited(const struct oci_look *l)
{
    return cellar_json_at(l->config, "linux.resources") != NULL;
}

static const char *check_group(struct oci_look *l, const char *controller,
                               const char *v1, const char *v2,
                               uint64_t expected)
{
    uint64_t is = 0;
    if (!is_limited(l))
        return cellar_oci_wrong(l,
                                "this user has no control groups of its own");
    if (!cellar_cgroup_number(l->pid, controller, l->id, v1, v2, &is))
        return cellar_oci_wrong(
            l, "it is in no control group of its own for %s", controller);
    /* The kernel counts memory in pages. */
    if (is / 65536 == expected / 65536 && (expected >= 65536 || is == expected))
        return NULL;
    return cellar_oci_wrong(l, "%s is %" PRIu64 ", not %" PRIu64, v1, is,
                            expected);
}

const char *cellar_oci_check_memory(struct oci_look *l)
{
    return check_group(l, "memory", "memory.limit_in_bytes", "memory.max",
                       (uint64_t)wanted(l, "linux.resources.memory.limit"));
}

const char *cellar_oci_check_swap(struct oci_look *l)
{
    uint64_t memory = (uint64_t)wanted(l, "linux.resources.memory.limit");
    uint64_t both = (uint64_t)wanted(l, "linux.resources.memory.swap");
    /* v1 counts them together, v2 apart. */
    if (cellar_cgroup_is_v2(l->pid, "memory", l->id))
        return check_group(l, "memory", "memory.swap.max", "memory.swap.max",
                           both - memory);
    return check_group(l, "memory", "memory.memsw.limit_in_bytes",
                       "memory.swap.max", both);
}

const char *cellar_oci_check_pids(struct oci_look *l)
{
    return check_group(l, "pids", "pids.max", "pids.max",
                       (uint64_t)wanted(l, "linux.resources.pids.limit"));
}

const char *cellar_oci_check_cpu(struct oci_look *l)
{
    return check_group(l, "cpu", "cpu.cfs_quota_us", "cpu.max",
                       (uint64_t)wanted(l, "linux.resources.cpu.quota"));
}

/* As /proc/PID/limits names them. */
static const struct {
    const char *type;
    const char *text;
} limits[] = {
    {"RLIMIT_CORE", "Max core file size"},
    {"RLIMIT_MEMLOCK", "Max locked memory"},
    {"RLIMIT_MSGQUEUE", "Max msgqueue size"},
    {"RLIMIT_NOFILE", "Max open files"},
    {"RLIMIT_SIGPENDING", "Max pending signals"},
};

/* "unlimited" is none that anybody asks for. */
static bool is_limit(const char *numbers, const json_t *row)
{
    char *end = NULL;
    unsigned long long soft = strtoull(numbers, &end, 10);
    unsigned long long hard = strtoull(end, NULL, 10);
    numbers += strspn(numbers, " ");
    return *numbers >= '0' && *numbers <= '9' &&
           soft == (unsigned long long)json_integer_value(
                       json_object_get(row, "soft")) &&
           hard == (unsigned long long)json_integer_value(
                       json_object_get(row, "hard"));
}

static const char *check_limit(struct oci_look *l, const char *text,
                               const json_t *row)
{
    char line[LINE_BYTES];
    bool same = false;
    FILE *file = cellar_oci_look_open(l, "limits");
    size_t len = strlen(text);
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, text, len) == 0)
            same = is_limit(line + len, row);
    if (file)
        (void)fclose(file);
    return same ? NULL : cellar_oci_wrong(l, "%s is another one", text);
}

static const char *check_ulimits(struct oci_look *l)
{
    const char *fault = NULL;
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(cellar_json_at(l->config, "process.rlimits"), i, row)
    {
        const char *type = json_string_value(json_object_get(row, "type"));
        const char *text = NULL;
        for (size_t k = 0; k < sizeof(limits) / sizeof(*limits); k++)
            if (type && strcmp(limits[k].type, type) == 0)
                text = limits[k].text;
        if (!fault)
            fault = text ? check_limit(l, text, row)
                         : cellar_oci_wrong(l, "nobody knows how to look at %s",
                                            type ? type : "?");
    }
    return fault;
}

/* ----------------------------------------------------------- the table -- */

static const struct oci_check checks[] = {
    {"user", check_user},
    {"init", check_init},
    {"capabilities", check_capabilities},
    {"seccomp", cellar_oci_check_filters},
    {"read_only", cellar_oci_check_read_only},
    {"mounts", cellar_oci_check_mounts},
    {"network", cellar_oci_check_network},
    {"namespaces", check_namespaces},
    {"swap", cellar_oci_check_swap},
    {"memory", cellar_oci_check_memory},
    {"pids", cellar_oci_check_pids},
    {"cpu", cellar_oci_check_cpu},
    {"ulimits", check_ulimits},
    {"tmpfs", cellar_oci_check_tmpfs},
};

bool cellar_oci_look_read(struct oci_look *l)
{
    FILE *file = cellar_oci_look_open(l, "status");
    size_t n = file ? fread(l->status, 1, sizeof(l->status) - 1, file) : 0;
    l->status[n] = '\0';
    if (file)
        (void)fclose(file);
    return n > 0;
}

bool cellar_oci_verify(const struct oci_made *made, oci_verified_fn *each,
                       void *user)
{
    bool sandbox = made->runtime->kind == OCI_RUNSC;
    size_t count = sizeof(checks) / sizeof(*checks);
    const struct oci_check *all =
        sandbox ? cellar_oci_sandbox_checks(&count) : checks;
    json_t *told =
        sandbox ? cellar_oci_sandbox_told(made->oci, made->id) : NULL;
    struct oci_look look = {
        .pid = made->born->pid,
        .id = made->id,
        .config = made->config,
        .runtime = made->runtime,
        .told = told,
        .gofer = (pid_t)json_integer_value(json_object_get(told, "goferPid"))};
    bool read = cellar_oci_look_read(&look);
    bool settled = read && !cellar_oci_check_filters(&look);
    for (size_t i = 0; i < count; i++)
        each(user, all[i].protection,
             read ? all[i].check(&look) : "it can't be looked at");
    json_decref(told);
    return settled && cellar_oci_lives(made->born);
}
