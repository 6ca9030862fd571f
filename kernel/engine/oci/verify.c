/* What the runtime made of config.json, as the kernel shows it of the
 * container's first process: believed is what is in force, not what was asked
 * for. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../cgroup.h"
#include "../docker/verify.h"
#include "oci.h"

#define LINE_BYTES 4096
#define WRONG_MAX  160

/* Of config.json, and of what a user may add to it. */
#define MOUNTS_MAX 64

struct look {
    pid_t pid;
    const char *id;
    const json_t *config;
    char status[8192];      /* /proc/PID/status */
    bool there[MOUNTS_MAX]; /* which of the mounts asked for */
    char wrong[WRONG_MAX];
};

CELLAR_PRINTF(2, 3)
static const char *wrong(struct look *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(l->wrong, sizeof(l->wrong), fmt, args);
    va_end(args);
    return l->wrong;
}

static FILE *open_file(const struct look *l, const char *name)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "/proc/%ld/%s", (long)l->pid, name);
    return fopen(path, "re");
}

/* Behind "CapEff:" and its blanks, up to the end of the line. */
static bool status_of(const struct look *l, const char *key, char *text,
                      size_t size)
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

static json_int_t wanted(const struct look *l, const char *path)
{
    return json_integer_value(cellar_json_at(l->config, path));
}

/* ------------------------------------------------------------- process -- */

static const char *check_ids(struct look *l, const char *key,
                             json_int_t wanted_id)
{
    char text[128];
    if (!status_of(l, key, text, sizeof(text)))
        return wrong(l, "its %s can't be read", key);
    char *end = text;
    for (int i = 0; i < 4; i++) { /* real, effective, saved, of files */
        long long id = strtoll(end, &end, 10);
        if (id != (long long)wanted_id)
            return wrong(l, "its %s is %lld, not %lld", key, id,
                         (long long)wanted_id);
    }
    return NULL;
}

static const char *check_user(struct look *l)
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
        return wrong(l, "it runs under this user's own uid");
    /* A plain user can't give up groups; inside they are of nothing. */
    if (geteuid() != 0)
        return NULL;
    if (!status_of(l, "Groups", text, sizeof(text)) || *text)
        return wrong(l, "it is in the groups %.60s", text);
    return NULL;
}

static const char *check_init(struct look *l)
{
    char text[128];
    if (!status_of(l, "NSpid", text, sizeof(text)))
        return wrong(l, "its number inside can't be read");
    const char *last = strrchr(text, '\t');
    return last && strcmp(last, "\t1") == 0
               ? NULL
               : wrong(l, "the agent is not process 1 inside");
}

static const char *check_capabilities(struct look *l)
{
    static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd",
                                       "CapAmb"};
    char text[64];
    for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++)
        if (!status_of(l, sets[i], text, sizeof(text)) ||
            strspn(text, "0") != strlen(text))
            return wrong(l, "%s is %s, not empty", sets[i], text);
    return NULL;
}

static const char *check_seccomp(struct look *l)
{
    char text[16];
    if (!status_of(l, "NoNewPrivs", text, sizeof(text)) ||
        strcmp(text, "1") != 0)
        return wrong(l, "new privileges are not ruled out");
    if (!status_of(l, "Seccomp", text, sizeof(text)) || strcmp(text, "2") != 0)
        return wrong(l, "no filter of system calls is in force");
    return NULL;
}

/* ---------------------------------------------------------- namespaces -- */

/* Not the host's own. What can't be read (a plain user, looking at an agent
 * that lets nobody look) is told by `readable`. */
static const char *check_namespace(struct look *l, const char *name)
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
                   : wrong(l, "its %s namespace can't be looked at", name);
    if (stat(path, &ours) != 0)
        return wrong(l, "the kernel has no %s namespaces", name);
    return ours.st_ino == theirs.st_ino
               ? wrong(l, "it shares the host's %s namespace", name)
               : NULL;
}

static const char *check_namespaces(struct look *l)
{
    static const char *const names[] = {"ipc", "pid", "uts", "mnt", "cgroup"};
    const char *fault = NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !fault; i++)
        fault = check_namespace(l, names[i]);
    return fault;
}

