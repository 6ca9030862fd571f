/*
 * A container engine: one small interface. All calls return at once and call
 * back from the loop, each within its deadline. Nothing an engine answers is
 * believed beyond what is checked.
 *
 * A session's life here: start (spec, first bytes) -> stream and container id;
 * or attach (id, lane) -> stream; then diagnose and remove. Containers are
 * found again by their labels.
 */
#ifndef CELLAR_ENGINE_ENGINE_H
#define CELLAR_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../loop.h"
#include "cellar/cellar.h"
#include "cellar/error.h"

#define CELLAR_CONTAINER_ID_MAX 128

/* Labels of every container of Cellar's. */
#define CELLAR_LABEL_SESSION "io.cellar.session" /* the name; "" if unnamed */
#define CELLAR_LABEL_OWNER   "io.cellar.owner"   /* the state directory's id */
#define CELLAR_LABEL_UID     "io.cellar.uid"
/* The process that started it, by the id of its file in the state directory:
 * reaper.h. */
#define CELLAR_LABEL_SUPERVISOR "io.cellar.supervisor"
#define CELLAR_LABEL_VERSION    "io.cellar.version"

struct cellar_engine;
struct cellar_stream; /* stdin and stdout inside, seen from here */

struct cellar_stream_events {
    /* The agent's stdout. */
    void (*bytes)(void *user, const uint8_t *data, size_t len);
    /* The agent's stderr, or the runtime's: text for a diagnosis. */
    void (*text)(void *user, const char *data, size_t len);
    /* The stream is over; last call. `err` NULL: plain end of file. Close the
     * stream from here or later. */
    void (*closed)(void *user, const struct cellar_error *err);
};

/* What start needs beside the user's spec. All borrowed for the call. */
struct cellar_launch {
    const struct cellar_spec *spec; /* checked already */
    const char *owner;
    const char *supervisor;
    uint32_t uid;            /* of the container's processes; and gid */
    const char *entrypoint;  /* NULL: the agent; the bench's bare echo */
    const uint8_t *greeting; /* written before the container starts, so
                                that the agent never waits for it */
    size_t greeting_len;
    bool pull; /* pull a missing image */
    /* May be NULL. Of many starts at once an engine makes a few at a time: the
     * turn of this one has come, and deadlines may begin. False: nobody wants
     * it any more; it ends as E_LOST, and nothing was made. Calls nothing of
     * the engine's. */
    bool (*turn)(void *user);
};

/* `id` and `err` live for the call; exactly one is not NULL. On success
 * `stream` is the caller's. Events may come before this does. */
typedef void cellar_engine_started_fn(void *user, const char *id,
                                      struct cellar_stream *stream,
                                      const struct cellar_error *err);
typedef void cellar_engine_done_fn(void *user, const struct cellar_error *err);

struct cellar_container {
    const char *id;
    const char *session; /* labels */
    const char *owner;
    const char *supervisor;
    uint32_t uid;
    const char *image;
    const char *state; /* "running", "paused", "exited", ... */
    uint64_t created;  /* seconds since 1970 */
};
typedef void cellar_engine_each_fn(void *user,
                                   const struct cellar_container *container);

/* What became of a container. */
enum cellar_vital {
    CELLAR_VITAL_GONE,   /* it ended, or was removed: for good */
    CELLAR_VITAL_ALIVE,  /* it runs: attach again */
    CELLAR_VITAL_PAUSED, /* it lives, and does nothing until it is woken */
    CELLAR_VITAL_UNKNOWN /* the engine didn't say: ask again */
};

/* And why, in a line a user can read. */
typedef void cellar_engine_reason_fn(void *user, enum cellar_vital vital,
                                     const char *reason);

/* What a container uses. */
struct cellar_usage {
    uint64_t cpu_us;       /* since its start */
    uint64_t memory_bytes; /* without what the kernel could drop at once */
    uint64_t memory_limit_bytes;
    uint64_t pids;
    uint64_t pids_limit;
};
/* `usage` NULL: it failed, `err` says why; E_LOST: it does not run. */
typedef void cellar_engine_usage_fn(void *user,
                                    const struct cellar_usage *usage,
                                    const struct cellar_error *err);

