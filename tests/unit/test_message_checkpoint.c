/* What the wire says of checkpoints: requests with a name, answers, lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message.h"
#include "wire.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static struct cellar_bytes zeros(size_t len)
{
    static uint8_t large[CELLAR_WHY_MAX + 1];
    assert_true(len < sizeof(large));
    return (struct cellar_bytes){large, len};
}

/* ------------------------------------------------------------ requests -- */

static const char *const named[] = {"checkpoint", "restore", "drop"};

#define NAMED (sizeof(named) / sizeof(named[0]))

static void a_request_carries_its_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMED; i++) {
        uint8_t page[64];
        struct cellar_message msg;
        size_t len = wire_page_block(named[i], page, sizeof(page));
        assert_int_equal(cellar_message_unpack(page, len, &msg), CELLAR_OK);
        assert_int_equal(msg.type, wire_example(named[i]).type);
        assert_int_equal(msg.u.tag.tag.len, 6);
        assert_memory_equal(msg.u.tag.tag.data, "loaded", 6);
    }
}

static void names_are_bounded(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMED; i++) {
        struct cellar_message msg = wire_example(named[i]);
        msg.u.tag.tag = zeros(1);
        wire_fits(&msg);
        msg.u.tag.tag = zeros(CELLAR_CHECKPOINT_TAG_MAX);
        wire_fits(&msg);
        msg.u.tag.tag.len++;
        assert_int_equal(wire_pack(&msg), CELLAR_E_LIMIT);
        msg.u.tag.tag.len = 0;
        assert_int_equal(wire_pack(&msg), CELLAR_E_PROTO);
    }
}

/* The same bounds for bytes that no packer of ours made. */
static void names_that_come_are_bounded(void **state)
{
    (void)state;
    for (unsigned type = CELLAR_MSG_CHECKPOINT; type <= CELLAR_MSG_DROP;
         type++) {
        uint8_t bytes[6 + CELLAR_CHECKPOINT_TAG_MAX + 1] = {
            0x94, (uint8_t)type, 0, 1, 0xc4, CELLAR_CHECKPOINT_TAG_MAX};
        assert_int_equal(wire_unpack(bytes, sizeof(bytes) - 1), CELLAR_OK);
        bytes[5]++;
        assert_int_equal(wire_unpack(bytes, sizeof(bytes)), CELLAR_E_LIMIT);
        bytes[5] = 0;
        assert_int_equal(wire_unpack(bytes, 6), CELLAR_E_PROTO);
    }
}

/* ------------------------------------------------------------- answers -- */

static void a_reply_says_why_not_and_only_then(void **state)
{
    (void)state;
    struct cellar_message m = wire_example("reply");
    m.u.reply.text = zeros(1);
    assert_int_equal(wire_pack(&m), CELLAR_E_PROTO);
    m.u.reply.ok = false;
    wire_fits(&m);
    m.u.reply.text = zeros(CELLAR_WHY_MAX);
    wire_fits(&m);
    m.u.reply.text.len++;
    assert_int_equal(wire_pack(&m), CELLAR_E_LIMIT);
    m.u.reply.text.len = 0;
    assert_int_equal(wire_pack(&m), CELLAR_E_PROTO);
    /* [24, 0, 1, 7, ok, text, 0, 0, 0] */
    assert_int_equal(
        wire_unpack(BYTES("\x99\x18\x00\x01\x07\xc3\xc4\x00\x00\x00\x00")),
        CELLAR_OK);
    assert_int_equal(
        wire_unpack(BYTES("\x99\x18\x00\x01\x07\xc2\xc4\x00\x00\x00\x00")),
        CELLAR_E_PROTO);
    assert_int_equal(
        wire_unpack(BYTES("\x99\x18\x00\x01\x07\xc3\xc4\x01x\x00\x00\x00")),
        CELLAR_E_PROTO);
}

static void a_reply_names_a_request(void **state)
{
    (void)state;
    struct cellar_message m = wire_example("reply-refused");
    m.u.reply.request = 0;
    wire_fits(&m);
    m.u.reply.request = CELLAR_MSG_FORK;
    wire_fits(&m);
    m.u.reply.request++;
    assert_int_equal(wire_pack(&m), CELLAR_E_LIMIT);
}

static void a_done_says_why_there_is_no_checkpoint_and_only_then(void **state)
{
    (void)state;
    struct cellar_message m = wire_example("done");
    for (m.u.done.checkpoint = CELLAR_TAKEN_NONE;
         m.u.done.checkpoint <= CELLAR_TAKEN_NO; m.u.done.checkpoint++) {
        bool not_taken = m.u.done.checkpoint == CELLAR_TAKEN_NO;
        m.u.done.checkpoint_why = zeros(0);
        assert_int_equal(wire_pack(&m), not_taken ? CELLAR_E_PROTO : CELLAR_OK);
        m.u.done.checkpoint_why = zeros(CELLAR_WHY_MAX);
        assert_int_equal(wire_pack(&m), not_taken ? CELLAR_OK : CELLAR_E_PROTO);
    }
    assert_int_equal(wire_pack(&m), CELLAR_E_LIMIT);
    m.u.done.checkpoint = CELLAR_TAKEN_NO;
    m.u.done.checkpoint_why.len++;
    assert_int_equal(wire_pack(&m), CELLAR_E_LIMIT);
}

