#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/* From the container's start to the host's greeting, which stands in the
 * stream before the container starts. */
#define GREETING_US_MAX 60000000u

/* stdin is at its end while no host is attached, on engines that close it:
 * looked at again so often. */
#define RETRY_US 500000u

/* Of a lane poll() looks at them in this order, which two promises rest on:
 * output that was written before an END is seen with it, and late output of one
 * cell is seen with the RUN of the next. */
enum { HOST_IN, CONTROL, OUT, ERR, HOST_OUT, RELAY, ROLES };

#define SEEN(role) (1u << (role))

/* All lanes' copies that are being made, and the shared ones: signals, the
 * door, the guard's listeners. */
#define COPIES_MAX  (CELLAR_LANES_MAX * CELLAR_COPY_PLACES)
#define SHARED_MAX  (2 + CELLAR_GUARD_MAX)
#define WATCHED_MAX (CELLAR_LANES_MAX * ROLES + COPIES_MAX + SHARED_MAX)

/* What poll() waits for, and whose each is. */
static struct {
    struct pollfd fds[WATCHED_MAX];
    struct {
        struct cellar_lane *lane;
        struct cellar_copy *copy;
        int role;
    } who[WATCHED_MAX];
    nfds_t count;
    nfds_t shared; /* where the lanes' end */
} watched;

static uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Only these two wake the agent; all others stay blocked for ever, so a flood
 * of them costs nothing. */
static int watch_signals(void)
{
    sigset_t all;
    sigset_t some;
    /* A copy that is stopped is no news. */
    const struct sigaction plain = {.sa_handler = SIG_DFL,
                                    .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGCHLD, &plain, NULL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&some);
    sigaddset(&some, SIGCHLD);
    sigaddset(&some, SIGTERM);
    return signalfd(-1, &some, SFD_NONBLOCK | SFD_CLOEXEC);
}

void cellar_agent_init(struct cellar_agent *agent)
{
    *agent = (struct cellar_agent){.now = clock_us(), .door.listener = -1};
    cellar_memory_init(&agent->memory);
    cellar_guard_init(&agent->guard);
    struct cellar_lane *lane = cellar_lane_new(agent);
    if (!lane)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "out of memory");
    lane->lease_end = agent->now + GREETING_US_MAX;
    agent->signals = watch_signals();
    if (agent->signals < 0)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "no signalfd: %m");
}

/* ----------------------------------------------------------- what to wait --
 */

static void watch(struct cellar_lane *lane, struct cellar_copy *copy, int role,
                  int fd, short events)
{
    if (fd < 0 || events == 0)
        return;
    watched.fds[watched.count] = (struct pollfd){fd, events, 0};
    watched.who[watched.count].lane = lane;
    watched.who[watched.count].copy = copy;
    watched.who[watched.count].role = role;
    watched.count++;
}

static void choose_of(struct cellar_lane *lane)
{
    const struct cellar_output *output = &lane->output;
    const struct cellar_wire *wire = &lane->wire;
    short pipes = cellar_output_wants(output, wire) ? POLLIN : 0;
    bool believed = lane->mute_end == 0;
    bool hears = believed && lane->cell.phase != CELLAR_CELL_DRAINING;
    bool todo = believed && cellar_buf_len(&lane->worker.todo) > 0;
    short control = (short)((hears ? POLLIN : 0) | (todo ? POLLOUT : 0));
    lane->seen = 0;
    watch(lane, NULL, HOST_IN, wire->in_fd, wire->ended ? 0 : POLLIN);
    watch(lane, NULL, CONTROL, lane->worker.control, control);
    watch(lane, NULL, OUT, output->fds[0], pipes);
    watch(lane, NULL, ERR, output->fds[1], pipes);
    watch(lane, NULL, HOST_OUT, wire->out_fd,
          cellar_wire_waits(wire) ? POLLOUT : 0);
    watch(lane, NULL, RELAY, lane->hold, POLLIN);
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        if (lane->copies.all[i].phase == CELLAR_COPY_ASKED)
            watch(lane, &lane->copies.all[i], ROLES,
                  lane->copies.all[i].control, POLLIN);
}

