/* What a runtime with a kernel of its own (gVisor's runsc) is asked for
 * otherwise. What is in force then verify_sandbox.c looks at. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "../../json.h"
#include "look.h"

/* The kernel in user space and what reads files for it are threads here, and so
 * is each process of the container, some times over: measured were 95, and 7
 * for each. Inside, the session's processes are counted as ever (the launcher's
 * RLIMIT_NPROC, below the limit that was asked for). */
#define THREADS_OWN  256
#define THREADS_EACH 8

static bool widen(json_t *config)
{
    json_t *pids = cellar_json_at(config, "linux.resources.pids");
    json_int_t limit = json_integer_value(json_object_get(pids, "limit"));
    return !pids || json_object_set_new(
                        pids, "limit",
                        json_integer(THREADS_EACH * limit + THREADS_OWN)) == 0;
}

/* Of a refusal it knows no errno but EPERM: the C library then takes a call for
 * refused that it would do without if there was none. clone3 is none in this
 * kernel, or makes namespaces in it, which are nothing of the host's; and the
 * worker's own filter refuses it all the same. */
static bool allow_what_is_none(json_t *config)
{
    size_t i = 0;
    json_t *rule = NULL;
    json_array_foreach(cellar_json_at(config, "linux.seccomp.syscalls"), i,
                       rule)
    {
        if (!json_object_get(rule, "errnoRet"))
            continue;
        if (json_object_set_new(rule, "action", json_string("SCMP_ACT_ALLOW")) <
            0)
            return false;
        (void)json_object_del(rule, "errnoRet");
    }
    return true;
}

static const char *target_of(const json_t *mounts, size_t i)
{
    const json_t *row = json_array_get(mounts, i);
    const char *type = json_string_value(json_object_get(row, "type"));
    const char *target = json_string_value(json_object_get(row, "destination"));
    return type && target && strcmp(type, "bind") == 0 ? target : NULL;
}

/* The mount that a user's is to be in; NULL: none. */
static const char *outer_of(const json_t *mounts, const char *target)
{
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const char *outer = target_of(mounts, i);
        size_t len = outer ? strlen(outer) : 0;
        if (len && strncmp(outer, target, len) == 0 && target[len] == '/')
            return outer;
    }
    return NULL;
}

/* A link in the outer one can lead the inner over the agent. Of others' mounts
 * the kernel tells where they are, of these nobody does. */
static enum cellar_code check_nested(const json_t *config,
                                     struct cellar_error *err)
{
    const json_t *mounts = json_object_get(config, "mounts");
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const char *target = target_of(mounts, i);
        const char *outer = target ? outer_of(mounts, target) : NULL;
        if (outer)
            return cellar_fail(err, CELLAR_E_USAGE,
                               "mount %.100s lies in the mount %.100s, which "
                               "can't be looked at with runsc: mount it beside",
                               target, outer);
    }
    return CELLAR_OK;
}

enum cellar_code cellar_oci_sandbox_config(const struct oci_runtime *runtime,
                                           json_t *config,
                                           struct cellar_error *err)
{
    if (runtime->kind != OCI_RUNSC)
        return CELLAR_OK;
    if (!widen(config) || !allow_what_is_none(config))
        return cellar_fail(err, CELLAR_E_NOMEM, "config.json: out of memory");
    return check_nested(config, err);
}

/* A kernel in user space halts its processes by itself, and no group. */
bool cellar_oci_is_paused(const struct oci *oci, int bundle_fd, const char *id)
{
    if (cellar_oci_group_is_frozen(bundle_fd, id))
        return true;
    json_t *told = cellar_oci_sandbox_told(oci, id);
    const char *status = json_string_value(json_object_get(told, "status"));
    bool paused = status && strcmp(status, "paused") == 0;
    json_decref(told);
    return paused;
}

json_t *cellar_oci_sandbox_told(const struct oci *oci, const char *id)
{
    char name[4096];
    char file[2 * OCI_ID_BYTES + 32];
    if (cellar_oci_path(oci, ".run", NULL, name, NULL))
        return NULL;
    CELLAR_AUTO_CLOSE int fd =
        open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    (void)snprintf(file, sizeof(file), "%s_sandbox:%s.state", id, id);
    CELLAR_AUTO_FREE char *text =
        fd < 0 ? NULL : cellar_oci_file_read(fd, file);
    return text ? cellar_json_parse(text, strlen(text), 0, NULL) : NULL;
}
