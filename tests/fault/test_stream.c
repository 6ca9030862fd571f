/* An attach that is refused, cut, or answered with something else: `closed`
 * comes once, within the deadline, and says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "count_fds.h"
#include "kernel/engine/docker/http.h"
#include "scripted.h"

#define DEADLINE_MS 400

static const struct cellar_http_request request = {.path = "/attach",
                                                   .deadline_ms = DEADLINE_MS};

struct outcome {
    struct cellar_http_stream *stream;
    int opened;
    int closed;
    bool close_when_opened;
    bool close_at_bytes;
    int status;
    struct cellar_error err;
    char bytes[256];
    size_t len;
};

static void drop(struct outcome *o)
{
    cellar_http_stream_close(o->stream);
    o->stream = NULL;
}

static void on_opened(void *user)
{
    struct outcome *o = user;
    o->opened++;
    if (o->close_when_opened)
        drop(o);
}

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    struct outcome *o = user;
    assert_non_null(o->stream);
    assert_int_equal(o->closed, 0);
    for (size_t i = 0; i < len && o->len < sizeof(o->bytes); i++)
        o->bytes[o->len++] = (char)data[i];
    if (o->close_at_bytes)
        drop(o);
}

static void on_closed(void *user, int status, const struct cellar_error *err)
{
    struct outcome *o = user;
    assert_non_null(o->stream);
    o->closed++;
    o->status = status;
    if (err)
        o->err = *err;
    drop(o);
}

static const struct cellar_http_stream_events events = {
    .opened = on_opened,
    .bytes = on_bytes,
    .closed = on_closed,
};

static void upgrade(const char *host, struct outcome *o)
{
    struct cellar_loop *loop = NULL;
    struct cellar_http *http = NULL;
    assert_int_equal(cellar_loop_new(&loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_http_new(loop, host, &http, NULL), CELLAR_OK);
    assert_int_equal(
        cellar_http_upgrade(http, &request, &events, o, &o->stream, NULL),
        CELLAR_OK);
    uint64_t end = cellar_loop_now_us() + 2 * DEADLINE_MS * 1000;
    while (o->stream && cellar_loop_now_us() < end)
        cellar_loop_run(loop, 20);
    assert_null(o->stream);
    cellar_http_free(http);
    cellar_loop_free(loop);
}

static struct outcome upgrade_to(enum manner manner, const char *reply,
                                 struct outcome o)
{
    const struct line lines[] = {{"/attach", manner, reply, 0},
                                 {NULL, SAY, NULL, 0}};
    int fds = count_fds();
    struct scripted *s = scripted_start(lines, NULL);
    upgrade(scripted_host(s), &o);
    scripted_stop(s);
    assert_int_equal(count_fds(), fds);
    return o;
}

static struct outcome upgrade_scripted(enum manner manner, const char *reply)
{
    return upgrade_to(manner, reply, (struct outcome){0});
}

static void assert_refused(const struct outcome *o, enum cellar_code code,
                           int status, const char *words)
{
    assert_int_equal(o->opened, 0);
    assert_int_equal(o->closed, 1);
    assert_int_equal(o->err.code, code);
    assert_int_equal(o->status, status);
    assert_non_null(strstr(o->err.msg, words));
}

static void opens_on_101(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(CUT, SCRIPTED_101 "hello");
    assert_int_equal(o.opened, 1);
    assert_int_equal(o.closed, 1);
    assert_int_equal(o.err.code, CELLAR_OK);
    assert_memory_equal(o.bytes, "hello", 5);
}

static void opens_on_200_of_docker(void **state)
{
    (void)state;
    struct outcome o =
        upgrade_scripted(CUT, "HTTP/1.1 200 OK\r\nContent-Type: "
                              "application/vnd.docker.raw-stream\r\n\r\nhello");
    assert_int_equal(o.opened, 1);
    assert_memory_equal(o.bytes, "hello", 5);
}

static void opens_when_bytes_come_one_by_one(void **state)
{
    (void)state;
    struct outcome o = upgrade_to(DRIP, SCRIPTED_101 "h",
                                  (struct outcome){.close_at_bytes = 1});
    assert_int_equal(o.opened, 1);
    assert_int_equal(o.closed, 0);
    assert_memory_equal(o.bytes, "h", 1);
}

static void may_be_closed_as_it_opens(void **state)
{
    (void)state;
    struct outcome o = upgrade_to(FLOOD, SCRIPTED_101 "hello",
                                  (struct outcome){.close_when_opened = 1});
    assert_int_equal(o.opened, 1);
    assert_int_equal(o.closed, 0);
    assert_int_equal(o.len, 0);
}

static void may_be_closed_amid_a_flood(void **state)
{
    (void)state;
    struct outcome o =
        upgrade_to(FLOOD, SCRIPTED_101, (struct outcome){.close_at_bytes = 1});
    assert_int_equal(o.opened, 1);
    assert_int_equal(o.bytes[0], 'x');
}

static void refuses_another_protocol(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(
        SAY, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    assert_refused(&o, CELLAR_E_ENGINE, 101, "opened no stream");
    o = upgrade_scripted(SAY, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_refused(&o, CELLAR_E_ENGINE, 101, "opened no stream");
}

static void refuses_a_page(void **state)
{
    (void)state;
    struct outcome o =
        upgrade_scripted(SAY, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
                              "Content-Length: 6\r\n\r\n<html>");
    assert_refused(&o, CELLAR_E_ENGINE, 200, "opened no stream");
}

static void gives_the_words_of_a_refusal(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(
        SAY, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"
             "Content-Length: 21\r\n\r\n{\"message\":\"no such\"}");
    assert_refused(&o, CELLAR_E_ENGINE, 404, "{\"message\":\"no such\"}");
}

static void bounds_the_words_of_a_refusal(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(FLOOD, "HTTP/1.1 500 Oops\r\n\r\n");
    assert_refused(&o, CELLAR_E_ENGINE, 500, "xxxx");
}

static void waits_for_a_refusal_no_longer_than_the_deadline(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(
        HANG, "HTTP/1.1 500 Oops\r\nContent-Length: 99\r\n\r\nhalf a re");
    assert_refused(&o, CELLAR_E_ENGINE, 500, "half a re");
}

static void gives_up_at_the_deadline(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(HANG, "");
    assert_refused(&o, CELLAR_E_TIMEOUT, 0, "no answer within 0.4 s");
    o = upgrade_scripted(HANG, "HTTP/1.1 101 UPG");
    assert_refused(&o, CELLAR_E_TIMEOUT, 0, "no answer within 0.4 s");
}

static void says_that_the_head_was_cut(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(CUT, "HTTP/1.1 101 UPGRADED\r\nConn");
    assert_refused(&o, CELLAR_E_ENGINE, 0, "broke");
    o = upgrade_scripted(CUT, "");
    assert_refused(&o, CELLAR_E_ENGINE, 0, "broke");
}

static void refuses_what_is_not_http(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(SAY, "220 mail.example.org ESMTP\r\n");
    assert_refused(&o, CELLAR_E_ENGINE, 0, "not HTTP");
}

static void bounds_the_head(void **state)
{
    (void)state;
    struct outcome o = upgrade_scripted(FLOOD, "HTTP/1.1 101 UPGRADED\r\nX: ");
    assert_refused(&o, CELLAR_E_ENGINE, 0, "too long");
}

/* A peer that does not read: what waits for it is bounded, and nothing
 * blocks. */
