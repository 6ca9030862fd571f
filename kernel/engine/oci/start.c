/* From a spec to a container that runs, and its stream:
 *
 *     bundle -> its turn -> FIFOs -> greeting -> the runtime's run
 *            -> its first process -> verified
 *
 * Whatever fails, one undo closes the stream and removes what was made. */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "../../json.h"
#include "../../spec.h"
#include "oci.h"

/* Between the runtime's word that the container runs and its first program
 * lie some steps, which the runtime does not wait for. */
#define SETTLE_MS      3000
#define SETTLE_STEP_MS 1

/* A file system with less room than this has failed the start. */
#define FULL_BYTES (64u << 10)

struct start {
    struct oci_op op; /* first */
    struct cellar_spec spec;
    struct oci_runtime runtime;
    char id[OCI_ID_BYTES];
    int bundle_fd;
    json_t *config;
    uint8_t *greeting;
    size_t greeting_len;
    char said[OCI_WORDS_MAX]; /* by the runtime, on the container's stderr */
    struct oci_born born;
    uint64_t settled_by_us;
    struct cellar_error reason; /* of the undo, or of what is wrong */
    bool ended;                 /* the stream is */
    struct cellar_stream *stream;
    struct cellar_stream_events events;
    bool (*turn)(void *user);
    cellar_engine_started_fn *done;
    void *user;
};

static struct start *start_of(struct oci_op *op)
{
    return (struct start *)op;
}

static void destroy_start(struct oci_op *op)
{
    struct start *start = start_of(op);
    cellar_stream_close(start->stream);
    json_decref(start->config);
    cellar_spec_done(&start->spec);
    cellar_greeting_wipe(start->greeting, start->greeting_len);
    if (start->bundle_fd >= 0)
        close(start->bundle_fd);
    free(start);
}

/* ------------------------------------------------------- ends and undo -- */

static void succeed(struct start *start)
{
    char id[OCI_ID_BYTES];
    memcpy(id, start->id, sizeof(id));
    struct cellar_stream *stream = CELLAR_TAKE(start->stream);
    cellar_engine_started_fn *done = start->done;
    void *user = start->user;
    cellar_oci_stream_release(stream);
    cellar_oci_op_free(&start->op);
    done(user, id, stream, NULL);
}

static void give_up(struct start *start)
{
    struct cellar_error reason = start->reason;
    cellar_engine_started_fn *done = start->done;
    void *user = start->user;
    cellar_oci_op_free(&start->op);
    done(user, NULL, NULL, &reason);
}

static void on_undone(void *user, const struct cellar_error *err)
{
    struct start *start = user;
    if (err)
        cellar_oci_log(start->op.oci, "container %s may be left: %s", start->id,
                       err->msg);
    give_up(start);
}

static void undo(struct start *start, const struct cellar_error *err)
{
    struct cellar_error own;
    start->reason = *err;
    cellar_stream_close(CELLAR_TAKE(start->stream));
    cellar_oci_run_cancel(CELLAR_TAKE(start->op.run));
    enum cellar_code code = cellar_oci_remove(&start->op.oci->engine, start->id,
                                              on_undone, start, &own);
    if (code)
        on_undone(start, &own);
}

/* -------------------------------------------------------- verification -- */

static void judge(void *user, const char *protection, const char *wrong)
{
    struct start *start = user;
    if (!wrong || start->reason.code ||
        cellar_container_allowed(&start->spec, protection))
        return;
    cellar_fail(&start->reason, CELLAR_E_ENGINE,
                "%s does not enforce \"%s\": %.120s (see `cellar doctor`; "
                "`--allow %s` does without it)",
                strrchr(start->runtime.path, '/') + 1, protection, wrong,
                protection);
}

static void fail_ended(struct start *start)
{
    struct cellar_error err;
    char said[200];
    cellar_oci_words(start->said, said, sizeof(said));
    cellar_fail(&err, CELLAR_E_LOST,
                "the container ended as soon as it was started%s%s",
                *said ? ": " : "", said);
    undo(start, &err);
}

static void verify(struct oci_op *op)
{
    struct start *start = start_of(op);
    struct cellar_error err;
    start->reason = (struct cellar_error){.code = CELLAR_OK};
    if (start->ended || !cellar_oci_lives(&start->born)) {
        fail_ended(start);
        return;
    }
    struct oci_made made = {op->oci, &start->runtime, &start->born, start->id,
                            start->config};
    bool settled = cellar_oci_verify(&made, judge, start);
    if (settled && !start->reason.code) {
        succeed(start);
        return;
    }
    bool late = cellar_loop_now_us() > start->settled_by_us;
    if (late && !start->reason.code)
        cellar_fail(&start->reason, CELLAR_E_ENGINE,
                    "the OCI runtime says that the container runs, but its "
                    "first program does not");
    if (late || (settled && start->reason.code)) {
        err = start->reason;
        undo(start, &err);
    } else if (cellar_oci_op_later(op, SETTLE_STEP_MS, verify, &err)) {
        undo(start, &err);
    }
}

