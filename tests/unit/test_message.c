#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message.h"
#include "proto/record.h"
#include "wire.h"

static uint8_t large[CELLAR_PAYLOAD_MAX];

static struct cellar_bytes zeros(size_t len)
{
    return (struct cellar_bytes){large, len};
}

/* ------------------------------------------------------------ the page -- */

static void packs_the_bytes_of_the_page(void **state)
{
    (void)state;
    for (size_t i = 0; i < wire_example_count; i++) {
        uint8_t page[512];
        struct cellar_buf buf;
        struct cellar_message msg = wire_example(wire_examples[i]);
        size_t len = wire_page_block(wire_examples[i], page, sizeof(page));
        cellar_buf_init(&buf, CELLAR_PAYLOAD_MAX);
        assert_int_equal(cellar_message_pack(&msg, &buf), CELLAR_OK);
        assert_int_equal(cellar_buf_len(&buf), len);
        assert_memory_equal(cellar_buf_peek(&buf), page, len);
        cellar_buf_done(&buf);
    }
}

static void unpacks_the_bytes_of_the_page(void **state)
{
    (void)state;
    for (size_t i = 0; i < wire_example_count; i++) {
        uint8_t page[512];
        struct cellar_buf buf;
        struct cellar_message msg;
        size_t len = wire_page_block(wire_examples[i], page, sizeof(page));
        assert_int_equal(cellar_message_unpack(page, len, &msg), CELLAR_OK);
        cellar_buf_init(&buf, CELLAR_PAYLOAD_MAX);
        assert_int_equal(cellar_message_pack(&msg, &buf), CELLAR_OK);
        assert_int_equal(cellar_buf_len(&buf), len);
        assert_memory_equal(cellar_buf_peek(&buf), page, len);
        cellar_buf_done(&buf);
    }
}

static void unpacks_into_the_named_fields(void **state)
{
    (void)state;
    uint8_t page[512];
    struct cellar_message msg;
    size_t len = wire_page_block("done-error", page, sizeof(page));
    assert_int_equal(cellar_message_unpack(page, len, &msg), CELLAR_OK);
    assert_int_equal(msg.type, CELLAR_MSG_DONE);
    assert_int_equal(msg.cell, 8);
    assert_int_equal(msg.mark, 9);
    assert_int_equal(msg.u.done.restored_from, 6);
    assert_int_equal(msg.u.done.parts, 0);
    assert_true(msg.u.done.has_error);
    assert_memory_equal(msg.u.done.error_name.data, "ValueError", 10);
    assert_memory_equal(msg.u.done.traceback.data, "Cell 8, line 1", 14);
    assert_int_equal(msg.u.done.dropped_stderr, 20);
    assert_int_equal(msg.u.done.peak_memory_bytes, 5000000000);
    len = wire_page_block("display", page, sizeof(page));
    assert_int_equal(cellar_message_unpack(page, len, &msg), CELLAR_OK);
    assert_int_equal(msg.u.display.count, 2);
    assert_int_equal(msg.u.display.parts[1].type.len, 9);
    assert_memory_equal(msg.u.display.parts[1].data.data, "\x89PNG", 4);
}

#define NAMED(limit)                                                           \
    {                                                                          \
#limit, limit                                                          \
    }

