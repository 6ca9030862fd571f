/*
 * What the files of the oci engine share. There is no daemon and no process of
 * ours beside a container: what is known of one stands in its bundle, a folder
 * of the state directory, and in the kernel.
 *
 *     oci/ID/config.json     what the runtime is given
 *            labels.json     whose it is; written last of what makes a bundle
 *            born.json       its first process, once it runs
 *            pid             the same, as the runtime writes it
 *            stdin, stdout, stderr    FIFOs: the container's stdio
 *            root, etc       where the host's /usr is to be seen in
 *     oci/.run/ID            the runtime's own
 *
 * An op is one of engine.h's calls under way. It begins in its call, goes on
 * in steps (a runtime's end, a timer), and ends by freeing itself and then
 * calling its user back.
 *
 * For kernel/engine/oci alone.
 */
#ifndef CELLAR_ENGINE_OCI_OCI_H
#define CELLAR_ENGINE_OCI_OCI_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "../../fail.h"
#include "../container.h"
#include "../engine.h"

/* Deadlines of a runtime's calls (ms). */
#define OCI_START_MS  60000
#define OCI_EXEC_MS   20000
#define OCI_DELETE_MS 10000
#define OCI_ASK_MS    5000

/* What is kept of what a runtime says. */
#define OCI_WORDS_MAX 4096

/* What a stream holds that the container has not read. */
#define OCI_OUT_MAX (16u << 20)

#define OCI_READ_BYTES (256u << 10)

#define OCI_FILE_MAX (1u << 20)

struct oci_run;
struct oci_op;
struct oci_runtime;

/* Of many starts, or removals, some are under way at a time; the others wait,
 * in the order they came. */
struct oci_turns {
    size_t under_way;
    size_t max;
};

struct oci {
    struct cellar_engine engine; /* first */
    char *data_dir;
    char *state_dir;
    int dir_fd;                         /* of state_dir/oci; -1: not made yet */
    struct cellar_container_spec *spec; /* NULL: not loaded yet */
    struct oci_op *ops;
    struct oci_run *runs; /* also those that nobody waits for any more */
    struct oci_turns starts;
    struct oci_turns removals;
    uint8_t *room; /* OCI_READ_BYTES, for whoever reads now */
    void (*log)(void *user, const char *line);
    void *log_user;
};

struct oci_op {
    struct oci *oci;
    struct oci_op *prev;
    struct oci_op *next;
    struct oci_run *run;             /* under way; NULL: none */
    struct cellar_timer *timer;      /* NULL: none yet */
    void (*step)(struct oci_op *op); /* when the timer fires */
    struct oci_turns *turns;         /* NULL: it takes none */
    bool waiting;                    /* for its turn */
    /* Frees what the op holds, and its struct. */
    void (*destroy)(struct oci_op *op);
};

/* Puts `op` (zeroed but for destroy and its own fields) on the list. */
void cellar_oci_op_begin(struct oci *oci, struct oci_op *op);
/* step(op) in `ms`, from the loop; again replaces what was set. */
enum cellar_code cellar_oci_op_later(struct oci_op *op, uint64_t ms,
                                     void (*step)(struct oci_op *op),
                                     struct cellar_error *err);
/* step(op) from the loop when its turn has come, which ends with the op. */
enum cellar_code cellar_oci_op_turn(struct oci_op *op, struct oci_turns *turns,
                                    void (*step)(struct oci_op *op),
                                    struct cellar_error *err);
/* Cancels, unlinks and destroys. */
void cellar_oci_op_free(struct oci_op *op);
/* A `destroy` for an op that holds nothing. */
void cellar_oci_op_destroy(struct oci_op *op);

/* One line for --verbose. */
void cellar_oci_log(const struct oci *oci, const char *fmt, ...)
    CELLAR_PRINTF(2, 3);

/* The container's files, loaded once; lent. */
enum cellar_code cellar_oci_files(struct oci *oci,
                                  struct cellar_container_spec **out,
                                  struct cellar_error *err);

/* ------------------------------------------------------------ runtimes -- */

/* The last one's containers have a kernel of their own. */
enum oci_kind { OCI_RUNC, OCI_CRUN, OCI_RUNSC };

