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

/* Launcher, Python's start and the extension take 15 ms; a machine under the
 * heaviest load still is far below this. */
#define BOOT_US_MAX 60000000u

/* A worker whose word has no worth any more is killed, but not before it could
 * die by itself, which says more of the cell: a process that dies closes its
 * sockets microseconds before its parent hears of it. */
#define MUTE_US_MAX 100000u

/* A worker that dies idle, again and again, is no session. */
#define DEATHS_MAX 3

void cellar_agent_post(struct cellar_agent *agent, struct cellar_message *msg)
{
    enum cellar_code code = cellar_wire_post(&agent->wire, msg);
    if (code != CELLAR_OK)
        cellar_agent_die(
            CELLAR_AGENT_EXIT_SELF, "keeping '%s' for the host: %s",
            cellar_message_name(msg->type), cellar_code_text(code));
}

/* ------------------------------------------------------------ a cell ends --
 */

static void fill_answer(struct cellar_agent *agent,
                        struct cellar_msg_done *done)
{
    struct cellar_msg_done said = {0};
    cellar_records_answer(&agent->records, &said);
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
 * known before: the worker has told, of itself. */
static void fill_checkpoint(struct cellar_agent *agent,
                            struct cellar_msg_done *done)
{
    static const char short_of_memory[] =
        "given up while the cell ran: the session was short of memory";
    struct cellar_freezer *freezer = &agent->freezer;
    bool kept = agent->cell.phase == CELLAR_CELL_DRAINING;
    bool automatic = agent->hello.policy == CELLAR_CHECKPOINT_AUTO;
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
static void fill_state(struct cellar_agent *agent, struct cellar_msg_done *done)
{
    done->state = agent->went;
    if (done->state == CELLAR_STATE_RESTORED)
        done->restored_from = agent->stands;
    if (agent->cell.phase == CELLAR_CELL_DRAINING)
        agent->stands = agent->cell.number;
    agent->went = CELLAR_STATE_KEPT;
}

static void note_dropped(const struct cellar_agent *agent,
                         struct cellar_msg_done *done)
{
    done->dropped_stdout = agent->output.dropped[0];
    done->dropped_stderr = agent->output.dropped[1];
}

/* DONE. */
static void finish(struct cellar_agent *agent)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DONE,
                                 .cell = agent->cell.number,
                                 .u.done = agent->done};
    struct cellar_msg_done *done = &msg.u.done;
    if (agent->cell.phase == CELLAR_CELL_DRAINING) {
        fill_answer(agent, done);
        note_dropped(agent, done);
    }
    done->wall_us = cellar_cell_wall(&agent->cell);
    if (done->limit == CELLAR_LIMIT_NONE &&
        (done->dropped_stdout > 0 || done->dropped_stderr > 0))
        done->limit = CELLAR_LIMIT_OUTPUT;
    fill_state(agent, done);
    fill_checkpoint(agent, done);
    cellar_agent_post(agent, &msg);
    if (agent->cell.phase == CELLAR_CELL_DRAINING) {
        cellar_records_await(&agent->records, CELLAR_RECORDS_IDLE);
        cellar_output_idle(&agent->output);
    }
    cellar_records_await(&agent->aside, CELLAR_RECORDS_LAUNCHING);
    cellar_cell_clear(&agent->cell);
}

/* What the pipes still hold goes out, as far as there is room: the processes
 * are dead or about to be, nothing is left to wait for. */
static void drain_now(struct cellar_agent *agent)
{
    if (agent->cell.started == 0)
        return;
    cellar_output_end(&agent->output, true);
    if (!cellar_output_drained(&agent->output, &agent->wire, agent->now))
        agent->output.left = 0;
    (void)cellar_output_drained(&agent->output, &agent->wire, agent->now);
    note_dropped(agent, &agent->done);
}

/* The answer of a dead worker stays where it is until its DONE; the next worker
 * is heard elsewhere. */
static void put_answer_aside(struct cellar_agent *agent)
{
    struct cellar_records answered = agent->records;
    fill_answer(agent, &agent->done);
    agent->records = agent->aside;
    agent->aside = answered;
}

/* The cell, if there is one, ends by the agent's own hand: HELD, or NONE. What
 * had ended in good order, but for its last output, keeps its ending. */
