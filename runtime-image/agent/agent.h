/*
 * The agent: PID 1 of a session's container. It holds the key and the host's
 * stream, starts the worker, gives it cells, and says how each ended. One
 * thread, one poll(2) per turn, one write per turn; nothing blocks but the
 * killing of processes, which is bounded.
 *
 *     main.c     refuses to run unprotected, then turns
 *     turn.c     one turn: what came, what is due, what goes out
 *     host.c     what the host says:   a table of messages
 *     session.c  what the worker says and suffers: cells' ends, generations
 *     restore.c  copies of the worker: taken, given up, woken in its place
 */
#ifndef CELLAR_AGENT_AGENT_H
#define CELLAR_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "cell.h"
#include "copies.h"
#include "guard.h"
#include "memory.h"
#include "output.h"
#include "records.h"
#include "usage.h"
#include "wire.h"
#include "worker.h"

/* How the agent ends when it fails. */
enum cellar_agent_exit {
    CELLAR_AGENT_EXIT_UNSAFE = 1, /* it is not protected as it must be */
    CELLAR_AGENT_EXIT_HOST = 2,   /* no host, or not one of ours */
    CELLAR_AGENT_EXIT_SELF = 3    /* out of memory, a process that can't die */
};

/* What is to be done about copies. Times are microseconds; 0: none. */
struct cellar_freezer {
    bool due;                                /* the worker is to be copied */
    char tag[CELLAR_CHECKPOINT_TAG_MAX + 1]; /* "": automatically */
    uint64_t request;  /* CHECKPOINT or RESTORE: a REPLY is owed; else 0 */
    uint64_t asked;    /* when it came */
    uint64_t wake_end; /* the patience with a copy that wakes */
    uint64_t ping;     /* what it was sent */
    uint64_t woken;    /* the cell after which it stands */
    char woken_tag[CELLAR_CHECKPOINT_TAG_MAX + 1];
    uint64_t look_at; /* when memory is looked at next */
    bool given_up;    /* the automatic copy, during this cell */
};

/* Times are microseconds of the monotonic clock. */
struct cellar_agent {
    struct cellar_wire wire;
    struct cellar_worker worker;
    struct cellar_records records;
    struct cellar_records aside; /* with the answer of a worker that has died */
    struct cellar_cell cell;
    struct cellar_output output;
    struct cellar_usage usage;
    struct cellar_memory memory;
    struct cellar_copies copies;
    struct cellar_freezer freezer;
    struct cellar_guard guard;
    struct cellar_msg_hello hello; /* the last host's wishes */
    struct cellar_msg_done done;   /* of the cell that is ending */
    int signals;                   /* signalfd */
    uint64_t now;
    uint64_t lease_end;
    uint64_t life_end;   /* the session's; 0: none */
    uint64_t boot_end;   /* the patience with a starting worker; 0: none */
    uint64_t mute_end;   /* with one that is not believed any more */
    uint64_t generation; /* of workers; 0: none was started */
    unsigned deaths;     /* of workers without a cell, in a row */
    unsigned landlock_abi, seccomp; /* what the launcher told */
    char python[CELLAR_PYTHON_MAX + 1];
    uint64_t stands; /* the cell after which the globals stand; 0: fresh */
    enum cellar_state went; /* what became of globals, if no DONE has told of
                               it yet; else KEPT */
    bool faulted;           /* there is no worker until a reset */
};

/* Prints "cellar-agent: ..." to stderr, and ends. */
noreturn void cellar_agent_die(enum cellar_agent_exit status,
                               const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cellar_agent_say(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Whether nothing in the session may signal this process: itself, its copies.
 */
bool cellar_agent_guards(void *agent, pid_t pid);

/* --- turn.c --- */
void cellar_agent_init(struct cellar_agent *agent);
void cellar_agent_turn(struct cellar_agent *agent);

/* --- host.c --- */
/* Deals with one verified message. `user` is the agent. */
void cellar_agent_take(void *user, struct cellar_message *msg);

/* --- session.c --- */
/* Starts the next generation's worker. */
void cellar_agent_start_worker(struct cellar_agent *agent);

/* A worker is there, launched or woken: the host hears of it, a cell that waits
 * begins. */
void cellar_agent_on_worker(struct cellar_agent *agent);

/* Gives the waiting cell to the worker, when both are there. */
void cellar_agent_start_cell(struct cellar_agent *agent);

/* Ends the cell that waits to hear what became of the globals. */
void cellar_agent_finish_held(struct cellar_agent *agent);

/* Nothing the worker says is listened to any more; it is killed soon. */
void cellar_agent_distrust(struct cellar_agent *agent);

/* The control socket is readable. */
void cellar_agent_hear_worker(struct cellar_agent *agent);

/* Some child has died. */
void cellar_agent_reap(struct cellar_agent *agent);

/* Deadlines of the cell and of a starting worker; the rest of a draining
 * cell. */
void cellar_agent_tick(struct cellar_agent *agent);

/* The host asks for the end of the cell. */
void cellar_agent_interrupt(struct cellar_agent *agent);

/* Everything dies; a cell ends by it; files and IPC go; the next worker. */
void cellar_agent_reset(struct cellar_agent *agent);

/* Everything but the agent dies, copies too. Ends the agent when that can't be
 * done. */
void cellar_agent_kill_all(struct cellar_agent *agent);

/* Keeps a message for the host. */
void cellar_agent_post(struct cellar_agent *agent, struct cellar_message *msg);

/* --- restore.c --- */
/* Copies the worker if that is due: behind the reply of its last cell, and
 * before the next one. */
void cellar_agent_freeze(struct cellar_agent *agent);

/* The socket of a copy that was asked for is readable. */
void cellar_agent_hear_copy(struct cellar_agent *agent,
                            struct cellar_copy *copy);

/* The worker is gone, or is to go: everything dies but the copies, and the
 * newest takes its place; or a fresh one. */
void cellar_agent_replace_worker(struct cellar_agent *agent);

/* The copy that was woken answers. */
void cellar_agent_on_awake(struct cellar_agent *agent, uint64_t ping);

/* Whether a copy was woken and has not answered; and: it will not. */
bool cellar_agent_wakes(const struct cellar_agent *agent);
void cellar_agent_wake_failed(struct cellar_agent *agent);

/* Deadlines of copies; memory that runs short. When to call again. */
void cellar_agent_watch_copies(struct cellar_agent *agent);
uint64_t cellar_agent_copies_due(const struct cellar_agent *agent);

/* Forgets what is due and whoever waits for it: everything dies. */
void cellar_agent_thaw(struct cellar_agent *agent);

/* What the host asks for. */
void cellar_agent_checkpoint(struct cellar_agent *agent,
                             struct cellar_bytes tag);
void cellar_agent_restore(struct cellar_agent *agent, struct cellar_bytes tag);
void cellar_agent_drop(struct cellar_agent *agent, struct cellar_bytes tag);
void cellar_agent_list(struct cellar_agent *agent);

#endif
