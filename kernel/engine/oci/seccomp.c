/* seccomp.json as an OCI runtime wants it: the profile's own list, but for what
 * goes with an image alone, and the architectures of this machine. */
#include <string.h>
#include <sys/utsname.h>

#include "../../json.h"
#include "oci.h"

static const struct {
    const char *machine;
    const char *arch;
} machines[] = {
    {"x86_64", "SCMP_ARCH_X86_64"},
    {"aarch64", "SCMP_ARCH_AARCH64"},
};

static const char *native_arch(void)
{
    struct utsname name;
    if (uname(&name) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof(machines) / sizeof(*machines); i++)
        if (strcmp(machines[i].machine, name.machine) == 0)
            return machines[i].arch;
    return NULL;
}

/* The architecture and those of the same machine that the profile allows. */
static json_t *architectures(const json_t *profile)
{
    const char *native = native_arch();
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(profile, "archMap"), i, row)
    {
        const char *arch =
            json_string_value(json_object_get(row, "architecture"));
        if (!native || !arch || strcmp(arch, native) != 0)
            continue;
        json_t *all = json_pack("[s]", arch);
        if (all && json_array_extend(
                       all, json_object_get(row, "subArchitectures")) == 0)
            return all;
        json_decref(all);
    }
    return NULL;
}

/* Docker's profiles may add rules for capabilities and kernels; ours has none,
 * and a rule that would be lost is an error. */
static bool is_plain(const json_t *profile)
{
    static const char *const known[] = {"names", "action", "errnoRet", "args"};
    size_t i = 0;
    json_t *rule = NULL;
    json_array_foreach(json_object_get(profile, "syscalls"), i, rule)
    {
        size_t members = json_object_size(rule);
        for (size_t k = 0; k < sizeof(known) / sizeof(*known); k++)
            members -= json_object_get(rule, known[k]) != NULL;
        if (members)
            return false;
    }
    return true;
}

/* What is mounted are the machine's own files: who watches them is told what
 * everybody else runs and reads, on the host and in other sessions. And of a
 * plain user's watches the kernel counts all as that user's, who would have
 * none left. */
static const char *const watching[] = {"inotify_init", "inotify_init1"};

static bool is_watching(const json_t *name)
{
    const char *text = json_string_value(name);
    for (size_t i = 0; text && i < sizeof(watching) / sizeof(*watching); i++)
        if (strcmp(watching[i], text) == 0)
            return true;
    return false;
}

static void refuse_watching(json_t *rules)
{
    size_t i = 0;
    json_t *rule = NULL;
    json_array_foreach(rules, i, rule)
    {
        json_t *names = json_object_get(rule, "names");
        for (size_t k = json_array_size(names); k-- > 0;)
            if (is_watching(json_array_get(names, k)))
                (void)json_array_remove(names, k);
    }
}

enum cellar_code cellar_oci_seccomp(const struct cellar_container_spec *spec,
                                    json_t **out, struct cellar_error *err)
{
    const char *text = strchr(cellar_container_spec_seccomp(spec), '=') + 1;
    json_t *profile = cellar_json_parse(text, strlen(text), 0, NULL);
    if (!profile)
        return cellar_fail(err, CELLAR_E_NOMEM, "seccomp: out of memory");
    json_t *arches = architectures(profile);
    bool plain = is_plain(profile);
    if (!arches || !plain) {
        json_decref(arches);
        json_decref(profile);
        return cellar_fail(err, CELLAR_E_USAGE,
                           plain ? "seccomp.json has no list for this "
                                   "machine's architecture"
                                 : "seccomp.json: a rule has members that the "
                                   "oci engine does not know");
    }
    bool made = json_object_set_new(profile, "architectures", arches) == 0;
    (void)json_object_del(profile, "archMap");
    refuse_watching(json_object_get(profile, "syscalls"));
    if (made) {
        *out = profile;
        return CELLAR_OK;
    }
    json_decref(profile);
    return cellar_fail(err, CELLAR_E_NOMEM, "seccomp: out of memory");
}