static void bounds_what_waits_to_be_written(void **state)
{
    (void)state;
    static const uint8_t block[65536];
    struct cellar_loop *loop = NULL;
    struct cellar_http *http = NULL;
    struct outcome o = {0};
    const struct line lines[] = {{"/attach", HANG, SCRIPTED_101, 0},
                                 {NULL, SAY, NULL, 0}};
    struct scripted *s = scripted_start(lines, NULL);
    assert_int_equal(cellar_loop_new(&loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_http_new(loop, scripted_host(s), &http, NULL),
                     CELLAR_OK);
    assert_int_equal(
        cellar_http_upgrade(http, &request, &events, &o, &o.stream, NULL),
        CELLAR_OK);
    assert_int_equal(cellar_http_stream_write(o.stream, block, 1),
                     CELLAR_E_LOST); /* not open yet */
    while (!o.opened)
        cellar_loop_run(loop, 20);
    size_t taken = 0;
    enum cellar_code code = CELLAR_OK;
    while (!code && taken < 4 * CELLAR_HTTP_QUEUE_MAX) {
        code = cellar_http_stream_write(o.stream, block, sizeof(block));
        taken += code ? 0 : sizeof(block);
    }
    assert_int_equal(code, CELLAR_E_LIMIT);
    assert_true(taken >= CELLAR_HTTP_QUEUE_MAX - sizeof(block));
    scripted_stop(s);
    while (o.stream)
        cellar_loop_run(loop, 20);
    assert_int_equal(o.closed, 1);
    cellar_http_free(http);
    cellar_loop_free(loop);
}

static void says_that_nobody_is_there(void **state)
{
    (void)state;
    struct outcome o = {0};
    upgrade("unix:///nonexistent/docker.sock", &o);
    assert_refused(&o, CELLAR_E_ENGINE, 0, "no container engine answers");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_on_101),
        cmocka_unit_test(opens_on_200_of_docker),
        cmocka_unit_test(opens_when_bytes_come_one_by_one),
        cmocka_unit_test(may_be_closed_as_it_opens),
        cmocka_unit_test(may_be_closed_amid_a_flood),
        cmocka_unit_test(refuses_another_protocol),
        cmocka_unit_test(refuses_a_page),
        cmocka_unit_test(gives_the_words_of_a_refusal),
        cmocka_unit_test(bounds_the_words_of_a_refusal),
        cmocka_unit_test(waits_for_a_refusal_no_longer_than_the_deadline),
        cmocka_unit_test(gives_up_at_the_deadline),
        cmocka_unit_test(says_that_the_head_was_cut),
        cmocka_unit_test(refuses_what_is_not_http),
        cmocka_unit_test(bounds_the_head),
        cmocka_unit_test(bounds_what_waits_to_be_written),
        cmocka_unit_test(says_that_nobody_is_there),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
