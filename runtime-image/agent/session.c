#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "processes.h"
#include "wipe.h"

/* A worker whose word has no worth any more is killed, but not before it could
 * die by itself, which says more of the cell: a process that dies closes its
 * sockets microseconds before its parent hears of it. */
#define MUTE_US_MAX 100000u

/* A worker that dies idle, again and again, is no session. */
#define DEATHS_MAX 3

void cellar_lane_post(struct cellar_lane *lane, struct cellar_message *msg)
{
    enum cellar_code code = cellar_wire_post(&lane->wire, msg);
    if (code != CELLAR_OK)
        cellar_agent_die(
            CELLAR_AGENT_EXIT_SELF, "keeping '%s' for the host: %s",
            cellar_message_name(msg->type), cellar_code_text(code));
}

/* ------------------------------------------------------------ a cell ends --
 */

static void fill_answer(struct cellar_lane *lane, struct cellar_msg_done *done)
{
    struct cellar_msg_done said = {0};
    cellar_records_answer(&lane->records, &said);
    done->checkpoint_why = said.checkpoint_why;
    if (done->status == CELLAR_STATUS_OK) {
        done->parts = said.parts;
        memcpy(done->result, said.result, sizeof(done->result));
    }
    if (done->status == CELLAR_STATUS_ERROR) {
        done->has_error = true;
        done->error_name = said.error_name;
        done->error_message = said.error_message;
        done->traceback = said.traceback;
    }
}

/* The automatic checkpoint is taken when the reply is out; whether it can be is
 * known before: the worker was asked with the cell. One that was not, for the
 * host of then wanted none, is not copied for the host of now. */
static void fill_checkpoint(struct cellar_lane *lane,
                            struct cellar_msg_done *done)
{
    static const char short_of_memory[] =
        "given up while the cell ran: the session was short of memory";
    struct cellar_freezer *freezer = &lane->freezer;
    bool kept = lane->cell.phase == CELLAR_CELL_DRAINING;
    bool automatic =
        lane->cell.kept && lane->hello.policy == CELLAR_CHECKPOINT_AUTO;
    if (!kept || !automatic)
        done->checkpoint_why = (struct cellar_bytes){0};
    if (!kept && freezer->given_up)
        done->checkpoint_why = (struct cellar_bytes){
            (const uint8_t *)short_of_memory, sizeof(short_of_memory) - 1};
    freezer->given_up = false;
    if (done->checkpoint_why.len > 0) {
        done->checkpoint = CELLAR_TAKEN_NO;
    } else if (kept && automatic) {
        done->checkpoint = CELLAR_TAKEN_YES;
        freezer->due = true;
        freezer->tag[0] = '\0';
    }
}

/* An ending that kept the globals still tells of those that went before it,
 * with a worker that died between two cells. */
static void fill_state(struct cellar_lane *lane, struct cellar_msg_done *done)
{
    done->state = lane->went;
    if (done->state == CELLAR_STATE_RESTORED)
        done->restored_from = lane->stands;
    if (lane->cell.phase == CELLAR_CELL_DRAINING)
        lane->stands = lane->cell.number;
    lane->went = CELLAR_STATE_KEPT;
}

static void note_dropped(const struct cellar_lane *lane,
                         struct cellar_msg_done *done)
{
    done->dropped_stdout = lane->output.dropped[0];
    done->dropped_stderr = lane->output.dropped[1];
}

/* DONE. */
static void finish(struct cellar_lane *lane)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DONE,
                                 .cell = lane->cell.number,
                                 .u.done = lane->done};
    struct cellar_msg_done *done = &msg.u.done;
    if (lane->cell.phase == CELLAR_CELL_DRAINING) {
        fill_answer(lane, done);
        note_dropped(lane, done);
    }
    done->wall_us = cellar_cell_wall(&lane->cell);
    if (done->limit == CELLAR_LIMIT_NONE &&
        (done->dropped_stdout > 0 || done->dropped_stderr > 0))
        done->limit = CELLAR_LIMIT_OUTPUT;
    fill_state(lane, done);
    fill_checkpoint(lane, done);
    cellar_lane_post(lane, &msg);
    if (lane->cell.phase == CELLAR_CELL_DRAINING) {
        cellar_records_await(&lane->records, CELLAR_RECORDS_IDLE);
        cellar_output_idle(&lane->output);
    }
    cellar_records_await(&lane->aside, CELLAR_RECORDS_LAUNCHING);
    cellar_cell_clear(&lane->cell);
}

/* What the pipes still hold goes out, as far as there is room: the processes
 * are dead or about to be, nothing is left to wait for. */
