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
 */
#ifndef CELLAR_AGENT_AGENT_H
#define CELLAR_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "cell.h"
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

/* Times are microseconds of the monotonic clock. */
struct cellar_agent {
    struct cellar_wire wire;
    struct cellar_worker worker;
    struct cellar_records records;
    struct cellar_cell cell;
    struct cellar_output output;
    struct cellar_usage usage;
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
    bool lost;                      /* globals went that no DONE has told of */
    bool faulted;                   /* there is no worker until a reset */
};

/* Prints "cellar-agent: ..." to stderr, and ends. */
noreturn void cellar_agent_die(enum cellar_agent_exit status,
                               const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cellar_agent_say(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* --- turn.c --- */
void cellar_agent_init(struct cellar_agent *agent);
void cellar_agent_turn(struct cellar_agent *agent);

/* --- host.c --- */
/* Deals with one verified message. `user` is the agent. */
void cellar_agent_take(void *user, struct cellar_message *msg);

/* --- session.c --- */
/* Starts the next generation's worker. */
void cellar_agent_start_worker(struct cellar_agent *agent);

/* Gives the waiting cell to the worker, when both are there. */
void cellar_agent_start_cell(struct cellar_agent *agent);

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

/* Everything but the agent dies. Ends the agent when that can't be done. */
void cellar_agent_kill_all(struct cellar_agent *agent);

#endif
