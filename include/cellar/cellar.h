/*
 * Cellar: run Python that nobody should trust, one hardened container per
 * session, the interpreter alive between cells.
 *
 *     struct cellar_error err = {0};
 *     struct cellar *c = NULL;
 *     struct cellar_session *s = NULL;
 *     struct cellar_result *r = NULL;
 *     struct cellar_spec spec;
 *     cellar_spec_init(&spec);
 *     if (cellar_new(NULL, &c, &err) || cellar_start(c, &spec, &s, &err) ||
 *         cellar_run(s, &(struct cellar_cell){.code = "6 * 7"}, &r, &err))
 *         errx(1, "%s", err.msg);
 *     puts(cellar_result_text(r));                               // 42
 *     cellar_result_free(r);
 *     cellar_stop(s, &err);
 *     cellar_free(c);
 *
 * One `struct cellar` is one supervisor: an event loop, the connection to a
 * container engine, a state directory, and any number of sessions. It and all
 * that hangs on it belong to one thread; cellar_interrupt_signal() is
 * the one call another thread or a signal handler may make.
 *
 * Every call comes in two kinds. cellar_start(), cellar_run(), ... wait until
 * the work is done. cellar_start_async(), ... return at once and call back
 * from within cellar_dispatch(): one thread serves many sessions. While a
 * waiting call is under way the callbacks of other sessions run too; from
 * within a callback only the _async calls are allowed.
 */
#ifndef CELLAR_CELLAR_H
#define CELLAR_CELLAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellar/api.h"
#include "cellar/ending.h"
#include "cellar/error.h"
#include "cellar/version.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cellar;
struct cellar_session;
struct cellar_result; /* below */

/* ------------------------------------------------------ the supervisor -- */

/* Where things are. All NULL is a good choice; strings are copied. */
struct cellar_config {
    const char *engine;    /* "docker", "oci", or "auto": docker where that
                              answers soon and has the image, else oci; default:
                              CELLAR_ENGINE, else "auto" */
    const char *host;      /* engine's address; default: DOCKER_HOST, else
                              unix:///var/run/docker.sock */
    const char *state_dir; /* default: CELLAR_STATE_DIR, else
                              $XDG_STATE_HOME/cellar, else
                              ~/.local/state/cellar */
    const char *data_dir;  /* what the runtime image is made of; default:
                              CELLAR_DATA_DIR, else where it was installed */
    void (*log)(void *user, const char *line); /* what --verbose shows */
    void *log_user;
    /* What a user should know at once, in a line: the journal can't be
     * written, the engine is away. NULL: nobody is told. */
    void (*warn)(void *user, const char *line);
    void *warn_user;
    /* A cell that an earlier process began, and nobody was told of, has
     * ended: in a session that this one adopted. Each once, from
     * cellar_dispatch() or a waiting call; takes the result. NULL: it waits
     * for the next process that asks. */
    void (*unattended)(void *user, struct cellar_session *s,
                       struct cellar_result *result);
    void *unattended_user;
};

/* Opens a supervisor. `config` may be NULL. Asks nothing of the engine yet.
 * The caller frees it with cellar_free(). */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_new(const struct cellar_config *config, struct cellar **out,
           struct cellar_error *err);

/* Lets go of all sessions (they live on, but for unnamed ones, which are
 * removed) and frees. NULL is fine. */
CELLAR_API void cellar_free(struct cellar *c);

/* Runs what is due, waiting at most `timeout_ms` for something to come (0: do
 * not wait; negative: for ever). Callbacks are called from in here. Returns
 * whether anything is still under way. */
CELLAR_API bool cellar_dispatch(struct cellar *c, int timeout_ms);

/* A descriptor that polls readable when cellar_dispatch() has work, and how
 * long a poll may wait at most (ms, negative: for ever): for programs with
 * an event loop of their own. */
CELLAR_API int cellar_fd(const struct cellar *c);
CELLAR_API int cellar_timeout(const struct cellar *c);

/* ------------------------------------------------------------ sessions -- */

#define CELLAR_NAME_BYTES_MAX 63
#define CELLAR_MOUNTS_MAX     16
#define CELLAR_ALLOW_MAX      16

