#include "session_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"

void __real_cellar_timer_set(struct cellar_timer *timer, uint64_t ms);
void __wrap_cellar_timer_set(struct cellar_timer *timer, uint64_t ms);
void __wrap_cellar_timer_set(struct cellar_timer *timer, uint64_t ms)
{
    __real_cellar_timer_set(timer, ms / 1000);
}

int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    (void)snprintf(f->state_dir, sizeof f->state_dir,
                   "/tmp/cellar-test-XXXXXX");
    assert_non_null(mkdtemp(f->state_dir));
    fake_reset();
    struct cellar_config config = {.state_dir = f->state_dir};
    assert_int_equal(
        cellar_supervisor_new(&config, fake_engine_open, &f->c, &f->err), 0);
    fake.owner = cellar_supervisor_owner(f->c);
    *state = f;
    return 0;
}

int teardown(void **state)
{
    struct fixture *f = *state;
    char path[128];
    cellar_free(f->c);
    fake_reset();
    (void)snprintf(path, sizeof path, "%s/owner", f->state_dir);
    assert_int_equal(unlink(path), 0);
    /* Fails when a session left its directory behind, or the process its
     * sign of life. */
    (void)snprintf(path, sizeof path, "%s/sessions", f->state_dir);
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof path, "%s/supervisors", f->state_dir);
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof path, "%s/journal.db", f->state_dir);
    (void)unlink(path); /* SQLite has removed its other files */
    assert_int_equal(rmdir(f->state_dir), 0);
    free(f);
    return 0;
}

enum cellar_code start(struct fixture *f, const char *name)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.name = name;
    return cellar_start(f->c, &spec, &f->s, &f->err);
}

void start_ok(struct fixture *f, const char *name)
{
    if (start(f, name) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
}

struct cellar_result *run(struct fixture *f, const char *code)
{
    struct cellar_cell cell = {.code = code};
    struct cellar_result *result = NULL;
    if (cellar_run(f->s, &cell, &result, &f->err) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
    return result;
}

enum cellar_code run_code(struct fixture *f, const char *code, size_t len)
{
    struct cellar_cell cell = {.code = code, .code_len = len};
    struct cellar_result *result = NULL;
    enum cellar_code got = cellar_run(f->s, &cell, &result, &f->err);
    cellar_result_free(result);
    return got;
}
