#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "kernel/fail.h"
#include "kernel/supervisor.h"

static _Atomic(struct cellar_session *) aim;
static _Atomic(struct cellar_wake *) waker;
static atomic_uint interrupts;
static atomic_int quit_signal;

static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
#define CAUGHT_COUNT (sizeof caught / sizeof caught[0])

static void handle(int number)
{
    int sys_errno = errno;
    struct cellar_session *session = atomic_load(&aim);
    struct cellar_wake *wake = atomic_load(&waker);
    if (number != SIGINT)
        atomic_store(&quit_signal, number);
    else
        atomic_fetch_add(&interrupts, 1);
    if (number == SIGINT && session)
        cellar_interrupt_signal(session);
    if (wake)
        cellar_wake_signal(wake);
    errno = sys_errno;
}

/* The wake itself makes cellar_dispatch() return; there is nothing to do. */
static void woken(void *user)
{
    (void)user;
}

enum cellar_code cellar_signals_catch(struct cellar *c,
                                      struct cellar_error *err)
{
    struct cellar_wake *wake = NULL;
    if (atomic_load(&waker))
        return CELLAR_OK;
    enum cellar_code code =
        cellar_wake_new(cellar_supervisor_loop(c), woken, NULL, &wake, err);
    if (code != CELLAR_OK)
        return code;
    atomic_store(&waker, wake);
    /* No SA_RESTART: a write that is stuck must come back (output.c). */
    struct sigaction action = {.sa_handler = handle};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CAUGHT_COUNT; i++) {
        struct sigaction before = {0};
        if (sigaction(caught[i], NULL, &before) == 0 &&
            before.sa_handler != SIG_IGN)
            sigaction(caught[i], &action, NULL);
    }
    return CELLAR_OK;
}

void cellar_signals_release(void)
{
    struct sigaction now = {0};
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigemptyset(&usual.sa_mask);
    for (size_t i = 0; i < CAUGHT_COUNT; i++)
        if (sigaction(caught[i], NULL, &now) == 0 && now.sa_handler == handle)
            sigaction(caught[i], &usual, NULL);
    atomic_store(&aim, NULL);
    cellar_wake_close(atomic_exchange(&waker, NULL));
}

void cellar_signals_aim(struct cellar_session *session)
{
    atomic_store(&aim, session);
}

unsigned cellar_signals_count(void)
{
    return atomic_load(&interrupts);
}

void cellar_signals_forget(void)
{
    atomic_store(&interrupts, 0);
}

int cellar_signals_quit(void)
{
    return atomic_load(&quit_signal);
}
