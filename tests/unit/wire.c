#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/sign.h"

#define TEXT(s)                                                                \
    {                                                                          \
        (const uint8_t *)(s), sizeof(s) - 1                                    \
    }

#define EIGHT(n)                                                               \
    (n), (n) + 1, (n) + 2, (n) + 3, (n) + 4, (n) + 5, (n) + 6, (n) + 7
#define THIRTY_TWO(n)                                                          \
    {                                                                          \
        EIGHT(n), EIGHT((n) + 8), EIGHT((n) + 16), EIGHT((n) + 24)             \
    }

const uint8_t wire_key[CELLAR_KEY_BYTES] = THIRTY_TWO(0x00);
const uint8_t wire_host_nonce[CELLAR_NONCE_BYTES] = THIRTY_TWO(0x40);
const uint8_t wire_agent_nonce[CELLAR_NONCE_BYTES] = THIRTY_TWO(0x80);

static const struct {
    const char *name;
    struct cellar_message msg;
} examples[] = {
    {"hello",
     {.type = CELLAR_MSG_HELLO,
      .mark = 5,
      .u.hello = {.version = 2,
                  .nonce = THIRTY_TWO(0x40),
                  .lease_ms = 1800000,
                  .life_ms = 86400000,
                  .grace_ms = 2000,
                  .nproc = 64,
                  .nofile = 256,
                  .fsize = 67108864,
                  .policy = CELLAR_CHECKPOINT_AUTO,
                  .preload = "numpy,os.path"}}},
    {"run",
     {.type = CELLAR_MSG_RUN,
      .cell = 7,
      .mark = 5,
      .u.run = {.code = TEXT("x += 1\nx"),
                .timeout_ms = 30000,
                .output_max = 1048576}}},
    {"interrupt", {.type = CELLAR_MSG_INTERRUPT, .cell = 7, .mark = 9}},
    {"reset", {.type = CELLAR_MSG_RESET, .mark = 10}},
    {"ping", {.type = CELLAR_MSG_PING, .mark = 200}},
    {"stop", {.type = CELLAR_MSG_STOP, .mark = 201}},
    {"checkpoint",
     {.type = CELLAR_MSG_CHECKPOINT, .mark = 11, .u.tag = {TEXT("loaded")}}},
    {"restore",
     {.type = CELLAR_MSG_RESTORE, .mark = 13, .u.tag = {TEXT("loaded")}}},
    {"drop", {.type = CELLAR_MSG_DROP, .mark = 15, .u.tag = {TEXT("loaded")}}},
    {"list", {.type = CELLAR_MSG_LIST, .mark = 16}},
    {"fork", {.type = CELLAR_MSG_FORK, .mark = 17, .u.fork = {.count = 2}}},
    {"welcome",
     {.type = CELLAR_MSG_WELCOME,
      .u.welcome = {.version = 2,
                    .nonce = THIRTY_TWO(0x80),
                    .epoch = 1,
                    .generation = 2,
                    .ready = 1,
                    .last_cell = 7,
                    .delivered = 9}}},
    {"ready",
     {.type = CELLAR_MSG_READY,
      .mark = 1,
      .u.ready = {.generation = 1,
                  .python = TEXT("3.11.2"),
                  .landlock_abi = 3,
                  .seccomp = 2}}},
    {"output",
     {.type = CELLAR_MSG_OUTPUT,
      .cell = 7,
      .mark = 6,
      .u.output = {.stream = 1, .data = TEXT("hello\n")}}},
    {"display",
     {.type = CELLAR_MSG_DISPLAY,
      .cell = 7,
      .mark = 7,
      .u.display = {.count = 2,
                    .parts = {{TEXT("text/plain"), TEXT("<Figure>")},
                              {TEXT("image/png"), TEXT("\x89PNG")}}}}},
    {"done",
     {.type = CELLAR_MSG_DONE,
      .cell = 7,
      .mark = 8,
      .u.done = {.status = CELLAR_STATUS_OK,
                 .state = CELLAR_STATE_KEPT,
                 .parts = 1,
                 .result = {{TEXT("text/plain"), TEXT("42")}},
                 .wall_us = 1500,
                 .cpu_us = 900,
                 .peak_memory_bytes = 12582912,
                 .checkpoint = CELLAR_TAKEN_YES}}},
    {"done-error",
     {.type = CELLAR_MSG_DONE,
      .cell = 8,
      .mark = 9,
      .u.done = {.status = CELLAR_STATUS_ERROR,
                 .state = CELLAR_STATE_RESTORED,
                 .restored_from = 6,
                 .limit = CELLAR_LIMIT_OUTPUT,
                 .has_error = true,
                 .error_name = TEXT("ValueError"),
                 .error_message = TEXT("bad"),
                 .traceback = TEXT("Cell 8, line 1"),
                 .dropped_stdout = 10,
                 .dropped_stderr = 20,
                 .wall_us = 70000,
                 .cpu_us = 60000,
                 .peak_memory_bytes = 5000000000,
                 .checkpoint = CELLAR_TAKEN_NO,
                 .checkpoint_why = TEXT("2 of its threads would be missing")}}},
    {"fault",
     {.type = CELLAR_MSG_FAULT,
      .mark = 1,
      .u.fault = {.code = CELLAR_FAULT_MUSL, .text = TEXT("ld-musl")}}},
    {"pong", {.type = CELLAR_MSG_PONG}},
    {"reply",
     {.type = CELLAR_MSG_REPLY,
      .mark = 12,
      .u.reply = {.request = CELLAR_MSG_CHECKPOINT,
                  .ok = true,
                  .after = 7,
                  .took_us = 2500}}},
    {"reply-fork",
     {.type = CELLAR_MSG_REPLY,
      .mark = 18,
      .u.reply = {.request = CELLAR_MSG_FORK,
                  .ok = true,
                  .after = 7,
                  .took_us = 4750,
                  .lane = 3}}},
    {"reply-refused",
     {.type = CELLAR_MSG_REPLY,
      .mark = 14,
      .u.reply = {.request = CELLAR_MSG_RESTORE,
                  .text = TEXT("there is no checkpoint of this name"),
                  .after = 9}}},
    {"copies",
     {.type = CELLAR_MSG_COPIES,
      .mark = 17,
      .u.copies = {.held_bytes = 52428800,
                   .count = 2,
                   .kept = {{TEXT("loaded"), 7, 60000}, {TEXT(""), 9, 1500}}}}},
};

