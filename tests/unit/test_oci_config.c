/* config.json of the oci engine, made of the real container.json and
 * seccomp.json: no protection is lost on the way, and nothing is asked for that
 * can't be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/engine/container.h"
#include "kernel/engine/oci/oci.h"

#define DATA CELLAR_SOURCE_DIR "/kernel/engine"
#define ID   "oci-00112233445566778899aabbccdd"

struct world {
    char dir[64];
    struct cellar_loop *loop;
    struct oci *oci;
    struct cellar_spec spec;
    struct cellar_launch launch;
    struct cellar_error err;
    json_t *config;
};

static void open_on(struct world *w, const char *data)
{
    struct cellar_engine *engine = NULL;
    struct cellar_engine_place place = {.state_dir = w->dir, .data_dir = data};
    assert_int_equal(cellar_oci_new(w->loop, &place, &engine, &w->err), 0);
    w->oci = (struct oci *)engine;
}

static void close_oci(struct world *w)
{
    w->oci->engine.ops->free(&w->oci->engine);
    w->oci = NULL;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    if (!w || cellar_loop_new(&w->loop, NULL))
        return -1;
    snprintf(w->dir, sizeof(w->dir), "/tmp/cellar-config-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    cellar_spec_init(&w->spec);
    w->launch = (struct cellar_launch){
        .spec = &w->spec, .owner = "owner-1", .uid = 61007};
    open_on(w, DATA);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    json_decref(w->config);
    if (w->oci)
        close_oci(w);
    cellar_loop_free(w->loop);
    rmdir(w->dir);
    free(w);
    return 0;
}

static void make(struct world *w)
{
    if (cellar_oci_config(w->oci, &w->launch, ID, &w->config, &w->err))
        fail_msg("%s", w->err.msg);
}

static void assert_json(const struct world *w, const char *path,
                        const char *text)
{
    json_t *wanted = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(wanted);
    if (!json_equal(cellar_json_at(w->config, path), wanted))
        fail_msg("%s is not %s", path, text);
    json_decref(wanted);
}

static bool has_text(const json_t *list, const char *text)
{
    size_t i = 0;
    json_t *one = NULL;
    json_array_foreach(list, i, one)
    {
        if (strcmp(json_string_value(one), text) == 0)
            return true;
    }
    return false;
}

static const json_t *mount_at(const struct world *w, const char *target)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(w->config, "mounts"), i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "destination")),
                   target) == 0)
            return row;
    }
    fail_msg("nothing is mounted at %s", target);
    return NULL;
}

static void asks_for_every_protection(void **state)
{
    struct world *w = *state;
    make(w);
    assert_json(w, "process.user",
                "{\"uid\": 61007, \"gid\": 61007, \"additionalGids\": []}");
    assert_json(w, "process.capabilities",
                "{\"bounding\": [], \"effective\": [], \"inheritable\": [], "
                "\"permitted\": [], \"ambient\": []}");
    assert_json(w, "process.noNewPrivileges", "true");
    assert_json(w, "process.terminal", "false");
    assert_json(w, "process.args", "[\"/cellar/agent\"]");
    assert_json(w, "process.oomScoreAdj", "0");
    assert_json(w, "root.readonly", "true");
    assert_json(w, "linux.seccomp.defaultAction", "\"SCMP_ACT_ERRNO\"");
    assert_json(w, "linux.rootfsPropagation", "\"rprivate\"");
    assert_json(w, "linux.sysctl", "{\"kernel.shm_rmid_forced\": \"1\"}");
    assert_json(w, "linux.cgroupsPath", "\"/cellar/" ID "\"");
    assert_true(has_text(cellar_json_at(w->config, "linux.maskedPaths"),
                         "/proc/kcore"));
    assert_true(has_text(cellar_json_at(w->config, "linux.readonlyPaths"),
                         "/proc/sys"));
}

static void has_namespaces_of_its_own(void **state)
{
    static const char *const types[] = {"pid", "mount",   "ipc",
                                        "uts", "network", "cgroup"};
    struct world *w = *state;
    make(w);
    const json_t *all = cellar_json_at(w->config, "linux.namespaces");
    assert_int_equal(json_array_size(all), 6);
    for (size_t i = 0; i < 6; i++) {
        size_t found = 0;
        size_t k = 0;
        json_t *one = NULL;
        json_array_foreach(all, k, one)
        {
            assert_null(json_object_get(one, "path"));
            found += strcmp(json_string_value(json_object_get(one, "type")),
                            types[i]) == 0;
        }
        assert_int_equal(found, 1);
    }
}

static void limits_are_those_of_the_spec(void **state)
{
    struct world *w = *state;
    w->spec.memory_bytes = 100 << 20;
    w->spec.pids = 50;
    w->spec.cpu_millis = 1500;
    w->spec.files = 77;
    make(w);
    assert_json(w, "linux.resources.memory",
                "{\"limit\": 104857600, \"swap\": 104857600}");
    assert_json(w, "linux.resources.pids", "{\"limit\": 50}");
    assert_json(w, "linux.resources.cpu",
                "{\"quota\": 150000, \"period\": 100000}");
    assert_json(w, "process.rlimits",
                "[{\"type\": \"RLIMIT_CORE\", \"soft\": 0, \"hard\": 0},"
                " {\"type\": \"RLIMIT_MEMLOCK\", \"soft\": 65536, \"hard\": "
                "65536},"
                " {\"type\": \"RLIMIT_MSGQUEUE\", \"soft\": 0, \"hard\": 0},"
                " {\"type\": \"RLIMIT_NOFILE\", \"soft\": 77, \"hard\": 77}]");
}

static void places_to_write_are_small(void **state)
{
    struct world *w = *state;
    w->spec.tmp_bytes = 1 << 20;
    w->spec.tmp_files = 99;
    make(w);
    const json_t *options = json_object_get(mount_at(w, "/tmp"), "options");
    assert_true(has_text(options, "size=1048576"));
    assert_true(has_text(options, "nr_inodes=99"));
    assert_true(has_text(options, "noexec"));
    assert_true(has_text(options, "nosuid"));
    assert_true(has_text(options, "nodev"));
    options = json_object_get(mount_at(w, "/dev/shm"), "options");
    assert_true(has_text(options, "nr_inodes=99"));
}

static void mounts_of_the_user_stay_private_and_read_only(void **state)
{
    struct world *w = *state;
    w->spec.mounts[0] = "/tmp:/data";
    w->spec.mounts[1] = "/tmp:/out:rw";
    make(w);
    const json_t *options = json_object_get(mount_at(w, "/data"), "options");
    assert_true(has_text(options, "ro"));
    assert_true(has_text(options, "bind"));
    assert_true(has_text(options, "rprivate"));
    options = json_object_get(mount_at(w, "/out"), "options");
    assert_true(has_text(options, "rw"));
    assert_true(has_text(options, "nosuid"));
}

static void refuse_config(struct world *w, enum cellar_code code,
                          const char *words)
{
    assert_int_equal(
        cellar_oci_config(w->oci, &w->launch, ID, &w->config, &w->err), code);
    assert_null(w->config);
    if (!strstr(w->err.msg, words))
        fail_msg("\"%s\" is not in \"%s\"", words, w->err.msg);
}

static void there_is_no_other_network(void **state)
{
    struct world *w = *state;
    w->spec.network = "bridge";
    refuse_config(w, CELLAR_E_USAGE, "no network 'bridge'");
}

static void a_mount_that_is_not_there_is_refused(void **state)
{
    struct world *w = *state;
    w->spec.mounts[0] = "/no/such/folder:/data";
    refuse_config(w, CELLAR_E_USAGE, "/no/such/folder");
}

static void the_profile_is_for_this_machine_and_whole(void **state)
{
    struct world *w = *state;
    struct cellar_container_spec *files = NULL;
    json_t *profile = NULL;
    assert_int_equal(cellar_oci_files(w->oci, &files, &w->err), 0);
    assert_int_equal(cellar_oci_seccomp(files, &profile, &w->err), 0);
    assert_int_equal(json_array_size(json_object_get(profile, "architectures")),
                     1);
    assert_null(json_object_get(profile, "archMap"));
    json_t *file = json_load_file(DATA "/seccomp.json", 0, NULL);
    assert_int_equal(json_array_size(json_object_get(profile, "syscalls")),
                     json_array_size(json_object_get(file, "syscalls")));
    json_decref(file);
    json_decref(profile);
}

/* ---- files that say something else */