static void drain_now(struct cellar_lane *lane)
{
    if (lane->cell.started == 0)
        return;
    cellar_output_end(&lane->output, true);
    if (!cellar_output_drained(&lane->output, &lane->wire, lane->agent->now))
        lane->output.left = 0;
    (void)cellar_output_drained(&lane->output, &lane->wire, lane->agent->now);
    note_dropped(lane, &lane->done);
}

/* The answer of a dead worker stays where it is until its DONE; the next worker
 * is heard elsewhere. */
static void put_answer_aside(struct cellar_lane *lane)
{
    struct cellar_records answered = lane->records;
    fill_answer(lane, &lane->done);
    lane->records = lane->aside;
    lane->aside = answered;
}

/* The cell, if there is one, ends by the agent's own hand: HELD, or NONE. What
 * had ended in good order, but for its last output, keeps its ending. */
static void end_by_kill(struct cellar_lane *lane)
{
    struct cellar_cell *cell = &lane->cell;
    struct cellar_msg_done *done = &lane->done;
    if (cell->phase == CELLAR_CELL_DRAINING) {
        drain_now(lane);
        put_answer_aside(lane);
        cell->phase = CELLAR_CELL_HELD;
    } else if (cell->phase == CELLAR_CELL_WAITING ||
               cell->phase == CELLAR_CELL_RUNNING) {
        *done = (struct cellar_msg_done){0};
        cellar_cell_end_by_kill(cell, lane->agent->now, done);
        if (cell->started > 0)
            cellar_usage_end(&lane->usage, cellar_cell_wall(cell),
                             &done->cpu_us, &done->peak_memory_bytes);
        drain_now(lane);
    }
}

void cellar_lane_finish_held(struct cellar_lane *lane)
{
    if (lane->cell.phase == CELLAR_CELL_HELD)
        finish(lane);
}

/* Ends the cell at once: nothing is left that the globals could come from. The
 * host hears of it before the killing starts. */
void cellar_lane_finish_fresh(struct cellar_lane *lane)
{
    lane->stands = 0;
    lane->went = CELLAR_STATE_FRESH;
    end_by_kill(lane);
    cellar_lane_finish_held(lane);
    cellar_wire_flush(&lane->wire);
}

/* --------------------------------------------------------------- workers -- */

void cellar_lane_kill_all(struct cellar_lane *lane)
{
    cellar_lane_thaw(lane);
    cellar_lane_kill(lane);
    cellar_lane_close_worker(lane);
}

/* Whether the worker was given it: one that still waits is not touched by what
 * becomes of this worker. */
static bool has_begun(const struct cellar_cell *cell)
{
    return cell->started > 0;
}

static void died_idle(struct cellar_lane *lane)
{
    if (++lane->deaths > 1) /* of what its last state did, perhaps */
        cellar_copies_thin(&lane->copies, 0);
    if (lane->deaths < DEATHS_MAX)
        cellar_lane_replace_worker(lane);
    else
        cellar_lane_fault(lane, CELLAR_FAULT_WORKER,
                          "the worker died again and again with no cell to run",
                          (struct cellar_bytes){0});
}

/* An END that came but was not dealt with is not believed: a worker that says
 * so and dies has not kept its globals, whatever it says. */
static void died_running(struct cellar_lane *lane, int status,
                         const struct rusage *used)
{
    struct cellar_msg_done *done = &lane->done;
    if (lane->cell.phase == CELLAR_CELL_DRAINING) {
        end_by_kill(lane);
    } else {
        *done = (struct cellar_msg_done){0};
        cellar_cell_end_by_death(&lane->cell, lane->agent->now, status,
                                 cellar_usage_oom(&lane->usage), done);
        cellar_usage_end_by_death(&lane->usage, used, &done->cpu_us,
                                  &done->peak_memory_bytes);
        drain_now(lane);
    }
    cellar_lane_replace_worker(lane);
}

void cellar_lane_on_death(struct cellar_lane *lane)
{
    struct cellar_death death = lane->death;
    lane->death = (struct cellar_death){0};
    if (cellar_lane_wakes(lane))
        cellar_lane_wake_failed(lane);
    else if (!lane->worker.ready)
        cellar_lane_died_booting(lane, death.status);
    else if (!has_begun(&lane->cell))
        died_idle(lane);
    else
        died_running(lane, death.status, &death.used);
}

