/*
 * Allocation-failure sweeps: a body is run with its first allocation failing,
 * then with its second, ... until it runs without a failure; then all of it
 * again with every allocation failing from the n-th on.
 *
 *     static enum cellar_code body(void *user) { ... }
 *     oom_sweep(body, user);
 *
 * Each run must return CELLAR_OK or CELLAR_E_NOMEM, and have freed what it
 * allocated. What "success" must have brought, and what a failure must have
 * left alone, the body asserts itself. Counted are the allocations of our own
 * code, of msgpack and of jansson; not those of the C library's own streams,
 * nor what stands between oom_pause(true) and oom_pause(false).
 */
#ifndef CELLAR_TESTS_OOM_H
#define CELLAR_TESTS_OOM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cellar/error.h"

typedef enum cellar_code oom_body(void *user);

void oom_sweep(oom_body *body, void *user);

/* Nests. */
void oom_pause(bool on);

/* Once, before anything: makes jansson allocate here too. */
void oom_init(void);

#endif