static void end_by_kill(struct cellar_agent *agent)
{
    struct cellar_cell *cell = &agent->cell;
    struct cellar_msg_done *done = &agent->done;
    if (cell->phase == CELLAR_CELL_DRAINING) {
        drain_now(agent);
        put_answer_aside(agent);
        cell->phase = CELLAR_CELL_HELD;
    } else if (cell->phase == CELLAR_CELL_WAITING ||
               cell->phase == CELLAR_CELL_RUNNING) {
        *done = (struct cellar_msg_done){0};
        cellar_cell_end_by_kill(cell, agent->now, done);
        if (cell->started > 0)
            cellar_usage_end(&agent->usage, cellar_cell_wall(cell),
                             &done->cpu_us, &done->peak_memory_bytes);
        drain_now(agent);
    }
}

void cellar_agent_finish_held(struct cellar_agent *agent)
{
    if (agent->cell.phase == CELLAR_CELL_HELD)
        finish(agent);
}

/* Ends the cell at once: nothing is left that the globals could come from. The
 * host hears of it before the killing starts. */
static void finish_fresh(struct cellar_agent *agent)
{
    agent->stands = 0;
    agent->went = CELLAR_STATE_FRESH;
    end_by_kill(agent);
    cellar_agent_finish_held(agent);
    cellar_wire_flush(&agent->wire);
}

/* --------------------------------------------------------------- workers -- */

void cellar_agent_kill_all(struct cellar_agent *agent)
{
    cellar_agent_thaw(agent);
    if (!cellar_processes_kill_all())
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF,
                         "a process of the session can't be killed");
    agent->worker.pid = 0;
    cellar_output_close(&agent->output);
    cellar_worker_close(&agent->worker);
    cellar_records_await(&agent->records, CELLAR_RECORDS_LAUNCHING);
    agent->boot_end = 0;
    agent->mute_end = 0;
}

/* No worker until a reset. A cell that waits for one ends with that. */
static void fault(struct cellar_agent *agent, enum cellar_fault code,
                  const char *text, struct cellar_bytes words)
{
    char all[256 + CELLAR_OUTPUT_TAIL];
    int len = snprintf(all, sizeof(all), "%s%s%.*s", text,
                       *text && words.len > 0 ? ": " : "", (int)words.len,
                       (const char *)words.data);
    struct cellar_message msg = {.type = CELLAR_MSG_FAULT};
    msg.u.fault.code = code;
    msg.u.fault.text = (struct cellar_bytes){
        (const uint8_t *)all,
        (size_t)len < sizeof(all) ? (size_t)len : sizeof(all) - 1};
    agent->faulted = true;
    finish_fresh(agent);
    cellar_agent_post(agent, &msg);
    cellar_agent_kill_all(agent);
}

void cellar_agent_start_worker(struct cellar_agent *agent)
{
    agent->generation++;
    enum cellar_code code = cellar_worker_spawn(&agent->worker, &agent->hello);
    if (code != CELLAR_OK) {
        fault(agent, CELLAR_FAULT_INTERNAL,
              "starting " CELLAR_LAUNCHER_PATH " failed",
              (struct cellar_bytes){(const uint8_t *)strerror(errno),
                                    strlen(strerror(errno))});
        return;
    }
    struct cellar_worker *worker = &agent->worker;
    cellar_output_open(&agent->output, worker->out, worker->err);
    worker->out = worker->err = -1;
    cellar_usage_attach(&agent->usage, worker->pid);
    cellar_records_await(&agent->records, CELLAR_RECORDS_LAUNCHING);
    agent->boot_end = agent->now + BOOT_US_MAX;
}

/* What an exit status of launcher or bootstrap means. */
static const struct {
    int status;
    enum cellar_fault fault;
} boot_faults[] = {
    {CELLAR_BOOT_NO_PYTHON, CELLAR_FAULT_NO_PYTHON},
    {CELLAR_BOOT_MUSL, CELLAR_FAULT_MUSL},
    {CELLAR_BOOT_OLD_PYTHON, CELLAR_FAULT_OLD_PYTHON},
    {CELLAR_BOOT_EXTENSION, CELLAR_FAULT_EXTENSION},
    {CELLAR_BOOT_SANDBOX, CELLAR_FAULT_SANDBOX},
};