/* Two lines of headings; then an interface each. */
static const char *check_network(struct look *l)
{
    char line[LINE_BYTES];
    const char *fault = check_namespace(l, "net");
    FILE *file = fault ? NULL : open_file(l, "net/dev");
    for (int i = 0; file && !fault && fgets(line, sizeof(line), file); i++) {
        char *name = line + strspn(line, " ");
        name[strcspn(name, ":")] = '\0';
        /* Tunnels that some kernels give to every namespace are down. */
        if (i >= 2 && strcmp(name, "lo") != 0 && !strstr(name, "tun") &&
            !strstr(name, "sit") && !strstr(name, "gre") &&
            !strstr(name, "vti") && !strstr(name, "ip6") &&
            !strstr(name, "erspan"))
            fault = wrong(l, "it has the network interface %.40s", name);
    }
    if (file)
        (void)fclose(file);
    return fault;
}

/* -------------------------------------------------------------- limits -- */

/* Of a user who has no groups there was nothing to ask for. */
static bool is_limited(const struct look *l)
{
    return cellar_json_at(l->config, "linux.resources") != NULL;
}

static const char *check_group(struct look *l, const char *controller,
                               const char *v1, const char *v2,
                               uint64_t expected)
{
    uint64_t is = 0;
    if (!is_limited(l))
        return wrong(l, "this user has no control groups of its own");
    if (!cellar_cgroup_number(l->pid, controller, l->id, v1, v2, &is))
        return wrong(l, "it is in no control group of its own for %s",
                     controller);
    /* The kernel counts memory in pages. */
    if (is / 65536 == expected / 65536 && (expected >= 65536 || is == expected))
        return NULL;
    return wrong(l, "%s is %" PRIu64 ", not %" PRIu64, v1, is, expected);
}

static const char *check_memory(struct look *l)
{
    return check_group(l, "memory", "memory.limit_in_bytes", "memory.max",
                       (uint64_t)wanted(l, "linux.resources.memory.limit"));
}

static const char *check_swap(struct look *l)
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

static const char *check_pids(struct look *l)
{
    return check_group(l, "pids", "pids.max", "pids.max",
                       (uint64_t)wanted(l, "linux.resources.pids.limit"));
}

static const char *check_cpu(struct look *l)
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

static const char *check_limit(struct look *l, const char *text,
                               const json_t *row)
{
    char line[LINE_BYTES];
    bool same = false;
    FILE *file = open_file(l, "limits");
    size_t len = strlen(text);
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, text, len) == 0)
            same = is_limit(line + len, row);
    if (file)
        (void)fclose(file);
    return same ? NULL : wrong(l, "%s is another one", text);
}

static const char *check_ulimits(struct look *l)
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
                         : wrong(l, "nobody knows how to look at %s",
                                 type ? type : "?");
    }
    return fault;
}

/* -------------------------------------------------------------- mounts -- */

struct mount {
    char place[1024];
    char options[256];
    char type[64];
    char super[512];
};

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* In place: what would end a field the kernel tells as \040 and the like. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at; to++) {
        bool coded = at[0] == '\\' && is_octal(at[1]) && is_octal(at[2]) &&
                     is_octal(at[3]);
        *to =
            coded
                ? (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'))
                : *at;
        at += coded ? 4 : 1;
    }
    *to = '\0';
}

/* A line: ids, a device, a root, the place, options, fields up to "-", type,
 * source, options of the file system. */
static bool parse_mount(char *line, struct mount *mount)
{
    const char *dash = strstr(line, " - ");
    if (!dash ||
        sscanf(line, "%*s %*s %*s %*s %1023s %255s", mount->place,
               mount->options) != 2 ||
        sscanf(dash, " - %63s %*s %511s", mount->type, mount->super) != 2)
        return false;
    unescape(mount->place);
    return true;
}

/* Whether `option` is one of those between commas. */
static bool has_option(const char *options, const char *option)
{
    size_t len = strlen(option);
    for (const char *at = options; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, option, len) == 0 &&
            (at[len] == ',' || at[len] == '\0'))
            return true;
    }
    return false;
}

static const json_t *find_wanted(const struct look *l, const char *place)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(l->config, "mounts"), i, row)
    {
        const char *target =
            json_string_value(json_object_get(row, "destination"));
        if (target && strcmp(target, place) == 0)
            return row;
    }
    return NULL;
}