static void the_page_has_every_message_and_limit(void **state)
{
    (void)state;
    static const char *const headings[] = {
#define HEADING(name, number, word) "### " word " (" #number ")\n",
        CELLAR_MESSAGE_MAP(HEADING)
#undef HEADING
    };
    static const struct {
        const char *name;
        uint64_t value;
    } limits[] = {
        NAMED(CELLAR_WIRE_VERSION),    NAMED(CELLAR_PAYLOAD_MAX),
        NAMED(CELLAR_CODE_MAX),        NAMED(CELLAR_CHUNK_MAX),
        NAMED(CELLAR_RESULT_MAX),      NAMED(CELLAR_NAME_MAX),
        NAMED(CELLAR_MESSAGE_MAX),     NAMED(CELLAR_TRACEBACK_MAX),
        NAMED(CELLAR_DEPTH_MAX),       NAMED(CELLAR_ITEMS_MAX),
        NAMED(CELLAR_MIME_MAX),        NAMED(CELLAR_MS_MAX),
        NAMED(CELLAR_SIGNAL_MAX),      NAMED(CELLAR_RING_BYTES),
        NAMED(CELLAR_HUNT_MAX),        NAMED(CELLAR_CHECKPOINT_TAG_MAX),
        NAMED(CELLAR_CHECKPOINTS_MAX), NAMED(CELLAR_COPIES_MAX),
        NAMED(CELLAR_BRANCHES_MAX),    NAMED(CELLAR_WHY_MAX),
        NAMED(CELLAR_PRELOAD_MAX),
    };
    for (size_t i = 0; i < sizeof(headings) / sizeof(headings[0]); i++)
        if (!wire_page_has(headings[i]))
            fail_msg("docs/PROTOCOL.md lacks %s", headings[i]);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        char row[128];
        snprintf(row, sizeof(row), "| `%s` | %llu |\n", limits[i].name,
                 (unsigned long long)limits[i].value);
        if (!wire_page_has(row))
            fail_msg("docs/PROTOCOL.md lacks %s", row);
    }
    /* The messages; and 8 that test_sign, test_link and this file read. */
    assert_int_equal(wire_page_blocks(), wire_example_count + 8);
}

