/*
 * The event loop: timers, descriptors, a wake-up from other threads. The one
 * file that knows libuv. Objects are embedded nowhere: the loop owns them
 * until their close call, since libuv lets go of a handle only later.
 */
#ifndef CELLAR_KERNEL_LOOP_H
#define CELLAR_KERNEL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "cellar/error.h"

struct cellar_loop;
struct cellar_timer;
struct cellar_watch;
struct cellar_wake;

enum { CELLAR_READABLE = 1, CELLAR_WRITABLE = 2 };

enum cellar_code cellar_loop_new(struct cellar_loop **out,
                                 struct cellar_error *err);
/* Everything on it must have been closed. NULL is fine. */
void cellar_loop_free(struct cellar_loop *loop);

/* Runs callbacks that are due, waiting at most timeout_ms for one (negative:
 * for ever). Returns whether anything could still come: a timer or a watch is
 * set, or a wake is open. When nothing could, it doesn't wait for ever. */
bool cellar_loop_run(struct cellar_loop *loop, int timeout_ms);
/* For a loop around this one: a descriptor that polls readable when
 * cellar_loop_run() has work, and how long such a poll may wait (ms; negative:
 * for ever; 0: run first). Ask again after every call that touched the loop. */
int cellar_loop_fd(const struct cellar_loop *loop);
int cellar_loop_timeout(const struct cellar_loop *loop);

/* Monotonic, microseconds; read anew at each call. */
uint64_t cellar_loop_now_us(void);

/* A timer that is not set yet. _set replaces what was set; fires once. Does
 * not keep cellar_loop_run() waiting by itself when unset. */
enum cellar_code cellar_timer_new(struct cellar_loop *loop,
                                  void (*fire)(void *user), void *user,
                                  struct cellar_timer **out,
                                  struct cellar_error *err);
void cellar_timer_set(struct cellar_timer *timer, uint64_t ms);
void cellar_timer_unset(struct cellar_timer *timer);
void cellar_timer_close(struct cellar_timer *timer); /* NULL is fine */

/* Watches a descriptor, level-triggered, until closed. Borrows `fd`: close
 * the watch before the descriptor. Events: CELLAR_READABLE | _WRITABLE; an
 * error or hang-up on the descriptor is reported as what was asked for. */
enum cellar_code cellar_watch_new(struct cellar_loop *loop, int fd,
                                  void (*ready)(void *user, int events),
                                  void *user, struct cellar_watch **out,
                                  struct cellar_error *err);
enum cellar_code cellar_watch_set(struct cellar_watch *watch, int events);
void cellar_watch_close(struct cellar_watch *watch); /* NULL is fine */

/* Calls `wake` on the loop some time after cellar_wake_signal(), which may be
 * called from any thread or signal handler. */
enum cellar_code cellar_wake_new(struct cellar_loop *loop,
                                 void (*wake)(void *user), void *user,
                                 struct cellar_wake **out,
                                 struct cellar_error *err);
void cellar_wake_signal(struct cellar_wake *wake);
void cellar_wake_close(struct cellar_wake *wake); /* NULL is fine */

#endif
