/* A container with a kernel of its own (gVisor's). What is in force inside,
 * this kernel does not show; it shows what that kernel may do: a process, and a
 * second one, the gofer, that opens files for it. What they were told to make
 * is in the first one's arguments and in what the runtime keeps. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "look.h"

#define ARGUMENTS_BYTES 8192

/* --------------------------------------------------------- who they are -- */

/* Behind NULs; false: they can't be read. */
static bool read_arguments(const struct oci_look *l, char text[ARGUMENTS_BYTES],
                           size_t *len)
{
    FILE *file = cellar_oci_look_open(l, "cmdline");
    *len = file ? fread(text, 1, ARGUMENTS_BYTES - 1, file) : 0;
    text[*len] = '\0';
    if (file)
        (void)fclose(file);
    return *len > 0;
}

static bool has_argument(const struct oci_look *l, const char *argument)
{
    char text[ARGUMENTS_BYTES];
    size_t len = 0;
    bool found = false;
    if (read_arguments(l, text, &len))
        for (size_t at = 0; at < len && !found; at += strlen(text + at) + 1)
            found = strcmp(text + at, argument) == 0;
    return found;
}

/* The runtime's own program, told to do `what`. */
static bool is_runtimes(const struct oci_look *l, const char *what)
{
    char path[64];
    struct stat is;
    struct stat must;
    (void)snprintf(path, sizeof(path), "/proc/%ld/exe", (long)l->pid);
    return stat(path, &is) == 0 && stat(l->runtime->path, &must) == 0 &&
           is.st_dev == must.st_dev && is.st_ino == must.st_ino &&
           has_argument(l, what);
}

/* The same look at both; the gofer is the one that the runtime names. */
static const char *check_both(struct oci_look *l,
                              const char *(*check)(struct oci_look *))
{
    pid_t sandbox = l->pid;
    const char *fault = check(l);
    if (fault)
        return fault;
    l->pid = l->gofer;
    if (l->gofer <= 1 || !cellar_oci_look_read(l) || !is_runtimes(l, "gofer"))
        fault = cellar_oci_wrong(l, "its gofer can't be looked at");
    else
        fault = check(l);
    l->pid = sandbox;
    return cellar_oci_look_read(l) || fault ? fault
                                            : cellar_oci_wrong(l, "it is gone");
}

/* -------------------------------------------------- what it was told -- */

static const json_t *told_of(const struct oci_look *l, const char *path)
{
    return cellar_json_at(json_object_get(l->told, "spec"), path);
}

static bool same_number(const struct oci_look *l, const char *path)
{
    const json_t *told = told_of(l, path);
    return json_is_integer(told) &&
           json_equal(told, cellar_json_at(l->config, path));
}

static const char *check_user(struct oci_look *l)
{
    char text[128];
    if (!same_number(l, "process.user.uid") ||
        !same_number(l, "process.user.gid") ||
        json_array_size(told_of(l, "process.user.additionalGids")))
        return cellar_oci_wrong(l, "inside its user is another one");
    if (!cellar_oci_look_status(l, "Uid", text, sizeof(text)))
        return cellar_oci_wrong(l, "its Uid can't be read");
    char *end = text;
    for (int i = 0; i < 4; i++) {
        unsigned long uid = strtoul(end, &end, 10);
        if (uid == 0 || uid == geteuid())
            return cellar_oci_wrong(l, "it runs under this user's own uid");
    }
    if (!cellar_oci_look_status(l, "Groups", text, sizeof(text)) || *text)
        return cellar_oci_wrong(l, "it is in the groups %.60s", text);
    return NULL;
}

static const char *check_init(struct oci_look *l)
{
    if (!is_runtimes(l, "boot") || !has_argument(l, l->id))
        return cellar_oci_wrong(l, "it is no kernel of %.100s's",
                                l->runtime->path);
    return json_equal(told_of(l, "process.args"),
                      cellar_json_at(l->config, "process.args"))
               ? NULL
               : cellar_oci_wrong(l, "inside the agent is not process 1");
}

/* gVisor has let every process open what another has open. */
static const char *check_agent(struct oci_look *l)
{
    return cellar_oci_wrong(l, "that a session can't open what its agent has "
                               "open can't be seen from outside");
}

/* What it has is worth nothing outside of a user namespace of its own. */
static const char *check_capabilities(struct oci_look *l)
{
    const char *set = NULL;
    json_t *all = NULL;
    if (!told_of(l, "process"))
        return cellar_oci_wrong(l, "what its runtime keeps can't be read");
    json_object_foreach(
        (json_t *)told_of(l, "process.capabilities"), set,
        all) if (json_array_size(all)) return cellar_oci_wrong(l,
                                                               "%.20s has "
                                                               "capabilities",
                                                               set);
    return cellar_oci_check_namespace(l, "user");
}

