/* The container's description: what is asked for, and the comparison with
 * what an engine shows. Works on the real container.json and seccomp.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "kernel/engine/docker/verify.h"

#define DATA CELLAR_SOURCE_DIR "/kernel/engine"

static struct cellar_container_spec *load(void)
{
    struct cellar_container_spec *spec = NULL;
    struct cellar_error err = {0};
    if (cellar_container_spec_load(DATA, &spec, &err))
        fail_msg("%s", err.msg);
    return spec;
}

static struct cellar_launch launch_of(struct cellar_spec *spec)
{
    cellar_spec_init(spec);
    return (struct cellar_launch){
        .spec = spec, .owner = "owner-1", .uid = 61007};
}

static json_t *body_of(const struct cellar_container_spec *files,
                       const struct cellar_launch *launch)
{
    struct cellar_container_plan plan;
    struct cellar_error err = {0};
    if (cellar_container_plan_init(&plan, files, launch, &err))
        fail_msg("%s", err.msg);
    json_t *body = json_loads(plan.body, 0, NULL);
    assert_non_null(body);
    cellar_container_plan_done(&plan);
    return body;
}

static void assert_json(const json_t *body, const char *path, const char *text)
{
    json_t *wanted = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(wanted);
    if (!json_equal(cellar_json_at(body, path), wanted))
        fail_msg("%s is not %s", path, text);
    json_decref(wanted);
}

static void asks_for_every_protection(void **state)
{
    (void)state;
    struct cellar_spec spec;
    struct cellar_launch launch = launch_of(&spec);
    struct cellar_container_spec *files = load();
    json_t *body = body_of(files, &launch);
    static const char *const fields[][2] = {
        {"User", "\"61007:61007\""},
        {"Entrypoint", "[\"/cellar/agent\"]"},
        {"Cmd", "[]"},
        {"Env", "[]"},
        {"Healthcheck", "{\"Test\":[\"NONE\"]}"},
        {"Tty", "false"},
        {"OpenStdin", "true"},
        {"StdinOnce", "false"},
        {"NetworkDisabled", "true"},
        {"HostConfig.NetworkMode", "\"none\""},
        {"HostConfig.Init", "false"},
        {"HostConfig.Privileged", "false"},
        {"HostConfig.CapDrop", "[\"ALL\"]"},
        {"HostConfig.CapAdd", "[]"},
        {"HostConfig.ReadonlyRootfs", "true"},
        {"HostConfig.IpcMode", "\"private\""},
        {"HostConfig.PidMode", "\"\""},
        {"HostConfig.CgroupnsMode", "\"private\""},
        {"HostConfig.Memory", "536870912"},
        {"HostConfig.MemorySwap", "536870912"},
        {"HostConfig.PidsLimit", "128"},
        {"HostConfig.NanoCpus", "1000000000"},
        {"HostConfig.AutoRemove", "false"},
        {"HostConfig.Sysctls", "{\"kernel.shm_rmid_forced\":\"1\"}"},
        {"HostConfig.LogConfig", "{\"Type\":\"none\",\"Config\":{}}"},
        {"HostConfig.Mounts", "[]"},
        {"HostConfig.Devices", "[]"},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        assert_json(body, fields[i][0], fields[i][1]);
    assert_null(cellar_json_at(body, "HostConfig.Runtime"));
    json_decref(body);
    cellar_container_spec_free(files);
}

static void brings_its_own_seccomp_profile(void **state)
{
    (void)state;
    struct cellar_spec spec;
    struct cellar_launch launch = launch_of(&spec);
    struct cellar_container_spec *files = load();
    json_t *body = body_of(files, &launch);
    const json_t *options = cellar_json_at(body, "HostConfig.SecurityOpt");
    assert_string_equal(json_string_value(json_array_get(options, 0)),
                        "no-new-privileges:true");
    const char *seccomp = json_string_value(json_array_get(options, 1));
    assert_memory_equal(seccomp, "seccomp={", 9);
    json_t *profile = json_loads(seccomp + 8, 0, NULL);
    assert_json(profile, "defaultAction", "\"SCMP_ACT_ERRNO\"");
    assert_null(strstr(seccomp, "//"));
    static const char *const refused[] = {
        "\"ptrace\"",
        "\"process_vm_readv\"",
        "\"mount\"",
        "\"unshare\"",
        "\"setns\"",
        "\"bpf\"",
        "\"io_uring_setup\"",
        "\"keyctl\"",
        "\"shmget\"",
        "\"userfaultfd\"",
        "\"memfd_secret\"",
        "\"perf_event_open\"",
        "\"open_by_handle_at\"",
        "\"pidfd_getfd\"",
        "\"chroot\"",
        "\"pivot_root\"",
        "\"mq_open\"",
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        assert_null(strstr(seccomp, refused[i]));
    json_decref(profile);
    json_decref(body);
    cellar_container_spec_free(files);
}

static void labels_and_names_the_container(void **state)
{
    (void)state;
    struct cellar_spec spec;
    struct cellar_launch launch = launch_of(&spec);
    struct cellar_container_spec *files = load();
    struct cellar_container_plan plan;
    struct cellar_container_plan other;
    spec.name = "notes";
    assert_int_equal(cellar_container_plan_init(&plan, files, &launch, NULL),
                     0);
    assert_string_equal(plan.name, "cellar-notes");
    assert_non_null(strstr(plan.body, "\"io.cellar.session\":\"notes\""));
    assert_non_null(strstr(plan.body, "\"io.cellar.owner\":\"owner-1\""));
    assert_non_null(strstr(plan.body, "\"io.cellar.uid\":\"61007\""));
    cellar_container_plan_done(&plan);

    spec.name = NULL;
    assert_int_equal(cellar_container_plan_init(&plan, files, &launch, NULL),
                     0);
    assert_int_equal(cellar_container_plan_init(&other, files, &launch, NULL),
                     0);
    assert_int_equal(strlen(plan.name), strlen("cellar-") + 16);
    assert_string_not_equal(plan.name, other.name);
    cellar_container_plan_done(&plan);
    cellar_container_plan_done(&other);
    cellar_container_spec_free(files);
}

static void gives_what_the_user_asked_for(void **state)
{
    (void)state;
    struct cellar_spec spec;
    struct cellar_launch launch = launch_of(&spec);
    struct cellar_container_spec *files = load();
    launch.entrypoint = "/bin/cat";
    spec.network = "bridge";
    spec.runtime = "crun";
    spec.memory_bytes = 64 << 20;
    spec.cpu_millis = 250;
    spec.pids = 33;
    spec.tmp_bytes = 1 << 20;
    spec.tmp_files = 320;
    spec.mounts[3] = "/srv/data:/data";
    spec.mounts[5] = "/srv/out:/out:rw";
    json_t *body = body_of(files, &launch);
    assert_json(body, "Entrypoint", "[\"/bin/cat\"]");
    assert_json(body, "NetworkDisabled", "false");
    assert_json(body, "HostConfig.NetworkMode", "\"bridge\"");
    assert_json(body, "HostConfig.Runtime", "\"crun\"");
    assert_json(body, "HostConfig.MemorySwap", "67108864");
    assert_json(body, "HostConfig.NanoCpus", "250000000");
    assert_json(body, "HostConfig.PidsLimit", "33");
    assert_json(body, "HostConfig.Mounts",
                "[{\"Type\":\"bind\",\"Source\":\"/srv/data\",\"Target\":"
                "\"/data\",\"ReadOnly\":true,\"BindOptions\":{\"Propagation\":"
                "\"rprivate\",\"NonRecursive\":true}},"
                "{\"Type\":\"bind\",\"Source\":\"/srv/out\",\"Target\":"
                "\"/out\",\"ReadOnly\":false,\"BindOptions\":{\"Propagation\":"
                "\"rprivate\",\"NonRecursive\":true}}]");
    const json_t *tmpfs = cellar_json_at(body, "HostConfig.Tmpfs");
    assert_string_equal(json_string_value(json_object_get(tmpfs, "/tmp")),
                        "rw,noexec,nosuid,nodev,mode=1777,size=1048576,"
                        "nr_inodes=320");
    json_decref(body);
    cellar_container_spec_free(files);
}

static void refuses_mounts_that_undo_the_container(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "/srv",
        "srv:/data",
        "/srv:data",
        "/srv/../etc:/x",
        "/srv/..:/x",
        "/srv:/x/../proc",
        "/srv:/",
        "/:/x",
        "/srv:/proc",
        "/srv:/proc/self",
        "/srv:/sys/fs",
        "/srv:/cellar",
        "/srv:/dev/shm",
        "/srv:/tmp",
        "/srv:/x:suid",
        "/srv:/./proc",
        "/srv://proc",
        "/srv:/x/",
        "/srv:/x:",
        "",
        ":",
    };
    struct cellar_container_spec *files = load();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct cellar_spec spec;
        struct cellar_launch launch = launch_of(&spec);
        struct cellar_container_plan plan;
        struct cellar_error err = {0};
        spec.mounts[0] = wrong[i];
        if (!cellar_container_plan_init(&plan, files, &launch, &err))
            fail_msg("took the mount \"%s\"", wrong[i]);
        assert_int_equal(err.code, CELLAR_E_USAGE);
        assert_non_null(strstr(err.msg, wrong[i]));
    }
    cellar_container_spec_free(files);
}

/* ------------------------------------------------------- damaged files -- */

