/* From the id of a container that runs to a stream:
 *
 *     lane 0:  the FIFOs of its bundle, opened anew
 *     others:  a relay that the runtime runs in it, with pipes
 *
 * What fails leaves nothing: a relay whose pipes are closed ends. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../json.h"
#include "oci.h"

struct attach {
    struct oci_op op; /* first */
    char id[OCI_ID_BYTES];
    uint32_t lane;
    int bundle_fd;
    char file[32]; /* the relay's description, in the bundle; "" none */
    char pid_file[32];
    char said[OCI_WORDS_MAX];
    struct cellar_stream *stream;
    struct cellar_stream_events events;
    cellar_engine_started_fn *done;
    void *user;
};

static void destroy_attach(struct oci_op *op)
{
    struct attach *attach = (struct attach *)op;
    cellar_stream_close(attach->stream);
    if (*attach->file && attach->bundle_fd >= 0) {
        (void)unlinkat(attach->bundle_fd, attach->file, 0);
        (void)unlinkat(attach->bundle_fd, attach->pid_file, 0);
    }
    if (attach->bundle_fd >= 0)
        close(attach->bundle_fd);
    free(attach);
}

/* ---------------------------------------------------------------- ends -- */

static void succeed(struct attach *attach)
{
    char id[OCI_ID_BYTES];
    memcpy(id, attach->id, sizeof(id));
    struct cellar_stream *stream = CELLAR_TAKE(attach->stream);
    cellar_engine_started_fn *done = attach->done;
    void *user = attach->user;
    cellar_oci_stream_release(stream);
    cellar_oci_op_free(&attach->op);
    done(user, id, stream, NULL);
}

static void give_up(struct attach *attach, const struct cellar_error *err)
{
    struct cellar_error reason = *err;
    cellar_engine_started_fn *done = attach->done;
    void *user = attach->user;
    cellar_oci_op_free(&attach->op);
    done(user, NULL, NULL, &reason);
}

/* -------------------------------------------------------------- stream -- */

static void keep_text(void *owner, const char *data, size_t len)
{
    struct attach *attach = owner;
    size_t have = strlen(attach->said);
    size_t room = sizeof(attach->said) - 1 - have;
    (void)snprintf(attach->said + have, room + 1, "%.*s",
                   (int)(len < room ? len : room), data);
}

/* The agent may write at once, the rest of what it had for the last host; but
 * until the user has the stream, and has greeted, nobody can skip that. A relay
 * may also have ended before its runtime: the user hears of that. */
static enum cellar_code take_stream(struct attach *attach, const int fds[3],
                                    struct cellar_error *err)
{
    struct oci_stream_owner owner = {keep_text, NULL, attach};
    enum cellar_code code =
        cellar_oci_stream_new(attach->op.oci, fds, &attach->events,
                              attach->user, &attach->stream, err);
    if (!code)
        cellar_oci_stream_own(attach->stream, &owner);
    return code;
}

/* --------------------------------------------------------------- relay -- */

static void fail_relay(struct attach *attach, const struct oci_end *end)
{
    struct cellar_error err;
    char said[250];
    cellar_oci_words(attach->said, said, sizeof(said));
    if (end->late)
        cellar_fail(&err, CELLAR_E_TIMEOUT,
                    "the OCI runtime did not start a relay in the container "
                    "within %d s",
                    OCI_EXEC_MS / 1000);
    else
        cellar_fail(&err, CELLAR_E_ENGINE,
                    "making a relay in the container: the OCI runtime says: "
                    "%s",
                    *said ? said : "nothing");
    give_up(attach, &err);
}

static void on_relay(void *user, const struct oci_end *end)
{
    struct attach *attach = user;
    attach->op.run = NULL;
    if (end->late || end->status != 0)
        fail_relay(attach, end);
    else
        succeed(attach);
}

/* The container's own process, running something else. */
static json_t *relay_of(const json_t *config, uint32_t lane)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%" PRIu32, lane);
    json_t *process = json_deep_copy(json_object_get(config, "process"));
    if (process &&
        json_object_set_new(process, "args",
                            json_pack("[s, s]", "/cellar/relay", number)) == 0)
        return process;
    json_decref(process);
    return NULL;
}

static enum cellar_code write_relay(struct attach *attach,
                                    struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *text =
        cellar_oci_file_read(attach->bundle_fd, "config.json");
    json_t *config =
        text ? cellar_json_parse(text, strlen(text), 0, NULL) : NULL;
    json_t *relay = relay_of(config, attach->lane);
    CELLAR_AUTO_FREE char *made = cellar_json_text(relay, JSON_COMPACT);
    json_decref(relay);
    json_decref(config);
    if (!made)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "the container's config.json is damaged: end the "
                           "session with `cellar stop`");
    (void)snprintf(attach->file, sizeof(attach->file), "relay-%" PRIu32 ".json",
                   attach->lane);
    (void)snprintf(attach->pid_file, sizeof(attach->pid_file),
                   "relay-%" PRIu32 ".pid", attach->lane);
    return cellar_oci_file_write(attach->bundle_fd, attach->file, made, err);
}

/* The host's end of a pipe to write to reads, too: what nobody reads any more
 * is no signal then, and the other's going is seen by what comes back. */
static int both_ways(int fd)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int both = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    close(fd);
    return both;
}

