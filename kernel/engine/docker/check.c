/* What `cellar doctor` says of an engine: what it tells about itself, about
 * the image, and what it makes of a real container. */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "../check.h"
#include "cellar/version.h"
#include "docker.h"

#define DISK_LOW_BYTES (2ull << 30)

struct check {
    struct docker_op op; /* first */
    char *image;
    json_t *info; /* GET /info; NULL: not here yet */
    struct cellar_container_plan plan;
    char id[CELLAR_CONTAINER_ID_MAX + 1]; /* of the probe */
    struct cellar_stream *stream;
    uint64_t began_us;
    struct cellar_check_to to;
    cellar_engine_done_fn *done; /* with to.user */
};

static struct check *check_of(struct docker_op *op)
{
    return (struct check *)op;
}

static void destroy_check(struct docker_op *op)
{
    struct check *check = check_of(op);
    cellar_stream_close(check->stream);
    cellar_container_plan_done(&check->plan);
    json_decref(check->info);
    free(check->image);
    free(check);
}

static void end_check(struct check *check)
{
    cellar_engine_done_fn *done = check->done;
    void *user = check->to.user;
    cellar_docker_op_free(&check->op);
    done(user, NULL);
}

static void tell_ok(const struct check *check, const char *name,
                    const char *text)
{
    cellar_check_tell(&check->to, name, CELLAR_CHECK_OK, NULL, "%s", text);
}

/* -------------------------------------------- what the engine's host can */

/* Protections that the engine says it can or can't enforce. */
static const struct ability {
    const char *name;
    const char *key;
    const char *cure;
} abilities[] = {
    {"memory", "MemoryLimit",
     "boot the engine's machine with cgroup_enable=memory"},
    {"swap", "SwapLimit",
     "boot the engine's machine with swapaccount=1 (cgroup v1), or do without "
     "it: --allow swap"},
    {"pids", "PidsLimit",
     "a kernel with CONFIG_CGROUP_PIDS, or do without it: --allow pids"},
    {"cpu", "CpuCfsQuota",
     "a kernel with CONFIG_CFS_BANDWIDTH, or do without it: --allow cpu"},
};

static bool has_security(const json_t *info, const char *name)
{
    size_t i = 0;
    json_t *option = NULL;
    json_array_foreach(json_object_get(info, "SecurityOptions"), i, option)
    {
        const char *text = json_string_value(option);
        if (text && strstr(text, name))
            return true;
    }
    return false;
}

/* NULL: nothing says that `name` is missing; else the cure. */
static const char *inability(const json_t *info, const char *name)
{
    if (strcmp(name, "seccomp") == 0 && !has_security(info, "seccomp"))
        return "a kernel with CONFIG_SECCOMP_FILTER, and an engine built with "
               "seccomp";
    for (size_t i = 0; i < sizeof(abilities) / sizeof(*abilities); i++)
        if (strcmp(abilities[i].name, name) == 0 &&
            json_is_false(json_object_get(info, abilities[i].key)))
            return abilities[i].cure;
    return NULL;
}

static void tell_engine(const struct check *check)
{
    cellar_check_tell(&check->to, "engine", CELLAR_CHECK_OK, NULL,
                      "version %s answers at %s, spoken to in API 1.%d",
                      cellar_docker_string(check->info, "ServerVersion"),
                      cellar_http_name(check->op.docker->http),
                      check->op.docker->api_minor);
    tell_ok(check, "permission", "this user may use the engine");
}

static void tell_runtime(const struct check *check)
{
    char names[160] = "";
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(check->info, "Runtimes"), key, value)
    {
        size_t len = strlen(names);
        snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "",
                 key);
    }
    const char *commit = cellar_docker_string(check->info, "RuncCommit.ID");
    cellar_check_tell(&check->to, "oci_runtime", CELLAR_CHECK_OK, NULL,
                      "%s is the default%s%s (there are: %s)",
                      cellar_docker_string(check->info, "DefaultRuntime"),
                      *commit ? ", runc is version " : "", commit, names);
}

static void tell_machine(const struct check *check)
{
    const json_t *info = check->info;
    cellar_check_tell(&check->to, "machine", CELLAR_CHECK_OK, NULL,
                      "%s, Linux %s, cgroup v%s by %s",
                      cellar_docker_string(info, "OperatingSystem"),
                      cellar_docker_string(info, "KernelVersion"),
                      cellar_docker_string(info, "CgroupVersion"),
                      cellar_docker_string(info, "CgroupDriver"));
    const char *module = has_security(info, "apparmor")  ? "AppArmor"
                         : has_security(info, "selinux") ? "SELinux"
                                                         : NULL;
    if (module)
        cellar_check_tell(&check->to, "lsm", CELLAR_CHECK_OK, NULL,
                          "%s confines containers too", module);
    else
        cellar_check_tell(
            &check->to, "lsm", CELLAR_CHECK_WARN,
            "AppArmor or SELinux on the engine's machine would be one more "
            "wall; Cellar does not need it",
            "neither AppArmor nor SELinux confines containers");
    if (has_security(info, "rootless"))
        tell_ok(check, "userns", "the engine runs without root");
    else if (has_security(info, "userns"))
        tell_ok(check, "userns", "containers have a user namespace");
    else
        tell_ok(check, "userns",
                "containers share the host's user namespace; no session is "
                "root in it");
}

