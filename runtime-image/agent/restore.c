/* Copies of the worker: when they are taken and given up, and how one takes the
 * worker's place. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent.h"
#include "figures.h"
#include "processes.h"

/* Copying 1 GiB takes 20 ms, waking 0.1; the rest is for a loaded machine. */
#define ASKED_US_MAX 10000000u
#define WAKE_US_MAX  5000000u

/* A worker that died leaves a copy that was just being made so long to say that
 * it is there. */
#define SETTLE_MS 500

/* How often memory is looked at while a cell runs: a cell that allocates as
 * fast as the kernel gives takes 10 MiB in 5 ms. */
#define LOOK_US 5000u

/* The last automatic copy is all that a session has: it is not given up for
 * less than this part of the memory. */
#define HELD_SHARE 32

/* Automatic copies: the last, and the one before should that not wake. */
#define AUTOMATIC_MAX 2

/* ------------------------------------------------------------- telling ---- */

static struct cellar_bytes bytes_of(const char *text)
{
    return (struct cellar_bytes){(const uint8_t *)text, strlen(text)};
}

static void reply(struct cellar_agent *agent, uint64_t request, const char *why)
{
    struct cellar_message msg = {.type = CELLAR_MSG_REPLY};
    msg.u.reply.request = request;
    msg.u.reply.ok = why == NULL;
    msg.u.reply.text = bytes_of(why ? why : "");
    msg.u.reply.after = agent->stands;
    if (request > 0)
        msg.u.reply.took_us = agent->now - agent->freezer.asked;
    cellar_agent_post(agent, &msg);
}

/* What somebody waits for has come to its end; `why` NULL: to a good one. */
static void settle(struct cellar_agent *agent, const char *why)
{
    uint64_t request = agent->freezer.request;
    agent->freezer.request = 0;
    if (request > 0 || why)
        reply(agent, request, why);
}

void cellar_agent_thaw(struct cellar_agent *agent)
{
    agent->freezer.due = false;
    agent->freezer.wake_end = 0;
    agent->freezer.look_at = 0;
    if (agent->freezer.request > 0)
        settle(agent, "every process of the session was ended");
    cellar_copies_clear(&agent->copies);
    agent->usage.copies = 0;
}

/* --------------------------------------------------------------- freezing - */

/* A copy is born with the worker's place in the queue of the kernel's OOM
 * killer: so that it comes behind the worker later, the worker stands back
 * while it forks. */
static void rank(struct cellar_agent *agent)
{
    cellar_worker_rank(&agent->worker, cellar_copies_asked(&agent->copies)
                                           ? CELLAR_RANK_COPY
                                           : CELLAR_RANK_WORKER);
}

static void count_copies(struct cellar_agent *agent)
{
    agent->usage.copies = cellar_copies_count(&agent->copies);
}

void cellar_agent_freeze(struct cellar_agent *agent)
{
    struct cellar_freezer *freezer = &agent->freezer;
    int give = -1;
    if (!freezer->due || !agent->worker.ready || agent->mute_end > 0)
        return;
    freezer->due = false;
    struct cellar_copy *copy = cellar_copies_ask(
        &agent->copies, freezer->tag, agent->stands, agent->now, &give);
    if (!copy) {
        settle(agent, "the agent has no descriptor left for a copy");
        return;
    }
    rank(agent);
    if (!cellar_worker_send_freeze(&agent->worker, give)) {
        cellar_copy_drop(copy);
        rank(agent);
        settle(agent, "the worker takes no requests");
    }
    close(give);
}

/* A new one takes the place of what is older: of its name, or automatic. */
static void make_room(struct cellar_agent *agent,
                      const struct cellar_copy *copy)
{
    if (copy->tag[0] == '\0') {
        cellar_copies_thin(
            &agent->copies,
            cellar_memory_is_short(&agent->memory) ? 1 : AUTOMATIC_MAX);
        return;
    }
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        struct cellar_copy *old = &agent->copies.all[i];
        if (old->phase == CELLAR_COPY_FROZEN && old->order < copy->order &&
            strcmp(old->tag, copy->tag) == 0)
            cellar_copy_drop(old);
    }
}

