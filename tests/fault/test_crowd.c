/* Much is asked of an engine at once: a few things are under way at a time,
 * the others wait for their turn; all are answered, or are cancelled with
 * nothing left behind. And connections that died while nobody used them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "count_fds.h"
#include "kernel/engine/docker/http.h"
#include "kernel/engine/engine.h"
#include "scripted.h"

/* More than any lane lets through, on whatever machine this runs. */
#define CROWD_MAX 4096

/* How long is looked for what must not come. */
#define QUIET_MS 100

struct world {
    int fds;
    struct scripted *scripted;
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    struct cellar_http *http;
    struct cellar_stream *streams[CROWD_MAX];
    size_t crowd;
    size_t opened; /* streams */
    size_t done;
    size_t failed;
    size_t turns;
    size_t wanted; /* turns that are taken; the others are declined */
    bool free_at_first;
    struct cellar_error err; /* the last one */
};

static void open_world(struct world *w, const struct line *lines)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *w = (struct world){.fds = count_fds(), .wanted = SIZE_MAX};
    w->crowd = (size_t)(cores > 2 ? cores : 2) * 5;
    assert_true(w->crowd <= CROWD_MAX);
    w->scripted = scripted_start(lines, scripted_good);
    assert_int_equal(cellar_loop_new(&w->loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_docker_new(w->loop, scripted_host(w->scripted),
                                       CELLAR_SOURCE_DIR "/kernel/engine", NULL,
                                       NULL, &w->engine, NULL),
                     CELLAR_OK);
    assert_int_equal(
        cellar_http_new(w->loop, scripted_host(w->scripted), &w->http, NULL),
        CELLAR_OK);
}

static void close_world(struct world *w)
{
    for (size_t i = 0; i < w->opened; i++)
        cellar_stream_close(w->streams[i]);
    if (w->engine)
        w->engine->ops->free(w->engine);
    cellar_http_free(w->http);
    cellar_loop_free(w->loop);
    scripted_stop(w->scripted);
    assert_int_equal(count_fds(), w->fds);
}

static void run_for(struct world *w, uint64_t ms)
{
    uint64_t end = cellar_loop_now_us() + 1000 * ms;
    while (cellar_loop_now_us() < end)
        cellar_loop_run(w->loop, 10);
}

static void run_until_done(struct world *w, size_t count)
{
    uint64_t end = cellar_loop_now_us() + UINT64_C(60000000);
    while (w->done < count && cellar_loop_now_us() < end)
        cellar_loop_run(w->loop, 100);
    assert_int_equal(w->done, count);
}

/* Until the engine has been asked for `words`, and nothing more comes. */
static size_t run_until_full(struct world *w, const char *words)
{
    size_t seen = 0;
    do {
        seen = scripted_count(w->scripted, words);
        run_for(w, QUIET_MS);
    } while (seen == 0 || scripted_count(w->scripted, words) > seen);
    return seen;
}

/* ------------------------------------------------------------- starts -- */

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}

static void on_text(void *user, const char *data, size_t len)
{
    on_bytes(user, (const uint8_t *)data, len);
}

static void on_closed(void *user, const struct cellar_error *err)
{
    (void)user;
    (void)err;
}

static const struct cellar_stream_events events = {on_bytes, on_text,
                                                   on_closed};

static void on_done(void *user, const struct cellar_error *err)
{
    struct world *w = user;
    w->done++;
    if (!err)
        return;
    w->failed++;
    w->err = *err;
    if (!w->free_at_first)
        return;
    w->engine->ops->free(w->engine);
    w->engine = NULL;
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    struct world *w = user;
    (void)id;
    if (stream)
        w->streams[w->opened++] = stream;
    on_done(w, err);
}

static bool on_turn(void *user)
{
    struct world *w = user;
    return w->turns++ < w->wanted;
}

static void start_crowd(struct world *w)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    struct cellar_launch launch = {.spec = &spec,
                                   .owner = "test",
                                   .supervisor = "test",
                                   .uid = 61001,
                                   .turn = on_turn};
    for (size_t i = 0; i < w->crowd; i++)
        assert_int_equal(w->engine->ops->start(w->engine, &launch, &events,
                                               on_started, w, NULL),
                         CELLAR_OK);
}

static void many_starts_all_come_true(void **state)
{
    (void)state;
    static struct world w;
    open_world(&w, NULL);
    start_crowd(&w);
    run_until_done(&w, w.crowd);
    assert_int_equal(w.failed, 0);
    assert_int_equal(w.opened, w.crowd);
    assert_int_equal(w.turns, w.crowd);
    close_world(&w);
}

