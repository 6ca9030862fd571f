/* Replies that are late, cut, broken or endless: each request ends within its
 * deadline with an error that says so, and leaves no descriptor behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "count_fds.h"
#include "kernel/engine/docker/http.h"
#include "scripted.h"

#define DEADLINE_MS 400

struct outcome {
    bool done;
    int status;
    char body[256];
    struct cellar_error err;
};

static void on_done(void *user, int status, const char *body, size_t len,
                    const struct cellar_error *err)
{
    struct outcome *o = user;
    assert_false(o->done);
    o->done = true;
    o->status = status;
    assert_int_equal(strlen(body), len);
    snprintf(o->body, sizeof(o->body), "%s", body);
    if (err)
        o->err = *err;
}

static void ask(struct cellar_loop *loop, const char *host,
                struct outcome *outcome)
{
    struct cellar_http *http = NULL;
    struct cellar_http_request request = {.method = "GET",
                                          .path = "/thing",
                                          .deadline_ms = DEADLINE_MS,
                                          .reply_max = 4096};
    assert_int_equal(cellar_http_new(loop, host, &http, NULL), CELLAR_OK);
    assert_int_equal(
        cellar_http_begin(http, &request, on_done, outcome, NULL, NULL),
        CELLAR_OK);
    assert_false(outcome->done);
    uint64_t end = cellar_loop_now_us() + 2 * DEADLINE_MS * 1000;
    while (!outcome->done && cellar_loop_now_us() < end)
        cellar_loop_run(loop, 50);
    assert_true(outcome->done);
    cellar_http_free(http);
}

static struct outcome ask_host(const char *host)
{
    struct outcome outcome = {0};
    struct cellar_loop *loop = NULL;
    assert_int_equal(cellar_loop_new(&loop, NULL), CELLAR_OK);
    ask(loop, host, &outcome);
    cellar_loop_free(loop);
    return outcome;
}

static struct outcome ask_scripted(enum manner manner, const char *reply)
{
    const struct line lines[] = {{"/thing", manner, reply, 0},
                                 {NULL, SAY, NULL, 0}};
    int fds = count_fds();
    struct scripted *s = scripted_start(lines, NULL);
    struct outcome outcome = ask_host(scripted_host(s));
    scripted_stop(s);
    assert_int_equal(count_fds(), fds);
    return outcome;
}

static void assert_failed(const struct outcome *o, enum cellar_code code,
                          const char *words)
{
    assert_int_equal(o->err.code, code);
    assert_int_equal(o->status, 0);
    assert_non_null(strstr(o->err.msg, words));
}

/* ------------------------------------------------------------ no reply -- */

static void names_the_cure_when_no_socket_is_there(void **state)
{
    (void)state;
    struct outcome o = ask_host("unix:///nonexistent/docker.sock");
    assert_failed(&o, CELLAR_E_ENGINE, "unix:///nonexistent/docker.sock");
    assert_non_null(strstr(o.err.msg, "systemctl start docker"));
}

static void bind_socket(const char *path, int *fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    unlink(path);
    *fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&address, sizeof(address)),
                     0);
}

static void says_that_the_connection_was_refused(void **state)
{
    (void)state;
    char path[64];
    char host[80];
    int fd = -1;
    snprintf(path, sizeof(path), "/tmp/cellar-fault-%d.sock", (int)getpid());
    snprintf(host, sizeof(host), "unix://%s", path);
    bind_socket(path, &fd); /* and nobody listens */
    struct outcome o = ask_host(host);
    assert_failed(&o, CELLAR_E_ENGINE, "Connection refused");
    close(fd);
    unlink(path);
}

static void says_who_may_use_the_socket(void **state)
{
    (void)state;
    char path[64];
    char host[80];
    int fd = -1;
    snprintf(path, sizeof(path), "/tmp/cellar-fault-%d.sock", (int)getpid());
    snprintf(host, sizeof(host), "unix://%s", path);
    bind_socket(path, &fd);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(chmod(path, 0), 0);
    bool root = geteuid() == 0; /* whom no mode stops */
    if (root)
        assert_int_equal(seteuid(65534), 0);
    struct outcome o = ask_host(host);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_failed(&o, CELLAR_E_DENIED, "docker group");
    close(fd);
    unlink(path);
}

static void gives_up_at_the_deadline(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(HANG, "");
    assert_failed(&o, CELLAR_E_TIMEOUT, "no answer within 0.4 s");
}

