/* A Docker engine that fails a session's start, list or attach at each of its
 * steps: the call ends with an error that says what, and what was created is
 * removed again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "count_fds.h"
#include "kernel/engine/engine.h"
#include "scripted.h"

struct world {
    int fds;
    struct scripted *scripted;
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    struct cellar_stream *stream;
    bool done;
    bool closed;
    struct cellar_error err; /* of the call */
    struct cellar_error end; /* of the stream */
    char bytes[64];
    size_t len;
    char text[64];
    size_t rows;
    struct cellar_usage usage;
};

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    struct world *w = user;
    for (size_t i = 0; i < len && w->len < sizeof(w->bytes); i++)
        w->bytes[w->len++] = (char)data[i];
}

static void on_text(void *user, const char *data, size_t len)
{
    struct world *w = user;
    snprintf(w->text, sizeof(w->text), "%.*s", (int)len, data);
}

static void on_closed(void *user, const struct cellar_error *err)
{
    struct world *w = user;
    assert_false(w->closed);
    w->closed = true;
    if (err)
        w->end = *err;
}

static const struct cellar_stream_events events = {on_bytes, on_text,
                                                   on_closed};

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    struct world *w = user;
    assert_false(w->done);
    assert_true(!id == !!err);
    w->done = true;
    w->stream = stream;
    if (err)
        w->err = *err;
}

static void on_done(void *user, const struct cellar_error *err)
{
    on_started(user, err ? NULL : "", NULL, err);
}

static void on_row(void *user, const struct cellar_container *container)
{
    struct world *w = user;
    (void)container;
    w->rows++;
}

static void open_world(struct world *w, const struct line *lines)
{
    *w = (struct world){.fds = count_fds()};
    w->scripted = scripted_start(lines, scripted_good);
    assert_int_equal(cellar_loop_new(&w->loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_docker_new(w->loop, scripted_host(w->scripted),
                                       CELLAR_SOURCE_DIR "/kernel/engine", NULL,
                                       NULL, &w->engine, NULL),
                     CELLAR_OK);
}

static void close_world(struct world *w)
{
    cellar_stream_close(w->stream);
    w->engine->ops->free(w->engine);
    cellar_loop_free(w->loop);
    scripted_stop(w->scripted);
    assert_int_equal(count_fds(), w->fds);
}

static void run_until(struct world *w, const bool *flag)
{
    uint64_t end = cellar_loop_now_us() + UINT64_C(15000000);
    while (!*flag && cellar_loop_now_us() < end)
        cellar_loop_run(w->loop, 100);
    assert_true(*flag);
}

static void begin_start(struct world *w, const char *allow)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.allow[0] = allow;
    struct cellar_launch launch = {.spec = &spec,
                                   .owner = "test",
                                   .uid = 61001,
                                   .greeting = (const uint8_t *)"hi",
                                   .greeting_len = 2};
    assert_int_equal(
        w->engine->ops->start(w->engine, &launch, &events, on_started, w, NULL),
        CELLAR_OK);
    assert_false(w->done);
}

static void start(struct world *w, const char *allow)
{
    begin_start(w, allow);
    run_until(w, &w->done);
}