static void a_failed_start_gives_its_place_to_the_next(void **state)
{
    (void)state;
    static struct world w;
    const struct line lines[] = {
        {"/start", CUT, "HTTP/1.1 500 Oops\r\n\r\nboo", 0},
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    start_crowd(&w);
    run_until_done(&w, w.crowd);
    assert_int_equal(w.failed, w.crowd);
    assert_int_equal(scripted_count(w.scripted, "DELETE "), w.crowd);
    close_world(&w);
}

static void starts_wait_while_others_are_made(void **state)
{
    (void)state;
    static struct world w;
    const struct line lines[] = {{"/start", HANG, "", 0}, {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    start_crowd(&w);
    size_t made = run_until_full(&w, "/containers/create");
    assert_in_range(made, 1, w.crowd - 1);
    assert_int_equal(w.turns, made);
    assert_int_equal(w.done, 0);
    close_world(&w); /* with all of them under way */
    assert_int_equal(w.done, 0);
}

static void a_start_that_nobody_wants_any_more_makes_nothing(void **state)
{
    (void)state;
    static struct world w;
    open_world(&w, NULL);
    w.wanted = 3;
    start_crowd(&w);
    run_until_done(&w, w.crowd);
    assert_int_equal(w.opened, 3);
    assert_int_equal(w.failed, w.crowd - 3);
    assert_int_equal(w.err.code, CELLAR_E_LOST);
    assert_int_equal(scripted_count(w.scripted, "/containers/create"), 3);
    assert_false(scripted_saw(w.scripted, "DELETE "));
    close_world(&w);
}

static void the_engine_may_be_freed_by_one_while_others_wait(void **state)
{
    (void)state;
    static struct world w;
    const struct line lines[] = {
        {"/containers/create", CUT, "HTTP/1.1 500 Oops\r\n\r\nboo", 0},
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    w.free_at_first = true;
    start_crowd(&w);
    run_until_done(&w, 1);
    run_for(&w, QUIET_MS);
    assert_int_equal(w.done, 1);
    close_world(&w);
    open_world(&w, NULL);
    w.free_at_first = true;
    w.wanted = 0;
    start_crowd(&w);
    run_until_done(&w, 1);
    run_for(&w, QUIET_MS);
    assert_int_equal(w.done, 1);
    close_world(&w);
}

/* ----------------------------------------------------------- removals -- */

/* Of as many containers, or all of the same. */
static void remove_crowd(struct world *w, size_t containers)
{
    for (size_t i = 0; i < w->crowd; i++) {
        char id[32];
        snprintf(id, sizeof(id), "abc%zu", i % containers);
        assert_int_equal(
            w->engine->ops->remove(w->engine, id, on_done, w, NULL), CELLAR_OK);
    }
}

static void many_removals_all_come_true(void **state)
{
    (void)state;
    static struct world w;
    for (size_t containers = 1; containers < 40; containers *= 3) {
        open_world(&w, NULL);
        remove_crowd(&w, containers);
        run_until_done(&w, w.crowd);
        assert_int_equal(w.failed, 0);
        close_world(&w);
    }
}

static void removals_wait_for_each_other(void **state)
{
    (void)state;
    static struct world w;
    const struct line lines[] = {{"DELETE ", HANG, "", 0},
                                 {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    remove_crowd(&w, w.crowd);
    size_t asked = run_until_full(&w, "DELETE ");
    assert_in_range(asked, 1, w.crowd - 1);
    close_world(&w);
    assert_int_equal(w.done, 0);
    open_world(&w, lines);
    remove_crowd(&w, 2);
    assert_int_equal(run_until_full(&w, "DELETE "), 2);
    close_world(&w);
    assert_int_equal(w.done, 0);
}

static void a_failed_removal_is_followed_by_the_next(void **state)
{
    (void)state;
    static struct world w;
    const struct line lines[] = {
        {"DELETE ", CUT, "HTTP/1.1 500 Oops\r\n\r\nboo", 0},
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    remove_crowd(&w, 2);
    run_until_done(&w, w.crowd);
    assert_int_equal(w.failed, w.crowd);
    close_world(&w);
}

/* Docker has been seen to say nothing to somebody who waits for it. */
static void a_removal_by_somebody_else_is_asked_about_again(void **state)
{
    (void)state;
    static struct world w;
    const struct line lines[] = {
        {"DELETE ", CUT, "HTTP/1.1 409 Conflict\r\n\r\n{}", 0},
        {"/wait?condition=removed", HANG, "", 0},
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    assert_int_equal(w.engine->ops->remove(w.engine, "abc", on_done, &w, NULL),
                     CELLAR_OK);
    while (scripted_count(w.scripted, "DELETE ") < 3)
        cellar_loop_run(w.loop, 100);
    assert_int_equal(w.done, 0);
    close_world(&w);
}

/* -------------------------------------------------------- connections -- */

#define REQUESTS 200

static const struct line hello[] = {
    {"/thing", SAY, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0},
    {"/once", ONCE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0},
    {"/never", HANG, "", 0},
    {NULL, SAY, NULL, 0}};

static void on_reply(void *user, int status, const char *body, size_t len,
                     const struct cellar_error *err)
{
    struct world *w = user;
    (void)body;
    if (!err)
        assert_int_equal(status * 10 + (int)len, 2005);
    on_done(w, err);
}

static struct cellar_http_call *ask(struct world *w, const char *method,
                                    const char *path, uint64_t deadline_ms)
{
    struct cellar_http_call *call = NULL;
    struct cellar_http_request request = {.method = method,
                                          .path = path,
                                          .deadline_ms = deadline_ms,
                                          .reply_max = 100};
    assert_int_equal(
        cellar_http_begin(w->http, &request, on_reply, w, &call, NULL),
        CELLAR_OK);
    return call;
}

static void many_requests_share_few_connections(void **state)
{
    (void)state;
    static struct world w;
    open_world(&w, hello);
    for (size_t i = 0; i < REQUESTS; i++)
        ask(&w, "GET", "/never", 60000);
    size_t asked = run_until_full(&w, "/never");
    assert_in_range(asked, 1, REQUESTS - 1);
    assert_int_equal(scripted_peak(w.scripted), asked);
    close_world(&w);
    assert_int_equal(w.done, 0);
}

static void requests_that_wait_are_answered_or_meet_their_deadline(void **state)
{
    (void)state;
    static struct world w;
    struct cellar_http_call *calls[REQUESTS];
    open_world(&w, hello);
    for (size_t i = 0; i < REQUESTS; i++)
        ask(&w, "GET", "/thing", 60000);
    run_until_done(&w, REQUESTS);
    assert_int_equal(w.failed, 0);
    for (size_t i = 0; i < REQUESTS; i++)
        calls[i] = ask(&w, "GET", "/never", 60000);
    ask(&w, "GET", "/thing", 300);
    run_until_done(&w, REQUESTS + 1);
    assert_int_equal(w.err.code, CELLAR_E_TIMEOUT);
    /* What is cancelled makes room. */
    for (size_t i = 0; i < REQUESTS; i++)
        cellar_http_cancel(calls[i]);
    ask(&w, "GET", "/thing", 60000);
    run_until_done(&w, REQUESTS + 2);
    assert_int_equal(w.failed, 1);
    close_world(&w);
}

/* As after a restart of the engine: it reads nothing of what comes next. */
static void a_kept_connection_that_died_is_made_anew(void **state)
{
    (void)state;
    static struct world w;
    open_world(&w, hello);
    ask(&w, "GET", "/once", 10000);
    run_until_done(&w, 1);
    ask(&w, "GET", "/thing", 10000);
    run_until_done(&w, 2);
    assert_int_equal(w.failed, 0);
    close_world(&w);
}

static void what_must_not_be_done_twice_is_asked_once(void **state)
{
    (void)state;
    static struct world w;
    open_world(&w, hello);
    ask(&w, "GET", "/once", 10000);
    run_until_done(&w, 1);
    ask(&w, "POST", "/thing", 10000);
    run_until_done(&w, 2);
    assert_int_equal(w.failed, 0);
    assert_int_equal(scripted_count(w.scripted, "POST"), 1);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_starts_all_come_true),
        cmocka_unit_test(a_failed_start_gives_its_place_to_the_next),
        cmocka_unit_test(starts_wait_while_others_are_made),
        cmocka_unit_test(a_start_that_nobody_wants_any_more_makes_nothing),
        cmocka_unit_test(the_engine_may_be_freed_by_one_while_others_wait),
        cmocka_unit_test(many_removals_all_come_true),
        cmocka_unit_test(removals_wait_for_each_other),
        cmocka_unit_test(a_failed_removal_is_followed_by_the_next),
        cmocka_unit_test(a_removal_by_somebody_else_is_asked_about_again),
        cmocka_unit_test(many_requests_share_few_connections),
        cmocka_unit_test(
            requests_that_wait_are_answered_or_meet_their_deadline),
        cmocka_unit_test(a_kept_connection_that_died_is_made_anew),
        cmocka_unit_test(what_must_not_be_done_twice_is_asked_once),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
