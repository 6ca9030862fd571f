/* A Docker engine that fails the way to a lane at each of its steps: inspect,
 * exec, its start. The call ends once, says what it was and what helps, and
 * leaves nothing open. */
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

#define LANE UINT64_C(4294967295)

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
    char text[64];
};

static const char made[] = "HTTP/1.1 201 Created\r\n\r\n{\"Id\":\"e1f\"}";

/* What scripted_good lacks, done well. */
static const struct line good[] = {
    {"/json", CUT,
     SCRIPTED_OK "{\"State\":{\"Running\":true},"
                 "\"Config\":{\"User\":\"61001:61001\"}}",
     0},
    {"/containers/abc/exec", CUT, made, 0},
    {"/exec/e1f/start", SAY, SCRIPTED_101, 0},
    {"GET /version", CUT, SCRIPTED_OK "{\"ApiVersion\":\"1.41\"}", 0},
    {NULL, SAY, NULL, 0},
};

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    struct world *w = user;
    size_t at = strlen(w->bytes);
    snprintf(w->bytes + at, sizeof(w->bytes) - at, "%.*s", (int)len,
             (const char *)data);
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
    assert_true(!id == !!err && !stream == !!err);
    w->done = true;
    w->stream = stream;
    if (err)
        w->err = *err;
    else
        assert_string_equal(id, "abc");
}