/* One row of `cellar doctor`. */
enum cellar_check { CELLAR_CHECK_OK, CELLAR_CHECK_WARN, CELLAR_CHECK_FAIL };
struct cellar_check_row {
    const char *name; /* "seccomp": also what `--allow` takes */
    enum cellar_check result;
    const char *text; /* what was found */
    const char *cure; /* NULL: none needed */
};
typedef void cellar_check_fn(void *user, const struct cellar_check_row *row);

/* A line of progress of a pull or a build; `fraction` 0..1, negative: none. */
typedef void cellar_progress_fn(void *user, const char *line, double fraction);

struct cellar_engine_ops {
    const char *name;
    /* The name of the engine that a container is of; NULL: `name`, always. */
    const char *(*name_of)(const struct cellar_engine *engine, const char *id);
    /* Whether the last list was whole for containers as `id` is one: what was
     * not in it is gone. NULL: it always is. */
    bool (*listed)(const struct cellar_engine *engine, const char *id);
    /* Cancels what is under way without calling back; streams must have been
     * closed before. A container whose start was cut off this way is found by
     * `list`. */
    void (*free)(struct cellar_engine *engine);

    enum cellar_code (*start)(struct cellar_engine *engine,
                              const struct cellar_launch *launch,
                              const struct cellar_stream_events *events,
                              cellar_engine_started_fn *done, void *user,
                              struct cellar_error *err);
    /* `lane` 0: the container's own stdio; else (up to 2^32 - 1) a stream that
     * a relay in the container hands to its agent, of a lane the agent knows:
     * one that it does not know, or does not take, is a stream that ends. Of
     * what failed nothing is left. E_LOST: there is no such container any
     * more. */
    enum cellar_code (*attach)(struct cellar_engine *engine, const char *id,
                               uint64_t lane,
                               const struct cellar_stream_events *events,
                               cellar_engine_started_fn *done, void *user,
                               struct cellar_error *err);
    /* Kills and removes; done also when it was gone already. */
    enum cellar_code (*remove)(struct cellar_engine *engine, const char *id,
                               cellar_engine_done_fn *done, void *user,
                               struct cellar_error *err);
    /* The newest first. */
    enum cellar_code (*list)(struct cellar_engine *engine,
                             cellar_engine_each_fn *each,
                             cellar_engine_done_fn *done, void *user,
                             struct cellar_error *err);
    enum cellar_code (*diagnose)(struct cellar_engine *engine, const char *id,
                                 cellar_engine_reason_fn *done, void *user,
                                 struct cellar_error *err);
    enum cellar_code (*usage)(struct cellar_engine *engine, const char *id,
                              cellar_engine_usage_fn *done, void *user,
                              struct cellar_error *err);
    /* Everything `doctor` says of the engine, and of the image or what else
     * `spec` names. `done` with an error only when checking itself failed. */
    enum cellar_code (*check)(struct cellar_engine *engine,
                              const struct cellar_spec *spec,
                              cellar_check_fn *row, cellar_engine_done_fn *done,
                              void *user, struct cellar_error *err);

    /* Images. find: E_IMAGE when it isn't there. */
    enum cellar_code (*image_find)(struct cellar_engine *engine,
                                   const char *image,
                                   cellar_engine_done_fn *done, void *user,
                                   struct cellar_error *err);
    enum cellar_code (*image_pull)(struct cellar_engine *engine,
                                   const char *image,
                                   cellar_progress_fn *progress,
                                   cellar_engine_done_fn *done, void *user,
                                   struct cellar_error *err);
    /* `tar_fd`: a build context with a Dockerfile at its root; `args` are
     * NAME=VALUE build arguments, NULL-terminated. */
    enum cellar_code (*image_build)(struct cellar_engine *engine,
                                    const char *image, int tar_fd,
                                    const char *const *args,
                                    cellar_progress_fn *progress,
                                    cellar_engine_done_fn *done, void *user,
                                    struct cellar_error *err);
    /* `tar_fd`: a root file system. */
    enum cellar_code (*image_import)(struct cellar_engine *engine,
                                     const char *image, int tar_fd,
                                     cellar_engine_done_fn *done, void *user,
                                     struct cellar_error *err);
    /* Writes the image's files to `tar_fd`, as a tar. */
    enum cellar_code (*image_export)(struct cellar_engine *engine,
                                     const char *image, int tar_fd,
                                     cellar_engine_done_fn *done, void *user,
                                     struct cellar_error *err);
};

