/* Lanes come and go; whose processes are whose. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

/* A lane's worker and its copies. */
#define KIN_MAX (CELLAR_LANES_MAX * (1 + CELLAR_COPY_PLACES))

/* ------------------------------------------------------------- come, go --- */

size_t cellar_lane_count(const struct cellar_agent *agent)
{
    size_t count = 0;
    for (const struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        count += !lane->leaving && !lane->ended;
    return count;
}

struct cellar_lane *cellar_lane_find(const struct cellar_agent *agent,
                                     uint64_t number)
{
    struct cellar_lane *lane = agent->lanes;
    while (lane && (lane->number != number || lane->leaving))
        lane = lane->next;
    return lane;
}

/* Room for one more costs the one that ended first. */
static bool make_room(struct cellar_agent *agent)
{
    struct cellar_lane *ended = NULL;
    size_t count = 0;
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next) {
        count += !lane->leaving;
        if (!ended && lane->ended && !lane->leaving)
            ended = lane;
    }
    if (count >= CELLAR_LANES_MAX && ended)
        ended->leaving = true;
    return count < CELLAR_LANES_MAX || ended;
}

struct cellar_lane *cellar_lane_new(struct cellar_agent *agent)
{
    struct cellar_lane **end = &agent->lanes;
    struct cellar_lane *lane = calloc(1, sizeof(*lane));
    if (!lane || !make_room(agent)) {
        free(lane);
        return NULL;
    }
    while (*end)
        end = &(*end)->next;
    *end = lane;
    lane->agent = agent;
    lane->hold = -1;
    cellar_wire_init(&lane->wire);
    cellar_worker_init(&lane->worker);
    cellar_records_init(&lane->records);
    cellar_records_init(&lane->aside);
    cellar_cell_init(&lane->cell);
    cellar_output_init(&lane->output);
    cellar_usage_init(&lane->usage);
    cellar_copies_init(&lane->copies);
    return lane;
}

void cellar_lane_leave(struct cellar_lane *lane)
{
    if (cellar_lane_count(lane->agent) == 1) {
        (void)cellar_processes_kill_all();
        exit(EXIT_SUCCESS);
    }
    cellar_lane_kill_all(lane);
    cellar_wire_flush(&lane->wire);
    lane->leaving = true;
}

void cellar_lane_end(struct cellar_lane *lane, const char *why)
{
    if (cellar_lane_count(lane->agent) == 1) {
        cellar_agent_say("%s", why);
        cellar_lane_leave(lane);
    }
    cellar_lane_finish_fresh(lane);
    cellar_lane_kill_all(lane);
    lane->ended = why;
    lane->faulted = true;
    lane->lease_end = UINT64_MAX;
    lane->life_end = 0;
}

static void lane_free(struct cellar_lane *lane)
{
    cellar_lane_unvisit(lane);
    cellar_wire_done(&lane->wire);
    cellar_worker_close(&lane->worker);
    cellar_buf_done(&lane->worker.todo);
    cellar_records_done(&lane->records);
    cellar_records_done(&lane->aside);
    cellar_cell_done(&lane->cell);
    cellar_usage_done(&lane->usage);
    free(lane);
}

void cellar_lanes_sweep(struct cellar_agent *agent)
{
    struct cellar_lane **at = &agent->lanes;
    while (*at) {
        struct cellar_lane *lane = *at;
        if (lane->leaving) {
            *at = lane->next;
            lane_free(lane);
        } else {
            at = &lane->next;
        }
    }
}

/* ------------------------------------------------------------- streams --- */

void cellar_lane_unvisit(struct cellar_lane *lane)
{
    if (lane->hold < 0)
        return;
    close(lane->wire.in_fd);
    close(lane->wire.out_fd);
    close(lane->hold);
    lane->wire.in_fd = lane->wire.out_fd = lane->hold = -1;
}

/* What the link holds of the last one's frame is looked through for the mark of
 * this one, as it is on the container's own stream. */
void cellar_lane_visit(struct cellar_lane *lane,
                       const struct cellar_visitor *visitor)
{
    cellar_lane_unvisit(lane);
    lane->wire.in_fd = visitor->in;
    lane->wire.out_fd = visitor->out;
    lane->hold = visitor->hold;
    lane->wire.ended = false;
}