static void open_world(struct world *w, const struct line *lines)
{
    *w = (struct world){.fds = count_fds()};
    w->scripted = scripted_start(lines, good);
    assert_int_equal(cellar_loop_new(&w->loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_docker_new(w->loop, scripted_host(w->scripted),
                                       CELLAR_SOURCE_DIR "/kernel/engine", NULL,
                                       NULL, &w->engine, NULL),
                     CELLAR_OK);
    assert_int_equal(w->engine->ops->attach(w->engine, "abc", LANE, &events,
                                            on_started, w, NULL),
                     CELLAR_OK);
    assert_false(w->done);
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

/* An attach with one line of the good script replaced. */
static void assert_fails(struct line line, enum cellar_code code,
                         const char *words)
{
    struct world w;
    const struct line lines[] = {line, {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    run_until(&w, &w.done);
    assert_int_equal(w.err.code, code);
    if (!strstr(w.err.msg, words))
        fail_msg("\"%s\" is not in \"%s\"", words, w.err.msg);
    assert_false(w.closed);
    assert_false(scripted_saw(w.scripted, "DELETE"));
    close_world(&w);
}

static struct line say(const char *match, const char *reply)
{
    return (struct line){match, CUT, reply, 0};
}

#define EXEC  "/containers/abc/exec"
#define START "/exec/e1f/start"

static void a_lane_is_a_relay_of_the_containers_user(void **state)
{
    (void)state;
    struct world w;
    const struct line lines[] = {{START, CUT,
                                  SCRIPTED_101 "\1\0\0\0\0\0\0\3out"
                                               "\2\0\0\0\0\0\0\3err",
                                  sizeof(SCRIPTED_101) - 1 + 22},
                                 {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    run_until(&w, &w.done);
    assert_int_equal(w.err.code, CELLAR_OK);
    run_until(&w, &w.closed);
    assert_int_equal(w.end.code, CELLAR_OK);
    assert_string_equal(w.bytes, "out");
    assert_string_equal(w.text, "err");
    assert_true(scripted_saw(w.scripted, "POST /v1.41" EXEC));
    assert_true(scripted_saw(
        w.scripted, "\n{\"AttachStdin\":true,\"AttachStdout\":true,"
                    "\"AttachStderr\":true,\"Tty\":false,\"Privileged\":false,"
                    "\"User\":\"61001:61001\","
                    "\"Cmd\":[\"/cellar/relay\",\"4294967295\"]}\n"));
    assert_true(scripted_saw(w.scripted, "POST /v1.41" START " HTTP/1.1\n"
                                         "{\"Detach\":false,\"Tty\":false}\n"));
    assert_false(scripted_saw(w.scripted, "/attach"));
    close_world(&w);
}

static void there_are_no_lanes_beyond_the_last(void **state)
{
    (void)state;
    struct world w;
    struct cellar_error err = {0};
    open_world(&w, NULL);
    assert_int_equal(w.engine->ops->attach(w.engine, "abc", LANE + 1, &events,
                                           on_started, &w, &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "4294967296"));
    run_until(&w, &w.done);
    close_world(&w);
}

static void a_container_that_is_gone_is_lost(void **state)
{
    (void)state;
    static const char gone[] = "HTTP/1.1 404 Not Found\r\n\r\n"
                               "{\"message\":\"No such container: abc\"}";
    assert_fails(say("/json", gone), CELLAR_E_LOST, "No such container");
    assert_fails(say(EXEC, gone), CELLAR_E_LOST, "No such container");
    assert_fails(say("/json", SCRIPTED_OK
                     "{\"State\":{\"Running\":false,\"Status\":\"exited\"}}"),
                 CELLAR_E_LOST, "it is exited");
}

/* It may be paused: that is no reason to give it up. */
static void the_engines_reason_is_told(void **state)
{
    (void)state;
    assert_fails(say(EXEC, "HTTP/1.1 409 Conflict\r\n\r\n"
                           "{\"message\":\"Container abc is paused, unpause "
                           "the container before exec\"}"),
                 CELLAR_E_ENGINE, "(409): Container abc is paused, unpause");
    assert_fails(say(EXEC, "HTTP/1.1 500 Oops\r\n\r\n{\"message\":\"boo\"}"),
                 CELLAR_E_ENGINE,
                 "making a relay in the container: the engine "
                 "says (500): boo");
    assert_fails(say(START, "HTTP/1.1 409 Conflict\r\n\r\n"
                            "{\"message\":\"Container abc is paused\"}"),
                 CELLAR_E_ENGINE, "(409): Container abc is paused");
    assert_fails(say(START, "HTTP/1.1 404 Not Found\r\n\r\n"
                            "{\"message\":\"No such exec instance: e1f\"}"),
                 CELLAR_E_ENGINE, "No such exec instance");
}

static void names_the_cure_of_an_image_without_relay(void **state)
{
    (void)state;
    static const char none[] =
        "HTTP/1.1 400 Bad Request\r\n\r\n"
        "{\"message\":\"exec: \\\"/cellar/relay\\\": no such file\"}";
    assert_fails(say(EXEC, none), CELLAR_E_IMAGE, "`cellar image build`");
    assert_fails(say(START, none), CELLAR_E_IMAGE, "`cellar image build`");
}

static void refuses_a_relay_without_an_id(void **state)
{
    (void)state;
    static const char *const bodies[] = {"",
                                         "[]",
                                         "{}",
                                         "{\"Id\":\"../../x\"}",
                                         "{\"Id\":5}",
                                         "{\"Id\":",
                                         "{\"Id\":\"\"}",
                                         "{\"Id\":\"a b\"}"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        char reply[128];
        snprintf(reply, sizeof(reply), "HTTP/1.1 201 Created\r\n\r\n%s",
                 bodies[i]);
        assert_fails(say(EXEC, reply), CELLAR_E_ENGINE, "names no id");
    }
}

static void refuses_another_user_than_a_sessions(void **state)
{
    (void)state;
    static const char *const users[] = {"\"\"",        "\"root\"",
                                        "\"0:0\"",     "\"61001\"",
                                        "\"61001:\"",  "\":61001\"",
                                        "7",           "\"1:1:1\"",
                                        "\"1:1\\\"\"", "\"61001:61001610016\"",
                                        "\"61001:0\""};
    for (size_t i = 0; i < sizeof(users) / sizeof(*users); i++) {
        char reply[256];
        snprintf(reply, sizeof(reply),
                 SCRIPTED_OK "{\"State\":{\"Running\":true},"
                             "\"Config\":{\"User\":%s}}",
                 users[i]);
        assert_fails(say("/json", reply), CELLAR_E_ENGINE, "none of Cellar's");
    }
}

static void a_start_that_opens_no_stream_is_an_error(void **state)
{
    (void)state;
    assert_fails(say(START, "HTTP/1.1 204 No Content\r\n\r\n"), CELLAR_E_ENGINE,
                 "opened no stream");
    assert_fails(say(START, "HTTP/1.1 200 OK\r\n\r\n{}"), CELLAR_E_ENGINE,
                 "opened no stream");
    assert_fails(say(START, "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"),
                 CELLAR_E_ENGINE, "opened no stream");
}

static void a_cut_at_any_step_is_an_error(void **state)
{
    (void)state;
    static const char *const steps[] = {"/json", EXEC, START};
    static const char *const cuts[] = {"", "HTTP/1.1 2", "HTTP/1.1 101 Up\r\n"};
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
        for (size_t j = 0; j < sizeof(cuts) / sizeof(*cuts); j++)
            assert_fails(say(steps[i], cuts[j]), CELLAR_E_ENGINE, "");
}

static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    assert_fails((struct line){START, HANG, "", 0}, CELLAR_E_TIMEOUT,
                 "no answer within 10.0 s");
}

/* What a relay says that nobody waits for, on an engine that answers well. */
static void a_relay_that_ends_at_once_is_a_stream_that_ends(void **state)
{
    (void)state;
    struct world w;
    const struct line lines[] = {{START, CUT, SCRIPTED_101 "\2\0\0\0\0\0\0\2no",
                                  sizeof(SCRIPTED_101) - 1 + 10},
                                 {NULL, SAY, NULL, 0}};
    open_world(&w, lines);
    run_until(&w, &w.done);
    assert_int_equal(w.err.code, CELLAR_OK);
    run_until(&w, &w.closed);
    assert_string_equal(w.text, "no");
    assert_int_equal(cellar_stream_write(w.stream, (const uint8_t *)"x", 1),
                     CELLAR_E_LOST);
    close_world(&w);
}

static void may_be_freed_at_any_step(void **state)
{
    (void)state;
    static const char *const steps[] = {"/version", "/json", EXEC, START};
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        struct world w;
        const struct line lines[] = {{steps[i], HANG, "", 0},
                                     {NULL, SAY, NULL, 0}};
        open_world(&w, lines);
        while (!scripted_saw(w.scripted, steps[i]))
            cellar_loop_run(w.loop, 10);
        close_world(&w);
        assert_false(w.done);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lane_is_a_relay_of_the_containers_user),
        cmocka_unit_test(there_are_no_lanes_beyond_the_last),
        cmocka_unit_test(a_container_that_is_gone_is_lost),
        cmocka_unit_test(the_engines_reason_is_told),
        cmocka_unit_test(names_the_cure_of_an_image_without_relay),
        cmocka_unit_test(refuses_a_relay_without_an_id),
        cmocka_unit_test(refuses_another_user_than_a_sessions),
        cmocka_unit_test(a_start_that_opens_no_stream_is_an_error),
        cmocka_unit_test(a_cut_at_any_step_is_an_error),
        cmocka_unit_test(silence_ends_at_the_deadline),
        cmocka_unit_test(a_relay_that_ends_at_once_is_a_stream_that_ends),
        cmocka_unit_test(may_be_freed_at_any_step),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