/* A greeting holds the session's key. A copy of the launch's, which outlives
 * the call, is the caller's to wipe; NULL: no memory. Wiping NULL is fine. */
uint8_t *cellar_greeting_copy(const struct cellar_launch *launch);
void cellar_greeting_wipe(uint8_t *greeting, size_t len);

/* Every engine's struct begins with this. */
struct cellar_engine {
    const struct cellar_engine_ops *ops;
    struct cellar_loop *loop;
};

static inline const char *
cellar_engine_name_of(const struct cellar_engine *engine, const char *id)
{
    return engine->ops->name_of ? engine->ops->name_of(engine, id)
                                : engine->ops->name;
}

static inline bool cellar_engine_listed(const struct cellar_engine *engine,
                                        const char *id)
{
    return !engine->ops->listed || engine->ops->listed(engine, id);
}

/* The stream that start and attach give: every engine's begins with its ops.
 * A write takes all or fails; nothing blocks. A close is followed by no event;
 * it may be called from within any of the stream's events. */
struct cellar_stream_ops {
    enum cellar_code (*write)(struct cellar_stream *stream, const uint8_t *data,
                              size_t len);
    int (*fd)(const struct cellar_stream *stream);
    void (*close)(struct cellar_stream *stream);
};

struct cellar_stream {
    const struct cellar_stream_ops *ops;
};

static inline enum cellar_code cellar_stream_write(struct cellar_stream *stream,
                                                   const uint8_t *data,
                                                   size_t len)
{
    return stream->ops->write(stream, data, len);
}

/* For the bench's bare loop. */
static inline int cellar_stream_fd(const struct cellar_stream *stream)
{
    return stream->ops->fd(stream);
}

static inline void cellar_stream_close(struct cellar_stream *stream)
{
    if (stream)
        stream->ops->close(stream);
}

/* Where an engine is and what it works with. All borrowed for the call. */
struct cellar_engine_place {
    const char *host; /* NULL: the usual one */
    const char *state_dir;
    const char *data_dir; /* has container.json, seccomp.json and cellar/ */
    void (*log)(void *user, const char *line); /* NULL: nobody listens */
    void *log_user;
    void (*warn)(void *user, const char *line); /* a user should know at once */
    void *warn_user;
};

/* Opens the Docker Engine (or Podman's compatible socket) at `host` (NULL:
 * DOCKER_HOST, else the default socket). `data_dir` has container.json and
 * seccomp.json. Asks nothing yet. */
enum cellar_code cellar_docker_new(struct cellar_loop *loop, const char *host,
                                   const char *data_dir,
                                   void (*log)(void *user, const char *line),
                                   void *log_user, struct cellar_engine **out,
                                   struct cellar_error *err);

/* Opens the engine that starts an OCI runtime by itself. The state directory is
 * there; what it keeps of a container stands in its folder oci/ (oci/oci.h). */
enum cellar_code cellar_oci_new(struct cellar_loop *loop,
                                const struct cellar_engine_place *place,
                                struct cellar_engine **out,
                                struct cellar_error *err);

/* Whether a container is of that engine, by its id alone. */
bool cellar_oci_owns(const char *id);

/* Opens both: see auto.c for who gets what. */
enum cellar_code cellar_auto_new(struct cellar_loop *loop,
                                 const struct cellar_engine_place *place,
                                 struct cellar_engine **out,
                                 struct cellar_error *err);

#endif
