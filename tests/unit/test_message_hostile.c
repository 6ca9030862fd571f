/* Payloads as a stranger would send them: refused, or taken whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message.h"
#include "wire.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static void refuses_wrong_kinds_and_numbers_of_fields(void **state)
{
    (void)state;
    assert_int_equal(wire_unpack(BYTES("\x93\x05\x00\x01")), CELLAR_OK);
    assert_int_equal(wire_unpack(BYTES("\x93\xcc\x05\xcd\x00\x00\x01")),
                     CELLAR_OK);
    assert_int_equal(wire_unpack(BYTES("\x05")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x90")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x92\x05\x00")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x94\x05\x00\x01\x00")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x05\x00")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x05\x00\x01\x00")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x05\x00\xc0")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x05\x00\xff")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x05\xc2\x00")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x05\x00\xca\x00\x00\x00\x00")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x83\x05\x00\x01\x00\x02\x00")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x10\x00\x01")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x1f\x00\x01")), CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x93\x00\x00\x01")), CELLAR_E_PROTO);
    /* a type of more than 32 bits must not be cut to PING's */
    assert_int_equal(
        wire_unpack(BYTES("\x93\xcf\x00\x00\x00\x01\x00\x00\x00\x05\x00\x01")),
        CELLAR_E_PROTO);
    /* str where bin is due; a nonce of 31 bytes; a part of three */
    assert_int_equal(wire_unpack(BYTES("\x95\x13\x07\x06\x01\xa1"
                                       "a")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x9b\x11\x00\x00\x02\xc4\x1f"
                                       "0123456789012345678901234567890"
                                       "\x01\x01\x01\x00\x00\x00")),
                     CELLAR_E_PROTO);
    assert_int_equal(wire_unpack(BYTES("\x94\x14\x07\x07\x91\x93\xc4\x01"
                                       "a\xc4\x01"
                                       "b\xc4\x00")),
                     CELLAR_E_PROTO);
}

/* Every form of a field in every place of every message. */
static void refuses_any_other_kind_in_any_place(void **state)
{
    (void)state;
    static const char *const forms[] = {"\xc0", "\xff", "\xa1x", "\xc1",
                                        "\x81\x01\x01"};
    for (size_t i = 0; i < wire_example_count; i++) {
        uint8_t page[512];
        size_t len = wire_page_block(wire_examples[i], page, sizeof(page));
        size_t at = page[0] == 0xdc ? 3 : 1;
        for (size_t form = 0; form < sizeof(forms) / sizeof(forms[0]); form++) {
            uint8_t bytes[sizeof(page) + 8];
            size_t size = strlen(forms[form]);
            memcpy(bytes, page, at);
            memcpy(bytes + at, forms[form], size);
            memcpy(bytes + at + size, page + at + 1, len - at - 1);
            assert_int_not_equal(wire_unpack(bytes, len - 1 + size), CELLAR_OK);
        }
    }
}

static void refuses_every_prefix_and_any_suffix(void **state)
{
    (void)state;
    for (size_t i = 0; i < wire_example_count; i++) {
        uint8_t page[513];
        size_t len = wire_page_block(wire_examples[i], page, 512);
        for (size_t cut = 0; cut < len; cut++) {
            /* a copy of its own, so that ASan sees a read beyond the end */
            uint8_t *copy = test_malloc(cut + 1);
            memcpy(copy, page, cut);
            assert_int_equal(wire_unpack(copy, cut), CELLAR_E_PROTO);
            test_free(copy);
        }
        page[len] = 0;
        assert_int_equal(wire_unpack(page, len + 1), CELLAR_E_PROTO);
    }
}

static struct {
    uint8_t bytes[512];
    size_t len;
} pages[32];

static void load_pages(void)
{
    assert_true(wire_example_count <= sizeof(pages) / sizeof(pages[0]));
    for (size_t i = 0; i < wire_example_count; i++)
        pages[i].len = wire_page_block(wire_examples[i], pages[i].bytes,
                                       sizeof(pages[i].bytes));
}

/* What is taken can be packed again, whatever was done to it. */
static void mutated_messages_are_refused_or_whole(void **state)
{
    (void)state;
    size_t taken = 0;
    wire_seed();
    load_pages();
    for (size_t round = 0; round < 200000; round++) {
        uint8_t bytes[512];
        struct cellar_message msg;
        size_t i = round % wire_example_count;
        size_t len = pages[i].len;
        memcpy(bytes, pages[i].bytes, len);
        for (size_t n = 1 + wire_below(3); n > 0; n--)
            bytes[wire_below(len)] ^= (uint8_t)(1 << wire_below(8));
        if (cellar_message_unpack(bytes, len, &msg) != CELLAR_OK)
            continue;
        assert_int_equal(wire_pack(&msg), CELLAR_OK);
        taken++;
    }
    assert_true(taken > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_wrong_kinds_and_numbers_of_fields),
        cmocka_unit_test(refuses_any_other_kind_in_any_place),
        cmocka_unit_test(refuses_every_prefix_and_any_suffix),
        cmocka_unit_test(mutated_messages_are_refused_or_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
