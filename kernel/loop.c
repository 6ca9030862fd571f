#include "loop.h"

#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "fail.h"

/* `limit` bounds how long one cellar_loop_run() waits. `changed`: a watch was
 * set since libuv last told the kernel, which it does only inside uv_run(). */
struct cellar_loop {
    uv_loop_t uv;
    uv_timer_t limit;
    bool changed;
};

struct cellar_timer {
    uv_timer_t uv;
    void (*fire)(void *user);
    void *user;
};

struct cellar_watch {
    uv_poll_t uv;
    struct cellar_loop *loop;
    int events;
    void (*ready)(void *user, int events);
    void *user;
};

struct cellar_wake {
    uv_async_t uv;
    void (*wake)(void *user);
    void *user;
};

static enum cellar_code fail_uv(struct cellar_error *err, int status,
                                const char *what)
{
    return cellar_fail_errno(err, -status, "%s", what);
}

/* All handles are the first member of their struct, and on the heap. */
static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

/* ---------------------------------------------------------------- loop -- */

enum cellar_code cellar_loop_new(struct cellar_loop **out,
                                 struct cellar_error *err)
{
    CELLAR_AUTO_FREE struct cellar_loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return cellar_fail(err, CELLAR_E_NOMEM, "event loop: out of memory");
    int status = uv_loop_init(&loop->uv);
    if (status)
        return fail_uv(err, status, "event loop");
    uv_timer_init(&loop->uv, &loop->limit);
    *out = CELLAR_TAKE(loop);
    return CELLAR_OK;
}

void cellar_loop_free(struct cellar_loop *loop)
{
    if (!loop)
        return;
    uv_close((uv_handle_t *)&loop->limit, NULL);
    /* Lets the close callbacks run that free the handles. */
    while (uv_run(&loop->uv, UV_RUN_NOWAIT))
        ;
    uv_loop_close(&loop->uv);
    free(loop);
}

/* Before the loop waits, too, where what was due already took so long: without
 * the stop it would then wait for whatever comes next. */
static void limit_reached(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

bool cellar_loop_run(struct cellar_loop *loop, int timeout_ms)
{
    loop->changed = false;
    if (timeout_ms > 0) {
        uv_update_time(&loop->uv);
        uv_timer_start(&loop->limit, limit_reached, (uint64_t)timeout_ms, 0);
    }
    uv_run(&loop->uv, timeout_ms ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    if (timeout_ms > 0)
        uv_timer_stop(&loop->limit);
    return uv_loop_alive(&loop->uv);
}

int cellar_loop_fd(const struct cellar_loop *loop)
{
    return uv_backend_fd(&loop->uv);
}

int cellar_loop_timeout(const struct cellar_loop *loop)
{
    return loop->changed ? 0 : uv_backend_timeout(&loop->uv);
}

uint64_t cellar_loop_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* -------------------------------------------------------------- timers -- */

static void timer_fired(uv_timer_t *handle)
{
    struct cellar_timer *timer = (struct cellar_timer *)handle;
    timer->fire(timer->user);
}

enum cellar_code cellar_timer_new(struct cellar_loop *loop,
                                  void (*fire)(void *user), void *user,
                                  struct cellar_timer **out,
                                  struct cellar_error *err)
{
    struct cellar_timer *timer = calloc(1, sizeof(*timer));
    if (!timer)
        return cellar_fail(err, CELLAR_E_NOMEM, "timer: out of memory");
    timer->fire = fire;
    timer->user = user;
    uv_timer_init(&loop->uv, &timer->uv);
    *out = timer;
    return CELLAR_OK;
}

void cellar_timer_set(struct cellar_timer *timer, uint64_t ms)
{
    /* libuv counts from when it last looked at the clock, which a long
     * callback may have left far behind: the timer would fire early. */
    uv_update_time(timer->uv.loop);
    uv_timer_start(&timer->uv, timer_fired, ms, 0);
}

void cellar_timer_unset(struct cellar_timer *timer)
{
    uv_timer_stop(&timer->uv);
}

void cellar_timer_close(struct cellar_timer *timer)
{
    if (timer)
        uv_close((uv_handle_t *)&timer->uv, free_handle);
}

/* ------------------------------------------------------------- watches -- */

static void watch_ready(uv_poll_t *handle, int status, int uv_events)
{
    struct cellar_watch *watch = (struct cellar_watch *)handle;
    int events = (uv_events & UV_READABLE ? CELLAR_READABLE : 0) |
                 (uv_events & UV_WRITABLE ? CELLAR_WRITABLE : 0);
    if (status < 0) {
        /* libuv stops a handle whose descriptor has an error. Level-triggered
         * means it goes on saying so until somebody closes the watch. */
        events = watch->events;
        watch->events = 0;
        (void)cellar_watch_set(watch, events);
    }
    watch->ready(watch->user, events);
}

enum cellar_code cellar_watch_new(struct cellar_loop *loop, int fd,
                                  void (*ready)(void *user, int events),
                                  void *user, struct cellar_watch **out,
                                  struct cellar_error *err)
{
    CELLAR_AUTO_FREE struct cellar_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        return cellar_fail(err, CELLAR_E_NOMEM, "watch: out of memory");
    watch->loop = loop;
    watch->ready = ready;
    watch->user = user;
    int status = uv_poll_init(&loop->uv, &watch->uv, fd);
    if (status)
        return fail_uv(err, status, "watching a descriptor");
    *out = CELLAR_TAKE(watch);
    return CELLAR_OK;
}

enum cellar_code cellar_watch_set(struct cellar_watch *watch, int events)
{
    if (events == watch->events)
        return CELLAR_OK; /* libuv would make two system calls of it */
    int uv_events = (events & CELLAR_READABLE ? UV_READABLE : 0) |
                    (events & CELLAR_WRITABLE ? UV_WRITABLE : 0);
    int status = uv_events ? uv_poll_start(&watch->uv, uv_events, watch_ready)
                           : uv_poll_stop(&watch->uv);
    if (status)
        return CELLAR_E_SYS;
    watch->events = events;
    watch->loop->changed = true;
    return CELLAR_OK;
}

void cellar_watch_close(struct cellar_watch *watch)
{
    if (watch)
        uv_close((uv_handle_t *)&watch->uv, free_handle);
}

/* --------------------------------------------------------------- wakes -- */

static void wake_signalled(uv_async_t *handle)
{
    struct cellar_wake *wake = (struct cellar_wake *)handle;
    wake->wake(wake->user);
}

enum cellar_code cellar_wake_new(struct cellar_loop *loop,
                                 void (*wake)(void *user), void *user,
                                 struct cellar_wake **out,
                                 struct cellar_error *err)
{
    CELLAR_AUTO_FREE struct cellar_wake *made = calloc(1, sizeof(*made));
    if (!made)
        return cellar_fail(err, CELLAR_E_NOMEM, "wake: out of memory");
    made->wake = wake;
    made->user = user;
    int status = uv_async_init(&loop->uv, &made->uv, wake_signalled);
    if (status)
        return fail_uv(err, status, "wake");
    *out = CELLAR_TAKE(made);
    return CELLAR_OK;
}

void cellar_wake_signal(struct cellar_wake *wake)
{
    uv_async_send(&wake->uv);
}

void cellar_wake_close(struct cellar_wake *wake)
{
    if (wake)
        uv_close((uv_handle_t *)&wake->uv, free_handle);
}
