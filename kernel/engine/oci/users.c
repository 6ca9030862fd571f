/* A plain user's containers: a user namespace. The session's uid in there is
 * one of those that /etc/subuid gives to this user; without, all there is is
 * the user's own, and sessions are not kept apart from each other by it. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "oci.h"

#define ROOT          "/sys/fs/cgroup"
#define OWN_GROUP_MAX 1024

/* Who root is inside: the user. A runtime sets the container up as root. */
struct range {
    uint64_t first;
    uint64_t count; /* 0: none */
};

/* ------------------------------------------------------------- subuids -- */

/* A line is "name:100000:65536", or a number in the place of the name. */
static bool parse_range(const char *line, const char *name, unsigned long id,
                        struct range *range)
{
    char number[32];
    size_t len = strcspn(line, ":");
    (void)snprintf(number, sizeof(number), "%lu", id);
    bool ours = (len == strlen(name) && strncmp(line, name, len) == 0) ||
                (len == strlen(number) && strncmp(line, number, len) == 0);
    char *end = NULL;
    if (!ours || line[len] != ':')
        return false;
    range->first = strtoull(line + len + 1, &end, 10);
    range->count = *end == ':' ? strtoull(end + 1, NULL, 10) : 0;
    return range->first > 0 && range->first < UINT32_MAX && range->count > 0 &&
           range->count < UINT32_MAX - range->first;
}

static struct range find_range(const char *path, const char *name)
{
    char line[256];
    struct range range = {0};
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof(line), file))
        found = parse_range(line, name, geteuid(), &range);
    if (file)
        (void)fclose(file);
    return found ? range : (struct range){0};
}

static bool has_helpers(void)
{
    return access("/usr/bin/newuidmap", X_OK) == 0 &&
           access("/usr/bin/newgidmap", X_OK) == 0;
}

static void find_ranges(struct range *uids, struct range *gids)
{
    char room[4096];
    struct passwd entry;
    struct passwd *found = NULL;
    (void)getpwuid_r(geteuid(), &entry, room, sizeof(room), &found);
    const char *name = found ? found->pw_name : "";
    *uids = has_helpers() ? find_range("/etc/subuid", name) : (struct range){0};
    *gids = has_helpers() ? find_range("/etc/subgid", name) : (struct range){0};
}

static enum cellar_code no_ranges(struct cellar_error *err)
{
    return cellar_fail(err, CELLAR_E_ENGINE,
                       "this user cannot give a session a uid of its own "
                       "(\"user\"): `apt-get install uidmap`, and as root "
                       "`usermod --add-subuids 100000-165535 --add-subgids "
                       "100000-165535 NAME`; `--allow user` does without");
}

enum cellar_code cellar_oci_subuid_find(struct cellar_error *err)
{
    struct range uids;
    struct range gids;
    find_ranges(&uids, &gids);
    return uids.count && gids.count ? CELLAR_OK : no_ranges(err);
}

/* -------------------------------------------------------------- groups -- */

#define NEEDED 3

static const char *const needed[NEEDED] = {"memory", "pids", "cpu"};

/* What a line of /proc/self/cgroup tells of: in v1 the group this process is
 * in, in v2 the one above. */
static bool own_group(char *line, char path[OWN_GROUP_MAX])
{
    char *rest = line;
    (void)strsep(&rest, ":");
    const char *names = strsep(&rest, ":");
    if (!names || !rest)
        return false;
    rest[strcspn(rest, "\n")] = '\0';
    char *slash = strrchr(rest, '/');
    if (!*names && slash)
        *slash = '\0';
    int n = snprintf(path, OWN_GROUP_MAX, ROOT "%s%s%s", *names ? "/" : "",
                     names, rest);
    /* Of a process that is outside of its namespace: "/../other". */
    return n > 0 && n < OWN_GROUP_MAX && !strstr(path, "..");
}

/* Whether this user may make groups there, in v2 with what limits them. */
static bool may_make(char *line)
{
    char path[OWN_GROUP_MAX];
    bool v2 = strstr(line, "::") != NULL;
    bool ours = own_group(line, path) && access(path, W_OK) == 0;
    for (size_t i = 0; ours && v2 && i < NEEDED; i++)
        ours = cellar_oci_group_gives(path, needed[i]);
    return ours;
}