void cellar_agent_hear_copy(struct cellar_agent *agent,
                            struct cellar_copy *copy)
{
    char why[CELLAR_WHY_MAX] = "";
    bool named = copy->tag[0] != '\0';
    enum cellar_code code = cellar_copies_hear(copy, agent->now, why);
    if (code == CELLAR_E_AGAIN)
        return;
    if (code == CELLAR_OK)
        make_room(agent, copy);
    count_copies(agent);
    rank(agent);
    if (named && agent->freezer.request == CELLAR_MSG_CHECKPOINT)
        settle(agent, code == CELLAR_OK ? NULL : why);
    else if (code != CELLAR_OK)
        reply(agent, 0, why);
}

/* The last chance of copies that were asked for: whoever has said nothing is
 * killed with the rest. All of them together are waited for. */
static void settle_asked(struct cellar_agent *agent)
{
    int patience = SETTLE_MS;
    struct cellar_copy *copy = cellar_copies_asked(&agent->copies);
    while (copy) {
        struct pollfd look = {.fd = copy->control, .events = POLLIN};
        if (poll(&look, 1, patience) > 0)
            cellar_agent_hear_copy(agent, copy);
        else
            patience = 0;
        if (copy->phase == CELLAR_COPY_ASKED)
            cellar_copy_drop(copy);
        copy = cellar_copies_asked(&agent->copies);
    }
}

/* ----------------------------------------------------------------- waking - */

bool cellar_agent_wakes(const struct cellar_agent *agent)
{
    return agent->freezer.wake_end > 0;
}

static void close_worker(struct cellar_agent *agent)
{
    cellar_output_close(&agent->output);
    cellar_worker_close(&agent->worker);
    cellar_records_await(&agent->records, CELLAR_RECORDS_LAUNCHING);
    agent->worker.pid = 0;
    agent->boot_end = 0;
    agent->mute_end = 0;
    agent->freezer.wake_end = 0;
    agent->freezer.look_at = 0;
}

static void kill_but_copies(struct cellar_agent *agent)
{
    pid_t before[CELLAR_COPY_PLACES];
    pid_t after[CELLAR_COPY_PLACES];
    settle_asked(agent);
    size_t count = cellar_copies_pids(&agent->copies, before);
    memcpy(after, before, sizeof(after));
    if (count == 0 || !cellar_processes_kill_others(after, count)) {
        cellar_agent_kill_all(agent);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (after[i] == 0)
            cellar_copies_died(&agent->copies, before[i]);
    close_worker(agent);
}

static uint64_t fresh_ping(void)
{
    uint64_t ping = 0;
    if (getrandom(&ping, sizeof(ping), 0) != sizeof(ping))
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "no random numbers: %m");
    return ping >> 1;
}

/* False: it can't be spoken to. */
static bool wake(struct cellar_agent *agent, struct cellar_copy *copy)
{
    struct cellar_freezer *freezer = &agent->freezer;
    struct cellar_worker *worker = &agent->worker;
    pid_t pid = copy->pid;
    freezer->woken = copy->after;
    memcpy(freezer->woken_tag, copy->tag, sizeof(copy->tag));
    freezer->ping = fresh_ping();
    enum cellar_code code =
        cellar_worker_wake(worker, pid, cellar_copy_take(copy), freezer->ping,
                           CELLAR_WAKE_RESTORE);
    if (code != CELLAR_OK || !cellar_worker_flush(worker))
        return false;
    cellar_output_open(&agent->output, worker->out, worker->err);
    worker->out = worker->err = -1;
    cellar_usage_attach(&agent->usage, pid);
    cellar_records_await(&agent->records, CELLAR_RECORDS_WAKING);
    freezer->wake_end = agent->now + WAKE_US_MAX;
    kill(pid, SIGCONT);
    return true;
}

/* The globals are lost: a cell that waits to hear of them hears it. */
static void begin_anew(struct cellar_agent *agent)
{
    agent->stands = 0;
    agent->went = CELLAR_STATE_FRESH;
    cellar_agent_finish_held(agent);
    if (agent->freezer.request > 0)
        settle(agent, "the checkpoint did not wake; the session is fresh");
    cellar_agent_start_worker(agent);
}

static void wake_newest(struct cellar_agent *agent)
{
    struct cellar_copy *copy = cellar_copies_newest(&agent->copies);
    while (copy && !wake(agent, copy)) {
        kill_but_copies(agent);
        copy = cellar_copies_newest(&agent->copies);
    }
    count_copies(agent);
    if (!copy)
        begin_anew(agent);
}

void cellar_agent_replace_worker(struct cellar_agent *agent)
{
    kill_but_copies(agent);
    wake_newest(agent);
}

