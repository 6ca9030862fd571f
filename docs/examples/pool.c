/*
 * A service in small: each request gets a Python that nobody had before, with
 * its modules imported, and without waiting for a start.
 *
 *     cc pool.c $(pkg-config --cflags --libs cellar) -o pool && ./pool
 *
 * The pool starts sessions behind the program's back, whenever that turns its
 * event loop: in cellar_dispatch() or in any waiting call.
 */
#include <cellar/cellar.h>
#include <err.h>
#include <stdio.h>

#define READY 2

static void must(enum cellar_code code, const struct cellar_error *error)
{
    if (code != CELLAR_OK)
        errx(1, "%s", error->msg);
}

/* A service would serve others meanwhile; here nothing else is to do. Where no
 * session can be started, taking one says why. */
static void wait_for_one(struct cellar *cellar, const struct cellar_pool *pool)
{
    struct cellar_pool_stats stats;
    for (cellar_pool_stats(pool, &stats); stats.ready == 0 && !stats.trouble;
         cellar_pool_stats(pool, &stats))
        cellar_dispatch(cellar, 100);
}

static void serve(struct cellar_pool *pool, const char *code)
{
    struct cellar_error error = {0};
    struct cellar_session *session = NULL;
    struct cellar_result *result = NULL;
    struct cellar_cell cell = {.code = code, .timeout_ms = 5000};

    must(cellar_pool_take(pool, NULL, &session, &error), &error);
    must(cellar_run(session, &cell, &result, &error), &error);
    printf("%s: %s\n", cellar_status_name(result->status),
           cellar_result_text(result));
    cellar_result_free(result);
    must(cellar_stop(session, &error), &error);
}

int main(void)
{
    const char *requests[] = {
        "import json; secret = 41; json.dumps([secret, secret + 1])",
        "'secret' in globals()",
        "import os; os._exit(7)",
    };
    struct cellar_error error = {0};
    struct cellar *cellar = NULL;
    struct cellar_pool *pool = NULL;
    struct cellar_spec spec;

    cellar_spec_init(&spec);
    spec.preload = "json,sqlite3";
    must(cellar_new(NULL, &cellar, &error), &error);
    must(cellar_pool_new(cellar, &spec, READY, &pool, &error), &error);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        wait_for_one(cellar, pool);
        serve(pool, requests[i]);
    }
    cellar_pool_free(pool);
    cellar_free(cellar);
    return 0;
}