/* ----------------------------------------------------------------- run -- */

/* What a runtime says when a start fails for a reason a user can cure. */
static const struct cure {
    const char *words;
    enum cellar_code code;
    const char *text;
} cures[] = {
    {"/cellar/agent", CELLAR_E_IMAGE,
     "the agent does not start: is Cellar's share folder whole?"},
    {"mount /usr:/usr", CELLAR_E_ENGINE,
     "this machine's /usr can't be shown to a session: to a plain user's not "
     "while something else is mounted below it; give another root with "
     "--rootfs"},
    {"seccomp", CELLAR_E_ENGINE,
     "this machine or its OCI runtime cannot enforce \"seccomp\""},
};

/* What runc says then tells nobody why. */
static bool is_full(const char *dir)
{
    struct statvfs fs;
    return statvfs(dir, &fs) == 0 &&
           (uint64_t)fs.f_bavail * fs.f_frsize < FULL_BYTES;
}

static void fail_run(struct start *start, const struct oci_end *end)
{
    struct cellar_error err;
    char said[400];
    const char *name = strrchr(start->runtime.path, '/') + 1;
    cellar_oci_words(start->said, said, sizeof(said));
    if (end->late)
        cellar_fail(&err, CELLAR_E_TIMEOUT,
                    "%s did not start the container within %d s", name,
                    OCI_START_MS / 1000);
    else if (is_full(start->op.oci->state_dir))
        cellar_fail(&err, CELLAR_E_ENGINE,
                    "starting the container: no space is left in %.200s: make "
                    "some, or name another --state-dir (%s says: %.100s)",
                    start->op.oci->state_dir, name, said);
    else
        cellar_fail(&err, CELLAR_E_ENGINE,
                    "starting the container: %s says: "
                    "%s",
                    name, *said ? said : "nothing");
    for (size_t i = 0; i < sizeof(cures) / sizeof(*cures); i++) {
        if (end->late || !strstr(said, cures[i].words))
            continue;
        cellar_fail(&err, cures[i].code, "%s (%s says: %.150s)", cures[i].text,
                    name, said);
        break;
    }
    undo(start, &err);
}

static void on_ran(void *user, const struct oci_end *end)
{
    struct start *start = user;
    struct cellar_error err;
    start->op.run = NULL;
    if (end->status != 0 || end->late) {
        fail_run(start, end);
        return;
    }
    if (cellar_oci_born_write(start->bundle_fd, start->id, start->runtime.kind,
                              &start->born, &err)) {
        if (err.code == CELLAR_E_LOST)
            fail_ended(start);
        else
            undo(start, &err);
        return;
    }
    start->settled_by_us = cellar_loop_now_us() + UINT64_C(1000) * SETTLE_MS;
    verify(&start->op);
}

static void keep_text(void *owner, const char *data, size_t len)
{
    struct start *start = owner;
    size_t have = strlen(start->said);
    size_t room = sizeof(start->said) - 1 - have;
    if (len > room && have > 0) { /* the last of it tells most */
        start->said[0] = '\0';
        have = 0;
        room = sizeof(start->said) - 1;
    }
    data += len > room ? len - room : 0;
    (void)snprintf(start->said + have, room + 1, "%.*s",
                   (int)(len < room ? len : room), data);
}

/* Over before it was handed over: the runtime's end, or a look at the first
 * process, will tell why. */
static void on_ended(void *owner)
{
    struct start *start = owner;
    start->ended = true;
}

static enum cellar_code open_stream(struct start *start,
                                    struct cellar_error *err)
{
    struct oci_stream_owner owner = {keep_text, on_ended, start};
    int fds[3];
    enum cellar_code code = cellar_oci_fifos_open(start->bundle_fd, fds, err);
    if (!code)
        code = cellar_oci_stream_new(start->op.oci, fds, &start->events,
                                     start->user, &start->stream, err);
    if (code)
        return code;
    cellar_oci_stream_own(start->stream, &owner);
    if (!start->greeting_len)
        return CELLAR_OK;
    code = cellar_stream_write(start->stream, start->greeting,
                               start->greeting_len);
    return code ? cellar_fail(err, code, "greeting the agent: %s",
                              cellar_code_text(code))
                : CELLAR_OK;
}

static enum cellar_code run(struct start *start, const int stdio[3],
                            struct cellar_error *err)
{
    char bundle[4096];
    char pid_file[4096];
    struct oci *oci = start->op.oci;
    enum cellar_code code = cellar_oci_path(oci, start->id, NULL, bundle, err);
    if (!code)
        code = cellar_oci_path(oci, start->id, "pid", pid_file, err);
    if (code)
        return code;
    const char *const arguments[] = {"run",     "--detach",   "--bundle",
                                     bundle,    "--pid-file", pid_file,
                                     start->id, NULL};
    struct oci_ask ask = {.runtime = &start->runtime,
                          .arguments = arguments,
                          .stdio = stdio,
                          .deadline_ms = OCI_START_MS};
    return cellar_oci_run(oci, &ask, on_ran, start, &start->op.run, err);
}

