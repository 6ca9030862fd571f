/*
 * The control socket: how another process of the same user asks the one that
 * has a session for what only it can do. One line in ("interrupt", "reset",
 * "leave" or "copies"), one line out ("ok"; of copies "2 1048576", how many
 * there are and the bytes they hold, or "no"). The socket lies in the session's
 * directory, which only its owner may enter.
 */
#ifndef CELLAR_KERNEL_CONTROL_H
#define CELLAR_KERNEL_CONTROL_H

#include "cellar/cellar.h"
#include "cellar/error.h"
#include "loop.h"
#include "record.h"

struct cellar_control;

enum cellar_request {
    CELLAR_REQUEST_INTERRUPT,
    CELLAR_REQUEST_RESET,
    CELLAR_REQUEST_LEAVE, /* end, and leave the container to others */
    CELLAR_REQUEST_COPIES /* answered by cellar_control_copies() */
};

/* Listens in the directory of a session held; `ask` is called for each
 * request. */
enum cellar_code
cellar_control_new(struct cellar_loop *loop, const struct cellar_hold *hold,
                   void (*ask)(void *user, enum cellar_request request),
                   void *user, struct cellar_control **out,
                   struct cellar_error *err);
void cellar_control_free(struct cellar_control *control); /* NULL is fine */

/* Answers who asked for copies last, if he still waits. `moment` NULL: it can't
 * be told. */
void cellar_control_copies(struct cellar_control *control,
                           const struct cellar_moment *moment);

/* Asks the process that has `name`; waits at most 5 s. E_NOT_FOUND when none
 * listens. Copies have a call of their own. */
enum cellar_code cellar_control_ask(const char *state_dir, const char *name,
                                    enum cellar_request request,
                                    struct cellar_error *err);
/* Its copies; E_AGAIN: it can't tell now. */
enum cellar_code cellar_control_ask_copies(const char *state_dir,
                                           const char *name,
                                           struct cellar_moment *moment,
                                           struct cellar_error *err);

#endif