/* What a session is made of. cellar_spec_init() gives the defaults that
 * `cellar start --help` prints; bounds are those of its options. */
struct cellar_spec {
    const char *name;      /* [a-z0-9][a-z0-9._-]{0,62}; NULL: unnamed, ends
                              with its supervisor */
    const char *image;     /* default "cellar-runtime:slim" */
    const char *runtime;   /* OCI runtime the engine shall use; NULL: its own */
    const char *rootfs;    /* engine oci: an unpacked root file system, by its
                              absolute path; NULL: this machine's own /usr */
    const char *network;   /* "none", or the name of an engine's network */
    uint64_t memory_bytes; /* memory and swap together */
    uint64_t cpu_millis;   /* 1000 is one core */
    uint64_t pids;         /* processes and threads in the container */
    uint64_t files;        /* open files per process */
    uint64_t file_bytes;   /* one file's size */
    uint64_t tmp_bytes;    /* /tmp */
    uint64_t tmp_files;    /* files in each of /tmp and /dev/shm */
    uint64_t shm_bytes;    /* /dev/shm */
    uint64_t queue_cells;  /* cells that may wait beside the running one */
    uint64_t output_bytes; /* stdout + stderr of one cell that are kept */
    uint64_t timeout_ms;   /* of one cell; 0: none */
    uint64_t grace_ms;     /* from an interrupt to the worker's end */
    uint64_t lease_ms;     /* without a supervisor the session ends */
    uint64_t lifetime_ms;  /* of the session; 0: no end */
    uint64_t checkpoint;   /* enum cellar_checkpoint_policy */
    const char *preload;   /* modules that every worker imports before it is
                              ready, "numpy,os.path"; NULL: none. No name of
                              theirs is bound */
    const char *mounts[CELLAR_MOUNTS_MAX]; /* "/host/dir:/inside[:rw]";
                                              read-only unless :rw */
    const char *allow[CELLAR_ALLOW_MAX];   /* protections that may be missing,
                                              by the names `doctor` prints */
};

CELLAR_API void cellar_spec_init(struct cellar_spec *spec);

/* Starts a session and waits until its Python is ready. Borrows `spec` for
 * the call. Errors: E_USAGE a field is out of bounds (named); E_EXISTS the
 * name is taken; E_IMAGE the image is missing, has no fitting Python, or not
 * what `preload` names; E_DENIED, E_ENGINE, E_TIMEOUT the engine (named, with
 * the cure). Nothing is left behind on failure. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_start(struct cellar *c, const struct cellar_spec *spec,
             struct cellar_session **out, struct cellar_error *err);

/* Adopts the live session `name`: takes its lock, attaches, shakes hands.
 * E_NOT_FOUND; E_BUSY (says who has it, since when); E_LOST its container is
 * gone (its record is removed, its history stays). */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_adopt(struct cellar *c, const char *name, struct cellar_session **out,
             struct cellar_error *err);

/* One cell. */
struct cellar_cell {
    const char *code;
    size_t code_len;     /* 0: code is NUL-terminated */
    uint64_t timeout_ms; /* 0: the session's; UINT64_MAX: none */

    /* Streaming, while it runs; any may be NULL. `data` lives for the call.
     * What is over the session's output_bytes is not delivered. */
    void (*on_output)(void *user, int stream /* 1, 2 */, const char *data,
                      size_t len);
    void *user;
};

/* Runs a cell and waits for its end. Any ending of the cell, LOST included,
 * is a result and CELLAR_OK. E_BUSY: the session's queue is full; E_LIMIT:
 * the code is larger than 1 MiB; E_USAGE: it is not UTF-8 or holds a NUL;
 * E_LOST: the session had ended before. Frees with cellar_result_free(). */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_run(struct cellar_session *s, const struct cellar_cell *cell,
           struct cellar_result **out, struct cellar_error *err);

/* Asks the running cell to end (SIGINT; after the grace time its worker is
 * killed). The result of the cell tells. Nothing happens when none runs. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_interrupt(struct cellar_session *s, struct cellar_error *err);

/* The same from any thread or signal handler (async-signal-safe). */
CELLAR_API void cellar_interrupt_signal(struct cellar_session *s);