static void go(struct oci_op *op)
{
    struct start *start = start_of(op);
    struct cellar_error err;
    int stdio[3];
    enum cellar_code code = CELLAR_OK;
    if (start->turn && !start->turn(start->user))
        code = cellar_fail(&err, CELLAR_E_LOST,
                           "the start was given up before its turn came");
    if (!code)
        code = open_stream(start, &err);
    if (!code)
        code = cellar_oci_fifos_give(start->bundle_fd, stdio, &err);
    if (!code) {
        code = run(start, stdio, &err);
        for (int i = 0; i < 3; i++)
            close(stdio[i]);
    }
    if (code)
        undo(start, &err);
}

/* ------------------------------------------------------------- prepare -- */

static enum cellar_code make_bundle(struct start *start,
                                    const struct cellar_launch *launch,
                                    struct cellar_error *err)
{
    struct oci_labels labels = {.uid = launch->uid,
                                .created = (uint64_t)time(NULL),
                                .memory_bytes = launch->spec->memory_bytes};
    (void)snprintf(labels.session, sizeof(labels.session), "%s",
                   launch->spec->name ? launch->spec->name : "");
    (void)snprintf(labels.owner, sizeof(labels.owner), "%s",
                   launch->owner ? launch->owner : "");
    (void)snprintf(labels.supervisor, sizeof(labels.supervisor), "%s",
                   launch->supervisor ? launch->supervisor : "");
    (void)snprintf(labels.image, sizeof(labels.image), "%s",
                   cellar_spec_root(launch->spec, "oci"));
    (void)snprintf(labels.runtime, sizeof(labels.runtime), "%s",
                   start->runtime.path);
    return cellar_oci_bundle_make(start->op.oci, &labels, start->id,
                                  &start->bundle_fd, err);
}

static enum cellar_code fill_bundle(struct start *start,
                                    const struct cellar_launch *launch,
                                    struct cellar_error *err)
{
    struct oci *oci = start->op.oci;
    struct oci_bundle bundle = {oci, start->id, start->bundle_fd,
                                start->runtime.kind};
    enum cellar_code code =
        cellar_oci_config(oci, launch, start->id, &start->config, err);
    if (!code)
        code = cellar_oci_users(launch->spec, bundle.kind, start->config,
                                start->id, err);
    if (!code)
        code = cellar_oci_controllers(launch->spec, start->config, err);
    if (!code)
        code = cellar_oci_sandbox_config(&start->runtime, start->config, err);
    if (!code)
        code = cellar_oci_rootfs(&bundle, launch->spec, start->config, err);
    if (code)
        return code;
    CELLAR_AUTO_FREE char *text =
        cellar_json_text(start->config, JSON_INDENT(1));
    return text ? cellar_oci_file_write(start->bundle_fd, "config.json", text,
                                        err)
                : cellar_fail(err, CELLAR_E_NOMEM, "config: out of memory");
}

static enum cellar_code copy_launch(struct start *start,
                                    const struct cellar_launch *launch,
                                    struct cellar_error *err)
{
    enum cellar_code code =
        cellar_oci_runtime_find(launch->spec->runtime, &start->runtime, err);
    if (!code)
        code = cellar_spec_copy(launch->spec, &start->spec, err);
    if (code)
        return code;
    start->turn = launch->turn;
    start->greeting_len = launch->greeting_len;
    start->greeting = cellar_greeting_copy(launch);
    return start->greeting
               ? CELLAR_OK
               : cellar_fail(err, CELLAR_E_NOMEM, "start: out of memory");
}

static enum cellar_code prepare(struct start *start,
                                const struct cellar_launch *launch,
                                struct cellar_error *err)
{
    enum cellar_code code = copy_launch(start, launch, err);
    if (!code)
        code = make_bundle(start, launch, err);
    if (code)
        return code;
    code = fill_bundle(start, launch, err);
    if (!code)
        code = cellar_oci_op_turn(&start->op, &start->op.oci->starts, go, err);
    if (code)
        (void)cellar_oci_bundle_remove(start->op.oci, start->id, NULL);
    return code;
}

enum cellar_code cellar_oci_start(struct cellar_engine *engine,
                                  const struct cellar_launch *launch,
                                  const struct cellar_stream_events *events,
                                  cellar_engine_started_fn *done, void *user,
                                  struct cellar_error *err)
{
    struct start *start = calloc(1, sizeof(*start));
    if (!start)
        return cellar_fail(err, CELLAR_E_NOMEM, "start: out of memory");
    start->op.destroy = destroy_start;
    start->bundle_fd = -1;
    start->events = *events;
    start->done = done;
    start->user = user;
    cellar_oci_op_begin((struct oci *)engine, &start->op);
    enum cellar_code code = prepare(start, launch, err);
    if (code)
        cellar_oci_op_free(&start->op);
    return code;
}