/* Copies a data file into `dir`, its first `from` replaced by `to`. */
static void copy_changed(const char *dir, const char *name, const char *from,
                         const char *to)
{
    char path[256];
    static char text[65536];
    snprintf(path, sizeof(path), DATA "/%s", name);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t len = fread(text, 1, sizeof(text) - 1, in);
    text[len] = '\0';
    fclose(in);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    char *at = from ? strstr(text, from) : NULL;
    assert_true(at || !from);
    if (at)
        fprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    else
        fputs(text, out);
    fclose(out);
}

static void assert_refused(const char *name, const char *from, const char *to,
                           const char *words)
{
    char dir[] = "/tmp/cellar-spec-XXXXXX";
    char path[256];
    struct cellar_container_spec *files = NULL;
    struct cellar_error err = {0};
    bool container = strcmp(name, "container.json") == 0;
    assert_non_null(mkdtemp(dir));
    copy_changed(dir, "container.json", container ? from : NULL, to);
    copy_changed(dir, "seccomp.json", container ? NULL : from, to);
    assert_int_equal(cellar_container_spec_load(dir, &files, &err),
                     CELLAR_E_USAGE);
    assert_null(files);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" is not in \"%s\"", words, err.msg);
    snprintf(path, sizeof(path), "%s/container.json", dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/seccomp.json", dir);
    unlink(path);
    rmdir(dir);
}

