#include "cell.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* A worker that was given its code this short a time ago may not be running it
 * yet, and takes a SIGINT for one of the cell before: it gets a second one. */
#define EARLY_US 20000u
#define AGAIN_US 100000u

void cellar_cell_init(struct cellar_cell *cell)
{
    *cell = (struct cellar_cell){.phase = CELLAR_CELL_NONE};
    cellar_buf_init(&cell->code, CELLAR_CODE_MAX);
}

void cellar_cell_done(struct cellar_cell *cell)
{
    cellar_buf_done(&cell->code);
}

void cellar_cell_clear(struct cellar_cell *cell)
{
    cellar_buf_reset(&cell->code);
    cell->phase = CELLAR_CELL_NONE;
    cell->number = 0;
    cell->started = 0;
    cell->ended = 0;
    cell->deadline = 0;
    cell->kill_at = 0;
    cell->again_at = 0;
    cell->interrupted = false;
    cell->timed_out = false;
    cell->kept = false;
}

enum cellar_code cellar_cell_accept(struct cellar_cell *cell, uint64_t number,
                                    const struct cellar_msg_run *run)
{
    if (cell->phase != CELLAR_CELL_NONE || number <= cell->last)
        return CELLAR_E_PROTO;
    enum cellar_code code =
        cellar_buf_append(&cell->code, run->code.data, run->code.len);
    if (code != CELLAR_OK)
        return code;
    cell->phase = CELLAR_CELL_WAITING;
    cell->number = number;
    cell->last = number;
    cell->timeout_us = run->timeout_ms * 1000;
    cell->output_max = run->output_max;
    return CELLAR_OK;
}

void cellar_cell_start(struct cellar_cell *cell, uint64_t now, uint64_t ticket)
{
    cellar_buf_reset(&cell->code);
    cell->phase = CELLAR_CELL_RUNNING;
    cell->started = now;
    cell->ticket = ticket;
    cell->deadline = cell->timeout_us > 0 ? now + cell->timeout_us : 0;
}

static enum cellar_cell_action signal_it(struct cellar_cell *cell, uint64_t now,
                                         uint64_t grace)
{
    if (cell->kill_at == 0)
        cell->kill_at = now + grace;
    if (now - cell->started < EARLY_US)
        cell->again_at = now + AGAIN_US;
    return CELLAR_CELL_SIGNAL;
}

enum cellar_cell_action cellar_cell_interrupt(struct cellar_cell *cell,
                                              uint64_t now, uint64_t grace)
{
    bool waits = cell->phase == CELLAR_CELL_WAITING;
    if (!waits && cell->phase != CELLAR_CELL_RUNNING)
        return CELLAR_CELL_LEAVE;
    cell->interrupted = true;
    return waits ? CELLAR_CELL_CANCEL : signal_it(cell, now, grace);
}

/* Whether `when` is a time that has come; it comes once. */
static bool comes(uint64_t *when, uint64_t now)
{
    if (*when == 0 || now < *when)
        return false;
    *when = 0;
    return true;
}

enum cellar_cell_action cellar_cell_tick(struct cellar_cell *cell, uint64_t now,
                                         uint64_t grace)
{
    if (cell->phase != CELLAR_CELL_RUNNING)
        return CELLAR_CELL_LEAVE;
    if (comes(&cell->kill_at, now))
        return CELLAR_CELL_KILL;
    if (comes(&cell->deadline, now)) {
        cell->timed_out = true;
        return signal_it(cell, now, grace);
    }
    return comes(&cell->again_at, now) ? CELLAR_CELL_SIGNAL : CELLAR_CELL_LEAVE;
}

uint64_t cellar_cell_due(const struct cellar_cell *cell)
{
    const uint64_t times[] = {cell->kill_at, cell->deadline, cell->again_at};
    uint64_t due = 0;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        if (times[i] > 0 && (due == 0 || times[i] < due))
            due = times[i];
    return cell->phase == CELLAR_CELL_RUNNING ? due : 0;
}

/* ----------------------------------------------------------- how it ended --
 */

static void verdict(struct cellar_msg_done *done, enum cellar_status status,
                    uint64_t code)
{
    done->status = status;
    done->state = CELLAR_STATE_KEPT;
    done->code = code;
    done->limit = CELLAR_LIMIT_NONE;
    if (status == CELLAR_STATUS_TIMEOUT)
        done->limit = CELLAR_LIMIT_TIMEOUT;
    if (status == CELLAR_STATUS_OUT_OF_MEMORY)
        done->limit = CELLAR_LIMIT_MEMORY;
}

/* A worker that was interrupted may still end its cell as it likes; one that
 * ran into its timeout has had its time, whatever it says. An interrupt that
 * nobody asked for is an exception like any other. */
static enum cellar_status status_of(const struct cellar_cell *cell,
                                    enum cellar_outcome outcome)
{
    if (cell->timed_out)
        return CELLAR_STATUS_TIMEOUT;
    switch (outcome) {
    case CELLAR_OUTCOME_OK:
        return CELLAR_STATUS_OK;
    case CELLAR_OUTCOME_EXIT:
        return CELLAR_STATUS_EXITED;
    case CELLAR_OUTCOME_INTERRUPTED:
        return cell->interrupted ? CELLAR_STATUS_INTERRUPTED
                                 : CELLAR_STATUS_ERROR;
    case CELLAR_OUTCOME_ERROR:
        break;
    }
    return CELLAR_STATUS_ERROR;
}

void cellar_cell_end(struct cellar_cell *cell, uint64_t now,
                     enum cellar_outcome outcome, uint32_t exit_status,
                     struct cellar_msg_done *done)
{
    enum cellar_status status = status_of(cell, outcome);
    cell->phase = CELLAR_CELL_DRAINING;
    cell->ended = now;
    /* As the system gives exit statuses on: the low eight bits. */
    verdict(done, status,
            status == CELLAR_STATUS_EXITED ? exit_status & 0xff : 0);
}

void cellar_cell_end_by_death(struct cellar_cell *cell, uint64_t now,
                              int status, bool oom,
                              struct cellar_msg_done *done)
{
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    cell->phase = CELLAR_CELL_HELD;
    cell->ended = now;
    if (cell->timed_out)
        verdict(done, CELLAR_STATUS_TIMEOUT, 0);
    else if (cell->interrupted && signal == SIGINT)
        verdict(done, CELLAR_STATUS_INTERRUPTED, 0);
    else if (signal == SIGKILL && oom)
        verdict(done, CELLAR_STATUS_OUT_OF_MEMORY, 0);
    else if (signal > 0)
        verdict(done, CELLAR_STATUS_KILLED, (uint64_t)signal);
    else
        verdict(done, CELLAR_STATUS_EXITED, (uint64_t)WEXITSTATUS(status));
}

void cellar_cell_end_by_kill(struct cellar_cell *cell, uint64_t now,
                             struct cellar_msg_done *done)
{
    cell->phase = CELLAR_CELL_HELD;
    cell->ended = now;
    if (cell->timed_out)
        verdict(done, CELLAR_STATUS_TIMEOUT, 0);
    else if (cell->interrupted)
        verdict(done, CELLAR_STATUS_INTERRUPTED, 0);
    else
        verdict(done, CELLAR_STATUS_KILLED, SIGKILL);
}

uint64_t cellar_cell_wall(const struct cellar_cell *cell)
{
    return cell->started > 0 ? cell->ended - cell->started : 0;
}
