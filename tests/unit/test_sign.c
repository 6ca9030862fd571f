#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sign.h"
#include "wire.h"

static int setup(void **state)
{
    (void)state;
    return cellar_sign_init() == CELLAR_OK ? 0 : -1;
}

static void epoch_keys_are_those_of_the_page(void **state)
{
    (void)state;
    uint8_t page[2 * CELLAR_KEY_BYTES];
    uint8_t key[CELLAR_KEY_BYTES];
    assert_int_equal(wire_page_block("epoch-keys", page, sizeof(page)),
                     sizeof(page));
    cellar_sign_epoch_key(key, wire_key, CELLAR_TO_AGENT, wire_host_nonce,
                          wire_agent_nonce);
    assert_memory_equal(key, page, sizeof(key));
    cellar_sign_epoch_key(key, wire_key, CELLAR_TO_HOST, wire_host_nonce,
                          wire_agent_nonce);
    assert_memory_equal(key, page + sizeof(key), sizeof(key));
}

static void a_branchs_key_is_that_of_the_page(void **state)
{
    (void)state;
    uint8_t page[CELLAR_KEY_BYTES];
    uint8_t key[CELLAR_KEY_BYTES];
    assert_int_equal(wire_page_block("lane-key", page, sizeof(page)),
                     sizeof(page));
    cellar_sign_lane_key(key, wire_key, 1);
    assert_memory_equal(key, page, sizeof(key));
    cellar_sign_lane_key(key, wire_key, 1 << 24);
    assert_memory_not_equal(key, page, sizeof(key));
}

static void a_tag_holds_for_its_payload_key_and_number_only(void **state)
{
    (void)state;
    uint8_t payload[33] = "thirty-three bytes to be signed.";
    uint8_t key[CELLAR_KEY_BYTES];
    uint8_t tag[CELLAR_TAG_BYTES];
    memcpy(key, wire_key, sizeof(key));
    cellar_sign_tag(tag, key, 7, payload, sizeof(payload));
    assert_true(cellar_sign_check(tag, key, 7, payload, sizeof(payload)));
    assert_false(cellar_sign_check(tag, key, 8, payload, sizeof(payload)));
    assert_false(cellar_sign_check(tag, key, 7 + (1ull << 32), payload,
                                   sizeof(payload)));
    assert_false(cellar_sign_check(tag, key, 7, payload, sizeof(payload) - 1));
    for (size_t bit = 0; bit < 8 * sizeof(payload); bit++) {
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(cellar_sign_check(tag, key, 7, payload, sizeof(payload)));
        payload[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * sizeof(tag); bit++) {
        tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(cellar_sign_check(tag, key, 7, payload, sizeof(payload)));
        tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    key[31] ^= 0x80;
    assert_false(cellar_sign_check(tag, key, 7, payload, sizeof(payload)));
}

/* Number 2^64-1 and a number above 32 bits reach the nonce whole. */
static void numbers_differ_in_every_byte(void **state)
{
    (void)state;
    uint8_t tags[9][CELLAR_TAG_BYTES];
    cellar_sign_tag(tags[8], wire_key, 0, wire_key, sizeof(wire_key));
    for (size_t i = 0; i < 8; i++)
        cellar_sign_tag(tags[i], wire_key, 1ull << (8 * i), wire_key,
                        sizeof(wire_key));
    for (size_t i = 0; i < 9; i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(tags[i], tags[j], CELLAR_TAG_BYTES);
}

static void what_is_derived_depends_on_all_it_is_derived_from(void **state)
{
    (void)state;
    uint8_t k[6][CELLAR_KEY_BYTES];
    const uint8_t *hn = wire_host_nonce;
    const uint8_t *an = wire_agent_nonce;
    cellar_sign_epoch_key(k[0], wire_key, CELLAR_TO_AGENT, hn, an);
    cellar_sign_epoch_key(k[1], wire_key, CELLAR_TO_HOST, hn, an);
    cellar_sign_epoch_key(k[2], wire_key, CELLAR_TO_AGENT, an, hn);
    cellar_sign_epoch_key(k[3], hn, CELLAR_TO_AGENT, hn, an);
    cellar_sign_epoch_key(k[4], wire_key, CELLAR_TO_AGENT, hn, hn);
    cellar_sign_epoch_key(k[5], wire_key, CELLAR_TO_AGENT, an, an);
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(k[i], k[j], CELLAR_KEY_BYTES);
}

static void handshakes_and_marks_know_their_direction_and_nonce(void **state)
{
    (void)state;
    uint8_t tags[3][CELLAR_TAG_BYTES];
    uint8_t marks[3][CELLAR_RESYNC_SECRET_BYTES];
    const uint8_t *nonces[3] = {NULL, wire_host_nonce, wire_agent_nonce};
    for (size_t i = 0; i < 3; i++) {
        enum cellar_direction way = i == 0 ? CELLAR_TO_AGENT : CELLAR_TO_HOST;
        cellar_sign_handshake(tags[i], wire_key, way, nonces[i],
                              (const uint8_t *)"hi", 2);
        cellar_sign_resync(marks[i], wire_key, way, nonces[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        size_t other = (i + 1) % 3;
        assert_false(cellar_sign_same(tags[i], tags[other]));
        assert_true(cellar_sign_same(tags[i], tags[i]));
        assert_memory_not_equal(marks[i], marks[other], sizeof(marks[i]));
    }
}

static void a_wipe_leaves_zeros(void **state)
{
    (void)state;
    uint8_t secret[CELLAR_KEY_BYTES];
    const uint8_t zeros[CELLAR_KEY_BYTES] = {0};
    memcpy(secret, wire_key, sizeof(secret));
    cellar_sign_wipe(secret, sizeof(secret));
    assert_memory_equal(secret, zeros, sizeof(secret));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epoch_keys_are_those_of_the_page),
        cmocka_unit_test(a_branchs_key_is_that_of_the_page),
        cmocka_unit_test(a_tag_holds_for_its_payload_key_and_number_only),
        cmocka_unit_test(numbers_differ_in_every_byte),
        cmocka_unit_test(what_is_derived_depends_on_all_it_is_derived_from),
        cmocka_unit_test(handshakes_and_marks_know_their_direction_and_nonce),
        cmocka_unit_test(a_wipe_leaves_zeros),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