static void refuses_damaged_files(void **state)
{
    (void)state;
    assert_refused("container.json", "\"container\": {", "\"container\": [",
                   "container.json is damaged: line");
    assert_refused("container.json", "\"name\": \"swap\"", "\"name\": \"x\"",
                   "no protection \"swap\"");
    assert_refused("container.json", "\"PidsLimit\"", "\"Pids\"",
                   "no field HostConfig.PidsLimit");
    assert_refused("container.json", "\"Init\": false",
                   "\"Init\": false, \"Init\": true", "duplicate");
    assert_refused("seccomp.json", "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW",
                   "must refuse");
    struct cellar_container_spec *files = NULL;
    struct cellar_error err = {0};
    assert_int_equal(cellar_container_spec_load("/nonexistent", &files, &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "/nonexistent/container.json"));
}

/* ---------------------------------------------------------- comparison -- */

struct verdicts {
    int rows;
    int wrong;
    char protection[32];
    char field[64];
};

static void on_verified(void *user, const char *protection, const char *wrong)
{
    struct verdicts *v = user;
    v->rows++;
    if (!wrong)
        return;
    v->wrong++;
    snprintf(v->protection, sizeof(v->protection), "%s", protection);
    snprintf(v->field, sizeof(v->field), "%s", wrong);
}

/* What an engine that does all as asked shows. */
static json_t *faithful(const struct cellar_container_plan *plan)
{
    json_t *config = json_loads(plan->body, 0, NULL);
    json_t *host = json_incref(json_object_get(config, "HostConfig"));
    json_object_del(config, "HostConfig");
    json_object_set_new(config, "Env", json_pack("[s]", "PATH=/bin"));
    json_object_set_new(config, "Cmd", json_null());
    json_object_set_new(host, "Runtime", json_string("runc"));
    json_object_set_new(host, "Binds", json_null());
    json_object_del(host, "PortBindings");
    return json_pack("{s:o, s:o}", "Config", config, "HostConfig", host);
}

static struct verdicts verdicts_on(const char *path, json_t *value)
{
    struct cellar_spec spec;
    struct cellar_launch launch = launch_of(&spec);
    struct cellar_container_spec *files = load();
    struct cellar_container_plan plan;
    struct verdicts v = {0};
    assert_int_equal(cellar_container_plan_init(&plan, files, &launch, NULL),
                     0);
    json_t *shown = faithful(&plan);
    if (path) {
        const char *dot = strrchr(path, '.');
        char parent[64];
        snprintf(parent, sizeof(parent), "%.*s", (int)(dot - path), path);
        json_object_set_new(cellar_json_at(shown, parent), dot + 1, value);
    }
    char *inspect = json_dumps(shown, 0);
    assert_int_equal(
        cellar_docker_verify(files, &plan, inspect, on_verified, &v, NULL),
        CELLAR_OK);
    free(inspect);
    json_decref(shown);
    cellar_container_plan_done(&plan);
    cellar_container_spec_free(files);
    return v;
}

static void finds_nothing_wrong_with_a_faithful_engine(void **state)
{
    (void)state;
    struct verdicts v = verdicts_on(NULL, NULL);
    assert_int_equal(v.wrong, 0);
    assert_true(v.rows >= 19);
}

