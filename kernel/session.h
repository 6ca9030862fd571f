/*
 * A session, seen from the host: a state machine that is fed by its engine
 * stream, by timers and by calls, and never waits.
 *
 *     session.c          its life: phases, loss, the end
 *     session_start.c    a container is started for it
 *     session_take.c     one that stood ready is taken in place of a new one
 *     session_attach.c   it is adopted; it finds back after its stream broke
 *     session_greet.c    host and agent shake hands, in all three cases
 *     session_cell.c     its cells
 *     session_journal.c  what is written down of it, and when
 *     session_checkpoint.c  its checkpoints
 *     session_branch.c   sessions forked from it; its end beside them
 *
 *            start / adopt / take
 *                 |
 *   STARTING -> GREETING -> BOOTING -> LIVE <-> RESETTING
 *      |   ^________\___________\_______|__________/
 *      |      (its stream broke: back to STARTING)
 *      v
 *   LOST, or CLOSING -> freed
 *
 * Rules that keep it safe to call from its own callbacks:
 * - a session is freed, and its stream closed, only in its turn: a timer that
 *   fires from the loop, never below a caller;
 * - it is freed only when no engine call refers to it (`pending`);
 * - callbacks are handed out after the state has changed.
 */
#ifndef CELLAR_KERNEL_SESSION_H
#define CELLAR_KERNEL_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cellar/cellar.h"
#include "channel.h"
#include "engine/engine.h"
#include "journal.h"
#include "loop.h"
#include "ready.h"
#include "record.h"
#include "result.h"

/* What the agent said on its stderr last, kept for a diagnosis. */
#define CELLAR_LAST_WORDS_MAX 1024

/* Deadlines of the host. A start includes the engine's own work (0.2 s as a
 * rule; a cold, busy machine has taken 20). The slack is what an agent may be
 * late with an ending it has promised. */
#define CELLAR_START_MS 90000
#define CELLAR_ADOPT_MS 15000
#define CELLAR_RESET_MS 15000
#define CELLAR_ASK_MS   30000
#define CELLAR_TAKE_MS  5000
#define CELLAR_SLACK_MS 5000

/* What the agent gives a worker that has modules to import (boot.c): a cell
 * waits for it, and a reset. */
#define CELLAR_PRELOAD_MS 60000

/* A session whose stream broke is looked for so long, every so often: an
 * engine that restarts has taken over a minute. An engine that keeps breaking
 * streams is given no more time, unless one has lasted. */
#define CELLAR_AWAY_MS       90000
#define CELLAR_AWAY_FIRST_MS 50
#define CELLAR_AWAY_LAST_MS  2000
#define CELLAR_LASTED_MS     10000

/* The agent ends a session by itself so long after its lifetime, should no
 * supervisor have done it. */
#define CELLAR_LIFETIME_SLACK_MS 2000

/* An unnamed session ends with its supervisor; should that be killed, soon
 * after it. */
#define CELLAR_UNNAMED_LEASE_MS 120000

enum cellar_phase {
    CELLAR_PHASE_STARTING,  /* the engine makes, or attaches, the container */
    CELLAR_PHASE_GREETING,  /* HELLO is sent, WELCOME has not come */
    CELLAR_PHASE_BOOTING,   /* the worker is not READY yet */
    CELLAR_PHASE_LIVE,      /* cells run */
    CELLAR_PHASE_RESETTING, /* RESET is sent, READY has not come */
    CELLAR_PHASE_LOST,      /* the container is gone; `err` says why */
    CELLAR_PHASE_CLOSING    /* nobody refers to it but the engine */
};

/* How it comes to be LIVE. */
enum cellar_arrival {
    CELLAR_ARRIVAL_START,
    CELLAR_ARRIVAL_ADOPT,
    CELLAR_ARRIVAL_TAKE,  /* it stood ready; until it is LIVE it may fail, and a
                             start comes in its place */
    CELLAR_ARRIVAL_RETURN /* it was before, in this process */
};

/* Somebody who waits for a start, a reset or a stop. */
struct cellar_waiter {
    cellar_session_fn *done; /* NULL: nobody */
    void *user;
};

/* A request about checkpoints or branches that waits for its answer. */
struct cellar_asked {
    enum cellar_message_type request; /* 0: none waits */
    bool timed;                       /* the deadline is its own */
    char tag[CELLAR_TAG_BYTES_MAX + 1];
    cellar_moment_fn *done;
    void *user;
    struct cellar_branches *branches; /* of FORK: owned */
};

