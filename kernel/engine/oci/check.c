/* What `cellar doctor` says of this engine: the runtime, the machine, and what
 * it makes of a real container. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include "../../json.h"
#include "../../spec.h"
#include "../check.h"
#include "oci.h"

#define DISK_LOW_BYTES (256ull << 20)

struct check {
    struct oci_op op; /* first */
    struct oci_runtime runtime;
    struct cellar_spec spec;
    char id[OCI_ID_BYTES]; /* of the probe; "" none */
    struct cellar_stream *stream;
    uint64_t began_us;
    struct cellar_check_to to;
    cellar_engine_done_fn *done; /* with to.user */
};

static void destroy_check(struct oci_op *op)
{
    struct check *check = (struct check *)op;
    cellar_stream_close(check->stream);
    cellar_spec_done(&check->spec);
    free(check);
}

static void end_check(struct check *check)
{
    cellar_engine_done_fn *done = check->done;
    void *user = check->to.user;
    cellar_oci_op_free(&check->op);
    done(user, NULL);
}

/* --------------------------------------------------------- the machine -- */

static void tell_groups(const struct check *check)
{
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    bool v1 = access("/sys/fs/cgroup/memory", F_OK) == 0;
    struct utsname name = {.release = ""};
    (void)uname(&name);
    if (v1 || v2)
        cellar_check_tell(&check->to, "machine", CELLAR_CHECK_OK, NULL,
                          "Linux %s, cgroup %s", name.release,
                          v2 ? "v2" : "v1");
    else
        cellar_check_tell(
            &check->to, "machine", CELLAR_CHECK_FAIL,
            "mount control groups at /sys/fs/cgroup; or do without limits: "
            "--allow memory --allow swap --allow pids --allow cpu",
            "Linux %s has no control groups at /sys/fs/cgroup", name.release);
}

static void tell_users(const struct check *check)
{
    struct cellar_error err;
    if (geteuid() == 0)
        cellar_check_tell(
            &check->to, "userns", CELLAR_CHECK_OK, NULL,
            "containers share the host's user namespace; no session is root "
            "in it");
    else if (cellar_oci_subuid_find(&err))
        cellar_check_tell_error(&check->to, "userns", &err);
    else
        cellar_check_tell(
            &check->to, "userns", CELLAR_CHECK_OK, NULL,
            "containers are in a user namespace of this user's, with uids of "
            "their own");
}

static void tell_python(const struct check *check)
{
    bool here = access("/usr/bin/python3", X_OK) == 0 ||
                access("/usr/local/bin/python3", X_OK) == 0;
    if (here)
        cellar_check_tell(&check->to, "python", CELLAR_CHECK_OK, NULL,
                          "/usr has a python3, which sessions run");
    else
        cellar_check_tell(&check->to, "python", CELLAR_CHECK_FAIL,
                          "apt-get install python3", "/usr has no python3");
}