static const char *check_seccomp(struct oci_look *l)
{
    if (!has_argument(l, OCI_SANDBOX_SECCOMP) || !told_of(l, "linux.seccomp"))
        return cellar_oci_wrong(l, "inside no filter of system calls is in "
                                   "force");
    if (!json_is_true(told_of(l, "process.noNewPrivileges")))
        return cellar_oci_wrong(l, "new privileges are not ruled out");
    return check_both(l, cellar_oci_check_filters);
}

/* With its filter in force there is none that could be left. */
static const char *check_sysctls(struct oci_look *l)
{
    return has_argument(l, OCI_SANDBOX_SECCOMP)
               ? NULL
               : cellar_oci_wrong(l, "shared memory stays");
}

static const char *check_ulimits(struct oci_look *l)
{
    return json_equal(told_of(l, "process.rlimits"),
                      cellar_json_at(l->config, "process.rlimits"))
               ? NULL
               : cellar_oci_wrong(l, "its limits are other ones");
}

/* -------------------------------------------------------------- places -- */

/* The kernel in user space sees nothing but an empty folder. */
static const char *check_sandboxs(struct oci_look *l,
                                  const struct oci_mount *mount)
{
    return cellar_oci_mount_has(mount->options, "ro") ||
                   strcmp(mount->type, "proc") == 0
               ? NULL
               : cellar_oci_wrong(l, "%.100s is mounted for its kernel",
                                  mount->place);
}

/* What is read-only there is so because the gofer opens it so. */
static const char *check_gofers(struct oci_look *l,
                                const struct oci_mount *mount)
{
    if (strcmp(mount->place, "/") == 0)
        return cellar_oci_mount_has(mount->options, "ro")
                   ? NULL
                   : cellar_oci_wrong(l,
                                      "the root file system is not read-only");
    return cellar_oci_mount_wanted(l, mount->place)
               ? NULL
               : cellar_oci_wrong(l,
                                  "%.100s is mounted, which nobody asked "
                                  "for",
                                  mount->place);
}

static const char *check_seen(struct oci_look *l)
{
    return cellar_oci_each_mount(l, l->pid == l->gofer ? check_gofers
                                                       : check_sandboxs);
}

static bool same_mount(const json_t *told, const json_t *wanted)
{
    static const char *const keys[] = {"destination", "type", "options"};
    bool same = true;
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        same &= json_equal(json_object_get(told, keys[i]),
                           json_object_get(wanted, keys[i]));
    return same;
}

static const char *check_mounts(struct oci_look *l)
{
    const json_t *told = told_of(l, "mounts");
    const json_t *wanted = json_object_get(l->config, "mounts");
    bool same = json_array_size(told) == json_array_size(wanted);
    for (size_t i = 0; same && i < json_array_size(wanted); i++)
        same = same_mount(json_array_get(told, i), json_array_get(wanted, i));
    return same ? check_both(l, check_seen)
                : cellar_oci_wrong(l, "its mounts are other ones");
}

/* Of /proc and /sys it has its own, with nothing of the host's in them. */
static const char *check_read_only(struct oci_look *l)
{
    return json_is_true(told_of(l, "root.readonly"))
               ? check_both(l, check_seen)
               : cellar_oci_wrong(l, "the root file system is not read-only");
}

static bool limits_files(const json_t *row)
{
    size_t i = 0;
    json_t *one = NULL;
    json_array_foreach(json_object_get(row, "options"), i, one)
    {
        const char *option = json_string_value(one);
        if (option && strncmp(option, "nr_inodes=", 10) == 0)
            return true;
    }
    return false;
}

static const char *check_tmpfs(struct oci_look *l)
{
    static const char *const places[] = {"/tmp", "/dev/shm"};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        if (limits_files(cellar_oci_mount_wanted(l, places[i])))
            return cellar_oci_wrong(l, "how many files %s has is not limited",
                                    places[i]);
    return check_mounts(l);
}

/* ------------------------------------------------------ what is outside -- */

static const char *check_network(struct oci_look *l)
{
    return has_argument(l, OCI_SANDBOX_NETWORK)
               ? check_both(l, cellar_oci_check_network)
               : cellar_oci_wrong(l, "its network is not switched off");
}

/* Processes and control groups it has its own of. */
static const char *check_namespaces(struct oci_look *l)
{
    static const char *const names[] = {"ipc", "uts", "mnt", "user"};
    const char *fault = NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !fault; i++)
        fault = cellar_oci_check_namespace(l, names[i]);
    return fault;
}

static const char *check_memory(struct oci_look *l)
{
    return check_both(l, cellar_oci_check_memory);
}

static const char *check_swap(struct oci_look *l)
{
    return check_both(l, cellar_oci_check_swap);
}

static const char *check_pids(struct oci_look *l)
{
    return check_both(l, cellar_oci_check_pids);
}

static const char *check_cpu(struct oci_look *l)
{
    return check_both(l, cellar_oci_check_cpu);
}

static const struct oci_check checks[] = {
    {"user", check_user},
    {"init", check_init},
    {"agent", check_agent},
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
    {"sysctls", check_sysctls},
};

const struct oci_check *cellar_oci_sandbox_checks(size_t *count)
{
    *count = sizeof(checks) / sizeof(*checks);
    return checks;
}