static void note_there(struct look *l, const char *place)
{
    const json_t *rows = json_object_get(l->config, "mounts");
    for (size_t i = 0; i < json_array_size(rows) && i < MOUNTS_MAX; i++) {
        const char *target = json_string_value(
            json_object_get(json_array_get(rows, i), "destination"));
        l->there[i] |= target && strcmp(target, place) == 0;
    }
}

/* A root file system's link may have led one of them elsewhere, over something
 * that was looked at; the place it was meant for is empty then. */
static const char *check_there(struct look *l)
{
    const json_t *rows = json_object_get(l->config, "mounts");
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (i >= MOUNTS_MAX || !l->there[i])
            return wrong(l, "nothing is mounted at %.100s",
                         json_string_value(json_object_get(
                             json_array_get(rows, i), "destination")));
    return NULL;
}

static bool is_listed(const json_t *list, const char *place)
{
    size_t i = 0;
    json_t *one = NULL;
    json_array_foreach(list, i, one)
    {
        const char *text = json_string_value(one);
        if (text && strcmp(text, place) == 0)
            return true;
    }
    return false;
}

/* What a runtime mounts to hide, to protect, or to give a device. /proc and
 * /dev are fresh, so nothing else can be seen below; /sys is the root file
 * system's own, and may have come with mounts of the host's. */
static bool is_runtimes_own(const struct look *l, const struct mount *mount)
{
    static const char groups[] = "/sys/fs/cgroup/";
    if (strncmp(mount->place, "/proc/", 6) == 0 ||
        strncmp(mount->place, "/dev/", 5) == 0)
        return true;
    if (strncmp(mount->place, groups, strlen(groups)) == 0)
        return strncmp(mount->type, "cgroup", 6) == 0 &&
               has_option(mount->options, "ro");
    return is_listed(cellar_json_at(l->config, "linux.maskedPaths"),
                     mount->place);
}

static bool row_has(const json_t *row, const char *option)
{
    return is_listed(json_object_get(row, "options"), option);
}

static const char *check_row(struct look *l, const struct mount *mount,
                             const json_t *row)
{
    static const char *const flags[] = {"ro", "nosuid", "nodev", "noexec"};
    /* Of several hierarchies each is read-only, and the folder they are in is
     * an empty one of root's. */
    const char *type = json_string_value(json_object_get(row, "type"));
    bool shelf = type && strcmp(type, "cgroup") == 0 &&
                 strcmp(mount->type, "tmpfs") == 0;
    for (size_t i = shelf; i < sizeof(flags) / sizeof(*flags); i++)
        if (row_has(row, flags[i]) && !has_option(mount->options, flags[i]))
            return wrong(l, "%.60s is mounted without %s", mount->place,
                         flags[i]);
    return NULL;
}

/* Every mount is one that was asked for, as it was asked for. */
static const char *check_one(struct look *l, const struct mount *mount)
{
    const json_t *row = find_wanted(l, mount->place);
    note_there(l, mount->place);
    if (row)
        return check_row(l, mount, row);
    if (strcmp(mount->place, "/") == 0)
        return has_option(mount->options, "ro")
                   ? NULL
                   : wrong(l, "the root file system is not read-only");
    return is_runtimes_own(l, mount)
               ? NULL
               : wrong(l, "%.100s is mounted, which nobody asked for",
                       mount->place);
}

static const char *each_mount(struct look *l,
                              const char *(*check)(struct look *,
                                                   const struct mount *))
{
    char line[LINE_BYTES];
    struct mount mount;
    const char *fault = NULL;
    FILE *file = open_file(l, "mountinfo");
    if (!file)
        return wrong(l, "its mounts can't be looked at");
    while (!fault && fgets(line, sizeof(line), file))
        fault = parse_mount(line, &mount)
                    ? check(l, &mount)
                    : wrong(l, "one of its mounts can't be understood");
    (void)fclose(file);
    return fault;
}

static const char *check_mounts(struct look *l)
{
    memset(l->there, 0, sizeof(l->there));
    const char *fault = each_mount(l, check_one);
    return fault ? fault : check_there(l);
}

