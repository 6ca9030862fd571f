#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/engine/docker/http_head.h"

static const char upgraded[] = "HTTP/1.1 101 UPGRADED\r\n"
                               "Content-Type: "
                               "application/vnd.docker.raw-stream\r\n"
                               "Connection: Upgrade\r\n"
                               "Upgrade: tcp\r\n\r\nbytes";

static enum cellar_code parse(const char *text, struct cellar_http_head *head)
{
    return cellar_http_head_parse(text, strlen(text), head);
}

static void reads_what_docker_answers(void **state)
{
    (void)state;
    struct cellar_http_head head = {0};
    assert_int_equal(parse(upgraded, &head), CELLAR_OK);
    assert_int_equal(head.status, 101);
    assert_true(head.upgrade_tcp);
    assert_true(head.raw_stream);
    assert_false(head.chunked);
    assert_false(head.has_length);
    assert_string_equal(upgraded + head.len, "bytes");
    assert_true(cellar_http_head_is_stream(&head));
}

static void waits_for_the_end_of_the_head(void **state)
{
    (void)state;
    size_t whole = sizeof(upgraded) - 1 - 5;
    for (size_t len = 0; len < whole; len++) {
        struct cellar_http_head head = {.status = 7};
        assert_int_equal(cellar_http_head_parse(upgraded, len, &head),
                         CELLAR_E_AGAIN);
        assert_int_equal(head.status, 7);
    }
}

static void takes_names_in_any_case_and_trims_values(void **state)
{
    (void)state;
    struct cellar_http_head head = {0};
    assert_int_equal(parse("HTTP/1.0 200 OK\r\ncontent-TYPE:  "
                           "Application/vnd.docker.multiplexed-stream \r\n\r\n",
                           &head),
                     CELLAR_OK);
    assert_true(cellar_http_head_is_stream(&head));
    assert_int_equal(
        parse("HTTP/1.1 404\r\nCONTENT-LENGTH:\t12\t\r\n\r\n", &head),
        CELLAR_OK);
    assert_int_equal(head.status, 404);
    assert_int_equal(head.length, 12);
}

static void tells_a_stream_from_a_page(void **state)
{
    (void)state;
    static const char *const others[] = {
        "HTTP/1.1 101 x\r\n\r\n",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 x\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 x\r\nUpgrade: tcp\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Type: text/html\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
        "Transfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 201 x\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
        "\r\n",
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        struct cellar_http_head head = {0};
        assert_int_equal(parse(others[i], &head), CELLAR_OK);
        assert_false(cellar_http_head_is_stream(&head));
    }
}

static void refuses_what_is_no_head(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 2000 x\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.x 200 x\r\n\r\n",
        "HTTP/1.1 200 x\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 x\r\n: no name\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1 2\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct cellar_http_head head = {.status = 7};
        assert_int_equal(parse(wrong[i], &head), CELLAR_E_PROTO);
        assert_int_equal(head.status, 7);
    }
}

static void finds_a_stranger_out_at_the_first_byte(void **state)
{
    (void)state;
    struct cellar_http_head head = {0};
    assert_int_equal(cellar_http_head_parse("S", 1, &head), CELLAR_E_PROTO);
    assert_int_equal(cellar_http_head_parse("HTTQ", 4, &head), CELLAR_E_PROTO);
    assert_int_equal(cellar_http_head_parse("HTTP", 4, &head), CELLAR_E_AGAIN);
}

static void bounds_a_head(void **state)
{
    (void)state;
    static char text[CELLAR_HTTP_HEAD_MAX + 100];
    struct cellar_http_head head = {0};
    static const char end[4] = {'\r', '\n', '\r', '\n'};
    int len = snprintf(text, sizeof(text), "HTTP/1.1 200 x\r\nX: ");
    memset(text + len, 'x', sizeof(text) - (size_t)len);
    assert_int_equal(
        cellar_http_head_parse(text, CELLAR_HTTP_HEAD_MAX - 1, &head),
        CELLAR_E_AGAIN);
    assert_int_equal(cellar_http_head_parse(text, CELLAR_HTTP_HEAD_MAX, &head),
                     CELLAR_E_LIMIT);
    memcpy(text + sizeof(text) - sizeof(end), end, sizeof(end));
    assert_int_equal(cellar_http_head_parse(text, sizeof(text), &head),
                     CELLAR_E_LIMIT);
}

static void survives_every_flipped_bit(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < (sizeof(upgraded) - 1) * 8; bit++) {
        char bytes[sizeof(upgraded)];
        struct cellar_http_head head = {0};
        memcpy(bytes, upgraded, sizeof(upgraded));
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        enum cellar_code code =
            cellar_http_head_parse(bytes, sizeof(bytes) - 1, &head);
        assert_true(code == CELLAR_OK || code == CELLAR_E_PROTO ||
                    code == CELLAR_E_AGAIN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_docker_answers),
        cmocka_unit_test(waits_for_the_end_of_the_head),
        cmocka_unit_test(takes_names_in_any_case_and_trims_values),
        cmocka_unit_test(tells_a_stream_from_a_page),
        cmocka_unit_test(refuses_what_is_no_head),
        cmocka_unit_test(finds_a_stranger_out_at_the_first_byte),
        cmocka_unit_test(bounds_a_head),
        cmocka_unit_test(survives_every_flipped_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