/* ----------------------------------------------------------- processes --- */

static struct cellar_lane *with_worker(struct cellar_agent *agent, pid_t pid)
{
    struct cellar_lane *lane = pid > 0 ? agent->lanes : NULL;
    while (lane && lane->worker.pid != pid)
        lane = lane->next;
    return lane;
}

bool cellar_lanes_know(struct cellar_agent *agent,
                       const struct cellar_copy *copy)
{
    if (with_worker(agent, copy->pid))
        return true;
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
            const struct cellar_copy *other = &lane->copies.all[i];
            if (other != copy && other->phase == CELLAR_COPY_FROZEN &&
                other->pid == copy->pid)
                return true;
        }
    return false;
}

static void on_reaped(void *user, const struct cellar_death *death)
{
    struct cellar_agent *agent = user;
    struct cellar_lane *lane = with_worker(agent, death->pid);
    if (lane) {
        lane->death = *death;
        lane->worker.pid = 0;
        return;
    }
    for (lane = agent->lanes; lane; lane = lane->next)
        if (cellar_copies_died(&lane->copies, death->pid))
            cellar_lane_count_copies(lane);
}

void cellar_lanes_reap(struct cellar_agent *agent)
{
    struct cellar_death death;
    while (cellar_processes_reap(&death))
        on_reaped(agent, &death);
}

static void note_kin(const struct cellar_lane *lane, bool worker,
                     struct cellar_kin *kin)
{
    kin->count += cellar_copies_pids(&lane->copies, kin->frozen + kin->count);
    if (worker && lane->worker.pid > 0)
        kin->living[kin->living_count++] = lane->worker.pid;
}

/* Others' workers died with what was to be killed: the kernel would not let
 * them be told apart. They hear of it like of any death. */
static void mourn(struct cellar_agent *agent)
{
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next) {
        cellar_copies_clear(&lane->copies);
        lane->usage.copies = 0;
        if (lane->worker.pid <= 0)
            continue;
        lane->death =
            (struct cellar_death){.pid = lane->worker.pid, .status = SIGKILL};
        lane->worker.pid = 0;
    }
}

void cellar_lane_kill(struct cellar_lane *lane)
{
    struct cellar_agent *agent = lane->agent;
    pid_t frozen[KIN_MAX];
    pid_t living[CELLAR_LANES_MAX];
    struct cellar_kin kin = {.frozen = frozen,
                             .living = living,
                             .beside = agent->last_lane > 0,
                             .reaped = on_reaped,
                             .user = agent};
    for (struct cellar_lane *other = agent->lanes; other; other = other->next)
        cellar_lane_settle_copies(other);
    for (struct cellar_lane *other = agent->lanes; other; other = other->next)
        note_kin(other, other != lane, &kin);
    bool nobody = kin.count == 0 && !kin.beside;
    if (nobody || !cellar_processes_kill_strangers(&kin)) {
        if (!cellar_processes_kill_all())
            cellar_agent_die(CELLAR_AGENT_EXIT_SELF,
                             "a process of the session can't be killed");
        mourn(agent);
    }
    lane->worker.pid = 0;
    lane->death = (struct cellar_death){0};
}

/* --------------------------------------------------------------- guard --- */

/* The lane whose worker this process descends from, or NULL. */
static struct cellar_lane *lane_of(struct cellar_agent *agent, pid_t pid)
{
    struct cellar_lane *lane = NULL;
    for (int depth = 0; depth < 64 && pid > 1 && !lane; depth++) {
        lane = with_worker(agent, pid);
        pid = lane ? pid : cellar_processes_parent(pid);
    }
    return lane;
}

bool cellar_lanes_guard(void *user, pid_t pid, pid_t by)
{
    struct cellar_agent *agent = user;
    if (pid <= 1)
        return pid == 1;
    for (struct cellar_lane *lane = agent->lanes; lane; lane = lane->next)
        if (cellar_copies_have(&lane->copies, pid))
            return true;
    if (agent->last_lane == 0)
        return false;
    pid = cellar_processes_leader(pid);
    struct cellar_lane *target = with_worker(agent, pid);
    if (target)
        return lane_of(agent, cellar_processes_leader(by)) != target;
    return cellar_processes_parent(pid) == 0;
}
