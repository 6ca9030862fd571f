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
#include "processes.h"

/* Copying 1 GiB takes 20 ms, waking 0.1; the rest is for a loaded machine. */
#define ASKED_US_MAX 10000000u
#define WAKE_US_MAX  5000000u

/* A worker that died leaves a copy that was just being made so long to say that
 * it is there. */
#define SETTLE_MS 500

/* Automatic copies: the last, and the one before should that not wake. */
#define AUTOMATIC_MAX 2

/* ------------------------------------------------------------- telling ---- */

static struct cellar_bytes bytes_of(const char *text)
{
    return (struct cellar_bytes){(const uint8_t *)text, strlen(text)};
}

void cellar_lane_answer(struct cellar_lane *lane, uint64_t request,
                        const char *why)
{
    struct cellar_message msg = {.type = CELLAR_MSG_REPLY};
    msg.u.reply.request = request;
    msg.u.reply.ok = why == NULL;
    msg.u.reply.text = bytes_of(why ? why : "");
    msg.u.reply.after = lane->stands;
    if (request > 0)
        msg.u.reply.took_us = lane->agent->now - lane->freezer.asked;
    if (request == CELLAR_MSG_FORK && !why)
        msg.u.reply.lane = lane->forking.first;
    cellar_lane_post(lane, &msg);
}

/* What somebody waits for has come to its end; `why` NULL: to a good one. */
void cellar_lane_settle(struct cellar_lane *lane, const char *why)
{
    uint64_t request = lane->freezer.request;
    lane->freezer.request = 0;
    if (request > 0 || why)
        cellar_lane_answer(lane, request, why);
}

void cellar_lane_thaw(struct cellar_lane *lane)
{
    lane->freezer.due = false;
    lane->freezer.wake_end = 0;
    lane->freezer.look_at = 0;
    if (lane->freezer.request == CELLAR_MSG_FORK)
        cellar_lane_no_branch(lane, "every process of the session was ended");
    else if (lane->freezer.request > 0)
        cellar_lane_settle(lane, "every process of the session was ended");
    cellar_copies_clear(&lane->copies);
    lane->usage.copies = 0;
}

/* --------------------------------------------------------------- freezing - */

/* A copy is born with the worker's place in the queue of the kernel's OOM
 * killer: so that it comes behind the worker later, the worker stands back
 * while it forks. */
static void rank(struct cellar_lane *lane)
{
    cellar_worker_rank(&lane->worker, cellar_copies_asked(&lane->copies)
                                          ? CELLAR_RANK_COPY
                                          : CELLAR_RANK_WORKER);
}

void cellar_lane_count_copies(struct cellar_lane *lane)
{
    lane->usage.copies = cellar_copies_processes(&lane->copies);
}

bool cellar_lane_ask_copy(struct cellar_lane *lane, const char *tag,
                          uint32_t branch)
{
    int give = -1;
    struct cellar_copy *copy = cellar_copies_ask(
        &lane->copies, tag, lane->stands, lane->agent->now, &give);
    if (!copy)
        return false;
    copy->branch = branch;
    rank(lane);
    bool sent = cellar_worker_send_freeze(&lane->worker, give);
    close(give);
    if (!sent)
        cellar_copy_drop(copy);
    rank(lane);
    return sent;
}

void cellar_lane_freeze(struct cellar_lane *lane)
{
    struct cellar_freezer *freezer = &lane->freezer;
    if (!freezer->due || !lane->worker.ready || lane->mute_end > 0)
        return;
    freezer->due = false;
    if (!cellar_lane_ask_copy(lane, freezer->tag, 0))
        cellar_lane_settle(lane, "the worker can't be asked for a copy");
}

/* A new one takes the place of what is older: of its name, or automatic. */
static void make_room(struct cellar_lane *lane, const struct cellar_copy *copy)
{
    if (copy->tag[0] == '\0') {
        cellar_copies_thin(
            &lane->copies,
            cellar_memory_spare(&lane->agent->memory) == 0 ? 1 : AUTOMATIC_MAX);
        return;
    }
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        struct cellar_copy *old = &lane->copies.all[i];
        if (old->phase == CELLAR_COPY_FROZEN && old->order < copy->order &&
            strcmp(old->tag, copy->tag) == 0)
            cellar_copy_drop(old);
    }
}

