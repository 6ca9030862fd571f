/* Ops that an engine does slower the more of them are asked for at once take
 * turns. */
#include "docker.h"

static void append(struct docker_lane *lane, struct docker_pass *pass)
{
    pass->prev = lane->last;
    if (lane->last)
        lane->last->next = pass;
    else
        lane->first = pass;
    lane->last = pass;
}

static void unlink_pass(struct docker_lane *lane, struct docker_pass *pass)
{
    if (pass->prev)
        pass->prev->next = pass->next;
    else
        lane->first = pass->next;
    if (pass->next)
        pass->next->prev = pass->prev;
    else
        lane->last = pass->prev;
    pass->prev = NULL;
    pass->next = NULL;
}

/* From the loop, one at a time: what is let through may call its user back,
 * who may free the engine. */
static void let_through(void *user)
{
    struct docker_lane *lane = user;
    struct docker_pass *pass = lane->first;
    if (!pass || lane->under_way >= lane->max)
        return;
    unlink_pass(lane, pass);
    pass->state = DOCKER_PASS_THROUGH;
    lane->under_way++;
    if (lane->first && lane->under_way < lane->max)
        cellar_timer_set(lane->turn, 0);
    pass->go(pass->op);
}

void cellar_docker_lane_done(struct docker_lane *lane)
{
    cellar_timer_close(CELLAR_TAKE(lane->turn));
}

bool cellar_docker_lane_ready(struct docker_lane *lane,
                              const struct docker_op *op)
{
    return lane->turn || cellar_timer_new(op->docker->engine.loop, let_through,
                                          lane, &lane->turn, NULL) == CELLAR_OK;
}

bool cellar_docker_lane_wait(struct docker_lane *lane, struct docker_pass *pass,
                             struct docker_op *op,
                             void (*go)(struct docker_op *op))
{
    if (!cellar_docker_lane_ready(lane, op))
        return false;
    *pass = (struct docker_pass){
        .lane = lane, .op = op, .go = go, .state = DOCKER_PASS_WAITING};
    append(lane, pass);
    if (lane->under_way < lane->max)
        cellar_timer_set(lane->turn, 0);
    return true;
}

bool cellar_docker_lane_enter(struct docker_lane *lane,
                              struct docker_pass *pass, struct docker_op *op,
                              void (*go)(struct docker_op *op))
{
    bool room = !lane->first && lane->under_way < lane->max;
    if (!room && cellar_docker_lane_wait(lane, pass, op, go))
        return false;
    *pass = (struct docker_pass){.lane = lane, .state = DOCKER_PASS_THROUGH};
    lane->under_way++;
    return true;
}

void cellar_docker_lane_leave(struct docker_pass *pass)
{
    struct docker_lane *lane = pass->lane;
    if (pass->state == DOCKER_PASS_NONE)
        return;
    if (pass->state == DOCKER_PASS_WAITING)
        unlink_pass(lane, pass);
    else
        lane->under_way--;
    if (lane->first && lane->under_way < lane->max)
        cellar_timer_set(lane->turn, 0);
    pass->state = DOCKER_PASS_NONE;
}