/* A Python 2 does not get as far as telling its version. */
static bool knows_no_isolation(int status, struct cellar_bytes words)
{
    static const char complaint[] = "Unknown option: -I";
    return WIFEXITED(status) && WEXITSTATUS(status) == 2 &&
           memmem(words.data, words.len, complaint, sizeof(complaint) - 1);
}

static void fault_of_boot(struct cellar_agent *agent, int status)
{
    struct cellar_bytes words = cellar_output_tail(&agent->output);
    if (knows_no_isolation(status, words)) {
        fault(agent, CELLAR_FAULT_OLD_PYTHON,
              "the image's python3 is a Python 2; Cellar needs CPython 3.8 or "
              "later",
              (struct cellar_bytes){0});
        return;
    }
    for (size_t i = 0; i < sizeof(boot_faults) / sizeof(boot_faults[0]); i++)
        if (WIFEXITED(status) && WEXITSTATUS(status) == boot_faults[i].status) {
            fault(agent, boot_faults[i].fault, "", words);
            return;
        }
    char text[96];
    if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "the worker was killed by signal %d%s",
                 WTERMSIG(status),
                 cellar_usage_oom(&agent->usage) ? " (out of memory)" : "");
    else
        snprintf(text, sizeof(text), "the worker exited with status %d",
                 WEXITSTATUS(status));
    fault(agent, CELLAR_FAULT_WORKER, text, words);
}

static void died_booting(struct cellar_agent *agent, int status)
{
    cellar_output_end(&agent->output, true);
    (void)cellar_output_drained(&agent->output, &agent->wire, agent->now);
    fault_of_boot(agent, status);
}

/* Whether the worker was given it: one that still waits is not touched by what
 * becomes of this worker. */
static bool has_begun(const struct cellar_cell *cell)
{
    return cell->started > 0;
}

static void died_idle(struct cellar_agent *agent)
{
    if (++agent->deaths > 1) /* of what its last state did, perhaps */
        cellar_copies_thin(&agent->copies, 0);
    if (agent->deaths < DEATHS_MAX)
        cellar_agent_replace_worker(agent);
    else
        fault(agent, CELLAR_FAULT_WORKER,
              "the worker died again and again with no cell to run",
              (struct cellar_bytes){0});
}

/* An END that came but was not dealt with is not believed: a worker that says
 * so and dies has not kept its globals, whatever it says. */
static void died_running(struct cellar_agent *agent, int status,
                         const struct rusage *used)
{
    struct cellar_msg_done *done = &agent->done;
    if (agent->cell.phase == CELLAR_CELL_DRAINING) {
        end_by_kill(agent);
    } else {
        *done = (struct cellar_msg_done){0};
        cellar_cell_end_by_death(&agent->cell, agent->now, status,
                                 cellar_usage_oom(&agent->usage), done);
        cellar_usage_end_by_death(&agent->usage, used, &done->cpu_us,
                                  &done->peak_memory_bytes);
        drain_now(agent);
    }
    cellar_agent_replace_worker(agent);
}

static void on_death(struct cellar_agent *agent,
                     const struct cellar_death *death)
{
    agent->worker.pid = 0;
    if (cellar_agent_wakes(agent))
        cellar_agent_wake_failed(agent);
    else if (!agent->worker.ready)
        died_booting(agent, death->status);
    else if (!has_begun(&agent->cell))
        died_idle(agent);
    else
        died_running(agent, death->status, &death->used);
}

void cellar_agent_reap(struct cellar_agent *agent)
{
    struct cellar_death death;
    struct cellar_death worker = {0};
    while (cellar_processes_reap(&death)) {
        if (death.pid == agent->worker.pid)
            worker = death;
        else if (cellar_copies_died(&agent->copies, death.pid))
            agent->usage.copies--;
    }
    if (worker.pid > 0)
        on_death(agent, &worker);
}