struct oci_runtime {
    char path[1024];
    enum oci_kind kind;
};

/* What runsc is told in every call. */
#define OCI_SANDBOX_NETWORK "--network=none"
#define OCI_SANDBOX_SECCOMP "--oci-seccomp=true"

/* Whether it is root's, and nobody else can write it. */
struct stat;
bool cellar_oci_is_roots(const struct stat *st);

/* Finds `name` (a path, or a name looked for in PATH and the usual folders;
 * NULL: the first of runc and crun there is). Root finds only what nobody else
 * can change, unless it is a path. E_USAGE with the cure. */
enum cellar_code cellar_oci_runtime_find(const char *name,
                                         struct oci_runtime *out,
                                         struct cellar_error *err);

/* How a runtime's call ended. */
struct oci_end {
    bool late;         /* it was killed at its deadline */
    int status;        /* its exit status; -1: a signal ended it */
    const char *words; /* what it wrote, the last of it; "" when its stdio was
                          given away */
};
typedef void oci_ran_fn(void *user, const struct oci_end *end);

struct oci_ask {
    const struct oci_runtime *runtime;
    const char *const *arguments; /* after --root DIR; NULL-terminated */
    const int *stdio;             /* three, borrowed for the call; NULL: nothing
                                     in, and what comes out is words */
    uint64_t deadline_ms;
};

/* Runs it: no descriptor but its stdio, an environment of PATH alone, a session
 * and process group of its own. `done` comes from the loop. */
enum cellar_code cellar_oci_run(struct oci *oci, const struct oci_ask *ask,
                                oci_ran_fn *done, void *user,
                                struct oci_run **out, struct cellar_error *err);
/* Kills it; `done` is not called. NULL is fine. */
void cellar_oci_run_cancel(struct oci_run *run);
/* Waits a little for those that were killed, and frees them all. */
void cellar_oci_runs_done(struct oci *oci);

/* The last line of `words` that says something, without what every line of a
 * runtime's log begins with. */
void cellar_oci_words(const char *words, char *text, size_t size);

/* ------------------------------------------------------------- bundles -- */

/* What stands in labels.json. */
struct oci_labels {
    char session[CELLAR_NAME_BYTES_MAX + 1];
    char owner[64];
    char supervisor[64];
    char image[256];
    char runtime[1024];
    uint32_t uid;
    uint64_t created;
    uint64_t memory_bytes;
};

/* The first process of a container: a number alone may be another's by now. */
struct oci_born {
    pid_t pid;
    uint64_t began; /* as /proc/PID/stat tells */
};

#define OCI_ID_PREFIX "oci-"
#define OCI_ID_BYTES  33 /* with the NUL */

/* E_USAGE: `id` is none of this engine's. */
enum cellar_code cellar_oci_check_id(const char *id, struct cellar_error *err);

/* The folder oci/, made where it is missing; lent. */
enum cellar_code cellar_oci_dir(struct oci *oci, int *dir_fd,
                                struct cellar_error *err);
/* state_dir/oci/ID, or with `name` a file in it. E_USAGE: too long. */
enum cellar_code cellar_oci_path(const struct oci *oci, const char *id,
                                 const char *name, char path[4096],
                                 struct cellar_error *err);
/* A bundle that is not there yet: its folder, with labels from the first moment
 * on, and its FIFOs. */
enum cellar_code cellar_oci_bundle_make(struct oci *oci,
                                        const struct oci_labels *labels,
                                        char id[OCI_ID_BYTES], int *bundle_fd,
                                        struct cellar_error *err);
/* -1: there is none. The caller closes. */
int cellar_oci_bundle_open(const struct oci *oci, const char *id);
/* Removes it and what the runtime kept of it; also one that isn't there. */
enum cellar_code cellar_oci_bundle_remove(struct oci *oci, const char *id,
                                          struct cellar_error *err);

/* Removes the entry `name` of oci/ if it is one that was never finished, and
 * whose maker is gone. */
void cellar_oci_bundles_sweep(const struct oci *oci, const char *name);

/* Whole or not at all, 0600. */
enum cellar_code cellar_oci_file_write(int dir_fd, const char *name,
                                       const char *text,
                                       struct cellar_error *err);
