/*
 * The cell: the one that waits or runs, what it is allowed, and how it ended.
 * The agent decides that; the worker only supplies text. Pure: time and wait
 * statuses come in from outside.
 *
 *     cellar_cell_accept()       a RUN came: WAITING, for a worker
 *     cellar_cell_start()        its code went to the worker: RUNNING
 *     cellar_cell_interrupt(), cellar_cell_tick()   say what to do to it
 *     cellar_cell_end()          the worker said END: DRAINING
 *     cellar_cell_end_by_death() the worker died: HELD
 *     cellar_cell_end_by_kill()  the agent takes the worker's life: HELD
 *     cellar_cell_clear()        DONE is out: NONE
 *
 * Each of the three ends fills status, code and limit of `done`, and KEPT as
 * its state: what became of the globals of a dead worker is not the cell's to
 * say.
 */
#ifndef CELLAR_AGENT_CELL_H
#define CELLAR_AGENT_CELL_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/message.h"
#include "proto/record.h"

enum cellar_cell_phase {
    CELLAR_CELL_NONE,
    CELLAR_CELL_WAITING,
    CELLAR_CELL_RUNNING,
    CELLAR_CELL_DRAINING, /* ended; its last output still is in the pipes */
    CELLAR_CELL_HELD      /* ended with its worker; what became of the globals
                             is not known yet */
};

/* What shall be done. */
enum cellar_cell_action {
    CELLAR_CELL_LEAVE,
    CELLAR_CELL_SIGNAL, /* send the worker SIGINT */
    CELLAR_CELL_KILL,   /* kill the worker; end the cell by that */
    CELLAR_CELL_CANCEL  /* it never started: only end it */
};

/* Times are microseconds of the monotonic clock; 0: none. */
struct cellar_cell {
    enum cellar_cell_phase phase;
    uint64_t number;
    uint64_t ticket; /* what the worker's END must give back */
    uint64_t last;   /* the highest number ever accepted */
    uint64_t timeout_us;
    uint64_t output_max;
    uint64_t started;
    uint64_t ended;
    uint64_t deadline; /* of the timeout */
    uint64_t kill_at;  /* end of the grace time */
    uint64_t again_at; /* of a SIGINT that may have come too early */
    bool interrupted;
    bool timed_out;
    bool kept;              /* its globals are to be copied when it has ended */
    struct cellar_buf code; /* while WAITING */
};

void cellar_cell_init(struct cellar_cell *cell);
void cellar_cell_done(struct cellar_cell *cell);

/* Copies the code. E_PROTO when a cell is there already or the number isn't
 * above all earlier ones: no cell may ever run twice. E_NOMEM. */
enum cellar_code cellar_cell_accept(struct cellar_cell *cell, uint64_t number,
                                    const struct cellar_msg_run *run);

/* The timeout counts from here. The code is forgotten. */
void cellar_cell_start(struct cellar_cell *cell, uint64_t now, uint64_t ticket);

/* LEAVE when it has ended. The grace time counts from the first interrupt. */
enum cellar_cell_action cellar_cell_interrupt(struct cellar_cell *cell,
                                              uint64_t now, uint64_t grace);

/* What is due at `now`, and when to ask again (0: never). */
enum cellar_cell_action cellar_cell_tick(struct cellar_cell *cell, uint64_t now,
                                         uint64_t grace);
uint64_t cellar_cell_due(const struct cellar_cell *cell);

/* The worker's word for it, corrected by what the agent knows. */
void cellar_cell_end(struct cellar_cell *cell, uint64_t now,
                     enum cellar_outcome outcome, uint32_t exit_status,
                     struct cellar_msg_done *done);

/* `status` as from wait(2); `oom`: the kernel killed for memory meanwhile. */
void cellar_cell_end_by_death(struct cellar_cell *cell, uint64_t now,
                              int status, bool oom,
                              struct cellar_msg_done *done);

/* SIGKILL by the agent: for timeout or interrupt, else because of a reset or
 * a worker that broke the rules. Also of a cell that waits. */
void cellar_cell_end_by_kill(struct cellar_cell *cell, uint64_t now,
                             struct cellar_msg_done *done);

/* From start to end. */
uint64_t cellar_cell_wall(const struct cellar_cell *cell);

/* The cell is over; the next may come. */
void cellar_cell_clear(struct cellar_cell *cell);

#endif