/* A cell from cellar_run_async() to its result. */
struct cellar_job {
    struct cellar_job *next;
    char *code; /* kept until its end: a stream may break under it; NULL:
                   another supervisor's cell */
    size_t code_len;
    uint64_t cell;
    uint64_t timeout_ms;
    bool sent;
    bool begun; /* it stands in the journal */
    struct cellar_journal_mark mark;
    void (*on_output)(void *user, int stream, const char *data, size_t len);
    void *user;
    cellar_result_fn *done; /* NULL: another supervisor's cell */
    void *done_user;
    struct cellar_collect collect;
};

struct cellar_session {
    struct cellar *c;
    struct cellar_session *next, *prev; /* the supervisor's list */
    enum cellar_phase phase;
    enum cellar_arrival arrival;
    bool ready;    /* while BOOTING: the worker is; the stream may be missing */
    bool remove;   /* the container goes with the session */
    bool leaving;  /* STOP was sent: others live on in the container */
    bool removed;  /* they went, or were asked to go */
    bool kept;     /* it is LOST to this process, and may live */
    bool detached; /* its stream is over; session_attach.c */
    bool resetting;         /* a RESET was sent, or is to be sent again */
    uint64_t away_since_us; /* when its stream broke; 0: it has lasted since */
    uint64_t live_since_us;
    uint64_t away_tries;
    char away[200]; /* why it is away */
    struct cellar_spec spec;
    struct cellar_record record;
    char dir[CELLAR_NAME_BYTES_MAX + 1]; /* whose `hold` is, as a rule its name;
                                            "": it has none */
    struct cellar_hold hold;
    struct cellar_control *control;
    struct cellar_channel channel;
    struct cellar_journal_place place; /* session 0: not in the journal */
    bool untold_asked; /* the journal, for what nobody was told of */
    bool left;         /* it is another process's to write */
    uint64_t generation;
    uint64_t last_cell;     /* the agent's word when it was greeted last */
    uint64_t last_delivery; /* the same */
    bool ask_again;         /* what was asked, when that delivery has come */
    uint64_t
        landlock_abi; /* that confines the worker; 0: the kernel has none */
    struct cellar_timer *turn;
    struct cellar_timer *deadline;
    struct cellar_timer *keepalive;
    struct cellar_timer *lifetime;
    bool outlived;    /* the lifetime is over: why it was lost */
    unsigned pending; /* engine calls that will call back */
    bool diagnosed;
    struct cellar_error err; /* why it failed or was lost */
    struct cellar_waiter opened, reset, stopped;
    struct cellar_waiter gone; /* of an idle one in a pool: it is LOST */
    struct cellar_asked asked;
    struct cellar_job *former; /* a former supervisor's cell, until its end */
    struct cellar_job *jobs;   /* the first one may be running */
    struct cellar_job *doomed; /* what a reset took off the queue */
    struct cellar_job **jobs_end;
    size_t job_count;
    atomic_bool interrupt_asked;
    char words[CELLAR_LAST_WORDS_MAX];
    size_t words_len;
    bool interrupt_late; /* asked for while it was away */
    uint32_t *uids; /* in use on the engine: while a start looks for its own */
    size_t uid_count;
    char old[CELLAR_CONTAINER_ID_MAX + 1];  /* the one recorded of this name */
    bool old_alive;                         /* a container of this name lives */
    char ready_key[CELLAR_READY_KEY_BYTES]; /* of the pool it looks into */
    struct cellar_stand *stands;            /* ready ones, while a take looks */
    size_t stand_count;
    struct cellar_reaper *reaper; /* while a start looks */
};

/* ---------------------------------------- session.c: life and end ------ */

/* An object on the supervisor's list, in phase STARTING; NULL: no memory. */
struct cellar_session *cellar_session_new(struct cellar *c,
                                          struct cellar_error *err);

/* Runs the session's turn soon, from the loop. */
void cellar_session_kick(struct cellar_session *s);

/* The session can't go on: `err` holds why. Whoever waits is told in its
 * turn. The container is removed unless `keep`. */