static void gives_up_amid_a_reply(void **state)
{
    (void)state;
    struct outcome o =
        ask_scripted(HANG, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal");
    assert_failed(&o, CELLAR_E_TIMEOUT, "no answer within 0.4 s");
}

static void says_that_no_byte_came(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(CUT, "");
    assert_failed(&o, CELLAR_E_ENGINE, "cut the connection");
}

/* --------------------------------------------------------- bad replies -- */

static void says_that_the_head_was_cut(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(CUT, "HTTP/1.1 200 OK\r\nContent-Le");
    assert_failed(&o, CELLAR_E_ENGINE, "");
}

static void says_that_the_body_was_cut(void **state)
{
    (void)state;
    struct outcome o =
        ask_scripted(CUT, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal");
    assert_failed(&o, CELLAR_E_ENGINE, "cut the connection");
}

static void refuses_garbage_as_chunk_size(void **state)
{
    (void)state;
    static const char *const sizes[] = {"zz", "-1", "ffffffffffffffffff", ""};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char reply[128];
        snprintf(reply, sizeof(reply),
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "%s\r\nhello\r\n",
                 sizes[i]);
        struct outcome o = ask_scripted(CUT, reply);
        assert_failed(&o, CELLAR_E_ENGINE, "");
    }
}

static void says_that_chunks_were_cut(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(
        CUT, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe");
    assert_failed(&o, CELLAR_E_ENGINE, "cut the connection");
}

static void refuses_what_is_not_http(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(CUT, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
    assert_failed(&o, CELLAR_E_ENGINE, "not HTTP");
}

static void bounds_the_reply(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(FLOOD, "HTTP/1.1 200 OK\r\n\r\n");
    assert_failed(&o, CELLAR_E_LIMIT, "longer than 4096 bytes");
}

static void bounds_the_head(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(FLOOD, "HTTP/1.1 200 OK\r\nX: ");
    assert_int_not_equal(o.err.code, CELLAR_OK);
    assert_int_equal(o.status, 0);
}

/* -------------------------------------------------------- good replies -- */

static void takes_a_reply_of_single_bytes(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(
        DRIP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              "5\r\nhello\r\n0\r\n\r\n");
    assert_int_equal(o.err.code, CELLAR_OK);
    assert_int_equal(o.status, 200);
    assert_string_equal(o.body, "hello");
}

static void hands_over_the_status_of_an_error(void **state)
{
    (void)state;
    struct outcome o = ask_scripted(SAY, "HTTP/1.1 500 Oops\r\n"
                                         "Content-Length: 4\r\n\r\nbad!");
    assert_int_equal(o.err.code, CELLAR_OK);
    assert_int_equal(o.status, 500);
    assert_string_equal(o.body, "bad!");
}

static void may_be_freed_with_a_request_under_way(void **state)
{
    (void)state;
    const struct line lines[] = {{"/thing", HANG, "", 0}, {NULL, SAY, NULL, 0}};
    int fds = count_fds();
    struct scripted *s = scripted_start(lines, NULL);
    struct cellar_loop *loop = NULL;
    struct cellar_http *http = NULL;
    struct cellar_http_call *call = NULL;
    struct outcome o = {0};
    struct cellar_http_request request = {.method = "GET",
                                          .path = "/thing",
                                          .deadline_ms = DEADLINE_MS,
                                          .reply_max = 10};
    assert_int_equal(cellar_loop_new(&loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_http_new(loop, scripted_host(s), &http, NULL),
                     CELLAR_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            cellar_http_begin(http, &request, on_done, &o, &call, NULL),
            CELLAR_OK);
    cellar_loop_run(loop, 20);
    cellar_http_cancel(call);
    cellar_loop_run(loop, 20);
    cellar_http_free(http);
    cellar_loop_free(loop);
    scripted_stop(s);
    assert_false(o.done);
    assert_int_equal(count_fds(), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_the_cure_when_no_socket_is_there),
        cmocka_unit_test(says_that_the_connection_was_refused),
        cmocka_unit_test(says_who_may_use_the_socket),
        cmocka_unit_test(gives_up_at_the_deadline),
        cmocka_unit_test(gives_up_amid_a_reply),
        cmocka_unit_test(says_that_no_byte_came),
        cmocka_unit_test(says_that_the_head_was_cut),
        cmocka_unit_test(says_that_the_body_was_cut),
        cmocka_unit_test(refuses_garbage_as_chunk_size),
        cmocka_unit_test(says_that_chunks_were_cut),
        cmocka_unit_test(refuses_what_is_not_http),
        cmocka_unit_test(bounds_the_reply),
        cmocka_unit_test(bounds_the_head),
        cmocka_unit_test(takes_a_reply_of_single_bytes),
        cmocka_unit_test(hands_over_the_status_of_an_error),
        cmocka_unit_test(may_be_freed_with_a_request_under_way),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
