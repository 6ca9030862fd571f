#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

static void refuse(struct cellar_lane *lane, const char *why, uint64_t cell)
{
    cellar_agent_say("the host sent cell %" PRIu64 " %s", cell, why);
    cellar_wire_break(&lane->wire, CELLAR_E_PROTO);
}

/* The first host's wishes come before any worker; a later one's hold from the
 * next worker on. The worker is started first: Python's start is what a new
 * session waits for. */
static void take_wishes(struct cellar_lane *lane,
                        const struct cellar_msg_hello *hello)
{
    lane->hello = *hello;
    lane->life_end =
        hello->life_ms ? lane->agent->now + hello->life_ms * 1000 : 0;
    if (lane->number == 0 && lane->generation == 0)
        cellar_lane_start_worker(lane);
}

static void tell_ended(struct cellar_lane *lane)
{
    struct cellar_message msg = {.type = CELLAR_MSG_FAULT};
    msg.u.fault.code = CELLAR_FAULT_ENDED;
    msg.u.fault.text = (struct cellar_bytes){(const uint8_t *)lane->ended,
                                             strlen(lane->ended)};
    cellar_lane_post(lane, &msg);
}

static void on_hello(struct cellar_lane *lane, struct cellar_message *msg)
{
    uint64_t mark = msg->mark;
    if (!lane->ended)
        take_wishes(lane, &msg->u.hello);
    struct cellar_message welcome = {.type = CELLAR_MSG_WELCOME};
    welcome.u.welcome.generation = lane->generation;
    welcome.u.welcome.ready = lane->worker.ready;
    welcome.u.welcome.running = lane->cell.number;
    welcome.u.welcome.last_cell = lane->cell.last;
    welcome.u.welcome.delivered = cellar_ring_delivered(&lane->wire.ring);
    enum cellar_code code = cellar_wire_welcome(&lane->wire, mark, &welcome);
    if (code != CELLAR_OK) {
        cellar_agent_say("a host's hello was refused: %s",
                         cellar_code_text(code));
        cellar_wire_break(&lane->wire, code);
    } else if (lane->ended) {
        tell_ended(lane);
    }
}

/* Room for the DONE is made sure here, so that no result is lost later. */
static void on_run(struct cellar_lane *lane, struct cellar_message *msg)
{
    if (cellar_ring_room(&lane->wire.ring) < CELLAR_RING_RESERVE) {
        refuse(lane, "without having taken the last one's results", msg->cell);
        return;
    }
    enum cellar_code code =
        cellar_cell_accept(&lane->cell, msg->cell, &msg->u.run);
    if (code == CELLAR_E_PROTO)
        refuse(lane, "out of turn", msg->cell);
    else if (code != CELLAR_OK)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "taking a cell: %s",
                         cellar_code_text(code));
    else
        cellar_lane_start_cell(lane);
}

/* One for a cell that has ended meanwhile crossed its DONE: nothing to do. */
static void on_interrupt(struct cellar_lane *lane, struct cellar_message *msg)
{
    if (msg->cell == lane->cell.number)
        cellar_lane_interrupt(lane);
}

static void on_reset(struct cellar_lane *lane, struct cellar_message *msg)
{
    (void)msg;
    cellar_lane_reset(lane);
}

static void on_checkpoint(struct cellar_lane *lane, struct cellar_message *msg)
{
    cellar_lane_checkpoint(lane, msg->u.tag.tag);
}

static void on_restore(struct cellar_lane *lane, struct cellar_message *msg)
{
    cellar_lane_restore(lane, msg->u.tag.tag);
}

static void on_drop(struct cellar_lane *lane, struct cellar_message *msg)
{
    cellar_lane_drop(lane, msg->u.tag.tag);
}

static void on_list(struct cellar_lane *lane, struct cellar_message *msg)
{
    (void)msg;
    cellar_lane_list(lane);
}

static void on_ping(struct cellar_lane *lane, struct cellar_message *msg)
{
    (void)msg;
    cellar_wire_send(&lane->wire,
                     &(struct cellar_message){.type = CELLAR_MSG_PONG});
}

static void on_fork(struct cellar_lane *lane, struct cellar_message *msg)
{
    cellar_lane_fork(lane, msg->u.fork.count);
}

/* With others beside it the lane's end leaves the container, and its host is
 * told: it can't see it. */
static void on_stop(struct cellar_lane *lane, struct cellar_message *msg)
{
    (void)msg;
    cellar_lane_refuse(lane, CELLAR_MSG_STOP, NULL);
    cellar_wire_flush(&lane->wire);
    cellar_lane_end(lane, "it was stopped");
}

/* Which of them may come in which state of the link is the link's table. */
static const struct {
    enum cellar_message_type type;
    void (*take)(struct cellar_lane *lane, struct cellar_message *msg);
} handlers[] = {
    {CELLAR_MSG_HELLO, on_hello},
    {CELLAR_MSG_RUN, on_run},
    {CELLAR_MSG_INTERRUPT, on_interrupt},
    {CELLAR_MSG_RESET, on_reset},
    {CELLAR_MSG_PING, on_ping},
    {CELLAR_MSG_STOP, on_stop},
    {CELLAR_MSG_CHECKPOINT, on_checkpoint},
    {CELLAR_MSG_RESTORE, on_restore},
    {CELLAR_MSG_FORK, on_fork},
    {CELLAR_MSG_DROP, on_drop},
    {CELLAR_MSG_LIST, on_list},
};

void cellar_lane_take(void *user, struct cellar_message *msg)
{
    struct cellar_lane *lane = user;
    if (lane->ended && msg->type != CELLAR_MSG_HELLO)
        return;
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].type == msg->type)
            handlers[i].take(lane, msg);
    if (!lane->ended)
        lane->lease_end = lane->agent->now + lane->hello.lease_ms * 1000;
}
