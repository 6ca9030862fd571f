#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/engine/docker/demux.h"

/* What came of a stream: each byte with the stream it is of. */
struct sorted {
    uint8_t bytes[4][4096];
    size_t len[4];
};

static enum cellar_code feed(struct cellar_attach *attach, const void *data,
                             size_t len, struct sorted *to)
{
    struct cellar_attach_input in = {data, len};
    struct cellar_attach_slice slice;
    enum cellar_code code = CELLAR_OK;
    while (!(code = cellar_attach_next(attach, &in, &slice))) {
        size_t *at = &to->len[slice.stream];
        assert_true(slice.len > 0);
        assert_true(*at + slice.len <= sizeof(to->bytes[0]));
        memcpy(to->bytes[slice.stream] + *at, slice.data, slice.len);
        *at += slice.len;
    }
    assert_true(code != CELLAR_E_AGAIN || in.len == 0);
    return code;
}

static const char two[] = "\1\0\0\0\0\0\0\5hello\2\0\0\0\0\0\0\3err"
                          "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\1!";
#define TWO_LEN (sizeof(two) - 1)

static void tells_stdout_from_stderr(void **state)
{
    (void)state;
    struct cellar_attach attach;
    struct sorted got = {0};
    cellar_attach_init(&attach);
    assert_int_equal(feed(&attach, two, TWO_LEN, &got), CELLAR_E_AGAIN);
    assert_int_equal(got.len[1], 6);
    assert_memory_equal(got.bytes[1], "hello!", 6);
    assert_int_equal(got.len[2], 3);
    assert_memory_equal(got.bytes[2], "err", 3);
}

static void gives_the_same_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t first = 0; first <= TWO_LEN; first++) {
        for (size_t second = first; second <= TWO_LEN; second++) {
            struct cellar_attach attach;
            struct sorted got = {0};
            cellar_attach_init(&attach);
            feed(&attach, two, first, &got);
            feed(&attach, two + first, second - first, &got);
            feed(&attach, two + second, TWO_LEN - second, &got);
            assert_int_equal(got.len[1], 6);
            assert_memory_equal(got.bytes[1], "hello!", 6);
            assert_memory_equal(got.bytes[2], "err", 3);
        }
    }
}

static void lends_what_it_was_fed(void **state)
{
    (void)state;
    struct cellar_attach attach;
    struct cellar_attach_slice slice;
    struct cellar_attach_input in = {(const uint8_t *)two, TWO_LEN};
    cellar_attach_init(&attach);
    assert_int_equal(cellar_attach_next(&attach, &in, &slice), CELLAR_OK);
    assert_ptr_equal(slice.data, two + CELLAR_ATTACH_HEADER_BYTES);
}

static void assert_broken(const void *header, enum cellar_code code)
{
    struct cellar_attach attach;
    struct sorted got = {0};
    cellar_attach_init(&attach);
    assert_int_equal(feed(&attach, header, 8, &got), code);
    /* for good, whatever comes */
    assert_int_equal(feed(&attach, two, TWO_LEN, &got), code);
    assert_int_equal(got.len[1], 0);
}

static void refuses_a_stream_that_is_none(void **state)
{
    (void)state;
    for (unsigned stream = 4; stream < 256; stream++) {
        uint8_t header[8] = {(uint8_t)stream, 0, 0, 0, 0, 0, 0, 1};
        assert_broken(header, CELLAR_E_PROTO);
    }
    assert_broken("\1\0\1\0\0\0\0\1", CELLAR_E_PROTO);
}

static void refuses_a_chunk_that_is_too_long(void **state)
{
    (void)state;
    assert_broken("\1\0\0\0\xff\xff\xff\xff", CELLAR_E_LIMIT);
    assert_broken("\1\0\0\0\1\0\0\1", CELLAR_E_LIMIT); /* 16 MiB + 1 */

    struct cellar_attach attach;
    struct sorted got = {0};
    cellar_attach_init(&attach);
    assert_int_equal(feed(&attach, "\1\0\0\0\1\0\0\0x", 9, &got),
                     CELLAR_E_AGAIN);
    assert_int_equal(got.len[1], 1);
}

static void every_flipped_bit_of_a_header_ends_or_is_bounded(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 64; bit++) {
        uint8_t bytes[TWO_LEN];
        struct cellar_attach attach;
        struct sorted got = {0};
        memcpy(bytes, two, TWO_LEN);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cellar_attach_init(&attach);
        enum cellar_code code = feed(&attach, bytes, TWO_LEN, &got);
        assert_true(code == CELLAR_E_AGAIN || code == CELLAR_E_PROTO ||
                    code == CELLAR_E_LIMIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_stdout_from_stderr),
        cmocka_unit_test(gives_the_same_however_it_is_cut),
        cmocka_unit_test(lends_what_it_was_fed),
        cmocka_unit_test(refuses_a_stream_that_is_none),
        cmocka_unit_test(refuses_a_chunk_that_is_too_long),
        cmocka_unit_test(every_flipped_bit_of_a_header_ends_or_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
