/*
 * What the files of the Docker engine share. An op is one of engine.h's calls
 * under way: a chain of requests, each with a step that takes its reply, that
 * ends by freeing itself and then calling its user back.
 *
 *     cellar_docker_op_begin(op, first)      asks for the API's version if need
 * be, then calls first(), which sends cellar_docker_op_send(op, ask, step)   a
 * request; the loop brings the reply to step(op, reply)                 which
 * sends again, or ends the op; op->failed(op, err)             ends it when no
 * usable reply came
 *
 * For docker*.c alone.
 */
#ifndef CELLAR_ENGINE_DOCKER_DOCKER_H
#define CELLAR_ENGINE_DOCKER_DOCKER_H

#include <stdbool.h>

#include "../../fail.h"
#include "../../json.h"
#include "../container.h"
#include "../engine.h"
#include "http.h"
#include "verify.h"

/* Deadlines (ms). A start has taken 20 s on a cold, busy machine; an image
 * moves gigabytes. */
#define DOCKER_CALL_MS   10000
#define DOCKER_CREATE_MS 30000
#define DOCKER_START_MS  60000
#define DOCKER_USAGE_MS  2000
#define DOCKER_REMOVE_MS 30000
#define DOCKER_GONE_MS   500
#define DOCKER_IMAGE_MS  (60 * 60 * 1000)

/* Replies. An inspect holds the seccomp profile; a list may hold thousands of
 * containers of some 2 KB each. */
#define DOCKER_REPLY_MAX (1u << 20)
#define DOCKER_LIST_MAX  (32u << 20)

#define DOCKER_PATH_MAX 1024

struct docker_op;

/* A lane lets a few ops through at a time; the others wait for their turn, in
 * the order they came. A pass is embedded in its op, zeroed before. */
struct docker_lane {
    struct docker_pass *first; /* who wait */
    struct docker_pass *last;
    size_t under_way;
    size_t max;
    struct cellar_timer *turn; /* NULL: nobody has waited yet */
};

struct docker_pass {
    struct docker_pass *prev;
    struct docker_pass *next;
    struct docker_lane *lane;
    struct docker_op *op;
    void (*go)(struct docker_op *op);
    enum { DOCKER_PASS_NONE, DOCKER_PASS_WAITING, DOCKER_PASS_THROUGH } state;
};

struct docker {
    struct cellar_engine engine; /* first */
    struct cellar_http *http;
    char *data_dir;
    int api_minor;                      /* of version 1.x; 0: not asked yet */
    struct cellar_container_spec *spec; /* NULL: not loaded yet */
    struct docker_op *ops;
    struct docker_lane starts;
    struct docker_lane removals;
    void (*log)(void *user, const char *line);
    void *log_user;
};

struct docker_reply {
    int status;
    const char *body; /* NUL-terminated */
    size_t len;
};

typedef void docker_step(struct docker_op *op, const struct docker_reply *r);
typedef enum cellar_code docker_first(struct docker_op *op,
                                      struct cellar_error *err);

struct docker_op {
    struct docker *docker;
    struct docker_op *prev;
    struct docker_op *next;
    struct cellar_http_call *call;
    docker_step *step;
    docker_first *first;
    /* Ends the op with an error: cellar_docker_op_free(), then the user's
     * callback. */
    void (*failed)(struct docker_op *op, const struct cellar_error *err);
    /* Frees what the op holds, and its struct. */
    void (*destroy)(struct docker_op *op);
};

/* One request; what is zero gets a default (10 s, 1 MiB). */
struct docker_ask {
    const char *method;
    const char *path; /* without the version: "/containers/json" */
    const char *body;
    const char *content_type;
    int body_fd;
    uint64_t deadline_ms;
    size_t reply_max;
    enum cellar_code (*on_piece)(void *op, const char *data, size_t len);
};

/* Takes `op` (zeroed but for failed, destroy and its own fields). When it
 * fails, `op` is destroyed and nobody called back. */
enum cellar_code cellar_docker_op_begin(struct docker *docker,
                                        struct docker_op *op,
                                        docker_first *first,
                                        struct cellar_error *err);
enum cellar_code cellar_docker_op_send(struct docker_op *op,
                                       const struct docker_ask *ask,
                                       docker_step *step,
                                       struct cellar_error *err);
/* As _send from within a step: on failure the op ends by op->failed. */
void cellar_docker_op_next(struct docker_op *op, const struct docker_ask *ask,
                           docker_step *step);
/* A `destroy` for an op that holds nothing. */
void cellar_docker_op_destroy(struct docker_op *op);
/* Unlinks and destroys. */
void cellar_docker_op_free(struct docker_op *op);

/* An error of the engine's, in its own words, after a context such as
 * "creating the container". A full disk gets a text of its own. */
enum cellar_code cellar_docker_fail_reply(struct cellar_error *err,
                                          enum cellar_code code,
                                          const char *context,
                                          const struct docker_reply *reply);
/* Puts the engine's words ({"message": ...}, or what there is) in `text`. */
void cellar_docker_reply_words(const char *body, char *text, size_t size);

/* E_ENGINE: it is longer than DOCKER_PATH_MAX. */
enum cellar_code cellar_docker_path(char path[DOCKER_PATH_MAX],
                                    struct cellar_error *err, const char *fmt,
                                    ...) CELLAR_PRINTF(3, 4);
/* Percent-encodes what may not stand in a query; the caller frees. NULL: out
 * of memory. */
char *cellar_docker_escape(const char *text);
/* E_USAGE: `id` is neither a container's id nor a name. */
enum cellar_code cellar_docker_check_id(const char *id,
                                        struct cellar_error *err);