static void tell_disk(const struct check *check)
{
    struct statvfs fs;
    const char *path = check->op.oci->state_dir;
    if (statvfs(path, &fs) != 0)
        return;
    unsigned long long room = (unsigned long long)fs.f_bavail * fs.f_frsize;
    bool low = room < DISK_LOW_BYTES;
    cellar_check_tell(
        &check->to, "disk", low ? CELLAR_CHECK_WARN : CELLAR_CHECK_OK,
        low ? "make room, or give another --state-dir" : NULL,
        "%.1f GiB are free in %s", (double)room / (1 << 30), path);
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

static void tell_protection(void *user, const char *name, const char *wrong)
{
    const struct check *check = user;
    const char *text = cellar_container_spec_text(check->op.oci->spec, name);
    if (wrong)
        cellar_check_tell(&check->to, name, CELLAR_CHECK_FAIL, NULL,
                          "%s, but it must hold: %s", wrong, text ? text : "");
    else
        cellar_check_tell(&check->to, name, CELLAR_CHECK_OK, NULL, "%s",
                          text ? text : "");
}

static void look_at_probe(struct check *check)
{
    struct oci_born born;
    CELLAR_AUTO_CLOSE int fd = cellar_oci_bundle_open(check->op.oci, check->id);
    CELLAR_AUTO_FREE char *text =
        fd < 0 ? NULL : cellar_oci_file_read(fd, "config.json");
    json_t *config =
        text ? cellar_json_parse(text, strlen(text), 0, NULL) : NULL;
    struct oci_made made = {check->op.oci, &check->runtime, &born, check->id,
                            config};
    if (config && cellar_oci_born_read(fd, &born))
        (void)cellar_oci_verify(&made, tell_protection, check);
    json_decref(config);
}

static void on_probe_started(void *user, const char *id,
                             struct cellar_stream *stream,
                             const struct cellar_error *err)
{
    struct check *check = user;
    struct cellar_error own;
    if (err) {
        cellar_check_tell_error(&check->to, "container", err);
        end_check(check);
        return;
    }
    memcpy(check->id, id, sizeof(check->id));
    check->stream = stream;
    cellar_check_tell(&check->to, "container", CELLAR_CHECK_OK, NULL,
                      "a hardened container starts in %.0f ms",
                      (double)(cellar_loop_now_us() - check->began_us) / 1000);
    look_at_probe(check);
    cellar_stream_close(CELLAR_TAKE(check->stream));
    enum cellar_code code = cellar_oci_remove(&check->op.oci->engine, check->id,
                                              on_probe_removed, check, &own);
    if (code)
        on_probe_removed(check, &own);
}

/* The container a session of the default spec would have, whose agent waits
 * for a key that never comes. What can't be enforced shall be told of one by
 * one, so it is all allowed. */
static void start_probe(struct check *check)
{
    static const char *const limits[] = {"memory", "swap",  "pids", "cpu",
                                         "user",   "tmpfs", "agent"};
    struct cellar_spec spec;
    struct cellar_error err;
    cellar_spec_init(&spec);
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
        spec.allow[i] = limits[i];
    spec.runtime = check->runtime.path;
    spec.rootfs = check->spec.rootfs;
    struct cellar_launch launch = {
        .spec = &spec, .owner = "doctor", .uid = CELLAR_PROBE_UID};
    check->began_us = cellar_loop_now_us();
    if (cellar_oci_start(&check->op.oci->engine, &launch, &probe_events,
                         on_probe_started, check, &err))
        on_probe_started(check, NULL, NULL, &err);
}

/* ------------------------------------------------------------- runtime -- */

static void on_version(void *user, const struct oci_end *end)
{
    struct check *check = user;
    check->op.run = NULL;
    char line[128];
    (void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(end->words, "\n"),
                   end->words);
    if (end->late || end->status != 0) {
        cellar_check_tell(&check->to, "oci_runtime", CELLAR_CHECK_FAIL,
                          "install another one: apt-get install runc",
                          "%s does not tell its version", check->runtime.path);
        end_check(check);
        return;
    }
    cellar_check_tell(&check->to, "oci_runtime", CELLAR_CHECK_OK, NULL,
                      "%s is %s", check->runtime.path, line);
    tell_groups(check);
    tell_users(check);
    tell_python(check);
    tell_disk(check);
    start_probe(check);
}

static void begin(struct oci_op *op)
{
    struct check *check = (struct check *)op;
    struct cellar_error err;
    static const char *const arguments[] = {"--version", NULL};
    struct oci_ask ask = {.runtime = &check->runtime,
                          .arguments = arguments,
                          .deadline_ms = OCI_ASK_MS};
    if (cellar_oci_runtime_find(check->spec.runtime, &check->runtime, &err) ||
        cellar_oci_run(op->oci, &ask, on_version, check, &op->run, &err)) {
        cellar_check_tell_error(&check->to, "oci_runtime", &err);
        end_check(check);
    }
}

enum cellar_code cellar_oci_check(struct cellar_engine *engine,
                                  const struct cellar_spec *spec,
                                  cellar_check_fn *row,
                                  cellar_engine_done_fn *done, void *user,
                                  struct cellar_error *err)
{
    struct check *check = calloc(1, sizeof(*check));
    if (!check)
        return cellar_fail(err, CELLAR_E_NOMEM, "check: out of memory");
    check->op.destroy = destroy_check;
    check->to = (struct cellar_check_to){row, user};
    check->done = done;
    cellar_oci_op_begin((struct oci *)engine, &check->op);
    enum cellar_code code = cellar_spec_copy(spec, &check->spec, err);
    if (!code)
        code = cellar_oci_op_later(&check->op, 0, begin, err);
    if (code)
        cellar_oci_op_free(&check->op);
    return code;
}
