/*
 * The worker's process: how it is born (through the launcher, with exec: a
 * forked child of a non-dumpable process could not set its own
 * oom_score_adj), spoken to, and killed with all that it left behind.
 */
#ifndef CELLAR_AGENT_WORKER_H
#define CELLAR_AGENT_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/buf.h"
#include "proto/message.h"

#define CELLAR_LAUNCHER_PATH "/cellar/launcher"

struct rusage;

struct cellar_worker {
    pid_t pid;              /* 0: there is none */
    bool ready;             /* it can run cells */
    int control;            /* our end of its control socket, or -1 */
    int out, err;           /* our ends of its pipes, until they are taken */
    int pass[2];            /* its ends of fresh ones, until they are sent */
    struct cellar_buf todo; /* on its way to the worker */
};

void cellar_worker_init(struct cellar_worker *worker);

/* Starts the launcher with the rlimits of `hello`. E_SYS with errno. */
enum cellar_code cellar_worker_spawn(struct cellar_worker *worker,
                                     const struct cellar_msg_hello *hello);

/* Makes fresh pipes: our ends in `out` and `err`, its ends go with the next
 * CODE. E_SYS with errno; then nothing is changed. */
enum cellar_code cellar_worker_renew_pipes(struct cellar_worker *worker);

/* Gives the worker a cell; as much as it takes now, the rest by _flush(). */
enum cellar_code cellar_worker_send_code(struct cellar_worker *worker,
                                         uint64_t cell, uint64_t ticket,
                                         const struct cellar_buf *code);

/* False when the control socket is dead. */
bool cellar_worker_flush(struct cellar_worker *worker);

/* Closes our end of the control socket. */
void cellar_worker_hang_up(struct cellar_worker *worker);

/* SIGINT to the worker alone: its children are its own business. */
void cellar_worker_interrupt(const struct cellar_worker *worker);

/* Reaps what has died. True when the worker is among it, with its wait status
 * and what it used. */
bool cellar_worker_reap(struct cellar_worker *worker, int *status,
                        struct rusage *used);

/* Kills and reaps every process of the container but this one. Fork bombs
 * lose: nothing can fork between a kill(-1) that hit it and its death. False
 * after some seconds in which something could not be killed. */
bool cellar_worker_kill_all(struct cellar_worker *worker);

/* Closes what is left of a dead worker's ends. */
void cellar_worker_close(struct cellar_worker *worker);

#endif