void cellar_agent_reset(struct cellar_agent *agent)
{
    finish_fresh(agent);
    cellar_agent_kill_all(agent);
    cellar_wipe_ipc();
    agent->went = CELLAR_STATE_KEPT;
    agent->deaths = 0;
    agent->faulted = false;
    if (cellar_wipe_directory("/tmp") && cellar_wipe_directory("/dev/shm"))
        cellar_agent_start_worker(agent);
    else
        fault(agent, CELLAR_FAULT_INTERNAL,
              "/tmp or /dev/shm could not be emptied",
              (struct cellar_bytes){0});
}

/* ---------------------------------------------------- what the worker says --
 */

/* Killed for having broken the rules. */
static void end_mute(struct cellar_agent *agent)
{
    agent->mute_end = 0;
    if (cellar_agent_wakes(agent)) {
        cellar_agent_wake_failed(agent);
    } else if (!agent->worker.ready) {
        fault(agent, CELLAR_FAULT_WORKER,
              "what the starting worker said makes no sense",
              cellar_output_tail(&agent->output));
    } else if (!has_begun(&agent->cell)) {
        died_idle(agent);
    } else {
        end_by_kill(agent);
        cellar_agent_replace_worker(agent);
    }
}

/* It broke the rules: nothing it says is listened to any more. The socket stays
 * open: a worker that finds it closed would end as if by its own will. */
void cellar_agent_distrust(struct cellar_agent *agent)
{
    agent->mute_end = agent->now + MUTE_US_MAX;
}

/* Its control socket is at its end: it dies, or has closed the socket. One
 * that runs a cell may go on: it may have become another program, and how
 * that ends, or its timeout, is the cell's ending. */
static void on_hang_up(struct cellar_agent *agent)
{
    cellar_worker_hang_up(&agent->worker);
    cellar_agent_distrust(agent);
    if (agent->cell.phase == CELLAR_CELL_RUNNING)
        agent->mute_end = 0;
}

void cellar_agent_on_worker(struct cellar_agent *agent)
{
    struct cellar_message msg = {.type = CELLAR_MSG_READY};
    msg.u.ready.generation = agent->generation;
    msg.u.ready.python = (struct cellar_bytes){(const uint8_t *)agent->python,
                                               strlen(agent->python)};
    msg.u.ready.landlock_abi = agent->landlock_abi;
    msg.u.ready.seccomp = agent->seccomp;
    agent->boot_end = 0;
    agent->worker.ready = true;
    cellar_worker_find_rank(&agent->worker);
    cellar_worker_rank(&agent->worker, CELLAR_RANK_WORKER);
    cellar_output_idle(&agent->output);
    cellar_agent_post(agent, &msg);
    cellar_agent_start_cell(agent);
}

/* The worker's answer is one write behind its output: pipes that poll()
 * looked at later than at the control socket and found empty hold none. */
static void on_end(struct cellar_agent *agent, const struct cellar_said *said)
{
    if (agent->cell.phase != CELLAR_CELL_RUNNING ||
        said->ticket != agent->cell.ticket) {
        cellar_agent_distrust(agent);
        return;
    }
    struct cellar_msg_done *done = &agent->done;
    *done = (struct cellar_msg_done){0};
    cellar_cell_end(&agent->cell, agent->now, said->outcome, said->exit_status,
                    done);
    cellar_usage_end(&agent->usage, cellar_cell_wall(&agent->cell),
                     &done->cpu_us, &done->peak_memory_bytes);
    agent->deaths = 0;
    cellar_output_end(&agent->output, false);
    if (cellar_output_drained(&agent->output, &agent->wire, agent->now))
        finish(agent);
}

static void on_said(struct cellar_agent *agent, const struct cellar_said *said)
{
    if (said->kind == CELLAR_RECORD_SANDBOX) {
        agent->landlock_abi = said->landlock_abi;
        agent->seccomp = said->seccomp;
    } else if (said->kind == CELLAR_RECORD_READY) {
        memcpy(agent->python, said->python, sizeof(agent->python));
        cellar_agent_on_worker(agent);
    } else if (said->kind == CELLAR_RECORD_AWAKE) {
        agent->generation++;
        cellar_agent_on_awake(agent, said->ping);
    } else {
        on_end(agent, said);
    }
}