void cellar_lane_reset(struct cellar_lane *lane)
{
    cellar_lane_finish_fresh(lane);
    cellar_lane_kill_all(lane);
    bool alone = cellar_lane_count(lane->agent) == 1;
    if (alone)
        cellar_wipe_ipc();
    lane->went = CELLAR_STATE_KEPT;
    lane->deaths = 0;
    lane->faulted = false;
    if (!alone ||
        (cellar_wipe_directory("/tmp") && cellar_wipe_directory("/dev/shm")))
        cellar_lane_start_worker(lane);
    else
        cellar_lane_fault(lane, CELLAR_FAULT_INTERNAL,
                          "/tmp or /dev/shm could not be emptied",
                          (struct cellar_bytes){0});
}

/* ---------------------------------------------------- what the worker says --
 */

/* Killed for having broken the rules. */
static void end_mute(struct cellar_lane *lane)
{
    lane->mute_end = 0;
    if (cellar_lane_wakes(lane)) {
        cellar_lane_wake_failed(lane);
    } else if (!lane->worker.ready) {
        cellar_lane_fault(lane, CELLAR_FAULT_WORKER,
                          "what the starting worker said makes no sense",
                          cellar_output_tail(&lane->output));
    } else if (!has_begun(&lane->cell)) {
        died_idle(lane);
    } else {
        end_by_kill(lane);
        cellar_lane_replace_worker(lane);
    }
}

/* It broke the rules: nothing it says is listened to any more. The socket stays
 * open: a worker that finds it closed would end as if by its own will. */
void cellar_lane_distrust(struct cellar_lane *lane)
{
    lane->mute_end = lane->agent->now + MUTE_US_MAX;
}

/* Its control socket is at its end: it dies, or has closed the socket. One
 * that runs a cell may go on: it may have become another program, and how
 * that ends, or its timeout, is the cell's ending. */
static void on_hang_up(struct cellar_lane *lane)
{
    cellar_worker_hang_up(&lane->worker);
    cellar_lane_distrust(lane);
    if (lane->cell.phase == CELLAR_CELL_RUNNING)
        lane->mute_end = 0;
}

void cellar_lane_on_worker(struct cellar_lane *lane)
{
    struct cellar_message msg = {.type = CELLAR_MSG_READY};
    msg.u.ready.generation = lane->generation;
    msg.u.ready.python = (struct cellar_bytes){(const uint8_t *)lane->python,
                                               strlen(lane->python)};
    msg.u.ready.landlock_abi = lane->landlock_abi;
    msg.u.ready.seccomp = lane->seccomp;
    lane->boot_end = 0;
    lane->worker.ready = true;
    cellar_worker_find_rank(&lane->worker);
    cellar_worker_rank(&lane->worker, CELLAR_RANK_WORKER);
    cellar_output_idle(&lane->output);
    cellar_lane_post(lane, &msg);
    cellar_lane_start_cell(lane);
}

/* The worker's answer is one write behind its output: pipes that poll()
 * looked at later than at the control socket and found empty hold none. */
static void on_end(struct cellar_lane *lane, const struct cellar_said *said)
{
    if (lane->cell.phase != CELLAR_CELL_RUNNING ||
        said->ticket != lane->cell.ticket) {
        cellar_lane_distrust(lane);
        return;
    }
    struct cellar_msg_done *done = &lane->done;
    *done = (struct cellar_msg_done){0};
    cellar_cell_end(&lane->cell, lane->agent->now, said->outcome,
                    said->exit_status, done);
    cellar_usage_end(&lane->usage, cellar_cell_wall(&lane->cell), &done->cpu_us,
                     &done->peak_memory_bytes);
    lane->deaths = 0;
    cellar_output_end(&lane->output, false);
    if (cellar_output_drained(&lane->output, &lane->wire, lane->agent->now))
        finish(lane);
}

static void on_said(struct cellar_lane *lane, const struct cellar_said *said)
{
    if (said->kind == CELLAR_RECORD_SANDBOX) {
        lane->landlock_abi = said->landlock_abi;
        lane->seccomp = said->seccomp;
    } else if (said->kind == CELLAR_RECORD_READY) {
        memcpy(lane->python, said->python, sizeof(lane->python));
        cellar_lane_on_worker(lane);
    } else if (said->kind == CELLAR_RECORD_AWAKE) {
        cellar_lane_on_awake(lane, said->ping);
    } else {
        on_end(lane, said);
    }
}

