/* The wire with no memory. */
#include "oom.h"

#include <string.h>

#include "proto/link.h"
#include "proto/sign.h"

static struct cellar_bytes bytes_of(const char *text)
{
    return (struct cellar_bytes){(const uint8_t *)text, strlen(text)};
}

static struct cellar_message large_run(void)
{
    static uint8_t code[30000];
    memset(code, 'x', sizeof(code));
    return (struct cellar_message){
        .type = CELLAR_MSG_RUN,
        .cell = 1,
        .u.run = {.code = {code, sizeof(code)}, .output_max = 1 << 20}};
}

static struct cellar_message done_with_result(void)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DONE, .cell = 1, .mark = 1};
    msg.u.done.parts = 2;
    msg.u.done.result[0].type = bytes_of("text/plain");
    msg.u.done.result[0].data = bytes_of("42");
    msg.u.done.result[1].type = bytes_of("text/html");
    msg.u.done.result[1].data = bytes_of("<b>42</b>");
    return msg;
}

/* ------------------------------------------------------------ messages -- */

static enum cellar_code pack(void *user)
{
    struct cellar_buf out;
    cellar_buf_init(&out, CELLAR_PAYLOAD_MAX);
    enum cellar_code code = cellar_buf_append(&out, "before", 6);
    if (code == CELLAR_OK) {
        code = cellar_message_pack(user, &out);
        assert_true((cellar_buf_len(&out) == 6) == (code != CELLAR_OK));
        assert_memory_equal(cellar_buf_peek(&out), "before", 6);
    }
    cellar_buf_done(&out);
    return code;
}

static void a_message_is_packed_whole_or_not_at_all(void **state)
{
    struct cellar_message run = large_run();
    struct cellar_message done = done_with_result();
    (void)state;
    oom_sweep(pack, &run);
    oom_sweep(pack, &done);
}

static enum cellar_code unpack(void *user)
{
    const struct cellar_buf *payload = user;
    struct cellar_message msg;
    struct cellar_message before;
    memset(&msg, 0x5a, sizeof(msg));
    before = msg;
    enum cellar_code code = cellar_message_unpack(
        cellar_buf_peek(payload), cellar_buf_len(payload), &msg);
    if (code != CELLAR_OK)
        assert_memory_equal(&msg, &before, sizeof(msg));
    else
        assert_int_equal(msg.type, CELLAR_MSG_DONE);
    return code;
}

static void a_message_is_unpacked_whole_or_not_at_all(void **state)
{
    struct cellar_message done = done_with_result();
    struct cellar_buf payload;
    (void)state;
    cellar_buf_init(&payload, CELLAR_PAYLOAD_MAX);
    assert_int_equal(cellar_message_pack(&done, &payload), CELLAR_OK);
    oom_sweep(unpack, &payload);
    cellar_buf_done(&payload);
}

/* --------------------------------------------------------------- links -- */

static const uint8_t key[CELLAR_KEY_BYTES] = "a key of the test's";
static const uint8_t nonce[CELLAR_NONCE_BYTES] = "nonce";

struct pair {
    struct cellar_link host;
    struct cellar_link agent;
    struct cellar_buf wire;
};

/* All that stands on the wire, to `to`; the last message in `msg`. A link that
 * has no memory says so, at once or as the reason of its broken epoch. */
static enum cellar_code carry(struct pair *pair, struct cellar_link *to,
                              struct cellar_message *msg)
{
    enum cellar_code code = CELLAR_OK;
    enum cellar_code got = CELLAR_E_AGAIN;
    while (code == CELLAR_OK && cellar_buf_len(&pair->wire) > 0) {
        size_t used = 0;
        size_t len = cellar_buf_len(&pair->wire);
        code = cellar_link_feed(to, cellar_buf_peek(&pair->wire),
                                len < 1000 ? len : 1000, &used);
        cellar_buf_consume(&pair->wire, used);
        if (code == CELLAR_OK && got != CELLAR_OK)
            got = cellar_link_next(to, msg);
        if (code == CELLAR_OK && got != CELLAR_OK && got != CELLAR_E_AGAIN)
            code = got;
        if (used == 0 && code == CELLAR_OK)
            break;
    }
    return code == CELLAR_OK ? got : code;
}

static enum cellar_code shake_hands(struct pair *pair)
{
    struct cellar_message hello = {.type = CELLAR_MSG_HELLO,
                                   .u.hello.lease_ms = 1000};
    struct cellar_message welcome = {.type = CELLAR_MSG_WELCOME};
    struct cellar_message msg;
    enum cellar_code code =
        cellar_link_greet(&pair->host, true, nonce, &hello, &pair->wire);
    if (code == CELLAR_OK)
        code = carry(pair, &pair->agent, &msg);
    if (code == CELLAR_OK)
        code = cellar_link_welcome(&pair->agent, nonce, &welcome, &pair->wire);
    if (code == CELLAR_OK)
        code = carry(pair, &pair->host, &msg);
    return code;
}

static enum cellar_code talk(struct pair *pair)
{
    struct cellar_message run = large_run();
    struct cellar_message done = done_with_result();
    struct cellar_message msg;
    size_t before = cellar_buf_len(&pair->wire);
    enum cellar_code code = cellar_link_send(&pair->host, &run, &pair->wire);
    if (code != CELLAR_OK)
        assert_int_equal(cellar_buf_len(&pair->wire), before);
    if (code == CELLAR_OK)
        code = carry(pair, &pair->agent, &msg);
    if (code == CELLAR_OK) {
        assert_int_equal(msg.u.run.code.len, run.u.run.code.len);
        code = cellar_link_send(&pair->agent, &done, &pair->wire);
    }
    if (code == CELLAR_OK)
        code = carry(pair, &pair->host, &msg);
    if (code == CELLAR_OK)
        assert_int_equal(msg.u.done.parts, 2);
    return code;
}

static enum cellar_code converse(void *user)
{
    struct pair pair;
    (void)user;
    cellar_link_init(&pair.host, CELLAR_ROLE_HOST, key);
    cellar_link_init(&pair.agent, CELLAR_ROLE_AGENT, NULL);
    cellar_buf_init(&pair.wire, 1 << 20);
    enum cellar_code code = shake_hands(&pair);
    if (code == CELLAR_OK)
        code = talk(&pair);
    cellar_link_done(&pair.host);
    cellar_link_done(&pair.agent);
    cellar_buf_done(&pair.wire);
    return code;
}

static void two_links_talk_or_say_that_they_cannot(void **state)
{
    (void)state;
    assert_int_equal(cellar_sign_init(), CELLAR_OK);
    oom_sweep(converse, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_packed_whole_or_not_at_all),
        cmocka_unit_test(a_message_is_unpacked_whole_or_not_at_all),
        cmocka_unit_test(two_links_talk_or_say_that_they_cannot),
    };
    oom_init();
    return cmocka_run_group_tests_name("oom proto", tests, NULL, NULL);
}
