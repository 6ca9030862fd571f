/*
 * The agent: PID 1 of a session's container. It holds the keys and the hosts'
 * streams, starts workers, gives them cells, and says how each ended. One
 * thread, one poll(2) per turn, one write per stream and turn; nothing blocks
 * but the killing of processes, which is bounded.
 *
 * A lane is one session: a stream with its key, a worker, its cells and copies.
 * Lane 0 is the container's own, on its stdio; the others are branches, which
 * were copied from a lane's worker, and are reached through the door.
 *
 *     main.c     refuses to run unprotected, then turns
 *     turn.c     one turn: what came, what is due, what goes out
 *     host.c     what a host says: a table of messages
 *     lanes.c    lanes come and go; whose processes are whose
 *     session.c  what a worker says and suffers: cells' ends, generations
 *     boot.c     a worker that starts, and what kept it from it
 *     restore.c  copies of a worker: taken, and woken in its place
 *     pressure.c given up, when memory runs short
 *     requests.c what the host asks of them
 *     branch.c   copies that become lanes
 */
#ifndef CELLAR_AGENT_AGENT_H
#define CELLAR_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "cell.h"
#include "copies.h"
#include "door.h"
#include "guard.h"
#include "memory.h"
#include "output.h"
#include "processes.h"
#include "records.h"
#include "usage.h"
#include "wire.h"
#include "worker.h"

/* Lanes at once: each has a worker, and a share of the container's limits. */
#define CELLAR_LANES_MAX 24

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
    uint64_t request; /* CHECKPOINT, RESTORE or FORK: a REPLY is owed; else 0 */
    uint64_t asked;   /* when it came */
    uint64_t wake_end; /* the patience with a copy that wakes */
    uint64_t ping;     /* what it was sent */
    uint64_t woken;    /* the cell after which it stands */
    char woken_tag[CELLAR_CHECKPOINT_TAG_MAX + 1];
    uint64_t look_at; /* when memory is looked at next */
    bool given_up;    /* the automatic copy, during this cell */
};

/* A FORK under way: branches that are wanted, and of these, made and awake. */
struct cellar_forking {
    uint32_t first; /* their first lane */
    uint32_t wanted, made, awake;
};

struct cellar_agent;