/* Ends every process of the session but the agent, its checkpoints too, empties
 * /tmp and /dev/shm unless branches live beside it, and waits for a fresh
 * worker. A running cell and queued ones end first, as killed. */
CELLAR_API CELLAR_CHECK enum cellar_code cellar_reset(struct cellar_session *s,
                                                      struct cellar_error *err);

/* ---------------------------------------------------------- checkpoints -- */

#define CELLAR_TAG_BYTES_MAX 63

/* A checkpoint that a session has. */
struct cellar_checkpoint {
    const char *tag; /* "": an automatic one */
    uint64_t after;  /* the cell after which the globals stood; 0: none */
    uint64_t age_ms;
};

/* What a request about checkpoints came to. */
struct cellar_moment {
    uint64_t after;      /* the cell after which the globals stand */
    uint64_t took_us;    /* in the session */
    uint64_t held_bytes; /* of a list: memory that would be free without them */
    const struct cellar_checkpoint *list; /* of a list: oldest first; lent for
                                             the call */
    size_t count;
};

/* Requests between cells, but for a list. Each answers E_BUSY while a cell or
 * another request is under way; E_NOT_FOUND when there is no checkpoint of this
 * name; E_LIMIT when there are as many as can be; E_DENIED with the reason when
 * the session refuses otherwise: it keeps no checkpoints, or this one can't be
 * taken (threads).
 *
 * cellar_checkpoint() keeps the globals as they are under `tag`, in the place
 * of an older one of that name; at most 16. cellar_restore() goes back to them,
 * as often as one likes: every process of the session but its checkpoints ends;
 * files in /tmp and /dev/shm stay as they are. `moment` may be NULL. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_checkpoint(struct cellar_session *s, const char *tag,
                  struct cellar_moment *moment, struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_restore(struct cellar_session *s, const char *tag,
               struct cellar_moment *moment, struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_checkpoint_drop(struct cellar_session *s, const char *tag,
                       struct cellar_error *err);
/* Calls `each` for every checkpoint, oldest first. */
CELLAR_API CELLAR_CHECK enum cellar_code cellar_checkpoint_list(
    struct cellar_session *s,
    void (*each)(void *user, const struct cellar_checkpoint *checkpoint),
    void *user, struct cellar_moment *moment, struct cellar_error *err);

/* Makes `count` (1..CELLAR_FORK_MAX) new sessions that go on from the
 * globals as they are now, each under its name; adopt them to use them. They
 * live in the container of `s`, which is a named session, and share its limits,
 * its files and its processes' user with it; globals, cells, output,
 * checkpoints and endings are their own. All or none. Errors as of
 * cellar_checkpoint(); E_EXISTS a name is taken. */
#define CELLAR_FORK_MAX 16
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_fork(struct cellar_session *s, const char *const *names, size_t count,
            struct cellar_moment *moment, struct cellar_error *err);

/* Removes the record, and the container unless other branches live in it; takes
 * `s`. On failure too `s` is gone; the error says what may be left. NULL is
 * fine. */
CELLAR_API CELLAR_CHECK enum cellar_code cellar_stop(struct cellar_session *s,
                                                     struct cellar_error *err);

/* Lets go of a named session, which lives on (its running cell too); an
 * unnamed one is stopped. Takes `s`. NULL is fine. */
CELLAR_API void cellar_close(struct cellar_session *s);

CELLAR_API const char *cellar_session_name(const struct cellar_session *s);
CELLAR_API const char *cellar_session_container(const struct cellar_session *s);
CELLAR_API const char *cellar_session_python(const struct cellar_session *s);
CELLAR_API uint64_t cellar_session_cells(const struct cellar_session *s);

/* The calls that don't wait. `done` is called once, from cellar_dispatch(),
 * never from within the call itself; `err` and what it points to live for
 * that call. When the _async call itself fails, `done` is not called. */
typedef void cellar_session_fn(void *user, struct cellar_session *s,
                               const struct cellar_error *err);
