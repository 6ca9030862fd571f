/* Copies of a worker that become lanes of their own. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "proto/sign.h"

/* ------------------------------------------------------------- the parent - */

static void end_branches(struct cellar_lane *parent)
{
    struct cellar_forking *forking = &parent->forking;
    for (uint32_t i = 0; i < forking->made; i++) {
        struct cellar_lane *lane =
            cellar_lane_find(parent->agent, forking->first + i);
        if (lane)
            cellar_lane_leave(lane);
    }
    *forking = (struct cellar_forking){0};
}

/* All or none. */
void cellar_lane_no_branch(struct cellar_lane *parent, const char *why)
{
    if (parent->freezer.request != CELLAR_MSG_FORK)
        return;
    end_branches(parent);
    cellar_lane_settle(parent, why);
}

static void ask_next(struct cellar_lane *parent)
{
    struct cellar_forking *forking = &parent->forking;
    if (!cellar_lane_ask_copy(parent, "", forking->first + forking->made))
        cellar_lane_no_branch(parent, "the worker can't be asked for a copy");
}

/* The numbers are taken now, so that no other lane's fork gets them too. */
void cellar_lane_fork(struct cellar_lane *lane, uint64_t count)
{
    struct cellar_agent *agent = lane->agent;
    const char *why = cellar_lane_hindrance(lane);
    if (!why && cellar_lane_count(agent) + count > CELLAR_LANES_MAX)
        why = cellar_refusal_text(CELLAR_REFUSAL_BRANCHES);
    if (!why && agent->door.listener < 0 &&
        cellar_door_open(&agent->door, CELLAR_DOOR_NAME) != CELLAR_OK)
        why = "the agent can't listen for the branches' streams";
    if (why) {
        cellar_lane_refuse(lane, CELLAR_MSG_FORK, why);
        return;
    }
    cellar_lane_freeze(lane); /* what was due before */
    lane->freezer.request = CELLAR_MSG_FORK;
    lane->freezer.asked = agent->now;
    lane->forking = (struct cellar_forking){.first = agent->last_lane + 1,
                                            .wanted = (uint32_t)count};
    agent->last_lane += (uint32_t)count;
    ask_next(lane);
}

/* ------------------------------------------------------------- the branch - */

/* What the parent's worker is confined by confines its copy; the parent's
 * lease, until a host of its own has greeted it. */
static void inherit(struct cellar_lane *lane, const struct cellar_lane *parent)
{
    uint8_t key[CELLAR_KEY_BYTES];
    cellar_sign_lane_key(key, parent->wire.link.key, lane->number);
    cellar_wire_begin(&lane->wire, key);
    memset(key, 0, sizeof(key));
    lane->parent = parent->number;
    lane->hello = parent->hello;
    lane->lease_end = lane->agent->now + lane->hello.lease_ms * 1000;
    lane->life_end = parent->life_end;
    lane->landlock_abi = parent->landlock_abi;
    lane->seccomp = parent->seccomp;
    memcpy(lane->python, parent->python, sizeof(lane->python));
    lane->cell.last = parent->cell.last;
    lane->stands = parent->stands;
    lane->usage.oom_kills = parent->usage.oom_kills;
}

static struct cellar_lane *begin(struct cellar_lane *parent, uint32_t number)
{
    struct cellar_lane *lane = cellar_lane_new(parent->agent);
    if (!lane)
        return NULL;
    lane->number = number;
    inherit(lane, parent);
    return lane;
}

void cellar_lane_on_branch(struct cellar_lane *parent, struct cellar_copy *copy)
{
    struct cellar_forking *forking = &parent->forking;
    pid_t pid = copy->pid;
    uint32_t number = copy->branch;
    int control = cellar_copy_take(copy);
    struct cellar_lane *lane = begin(parent, number);
    if (!lane)
        kill(pid, SIGKILL);
    if (!lane) {
        cellar_lane_no_branch(parent, "the agent is out of memory");
        return;
    }
    forking->made++;
    lane->freezer.woken = parent->stands;
    if (!cellar_lane_wake(lane, pid, control, CELLAR_WAKE_BRANCH)) {
        cellar_lane_no_branch(parent, "a branch could not be woken");
        return;
    }
    if (forking->made < forking->wanted)
        ask_next(parent);
}

static struct cellar_lane *waiting_parent(const struct cellar_lane *lane)
{
    struct cellar_lane *parent = cellar_lane_find(lane->agent, lane->parent);
    bool waits = parent && parent != lane &&
                 parent->freezer.request == CELLAR_MSG_FORK &&
                 lane->number >= parent->forking.first &&
                 lane->number < parent->forking.first + parent->forking.wanted;
    return waits ? parent : NULL;
}

void cellar_branch_awake(struct cellar_lane *lane)
{
    struct cellar_lane *parent = waiting_parent(lane);
    if (parent && ++parent->forking.awake == parent->forking.wanted)
        cellar_lane_settle(parent, NULL);
}

void cellar_branch_failed(struct cellar_lane *lane)
{
    struct cellar_lane *parent = waiting_parent(lane);
    if (parent)
        cellar_lane_no_branch(parent, "a branch did not wake");
    else
        cellar_lane_leave(lane);
}