/* One to keep is there, or won't be. */
static void on_kept(struct cellar_lane *lane, struct cellar_copy *copy,
                    bool named, const char *why)
{
    if (!why)
        make_room(lane, copy);
    cellar_lane_count_copies(lane);
    if (named && lane->freezer.request == CELLAR_MSG_CHECKPOINT)
        cellar_lane_settle(lane, why);
    else if (why)
        cellar_lane_answer(lane, 0, why);
}

/* A worker may have given its socket to whom it likes. */
static bool is_somebody(const struct cellar_lane *lane,
                        struct cellar_copy *copy, char why[CELLAR_WHY_MAX])
{
    if (!cellar_lanes_know(lane->agent, copy))
        return false;
    cellar_copy_drop(copy);
    (void)snprintf(why, CELLAR_WHY_MAX, "the copy is another one's process");
    return true;
}

void cellar_lane_hear_copy(struct cellar_lane *lane, struct cellar_copy *copy)
{
    char why[CELLAR_WHY_MAX] = "";
    bool named = copy->tag[0] != '\0';
    bool branch = copy->branch > 0;
    enum cellar_code code = cellar_copies_hear(copy, lane->agent->now, why);
    if (code == CELLAR_E_AGAIN)
        return;
    if (code == CELLAR_OK && is_somebody(lane, copy, why))
        code = CELLAR_E_SYS;
    rank(lane);
    if (!branch)
        on_kept(lane, copy, named, code == CELLAR_OK ? NULL : why);
    else if (code == CELLAR_OK)
        cellar_lane_on_branch(lane, copy);
    else
        cellar_lane_no_branch(lane, why);
}

/* The last chance of copies that were asked for: whoever has said nothing is
 * killed with the rest. All of them together are waited for. */
void cellar_lane_settle_copies(struct cellar_lane *lane)
{
    int patience = SETTLE_MS;
    struct cellar_copy *copy = cellar_copies_asked(&lane->copies);
    while (copy) {
        struct pollfd look = {.fd = copy->control, .events = POLLIN};
        if (poll(&look, 1, patience) > 0)
            cellar_lane_hear_copy(lane, copy);
        else
            patience = 0;
        if (copy->phase == CELLAR_COPY_ASKED)
            cellar_copy_drop(copy);
        copy = cellar_copies_asked(&lane->copies);
    }
}

/* ----------------------------------------------------------------- waking - */

bool cellar_lane_wakes(const struct cellar_lane *lane)
{
    return lane->freezer.wake_end > 0;
}

void cellar_lane_close_worker(struct cellar_lane *lane)
{
    cellar_output_close(&lane->output);
    cellar_worker_close(&lane->worker);
    cellar_records_await(&lane->records, CELLAR_RECORDS_LAUNCHING);
    lane->worker.pid = 0;
    lane->boot_end = 0;
    lane->mute_end = 0;
    lane->freezer.wake_end = 0;
    lane->freezer.look_at = 0;
}

static void kill_but_copies(struct cellar_lane *lane)
{
    cellar_lane_settle_copies(lane);
    cellar_lane_kill(lane);
    cellar_lane_close_worker(lane);
}

static uint64_t fresh_ping(void)
{
    uint64_t ping = 0;
    if (getrandom(&ping, sizeof(ping), 0) != sizeof(ping))
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "no random numbers: %m");
    return ping >> 1;
}

bool cellar_lane_wake(struct cellar_lane *lane, pid_t pid, int control,
                      enum cellar_wake_reason reason)
{
    struct cellar_freezer *freezer = &lane->freezer;
    struct cellar_worker *worker = &lane->worker;
    freezer->ping = fresh_ping();
    enum cellar_code code =
        cellar_worker_wake(worker, pid, control, freezer->ping, reason);
    if (code != CELLAR_OK || !cellar_worker_flush(worker))
        return false;
    cellar_output_open(&lane->output, worker->out, worker->err);
    worker->out = worker->err = -1;
    cellar_usage_attach(&lane->usage, pid);
    cellar_records_await(&lane->records, CELLAR_RECORDS_WAKING);
    freezer->wake_end = lane->agent->now + WAKE_US_MAX;
    kill(pid, SIGCONT);
    return true;
}

static bool wake_copy(struct cellar_lane *lane, struct cellar_copy *copy)
{
    struct cellar_freezer *freezer = &lane->freezer;
    pid_t pid = copy->pid;
    freezer->woken = copy->after;
    memcpy(freezer->woken_tag, copy->tag, sizeof(copy->tag));
    return cellar_lane_wake(lane, pid, cellar_copy_take(copy),
                            CELLAR_WAKE_RESTORE);
}