bool cellar_oci_groups_are_ours(void)
{
    size_t have = 0;
    char line[1024];
    FILE *file = fopen("/proc/self/cgroup", "re");
    bool v2 = access(ROOT "/cgroup.controllers", F_OK) == 0;
    while (file && fgets(line, sizeof(line), file)) {
        const char *colon = strchr(line, ':');
        const char *names = colon ? colon + 1 : "";
        if (v2 && *names == ':' && may_make(line))
            have = NEEDED;
        for (size_t i = 0; !v2 && i < NEEDED; i++) {
            size_t len = strlen(needed[i]);
            if (strncmp(names, needed[i], len) == 0 &&
                strchr(":,", names[len]) && may_make(line)) {
                have++;
                break;
            }
        }
    }
    if (file)
        (void)fclose(file);
    return have >= NEEDED;
}

#define NO_GROUPS                                                              \
    "this user has no control groups of its own to enforce \"%s\": start "     \
    "from "                                                                    \
    "`systemd-run --user --scope -p Delegate=yes bash`; `--allow %s` does "    \
    "without"
#define NO_SANDBOX_GROUPS                                                      \
    "for a user who is not root runsc does not enforce \"%s\": use --runtime " \
    "runc; `--allow %s` does without"

static enum cellar_code drop_limits(const struct cellar_spec *spec,
                                    enum oci_kind kind, json_t *config,
                                    struct cellar_error *err)
{
    static const char *const names[] = {"memory", "swap", "pids", "cpu"};
    json_t *kernel = json_object_get(config, "linux");
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!cellar_container_allowed(spec, names[i]))
            return kind == OCI_RUNSC
                       ? cellar_fail(err, CELLAR_E_ENGINE, NO_SANDBOX_GROUPS,
                                     names[i], names[i])
                       : cellar_fail(err, CELLAR_E_ENGINE, NO_GROUPS, names[i],
                                     names[i]);
    (void)json_object_del(kernel, "resources");
    (void)json_object_del(kernel, "cgroupsPath");
    return CELLAR_OK;
}

/* Their place is below the user's own, and of devices there is no say. */
static enum cellar_code put_groups(const struct cellar_spec *spec,
                                   json_t *config, const char *id,
                                   struct cellar_error *err)
{
    json_t *kernel = json_object_get(config, "linux");
    if (!cellar_oci_groups_are_ours())
        return drop_limits(spec, OCI_RUNC, config, err);
    (void)json_object_del(cellar_json_at(kernel, "resources"), "devices");
    return json_object_set_new(kernel, "cgroupsPath", json_string(id)) == 0
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "users: out of memory");
}

/* Where in the hierarchy of memory the group of `id` will be; false: nowhere.
 */
static bool memory_group(const json_t *config, const char *id,
                         char path[OWN_GROUP_MAX])
{
    char line[1024];
    char own[OWN_GROUP_MAX];
    bool found = false;
    FILE *file = cellar_json_at(config, "linux.cgroupsPath")
                     ? fopen("/proc/self/cgroup", "re")
                     : NULL;
    while (file && !found && fgets(line, sizeof(line), file)) {
        const char *names = strchr(line, ':');
        found = names && strncmp(names, ":memory:", 8) == 0 &&
                own_group(line, own) &&
                (size_t)snprintf(path, OWN_GROUP_MAX, "%s/%s", own, id) <
                    OWN_GROUP_MAX;
    }
    if (file)
        (void)fclose(file);
    return found;
}

/* Groups of v1 nobody can mount in a user namespace: there the container sees
 * what the agent needs, its own group of memory, from outside. */
static enum cellar_code put_group_mount(json_t *config, const char *id,
                                        struct cellar_error *err)
{
    char path[OWN_GROUP_MAX];
    json_t *mounts = json_object_get(config, "mounts");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(mounts, i, row)
    {
        const char *type = json_string_value(json_object_get(row, "type"));
        if (type && strcmp(type, "cgroup") == 0) {
            (void)json_array_remove(mounts, i);
            break;
        }
    }
    if (!memory_group(config, id, path))
        return CELLAR_OK;
    row = json_pack("{s:s, s:s, s:s, s:[s, s, s, s, s]}", "destination",
                    ROOT "/memory", "type", "bind", "source", path, "options",
                    "bind", "ro", "nosuid", "noexec", "nodev");
    return json_array_append_new(mounts, row) == 0
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "users: out of memory");
}

/* ------------------------------------------------------------ mappings -- */

/* Root inside is the user; the session's own id is one of the range. */
static json_t *mapping(uint64_t inside, unsigned own, const struct range *range)
{
    if (!range->count)
        return json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
                         (json_int_t)own, "size", 1);
    uint64_t outside = range->first + inside % range->count;
    return json_pack("[{s:i, s:I, s:i}, {s:I, s:I, s:i}]", "containerID", 0,
                     "hostID", (json_int_t)own, "size", 1, "containerID",
                     (json_int_t)inside, "hostID", (json_int_t)outside, "size",
                     1);
}

