/*
 * A session, seen from the host: a state machine that is fed by its engine
 * stream, by timers and by calls, and never waits. session.c holds its life
 * (phases, loss, the end), session_start.c how it comes to be (started or
 * adopted), session_cell.c its cells.
 *
 *              start / adopt
 *                   |
 *   STARTING -> GREETING -> BOOTING -> LIVE <-> RESETTING
 *       \___________\___________\________|__________/
 *                           v
 *                  LOST, or CLOSING -> freed
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
#include "loop.h"
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
#define CELLAR_SLACK_MS 5000

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

/* Somebody who waits for a start, a reset or a stop. */
struct cellar_waiter {
    cellar_session_fn *done; /* NULL: nobody */
    void *user;
};

/* A cell from cellar_run_async() to its result. */
struct cellar_job {
    struct cellar_job *next;
    char *code; /* freed once it is sent */
    size_t code_len;
    uint64_t cell;
    uint64_t timeout_ms;
    bool sent;
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
    bool adopting;
    bool greeted; /* a WELCOME came: the container's agent works */
    bool ready;   /* while BOOTING: the worker is; the stream may be missing */
    bool remove;  /* the container goes with the session */
    struct cellar_spec spec;
    struct cellar_record record;
    struct cellar_hold hold;
    struct cellar_control *control;
    struct cellar_channel channel;
    uint64_t generation;
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
    struct cellar_job *jobs;   /* the first one may be running */
    struct cellar_job *doomed; /* what a reset took off the queue */
    struct cellar_job **jobs_end;
    size_t job_count;
    atomic_bool interrupt_asked;
    char words[CELLAR_LAST_WORDS_MAX];
    size_t words_len;
    uint32_t *uids; /* in use on the engine: while a start looks for its own */
    size_t uid_count;
    bool old_alive; /* a container of this name lives */
    /* Containers that a start left half-made, to be removed before this one. */
    char (*orphans)[CELLAR_CONTAINER_ID_MAX + 1];
    size_t orphan_count;
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

/* The stream's events, and what a verified message does. */
extern const struct cellar_stream_events cellar_session_stream_events;

/* Sends; a failure fails the session. */
void cellar_session_send(struct cellar_session *s, struct cellar_message *msg);

/* Tells a waiter once. */
void cellar_waiter_tell(struct cellar_waiter *waiter, struct cellar_session *s,
                        const struct cellar_error *err);

/* Something asked another process's cellar to do it: control.h. */
void cellar_session_interrupt(struct cellar_session *s);

/* --------------------------------- session_start.c: started, adopted ---- */

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
/* A cell that a former supervisor started. */
void cellar_session_expect(struct cellar_session *s, uint64_t cell);
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

#endif
