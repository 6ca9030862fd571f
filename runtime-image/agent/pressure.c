/* Memory that runs short while a cell runs: what automatic copies hold is given
 * back before the cell is refused memory, the older ones first. */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/* How often memory is looked at while a cell runs: as soon as one that
 * allocates as fast as the kernel gives, 16 GB/s in huge pages, could have used
 * up what is to spare. */
#define LOOK_US_MIN  1000u
#define LOOK_US_MAX  20000u
#define BYTES_PER_US 16000u

/* The last automatic copy is all that a session has: it is not given up for
 * less than this part of the memory. */
#define HELD_SHARE    12
#define HELD_LOOKS    4
#define HELD_PAUSE_NS 2000000

/* The kernel gives back 1 GiB in 100 ms. */
#define DEATH_PAUSE_NS   200000
#define DEATH_PAUSES_MAX 2500

/* ------------------------------------------------------------ what is held --
 */

/* Of all lanes' workers. False: one of them can't be looked at, or is dying. */
static bool workers_private(const struct cellar_agent *agent, uint64_t *sum)
{
    bool all = true;
    *sum = 0;
    for (const struct cellar_lane *lane = agent->lanes; lane;
         lane = lane->next) {
        uint64_t bytes = cellar_usage_private(&lane->usage);
        all &= bytes > 0;
        *sum += bytes;
    }
    return all;
}

/* The workers are looked at twice: they may grow meanwhile, or be dying, and
 * what they give back is nobody's. */
uint64_t cellar_agent_held(const struct cellar_agent *agent)
{
    uint64_t before = 0;
    uint64_t after = 0;
    bool alive = workers_private(agent, &before);
    uint64_t all = cellar_memory_private(&agent->memory);
    alive &= workers_private(agent, &after);
    uint64_t ours =
        (before > after ? before : after) + cellar_memory_own(&agent->memory);
    return alive && all > ours ? all - ours : 0;
}

/* Whether giving up a copy helps a cell that needs memory. What other processes
 * have is counted too: it can't be told apart. The kernel's sums are late under
 * load, and a worker takes a moment to stand still; so it must be so for a
 * while. */
static bool is_worth_giving_up(const struct cellar_agent *agent)
{
    const struct timespec pause = {.tv_nsec = HELD_PAUSE_NS};
    for (int look = 0; look < HELD_LOOKS; look++) {
        if (look > 0)
            nanosleep(&pause, NULL);
        if (cellar_agent_held(agent) <= agent->memory.limit / HELD_SHARE)
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------- giving up --
 */

/* Workers stand still while copies die: the kernel takes its time to give back
 * what these held, and a cell takes it faster. */
static void signal_workers(const struct cellar_agent *agent, int signal)
{
    for (const struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        if (lane->worker.pid > 0 && lane->cell.phase == CELLAR_CELL_RUNNING)
            kill(lane->worker.pid, signal);
}

/* Not reaped: whoever reaps deals with it. */
static void wait_for_death(pid_t pid, unsigned *pauses)
{
    const struct timespec pause = {.tv_nsec = DEATH_PAUSE_NS};
    siginfo_t info = {0};
    for (; *pauses < DEATH_PAUSES_MAX; (*pauses)++) {
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid == pid)
            return;
        nanosleep(&pause, NULL);
    }
}

static bool thin(struct cellar_lane *lane, size_t keep, unsigned *pauses)
{
    pid_t pids[CELLAR_COPY_PLACES];
    size_t count = cellar_copies_pids(&lane->copies, pids);
    bool thinned = cellar_copies_thin(&lane->copies, keep);
    lane->freezer.given_up |= thinned && keep == 0;
    cellar_lane_count_copies(lane);
    for (size_t i = 0; thinned && i < count; i++)
        if (!cellar_copies_have(&lane->copies, pids[i]))
            wait_for_death(pids[i], pauses);
    return thinned;
}

static bool thin_all(struct cellar_agent *agent, size_t keep)
{
    bool any = false;
    unsigned pauses = 0;
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        any |= thin(lane, keep, &pauses);
    return any;
}

static void give_up(struct cellar_agent *agent)
{
    signal_workers(agent, SIGSTOP);
    (void)thin_all(agent, 1);
    if (cellar_memory_spare(&agent->memory) == 0 && is_worth_giving_up(agent))
        (void)thin_all(agent, 0);
    signal_workers(agent, SIGCONT);
}

/* ------------------------------------------------------------------ looking --
 */

static bool are_automatic_copies(const struct cellar_agent *agent)
{
    for (const struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        if (cellar_copies_count(&lane->copies) >
            cellar_copies_named(&lane->copies))
            return true;
    return false;
}

static uint64_t look_again(const struct cellar_agent *agent)
{
    uint64_t us = cellar_memory_spare(&agent->memory) / BYTES_PER_US;
    us = us > LOOK_US_MIN ? us : LOOK_US_MIN;
    return agent->now + (us < LOOK_US_MAX ? us : LOOK_US_MAX);
}

void cellar_lane_look_at_memory(struct cellar_lane *lane)
{
    struct cellar_freezer *freezer = &lane->freezer;
    struct cellar_agent *agent = lane->agent;
    if (lane->cell.phase != CELLAR_CELL_RUNNING ||
        !are_automatic_copies(agent)) {
        freezer->look_at = 0;
        return;
    }
    if (freezer->look_at > agent->now)
        return;
    if (freezer->look_at > 0 && cellar_memory_spare(&agent->memory) == 0)
        give_up(agent);
    freezer->look_at = look_again(agent);
}