static void the_page_has_the_numbers_of_all_words(void **state)
{
    (void)state;
    static const char *const words[] = {
#define WORD(name, number, word)             word " " #number,
#define FAULT_WORD(name, number, word, text) word " " #number,
        CELLAR_STATE_MAP(WORD) CELLAR_LIMIT_MAP(WORD)
            CELLAR_CHECKPOINT_MAP(WORD) CELLAR_TAKEN_MAP(WORD)
                CELLAR_FAULT_MAP(FAULT_WORD)
#undef WORD
#undef FAULT_WORD
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (!wire_page_has(words[i]))
            fail_msg("docs/PROTOCOL.md lacks '%s'", words[i]);
    for (int i = 0; i < CELLAR_STATUS_LOST; i++) {
        char word[64];
        snprintf(word, sizeof(word), "%s %d", cellar_status_name(i), i);
        if (!wire_page_has(word))
            fail_msg("docs/PROTOCOL.md lacks '%s'", word);
    }
}

static size_t record(uint8_t *to, char kind, const void *body, size_t len)
{
    memcpy(to, (const uint8_t[]){0, 0, 0, (uint8_t)len, (uint8_t)kind},
           CELLAR_RECORD_HEADER_BYTES);
    memcpy(to + CELLAR_RECORD_HEADER_BYTES, body, len);
    return CELLAR_RECORD_HEADER_BYTES + len;
}

static void the_records_of_the_page_are_those_of_the_header(void **state)
{
    (void)state;
    uint8_t page[256];
    uint8_t made[256];
    const uint8_t end[CELLAR_RECORD_END_BYTES] = {
        0xc0, 0xff, 0xee, 0xc0, 0xff, 0xee, 0xc0, 0xff, CELLAR_OUTCOME_OK,
        0,    0,    0,    0};
    size_t len = record(made, CELLAR_RECORD_CODE,
                        "\0\0\0\0\0\0\0\7\xc0\xff\xee\xc0\xff\xee\xc0\xff\1"
                        "6 * 7",
                        22);
    len += record(made + len, CELLAR_RECORD_MIME,
                  "text/plain\0"
                  "42",
                  13);
    len += record(made + len, CELLAR_RECORD_END, end, sizeof(end));
    assert_int_equal(wire_page_block("records", page, sizeof(page)), len);
    assert_memory_equal(page, made, len);
}

static void the_records_of_a_copy_are_those_of_the_header(void **state)
{
    (void)state;
    uint8_t page[256];
    uint8_t made[256];
    const uint8_t wake[CELLAR_RECORD_WAKE_BYTES] = {
        CELLAR_WAKE_RESTORE, 0x0a, 0xca, 0xfe, 0x0a, 0xca, 0xfe, 0x0a, 0xca};
    uint8_t awake[CELLAR_RECORD_AWAKE_BYTES];
    memcpy(awake, wake + 1, sizeof(awake));
    awake[CELLAR_RECORD_AWAKE_BYTES - 1]++;
    size_t len = record(made, CELLAR_RECORD_FREEZE, "", 0);
    len += record(made + len, CELLAR_RECORD_FROZEN, "", 0);
    len += record(made + len, CELLAR_RECORD_WAKE, wake, sizeof(wake));
    len += record(made + len, CELLAR_RECORD_AWAKE, awake, sizeof(awake));
    assert_int_equal(wire_page_block("records-copy", page, sizeof(page)), len);
    assert_memory_equal(page, made, len);
}

static void the_page_has_every_record(void **state)
{
    (void)state;
    static const char kinds[] = {
#define LETTER(name, letter) letter,
        CELLAR_RECORD_MAP(LETTER)
#undef LETTER
    };
    for (size_t i = 0; i < sizeof(kinds); i++) {
        char cell[16];
        snprintf(cell, sizeof(cell), "`%c` ", kinds[i]);
        if (!wire_page_has(cell))
            fail_msg("docs/PROTOCOL.md lacks the record %s", cell);
    }
}

/* ------------------------------------------------------------- bounds -- */

static void bounds_code_chunks_and_texts(void **state)
{
    (void)state;
    struct cellar_message run = wire_example("run");
    run.u.run.code = zeros(CELLAR_CODE_MAX);
    wire_fits(&run);
    run.u.run.code.len++;
    assert_int_equal(wire_pack(&run), CELLAR_E_LIMIT);
    run.u.run.code.len = 0;
    wire_fits(&run);
    run.u.run.timeout_ms = CELLAR_MS_MAX + 1;
    assert_int_equal(wire_pack(&run), CELLAR_E_LIMIT);

    struct cellar_message output = wire_example("output");
    output.u.output.data = zeros(CELLAR_CHUNK_MAX);
    wire_fits(&output);
    output.u.output.data.len++;
    assert_int_equal(wire_pack(&output), CELLAR_E_LIMIT);
    output.u.output.data.len = 0;
    assert_int_equal(wire_pack(&output), CELLAR_E_PROTO);
    output = wire_example("output");
    output.u.output.stream = 3;
    assert_int_equal(wire_pack(&output), CELLAR_E_LIMIT);
    output.u.output.stream = 0;
    assert_int_equal(wire_pack(&output), CELLAR_E_PROTO);

    struct cellar_message fault = wire_example("fault");
    fault.u.fault.text = zeros(CELLAR_MESSAGE_MAX);
    wire_fits(&fault);
    fault.u.fault.text.len++;
    assert_int_equal(wire_pack(&fault), CELLAR_E_LIMIT);
}

/* Every number with a bound of its own, at it and beyond it. */
static void bounds_numbers(void **state)
{
    (void)state;
    struct cellar_message hello = wire_example("hello");
    struct cellar_message welcome = wire_example("welcome");
    struct cellar_message ready = wire_example("ready");
    struct cellar_message fault = wire_example("fault");
    struct cellar_message done = wire_example("done-error");
    struct cellar_message reply = wire_example("reply");
    struct cellar_message fork = wire_example("fork");
    struct {
        struct cellar_message *msg;
        uint64_t *field;
        uint64_t min;
        uint64_t max;
    } cases[] = {
        {&hello, &hello.u.hello.lease_ms, 1, CELLAR_MS_MAX},
        {&hello, &hello.u.hello.life_ms, 0, CELLAR_MS_MAX},
        {&hello, &hello.u.hello.grace_ms, 0, CELLAR_MS_MAX},
        {&welcome, &welcome.u.welcome.ready, 0, 1},
        {&welcome, &welcome.u.welcome.epoch, 1, 0},
        {&ready, &ready.u.ready.generation, 1, 0},
        {&ready, &ready.u.ready.landlock_abi, 0, UINT32_MAX},
        {&ready, &ready.u.ready.seccomp, 0, 2},
        {&fault, &fault.u.fault.code, 1, CELLAR_FAULT_PRELOAD},
        {&hello, &hello.u.hello.policy, 0, CELLAR_CHECKPOINT_AUTO},
        {&done, &done.u.done.checkpoint, 2, CELLAR_TAKEN_NO},
        {&reply, &reply.u.reply.request, 0, CELLAR_MSG_FORK},
        {&reply, &reply.u.reply.lane, 0, UINT32_MAX},
        {&fork, &fork.u.fork.count, 1, CELLAR_BRANCHES_MAX},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t before = *cases[i].field;
        uint64_t max = cases[i].max; /* 0: any number goes */
        if (max > 0) {
            *cases[i].field = max;
            wire_fits(cases[i].msg);
            *cases[i].field = max + 1;
            assert_int_equal(wire_pack(cases[i].msg), CELLAR_E_LIMIT);
        }
        *cases[i].field = cases[i].min;
        wire_fits(cases[i].msg);
        *cases[i].field = 0;
        assert_int_equal(wire_pack(cases[i].msg),
                         cases[i].min > 0 ? CELLAR_E_PROTO : CELLAR_OK);
        *cases[i].field = before;
    }
}

static void bounds_the_data_of_a_bundle_as_a_whole(void **state)
{
    (void)state;
    struct cellar_message display = wire_example("display");
    struct cellar_msg_display *d = &display.u.display;
    d->count = CELLAR_MIME_MAX;
    for (size_t i = 0; i < CELLAR_MIME_MAX; i++)
        d->parts[i] = (struct cellar_mime_part){
            zeros(CELLAR_NAME_MAX), zeros(CELLAR_RESULT_MAX / CELLAR_MIME_MAX)};
    wire_fits(&display);
    d->parts[7].data.len++;
    assert_int_equal(wire_pack(&display), CELLAR_E_LIMIT);
    d->parts[7].data.len--;
    d->parts[15].type.len++;
    assert_int_equal(wire_pack(&display), CELLAR_E_LIMIT);
    d->parts[15].type.len = 0;
    assert_int_equal(wire_pack(&display), CELLAR_E_PROTO);
    d->count = CELLAR_MIME_MAX + 1;
    assert_int_equal(wire_pack(&display), CELLAR_E_LIMIT);
    d->count = 0;
    assert_int_equal(wire_pack(&display), CELLAR_E_PROTO);
}

static void the_largest_done_fits_in_a_frame(void **state)
{
    (void)state;
    struct cellar_message done = wire_example("done-error");
    done.u.done.error_name = zeros(CELLAR_NAME_MAX);
    done.u.done.error_message = zeros(CELLAR_MESSAGE_MAX);
    done.u.done.traceback = zeros(CELLAR_TRACEBACK_MAX);
    done.u.done.checkpoint_why = zeros(CELLAR_WHY_MAX);
    wire_fits(&done);
    done = wire_example("done");
    done.u.done.result[0].data = zeros(CELLAR_RESULT_MAX);
    wire_fits(&done);
}

static void a_full_buffer_takes_no_half_message(void **state)
{
    (void)state;
    uint8_t page[64];
    struct cellar_message run = wire_example("run");
    size_t len = wire_page_block("run", page, sizeof(page));
    for (size_t max = 0; max < len; max++) {
        struct cellar_buf buf;
        cellar_buf_init(&buf, max);
        assert_int_equal(cellar_message_pack(&run, &buf), CELLAR_E_LIMIT);
        assert_int_equal(cellar_buf_len(&buf), 0);
        cellar_buf_done(&buf);
    }
}

/* -------------------------------------------------------------- rules -- */

static void cells_and_marks_follow_the_type(void **state)
{
    (void)state;
    static const char *const of_a_cell[] = {"run", "interrupt", "display",
                                            "done"};
    static const char *const of_none[] = {
        "hello",   "reset", "ping",  "stop",    "checkpoint",
        "restore", "drop",  "list",  "welcome", "ready",
        "fault",   "pong",  "reply", "copies",  "fork"};
    static const char *const delivered[] = {
        "ready", "output", "display", "done", "fault", "reply", "copies"};
    for (size_t i = 0; i < sizeof(of_a_cell) / sizeof(of_a_cell[0]); i++) {
        struct cellar_message msg = wire_example(of_a_cell[i]);
        msg.cell = 0;
        assert_int_equal(wire_pack(&msg), CELLAR_E_PROTO);
    }
    for (size_t i = 0; i < sizeof(of_none) / sizeof(of_none[0]); i++) {
        struct cellar_message msg = wire_example(of_none[i]);
        msg.cell = 1;
        assert_int_equal(wire_pack(&msg), CELLAR_E_PROTO);
    }
    for (size_t i = 0; i < sizeof(delivered) / sizeof(delivered[0]); i++) {
        struct cellar_message msg = wire_example(delivered[i]);
        msg.mark = 0;
        assert_int_equal(wire_pack(&msg), CELLAR_E_PROTO);
    }
    struct cellar_message pong = wire_example("pong");
    pong.mark = 1;
    assert_int_equal(wire_pack(&pong), CELLAR_E_PROTO);
    struct cellar_message output = wire_example("output");
    output.cell = 0;
    wire_fits(&output);
}

static void a_done_tells_one_story(void **state)
{
    (void)state;
    const struct cellar_message ok = wire_example("done");
    const struct cellar_message error = wire_example("done-error");
    struct cellar_message m = ok;
#define REFUSED(base, change)                                                  \
    do {                                                                       \
        m = (base);                                                            \
        m.u.done.change;                                                       \
        assert_int_equal(wire_pack(&m), CELLAR_E_PROTO);                       \
    } while (0)
    REFUSED(ok, restored_from = 3);
    REFUSED(ok, state = CELLAR_STATE_RESTORED);
    REFUSED(ok, has_error = true);
    REFUSED(ok, traceback = zeros(1));
    REFUSED(ok, code = 1);
    REFUSED(ok, limit = CELLAR_LIMIT_OUTPUT);
    REFUSED(ok, status = CELLAR_STATUS_INTERRUPTED); /* with a result */
    REFUSED(error, has_error = false);
    REFUSED(error, restored_from = 0);
    REFUSED(error, restored_from = 8);
    REFUSED(error, state = CELLAR_STATE_KEPT);
    REFUSED(error, status = CELLAR_STATUS_OK);
    REFUSED(error, parts = 1; m.u.done.result[0] = ok.u.done.result[0]);
#undef REFUSED
    m = ok;
    m.u.done.status = CELLAR_STATUS_LOST;
    assert_int_equal(wire_pack(&m), CELLAR_E_LIMIT);
}

static void endings_carry_their_code_and_limit(void **state)
{
    (void)state;
    static const struct {
        enum cellar_status status;
        enum cellar_limit limit;
        uint64_t code;
        enum cellar_code answer;
    } cases[] = {
        {CELLAR_STATUS_TIMEOUT, CELLAR_LIMIT_TIMEOUT, 0, CELLAR_OK},
        {CELLAR_STATUS_TIMEOUT, CELLAR_LIMIT_NONE, 0, CELLAR_E_PROTO},
        {CELLAR_STATUS_TIMEOUT, CELLAR_LIMIT_MEMORY, 0, CELLAR_E_PROTO},
        {CELLAR_STATUS_OUT_OF_MEMORY, CELLAR_LIMIT_MEMORY, 0, CELLAR_OK},
        {CELLAR_STATUS_OUT_OF_MEMORY, CELLAR_LIMIT_NONE, 0, CELLAR_E_PROTO},
        {CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE, 9, CELLAR_OK},
        {CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE, 64, CELLAR_OK},
        {CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE, 0, CELLAR_E_PROTO},
        {CELLAR_STATUS_KILLED, CELLAR_LIMIT_NONE, 65, CELLAR_E_PROTO},
        {CELLAR_STATUS_EXITED, CELLAR_LIMIT_NONE, 0, CELLAR_OK},
        {CELLAR_STATUS_EXITED, CELLAR_LIMIT_NONE, 255, CELLAR_OK},
        {CELLAR_STATUS_EXITED, CELLAR_LIMIT_NONE, 1ull << 32, CELLAR_E_LIMIT},
        {CELLAR_STATUS_INTERRUPTED, CELLAR_LIMIT_NONE, 2, CELLAR_E_PROTO},
        {CELLAR_STATUS_INTERRUPTED, CELLAR_LIMIT_OUTPUT, 0, CELLAR_E_PROTO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cellar_message msg = wire_example("done");
        msg.u.done.parts = 0;
        msg.u.done.status = cases[i].status;
        msg.u.done.limit = cases[i].limit;
        msg.u.done.code = cases[i].code;
        if (wire_pack(&msg) != cases[i].answer)
            fail_msg("case %zu: %s", i, cellar_code_name(wire_pack(&msg)));
    }
}

/* -------------------------------------------------------------- names -- */

static void names_are_those_of_the_lists(void **state)
{
    (void)state;
    assert_string_equal(cellar_message_name(CELLAR_MSG_WELCOME), "welcome");
    assert_null(cellar_message_name((enum cellar_message_type)16));
    assert_string_equal(cellar_status_name(CELLAR_STATUS_LOST), "lost");
    assert_null(cellar_status_name((enum cellar_status)8));
    assert_string_equal(cellar_state_name(CELLAR_STATE_RESTORED), "restored");
    assert_null(cellar_state_name((enum cellar_state)3));
    assert_string_equal(cellar_limit_name(CELLAR_LIMIT_MEMORY), "memory");
    assert_null(cellar_limit_name((enum cellar_limit)5));
    assert_string_equal(cellar_checkpoint_name(CELLAR_CHECKPOINT_AUTO), "auto");
    assert_null(cellar_checkpoint_name((enum cellar_checkpoint_policy)3));
    assert_string_equal(cellar_code_name(CELLAR_E_TIMEOUT), "deadline");
    assert_string_equal(cellar_code_text(CELLAR_E_NOMEM), "out of memory");
    assert_non_null(cellar_code_name((enum cellar_code)999));
    assert_non_null(cellar_code_text((enum cellar_code)999));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_the_bytes_of_the_page),
        cmocka_unit_test(unpacks_the_bytes_of_the_page),
        cmocka_unit_test(unpacks_into_the_named_fields),
        cmocka_unit_test(the_page_has_every_message_and_limit),
        cmocka_unit_test(the_page_has_the_numbers_of_all_words),
        cmocka_unit_test(the_records_of_the_page_are_those_of_the_header),
        cmocka_unit_test(the_records_of_a_copy_are_those_of_the_header),
        cmocka_unit_test(the_page_has_every_record),
        cmocka_unit_test(bounds_code_chunks_and_texts),
        cmocka_unit_test(bounds_numbers),
        cmocka_unit_test(bounds_the_data_of_a_bundle_as_a_whole),
        cmocka_unit_test(the_largest_done_fits_in_a_frame),
        cmocka_unit_test(a_full_buffer_takes_no_half_message),
        cmocka_unit_test(cells_and_marks_follow_the_type),
        cmocka_unit_test(a_done_tells_one_story),
        cmocka_unit_test(endings_carry_their_code_and_limit),
        cmocka_unit_test(names_are_those_of_the_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
