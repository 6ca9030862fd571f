/*
 * A front end at work: what every command shares. The supervisor it opened,
 * the one session it uses, where it prints, and how it waits, so that Ctrl-C,
 * SIGTERM and a closed stdout end it with nothing left behind.
 *
 *     if (cellar_front_open(front) || cellar_front_start(front, &spec))
 *         return cellar_front_fail(front);
 *     ... cellar_front_run(front, &cell, &result) ...
 *     return CELLAR_EXIT_OK;           main() calls cellar_front_done()
 *
 * Calls that fail leave the reason in front->err.
 */
#ifndef CELLAR_CLI_FRONT_H
#define CELLAR_CLI_FRONT_H

#include <stdbool.h>

#include "cellar/cellar.h"
#include "options.h"
#include "output.h"

/* Exit statuses. A signal that ended the command gives 128 and its number. */
enum cellar_exit {
    CELLAR_EXIT_OK = 0,     /* all cells ended ok */
    CELLAR_EXIT_CELL = 1,   /* a cell did not */
    CELLAR_EXIT_USAGE = 2,  /* the command line, a file or code is wrong */
    CELLAR_EXIT_FAILED = 3, /* Cellar or the engine failed */
    CELLAR_EXIT_SIGNAL = 128
};

/* How streamed output of the running cell is shown. */
enum cellar_show {
    CELLAR_SHOW_NOTHING, /* --json */
    CELLAR_SHOW_ON_OUT,  /* both streams on stdout, as a notebook does */
    CELLAR_SHOW_APART    /* each on its own */
};

struct cellar_front {
    struct cellar_options options;
    const char *command; /* its name, for hints; NULL before it is known */
    unsigned on;         /* its bit, of enum cellar_on */
    struct cellar_output out;
    struct cellar_output err_out;
    enum cellar_show show;
    bool patient; /* the REPL: a second Ctrl-C doesn't end the command */
    /* While the user types: puts the prompt below what was printed amid it.
     * Else NULL. */
    void (*redraw)(void *user);
    void *redraw_user;
    uint64_t began_us;
    struct cellar *c;
    struct cellar_session *session;
    bool ends; /* the session ends with the command */
    struct cellar_error err;
    int quit; /* the exit status, once there was a reason to give up */

    /* The one call under way. Here and not on a stack: its end may come as
     * late as cellar_free(), when the command has given up on it. */
    bool waiting;
    bool running; /* it is a cell, which the first Ctrl-C interrupts */
    struct cellar_result *result;
};

/* Sets all fields; asks nothing of anybody. */
void cellar_front_init(struct cellar_front *front);

/* Ends or lets go of the session, closes the supervisor, and returns the exit
 * status: `status`, or what went wrong at the end. */
int cellar_front_done(struct cellar_front *front, int status);

/* Opens the supervisor, for commands that only ask. What it warns of goes to
 * stderr; so does, for a command that runs cells, what ended unattended. */
enum cellar_code cellar_front_open(struct cellar_front *front);

/* As cellar_start_async(); with --pool a ready session is taken where there is
 * one, and cellar_background_refill() is to follow. */
enum cellar_code cellar_front_begin(struct cellar_front *front,
                                    const struct cellar_spec *spec,
                                    cellar_session_fn *done, void *user,
                                    struct cellar_error *err);

/* Starts a session, or adopts the live one called `name`, and catches signals
 * from then on. E_AGAIN: a signal came; cellar_front_quit() has the status. */
enum cellar_code cellar_front_start(struct cellar_front *front,
                                    const struct cellar_spec *spec);
enum cellar_code cellar_front_adopt(struct cellar_front *front,
                                    const char *name);

/* Runs a cell of `code` to its end, showing its output as it comes. The first
 * Ctrl-C interrupts it. E_AGAIN as above: the command is to end. The result
 * is the caller's. `timeout_ms` as in struct cellar_cell. */
enum cellar_code cellar_front_run(struct cellar_front *front, const char *code,
                                  size_t len, uint64_t timeout_ms,
                                  struct cellar_result **out);

/* Waits until all that was printed is written, the event loop running. A
 * Ctrl-C ends the waiting and throws the rest away. */
void cellar_front_flush(struct cellar_front *front);

/* Runs the event loop for `ms`; false when a signal, or a stdout that can't be
 * written any more, came before. */
bool cellar_front_pause(struct cellar_front *front, uint64_t ms);

/* One turn of the event loop, and of what waits to be written. */
void cellar_front_turn(struct cellar_front *front);

/* Runs the event loop while the user thinks; returns true when `fd` has
 * something to read, false when a signal came. */
bool cellar_front_idle(struct cellar_front *front, int fd);

/* The exit status that a signal or a dead stdout asks for; 0: go on. */
int cellar_front_quit(const struct cellar_front *front);

/* Prints front->err, if no signal explains the failure, and returns the exit
 * status for it. */
int cellar_front_fail(struct cellar_front *front);
/* The same of what a session has refused: the command line was right. */
int cellar_front_refused(struct cellar_front *front);

/* Prints a usage error and where help is. Returns CELLAR_EXIT_USAGE. */
int cellar_front_usage(struct cellar_front *front, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* One line for --verbose: with the time since the command began. */
void cellar_front_log(struct cellar_front *front, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