const char *const wire_examples[] = {
    "hello",      "run",        "interrupt", "reset",   "ping",
    "stop",       "checkpoint", "restore",   "drop",    "list",
    "welcome",    "ready",      "output",    "display", "done",
    "done-error", "fault",      "pong",      "reply",   "reply-refused",
    "copies",     "fork",       "reply-fork"};
const size_t wire_example_count =
    sizeof(wire_examples) / sizeof(wire_examples[0]);

struct cellar_message wire_example(const char *name)
{
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
        if (strcmp(examples[i].name, name) == 0)
            return examples[i].msg;
    fail_msg("there is no example '%s'", name);
    return (struct cellar_message){0};
}

enum cellar_code wire_pack(const struct cellar_message *msg)
{
    struct cellar_buf buf;
    cellar_buf_init(&buf, CELLAR_PAYLOAD_MAX);
    enum cellar_code code = cellar_message_pack(msg, &buf);
    if (code != CELLAR_OK)
        assert_int_equal(cellar_buf_len(&buf), 0);
    cellar_buf_done(&buf);
    return code;
}

enum cellar_code wire_unpack(const void *bytes, size_t len)
{
    struct cellar_message msg;
    struct cellar_message before;
    memset(&msg, 0xa5, sizeof(msg));
    before = msg;
    enum cellar_code code = cellar_message_unpack(bytes, len, &msg);
    if (code != CELLAR_OK)
        assert_memory_equal(&msg, &before, sizeof(msg));
    return code;
}

void wire_fits(const struct cellar_message *msg)
{
    struct cellar_buf buf;
    cellar_buf_init(&buf, CELLAR_PAYLOAD_MAX);
    assert_int_equal(cellar_message_pack(msg, &buf), CELLAR_OK);
    assert_int_equal(wire_unpack(cellar_buf_peek(&buf), cellar_buf_len(&buf)),
                     CELLAR_OK);
    cellar_buf_done(&buf);
}

/* -------------------------------------------------------------- the page -- */