static void change_container(struct world *w, const char *path,
                             const char *value)
{
    char file[128];
    char from[128];
    json_t *root = json_load_file(DATA "/container.json", 0, NULL);
    json_t *at = cellar_json_at(root, "container.HostConfig");
    assert_non_null(at);
    assert_int_equal(
        json_object_set_new(at, path, json_loads(value, JSON_DECODE_ANY, NULL)),
        0);
    snprintf(file, sizeof(file), "%s/container.json", w->dir);
    assert_int_equal(json_dump_file(root, file, 0), 0);
    json_decref(root);
    json_t *profile = json_load_file(DATA "/seccomp.json", 0, NULL);
    snprintf(from, sizeof(from), "%s/seccomp.json", w->dir);
    assert_int_equal(json_dump_file(profile, from, 0), 0);
    json_decref(profile);
    close_oci(w);
    open_on(w, w->dir);
}

static void remove_files(struct world *w)
{
    char file[128];
    snprintf(file, sizeof(file), "%s/container.json", w->dir);
    unlink(file);
    snprintf(file, sizeof(file), "%s/seccomp.json", w->dir);
    unlink(file);
}

static void what_nobody_translates_is_an_error(void **state)
{
    struct world *w = *state;
    change_container(w, "Novelty", "1");
    refuse_config(w, CELLAR_E_USAGE, "HostConfig.Novelty");
    remove_files(w);
}

