/*
 * The supervisor: what hangs together as one `struct cellar`. Public calls
 * are in cellar/cellar.h; here is what the kernel's own front ends need more.
 */
#ifndef CELLAR_KERNEL_SUPERVISOR_H
#define CELLAR_KERNEL_SUPERVISOR_H

#include "cellar/cellar.h"
#include "engine/engine.h"
#include "journal.h"
#include "loop.h"

/* Lent; they live as long as `c`. */
struct cellar_loop *cellar_supervisor_loop(struct cellar *c);
struct cellar_engine *cellar_supervisor_engine(struct cellar *c);
const char *cellar_supervisor_data_dir(const struct cellar *c);
const char *cellar_supervisor_state_dir(const struct cellar *c);
const char *cellar_supervisor_owner(const struct cellar *c);
/* The engine's address, as far as it was given; "". */
const char *cellar_supervisor_host(const struct cellar *c);

/* This process's id, under which its containers are known to be alive
 * (reaper.h). NULL: the state directory can't be written. */
const char *cellar_supervisor_id(struct cellar *c, struct cellar_error *err);

/* The journal, opened when it is first asked for; NULL: it can't be. For
 * reading: what a session writes goes through session_journal.c. */
struct cellar_journal *cellar_supervisor_journal(struct cellar *c,
                                                 struct cellar_error *err);

/* One line that a user should see at once. */
void cellar_supervisor_warn(struct cellar *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* One line for --verbose. */
void cellar_supervisor_log(struct cellar *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A uid of 61001..65533 that no container of `used` has, chosen at random. */
uint32_t cellar_supervisor_pick_uid(const uint32_t *used, size_t count);

#endif