/* --------------------------------------------------------------- lists -- */

static void a_list_is_unpacked_into_its_fields(void **state)
{
    (void)state;
    uint8_t page[64];
    struct cellar_message msg;
    size_t len = wire_page_block("copies", page, sizeof(page));
    assert_int_equal(cellar_message_unpack(page, len, &msg), CELLAR_OK);
    assert_int_equal(msg.u.copies.held_bytes, 52428800);
    assert_int_equal(msg.u.copies.count, 2);
    assert_int_equal(msg.u.copies.kept[0].tag.len, 6);
    assert_memory_equal(msg.u.copies.kept[0].tag.data, "loaded", 6);
    assert_int_equal(msg.u.copies.kept[0].after, 7);
    assert_int_equal(msg.u.copies.kept[0].age_ms, 60000);
    assert_int_equal(msg.u.copies.kept[1].tag.len, 0);
    assert_int_equal(msg.u.copies.kept[1].after, 9);
    assert_int_equal(msg.u.copies.kept[1].age_ms, 1500);
}

static void a_list_is_bounded(void **state)
{
    (void)state;
    struct cellar_message copies = wire_example("copies");
    struct cellar_msg_copies *c = &copies.u.copies;
    c->held_bytes = UINT64_MAX;
    c->count = CELLAR_COPIES_MAX;
    for (size_t i = 0; i < CELLAR_COPIES_MAX; i++)
        c->kept[i] = (struct cellar_kept){zeros(CELLAR_CHECKPOINT_TAG_MAX),
                                          UINT64_MAX, UINT64_MAX};
    wire_fits(&copies);
    c->kept[CELLAR_COPIES_MAX - 1].tag.len++;
    assert_int_equal(wire_pack(&copies), CELLAR_E_LIMIT);
    c->kept[CELLAR_COPIES_MAX - 1].tag.len = 0;
    wire_fits(&copies);
    c->count = CELLAR_COPIES_MAX + 1;
    assert_int_equal(wire_pack(&copies), CELLAR_E_LIMIT);
    c->count = 0;
    wire_fits(&copies);
}

/* Copies with empty names, as many as are said. */
static enum cellar_code unpack_list(uint16_t count)
{
    static const uint8_t kept[] = {0x93, 0xc4, 0x00, 0x01, 0x02};
    uint8_t bytes[8 + 32 * sizeof(kept)] = {
        0x95, CELLAR_MSG_COPIES, 0, 1, 0, 0xdc, 0, (uint8_t)count};
    assert_true(count <= 32);
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + 8 + i * sizeof(kept), kept, sizeof(kept));
    return wire_unpack(bytes, 8 + count * sizeof(kept));
}

static void a_list_that_comes_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(unpack_list(0), CELLAR_OK);
    assert_int_equal(unpack_list(CELLAR_COPIES_MAX), CELLAR_OK);
    assert_int_not_equal(unpack_list(CELLAR_COPIES_MAX + 1), CELLAR_OK);
    assert_int_not_equal(unpack_list(32), CELLAR_OK);
    uint8_t bytes[10 + CELLAR_CHECKPOINT_TAG_MAX + 1 + 2] = {
        0x95, CELLAR_MSG_COPIES,        0, 1, 0, 0x91, 0x93,
        0xc4, CELLAR_CHECKPOINT_TAG_MAX};
    assert_int_equal(wire_unpack(bytes, 9 + CELLAR_CHECKPOINT_TAG_MAX + 2),
                     CELLAR_OK);
    bytes[8]++;
    assert_int_equal(wire_unpack(bytes, 9 + CELLAR_CHECKPOINT_TAG_MAX + 3),
                     CELLAR_E_LIMIT);
}

/* [25, 0, 1, 0, [copy]] with a copy that is none. */
static void a_copy_has_three_fields_of_their_kinds(void **state)
{
    (void)state;
#define LIST "\x95\x19\x00\x01\x00\x91"
    assert_int_equal(wire_unpack(BYTES(LIST "\x93\xc4\x00\x01\x02")),
                     CELLAR_OK);
    assert_int_equal(wire_unpack(BYTES(LIST "\x92\xc4\x00\x01")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES(LIST "\x94\xc4\x00\x01\x02\x03")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES(LIST "\x93\xa0\x01\x02")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES(LIST "\x93\x00\x01\x02")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES(LIST "\x93\xc4\x00\xff\x02")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES(LIST "\x93\xc4\x00\x01\xc2")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES(LIST "\x00")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x95\x19\x00\x01\x00\x00")),
                     CELLAR_E_PROTO);
#undef LIST
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_carries_its_name),
        cmocka_unit_test(names_are_bounded),
        cmocka_unit_test(names_that_come_are_bounded),
        cmocka_unit_test(a_reply_says_why_not_and_only_then),
        cmocka_unit_test(a_reply_names_a_request),
        cmocka_unit_test(a_done_says_why_there_is_no_checkpoint_and_only_then),
        cmocka_unit_test(a_list_is_unpacked_into_its_fields),
        cmocka_unit_test(a_list_is_bounded),
        cmocka_unit_test(a_list_that_comes_is_bounded),
        cmocka_unit_test(a_copy_has_three_fields_of_their_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