/* One line for --verbose. */
void cellar_docker_log(const struct docker *docker, const char *fmt, ...)
    CELLAR_PRINTF(2, 3);

/* The container's files, loaded once; lent. */
enum cellar_code cellar_docker_files(struct docker *docker,
                                     struct cellar_container_spec **out,
                                     struct cellar_error *err);

/* A string of `value`, "" when it isn't there. Lent. */
const char *cellar_docker_string(const json_t *value, const char *path);

/* --------------------------------------------------------------- lanes -- */

void cellar_docker_lane_done(struct docker_lane *lane);
/* Whether `op` may go on at once (also when there is no memory to wait in);
 * else go(op) is called later, from the loop. */
bool cellar_docker_lane_enter(struct docker_lane *lane,
                              struct docker_pass *pass, struct docker_op *op,
                              void (*go)(struct docker_op *op));
/* Whether there is memory to wait in; from then on there always is. */
bool cellar_docker_lane_ready(struct docker_lane *lane,
                              const struct docker_op *op);
/* go(op) is called later, even when there is room. False: no memory. */
bool cellar_docker_lane_wait(struct docker_lane *lane, struct docker_pass *pass,
                             struct docker_op *op,
                             void (*go)(struct docker_op *op));
/* When the op ends; also of one that waits, or never entered. */
void cellar_docker_lane_leave(struct docker_pass *pass);

/* ------------------------------------------------------------- streams -- */

/* While a stream is being opened its owner is told instead of the user. */
struct docker_stream_owner {
    void (*opened)(void *owner);
    /* Refused, or over before cellar_docker_stream_release(). */
    void (*ended)(void *owner, int status, const struct cellar_error *err);
    void *owner;
};

/* The path of a container's stdio, by its id. */
#define DOCKER_STDIO_PATH                                                      \
    "/containers/%s/attach?stream=1&stdin=1&stdout=1&stderr=1"

struct docker_stream_ask {
    const char *path; /* without the version */
    const char *body; /* JSON; NULL: none */
    const struct cellar_stream_events *events;
    void *user;
    struct docker_stream_owner owner;
};

/* POSTs it, and the connection becomes the stream, which is multiplexed.
 * Copies. */
enum cellar_code cellar_docker_stream_open(struct docker *docker,
                                           const struct docker_stream_ask *ask,
                                           struct cellar_stream **out,
                                           struct cellar_error *err);
/* The error of a stream that ended before its release, from what `ended` was
 * told; `gone` is the code of a 404. */
enum cellar_code cellar_docker_stream_fail(struct cellar_error *err,
                                           enum cellar_code gone, int status,
                                           const struct cellar_error *why);
/* From now on the end is told to the user. */
void cellar_docker_stream_release(struct cellar_stream *stream);

/* ----------------------------------------------------- the engine's calls */

enum cellar_code cellar_docker_start(struct cellar_engine *engine,
                                     const struct cellar_launch *launch,
                                     const struct cellar_stream_events *events,
                                     cellar_engine_started_fn *done, void *user,
                                     struct cellar_error *err);
enum cellar_code cellar_docker_attach(struct cellar_engine *engine,
                                      const char *id, uint64_t lane,
                                      const struct cellar_stream_events *events,
                                      cellar_engine_started_fn *done,
                                      void *user, struct cellar_error *err);
enum cellar_code cellar_docker_remove(struct cellar_engine *engine,
                                      const char *id,
                                      cellar_engine_done_fn *done, void *user,
                                      struct cellar_error *err);
enum cellar_code cellar_docker_list(struct cellar_engine *engine,
                                    cellar_engine_each_fn *each,
                                    cellar_engine_done_fn *done, void *user,
                                    struct cellar_error *err);
enum cellar_code cellar_docker_diagnose(struct cellar_engine *engine,
                                        const char *id,
                                        cellar_engine_reason_fn *done,
                                        void *user, struct cellar_error *err);
enum cellar_code cellar_docker_usage(struct cellar_engine *engine,
                                     const char *id,
                                     cellar_engine_usage_fn *done, void *user,
                                     struct cellar_error *err);
enum cellar_code cellar_docker_check(struct cellar_engine *engine,
                                     const struct cellar_spec *spec,
                                     cellar_check_fn *row,
                                     cellar_engine_done_fn *done, void *user,
                                     struct cellar_error *err);
enum cellar_code cellar_docker_image_find(struct cellar_engine *engine,
                                          const char *image,
                                          cellar_engine_done_fn *done,
                                          void *user, struct cellar_error *err);
enum cellar_code cellar_docker_image_pull(struct cellar_engine *engine,
                                          const char *image,
                                          cellar_progress_fn *progress,
                                          cellar_engine_done_fn *done,
                                          void *user, struct cellar_error *err);
enum cellar_code cellar_docker_image_build(
    struct cellar_engine *engine, const char *image, int tar_fd,
    const char *const *args, cellar_progress_fn *progress,
    cellar_engine_done_fn *done, void *user, struct cellar_error *err);
enum cellar_code cellar_docker_image_import(struct cellar_engine *engine,
                                            const char *image, int tar_fd,
                                            cellar_engine_done_fn *done,
                                            void *user,
                                            struct cellar_error *err);

enum cellar_code cellar_docker_image_export(struct cellar_engine *engine,
                                            const char *image, int tar_fd,
                                            cellar_engine_done_fn *done,
                                            void *user,
                                            struct cellar_error *err);

/* The error of an image that isn't there, with its cure. */
enum cellar_code cellar_docker_fail_image(struct cellar_error *err,
                                          const char *image);

#endif