/* Times are microseconds of the monotonic clock. */
struct cellar_lane {
    struct cellar_agent *agent;
    struct cellar_lane *next;
    uint32_t number;
    uint32_t parent;   /* the lane whose FORK waits for this one; or its own */
    int hold;          /* the relay's connection, or -1 */
    bool leaving;      /* it goes with this turn */
    const char *ended; /* why; kept for whoever comes for it; or NULL */
    unsigned seen;     /* what poll(2) announced of it: turn.c */
    struct cellar_death death; /* of its worker, not dealt with yet; or pid 0 */
    struct cellar_wire wire;
    struct cellar_worker worker;
    struct cellar_records records;
    struct cellar_records aside; /* with the answer of a worker that has died */
    struct cellar_cell cell;
    struct cellar_output output;
    struct cellar_usage usage;
    struct cellar_copies copies;
    struct cellar_freezer freezer;
    struct cellar_forking forking;
    struct cellar_msg_hello hello; /* the last host's wishes */
    struct cellar_msg_done done;   /* of the cell that is ending */
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

struct cellar_agent {
    struct cellar_lane *lanes; /* in the order of their numbers */
    uint32_t last_lane;        /* the highest number so far */
    struct cellar_memory memory;
    struct cellar_guard guard;
    struct cellar_door door;
    int signals; /* signalfd */
    uint64_t now;
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

/* --- lanes.c --- */
/* A lane at the end of the list, with no worker. NULL: no memory, or too many
 * that have not ended. */
struct cellar_lane *cellar_lane_new(struct cellar_agent *agent);
struct cellar_lane *cellar_lane_find(const struct cellar_agent *agent,
                                     uint64_t number);
/* Those that have not ended. */
size_t cellar_lane_count(const struct cellar_agent *agent);

/* All its processes end. The last one takes the agent with it; beside others
 * the next host that greets it is told `why`, which lives for ever. */
void cellar_lane_end(struct cellar_lane *lane, const char *why);

/* One that no host knows of: it ends as above, and nothing of it is kept. */
void cellar_lane_leave(struct cellar_lane *lane);
void cellar_lanes_sweep(struct cellar_agent *agent);

/* Takes what a relay brought; the one before goes. */
void cellar_lane_visit(struct cellar_lane *lane,
                       const struct cellar_visitor *visitor);
void cellar_lane_unvisit(struct cellar_lane *lane);

/* Reaps what has died; deaths of workers wait in their lanes. */
void cellar_lanes_reap(struct cellar_agent *agent);

/* Whether the copy's process is known already: a worker, or another copy. */
bool cellar_lanes_know(struct cellar_agent *agent,
                       const struct cellar_copy *copy);

/* Every process of the lane dies, but the copies it has: what is another lane's
 * is spared. Ends the agent when something can't be killed. */
void cellar_lane_kill(struct cellar_lane *lane);

/* Whether nothing in the session may signal this process: the agent, copies,
 * other lanes' workers and relays. `agent` is struct cellar_agent. */
bool cellar_lanes_guard(void *agent, pid_t pid, pid_t by);

/* --- host.c --- */
/* Deals with one verified message. `user` is the lane. */
void cellar_lane_take(void *user, struct cellar_message *msg);

/* --- boot.c --- */
/* Starts the next generation's worker. */
void cellar_lane_start_worker(struct cellar_lane *lane);

/* No worker until a reset; a cell that waits for one ends with that. The host
 * is told, with the last `words` of what failed. */
void cellar_lane_fault(struct cellar_lane *lane, enum cellar_fault code,
                       const char *text, struct cellar_bytes words);

/* A worker had its time and is not ready. */
void cellar_lane_boot_is_over(struct cellar_lane *lane);

/* A worker died before it was ready. */
void cellar_lane_died_booting(struct cellar_lane *lane, int status);

/* --- session.c --- */

/* A worker is there, launched or woken: the host hears of it, a cell that waits
 * begins. */
void cellar_lane_on_worker(struct cellar_lane *lane);

/* Gives the waiting cell to the worker, when both are there. */
void cellar_lane_start_cell(struct cellar_lane *lane);

/* Ends the cell that waits to hear what became of the globals. */
void cellar_lane_finish_held(struct cellar_lane *lane);

/* Nothing the worker says is listened to any more; it is killed soon. */
void cellar_lane_distrust(struct cellar_lane *lane);

/* The control socket is readable. */
void cellar_lane_hear_worker(struct cellar_lane *lane);

/* Its worker has died: lane->death. */
void cellar_lane_on_death(struct cellar_lane *lane);

/* Deadlines of the cell and of a starting worker; the rest of a draining
 * cell. */
void cellar_lane_tick(struct cellar_lane *lane);

/* The host asks for the end of the cell. */
void cellar_lane_interrupt(struct cellar_lane *lane);

/* Everything dies; a cell ends by it; files and IPC go, unless other lanes use
 * them too; the next worker. */
void cellar_lane_reset(struct cellar_lane *lane);

/* A cell that has begun or waits ends: nothing is left that its globals could
 * come from. The host hears of it before any killing starts. */
void cellar_lane_finish_fresh(struct cellar_lane *lane);

/* Every process of the lane dies, copies too; its ends are closed. */
void cellar_lane_kill_all(struct cellar_lane *lane);

/* Keeps a message for the host. */
void cellar_lane_post(struct cellar_lane *lane, struct cellar_message *msg);

/* --- restore.c --- */
/* Copies the worker if that is due: behind the reply of its last cell, and
 * before the next one. */
void cellar_lane_freeze(struct cellar_lane *lane);

/* The socket of a copy that was asked for is readable. */
void cellar_lane_hear_copy(struct cellar_lane *lane, struct cellar_copy *copy);

/* The worker is gone, or is to go: everything dies but the copies, and the
 * newest takes its place; or a fresh one. */
void cellar_lane_replace_worker(struct cellar_lane *lane);

/* The copy that was woken answers. */
void cellar_lane_on_awake(struct cellar_lane *lane, uint64_t ping);

/* Whether a copy was woken and has not answered; and: it will not. */
bool cellar_lane_wakes(const struct cellar_lane *lane);
void cellar_lane_wake_failed(struct cellar_lane *lane);

/* Deadlines of copies; memory that runs short. When to call again. */
void cellar_lane_watch_copies(struct cellar_lane *lane);
uint64_t cellar_lane_copies_due(const struct cellar_lane *lane);

/* Tells the rest of the agent how many copies there are. */
void cellar_lane_count_copies(struct cellar_lane *lane);

/* Forgets what is due and whoever waits for it: everything dies. */
void cellar_lane_thaw(struct cellar_lane *lane);

/* A REPLY; `why` NULL: all is well. Request 0: nobody has asked. */
void cellar_lane_answer(struct cellar_lane *lane, uint64_t request,
                        const char *why);

/* Answers the request that waits, if any; and says `why` in any case. */
void cellar_lane_settle(struct cellar_lane *lane, const char *why);

/* --- pressure.c --- */
/* While its cell runs: gives up automatic copies where memory runs short. */
void cellar_lane_look_at_memory(struct cellar_lane *lane);

/* Bytes that all processes hold, without the workers and this agent: what
 * copies hold. 0 while a worker is dying. */
uint64_t cellar_agent_held(const struct cellar_agent *agent);

/* --- requests.c --- */
void cellar_lane_checkpoint(struct cellar_lane *lane, struct cellar_bytes tag);
void cellar_lane_restore(struct cellar_lane *lane, struct cellar_bytes tag);
void cellar_lane_drop(struct cellar_lane *lane, struct cellar_bytes tag);
void cellar_lane_list(struct cellar_lane *lane);

/* Answers at once; `why` NULL: all is well. */
void cellar_lane_refuse(struct cellar_lane *lane, uint64_t request,
                        const char *why);

/* Why the worker can't be copied now, or NULL. */
const char *cellar_lane_hindrance(const struct cellar_lane *lane);

/* Asks the worker for a copy, for lane `branch` or (0) to keep. */
bool cellar_lane_ask_copy(struct cellar_lane *lane, const char *tag,
                          uint32_t branch);

/* Has the copy be the lane's worker. False: it can't be spoken to. */
bool cellar_lane_wake(struct cellar_lane *lane, pid_t pid, int control,
                      enum cellar_wake_reason reason);

/* Waits, some moments at most, for copies that were asked for; drops those that
 * say nothing. */
void cellar_lane_settle_copies(struct cellar_lane *lane);

/* Closes all that a dead worker left. */
void cellar_lane_close_worker(struct cellar_lane *lane);

/* --- branch.c --- */
/* Makes `count` new lanes of copies of the worker. */
void cellar_lane_fork(struct cellar_lane *lane, uint64_t count);

/* A copy for a branch is frozen, or (`why`) won't be. */
void cellar_lane_on_branch(struct cellar_lane *parent,
                           struct cellar_copy *copy);
void cellar_lane_no_branch(struct cellar_lane *parent, const char *why);

/* A branch's worker is awake; or it will not be, and the lane goes. */
void cellar_branch_awake(struct cellar_lane *lane);
void cellar_branch_failed(struct cellar_lane *lane);

#endif
