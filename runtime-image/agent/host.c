#include <inttypes.h>
#include <stdlib.h>

#include "agent.h"

static void refuse(struct cellar_agent *agent, const char *why, uint64_t cell)
{
    cellar_agent_say("the host sent cell %" PRIu64 " %s", cell, why);
    cellar_wire_break(&agent->wire, CELLAR_E_PROTO);
}

/* The first host's wishes come before any worker; a later one's hold from the
 * next worker on. The worker is started first: Python's start is what a new
 * session waits for. */
static void on_hello(struct cellar_agent *agent, struct cellar_message *msg)
{
    agent->hello = msg->u.hello;
    agent->life_end =
        agent->hello.life_ms ? agent->now + agent->hello.life_ms * 1000 : 0;
    uint64_t mark = msg->mark;
    if (agent->generation == 0)
        cellar_agent_start_worker(agent);
    struct cellar_message welcome = {.type = CELLAR_MSG_WELCOME};
    welcome.u.welcome.generation = agent->generation;
    welcome.u.welcome.ready = agent->worker.ready;
    welcome.u.welcome.running = agent->cell.number;
    welcome.u.welcome.last_cell = agent->cell.last;
    welcome.u.welcome.delivered = cellar_ring_delivered(&agent->wire.ring);
    enum cellar_code code = cellar_wire_welcome(&agent->wire, mark, &welcome);
    if (code != CELLAR_OK) {
        cellar_agent_say("a host's hello was refused: %s",
                         cellar_code_text(code));
        cellar_wire_break(&agent->wire, code);
    }
}

/* Room for the DONE is made sure here, so that no result is lost later. */
static void on_run(struct cellar_agent *agent, struct cellar_message *msg)
{
    if (cellar_ring_room(&agent->wire.ring) < CELLAR_RING_RESERVE) {
        refuse(agent, "without having taken the last one's results", msg->cell);
        return;
    }
    enum cellar_code code =
        cellar_cell_accept(&agent->cell, msg->cell, &msg->u.run);
    if (code == CELLAR_E_PROTO)
        refuse(agent, "out of turn", msg->cell);
    else if (code != CELLAR_OK)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "taking a cell: %s",
                         cellar_code_text(code));
    else
        cellar_agent_start_cell(agent);
}

/* One for a cell that has ended meanwhile crossed its DONE: nothing to do. */
static void on_interrupt(struct cellar_agent *agent, struct cellar_message *msg)
{
    if (msg->cell == agent->cell.number)
        cellar_agent_interrupt(agent);
}

static void on_reset(struct cellar_agent *agent, struct cellar_message *msg)
{
    (void)msg;
    cellar_agent_reset(agent);
}

static void on_checkpoint(struct cellar_agent *agent,
                          struct cellar_message *msg)
{
    cellar_agent_checkpoint(agent, msg->u.tag.tag);
}

static void on_restore(struct cellar_agent *agent, struct cellar_message *msg)
{
    cellar_agent_restore(agent, msg->u.tag.tag);
}

static void on_drop(struct cellar_agent *agent, struct cellar_message *msg)
{
    cellar_agent_drop(agent, msg->u.tag.tag);
}

static void on_list(struct cellar_agent *agent, struct cellar_message *msg)
{
    (void)msg;
    cellar_agent_list(agent);
}

static void on_ping(struct cellar_agent *agent, struct cellar_message *msg)
{
    (void)msg;
    cellar_wire_send(&agent->wire,
                     &(struct cellar_message){.type = CELLAR_MSG_PONG});
}

static void on_stop(struct cellar_agent *agent, struct cellar_message *msg)
{
    (void)msg;
    cellar_agent_kill_all(agent);
    exit(EXIT_SUCCESS);
}

/* Which of them may come in which state of the link is the link's table. */
static const struct {
    enum cellar_message_type type;
    void (*take)(struct cellar_agent *agent, struct cellar_message *msg);
} handlers[] = {
    {CELLAR_MSG_HELLO, on_hello},
    {CELLAR_MSG_RUN, on_run},
    {CELLAR_MSG_INTERRUPT, on_interrupt},
    {CELLAR_MSG_RESET, on_reset},
    {CELLAR_MSG_PING, on_ping},
    {CELLAR_MSG_STOP, on_stop},
    {CELLAR_MSG_CHECKPOINT, on_checkpoint},
    {CELLAR_MSG_RESTORE, on_restore},
    {CELLAR_MSG_DROP, on_drop},
    {CELLAR_MSG_LIST, on_list},
};

void cellar_agent_take(void *user, struct cellar_message *msg)
{
    struct cellar_agent *agent = user;
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (handlers[i].type == msg->type)
            handlers[i].take(agent, msg);
    agent->lease_end = agent->now + agent->hello.lease_ms * 1000;
}