/* The globals are lost: a cell that waits to hear of them hears it. */
static void begin_anew(struct cellar_lane *lane)
{
    lane->stands = 0;
    lane->went = CELLAR_STATE_FRESH;
    cellar_lane_finish_held(lane);
    if (lane->freezer.request > 0)
        cellar_lane_settle(lane,
                           "the checkpoint did not wake; the session is fresh");
    cellar_lane_start_worker(lane);
}

static void wake_newest(struct cellar_lane *lane)
{
    struct cellar_copy *copy = cellar_copies_newest(&lane->copies);
    while (copy && !wake_copy(lane, copy)) {
        kill_but_copies(lane);
        copy = cellar_copies_newest(&lane->copies);
    }
    cellar_lane_count_copies(lane);
    if (!copy)
        begin_anew(lane);
}

void cellar_lane_replace_worker(struct cellar_lane *lane)
{
    kill_but_copies(lane);
    wake_newest(lane);
}

/* A lane that no worker has been of before. */
static bool is_branch(const struct cellar_lane *lane)
{
    return lane->number > 0 && lane->generation == 0;
}

/* The next older one is better than none, but is not what was asked for. */
void cellar_lane_wake_failed(struct cellar_lane *lane)
{
    if (is_branch(lane)) {
        cellar_branch_failed(lane);
        return;
    }
    if (lane->freezer.request == CELLAR_MSG_RESTORE)
        cellar_lane_settle(lane, "the checkpoint did not wake, and is gone");
    cellar_lane_replace_worker(lane);
}

/* Later states are of no use to what comes now, nor is it of interest what
 * became of them. */
static void settle_restored(struct cellar_lane *lane)
{
    lane->went = CELLAR_STATE_KEPT;
    cellar_copies_thin(&lane->copies, 0);
    cellar_lane_count_copies(lane);
    cellar_lane_settle(lane, NULL);
}

/* A copy is of use once: the worker that it has become is copied again before
 * anything else, in its name. */
static void copy_again(struct cellar_lane *lane)
{
    struct cellar_freezer *freezer = &lane->freezer;
    bool automatic = lane->hello.policy == CELLAR_CHECKPOINT_AUTO;
    memcpy(freezer->tag, freezer->woken_tag, sizeof(freezer->tag));
    freezer->due = freezer->tag[0] || automatic;
}

/* Now it counts. */
void cellar_lane_on_awake(struct cellar_lane *lane, uint64_t ping)
{
    struct cellar_freezer *freezer = &lane->freezer;
    bool branch = is_branch(lane);
    if (ping != freezer->ping + 1) {
        cellar_lane_distrust(lane);
        return;
    }
    freezer->wake_end = 0;
    lane->generation++;
    lane->stands = freezer->woken;
    copy_again(lane);
    if (freezer->request == CELLAR_MSG_RESTORE)
        settle_restored(lane);
    else if (!branch)
        lane->went =
            lane->stands > 0 ? CELLAR_STATE_RESTORED : CELLAR_STATE_FRESH;
    cellar_lane_finish_held(lane);
    cellar_lane_on_worker(lane);
    if (branch)
        cellar_branch_awake(lane);
}

/* -------------------------------------------------------- what time brings -
 */

void cellar_lane_watch_copies(struct cellar_lane *lane)
{
    struct cellar_copy *copy = cellar_copies_asked(&lane->copies);
    cellar_lane_look_at_memory(lane);
    if (copy && lane->agent->now - copy->asked >= ASKED_US_MAX) {
        cellar_copy_drop(copy);
        rank(lane);
        cellar_lane_settle(lane,
                           "the worker did not make a copy of itself in time");
    }
    if (cellar_lane_wakes(lane) && lane->agent->now >= lane->freezer.wake_end)
        cellar_lane_wake_failed(lane);
}

uint64_t cellar_lane_copies_due(const struct cellar_lane *lane)
{
    const struct cellar_copy *copy =
        cellar_copies_asked((struct cellar_copies *)&lane->copies);
    const uint64_t dues[] = {
        copy ? copy->asked + ASKED_US_MAX : 0, lane->freezer.wake_end,
        lane->usage.copies > 0 ? lane->freezer.look_at : 0};
    uint64_t first = 0;
    for (size_t i = 0; i < sizeof(dues) / sizeof(dues[0]); i++)
        if (dues[i] > 0 && (first == 0 || dues[i] < first))
            first = dues[i];
    return first;
}
