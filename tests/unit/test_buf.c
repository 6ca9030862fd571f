#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/buf.h"

/* Whether reallocations fail. */
static bool no_memory;

/* NOLINTBEGIN(readability-identifier-naming): the linker's names */
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
/* NOLINTEND(readability-identifier-naming) */

void *__wrap_realloc(void *old, size_t size)
{
    return no_memory ? NULL : __real_realloc(old, size);
}

static void appends_and_consumes_in_order(void **state)
{
    (void)state;
    struct cellar_buf buf;
    uint8_t next = 0;
    uint8_t expected = 0;
    cellar_buf_init(&buf, 100000);
    for (size_t round = 1; round < 2000; round++) {
        uint8_t chunk[97];
        size_t len = round * 31 % sizeof(chunk);
        for (size_t i = 0; i < len; i++)
            chunk[i] = next++;
        assert_int_equal(cellar_buf_append(&buf, chunk, len), CELLAR_OK);
        size_t drop = cellar_buf_len(&buf) * (round % 7) / 7;
        for (size_t i = 0; i < drop; i++)
            assert_int_equal(cellar_buf_peek(&buf)[i], expected++);
        cellar_buf_consume(&buf, drop);
    }
    cellar_buf_done(&buf);
    assert_int_equal(cellar_buf_len(&buf), 0);
}

static void never_holds_more_than_its_maximum(void **state)
{
    (void)state;
    struct cellar_buf buf;
    uint8_t byte = 'x';
    cellar_buf_init(&buf, 5000);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(cellar_buf_append(&buf, &byte, 1), CELLAR_OK);
    assert_int_equal(cellar_buf_append(&buf, &byte, 1), CELLAR_E_LIMIT);
    assert_int_equal(cellar_buf_len(&buf), 5000);
    assert_true(buf.size <= 5000);
    cellar_buf_consume(&buf, 1);
    assert_int_equal(cellar_buf_append(&buf, &byte, 1), CELLAR_OK);
    assert_int_equal(cellar_buf_append(&buf, &byte, SIZE_MAX), CELLAR_E_LIMIT);
    cellar_buf_done(&buf);
}

static void refuses_a_length_before_it_allocates(void **state)
{
    (void)state;
    struct cellar_buf buf;
    uint8_t *room = NULL;
    cellar_buf_init(&buf, 10);
    assert_int_equal(cellar_buf_reserve(&buf, 11, &room), CELLAR_E_LIMIT);
    assert_int_equal(cellar_buf_reserve(&buf, SIZE_MAX, &room), CELLAR_E_LIMIT);
    assert_null(room);
    assert_null(buf.data);
    assert_null(cellar_buf_peek(&buf));
    cellar_buf_done(&buf);
}

static void lends_room_that_a_commit_makes_content(void **state)
{
    (void)state;
    struct cellar_buf buf;
    uint8_t *room = NULL;
    cellar_buf_init(&buf, 100);
    assert_int_equal(cellar_buf_reserve(&buf, 60, &room), CELLAR_OK);
    memset(room, 'a', 3);
    cellar_buf_commit(&buf, 3);
    assert_int_equal(cellar_buf_len(&buf), 3);
    assert_memory_equal(cellar_buf_peek(&buf), "aaa", 3);
    cellar_buf_done(&buf);
}

static void cuts_back_what_was_appended_last(void **state)
{
    (void)state;
    struct cellar_buf buf;
    cellar_buf_init(&buf, 100);
    assert_int_equal(cellar_buf_append(&buf, "..keep, drop", 12), CELLAR_OK);
    cellar_buf_consume(&buf, 2);
    cellar_buf_cut(&buf, 4);
    assert_int_equal(cellar_buf_len(&buf), 4);
    assert_memory_equal(cellar_buf_peek(&buf), "keep", 4);
    cellar_buf_cut(&buf, 50);
    assert_int_equal(cellar_buf_len(&buf), 4);
    cellar_buf_done(&buf);
}

static void consumes_no_more_than_it_holds(void **state)
{
    (void)state;
    struct cellar_buf buf;
    cellar_buf_init(&buf, 100);
    assert_int_equal(cellar_buf_append(&buf, "abc", 3), CELLAR_OK);
    cellar_buf_consume(&buf, 99);
    assert_int_equal(cellar_buf_len(&buf), 0);
    assert_int_equal(cellar_buf_append(&buf, NULL, 0), CELLAR_OK);
    cellar_buf_done(&buf);
}

static void a_reset_gives_a_large_allocation_back(void **state)
{
    (void)state;
    static const uint8_t large[1 << 20];
    struct cellar_buf buf;
    cellar_buf_init(&buf, sizeof(large));
    assert_int_equal(cellar_buf_append(&buf, "small", 5), CELLAR_OK);
    cellar_buf_reset(&buf);
    assert_non_null(buf.data);
    assert_int_equal(cellar_buf_append(&buf, large, sizeof(large)), CELLAR_OK);
    cellar_buf_reset(&buf);
    assert_null(buf.data);
    assert_int_equal(cellar_buf_len(&buf), 0);
    assert_int_equal(cellar_buf_append(&buf, "again", 5), CELLAR_OK);
    cellar_buf_done(&buf);
}

static void gives_away_what_it_holds(void **state)
{
    (void)state;
    struct cellar_buf buf;
    cellar_buf_init(&buf, 5);
    assert_int_equal(cellar_buf_append(&buf, "abcde", 5), CELLAR_OK);
    cellar_buf_consume(&buf, 2);
    no_memory = true;
    assert_null(cellar_buf_take(&buf));
    no_memory = false;
    assert_int_equal(cellar_buf_len(&buf), 3);
    char *text = cellar_buf_take(&buf);
    assert_string_equal(text, "cde");
    free(text);
    assert_int_equal(cellar_buf_len(&buf), 0);
    text = cellar_buf_take(&buf);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(cellar_buf_append(&buf, "abcde", 5), CELLAR_OK);
    cellar_buf_done(&buf);
}

static void out_of_memory_is_an_error_that_changes_nothing(void **state)
{
    (void)state;
    static const uint8_t large[10000];
    struct cellar_buf buf;
    cellar_buf_init(&buf, sizeof(large));
    no_memory = true;
    assert_int_equal(cellar_buf_append(&buf, "abc", 3), CELLAR_E_NOMEM);
    assert_int_equal(cellar_buf_len(&buf), 0);
    no_memory = false;
    assert_int_equal(cellar_buf_append(&buf, "abc", 3), CELLAR_OK);
    no_memory = true;
    assert_int_equal(cellar_buf_append(&buf, large, 9000), CELLAR_E_NOMEM);
    no_memory = false;
    assert_int_equal(cellar_buf_len(&buf), 3);
    assert_memory_equal(cellar_buf_peek(&buf), "abc", 3);
    cellar_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_and_consumes_in_order),
        cmocka_unit_test(never_holds_more_than_its_maximum),
        cmocka_unit_test(refuses_a_length_before_it_allocates),
        cmocka_unit_test(lends_room_that_a_commit_makes_content),
        cmocka_unit_test(cuts_back_what_was_appended_last),
        cmocka_unit_test(consumes_no_more_than_it_holds),
        cmocka_unit_test(a_reset_gives_a_large_allocation_back),
        cmocka_unit_test(gives_away_what_it_holds),
        cmocka_unit_test(out_of_memory_is_an_error_that_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