static void choose(struct cellar_agent *agent)
{
    watched.count = 0;
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        choose_of(lane);
    watched.shared = watched.count;
    watch(NULL, NULL, 0, agent->signals, POLLIN);
    watch(NULL, NULL, 0,
          agent->door.listener >= 0 ? cellar_door_fd(&agent->door) : -1,
          POLLIN);
    for (size_t i = 0; i < agent->guard.count; i++)
        watch(NULL, NULL, 0, agent->guard.fds[i], POLLIN);
}

static uint64_t first_due(const struct cellar_lane *lane)
{
    const uint64_t dues[] = {
        lane->lease_end,
        lane->life_end,
        lane->boot_end,
        lane->mute_end,
        cellar_cell_due(&lane->cell),
        cellar_output_due(&lane->output),
        cellar_lane_copies_due(lane),
        lane->wire.ended && lane->number == 0 ? lane->agent->now + RETRY_US : 0,
    };
    uint64_t first = lane->lease_end;
    for (size_t i = 0; i < sizeof(dues) / sizeof(dues[0]); i++)
        if (dues[i] > 0 && dues[i] < first)
            first = dues[i];
    return first;
}

/* Milliseconds to the next thing that is due, rounded up: waking early would
 * be waking twice. */
static int patience(const struct cellar_agent *agent)
{
    uint64_t first = UINT64_MAX;
    for (const struct cellar_lane *lane = agent->lanes; lane;
         lane = lane->next) {
        uint64_t due = first_due(lane);
        first = due < first ? due : first;
    }
    uint64_t wait = first > agent->now ? (first - agent->now + 999) / 1000 : 0;
    return wait < 60000 ? (int)wait : 60000;
}

/* --------------------------------------------------------------- what came --
 */

/* A SIGTERM is the engine's wish for an end, if it comes from outside of the
 * container: the kernel gives no pid for such a sender, and si_code SI_USER
 * can't be made up by one inside. */
static void on_signal(struct cellar_agent *agent)
{
    struct signalfd_siginfo info;
    while (read(agent->signals, &info, sizeof(info)) == sizeof(info))
        if (info.ssi_signo == SIGTERM && info.ssi_code == SI_USER &&
            info.ssi_pid == 0) {
            (void)cellar_processes_kill_all();
            exit(EXIT_SUCCESS);
        }
    cellar_lanes_reap(agent);
}

/* On the container's own stream nobody but a host of ours has a place. */
static void insist_on_host(const struct cellar_lane *lane)
{
    bool keyless = lane->wire.link.state == CELLAR_LINK_BROKEN;
    if (lane->number > 0)
        return;
    if (keyless || (lane->wire.ended && lane->generation == 0))
        cellar_agent_die(CELLAR_AGENT_EXIT_HOST, "%s",
                         keyless ? "stdin does not begin as a Cellar host's; "
                                   "this image is started by `cellar start`"
                                 : "stdin ended before a host's greeting; "
                                   "this image is started by `cellar start`");
    if (lane->wire.fault != CELLAR_OK && lane->generation == 0)
        cellar_agent_die(CELLAR_AGENT_EXIT_HOST,
                         "the host's greeting makes no sense to this image: "
                         "make it anew with `cellar image build`");
}

static void on_host(struct cellar_lane *lane)
{
    cellar_wire_read(&lane->wire, cellar_lane_take, lane);
    insist_on_host(lane);
    if (lane->wire.fault != CELLAR_OK)
        cellar_agent_say("a host's stream broke off: %s",
                         cellar_code_text(lane->wire.fault));
    lane->wire.fault = CELLAR_OK;
    if (lane->wire.ended)
        cellar_lane_unvisit(lane);
}

/* Who asks is answered before anything changes; backwards, for a listener may
 * go and others take its number. */
static void deal_with_guard(struct cellar_agent *agent)
{
    nfds_t first = watched.count - agent->guard.count;
    for (nfds_t i = watched.count; i > first; i--)
        if (watched.fds[i - 1].revents)
            cellar_guard_answer(&agent->guard, i - 1 - first,
                                cellar_lanes_guard, agent);
}

