/* A pool of one process, on the real engine: what it gives out was never used,
 * and what has ended is replaced. Needs the image cellar-runtime:slim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cellar/cellar.h"
#include "child.h"

#define SIZE  3
#define TAKES 8

/* Longer than anything here takes; a test that hangs has to end. */
#define PATIENCE_S 120

/* What another user would have left, and a module that was asked for. */
#define LOOK                                                                   \
    "import os, sys\n"                                                         \
    "seen = ('left' in globals(), len(os.listdir('/tmp')), "                   \
    "'colorsys' in sys.modules)\n"                                             \
    "left = open('/tmp/left', 'w').close()\n"                                  \
    "seen"
#define UNUSED "(False, 0, True)"

struct world {
    struct cellar *c;
    struct cellar_pool *pool;
};

static void expect(enum cellar_code code, const struct cellar_error *err)
{
    if (code != CELLAR_OK)
        fail_msg("%s", err->msg);
}

static struct cellar_pool_stats wait_ready(struct world *w, size_t count)
{
    struct cellar_pool_stats stats;
    for (cellar_pool_stats(w->pool, &stats); stats.ready < count;
         cellar_pool_stats(w->pool, &stats))
        (void)cellar_dispatch(w->c, 100);
    return stats;
}

static void assert_unused(struct cellar_session *s)
{
    struct cellar_error err = {0};
    struct cellar_result *r = NULL;
    struct cellar_cell cell = {.code = LOOK};
    expect(cellar_run(s, &cell, &r, &err), &err);
    assert_string_equal(cellar_result_text(r), UNUSED);
    cellar_result_free(r);
}

static int begin(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct cellar_error err = {0};
    struct cellar_spec spec;
    (void)alarm(PATIENCE_S);
    cellar_spec_init(&spec);
    spec.preload = "colorsys";
    assert_non_null(w);
    expect(cellar_new(NULL, &w->c, &err), &err);
    expect(cellar_pool_new(w->c, &spec, SIZE, &w->pool, &err), &err);
    *state = w;
    return 0;
}

static void count_one(void *user, const struct cellar_info *info)
{
    (void)info;
    ++*(size_t *)user;
}

static int end(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    size_t count = 0;
    cellar_pool_free(w->pool);
    cellar_free(w->c);
    expect(cellar_new(NULL, &w->c, &err), &err);
    expect(cellar_list(w->c, count_one, &count, &err), &err);
    assert_int_equal(count, 0);
    cellar_free(w->c);
    free(w);
    return 0;
}

static void what_is_given_out_was_never_used(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    char containers[TAKES][80];
    for (unsigned i = 0; i < TAKES; i++) {
        char name[32];
        struct cellar_session *s = NULL;
        (void)wait_ready(w, 1);
        (void)snprintf(name, sizeof name, "pooled-%d-%u", (int)getpid(), i);
        expect(cellar_pool_take(w->pool, i % 2 ? name : NULL, &s, &err), &err);
        assert_string_equal(cellar_session_name(s), i % 2 ? name : "");
        (void)snprintf(containers[i], sizeof containers[i], "%s",
                       cellar_session_container(s));
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(containers[i], containers[k]);
        assert_unused(s);
        expect(cellar_stop(s, &err), &err);
    }
    assert_int_equal(wait_ready(w, SIZE).taken, TAKES);
}

/* It lives on without this process's pool, and without this supervisor. */
static void one_with_a_name_is_adopted_again(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    struct cellar_session *s = NULL;
    char name[32];
    (void)wait_ready(w, 1);
    (void)snprintf(name, sizeof name, "pooled-%d", (int)getpid());
    expect(cellar_pool_take(w->pool, name, &s, &err), &err);
    assert_unused(s);
    cellar_close(s);
    expect(cellar_adopt(w->c, name, &s, &err), &err);
    struct cellar_result *r = NULL;
    struct cellar_cell cell = {.code = "left is None"};
    expect(cellar_run(s, &cell, &r, &err), &err);
    assert_string_equal(cellar_result_text(r), "True");
    cellar_result_free(r);
    expect(cellar_stop(s, &err), &err);
}

static void collect(void *user, const struct cellar_info *info)
{
    char(*ids)[80] = user;
    size_t i = 0;
    while (i < SIZE && ids[i][0])
        i++;
    if (i < SIZE)
        (void)snprintf(ids[i], sizeof ids[i], "%s", info->container);
}

static void those_that_others_remove_are_replaced(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    struct cellar_session *s = NULL;
    char ids[SIZE][80] = {""};
    (void)wait_ready(w, SIZE);
    expect(cellar_list(w->c, collect, ids, &err), &err);
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(child_from_outside("rm", ids[i]), 0);
    expect(cellar_pool_take(w->pool, NULL, &s, &err), &err);
    for (size_t i = 0; i < SIZE; i++)
        assert_string_not_equal(cellar_session_container(s), ids[i]);
    assert_unused(s);
    expect(cellar_stop(s, &err), &err);
    (void)wait_ready(w, SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_out_was_never_used),
        cmocka_unit_test(one_with_a_name_is_adopted_again),
        cmocka_unit_test(those_that_others_remove_are_replaced),
    };
    return cmocka_run_group_tests_name("pool", tests, begin, end);
}