static void tell_disk(const struct check *check)
{
    const char *root = cellar_docker_string(check->info, "DockerRootDir");
    const char *driver = cellar_docker_string(check->info, "Driver");
    struct statvfs fs;
    bool local =
        strncmp(cellar_http_name(check->op.docker->http), "unix:", 5) == 0;
    if (!local || !*root || statvfs(root, &fs)) {
        cellar_check_tell(&check->to, "disk", CELLAR_CHECK_OK, NULL,
                          "images are kept by %s", driver);
        return;
    }
    unsigned long long room = (unsigned long long)fs.f_bavail * fs.f_frsize;
    bool low = room < DISK_LOW_BYTES;
    cellar_check_tell(&check->to, "disk",
                      low ? CELLAR_CHECK_WARN : CELLAR_CHECK_OK,
                      low ? "docker system df; docker system prune" : NULL,
                      "%.1f GiB are free in %s, where images are kept by %s",
                      (double)room / (1 << 30), root, driver);
}

/* --------------------------------------------------------- protections -- */

/* One protection: `wrong` is the first field that is not as asked for. */
static void tell_protection(void *user, const char *name, const char *wrong)
{
    const struct check *check = user;
    const char *cure = inability(check->info, name);
    const char *text = cellar_container_spec_text(check->op.docker->spec, name);
    if (cure)
        cellar_check_tell(&check->to, name, CELLAR_CHECK_FAIL, cure,
                          "the engine's machine cannot enforce it: %s", text);
    else if (wrong)
        cellar_check_tell(&check->to, name, CELLAR_CHECK_FAIL, NULL,
                          "the engine shows another %s than was asked for",
                          wrong);
    else
        tell_ok(check, name, text ? text : "every other field is as asked for");
}

/* Without a probe: what the engine says it can. */
static void tell_abilities(const struct check *check)
{
    struct cellar_container_spec *spec = NULL;
    struct cellar_error err;
    if (cellar_docker_files(check->op.docker, &spec, &err)) {
        cellar_check_tell_error(&check->to, "container", &err);
        return;
    }
    for (size_t i = 0; i < sizeof(abilities) / sizeof(*abilities); i++)
        tell_protection((void *)check, abilities[i].name, NULL);
    tell_protection((void *)check, "seccomp", NULL);
}

/* --------------------------------------------------------------- probe -- */

static void probe_closed(void *user, const struct cellar_error *err)
{
    (void)err;
    struct check *check = user;
    cellar_stream_close(CELLAR_TAKE(check->stream));
}

static const struct cellar_stream_events probe_events = {
    .bytes = cellar_check_no_bytes,
    .text = cellar_check_no_text,
    .closed = probe_closed,
};

static void on_probe_removed(void *user, const struct cellar_error *err)
{
    struct check *check = user;
    if (err)
        cellar_check_tell_error(&check->to, "remove", err);
    end_check(check);
}

static void remove_probe(struct check *check)
{
    struct cellar_error err;
    cellar_stream_close(CELLAR_TAKE(check->stream));
    enum cellar_code code = cellar_docker_remove(
        &check->op.docker->engine, check->id, on_probe_removed, check, &err);
    if (code)
        on_probe_removed(check, &err);
}

static void on_probe_inspected(struct docker_op *op,
                               const struct docker_reply *r)
{
    struct check *check = check_of(op);
    struct cellar_error err;
    enum cellar_code code =
        r->status == 200
            ? cellar_docker_verify(op->docker->spec, &check->plan, r->body,
                                   tell_protection, check, &err)
            : cellar_docker_fail_reply(&err, CELLAR_E_ENGINE,
                                       "inspecting the container", r);
    if (code)
        cellar_check_tell_error(&check->to, "container", &err);
    remove_probe(check);
}

static void on_probe_started(void *user, const char *id,
                             struct cellar_stream *stream,
                             const struct cellar_error *err)
{
    struct check *check = user;
    struct cellar_error own;
    char path[DOCKER_PATH_MAX];
    if (err) {
        cellar_check_tell_error(&check->to, "container", err);
        tell_abilities(check);
        end_check(check);
        return;
    }
    snprintf(check->id, sizeof(check->id), "%s", id);
    check->stream = stream;
    cellar_check_tell(&check->to, "container", CELLAR_CHECK_OK, NULL,
                      "a hardened container starts in %.0f ms",
                      (double)(cellar_loop_now_us() - check->began_us) / 1000);
    struct docker_ask ask = {.method = "GET", .path = path};
    if (cellar_docker_path(path, &own, "/containers/%s/json", id) ||
        cellar_docker_op_send(&check->op, &ask, on_probe_inspected, &own)) {
        cellar_check_tell_error(&check->to, "container", &own);
        remove_probe(check);
    }
}