static void deal_with_door(struct cellar_agent *agent)
{
    struct cellar_visitor visitor;
    while (agent->door.listener >= 0 &&
           cellar_door_take(&agent->door, &visitor)) {
        struct cellar_lane *lane = cellar_lane_find(agent, visitor.lane);
        if (lane && lane->number > 0) {
            cellar_lane_visit(lane, &visitor);
            continue;
        }
        close(visitor.in);
        close(visitor.out);
        close(visitor.hold);
    }
}

static void note_seen(void)
{
    for (nfds_t i = 0; i < watched.shared; i++)
        if (watched.fds[i].revents && !watched.who[i].copy &&
            (watched.fds[i].revents & ~POLLOUT ||
             watched.who[i].role == HOST_OUT))
            watched.who[i].lane->seen |= SEEN(watched.who[i].role);
}

/* A copy that speaks may be gone by the time another one's word was dealt with.
 */
static void deal_with_copies(void)
{
    for (nfds_t i = 0; i < watched.shared; i++) {
        struct cellar_copy *copy = watched.who[i].copy;
        if (copy && watched.fds[i].revents && copy->phase == CELLAR_COPY_ASKED)
            cellar_lane_hear_copy(watched.who[i].lane, copy);
    }
}

static void deal_with_output(struct cellar_lane *lane)
{
    for (int i = 0; i < 2; i++)
        if (lane->seen & SEEN(OUT + i))
            cellar_output_read(&lane->output, &lane->wire, i, lane->agent->now);
}

/* The host comes last: an interrupt can't hit a cell that has just ended, and a
 * new cell finds the pipes read out. */
static void deal_with_lane(struct cellar_lane *lane)
{
    uint64_t generation = lane->generation;
    if (lane->death.pid > 0)
        cellar_lane_on_death(lane);
    bool same = lane->generation == generation && !lane->leaving;
    if (same && (lane->seen & SEEN(CONTROL)) && lane->worker.control >= 0)
        cellar_lane_hear_worker(lane);
    if (lane->worker.control >= 0 && !cellar_worker_flush(&lane->worker))
        cellar_worker_hang_up(&lane->worker);
    if (lane->leaving)
        return;
    bool again = lane->wire.ended && lane->wire.in_fd >= 0;
    if ((lane->seen & SEEN(HOST_IN)) || again)
        on_host(lane);
    if (lane->seen & SEEN(RELAY))
        cellar_lane_unvisit(lane);
}

/* The order matters. Output goes before the END that it was written before. A
 * death goes before what the dead one said: its globals are gone, whatever it
 * said of them. */
static void deal(struct cellar_agent *agent)
{
    deal_with_guard(agent);
    note_seen();
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        deal_with_output(lane);
    deal_with_copies();
    if (watched.fds[watched.shared].revents)
        on_signal(agent);
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        if (!lane->leaving)
            deal_with_lane(lane);
    deal_with_door(agent);
}

static void on_lease(struct cellar_lane *lane)
{
    if (lane->number == 0 && lane->generation == 0)
        cellar_agent_die(CELLAR_AGENT_EXIT_HOST, "no host has greeted");
    cellar_lane_end(lane, "no host gave a sign of life for its lease");
}

static void end_turn(struct cellar_lane *lane)
{
    uint64_t now = lane->agent->now;
    cellar_lane_tick(lane);
    if (lane->leaving)
        return;
    if (now >= lane->lease_end)
        on_lease(lane);
    else if (lane->life_end > 0 && now >= lane->life_end)
        cellar_lane_end(lane, "it has reached its lifetime");
    cellar_wire_flush(&lane->wire);
    /* Not before: memory that is given back amid a flood is wanted again at
     * once, and the kernel clears every page of it. */
    if (lane->cell.phase == CELLAR_CELL_NONE)
        cellar_wire_rest(&lane->wire);
    cellar_lane_freeze(lane);
}

void cellar_agent_turn(struct cellar_agent *agent)
{
    choose(agent);
    int n = poll(watched.fds, watched.count, patience(agent));
    agent->now = clock_us();
    if (n >= 0)
        deal(agent);
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        if (!lane->leaving)
            end_turn(lane);
    cellar_lanes_sweep(agent);
}
