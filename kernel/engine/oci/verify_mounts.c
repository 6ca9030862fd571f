/* The mounts of a container, as the kernel shows them of its first process. */
#include <inttypes.h>
#include <string.h>

#include "look.h"

#define LINE_BYTES 4096

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
static bool parse_mount(char *line, struct oci_mount *mount)
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

bool cellar_oci_mount_has(const char *options, const char *option)
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

const json_t *cellar_oci_mount_wanted(const struct oci_look *l,
                                      const char *place)
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

static void note_there(struct oci_look *l, const char *place)
{
    const json_t *rows = json_object_get(l->config, "mounts");
    for (size_t i = 0; i < json_array_size(rows) && i < OCI_MOUNTS_MAX; i++) {
        const char *target = json_string_value(
            json_object_get(json_array_get(rows, i), "destination"));
        l->there[i] |= target && strcmp(target, place) == 0;
    }
}

/* A root file system's link may have led one of them elsewhere, over something
 * that was looked at; the place it was meant for is empty then. */
static const char *check_there(struct oci_look *l)
{
    const json_t *rows = json_object_get(l->config, "mounts");
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (i >= OCI_MOUNTS_MAX || !l->there[i])
            return cellar_oci_wrong(
                l, "nothing is mounted at %.100s",
                json_string_value(
                    json_object_get(json_array_get(rows, i), "destination")));
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
static bool is_runtimes_own(const struct oci_look *l,
                            const struct oci_mount *mount)
{
    static const char groups[] = "/sys/fs/cgroup/";
    if (strncmp(mount->place, "/proc/", 6) == 0 ||
        strncmp(mount->place, "/dev/", 5) == 0)
        return true;
    if (strncmp(mount->place, groups, strlen(groups)) == 0)
        return strncmp(mount->type, "cgroup", 6) == 0 &&
               cellar_oci_mount_has(mount->options, "ro");
    return is_listed(cellar_json_at(l->config, "linux.maskedPaths"),
                     mount->place);
}

static bool row_has(const json_t *row, const char *option)
{
    return is_listed(json_object_get(row, "options"), option);
}

static const char *check_row(struct oci_look *l, const struct oci_mount *mount,
                             const json_t *row)
{
    static const char *const flags[] = {"ro", "nosuid", "nodev", "noexec"};
    /* Of several hierarchies each is read-only, and the folder they are in is
     * an empty one of root's. */
    const char *type = json_string_value(json_object_get(row, "type"));
    bool shelf = type && strcmp(type, "cgroup") == 0 &&
                 strcmp(mount->type, "tmpfs") == 0;
    for (size_t i = shelf; i < sizeof(flags) / sizeof(*flags); i++)
        if (row_has(row, flags[i]) &&
            !cellar_oci_mount_has(mount->options, flags[i]))
            return cellar_oci_wrong(l, "%.60s is mounted without %s",
                                    mount->place, flags[i]);
    return NULL;
}

/* Every mount is one that was asked for, as it was asked for. */
static const char *check_one(struct oci_look *l, const struct oci_mount *mount)
{
    const json_t *row = cellar_oci_mount_wanted(l, mount->place);
    note_there(l, mount->place);
    if (row)
        return check_row(l, mount, row);
    if (strcmp(mount->place, "/") == 0)
        return cellar_oci_mount_has(mount->options, "ro")
                   ? NULL
                   : cellar_oci_wrong(l,
                                      "the root file system is not read-only");
    return is_runtimes_own(l, mount)
               ? NULL
               : cellar_oci_wrong(l,
                                  "%.100s is mounted, which nobody asked for",
                                  mount->place);
}

const char *cellar_oci_each_mount(
    struct oci_look *l,
    const char *(*check)(struct oci_look *, const struct oci_mount *))
{
    char line[LINE_BYTES];
    struct oci_mount mount;
    const char *fault = NULL;
    FILE *file = cellar_oci_look_open(l, "mountinfo");
    if (!file)
        return cellar_oci_wrong(l, "its mounts can't be looked at");
    while (!fault && fgets(line, sizeof(line), file))
        fault =
            parse_mount(line, &mount)
                ? check(l, &mount)
                : cellar_oci_wrong(l, "one of its mounts can't be understood");
    (void)fclose(file);
    return fault;
}

const char *cellar_oci_check_mounts(struct oci_look *l)
{
    memset(l->there, 0, sizeof(l->there));
    const char *fault = cellar_oci_each_mount(l, check_one);
    return fault ? fault : check_there(l);
}

static bool mounted(struct oci_look *l, const char *place,
                    struct oci_mount *mount)
{
    char line[LINE_BYTES];
    bool found = false;
    FILE *file = cellar_oci_look_open(l, "mountinfo");
    while (file && fgets(line, sizeof(line), file)) {
        struct oci_mount one;
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
static const char *check_covered(struct oci_look *l, const char *list)
{
    size_t i = 0;
    json_t *one = NULL;
    struct oci_mount mount;
    json_array_foreach(cellar_json_at(l->config, list), i, one)
    {
        const char *place = json_string_value(one);
        if (!place || strncmp(place, "/proc/", 6) != 0 ||
            access(place, F_OK) != 0)
            continue;
        if (!mounted(l, place, &mount))
            return cellar_oci_wrong(l, "%s is open", place);
        if (!cellar_oci_mount_has(mount.options, "ro") &&
            strcmp(mount.type, "tmpfs") != 0 &&
            strcmp(mount.type, "devtmpfs") != 0)
            return cellar_oci_wrong(l, "%s can be written", place);
    }
    return NULL;
}

const char *cellar_oci_check_read_only(struct oci_look *l)
{
    struct oci_mount root;
    if (!mounted(l, "/", &root) || !cellar_oci_mount_has(root.options, "ro"))
        return cellar_oci_wrong(l, "the root file system is not read-only");
    const char *fault = check_covered(l, "linux.maskedPaths");
    return fault ? fault : check_covered(l, "linux.readonlyPaths");
}

/* "size=65536k" of what was asked for as bytes. */
static const char *check_tmpfs_at(struct oci_look *l, const char *place)
{
    struct oci_mount mount;
    const json_t *row = cellar_oci_mount_wanted(l, place);
    if (!row || !mounted(l, place, &mount) || strcmp(mount.type, "tmpfs") != 0)
        return cellar_oci_wrong(l, "%s is no tmpfs", place);
    size_t i = 0;
    json_t *one = NULL;
    json_array_foreach(json_object_get(row, "options"), i, one)
    {
        const char *text = json_string_value(one);
        char expected[64];
        if (!text)
            return cellar_oci_wrong(l, "an option of %s is no text", place);
        if (strncmp(text, "size=", 5) == 0)
            (void)snprintf(expected, sizeof(expected), "size=%" PRIu64 "k",
                           (uint64_t)(strtoull(text + 5, NULL, 10) + 1023) /
                               1024);
        else
            (void)snprintf(expected, sizeof(expected), "%s", text);
        bool counts = strncmp(text, "size=", 5) == 0 ||
                      strncmp(text, "nr_inodes=", 10) == 0;
        if (counts && !cellar_oci_mount_has(mount.super, expected))
            return cellar_oci_wrong(l, "%s has not %s", place, expected);
    }
    return NULL;
}

const char *cellar_oci_check_tmpfs(struct oci_look *l)
{
    const char *fault = check_tmpfs_at(l, "/tmp");
    return fault ? fault : check_tmpfs_at(l, "/dev/shm");
}
