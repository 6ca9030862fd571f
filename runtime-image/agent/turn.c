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

/* poll() looks at them in this order, which two promises rest on: output that
 * was written before an END is seen with it, and late output of one cell is
 * seen with the RUN of the next. */
enum { HOST_IN, CONTROL, OUT, ERR, SIGNALS, HOST_OUT, FIXED };

/* Behind them: copies that are being made, and the guard's listeners. */
#define FDS (FIXED + CELLAR_COPY_PLACES + CELLAR_GUARD_MAX)

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
    *agent = (struct cellar_agent){.now = clock_us()};
    cellar_wire_init(&agent->wire);
    cellar_worker_init(&agent->worker);
    cellar_records_init(&agent->records);
    cellar_records_init(&agent->aside);
    cellar_memory_init(&agent->memory);
    cellar_copies_init(&agent->copies);
    cellar_guard_init(&agent->guard);
    cellar_cell_init(&agent->cell);
    cellar_output_init(&agent->output);
    cellar_usage_init(&agent->usage);
    agent->lease_end = agent->now + GREETING_US_MAX;
    agent->signals = watch_signals();
    if (agent->signals < 0)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "no signalfd: %m");
}

/* ----------------------------------------------------------- what to wait --
 */

static int open_if(int fd, bool wanted)
{
    return wanted ? fd : -1;
}

static void choose_fixed(const struct cellar_agent *agent,
                         struct pollfd fds[FIXED])
{
    const struct cellar_output *output = &agent->output;
    bool pipes = cellar_output_wants(output, &agent->wire);
    bool believed = agent->mute_end == 0;
    bool hears = believed && agent->cell.phase != CELLAR_CELL_DRAINING;
    bool todo = believed && cellar_buf_len(&agent->worker.todo) > 0;
    fds[HOST_IN] =
        (struct pollfd){open_if(STDIN_FILENO, !agent->wire.ended), POLLIN, 0};
    fds[CONTROL] = (struct pollfd){
        open_if(agent->worker.control, hears || todo),
        (short)((hears ? POLLIN : 0) | (todo ? POLLOUT : 0)), 0};
    fds[OUT] = (struct pollfd){open_if(output->fds[0], pipes), POLLIN, 0};
    fds[ERR] = (struct pollfd){open_if(output->fds[1], pipes), POLLIN, 0};
    fds[SIGNALS] = (struct pollfd){agent->signals, POLLIN, 0};
    fds[HOST_OUT] = (struct pollfd){
        open_if(STDOUT_FILENO, cellar_wire_waits(&agent->wire)), POLLOUT, 0};
}

/* How many there are. */
static nfds_t choose(const struct cellar_agent *agent, struct pollfd fds[FDS])
{
    nfds_t count = FIXED + CELLAR_COPY_PLACES;
    choose_fixed(agent, fds);
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        const struct cellar_copy *copy = &agent->copies.all[i];
        fds[FIXED + i] = (struct pollfd){
            open_if(copy->control, copy->phase == CELLAR_COPY_ASKED), POLLIN,
            0};
    }
    for (size_t i = 0; i < agent->guard.count; i++)
        fds[count++] = (struct pollfd){agent->guard.fds[i], POLLIN, 0};
    return count;
}

/* Milliseconds to the next thing that is due, rounded up: waking early would
 * be waking twice. */
static int patience(const struct cellar_agent *agent)
{
    const uint64_t dues[] = {
        agent->lease_end,
        agent->life_end,
        agent->boot_end,
        agent->mute_end,
        cellar_cell_due(&agent->cell),
        cellar_output_due(&agent->output),
        cellar_agent_copies_due(agent),
        agent->wire.ended ? agent->now + RETRY_US : 0,
    };
    uint64_t first = agent->lease_end;
    for (size_t i = 0; i < sizeof(dues) / sizeof(dues[0]); i++)
        if (dues[i] > 0 && dues[i] < first)
            first = dues[i];
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
            cellar_agent_kill_all(agent);
            exit(EXIT_SUCCESS);
        }
    cellar_agent_reap(agent);
}