typedef void cellar_result_fn(void *user, struct cellar_result *result,
                              const struct cellar_error *err);

CELLAR_API CELLAR_CHECK enum cellar_code
cellar_start_async(struct cellar *c, const struct cellar_spec *spec,
                   cellar_session_fn *done, void *user,
                   struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_adopt_async(struct cellar *c, const char *name, cellar_session_fn *done,
                   void *user, struct cellar_error *err);
/* `code` is copied; `done` is given the result (takes it). */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_run_async(struct cellar_session *s, const struct cellar_cell *cell,
                 cellar_result_fn *done, void *user, struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_reset_async(struct cellar_session *s, cellar_session_fn *done,
                   void *user, struct cellar_error *err);
/* What cellar_checkpoint() and its like do; `moment` lives for the call, and is
 * NULL when it failed. */
typedef void cellar_moment_fn(void *user, const struct cellar_moment *moment,
                              const struct cellar_error *err);
enum cellar_ask {
    CELLAR_ASK_CHECKPOINT,
    CELLAR_ASK_RESTORE,
    CELLAR_ASK_DROP,
    CELLAR_ASK_LIST /* no tag */
};
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_ask_async(struct cellar_session *s, enum cellar_ask ask, const char *tag,
                 cellar_moment_fn *done, void *user, struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_fork_async(struct cellar_session *s, const char *const *names,
                  size_t count, cellar_moment_fn *done, void *user,
                  struct cellar_error *err);
/* `done` is called with s NULL. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_stop_async(struct cellar_session *s, cellar_session_fn *done, void *user,
                  struct cellar_error *err);

/* --------------------------------------------------------------- pools -- */

/* Sessions that are started before anybody asks for one: a pool keeps `size` of
 * them ready, and starts another for each that is taken or ends. All that is
 * done in cellar_dispatch(), and in waiting calls; a start that fails is tried
 * again, ever more patiently. Nobody has used what is given out, and nobody
 * else gets it. */
struct cellar_pool;
#define CELLAR_POOL_MAX 1024

/* Begins at once. Copies `spec`, which has no name. E_USAGE; E_NOMEM. Freed
 * with cellar_pool_free() before its supervisor. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_pool_new(struct cellar *c, const struct cellar_spec *spec, size_t size,
                struct cellar_pool **out, struct cellar_error *err);

/* Takes a session out, to be called `name`, or (NULL) unnamed: a ready one,
 * after one handshake; where none is, or it does not answer, one is started as
 * cellar_start() does. Errors as of that. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_pool_take(struct cellar_pool *pool, const char *name,
                 struct cellar_session **out, struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_pool_take_async(struct cellar_pool *pool, const char *name,
                       cellar_session_fn *done, void *user,
                       struct cellar_error *err);

struct cellar_pool_stats {
    size_t size;
    size_t ready;        /* can be taken now */
    size_t starting;     /* will be */
    uint64_t taken;      /* ready ones, so far */
    uint64_t missed;     /* takes that had to start one */
    const char *trouble; /* why the last start failed, or a ready one ended,
                            until one succeeds; NULL; lent until the next call
                            that gets the pool or its supervisor */
};
CELLAR_API void cellar_pool_stats(const struct cellar_pool *pool,
                                  struct cellar_pool_stats *stats);

/* What nobody took is removed, of which cellar_free() waits for the end. NULL
 * is fine. */
CELLAR_API void cellar_pool_free(struct cellar_pool *pool);

/* ------------------------------------------------------------- results -- */

struct cellar_part {
    const char *type; /* "text/plain" */
    const char *data; /* NUL-terminated too */
    size_t len;
};

/* The one result object; cellar_result_json() prints it. Texts are UTF-8
 * (what was not is replaced by U+FFFD) and live as long as the result. */
struct cellar_result {
    uint64_t cell;
    enum cellar_status status;
    enum cellar_state state;
    uint64_t restored_from;       /* cell, when state is RESTORED */
    enum cellar_taken checkpoint; /* the automatic one after this cell */
    char *checkpoint_why;         /* when it is NO; else NULL */
    char *stdout_text;
    size_t stdout_len;
    char *stderr_text;
    size_t stderr_len;
    bool truncated;
    uint64_t dropped_bytes;
    struct cellar_part *result; /* NULL: none */
    size_t result_count;
    struct {
        struct cellar_part *parts;
        size_t count;
    } * displays;
    size_t display_count;
    char *error_name; /* NULL when status is not ERROR */
    char *error_message;
    char *traceback; /* lines joined with \n */
    enum cellar_limit limit;
    uint64_t limit_value; /* bytes; of a time: milliseconds */
    int exit_code;        /* when status is EXITED */
    int signal;           /* when status is KILLED */
    char *reason;         /* the engine's, when status is LOST; why the state of
                             a cell that is OK or ERROR was not kept; else NULL */
    uint64_t wall_us;
    uint64_t cpu_us;
    uint64_t peak_memory_bytes;
};

CELLAR_API void cellar_result_free(struct cellar_result *result);

/* The text/plain of the result; "" when there is none. */
CELLAR_API const char *cellar_result_text(const struct cellar_result *result);

/* The result object as one line of JSON. The caller frees it with free();
 * NULL: out of memory. */
CELLAR_API char *cellar_result_json(const struct cellar_result *result);

/* ------------------------------------------------------------- listing -- */

struct cellar_info {
    const char *name;      /* "" for an unnamed one */
    const char *container; /* id */
    const char *image;
    const char *engine;
    const char *state;     /* "idle", "busy" (a cell runs), "lost", "ready" (in
                              a pool for whoever takes it; it has no name), or
                              the engine's word: "paused", "exited", ... */
    uint64_t created;      /* seconds since 1970 */
    uint64_t cells;        /* run so far, as far as recorded */
    uint64_t holder;       /* pid of the process that has it, or 0 */
    uint64_t idle_ms;      /* since its last cell ended, or since its start; 0
                              while busy; CELLAR_UNKNOWN */
    uint64_t memory_bytes; /* in use in the container; CELLAR_UNKNOWN */
};

/* Where a figure can't be had. */
#define CELLAR_UNKNOWN UINT64_MAX

typedef void cellar_info_fn(void *user, const struct cellar_info *info);

/* Calls `each` for every session of this engine and state directory; `info`
 * lives for the call. */
CELLAR_API CELLAR_CHECK enum cellar_code cellar_list(struct cellar *c,
                                                     cellar_info_fn *each,
                                                     void *user,
                                                     struct cellar_error *err);

/* What a session uses now. */
struct cellar_stats {
    const char *state;     /* as in struct cellar_info; static or lent until
                              the next call of cellar_stats_name() */
    uint64_t taken_us;     /* when, on a clock that only goes forward */
    uint64_t cpu_us;       /* used since the start */
    uint64_t memory_bytes; /* as in struct cellar_info */
    uint64_t memory_limit_bytes;
    uint64_t pids; /* processes and threads, the agent counted */
    uint64_t pids_limit;
    uint64_t output_bytes; /* of all cells so far, dropped ones counted;
                              CELLAR_UNKNOWN without a journal */
    uint64_t cells;
};

/* Measures the session `name`, whoever has it. E_NOT_FOUND; E_LOST. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_stats_name(struct cellar *c, const char *name,
                  struct cellar_stats *stats, struct cellar_error *err);
/* How many checkpoints the session `name` has and what they hold, whoever has
 * it, also while a cell runs: `moment`'s count and held_bytes. The session is
 * taken for a moment when nobody has it. E_NOT_FOUND; E_LOST; E_BUSY and
 * E_AGAIN it can't be told now. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_copies_name(struct cellar *c, const char *name,
                   struct cellar_moment *moment, struct cellar_error *err);

/* By name, from outside, also while another process has the session:
 * interrupt and reset go through that process, stop through the engine. */
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_interrupt_name(struct cellar *c, const char *name,
                      struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_reset_name(struct cellar *c, const char *name, struct cellar_error *err);
CELLAR_API CELLAR_CHECK enum cellar_code
cellar_stop_name(struct cellar *c, const char *name, struct cellar_error *err);

#ifdef __cplusplus
}
#endif
#endif