/* One read; false when nothing came of it. */
static bool receive(struct cellar_agent *agent)
{
    uint8_t *room = NULL;
    size_t len = 0;
    if (cellar_records_room(&agent->records, &room, &len) != CELLAR_OK) {
        cellar_agent_distrust(agent);
        return false;
    }
    int passed = -1;
    ssize_t n = cellar_worker_receive(&agent->worker, room, len, &passed);
    if (passed >= 0 && agent->records.phase == CELLAR_RECORDS_LAUNCHING)
        cellar_guard_add(&agent->guard, passed);
    else if (passed >= 0)
        close(passed);
    if (n > 0)
        cellar_records_arrived(&agent->records, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        on_hang_up(agent);
    return n > 0;
}

/* A record may have cost the worker its life: then the rest is gone too, and
 * what the next one says is looked at in its turn. */
void cellar_agent_hear_worker(struct cellar_agent *agent)
{
    uint64_t generation = agent->generation;
    enum cellar_code code = CELLAR_OK;
    if (!receive(agent))
        return;
    while (code == CELLAR_OK && agent->generation == generation) {
        struct cellar_said said;
        code = cellar_records_next(&agent->records, &said);
        if (code == CELLAR_OK)
            on_said(agent, &said);
    }
    if (code != CELLAR_OK && code != CELLAR_E_AGAIN)
        cellar_agent_distrust(agent);
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
static void renew_pipes(struct cellar_agent *agent)
{
    struct cellar_worker *worker = &agent->worker;
    bool alone = !agent->output.late && !agent->usage.company;
    if (alone || cellar_worker_renew_pipes(worker) != CELLAR_OK)
        return;
    cellar_output_replace(&agent->output, worker->out, worker->err);
    worker->out = worker->err = -1;
}

void cellar_agent_start_cell(struct cellar_agent *agent)
{
    struct cellar_cell *cell = &agent->cell;
    if (cell->phase != CELLAR_CELL_WAITING)
        return;
    if (agent->faulted) {
        finish_fresh(agent);
        return;
    }
    if (!agent->worker.ready || agent->mute_end > 0)
        return;
    cellar_agent_freeze(agent);
    cellar_output_begin(&agent->output, cell->number, cell->output_max);
    renew_pipes(agent);
    cellar_records_await(&agent->records, CELLAR_RECORDS_RUNNING);
    uint64_t ticket = next_ticket();
    enum cellar_code code = cellar_worker_send_code(
        &agent->worker, cell->number, ticket, &cell->code);
    if (code != CELLAR_OK)
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF, "giving a cell on: %s",
                         cellar_code_text(code));
    cellar_cell_start(cell, agent->now, ticket);
    (void)cellar_worker_flush(&agent->worker);
    /* Last, while the worker wakes up: this costs the cell nothing. */
    cellar_usage_begin(&agent->usage);
}

static void act(struct cellar_agent *agent, enum cellar_cell_action action)
{
    switch (action) {
    case CELLAR_CELL_LEAVE:
        break;
    case CELLAR_CELL_SIGNAL:
        cellar_worker_interrupt(&agent->worker);
        cellar_output_hurry(&agent->output);
        break;
    case CELLAR_CELL_KILL:
        end_by_kill(agent);
        cellar_agent_replace_worker(agent);
        break;
    case CELLAR_CELL_CANCEL:
        end_by_kill(agent);
        cellar_agent_finish_held(agent);
        break;
    }
}

void cellar_agent_interrupt(struct cellar_agent *agent)
{
    act(agent, cellar_cell_interrupt(&agent->cell, agent->now,
                                     agent->hello.grace_ms * 1000));
}

void cellar_agent_tick(struct cellar_agent *agent)
{
    act(agent, cellar_cell_tick(&agent->cell, agent->now,
                                agent->hello.grace_ms * 1000));
    cellar_output_tick(&agent->output, &agent->wire, agent->now);
    cellar_agent_watch_copies(agent);
    if (agent->cell.phase == CELLAR_CELL_DRAINING &&
        cellar_output_drained(&agent->output, &agent->wire, agent->now))
        finish(agent);
    if (agent->mute_end > 0 && agent->now >= agent->mute_end)
        end_mute(agent);
    if (agent->boot_end > 0 && agent->now >= agent->boot_end)
        fault(agent, CELLAR_FAULT_WORKER, "the worker did not become ready",
              cellar_output_tail(&agent->output));
}