static void on_host(struct cellar_agent *agent)
{
    cellar_wire_read(&agent->wire, cellar_agent_take, agent);
    bool keyless = agent->wire.link.state == CELLAR_LINK_BROKEN;
    if (keyless || (agent->wire.ended && agent->generation == 0))
        cellar_agent_die(CELLAR_AGENT_EXIT_HOST, "%s",
                         keyless ? "stdin does not begin as a Cellar host's; "
                                   "this image is started by `cellar start`"
                                 : "stdin ended before a host's greeting; "
                                   "this image is started by `cellar start`");
    if (agent->wire.fault != CELLAR_OK && agent->generation == 0)
        cellar_agent_die(CELLAR_AGENT_EXIT_HOST,
                         "the host's greeting makes no sense to this image: "
                         "make it anew with `cellar image build`");
    if (agent->wire.fault != CELLAR_OK)
        cellar_agent_say("the host's stream broke off: %s",
                         cellar_code_text(agent->wire.fault));
    agent->wire.fault = CELLAR_OK;
}

bool cellar_agent_guards(void *user, pid_t pid)
{
    const struct cellar_agent *agent = user;
    return pid == 1 || cellar_copies_have(&agent->copies, pid);
}

/* Who asks is answered before anything changes; backwards, for a listener may
 * go and others take its number. */
static void deal_with_others(struct cellar_agent *agent,
                             const struct pollfd fds[FDS], nfds_t count)
{
    for (nfds_t i = count; i > FIXED + CELLAR_COPY_PLACES; i--)
        if (fds[i - 1].revents)
            cellar_guard_answer(&agent->guard,
                                i - 1 - FIXED - CELLAR_COPY_PLACES,
                                cellar_agent_guards, agent);
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        if (fds[FIXED + i].revents)
            cellar_agent_hear_copy(agent, &agent->copies.all[i]);
}

/* The order matters. Output goes before the END that it was written before. A
 * death goes before what the dead one said: its globals are gone, whatever it
 * said of them. The host comes last: an interrupt can't hit a cell that has
 * just ended, and a new cell finds the pipes read out. */
static void deal_with(struct cellar_agent *agent,
                      const struct pollfd fds[FIXED])
{
    uint64_t generation = agent->generation;
    for (int i = 0; i < 2; i++)
        if (fds[OUT + i].revents)
            cellar_output_read(&agent->output, &agent->wire, i, agent->now);
    if (fds[SIGNALS].revents)
        on_signal(agent);
    bool same = agent->generation == generation;
    if (same && (fds[CONTROL].revents & ~POLLOUT) && agent->worker.control >= 0)
        cellar_agent_hear_worker(agent);
    if (agent->worker.control >= 0 && !cellar_worker_flush(&agent->worker))
        cellar_worker_hang_up(&agent->worker);
    if (fds[HOST_IN].revents || agent->wire.ended)
        on_host(agent);
}

static void on_lease(struct cellar_agent *agent)
{
    if (agent->generation == 0)
        cellar_agent_die(CELLAR_AGENT_EXIT_HOST, "no host has greeted");
    cellar_agent_say("no host has given a sign of life for %llu ms: the "
                     "session ends",
                     (unsigned long long)agent->hello.lease_ms);
    cellar_agent_kill_all(agent);
    exit(EXIT_SUCCESS);
}

static void on_lifetime(struct cellar_agent *agent)
{
    cellar_agent_say("the session has reached its lifetime");
    cellar_agent_kill_all(agent);
    exit(EXIT_SUCCESS);
}

void cellar_agent_turn(struct cellar_agent *agent)
{
    struct pollfd fds[FDS];
    nfds_t count = choose(agent, fds);
    int n = poll(fds, count, patience(agent));
    agent->now = clock_us();
    if (n >= 0) {
        deal_with_others(agent, fds, count);
        deal_with(agent, fds);
    }
    cellar_agent_tick(agent);
    if (agent->now >= agent->lease_end)
        on_lease(agent);
    if (agent->life_end > 0 && agent->now >= agent->life_end)
        on_lifetime(agent);
    cellar_wire_flush(&agent->wire);
    cellar_agent_freeze(agent);
}