static const char *page(void)
{
    static char text[256 << 10];
    if (text[0])
        return text;
    const char *path = CELLAR_SOURCE_DIR "/docs/PROTOCOL.md";
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s can't be opened", path);
    size_t len = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[len] = '\0';
    return text;
}

bool wire_page_has(const char *text)
{
    return strstr(page(), text) != NULL;
}

size_t wire_page_blocks(void)
{
    size_t count = 0;
    for (const char *at = page(); (at = strstr(at, "```hex\n# ")) != NULL; at++)
        count++;
    return count;
}

/* Bytes up to the end of the line or its comment. */
static size_t hex_line(const char *line, uint8_t *bytes, size_t max)
{
    size_t count = 0;
    for (;;) {
        char *end = NULL;
        unsigned long value = strtoul(line, &end, 16);
        if (end == line)
            return count;
        assert_true(count < max && value <= 0xff);
        bytes[count++] = (uint8_t)value;
        line = end;
    }
}

size_t wire_page_block(const char *name, uint8_t *bytes, size_t max)
{
    char fence[64];
    snprintf(fence, sizeof(fence), "```hex\n# %s\n", name);
    const char *at = strstr(page(), fence);
    if (!at)
        fail_msg("docs/PROTOCOL.md has no block of hex '%s'", name);
    size_t count = 0;
    for (at += strlen(fence); strncmp(at, "```", 3) != 0;
         at = strchr(at, '\n') + 1) {
        char line[128];
        size_t len = strcspn(at, "\n");
        snprintf(line, sizeof(line), "%.*s", (int)len, at);
        count += hex_line(line, bytes + count, max - count);
    }
    return count;
}

/* ----------------------------------------------------------------- links -- */

void wire_open(struct cellar_link *host, struct cellar_link *agent)
{
    struct cellar_buf out;
    struct cellar_message hello = wire_example("hello");
    struct cellar_message welcome = wire_example("welcome");
    struct cellar_message msg;
    size_t used = 0;
    assert_int_equal(cellar_sign_init(), CELLAR_OK);
    cellar_link_init(host, CELLAR_ROLE_HOST, wire_key);
    cellar_link_init(agent, CELLAR_ROLE_AGENT, NULL);
    cellar_buf_init(&out, 4096);
    assert_int_equal(
        cellar_link_greet(host, true, wire_host_nonce, &hello, &out),
        CELLAR_OK);
    assert_int_equal(
        wire_feed(agent, cellar_buf_peek(&out), cellar_buf_len(&out), &used),
        CELLAR_E_AGAIN);
    assert_int_equal(agent->state, CELLAR_LINK_WELCOMING);
    cellar_buf_reset(&out);
    assert_int_equal(
        cellar_link_welcome(agent, wire_agent_nonce, &welcome, &out),
        CELLAR_OK);
    assert_int_equal(cellar_link_feed(host, cellar_buf_peek(&out),
                                      cellar_buf_len(&out), &used),
                     CELLAR_OK);
    assert_int_equal(used, cellar_buf_len(&out));
    assert_int_equal(cellar_link_next(host, &msg), CELLAR_OK);
    assert_int_equal(host->state, CELLAR_LINK_OPEN);
    cellar_buf_done(&out);
}

enum cellar_code wire_feed(struct cellar_link *link, const uint8_t *bytes,
                           size_t len, size_t *taken)
{
    struct cellar_message msg;
    enum cellar_code code = CELLAR_E_AGAIN;
    *taken = 0;
    while (len > 0 && code == CELLAR_E_AGAIN) {
        size_t used = 0;
        code = cellar_link_feed(link, bytes, len, &used);
        if (code != CELLAR_OK)
            return code;
        bytes += used;
        len -= used;
        while ((code = cellar_link_next(link, &msg)) == CELLAR_OK)
            (*taken)++;
        if (used == 0)
            return code;
    }
    return code;
}

/* ------------------------------------------------------------ randomness -- */

static uint64_t random_state;

void wire_seed(void)
{
    const char *text = getenv("CELLAR_TEST_SEED");
    random_state = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    print_message("CELLAR_TEST_SEED=%llu\n", (unsigned long long)random_state);
}

/* splitmix64 */
uint64_t wire_random(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

uint64_t wire_below(uint64_t n)
{
    return wire_random() % n;
}