/* A plain file of at most OCI_FILE_MAX bytes, NUL-terminated, the caller's to
 * free. NULL: none, or it is something else. */
char *cellar_oci_file_read(int dir_fd, const char *name);

enum cellar_code cellar_oci_labels_write(int bundle_fd,
                                         const struct oci_labels *labels,
                                         struct cellar_error *err);
/* False: there are none, or they are damaged. */
bool cellar_oci_labels_read(int bundle_fd, struct oci_labels *labels);

/* Takes down the process that a runtime of that kind wrote into `pid`. */
enum cellar_code cellar_oci_born_write(int bundle_fd, const char *id,
                                       enum oci_kind kind,
                                       struct oci_born *born,
                                       struct cellar_error *err);
/* False: none was taken down. One of before the machine was started last does
 * not live. */
bool cellar_oci_born_read(int bundle_fd, struct oci_born *born);
/* When process `pid` began; 0: it is gone, or going. */
uint64_t cellar_oci_began(pid_t pid);
/* Whether it lives, as itself. */
bool cellar_oci_lives(const struct oci_born *born);
/* Kills it, and with it all of its container. */
void cellar_oci_kill(const struct oci_born *born);

/* As _read, of a bundle whose start was cut off; none: all 0. */
void cellar_oci_born_find(int bundle_fd, const char *id, struct oci_born *born);
/* "running", "paused", "exited", "created". */
const char *cellar_oci_state(const struct oci *oci, int bundle_fd,
                             const char *id);
/* Whether somebody has halted it with its runtime. */
bool cellar_oci_is_paused(const struct oci *oci, int bundle_fd, const char *id);

/* ------------------------------------------------------ control groups -- */

/* Writes down which they are: they outlast the process. */
void cellar_oci_groups_note(int bundle_fd, const char *id, pid_t pid);
/* Whether they are gone; kills what is still in them. */
bool cellar_oci_groups_remove(int bundle_fd, const char *id);
bool cellar_oci_group_is_frozen(int bundle_fd, const char *id);
/* Processes that the kernel killed for want of memory. */
uint64_t cellar_oci_group_kills(int bundle_fd, const char *id);

/* In cgroup v2 a group has the controllers that it was given: what it has not
 * is left out of `config` where `spec` allows that, and else E_ENGINE. Nothing
 * to do in v1, nor where no limits are asked for. */
enum cellar_code cellar_oci_controllers(const struct cellar_spec *spec,
                                        json_t *config,
                                        struct cellar_error *err);
/* Whether the v2 group at `path` (of /sys/fs/cgroup) can give `controller` to
 * those below it. */
bool cellar_oci_group_gives(const char *path, const char *controller);

/* --------------------------------------------------------------- users -- */

/* What a plain user's containers have in the place of root's: a user namespace,
 * in which the session's uid is one that the user was given in /etc/subuid and
 * /etc/subgid. Nothing to do for root. E_ENGINE: the user has none, or no
 * control groups, and `spec` does not allow to do without. */
enum cellar_code cellar_oci_users(const struct cellar_spec *spec,
                                  enum oci_kind kind, json_t *config,
                                  const char *id, struct cellar_error *err);
/* Which of the user's own it would be, for doctor. */
enum cellar_code cellar_oci_subuid_find(struct cellar_error *err);
bool cellar_oci_groups_are_ours(void);
/* The host's number of an id inside; itself where nothing is mapped. */
uint64_t cellar_oci_host_id(const json_t *config, const char *mappings,
                            uint64_t id);

/* -------------------------------------------------------------- a plan -- */

/* config.json of a container, out of container.json and seccomp.json. E_USAGE:
 * something is asked for that this engine can't do; or container.json holds a
 * field nobody translates. The caller frees. */
enum cellar_code cellar_oci_config(struct oci *oci,
                                   const struct cellar_launch *launch,
                                   const char *id, json_t **out,
                                   struct cellar_error *err);
/* What a runtime with a kernel of its own must be asked for otherwise: its own
 * threads count as the container's. Before the root file system: of mounts only
 * the user's are in there. E_USAGE: one of them lies in another, and nobody
 * could tell where it ends up. Nothing for the others. */
enum cellar_code cellar_oci_sandbox_config(const struct oci_runtime *runtime,
                                           json_t *config,
                                           struct cellar_error *err);
