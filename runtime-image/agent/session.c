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

static void post(struct cellar_agent *agent, struct cellar_message *msg)
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

/* DONE. An ending that kept the globals still tells of those that went before
 * it, with a worker that died between two cells. */
static void finish(struct cellar_agent *agent)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DONE,
                                 .cell = agent->cell.number,
                                 .u.done = agent->done};
    struct cellar_msg_done *done = &msg.u.done;
    fill_answer(agent, done);
    done->dropped_stdout = agent->output.dropped[0];
    done->dropped_stderr = agent->output.dropped[1];
    done->wall_us = cellar_cell_wall(&agent->cell);
    if (done->limit == CELLAR_LIMIT_NONE &&
        (done->dropped_stdout > 0 || done->dropped_stderr > 0))
        done->limit = CELLAR_LIMIT_OUTPUT;
    if (agent->lost)
        done->state = CELLAR_STATE_FRESH;
    agent->lost = false;
    post(agent, &msg);
    if (agent->cell.started > 0) {
        cellar_records_await(&agent->records, CELLAR_RECORDS_IDLE);
        cellar_output_idle(&agent->output);
    }
    cellar_cell_clear(&agent->cell);
}

/* What the pipes still hold goes out, as far as there is room: the processes
 * are dead or about to be, nothing is left to wait for. */
static void finish_now(struct cellar_agent *agent)
{
    if (agent->cell.started > 0) {
        cellar_output_end(&agent->output, true);
        if (!cellar_output_drained(&agent->output, &agent->wire, agent->now))
            agent->output.left = 0;
        (void)cellar_output_drained(&agent->output, &agent->wire, agent->now);
    }
    finish(agent);
}

/* Ends the cell, if there is one, by the agent's own hand. The host hears of
 * it before the killing starts. */
static void finish_by_kill(struct cellar_agent *agent)
{
    struct cellar_msg_done *done = &agent->done;
    switch (agent->cell.phase) {
    case CELLAR_CELL_NONE:
        return;
    case CELLAR_CELL_DRAINING:
        done->state = CELLAR_STATE_FRESH;
        break;
    case CELLAR_CELL_WAITING:
    case CELLAR_CELL_RUNNING:
        *done = (struct cellar_msg_done){0};
        cellar_cell_end_by_kill(&agent->cell, agent->now, done);
        if (agent->cell.started > 0)
            cellar_usage_end(&agent->usage, cellar_cell_wall(&agent->cell),
                             &done->cpu_us, &done->peak_memory_bytes);
        break;
    }
    finish_now(agent);
    cellar_wire_flush(&agent->wire);
}

/* --------------------------------------------------------------- workers -- */

void cellar_agent_kill_all(struct cellar_agent *agent)
{
    if (!cellar_worker_kill_all(&agent->worker))
        cellar_agent_die(CELLAR_AGENT_EXIT_SELF,
                         "a process of the session can't be killed");
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
    finish_by_kill(agent);
    post(agent, &msg);
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

static void replace_worker(struct cellar_agent *agent)
{
    cellar_agent_kill_all(agent);
    cellar_agent_start_worker(agent);
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
    agent->lost = true;
    if (++agent->deaths < DEATHS_MAX)
        replace_worker(agent);
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
        done->state = CELLAR_STATE_FRESH;
    } else {
        *done = (struct cellar_msg_done){0};
        cellar_cell_end_by_death(&agent->cell, agent->now, status,
                                 cellar_usage_oom(&agent->usage), done);
        cellar_usage_end_by_death(&agent->usage, used, &done->cpu_us,
                                  &done->peak_memory_bytes);
    }
    finish_now(agent);
    cellar_wire_flush(&agent->wire);
    replace_worker(agent);
}

void cellar_agent_reap(struct cellar_agent *agent)
{
    int status = 0;
    struct rusage used = {0};
    if (!cellar_worker_reap(&agent->worker, &status, &used))
        return;
    if (!agent->worker.ready)
        died_booting(agent, status);
    else if (!has_begun(&agent->cell))
        died_idle(agent);
    else
        died_running(agent, status, &used);
}

void cellar_agent_reset(struct cellar_agent *agent)
{
    finish_by_kill(agent);
    cellar_agent_kill_all(agent);
    cellar_wipe_ipc();
    agent->lost = false;
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
    if (!agent->worker.ready) {
        fault(agent, CELLAR_FAULT_WORKER,
              "what the starting worker said makes no sense",
              cellar_output_tail(&agent->output));
    } else if (!has_begun(&agent->cell)) {
        died_idle(agent);
    } else {
        finish_by_kill(agent);
        replace_worker(agent);
    }
}

/* It broke the rules: nothing it says is listened to any more. The socket stays
 * open: a worker that finds it closed would end as if by its own will. */
static void distrust(struct cellar_agent *agent)
{
    agent->mute_end = agent->now + MUTE_US_MAX;
}

/* Its control socket is at its end: it dies, or has closed the socket. One
 * that runs a cell may go on: it may have become another program, and how
 * that ends, or its timeout, is the cell's ending. */
static void on_hang_up(struct cellar_agent *agent)
{
    cellar_worker_hang_up(&agent->worker);
    distrust(agent);
    if (agent->cell.phase == CELLAR_CELL_RUNNING)
        agent->mute_end = 0;
}

static void on_ready(struct cellar_agent *agent, const char *python)
{
    struct cellar_message msg = {.type = CELLAR_MSG_READY};
    msg.u.ready.generation = agent->generation;
    msg.u.ready.python =
        (struct cellar_bytes){(const uint8_t *)python, strlen(python)};
    msg.u.ready.landlock_abi = agent->landlock_abi;
    msg.u.ready.seccomp = agent->seccomp;
    agent->boot_end = 0;
    agent->worker.ready = true;
    cellar_output_idle(&agent->output);
    post(agent, &msg);
    cellar_agent_start_cell(agent);
}

/* The worker's answer is one write behind its output: pipes that poll()
 * looked at later than at the control socket and found empty hold none. */
static void on_end(struct cellar_agent *agent, const struct cellar_said *said)
{
    if (agent->cell.phase != CELLAR_CELL_RUNNING ||
        said->ticket != agent->cell.ticket) {
        distrust(agent);
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
        on_ready(agent, said->python);
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
        distrust(agent);
        return false;
    }
    ssize_t n = recv(agent->worker.control, room, len, MSG_DONTWAIT);
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
        distrust(agent);
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
        finish_by_kill(agent);
        return;
    }
    if (!agent->worker.ready || agent->mute_end > 0)
        return;
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
        finish_by_kill(agent);
        replace_worker(agent);
        break;
    case CELLAR_CELL_CANCEL:
        finish_by_kill(agent);
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
    if (agent->cell.phase == CELLAR_CELL_DRAINING &&
        cellar_output_drained(&agent->output, &agent->wire, agent->now))
        finish(agent);
    if (agent->mute_end > 0 && agent->now >= agent->mute_end)
        end_mute(agent);
    if (agent->boot_end > 0 && agent->now >= agent->boot_end)
        fault(agent, CELLAR_FAULT_WORKER, "the worker did not become ready",
              cellar_output_tail(&agent->output));
}