static void names_the_protection_that_an_engine_left_out(void **state)
{
    (void)state;
    const struct {
        const char *path;
        json_t *value;
        const char *protection;
    } changes[] = {
        {"Config.User", json_string("0:0"), "user"},
        {"Config.OpenStdin", json_false(), "life"},
        {"Config.Hostname", json_string("other"), "other"},
        {"HostConfig.Init", json_true(), "init"},
        {"HostConfig.Privileged", json_true(), "capabilities"},
        {"HostConfig.CapAdd", json_pack("[s]", "SYS_ADMIN"), "capabilities"},
        {"HostConfig.CapDrop", json_null(), "capabilities"},
        {"HostConfig.SecurityOpt", json_pack("[s]", "seccomp=unconfined"),
         "seccomp"},
        {"HostConfig.ReadonlyRootfs", json_false(), "read_only"},
        {"HostConfig.MaskedPaths", json_array(), "read_only"},
        {"HostConfig.Binds", json_pack("[s]", "/:/host"), "mounts"},
        {"HostConfig.NetworkMode", json_string("host"), "network"},
        {"HostConfig.PidMode", json_string("host"), "namespaces"},
        {"HostConfig.Memory", json_integer(0), "memory"},
        {"HostConfig.MemorySwap", json_integer(-1), "swap"},
        {"HostConfig.PidsLimit", json_null(), "pids"},
        {"HostConfig.NanoCpus", json_integer(2000000000), "cpu"},
        {"HostConfig.Ulimits", json_array(), "ulimits"},
        {"HostConfig.Tmpfs./tmp", json_string("rw"), "tmpfs"},
        {"HostConfig.Sysctls", json_null(), "sysctls"},
        {"HostConfig.LogConfig.Type", json_string("json-file"), "log"},
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
        struct verdicts v = verdicts_on(changes[i].path, changes[i].value);
        assert_int_equal(v.wrong, 1);
        assert_string_equal(v.protection, changes[i].protection);
        assert_non_null(strstr(changes[i].path, v.field));
    }
}

static void refuses_an_inspect_that_is_none(void **state)
{
    (void)state;
    struct cellar_spec spec;
    struct cellar_launch launch = launch_of(&spec);
    struct cellar_container_spec *files = load();
    struct cellar_container_plan plan;
    struct verdicts v = {0};
    assert_int_equal(cellar_container_plan_init(&plan, files, &launch, NULL),
                     0);
    static const char *const wrong[] = {"", "[]", "{}", "{\"Config\":{}}",
                                        "{\"Config\":1,\"HostConfig\":2}"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_int_equal(
            cellar_docker_verify(files, &plan, wrong[i], on_verified, &v, NULL),
            CELLAR_E_ENGINE);
    assert_int_equal(v.rows, 0);
    cellar_container_plan_done(&plan);
    cellar_container_spec_free(files);
}

static void knows_what_a_warning_is_about(void **state)
{
    (void)state;
    static const char *const warnings[][2] = {
        {"Your kernel does not support swap limit capabilities or the cgroup "
         "is not mounted. Memory limited without swap.",
         "swap"},
        {"Your kernel does not support memory limit capabilities or the cgroup "
         "is not mounted. Limitation discarded.",
         "memory"},
        {"Your kernel does not support PIDs limit capabilities or the cgroup "
         "is "
         "not mounted. PIDs limit discarded.",
         "pids"},
        {"Your kernel does not support CPU CFS quota or the cgroup is not "
         "mounted. Quota discarded.",
         "cpu"},
        {"Your kernel does not support something new. Discarded.", "kernel"},
    };
    struct cellar_container_spec *files = load();
    for (size_t i = 0; i < sizeof(warnings) / sizeof(*warnings); i++)
        assert_string_equal(cellar_container_spec_warned(files, warnings[i][0]),
                            warnings[i][1]);
    assert_null(cellar_container_spec_warned(files, "It is raining."));
    cellar_container_spec_free(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_for_every_protection),
        cmocka_unit_test(brings_its_own_seccomp_profile),
        cmocka_unit_test(labels_and_names_the_container),
        cmocka_unit_test(gives_what_the_user_asked_for),
        cmocka_unit_test(refuses_mounts_that_undo_the_container),
        cmocka_unit_test(refuses_damaged_files),
        cmocka_unit_test(finds_nothing_wrong_with_a_faithful_engine),
        cmocka_unit_test(names_the_protection_that_an_engine_left_out),
        cmocka_unit_test(refuses_an_inspect_that_is_none),
        cmocka_unit_test(knows_what_a_warning_is_about),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