/* seccomp.json as the runtime wants it. */
enum cellar_code cellar_oci_seccomp(const struct cellar_container_spec *spec,
                                    json_t **out, struct cellar_error *err);
/* A bundle, and what for. All lent. */
struct oci_bundle {
    struct oci *oci;
    const char *id;
    int fd;
    enum oci_kind kind;
};
/* The root file system: what stands in the bundle, and what is mounted there.
 */
enum cellar_code cellar_oci_rootfs(const struct oci_bundle *bundle,
                                   const struct cellar_spec *spec,
                                   json_t *config, struct cellar_error *err);

/* ------------------------------------------------------- verification -- */

/* A container that its runtime says it has made. All lent. */
struct oci_made {
    const struct oci *oci;
    const struct oci_runtime *runtime;
    const struct oci_born *born;
    const char *id;
    const json_t *config;
};

/* Compares what the kernel shows of the container's first process with
 * config.json; of one with a kernel of its own, what this one's shows of that
 * kernel and of its gofer, and what the runtime keeps. `each` gets each
 * protection, with what is wrong or NULL. False: the process is not what it
 * will be yet; ask again. */
typedef void oci_verified_fn(void *user, const char *protection,
                             const char *wrong);
bool cellar_oci_verify(const struct oci_made *made, oci_verified_fn *each,
                       void *user);

/* ------------------------------------------------------------- streams -- */

/* Takes the descriptors, also when it fails: to write to, to read from, and of
 * the text (-1: none). With `hold` events wait until the stream is resumed. */
enum cellar_code
cellar_oci_stream_new(struct oci *oci, const int fds[3],
                      const struct cellar_stream_events *events, void *user,
                      struct cellar_stream **out, struct cellar_error *err);
/* While it is being opened an owner is told of the text too, and of the end in
 * the place of its user. */
struct oci_stream_owner {
    void (*text)(void *owner, const char *data, size_t len);
    void (*ended)(void *owner); /* NULL: bytes and the end wait to be read until
                                   the stream is released */
    void *owner;
};
void cellar_oci_stream_own(struct cellar_stream *stream,
                           const struct oci_stream_owner *owner);
/* From now on only the user is told; also of an end that has come already. */
void cellar_oci_stream_release(struct cellar_stream *stream);

/* The host's ends of a bundle's FIFOs. */
enum cellar_code cellar_oci_fifos_open(int bundle_fd, int fds[3],
                                       struct cellar_error *err);
/* The container's: their other ends stay open as long as it holds them. */
enum cellar_code cellar_oci_fifos_give(int bundle_fd, int fds[3],
                                       struct cellar_error *err);

/* ----------------------------------------------------- the engine's calls */

enum cellar_code cellar_oci_start(struct cellar_engine *engine,
                                  const struct cellar_launch *launch,
                                  const struct cellar_stream_events *events,
                                  cellar_engine_started_fn *done, void *user,
                                  struct cellar_error *err);
enum cellar_code cellar_oci_attach(struct cellar_engine *engine, const char *id,
                                   uint64_t lane,
                                   const struct cellar_stream_events *events,
                                   cellar_engine_started_fn *done, void *user,
                                   struct cellar_error *err);
enum cellar_code cellar_oci_remove(struct cellar_engine *engine, const char *id,
                                   cellar_engine_done_fn *done, void *user,
                                   struct cellar_error *err);
enum cellar_code cellar_oci_list(struct cellar_engine *engine,
                                 cellar_engine_each_fn *each,
                                 cellar_engine_done_fn *done, void *user,
                                 struct cellar_error *err);
enum cellar_code cellar_oci_diagnose(struct cellar_engine *engine,
                                     const char *id,
                                     cellar_engine_reason_fn *done, void *user,
                                     struct cellar_error *err);
enum cellar_code cellar_oci_usage(struct cellar_engine *engine, const char *id,
                                  cellar_engine_usage_fn *done, void *user,
                                  struct cellar_error *err);
enum cellar_code cellar_oci_check(struct cellar_engine *engine,
                                  const struct cellar_spec *spec,
                                  cellar_check_fn *row,
                                  cellar_engine_done_fn *done, void *user,
                                  struct cellar_error *err);

#endif