/* The container a session of the default spec would have, whose agent waits
 * for a key that never comes. */
static void start_probe(struct check *check)
{
    struct docker *docker = check->op.docker;
    struct cellar_spec spec;
    struct cellar_container_spec *files = NULL;
    struct cellar_error err;
    cellar_spec_init(&spec);
    spec.image = check->image;
    struct cellar_launch launch = {
        .spec = &spec, .owner = "doctor", .uid = CELLAR_PROBE_UID};
    check->began_us = cellar_loop_now_us();
    enum cellar_code code = cellar_docker_files(docker, &files, &err);
    if (!code)
        code = cellar_container_plan_init(&check->plan, files, &launch, &err);
    if (!code)
        code = cellar_docker_start(&docker->engine, &launch, &probe_events,
                                   on_probe_started, check, &err);
    if (code)
        on_probe_started(check, NULL, NULL, &err);
}

/* --------------------------------------------------------------- image -- */

static void tell_image(const struct check *check, const json_t *image)
{
    const char *version = json_string_value(json_object_get(
        cellar_json_at(image, "Config.Labels"), CELLAR_LABEL_VERSION));
    const char *created = cellar_docker_string(image, "Created");
    if (!version)
        cellar_check_tell(
            &check->to, "image", CELLAR_CHECK_OK, NULL,
            "%s is there, made on %.10s, and no image of Cellar's own",
            check->image, created);
    else if (strcmp(version, CELLAR_VERSION) == 0)
        cellar_check_tell(&check->to, "image", CELLAR_CHECK_OK, NULL,
                          "%s is there, made on %.10s", check->image, created);
    else
        cellar_check_tell(&check->to, "image", CELLAR_CHECK_WARN,
                          "cellar image build",
                          "%s was made on %.10s for Cellar %s; this is %s",
                          check->image, created, version, CELLAR_VERSION);
}

static void on_image(struct docker_op *op, const struct docker_reply *r)
{
    struct check *check = check_of(op);
    struct cellar_error err;
    if (r->status == 200) {
        json_t *image = cellar_json_parse(r->body, r->len, 0, NULL);
        tell_image(check, image);
        json_decref(image);
        start_probe(check);
        return;
    }
    if (r->status == 404)
        cellar_docker_fail_image(&err, check->image);
    else
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, "looking for the image",
                                 r);
    cellar_check_tell_error(&check->to, "image", &err);
    tell_abilities(check);
    end_check(check);
}

/* --------------------------------------------------------------- calls -- */

/* The engine fell silent, or never spoke: that is a finding, too. */
static void on_silence(struct docker_op *op, const struct cellar_error *err)
{
    struct check *check = check_of(op);
    if (*check->id) { /* amid the probe, which must go */
        cellar_check_tell_error(&check->to, "container", err);
        remove_probe(check);
        return;
    }
    cellar_check_tell_error(
        &check->to, err->code == CELLAR_E_DENIED ? "permission" : "engine",
        err);
    end_check(check);
}

static void on_info(struct docker_op *op, const struct docker_reply *r)
{
    struct check *check = check_of(op);
    struct cellar_error err;
    char path[DOCKER_PATH_MAX];
    if (r->status != 200) {
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, "asking the engine", r);
        on_silence(op, &err);
        return;
    }
    check->info = cellar_json_parse(r->body, r->len, 0, NULL);
    tell_engine(check);
    tell_runtime(check);
    tell_machine(check);
    tell_disk(check);
    struct docker_ask ask = {.method = "GET", .path = path};
    if (cellar_docker_path(path, &err, "/images/%s/json", check->image))
        on_silence(op, &err);
    else
        cellar_docker_op_next(op, &ask, on_image);
}

static enum cellar_code ask_info(struct docker_op *op, struct cellar_error *err)
{
    struct docker_ask ask = {.method = "GET", .path = "/info"};
    return cellar_docker_op_send(op, &ask, on_info, err);
}

enum cellar_code cellar_docker_check(struct cellar_engine *engine,
                                     const struct cellar_spec *spec,
                                     cellar_check_fn *row,
                                     cellar_engine_done_fn *done, void *user,
                                     struct cellar_error *err)
{
    struct check *check = calloc(1, sizeof(*check));
    if (!check)
        return cellar_fail(err, CELLAR_E_NOMEM, "check: out of memory");
    check->op.failed = on_silence;
    check->op.destroy = destroy_check;
    check->to = (struct cellar_check_to){row, user};
    check->done = done;
    check->image = strdup(spec->image);
    if (check->image)
        return cellar_docker_op_begin((struct docker *)engine, &check->op,
                                      ask_info, err);
    destroy_check(&check->op);
    return cellar_fail(err, CELLAR_E_NOMEM, "check: out of memory");
}
