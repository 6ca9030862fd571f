/*
 * The event loop with a clock of its own: takes the place of kernel/loop.c
 * when it is linked first. Nobody waits: time jumps to the next timer.
 * Descriptors are never ready.
 */
#ifndef CELLAR_TESTS_FAKE_LOOP_H
#define CELLAR_TESTS_FAKE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct fake_loop {
    /* Set by the test: does what is to come before any timer, and says
     * whether there was something. */
    bool (*turn)(void);
    uint64_t now_us;
    unsigned handles; /* timers, watches, wakes and loops that are open */
};
extern struct fake_loop fake_loop;

#endif