/* One read; false when nothing came of it. */
static bool receive(struct cellar_lane *lane)
{
    uint8_t *room = NULL;
    size_t len = 0;
    if (cellar_records_room(&lane->records, &room, &len) != CELLAR_OK) {
        cellar_lane_distrust(lane);
        return false;
    }
    int passed = -1;
    ssize_t n = cellar_worker_receive(&lane->worker, room, len, &passed);
    if (passed >= 0 && lane->records.phase == CELLAR_RECORDS_LAUNCHING)
        cellar_guard_add(&lane->agent->guard, passed);
    else if (passed >= 0)
        close(passed);
    if (n > 0)
        cellar_records_arrived(&lane->records, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        on_hang_up(lane);
    return n > 0;
}

/* A record may have cost the worker its life: then the rest is gone too, and
 * what the next one says is looked at in its turn. */
void cellar_lane_hear_worker(struct cellar_lane *lane)
{
    uint64_t generation = lane->generation;
    enum cellar_code code = CELLAR_OK;
    if (!receive(lane))
        return;
    while (code == CELLAR_OK && lane->generation == generation) {
        struct cellar_said said;
        code = cellar_records_next(&lane->records, &said);
        if (code == CELLAR_OK)
            on_said(lane, &said);
    }
    if (code != CELLAR_OK && code != CELLAR_E_AGAIN)
        cellar_lane_distrust(lane);
}

/* ----------------------------------------------------------------- cells -- */

/* Fresh random numbers, some at a time: a cell is too short for a system call
 * of its own for each. */
static uint64_t next_ticket(void)
{
    static uint64_t tickets[32];
    static size_t left;
    if (left == 0) {
        if (getrandom(tickets, sizeof(tickets), 0) != sizeof(tickets))
            cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "no random numbers: %m");
        left = sizeof(tickets) / sizeof(tickets[0]);
    }
    return tickets[--left];
}

/* Somebody wrote after his cell had ended, or is still there and may. The next
 * cell gets pipes that he doesn't have; without descriptors for them it shares
 * his. */
static void renew_pipes(struct cellar_lane *lane)
{
    struct cellar_worker *worker = &lane->worker;
    bool alone = !lane->output.late && !lane->usage.company;
    if (alone || cellar_worker_renew_pipes(worker) != CELLAR_OK)
        return;
    cellar_output_replace(&lane->output, worker->out, worker->err);
    worker->out = worker->err = -1;
}

void cellar_lane_start_cell(struct cellar_lane *lane)
{
    struct cellar_cell *cell = &lane->cell;
    if (cell->phase != CELLAR_CELL_WAITING)
        return;
    if (lane->faulted) {
        cellar_lane_finish_fresh(lane);
        return;
    }
    if (!lane->worker.ready || lane->mute_end > 0)
        return;
    cellar_lane_freeze(lane);
    cellar_output_begin(&lane->output, cell->number, cell->output_max);
    renew_pipes(lane);
    cellar_records_await(&lane->records, CELLAR_RECORDS_RUNNING);
    uint64_t ticket = next_ticket();
    cell->kept = lane->hello.policy == CELLAR_CHECKPOINT_AUTO;
    enum cellar_code code = cellar_worker_send_code(
        &lane->worker, cell->number, ticket, cell->kept, &cell->code);
    if (code != CELLAR_OK)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "giving a cell on: %s",
                         cellar_code_text(code));
    cellar_cell_start(cell, lane->agent->now, ticket);
    (void)cellar_worker_flush(&lane->worker);
    /* Last, while the worker wakes up: this costs the cell nothing. */
    cellar_usage_begin(&lane->usage);
}

static void act(struct cellar_lane *lane, enum cellar_cell_action action)
{
    switch (action) {
    case CELLAR_CELL_LEAVE:
        break;
    case CELLAR_CELL_SIGNAL:
        cellar_worker_interrupt(&lane->worker);
        cellar_output_hurry(&lane->output);
        break;
    case CELLAR_CELL_KILL:
        end_by_kill(lane);
        cellar_lane_replace_worker(lane);
        break;
    case CELLAR_CELL_CANCEL:
        end_by_kill(lane);
        cellar_lane_finish_held(lane);
        break;
    }
}

void cellar_lane_interrupt(struct cellar_lane *lane)
{
    act(lane, cellar_cell_interrupt(&lane->cell, lane->agent->now,
                                    lane->hello.grace_ms * 1000));
}

void cellar_lane_tick(struct cellar_lane *lane)
{
    act(lane, cellar_cell_tick(&lane->cell, lane->agent->now,
                               lane->hello.grace_ms * 1000));
    cellar_output_tick(&lane->output, &lane->wire, lane->agent->now);
    cellar_lane_watch_copies(lane);
    if (lane->cell.phase == CELLAR_CELL_DRAINING &&
        cellar_output_drained(&lane->output, &lane->wire, lane->agent->now))
        finish(lane);
    if (lane->mute_end > 0 && lane->agent->now >= lane->mute_end)
        end_mute(lane);
    if (lane->boot_end > 0 && lane->agent->now >= lane->boot_end)
        cellar_lane_boot_is_over(lane);
}