static bool mounted(struct look *l, const char *place, struct mount *mount)
{
    char line[LINE_BYTES];
    bool found = false;
    FILE *file = open_file(l, "mountinfo");
    while (file && fgets(line, sizeof(line), file)) {
        struct mount one;
        if (parse_mount(line, &one) && strcmp(one.place, place) == 0) {
            *mount = one; /* the last one is on top */
            found = true;
        }
    }
    if (file)
        (void)fclose(file);
    return found;
}

/* What is there on the host is there inside, unless something lies over it. */
static const char *check_covered(struct look *l, const char *list)
{
    size_t i = 0;
    json_t *one = NULL;
    struct mount mount;
    json_array_foreach(cellar_json_at(l->config, list), i, one)
    {
        const char *place = json_string_value(one);
        if (!place || strncmp(place, "/proc/", 6) != 0 ||
            access(place, F_OK) != 0)
            continue;
        if (!mounted(l, place, &mount))
            return wrong(l, "%s is open", place);
        if (!has_option(mount.options, "ro") &&
            strcmp(mount.type, "tmpfs") != 0 &&
            strcmp(mount.type, "devtmpfs") != 0)
            return wrong(l, "%s can be written", place);
    }
    return NULL;
}

static const char *check_read_only(struct look *l)
{
    struct mount root;
    if (!mounted(l, "/", &root) || !has_option(root.options, "ro"))
        return wrong(l, "the root file system is not read-only");
    const char *fault = check_covered(l, "linux.maskedPaths");
    return fault ? fault : check_covered(l, "linux.readonlyPaths");
}

/* "size=65536k" of what was asked for as bytes. */
static const char *check_tmpfs_at(struct look *l, const char *place)
{
    struct mount mount;
    const json_t *row = find_wanted(l, place);
    if (!row || !mounted(l, place, &mount) || strcmp(mount.type, "tmpfs") != 0)
        return wrong(l, "%s is no tmpfs", place);
    size_t i = 0;
    json_t *one = NULL;
    json_array_foreach(json_object_get(row, "options"), i, one)
    {
        const char *text = json_string_value(one);
        char expected[64];
        if (!text)
            return wrong(l, "an option of %s is no text", place);
        if (strncmp(text, "size=", 5) == 0)
            (void)snprintf(expected, sizeof(expected), "size=%" PRIu64 "k",
                           (uint64_t)(strtoull(text + 5, NULL, 10) + 1023) /
                               1024);
        else
            (void)snprintf(expected, sizeof(expected), "%s", text);
        bool counts = strncmp(text, "size=", 5) == 0 ||
                      strncmp(text, "nr_inodes=", 10) == 0;
        if (counts && !has_option(mount.super, expected))
            return wrong(l, "%s has not %s", place, expected);
    }
    return NULL;
}

static const char *check_tmpfs(struct look *l)
{
    const char *fault = check_tmpfs_at(l, "/tmp");
    return fault ? fault : check_tmpfs_at(l, "/dev/shm");
}

/* ----------------------------------------------------------- the table -- */

static const struct {
    const char *protection;
    const char *(*check)(struct look *l);
} checks[] = {
    {"user", check_user},
    {"init", check_init},
    {"capabilities", check_capabilities},
    {"seccomp", check_seccomp},
    {"read_only", check_read_only},
    {"mounts", check_mounts},
    {"network", check_network},
    {"namespaces", check_namespaces},
    {"swap", check_swap},
    {"memory", check_memory},
    {"pids", check_pids},
    {"cpu", check_cpu},
    {"ulimits", check_ulimits},
    {"tmpfs", check_tmpfs},
};

static bool read_status(struct look *l)
{
    FILE *file = open_file(l, "status");
    size_t n = file ? fread(l->status, 1, sizeof(l->status) - 1, file) : 0;
    l->status[n] = '\0';
    if (file)
        (void)fclose(file);
    return n > 0;
}

bool cellar_oci_verify(const struct oci_born *born, const char *id,
                       const json_t *config, oci_verified_fn *each, void *user)
{
    struct look look = {.pid = born->pid, .id = id, .config = config};
    bool read = read_status(&look);
    bool settled = read && !check_seccomp(&look);
    for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++)
        each(user, checks[i].protection,
             read ? checks[i].check(&look) : "it can't be looked at");
    return settled && cellar_oci_lives(born);
}
