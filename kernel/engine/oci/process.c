/* A container's first process, seen from the host. Its number is believed only
 * together with when it began. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "../../json.h"
#include "oci.h"

/* The fields of /proc/PID/stat behind the name, which may hold anything. */
#define STATE_FIELD 3
#define FLAGS_FIELD 9
#define BEGAN_FIELD 22

/* PF_EXITING: it has let go of its files, and will be a zombie soon. */
#define EXITING 4u

/* The field with this number; `at` is the end of the name. */
static uint64_t field_of(const char *at, int number)
{
    for (int field = STATE_FIELD - 1; at && field < number; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

uint64_t cellar_oci_began(pid_t pid)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    FILE *file = pid > 0 ? fopen(path, "re") : NULL;
    size_t len = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    if (file)
        (void)fclose(file);
    text[len] = '\0';
    const char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || strchr("ZXx", at[2]))
        return 0;
    bool exits = field_of(at, FLAGS_FIELD) & EXITING;
    return exits ? 0 : field_of(at, BEGAN_FIELD);
}

bool cellar_oci_lives(const struct oci_born *born)
{
    return born->began != 0 && cellar_oci_began(born->pid) == born->began;
}

/* The descriptor holds on to the process; only then is it looked at. */
void cellar_oci_kill(const struct oci_born *born)
{
    CELLAR_AUTO_CLOSE int fd =
        born->pid > 1 ? (int)syscall(SYS_pidfd_open, born->pid, 0) : -1;
    if (fd >= 0 && cellar_oci_lives(born))
        (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

/* A number of its own inside and another one here: "NSpid:  4711  1". What a
 * runtime names is not killed before that is so. */
static bool is_containers(pid_t pid)
{
    char path[64];
    char line[256];
    bool nested = false;
    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "NSpid:\t", 7) == 0)
            nested = strchr(line + 7, '\t') != NULL;
    if (file)
        (void)fclose(file);
    return nested;
}

static bool is_apart(pid_t pid, const char *name)
{
    char path[64];
    struct stat theirs;
    struct stat ours;
    (void)snprintf(path, sizeof(path), "/proc/%ld/ns/%s", (long)pid, name);
    if (stat(path, &theirs) != 0)
        return false;
    (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
    return stat(path, &ours) == 0 && theirs.st_ino != ours.st_ino;
}

/* A kernel in user space has its numbers here, and sees no files of ours. */
static bool is_sandbox(pid_t pid)
{
    return is_apart(pid, "user") && is_apart(pid, "mnt") &&
           is_apart(pid, "net");
}

static enum cellar_code find_born(int bundle_fd, enum oci_kind kind,
                                  struct oci_born *born,
                                  struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *text = cellar_oci_file_read(bundle_fd, "pid");
    long number = text ? strtol(text, NULL, 10) : 0;
    if (number <= 1 || number > INT32_MAX)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "the OCI runtime does not tell the container's "
                           "first process");
    *born = (struct oci_born){(pid_t)number, cellar_oci_began((pid_t)number)};
    if (!born->began)
        return cellar_fail(err, CELLAR_E_LOST,
                           "the container ended as soon as it was started");
    bool fits =
        kind == OCI_RUNSC ? is_sandbox(born->pid) : is_containers(born->pid);
    return fits ? CELLAR_OK
                : cellar_fail(err, CELLAR_E_ENGINE,
                              "the OCI runtime names process %ld, which is in "
                              "no container",
                              number);
}

/* Numbers and times begin anew with the machine: those of a bundle that has
 * outlasted it may be another process's. */
static void read_boot(char boot[64])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || !fgets(boot, 64, file))
        boot[0] = '\0';
    if (file)
        (void)fclose(file);
    boot[strspn(boot, "0123456789abcdef-")] = '\0';
}

enum cellar_code cellar_oci_born_write(int bundle_fd, const char *id,
                                       enum oci_kind kind,
                                       struct oci_born *born,
                                       struct cellar_error *err)
{
    char text[160];
    char boot[64];
    struct oci_born is = {0};
    enum cellar_code code = find_born(bundle_fd, kind, &is, err);
    if (code)
        return code;
    cellar_oci_groups_note(bundle_fd, id, is.pid);
    read_boot(boot);
    (void)snprintf(text, sizeof(text),
                   "{\"pid\": %ld, \"began\": %" PRIu64 ", \"boot\": \"%s\"}",
                   (long)is.pid, is.began, boot);
    code = cellar_oci_file_write(bundle_fd, "born.json", text, err);
    if (!code)
        *born = is;
    return code;
}

bool cellar_oci_born_read(int bundle_fd, struct oci_born *born)
{
    CELLAR_AUTO_FREE char *text = cellar_oci_file_read(bundle_fd, "born.json");
    json_t *json = text ? cellar_json_parse(text, strlen(text), 0, NULL) : NULL;
    json_int_t pid = json_integer_value(json_object_get(json, "pid"));
    json_int_t began = json_integer_value(json_object_get(json, "began"));
    const char *then = json_string_value(json_object_get(json, "boot"));
    char now[64];
    read_boot(now);
    bool same = then && strcmp(then, now) == 0;
    json_decref(json);
    bool fits = pid > 1 && pid <= INT32_MAX && began > 0;
    *born = (struct oci_born){0};
    if (fits)
        *born = (struct oci_born){(pid_t)pid, same ? (uint64_t)began : 0};
    return fits;
}
