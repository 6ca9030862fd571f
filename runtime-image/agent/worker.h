/*
 * The worker's process: how it is born and spoken to. It is born through the
 * launcher, with exec (a forked child of a non-dumpable process could not set
 * its own oom_score_adj), or is a frozen copy of an earlier one that is woken.
 */
#ifndef CELLAR_AGENT_WORKER_H
#define CELLAR_AGENT_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/buf.h"
#include "proto/message.h"
#include "proto/record.h"

#define CELLAR_LAUNCHER_PATH "/cellar/launcher"

struct cellar_worker {
    pid_t pid;              /* 0: there is none */
    bool ready;             /* it can run cells */
    int control;            /* our end of its control socket, or -1 */
    int out, err;           /* our ends of its pipes, until they are taken */
    int pass[2];            /* its ends of fresh ones, until they are sent */
    int rank_fd;            /* of its place before the OOM killer, or -1 */
    struct cellar_buf todo; /* on its way to the worker */
};

/* Places before the kernel's OOM killer (oom_score_adj): the worker is the
 * first that goes, before the largest copy; and every copy before the agent. */
#define CELLAR_RANK_WORKER 1000
#define CELLAR_RANK_COPY   100

void cellar_worker_init(struct cellar_worker *worker);

/* Starts the launcher with the rlimits and the modules of `hello`. E_SYS with
 * errno. */
enum cellar_code cellar_worker_spawn(struct cellar_worker *worker,
                                     const struct cellar_msg_hello *hello);

/* Makes fresh pipes: our ends in `out` and `err`, its ends go with the next
 * CODE. E_SYS with errno; then nothing is changed. */
enum cellar_code cellar_worker_renew_pipes(struct cellar_worker *worker);

/* Gives the worker a cell; as much as it takes now, the rest by _flush().
 * `kept`: it shall say with its answer whether it can be copied. */
enum cellar_code cellar_worker_send_code(struct cellar_worker *worker,
                                         uint64_t cell, uint64_t ticket,
                                         bool kept,
                                         const struct cellar_buf *code);

/* Has an idle worker fork a copy of itself, that speaks on `socket` and is not
 * its child; the caller closes its own. False: the worker takes no record now.
 */
bool cellar_worker_send_freeze(struct cellar_worker *worker, int socket);

/* The copy `pid` is the worker from now on, on `control`, which is taken, with
 * fresh pipes. On failure (E_SYS, E_NOMEM) close the worker. */
enum cellar_code cellar_worker_wake(struct cellar_worker *worker, pid_t pid,
                                    int control, uint64_t ping,
                                    enum cellar_wake_reason reason);

/* Finds the file of its rank, while it can be found: the launcher set the
 * rank, and nothing in the session can (Landlock). */
void cellar_worker_find_rank(struct cellar_worker *worker);
void cellar_worker_rank(const struct cellar_worker *worker, unsigned rank);

/* As recv(2) of what the worker says, which doesn't wait; *passed is a
 * descriptor that came with it, the caller's to close, or -1. */
ssize_t cellar_worker_receive(const struct cellar_worker *worker, void *room,
                              size_t len, int *passed);

/* False when the control socket is dead. */
bool cellar_worker_flush(struct cellar_worker *worker);

/* Closes our end of the control socket. */
void cellar_worker_hang_up(struct cellar_worker *worker);

/* SIGINT to the worker alone: its children are its own business. */
void cellar_worker_interrupt(const struct cellar_worker *worker);

/* Closes what is left of a dead worker's ends. */
void cellar_worker_close(struct cellar_worker *worker);

#endif
