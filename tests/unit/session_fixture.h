/*
 * A supervisor on the fake engine, with a state directory of its own and
 * deadlines in thousandths: what waits 90 s waits 90 ms here.
 */
#ifndef CELLAR_TESTS_SESSION_FIXTURE_H
#define CELLAR_TESTS_SESSION_FIXTURE_H

#include "cellar/cellar.h"

struct fixture {
    char state_dir[64];
    struct cellar *c;
    struct cellar_session *s; /* what start() gave */
    struct cellar_error err;
};

/* For each test; teardown fails when a session left its directory behind. */
int setup(void **state);
int teardown(void **state);

/* Starts a session of the default spec; NULL: unnamed. _ok must succeed. */
enum cellar_code start(struct fixture *f, const char *name);
void start_ok(struct fixture *f, const char *name);

/* Runs a cell: the result, which the caller frees; or only how it went. */
struct cellar_result *run(struct fixture *f, const char *code);
enum cellar_code run_code(struct fixture *f, const char *code, size_t len);

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