/* The next older one is better than none, but is not what was asked for. */
void cellar_agent_wake_failed(struct cellar_agent *agent)
{
    if (agent->freezer.request == CELLAR_MSG_RESTORE)
        settle(agent, "the checkpoint did not wake, and is gone");
    cellar_agent_replace_worker(agent);
}

/* Later states are of no use to what comes now. */
static void settle_restored(struct cellar_agent *agent)
{
    cellar_copies_thin(&agent->copies, 0);
    count_copies(agent);
    settle(agent, NULL);
}

/* Now it counts. A copy is of use once: the worker that it has become is copied
 * again before anything else, in its name. */
void cellar_agent_on_awake(struct cellar_agent *agent, uint64_t ping)
{
    struct cellar_freezer *freezer = &agent->freezer;
    if (ping != freezer->ping + 1) {
        cellar_agent_distrust(agent);
        return;
    }
    freezer->wake_end = 0;
    agent->stands = freezer->woken;
    freezer->due = true;
    memcpy(freezer->tag, freezer->woken_tag, sizeof(freezer->tag));
    if (freezer->request == CELLAR_MSG_RESTORE)
        settle_restored(agent);
    else
        agent->went =
            agent->stands > 0 ? CELLAR_STATE_RESTORED : CELLAR_STATE_FRESH;
    cellar_agent_finish_held(agent);
    cellar_agent_on_worker(agent);
}

/* -------------------------------------------------------- what time brings -
 */

static uint64_t own_private(void)
{
    static const char *const self[] = {"/proc/self/status"};
    char text[CELLAR_FIGURES_MAX];
    int fd = cellar_figures_open(self, 1);
    cellar_figures_read(fd, text);
    if (fd >= 0)
        close(fd);
    return cellar_figure(text, "\nRssAnon:") * 1024;
}

/* What all processes have, without what the worker and this agent have. The
 * worker is looked at twice: it may grow meanwhile, or be dying, and what it
 * gives back is nobody's. */
static uint64_t held(const struct cellar_agent *agent)
{
    uint64_t before = cellar_usage_private(&agent->usage);
    uint64_t all = cellar_memory_private(&agent->memory);
    uint64_t after = cellar_usage_private(&agent->usage);
    uint64_t ours = (before > after ? before : after) + own_private();
    return before > 0 && after > 0 && all > ours ? all - ours : 0;
}

/* Whether giving up a copy helps a cell that needs memory. What other processes
 * have is counted too: it can't be told apart. */
static bool is_worth_giving_up(const struct cellar_agent *agent)
{
    return held(agent) > agent->memory.limit / HELD_SHARE;
}

/* What an automatic copy holds is given back before a cell is refused memory:
 * the older one first. */
static void look_at_memory(struct cellar_agent *agent)
{
    struct cellar_freezer *freezer = &agent->freezer;
    if (agent->cell.phase != CELLAR_CELL_RUNNING) {
        freezer->look_at = 0;
        return;
    }
    if (freezer->look_at == 0)
        freezer->look_at = agent->now + LOOK_US;
    if (agent->now < freezer->look_at)
        return;
    freezer->look_at = agent->now + LOOK_US;
    if (!cellar_memory_is_short(&agent->memory) ||
        cellar_copies_thin(&agent->copies, 1) || !is_worth_giving_up(agent))
        return;
    freezer->given_up |= cellar_copies_thin(&agent->copies, 0);
    count_copies(agent);
}

void cellar_agent_watch_copies(struct cellar_agent *agent)
{
    struct cellar_copy *copy = cellar_copies_asked(&agent->copies);
    if (agent->usage.copies > 0)
        look_at_memory(agent);
    if (copy && agent->now - copy->asked >= ASKED_US_MAX) {
        cellar_copy_drop(copy);
        rank(agent);
        settle(agent, "the worker did not make a copy of itself in time");
    }
    if (cellar_agent_wakes(agent) && agent->now >= agent->freezer.wake_end)
        cellar_agent_wake_failed(agent);
}

uint64_t cellar_agent_copies_due(const struct cellar_agent *agent)
{
    const struct cellar_copy *copy =
        cellar_copies_asked((struct cellar_copies *)&agent->copies);
    const uint64_t dues[] = {
        copy ? copy->asked + ASKED_US_MAX : 0, agent->freezer.wake_end,
        agent->usage.copies > 0 ? agent->freezer.look_at : 0};
    uint64_t first = 0;
    for (size_t i = 0; i < sizeof(dues) / sizeof(dues[0]); i++)
        if (dues[i] > 0 && (first == 0 || dues[i] < first))
            first = dues[i];
    return first;
}

