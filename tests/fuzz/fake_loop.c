#include "fake_loop.h"

#include <stdlib.h>

#include "kernel/fail.h"
#include "kernel/loop.h"

struct cellar_timer {
    struct cellar_loop *loop;
    struct cellar_timer *next;
    void (*fire)(void *user);
    void *user;
    uint64_t due_us;
    bool set;
};

struct cellar_watch {
    int fd;
};

struct cellar_wake {
    struct cellar_loop *loop;
    void (*wake)(void *user);
    void *user;
    bool signalled;
};

struct cellar_loop {
    struct cellar_timer *timers;
    struct cellar_wake *wake;
};

struct fake_loop fake_loop;

static void *handle(size_t size, struct cellar_error *err)
{
    void *made = calloc(1, size);
    if (made)
        fake_loop.handles++;
    else
        cellar_fail(err, CELLAR_E_NOMEM, "loop: out of memory");
    return made;
}

static void drop(void *made)
{
    fake_loop.handles -= made != NULL;
    free(made);
}

enum cellar_code cellar_loop_new(struct cellar_loop **out,
                                 struct cellar_error *err)
{
    struct cellar_loop *loop = handle(sizeof(*loop), err);
    if (!loop)
        return CELLAR_E_NOMEM;
    *out = loop;
    return CELLAR_OK;
}

void cellar_loop_free(struct cellar_loop *loop)
{
    drop(loop);
}

static struct cellar_timer *first_timer(const struct cellar_loop *loop)
{
    struct cellar_timer *first = NULL;
    for (struct cellar_timer *t = loop->timers; t; t = t->next)
        if (t->set && (!first || t->due_us < first->due_us))
            first = t;
    return first;
}

bool cellar_loop_run(struct cellar_loop *loop, int timeout_ms)
{
    uint64_t wait =
        timeout_ms < 0 ? UINT64_MAX / 2 : (uint64_t)timeout_ms * UINT64_C(1000);
    struct cellar_timer *timer = NULL;
    if (fake_loop.turn && fake_loop.turn())
        return true;
    if (loop->wake && loop->wake->signalled) {
        loop->wake->signalled = false;
        loop->wake->wake(loop->wake->user);
        return true;
    }
    timer = first_timer(loop);
    if (timer && timer->due_us <= fake_loop.now_us + wait) {
        if (timer->due_us > fake_loop.now_us)
            fake_loop.now_us = timer->due_us;
        timer->set = false;
        timer->fire(timer->user);
    } else if (timeout_ms > 0) {
        fake_loop.now_us += wait;
    }
    return loop->wake || first_timer(loop);
}

int cellar_loop_fd(const struct cellar_loop *loop)
{
    (void)loop;
    return -1;
}

int cellar_loop_timeout(const struct cellar_loop *loop)
{
    (void)loop;
    return 0;
}

uint64_t cellar_loop_now_us(void)
{
    return fake_loop.now_us;
}

enum cellar_code cellar_timer_new(struct cellar_loop *loop,
                                  void (*fire)(void *user), void *user,
                                  struct cellar_timer **out,
                                  struct cellar_error *err)
{
    struct cellar_timer *timer = handle(sizeof(*timer), err);
    if (!timer)
        return CELLAR_E_NOMEM;
    timer->loop = loop;
    timer->fire = fire;
    timer->user = user;
    timer->next = loop->timers;
    loop->timers = timer;
    *out = timer;
    return CELLAR_OK;
}

void cellar_timer_set(struct cellar_timer *timer, uint64_t ms)
{
    uint64_t us = ms < UINT64_MAX / 4000 ? ms * 1000 : UINT64_MAX / 4;
    timer->due_us = fake_loop.now_us + us;
    timer->set = true;
}

void cellar_timer_unset(struct cellar_timer *timer)
{
    timer->set = false;
}

void cellar_timer_close(struct cellar_timer *timer)
{
    if (!timer)
        return;
    struct cellar_timer **at = &timer->loop->timers;
    while (*at != timer)
        at = &(*at)->next;
    *at = timer->next;
    drop(timer);
}

enum cellar_code cellar_watch_new(struct cellar_loop *loop, int fd,
                                  void (*ready)(void *user, int events),
                                  void *user, struct cellar_watch **out,
                                  struct cellar_error *err)
{
    struct cellar_watch *watch = handle(sizeof(*watch), err);
    (void)loop;
    (void)ready;
    (void)user;
    if (!watch)
        return CELLAR_E_NOMEM;
    watch->fd = fd;
    *out = watch;
    return CELLAR_OK;
}

enum cellar_code cellar_watch_set(struct cellar_watch *watch, int events)
{
    (void)watch;
    (void)events;
    return CELLAR_OK;
}

void cellar_watch_close(struct cellar_watch *watch)
{
    drop(watch);
}

enum cellar_code cellar_wake_new(struct cellar_loop *loop,
                                 void (*wake)(void *user), void *user,
                                 struct cellar_wake **out,
                                 struct cellar_error *err)
{
    struct cellar_wake *made = handle(sizeof(*made), err);
    if (!made)
        return CELLAR_E_NOMEM;
    made->loop = loop;
    made->wake = wake;
    made->user = user;
    loop->wake = made;
    *out = made;
    return CELLAR_OK;
}

void cellar_wake_signal(struct cellar_wake *wake)
{
    wake->signalled = true;
}

void cellar_wake_close(struct cellar_wake *wake)
{
    if (wake)
        wake->loop->wake = NULL;
    drop(wake);
}
