/*
 * Ctrl-C and the signals that end a command, for commands that wait on a
 * session. A handler only counts and wakes the event loop; what it means is
 * decided where the command waits (front.h).
 *
 * One per process: signals are.
 */
#ifndef CELLAR_CLI_SIGNALS_H
#define CELLAR_CLI_SIGNALS_H

#include "cellar/cellar.h"

/* Catches SIGINT, SIGTERM and SIGHUP from now on; those that were ignored
 * from the start (nohup) stay so. Each wakes cellar_dispatch() of `c`, the one
 * supervisor of the process. Nothing more happens when called again. */
enum cellar_code cellar_signals_catch(struct cellar *c,
                                      struct cellar_error *err);

/* Gives them back to the system; before cellar_free(). */
void cellar_signals_release(void);

/* The session whose cell a SIGINT interrupts from now on; NULL: none. It must
 * stay until it is replaced. */
void cellar_signals_aim(struct cellar_session *session);

/* SIGINTs since the last _forget. */
unsigned cellar_signals_count(void);
void cellar_signals_forget(void);

/* SIGTERM or SIGHUP once one came, else 0. */
int cellar_signals_quit(void);

#endif