struct pipes {
    int host[3];
    int relay[3];
};

static void close_all(int fds[3])
{
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static enum cellar_code open_pipes(struct pipes *pipes,
                                   struct cellar_error *err)
{
    *pipes = (struct pipes){{-1, -1, -1}, {-1, -1, -1}};
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            return cellar_fail_errno(err, errno, "pipes to the container");
        pipes->host[i] = ends[i == 0];
        pipes->relay[i] = ends[i != 0];
        if (i == 0)
            pipes->host[0] = both_ways(pipes->host[0]);
        else
            (void)fcntl(pipes->host[i], F_SETFL, O_NONBLOCK);
        if (pipes->host[i] < 0)
            return cellar_fail_errno(err, errno, "pipes to the container");
    }
    return CELLAR_OK;
}

static enum cellar_code run_relay(struct attach *attach,
                                  const struct oci_runtime *runtime,
                                  const int stdio[3], struct cellar_error *err)
{
    char file[4096];
    char pid[4096];
    enum cellar_code code =
        cellar_oci_path(attach->op.oci, attach->id, attach->file, file, err);
    if (!code)
        code = cellar_oci_path(attach->op.oci, attach->id, attach->pid_file,
                               pid, err);
    if (code)
        return code;
    /* runsc needs to be told where to write the pid, or puts that behind the
     * container's id, where it does not look for it. */
    const char *const sandboxed[] = {"exec",     "--detach",   "--process",
                                     file,       "--pid-file", pid,
                                     attach->id, NULL};
    const char *const plain[] = {"exec", "--detach", "--process",
                                 file,   attach->id, NULL};
    bool sandbox = runtime->kind == OCI_RUNSC;
    struct oci_ask ask = {.runtime = runtime,
                          .arguments = sandbox ? sandboxed : plain,
                          .stdio = stdio,
                          .deadline_ms = OCI_EXEC_MS};
    return cellar_oci_run(attach->op.oci, &ask, on_relay, attach,
                          &attach->op.run, err);
}

static enum cellar_code open_lane(struct attach *attach,
                                  struct cellar_error *err)
{
    struct oci_labels labels;
    struct oci_runtime runtime;
    struct pipes pipes;
    (void)cellar_oci_labels_read(attach->bundle_fd, &labels);
    enum cellar_code code = cellar_oci_runtime_find(
        *labels.runtime ? labels.runtime : NULL, &runtime, err);
    if (!code)
        code = write_relay(attach, err);
    if (code)
        return code;
    code = open_pipes(&pipes, err);
    if (code) {
        close_all(pipes.host);
        close_all(pipes.relay);
        return code;
    }
    code = take_stream(attach, pipes.host, err);
    if (!code)
        code = run_relay(attach, &runtime, pipes.relay, err);
    close_all(pipes.relay);
    return code;
}

/* ---------------------------------------------------------------- call -- */

static enum cellar_code open_stdio(struct attach *attach,
                                   struct cellar_error *err)
{
    int fds[3];
    enum cellar_code code = cellar_oci_fifos_open(attach->bundle_fd, fds, err);
    return code ? code : take_stream(attach, fds, err);
}

static void go(struct oci_op *op)
{
    struct attach *attach = (struct attach *)op;
    struct cellar_error err;
    struct oci_born born;
    enum cellar_code code = CELLAR_OK;
    attach->bundle_fd = cellar_oci_bundle_open(op->oci, attach->id);
    if (attach->bundle_fd < 0 ||
        !cellar_oci_born_read(attach->bundle_fd, &born) ||
        !cellar_oci_lives(&born))
        code = cellar_fail(&err, CELLAR_E_LOST,
                           "the container does not run any more");
    else if (cellar_oci_is_paused(op->oci, attach->bundle_fd, attach->id))
        code = cellar_fail(&err, CELLAR_E_ENGINE,
                           "the container is paused: resume it with its OCI "
                           "runtime");
    else
        code =
            attach->lane ? open_lane(attach, &err) : open_stdio(attach, &err);
    if (code)
        give_up(attach, &err);
    else if (!attach->lane)
        succeed(attach);
}

enum cellar_code cellar_oci_attach(struct cellar_engine *engine, const char *id,
                                   uint64_t lane,
                                   const struct cellar_stream_events *events,
                                   cellar_engine_started_fn *done, void *user,
                                   struct cellar_error *err)
{
    enum cellar_code code = cellar_oci_check_id(id, err);
    if (code)
        return code;
    if (lane > UINT32_MAX)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "there is no lane %" PRIu64 ": the last is %" PRIu32,
                           lane, UINT32_MAX);
    struct attach *attach = calloc(1, sizeof(*attach));
    if (!attach)
        return cellar_fail(err, CELLAR_E_NOMEM, "attach: out of memory");
    attach->op.destroy = destroy_attach;
    attach->bundle_fd = -1;
    memcpy(attach->id, id, sizeof(attach->id));
    attach->lane = (uint32_t)lane;
    attach->events = *events;
    attach->done = done;
    attach->user = user;
    cellar_oci_op_begin((struct oci *)engine, &attach->op);
    code = cellar_oci_op_later(&attach->op, 0, go, err);
    if (code)
        cellar_oci_op_free(&attach->op);
    return code;
}