uint64_t cellar_oci_host_id(const json_t *config, const char *mappings,
                            uint64_t id)
{
    size_t i = 0;
    json_t *row = NULL;
    const json_t *all =
        json_object_get(json_object_get(config, "linux"), mappings);
    json_array_foreach(all, i, row)
    {
        json_int_t inside =
            json_integer_value(json_object_get(row, "containerID"));
        if ((uint64_t)inside == id)
            return (uint64_t)json_integer_value(json_object_get(row, "hostID"));
    }
    return all ? UINT64_MAX : id;
}

/* A process can't be made safer from the kernel than the one it is from. */
static int own_score(void)
{
    char text[32] = "";
    FILE *file = fopen("/proc/self/oom_score_adj", "re");
    if (file) {
        (void)!fgets(text, sizeof(text), file);
        (void)fclose(file);
    }
    long score = strtol(text, NULL, 10);
    return score > 0 && score <= 1000 ? (int)score : 0;
}

static enum cellar_code put_mappings(json_t *config, const struct range *uids,
                                     const struct range *gids,
                                     struct cellar_error *err)
{
    json_t *kernel = json_object_get(config, "linux");
    json_t *process = json_object_get(config, "process");
    json_t *user = json_object_get(process, "user");
    uint64_t uid = (uint64_t)json_integer_value(json_object_get(user, "uid"));
    bool made =
        json_object_set_new(kernel, "uidMappings",
                            mapping(uid, geteuid(), uids)) == 0 &&
        json_object_set_new(kernel, "gidMappings",
                            mapping(uid, getegid(), gids)) == 0 &&
        json_array_append_new(json_object_get(kernel, "namespaces"),
                              json_pack("{s:s}", "type", "user")) == 0 &&
        json_object_set_new(process, "oomScoreAdj",
                            json_integer(own_score())) == 0;
    if (!uids->count)
        made = made && json_object_set_new(user, "uid", json_integer(0)) == 0 &&
               json_object_set_new(user, "gid", json_integer(0)) == 0;
    return made ? CELLAR_OK
                : cellar_fail(err, CELLAR_E_NOMEM, "users: out of memory");
}

/* gVisor makes the namespace by itself, with the user alone in it, and takes no
 * groups from it; whose the session is inside its own kernel knows. */
static enum cellar_code put_sandbox(const struct cellar_spec *spec,
                                    json_t *config, struct cellar_error *err)
{
    if (!cellar_container_allowed(spec, "user"))
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "for a user who is not root runsc gives a session "
                           "no uid of its own on this machine (\"user\"): use "
                           "--runtime runc; `--allow user` does without");
    enum cellar_code code = drop_limits(spec, OCI_RUNSC, config, err);
    if (!code && json_object_set_new(json_object_get(config, "process"),
                                     "oomScoreAdj", json_integer(own_score())))
        code = cellar_fail(err, CELLAR_E_NOMEM, "users: out of memory");
    return code;
}

/* -------------------------------------------------------------- quotas -- */

/* What the kernel counts per user it counts for the one outside, too, whatever
 * the uid inside: one session could use up what all programs of the user have.
 */
#define SIGNALS_MAX 1024

static enum cellar_code keep_quotas(json_t *config, struct cellar_error *err)
{
    json_t *limits = cellar_json_at(config, "process.rlimits");
    return json_array_append_new(
               limits, json_pack("{s:s, s:i, s:i}", "type", "RLIMIT_SIGPENDING",
                                 "soft", SIGNALS_MAX, "hard", SIGNALS_MAX)) == 0
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "users: out of memory");
}

/* ---------------------------------------------------------------- call -- */

enum cellar_code cellar_oci_users(const struct cellar_spec *spec,
                                  enum oci_kind kind, json_t *config,
                                  const char *id, struct cellar_error *err)
{
    struct range uids;
    struct range gids;
    if (geteuid() == 0)
        return CELLAR_OK;
    if (kind == OCI_RUNSC)
        return put_sandbox(spec, config, err);
    find_ranges(&uids, &gids);
    if (!uids.count || !gids.count) {
        if (!cellar_container_allowed(spec, "user"))
            return no_ranges(err);
        uids = gids = (struct range){0};
    }
    enum cellar_code code = put_groups(spec, config, id, err);
    if (!code)
        code = put_mappings(config, &uids, &gids, err);
    if (!code)
        code = keep_quotas(config, err);
    if (!code && access(ROOT "/cgroup.controllers", F_OK) != 0)
        code = put_group_mount(config, id, err);
    return code;
}