/* A start with one line of the good script replaced. */
static void assert_start_fails(struct line line, enum cellar_code code,
                               const char *words, bool undone)
{
    struct world w;
    const struct line lines[] = {line, {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    start(&w, NULL);
    assert_int_equal(w.err.code, code);
    if (!strstr(w.err.msg, words))
        fail_msg("\"%s\" is not in \"%s\"", words, w.err.msg);
    assert_null(w.stream);
    assert_int_equal(scripted_saw(w.scripted, "DELETE /v1.41/containers/abc"),
                     undone);
    close_world(&w);
}

static struct line say(const char *match, const char *reply)
{
    return (struct line){match, CUT, reply, 0};
}

static void starts_when_all_is_well(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, NULL);
    start(&w, NULL);
    assert_int_equal(w.err.code, CELLAR_OK);
    assert_non_null(w.stream);
    assert_false(scripted_saw(w.scripted, "DELETE"));
    close_world(&w);
}

static void names_what_is_no_engine(void **state)
{
    (void)state;
    assert_start_fails(say("/version", "HTTP/1.1 200 OK\r\n\r\n<html>"),
                       CELLAR_E_ENGINE, "no container engine", false);
    assert_start_fails(say("/version", "HTTP/1.1 200 OK\r\n\r\n"
                                       "{\"ApiVersion\":\"1.24\"}"),
                       CELLAR_E_ENGINE, "1.24, Cellar 1.40", false);
}

static void names_a_missing_image_and_its_cure(void **state)
{
    (void)state;
    assert_start_fails(say("/images/", "HTTP/1.1 404 Not Found\r\n\r\n{}"),
                       CELLAR_E_IMAGE, "cellar image build --variant slim",
                       false);
}

static void refuses_an_image_with_a_volume(void **state)
{
    (void)state;
    assert_start_fails(say("/images/",
                           "HTTP/1.1 200 OK\r\n\r\n"
                           "{\"Config\":{\"Volumes\":{\"/data\":{}}}} "),
                       CELLAR_E_IMAGE, "volume /data", false);
}

static void names_a_full_disk_and_its_cure(void **state)
{
    (void)state;
    static const char reply[] =
        "HTTP/1.1 500 Oops\r\n\r\n"
        "{\"message\":\"mkdir /x: no space left on device\"}  ";
    assert_start_fails(say("/containers/create", reply), CELLAR_E_ENGINE,
                       "docker system prune", false);
    assert_start_fails(say("/start", reply), CELLAR_E_ENGINE,
                       "docker system prune", true);
}

static void names_a_name_that_is_taken(void **state)
{
    (void)state;
    assert_start_fails(say("/containers/create",
                           "HTTP/1.1 409 Conflict\r\n\r\n"
                           "{\"message\":\"already in use\"} "),
                       CELLAR_E_EXISTS, "already in use", false);
}

static void refuses_a_container_without_an_id(void **state)
{
    (void)state;
    static const char *const bodies[] = {"[]", "{\"Id\":\"../../x\"}",
                                         "{\"Id\":5}", "{\"Id\":"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        char reply[128];
        snprintf(reply, sizeof(reply), "HTTP/1.1 201 Created\r\n\r\n%s",
                 bodies[i]);
        assert_start_fails(say("/containers/create", reply), CELLAR_E_ENGINE,
                           "names no id", false);
    }
}

static const char warned[] =
    "HTTP/1.1 201 Created\r\n\r\n"
    "{\"Id\":\"abc\",\"Warnings\":[\"Your kernel does not support swap limit "
    "capabilities\"]}";

static void refuses_a_protection_that_is_missing(void **state)
{
    (void)state;
    assert_start_fails(say("/containers/create", warned), CELLAR_E_ENGINE,
                       "cannot enforce \"swap\"", true);
}

static void does_without_a_protection_that_was_allowed(void **state)
{
    (void)state;
    struct world w;
    const struct line lines[] = {say("/containers/create", warned),
                                 {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    start(&w, "swap");
    assert_int_equal(w.err.code, CELLAR_OK);
    close_world(&w);
    open_world(&w, lines);
    start(&w, "memory");
    assert_int_equal(w.err.code, CELLAR_E_ENGINE);
    close_world(&w);
}

static void undoes_when_attaching_fails(void **state)
{
    (void)state;
    assert_start_fails(
        say("/attach", "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"),
        CELLAR_E_ENGINE, "opened no stream", true);
    assert_start_fails(say("/attach", "HTTP/1.1 101 Swi"), CELLAR_E_ENGINE,
                       "attaching", true);
    assert_start_fails(say("/attach", "HTTP/1.1 500 Oops\r\n\r\n"
                                      "{\"message\":\"boo\"}"),
                       CELLAR_E_ENGINE, "(500): boo", true);
}

static void undoes_when_starting_fails(void **state)
{
    (void)state;
    assert_start_fails(say("/start", "HTTP/1.1 500 Oops\r\n\r\nboo"),
                       CELLAR_E_ENGINE, "boo", true);
    assert_start_fails(say("/start", "HTTP/1.1 50"), CELLAR_E_ENGINE, "", true);
    assert_start_fails(
        say("/start", "HTTP/1.1 400 Bad Request\r\n\r\n"
                      "{\"message\":\"exec: \\\"/cellar/agent\\\": no such "
                      "file\"}"),
        CELLAR_E_IMAGE, "COPY --from=cellar-runtime:slim", true);
}

static void undoes_when_the_agent_ends_at_once(void **state)
{
    (void)state;
    struct world w;
    const struct line lines[] = {
        {"/attach", CUT, SCRIPTED_101, 0},
        {"/start", DRIP, "HTTP/1.1 204 No Content\r\n\r\n", 0},
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    start(&w, NULL);
    assert_int_equal(w.err.code, CELLAR_E_LOST);
    assert_true(scripted_saw(w.scripted, "DELETE"));
    close_world(&w);
}

static void gives_the_first_reason_when_the_undo_fails_too(void **state)
{
    (void)state;
    struct world w;
    const struct line lines[] = {
        {"/start", CUT, "HTTP/1.1 500 Oops\r\n\r\nfirst", 0},
        {"DELETE ", CUT, "", 0},
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    start(&w, NULL);
    assert_non_null(strstr(w.err.msg, "first"));
    close_world(&w);
}

static void may_be_freed_at_any_step_of_a_start(void **state)
{
    (void)state;
    static const char *const steps[] = {
        "/version", "/images/", "/containers/create", "/attach", "/start"};
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        struct world w;
        const struct line lines[] = {{steps[i], HANG, "", 0},
                                     {NULL, SAY, NULL, 0}};
        open_world(&w, lines);
        begin_start(&w, NULL);
        while (!scripted_saw(w.scripted, steps[i]))
            cellar_loop_run(w.loop, 10);
        close_world(&w);
        assert_false(w.done);
    }
}

static void gives_up_at_the_deadline(void **state)
{
    (void)state;
    assert_start_fails((struct line){"/images/", HANG, "", 0}, CELLAR_E_TIMEOUT,
                       "no answer within 10.0 s", false);
}

/* ---------------------------------------------------- the attach stream -- */

static void attach_to(struct world *w, const char *stream, size_t len)
{
    static char reply[256]; /* lives as long as the engine */
    static struct line lines[2];
    size_t head = (size_t)snprintf(reply, sizeof(reply), SCRIPTED_101);
    assert_true(head + len <= sizeof(reply));
    memcpy(reply + head, stream, len);
    lines[0] = (struct line){"/attach", DRIP, reply, head + len};
    open_world(w, lines);
    assert_int_equal(w->engine->ops->attach(w->engine, "abc", 0, &events,
                                            on_started, w, NULL),
                     CELLAR_OK);
    run_until(w, &w->done);
    assert_int_equal(w->err.code, CELLAR_OK);
    run_until(w, &w->closed);
}

static void tells_streams_apart_byte_by_byte(void **state)
{
    (void)state;
    struct world w;
    static const char bytes[] = "\1\0\0\0\0\0\0\2ab"
                                "\2\0\0\0\0\0\0\1!"
                                "\1\0\0\0\0\0\0\0"
                                "\0\0\0\0\0\0\0\1c"
                                "\7\0\0\0\0\0\0\1x";
    attach_to(&w, bytes, sizeof(bytes) - 1);
    assert_int_equal(w.len, 3);
    assert_memory_equal(w.bytes, "abc", 3);
    assert_string_equal(w.text, "!");
    assert_int_equal(w.end.code, CELLAR_E_ENGINE);
    assert_non_null(strstr(w.end.msg, "no known kind"));
    close_world(&w);
}

static void refuses_a_chunk_without_end(void **state)
{
    (void)state;
    struct world w;
    attach_to(&w, "\1\0\0\0\xff\xff\xff\xffxxxx", 12);
    assert_int_equal(w.end.code, CELLAR_E_ENGINE);
    assert_non_null(strstr(w.end.msg, "too long"));
    assert_int_equal(w.len, 0);
    assert_int_equal(cellar_stream_write(w.stream, (const uint8_t *)"x", 1),
                     CELLAR_E_LOST);
    close_world(&w);
}

static void quotes_the_engine_that_breaks_off(void **state)
{
    (void)state;
    struct world w;
    attach_to(&w, "\3\0\0\0\0\0\0\5sorry", 13);
    assert_int_equal(w.end.code, CELLAR_E_ENGINE);
    assert_non_null(strstr(w.end.msg, "s"));
    close_world(&w);
}

/* ------------------------------------------------------ the other calls -- */

static void list_from(const char *body, struct world *w)
{
    char reply[512];
    snprintf(reply, sizeof(reply), "HTTP/1.1 200 OK\r\n\r\n%s", body);
    const struct line lines[] = {say("/containers/json", reply),
                                 {NULL, SAY, NULL, 0}};
    open_world(w, lines);
    assert_int_equal(w->engine->ops->list(w->engine, on_row, on_done, w, NULL),
                     CELLAR_OK);
    run_until(w, &w->done);
    close_world(w);
}

static void refuses_a_list_that_is_none(void **state)
{
    (void)state;
    static const char *const bodies[] = {"{}", "null", "[[", "", "\xff\xfe"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        struct world w;
        list_from(bodies[i], &w);
        assert_int_equal(w.err.code, CELLAR_E_ENGINE);
        assert_int_equal(w.rows, 0);
    }
}

static void passes_over_rows_that_make_no_sense(void **state)
{
    (void)state;
    struct world w;
    list_from("[1, null, {}, {\"Id\":\"../x\"}, {\"Id\":\"abc\",\"Labels\":7,"
              "\"Created\":-1}]",
              &w);
    assert_int_equal(w.err.code, CELLAR_OK);
    assert_int_equal(w.rows, 1);
}

static void refuses_to_attach_to_what_does_not_run(void **state)
{
    (void)state;
    struct world w;
    const struct line lines[] = {
        say("/containers/abc/json",
            "HTTP/1.1 200 OK\r\n\r\n"
            "{\"State\":{\"Running\":false,\"Status\":\"exited\"},\"Id\":"
            "1234}"),
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    assert_int_equal(w.engine->ops->attach(w.engine, "abc", 0, &events,
                                           on_started, &w, NULL),
                     CELLAR_OK);
    run_until(&w, &w.done);
    assert_int_equal(w.err.code, CELLAR_E_LOST);
    assert_false(scripted_saw(w.scripted, "/attach"));
    assert_false(scripted_saw(w.scripted, "DELETE"));
    close_world(&w);
}

static void a_removal_under_way_is_waited_for(void **state)
{
    (void)state;
    struct world w;
    const struct line lines[] = {
        say("DELETE ", "HTTP/1.1 409 Conflict\r\n\r\n{}"),
        say("/wait?condition=removed", "HTTP/1.1 200 OK\r\n\r\n{}"),
        {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    assert_int_equal(w.engine->ops->remove(w.engine, "abc", on_done, &w, NULL),
                     CELLAR_OK);
    run_until(&w, &w.done);
    assert_int_equal(w.err.code, CELLAR_OK);
    assert_true(scripted_saw(w.scripted, "/wait?"));
    close_world(&w);
}

static void on_usage(void *user, const struct cellar_usage *usage,
                     const struct cellar_error *err)
{
    struct world *w = user;
    assert_true(!usage == !!err);
    w->done = true;
    if (usage)
        w->usage = *usage;
    if (err)
        w->err = *err;
}

static void measure(struct world *w, const char *stats)
{
    const struct line lines[] = {
        {"GET /version", CUT, SCRIPTED_OK "{\"ApiVersion\":\"1.41\"}", 0},
        {"/json", CUT, SCRIPTED_OK "{\"State\":{\"Pid\":1}}", 0},
        {"/stats", CUT, stats, 0},
        {NULL, SAY, NULL, 0}};
    open_world(w, lines);
    assert_int_equal(w->engine->ops->usage(w->engine, "abc", on_usage, w, NULL),
                     CELLAR_OK);
    run_until(w, &w->done);
    close_world(w);
}

/* Its process is none of this machine's: the group of process 1 has another
 * name. */
static void a_container_elsewhere_is_measured_by_its_engine(void **state)
{
    (void)state;
    struct world w;
    measure(&w, SCRIPTED_OK
            "{\"cpu_stats\":{\"cpu_usage\":{\"total_usage\":5000}},"
            "\"pids_stats\":{\"current\":3,\"limit\":128},"
            "\"memory_stats\":{\"usage\":700,\"limit\":900,\"stats\":"
            "{\"total_inactive_file\":200}}}");
    assert_int_equal(w.usage.cpu_us, 5);
    assert_int_equal(w.usage.memory_bytes, 500);
    assert_int_equal(w.usage.memory_limit_bytes, 900);
    assert_int_equal(w.usage.pids, 3);
    assert_int_equal(w.usage.pids_limit, 128);
}

static void numbers_beyond_all_bounds_are_bounded(void **state)
{
    (void)state;
    struct world w;
    measure(&w, SCRIPTED_OK
            "{\"cpu_stats\":{\"cpu_usage\":{\"total_usage\":-7}},"
            "\"pids_stats\":{\"current\":3,"
            "\"limit\":18446744073709551615},"
            "\"memory_stats\":{\"usage\":5,\"limit\":1e300,\"stats\":"
            "{\"inactive_file\":7}}}");
    assert_int_equal(w.err.code, CELLAR_OK);
    assert_int_equal(w.usage.cpu_us, 0);
    assert_int_equal(w.usage.memory_bytes, 0);
    assert_true(w.usage.memory_limit_bytes == UINT64_MAX);
    assert_int_equal(w.usage.pids, 3);
    assert_true(w.usage.pids_limit == UINT64_MAX);
}

static void a_measure_that_makes_no_sense_is_an_error(void **state)
{
    (void)state;
    static const char *const bodies[] = {SCRIPTED_OK "[]", SCRIPTED_OK "{",
                                         SCRIPTED_OK,
                                         "HTTP/1.1 500 Oops\r\n\r\n"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        struct world w;
        measure(&w, bodies[i]);
        assert_int_equal(w.err.code, CELLAR_E_ENGINE);
    }
}

static void what_does_not_run_is_not_measured(void **state)
{
    (void)state;
    struct world w;
    measure(&w, SCRIPTED_OK "{\"memory_stats\":{},\"pids_stats\":{}}");
    assert_int_equal(w.err.code, CELLAR_E_LOST);
    measure(&w, "HTTP/1.1 404 Not Found\r\n\r\n{\"message\":\"none\"}");
    assert_int_equal(w.err.code, CELLAR_E_LOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_when_all_is_well),
        cmocka_unit_test(names_what_is_no_engine),
        cmocka_unit_test(names_a_missing_image_and_its_cure),
        cmocka_unit_test(refuses_an_image_with_a_volume),
        cmocka_unit_test(names_a_full_disk_and_its_cure),
        cmocka_unit_test(names_a_name_that_is_taken),
        cmocka_unit_test(refuses_a_container_without_an_id),
        cmocka_unit_test(refuses_a_protection_that_is_missing),
        cmocka_unit_test(does_without_a_protection_that_was_allowed),
        cmocka_unit_test(undoes_when_attaching_fails),
        cmocka_unit_test(undoes_when_starting_fails),
        cmocka_unit_test(undoes_when_the_agent_ends_at_once),
        cmocka_unit_test(gives_the_first_reason_when_the_undo_fails_too),
        cmocka_unit_test(may_be_freed_at_any_step_of_a_start),
        cmocka_unit_test(gives_up_at_the_deadline),
        cmocka_unit_test(tells_streams_apart_byte_by_byte),
        cmocka_unit_test(refuses_a_chunk_without_end),
        cmocka_unit_test(quotes_the_engine_that_breaks_off),
        cmocka_unit_test(refuses_a_list_that_is_none),
        cmocka_unit_test(passes_over_rows_that_make_no_sense),
        cmocka_unit_test(refuses_to_attach_to_what_does_not_run),
        cmocka_unit_test(a_removal_under_way_is_waited_for),
        cmocka_unit_test(a_container_elsewhere_is_measured_by_its_engine),
        cmocka_unit_test(numbers_beyond_all_bounds_are_bounded),
        cmocka_unit_test(a_measure_that_makes_no_sense_is_an_error),
        cmocka_unit_test(what_does_not_run_is_not_measured),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