void cellar_session_fail(struct cellar_session *s, bool keep,
                         enum cellar_code code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* What is said of a stream that is over, as long as nobody knows more. */
#define CELLAR_STREAM_ENDED "the container ended"

/* Adds the engine's reason to `err`; it says by itself that the container
 * ended, so where nothing else was known it stands alone. */
void cellar_session_explain(struct cellar_session *s, const char *reason);

/* The stream's events, and what a verified message does. */
extern const struct cellar_stream_events cellar_session_stream_events;

/* What a wait for a new worker may take longer, for its modules. */
uint64_t cellar_session_preload_ms(const struct cellar_session *s);

/* Sends; a failure fails the session. */
void cellar_session_send(struct cellar_session *s, struct cellar_message *msg);

/* Tells a waiter once. */
void cellar_waiter_tell(struct cellar_waiter *waiter, struct cellar_session *s,
                        const struct cellar_error *err);

/* Something asked another process's cellar to do it: control.h. */
void cellar_session_interrupt(struct cellar_session *s);

/* Sends RESET, and waits for the next generation. */
void cellar_session_ask_reset(struct cellar_session *s);

/* ------------------------------------------- session_attach.c: again ---- */

/* The stream is over; `err` NULL: it came to its end. The session finds back,
 * or ends: with the engine's reason. */
void cellar_session_detach(struct cellar_session *s,
                           const struct cellar_error *err);
/* Attaches to the container that is recorded. */
enum cellar_code cellar_session_attach(struct cellar_session *s,
                                       struct cellar_error *err);
/* In its turn, while detached. */
void cellar_session_seek(struct cellar_session *s);
/* The engine has attached, or started, the container: its callback. */
cellar_engine_started_fn cellar_session_on_started;

/* Remembers who waits for the session; or, when its beginning failed, lets go
 * of it. Returns `code`. */
enum cellar_code cellar_session_begun(struct cellar_session *s,
                                      enum cellar_code code,
                                      cellar_session_fn *done, void *user);

/* ------------------------------------ session_start.c, session_take.c --- */

/* As cellar_start_async(), of a name that is reserved too. */
enum cellar_code cellar_session_start(struct cellar *c,
                                      const struct cellar_spec *spec,
                                      cellar_session_fn *done, void *user,
                                      struct cellar_error *err);
/* The start of a session that has been nothing but a spec so far. */
enum cellar_code cellar_session_begin_start(struct cellar_session *s,
                                            struct cellar_error *err);

/* What the host keeps to, or tells the agent anew: from the spec, into the
 * record, from now on. */
void cellar_session_fill_terms(struct cellar_session *s);

/* Has a session that stands ready in this process held in the state directory,
 * under a reserved name, so that a name costs it a renaming. Where that fails a
 * named take only lasts longer. */
void cellar_session_shelve(struct cellar_session *s);

/* An unnamed session of this process that stood ready, and that nobody has had,
 * is to be `name`'s, or to stay unnamed: greeted anew, and `done` told. On
 * failure nothing has changed. */
enum cellar_code cellar_session_give(struct cellar_session *s, const char *name,
                                     cellar_session_fn *done, void *user,
                                     struct cellar_error *err);

/* What was taken could not be had, and is gone: a start in its place. */
void cellar_session_start_instead(struct cellar_session *s);

/* ------------------------------------ session_greet.c: host and agent ---- */

/* Begins an epoch: HELLO stands in the channel's `out`. `first`: of a new
 * container. */
enum cellar_code cellar_session_greet(struct cellar_session *s, bool first,
                                      struct cellar_error *err);
/* The worker is ready, or was; once the stream is there too, cells run and
 * whoever waits is told. */
void cellar_session_open_up(struct cellar_session *s);
/* Hears what other processes ask for, in the directory it holds; once. */
void cellar_session_listen(struct cellar_session *s);
void cellar_session_on_welcome(struct cellar_session *s,
                               const struct cellar_msg_welcome *welcome);
void cellar_session_on_ready(struct cellar_session *s,
                             const struct cellar_msg_ready *ready);
void cellar_session_on_fault(struct cellar_session *s,
                             const struct cellar_msg_fault *fault);

/* ----------------------------------------- session_cell.c: its cells ---- */

/* Sends the first job when nothing runs. */
void cellar_session_pump(struct cellar_session *s);
/* The job that the agent is working on, or NULL. */
struct cellar_job *cellar_session_running(const struct cellar_session *s);
/* A cell that a former supervisor started, and that runs, or whose end is on
 * its way. */
void cellar_session_expect(struct cellar_session *s, uint64_t cell,
                           bool running);
/* After a return: the agent has never seen the cells above `last_cell`. */
void cellar_session_resend(struct cellar_session *s);
/* The host's deadline for the running cell begins again. */
void cellar_session_watch(struct cellar_session *s);
void cellar_session_on_output(struct cellar_session *s, uint64_t cell,
                              const struct cellar_msg_output *output);
void cellar_session_on_display(struct cellar_session *s, uint64_t cell,
                               const struct cellar_msg_display *display);
void cellar_session_on_done(struct cellar_session *s, uint64_t cell,
                            const struct cellar_msg_done *done);
/* Takes the cells that were never sent off the queue; they are told that they
 * were killed, from the loop. */
void cellar_session_doom(struct cellar_session *s);
void cellar_session_tell_doomed(struct cellar_session *s);
/* Gives every cell this ending. */
void cellar_session_end_jobs(struct cellar_session *s,
                             enum cellar_status status, enum cellar_state state,
                             const char *reason);

/* --------------------------- session_checkpoint.c: its checkpoints ---- */

/* Makes s->asked wait for its answer. E_BUSY, E_LOST: `asked` is not taken. */
enum cellar_code cellar_session_request(struct cellar_session *s,
                                        const struct cellar_asked *asked,
                                        struct cellar_error *err);
/* Sends the request that waits; _again: when the stream had broken meanwhile.
 */
void cellar_session_ask(struct cellar_session *s);
void cellar_session_ask_again(struct cellar_session *s);
/* It will not be answered. */
void cellar_session_tell_asked(struct cellar_session *s,
                               const struct cellar_error *err);
void cellar_session_on_reply(struct cellar_session *s,
                             const struct cellar_msg_reply *reply);
void cellar_session_on_copies(struct cellar_session *s,
                              const struct cellar_msg_copies *copies);

/* ------------------------------ session_branch.c: beside others ---- */

/* Sessions that a FORK under way is to make, with their names held. */
struct cellar_branches;
size_t cellar_branches_count(const struct cellar_branches *branches);
/* The agent has made them, as lanes from `lane` on: they are written down.
 * Takes nothing. */
enum cellar_code cellar_branches_record(struct cellar_session *s,
                                        const struct cellar_branches *branches,
                                        const struct cellar_msg_reply *reply,
                                        struct cellar_error *err);
void cellar_branches_free(const char *state_dir,
                          struct cellar_branches *branches); /* NULL is fine */

/* Whether other sessions live in its container. */
bool cellar_session_shares(const struct cellar_session *s);
/* Asks the agent to end this lane alone, when others live beside it: whether it
 * was asked. Its answer, or its silence, ends the session: _left. */
bool cellar_session_leave(struct cellar_session *s);
void cellar_session_left(struct cellar_session *s);

/* ---------------------------- session_journal.c: what is written down ---- */

/* Nothing here fails the session: a journal that can't be written is told of
 * (config.warn), and tried again later. Unnamed sessions are not written. */

/* The session stands in it, and what was stored last is known (s->place). */
void cellar_session_journal_open(struct cellar_session *s);
/* It answers: an end that was written of it before was none. */
void cellar_session_journal_live(struct cellar_session *s);
/* Before `job` is sent. */
void cellar_session_journal_begin(struct cellar_session *s,
                                  struct cellar_job *job);
/* What came is stored, so that it may be acknowledged: settles the channel. */
void cellar_session_settle(struct cellar_session *s);
/* The end of `job`, whose result it returns (never NULL) for the caller to give
 * on; `told`: somebody will be told. *first: no other end was stored. */
struct cellar_result *cellar_session_journal_end(struct cellar_session *s,
                                                 struct cellar_job *job,
                                                 bool told, bool *first);
/* The session is let go of, and not this process's to write any more. */
void cellar_session_journal_leave(struct cellar_session *s);
void cellar_session_journal_reset(struct cellar_session *s);
void cellar_session_journal_restore(struct cellar_session *s, uint64_t cell);
/* A branch begins with its past. */
void cellar_session_journal_branch(struct cellar_session *s,
                                   const struct cellar_record *branch,
                                   uint64_t after);
/* "stopped" or "lost". */
void cellar_session_journal_close(struct cellar_session *s, const char *ending,
                                  const char *reason);
/* Brings back what was stored of the former supervisor's cell. */
void cellar_session_journal_resume(struct cellar_session *s,
                                   struct cellar_job *job);
/* A cell that a former supervisor wrote down and never sent has ended. */
void cellar_session_journal_unsent(struct cellar_session *s);
/* Gives what nobody was told of to config.unattended. From the loop. */
void cellar_session_tell_untold(struct cellar_session *s);

#endif