static void what_this_engine_never_does_is_an_error(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *name;
        const char *value;
    } fields[] = {{"Privileged", "true"},        {"Init", "true"},
                  {"CapAdd", "[\"SYS_ADMIN\"]"}, {"PidMode", "\"host\""},
                  {"IpcMode", "\"shareable\""},  {"ReadonlyRootfs", "false"},
                  {"CapDrop", "[\"NET_RAW\"]"},  {"OomKillDisable", "true"},
                  {"Devices", "[{}]"},           {"UTSMode", "\"host\""}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        change_container(w, fields[i].name, fields[i].value);
        refuse_config(w, CELLAR_E_USAGE, fields[i].name);
        remove_files(w);
    }
}

static void limit_with(struct world *w, enum oci_kind kind)
{
    struct oci_runtime runtime = {"/usr/bin/any", kind};
    json_decref(w->config);
    w->config = NULL;
    make(w);
    assert_int_equal(cellar_oci_sandbox_config(&runtime, w->config, &w->err),
                     CELLAR_OK);
}

static const json_t *rule_of(const struct world *w, const char *call)
{
    size_t i = 0;
    json_t *rule = NULL;
    json_array_foreach(cellar_json_at(w->config, "linux.seccomp.syscalls"), i,
                       rule)
    {
        if (has_text(json_object_get(rule, "names"), call))
            return rule;
    }
    return NULL;
}

/* Its threads are the container's here, and of refusals it knows EPERM alone.
 */
static void a_sandbox_is_asked_for_what_it_can_do(void **state)
{
    struct world *w = *state;
    limit_with(w, OCI_RUNC);
    json_int_t pids = json_integer_value(
        cellar_json_at(w->config, "linux.resources.pids.limit"));
    assert_int_equal(
        json_integer_value(json_object_get(rule_of(w, "clone3"), "errnoRet")),
        38);
    limit_with(w, OCI_RUNSC);
    assert_true(json_integer_value(cellar_json_at(
                    w->config, "linux.resources.pids.limit")) > 7 * pids);
    assert_null(json_object_get(rule_of(w, "clone3"), "errnoRet"));
    assert_null(rule_of(w, "ptrace"));
    assert_json(w, "linux.seccomp.defaultAction", "\"SCMP_ACT_ERRNO\"");
}

/* Only what its user allowed by name makes an agent run where it is shown. */
static void an_agent_is_told_that_it_may_be_shown(void **state)
{
    struct world *w = *state;
    w->spec.allow[0] = "tmpfs";
    make(w);
    assert_json(w, "process.args", "[\"/cellar/agent\"]");
    json_decref(w->config);
    w->spec.allow[1] = "agent";
    make(w);
    assert_json(w, "process.args", "[\"/cellar/agent\", \"open\"]");
}

#define WORLD_TEST(name)                                                       \
    cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(asks_for_every_protection),
        WORLD_TEST(has_namespaces_of_its_own),
        WORLD_TEST(limits_are_those_of_the_spec),
        WORLD_TEST(places_to_write_are_small),
        WORLD_TEST(mounts_of_the_user_stay_private_and_read_only),
        WORLD_TEST(there_is_no_other_network),
        WORLD_TEST(a_mount_that_is_not_there_is_refused),
        WORLD_TEST(the_profile_is_for_this_machine_and_whole),
        WORLD_TEST(what_nobody_translates_is_an_error),
        WORLD_TEST(what_this_engine_never_does_is_an_error),
        WORLD_TEST(a_sandbox_is_asked_for_what_it_can_do),
        WORLD_TEST(an_agent_is_told_that_it_may_be_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