/* ---------------------------------------------------- what the host asks -- */

static bool is_tag(struct cellar_bytes tag, char text[])
{
    memcpy(text, tag.data, tag.len);
    text[tag.len] = '\0';
    return strlen(text) == tag.len;
}

/* Why nothing can be done now; NULL: it can. */
static const char *hindrance(const struct cellar_agent *agent)
{
    if (agent->hello.policy == CELLAR_CHECKPOINT_OFF)
        return "checkpoints are off in this session";
    if (agent->cell.phase != CELLAR_CELL_NONE)
        return "a cell is running";
    if (!agent->worker.ready || agent->mute_end > 0)
        return "the session's Python is not ready";
    return agent->freezer.request > 0 ? "another request is under way" : NULL;
}

static void refuse(struct cellar_agent *agent, uint64_t request,
                   const char *why)
{
    agent->freezer.asked = agent->now;
    reply(agent, request, why);
}

void cellar_agent_checkpoint(struct cellar_agent *agent,
                             struct cellar_bytes tag)
{
    struct cellar_freezer *freezer = &agent->freezer;
    char text[CELLAR_CHECKPOINT_TAG_MAX + 1];
    const char *why = is_tag(tag, text) ? hindrance(agent) : "no name";
    settle_asked(agent);
    if (!why && !cellar_copies_find(&agent->copies, text) &&
        cellar_copies_named(&agent->copies) >= CELLAR_CHECKPOINTS_MAX)
        why = "the session has 16 checkpoints, and keeps no more";
    if (why) {
        refuse(agent, CELLAR_MSG_CHECKPOINT, why);
        return;
    }
    cellar_agent_freeze(agent); /* what was due before */
    freezer->request = CELLAR_MSG_CHECKPOINT;
    freezer->asked = agent->now;
    freezer->due = true;
    memcpy(freezer->tag, text, sizeof(text));
    cellar_agent_freeze(agent);
}

/* Should it not wake, the newest automatic one is what the session had. */
void cellar_agent_restore(struct cellar_agent *agent, struct cellar_bytes tag)
{
    struct cellar_freezer *freezer = &agent->freezer;
    char text[CELLAR_CHECKPOINT_TAG_MAX + 1];
    const char *why = is_tag(tag, text) ? hindrance(agent) : "no name";
    settle_asked(agent);
    struct cellar_copy *copy = cellar_copies_find(&agent->copies, text);
    if (!why && !copy)
        why = "there is no checkpoint of this name";
    if (why) {
        refuse(agent, CELLAR_MSG_RESTORE, why);
        return;
    }
    freezer->request = CELLAR_MSG_RESTORE;
    freezer->asked = agent->now;
    freezer->due = false;
    copy->order = ++agent->copies.order;
    cellar_agent_replace_worker(agent);
}

void cellar_agent_drop(struct cellar_agent *agent, struct cellar_bytes tag)
{
    char text[CELLAR_CHECKPOINT_TAG_MAX + 1];
    settle_asked(agent);
    struct cellar_copy *copy =
        is_tag(tag, text) ? cellar_copies_find(&agent->copies, text) : NULL;
    if (copy)
        cellar_copy_drop(copy);
    count_copies(agent);
    refuse(agent, CELLAR_MSG_DROP,
           copy ? NULL : "there is no checkpoint of this name");
}

static const struct cellar_copy *after_order(const struct cellar_copies *copies,
                                             uint64_t order)
{
    const struct cellar_copy *next = NULL;
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        const struct cellar_copy *copy = &copies->all[i];
        if (copy->phase == CELLAR_COPY_FROZEN && copy->order > order &&
            (!next || copy->order < next->order))
            next = copy;
    }
    return next;
}

void cellar_agent_list(struct cellar_agent *agent)
{
    struct cellar_message msg = {.type = CELLAR_MSG_COPIES};
    struct cellar_msg_copies *copies = &msg.u.copies;
    settle_asked(agent);
    const struct cellar_copy *copy = after_order(&agent->copies, 0);
    for (; copy && copies->count < CELLAR_COPIES_MAX;
         copy = after_order(&agent->copies, copy->order))
        copies->kept[copies->count++] =
            (struct cellar_kept){.tag = bytes_of(copy->tag),
                                 .after = copy->after,
                                 .age_ms = (agent->now - copy->taken) / 1000};
    copies->held_bytes = copies->count > 0 ? held(agent) : 0;
    cellar_agent_post(agent, &msg);
}
