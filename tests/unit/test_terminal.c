/* Text made safe for a terminal: what passes, what is shown, however it is
 * cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "kernel/cli/terminal.h"
#include "kernel/utf8.h"

struct sink {
    char text[4096];
    size_t len;
};

static void collect(void *user, const char *text, size_t len)
{
    struct sink *sink = user;
    assert_true(len < sizeof sink->text - sink->len);
    memcpy(sink->text + sink->len, text, len);
    sink->len += len;
}

/* Passes `data` on in pieces of `piece` bytes. */
static void pass(const char *data, size_t len, size_t piece, struct sink *sink)
{
    struct cellar_terminal terminal = {0};
    *sink = (struct sink){0};
    for (size_t at = 0; at < len; at += piece) {
        size_t n = len - at < piece ? len - at : piece;
        cellar_terminal_put(&terminal, data + at, n, collect, sink);
    }
    cellar_terminal_end(&terminal, collect, sink);
}

static void expect_len(const char *data, size_t len, const char *shown)
{
    struct sink sink;
    for (size_t piece = 1; piece <= len; piece++) {
        pass(data, len, piece, &sink);
        assert_int_equal(sink.len, strlen(shown));
        assert_memory_equal(sink.text, shown, sink.len);
    }
}

static void expect(const char *data, const char *shown)
{
    expect_len(data, strlen(data), shown);
}

static void plain_text_passes(void **state)
{
    static const char *const texts[] = {"hello\n",        "a\tb\n",
                                        "naïve café\n",   "日本語\n",
                                        "🙂 \\x1b ~\n", "\xf4\x8f\xbf\xbf"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        expect(texts[i], texts[i]);
}

static void escapes_are_shown(void **state)
{
    (void)state;
    expect("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m");
    expect("\x1b]0;title\x07", "\\x1b]0;title\\x07");
    expect("over\rwritten\b", "over\\x0dwritten\\x08");
    expect("del\x7f", "del\\x7f");
    expect_len("a\0b", 3, "a\\x00b");
}

static void the_second_set_of_controls_is_shown(void **state)
{
    (void)state;
    expect("\xc2\x9b"
           "31m",
           "\\x9b31m");
    expect("\xc2\x80\xc2\x9f\xc2\xa0", "\\x80\\x9f\xc2\xa0");
    /* As single bytes, as an old terminal takes them. */
    expect("\x9b"
           "31m",
           "\\x9b31m");
}

static void text_that_turns_text_around_is_shown(void **state)
{
    (void)state;
    expect("a\xe2\x80\xae"
           "b",
           "a\\u202eb");
    expect("\xe2\x81\xa6\xe2\x81\xa9", "\\u2066\\u2069");
    expect("\xe2\x80\x8f\xd8\x9c", "\\u200f\\u061c");
    expect("\xe2\x80\xa8", "\\u2028");
    expect("a\xe2\x80\x8d"
           "b",
           "a\xe2\x80\x8d"
           "b"); /* joins emoji */
}

static void bytes_that_are_no_utf8_are_shown(void **state)
{
    (void)state;
    expect("\xff\xfe", "\\xff\\xfe");
    expect("\xc3", "\\xc3");
    expect("\xc3(", "\\xc3(");
    expect("\xe2\x80", "\\xe2\\x80");
    expect("\xe2\x80"
           "A",
           "\\xe2\\x80A");
    expect("\xf0\x9f\x99\xc3\xa9", "\\xf0\\x9f\\x99\xc3\xa9");
    expect("\xc0\xaf", "\\xc0\\xaf");
    expect("\xe0\x80\x80", "\\xe0\\x80\\x80");
    expect("\xed\xa0\x80", "\\xed\\xa0\\x80");
    expect("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
    expect("\xf0\x9f\x99\x1b", "\\xf0\\x9f\\x99\\x1b");
}

/* Whatever comes in, in pieces or whole: the same goes out, valid UTF-8, and
 * no control but newline and tab. */
static void any_bytes_come_out_safe(void **state)
{
    static const char alphabet[] = "a\n\t\x1b\x9b\xc2\xc3\xa9\xe2\x80\xae\xf0"
                                   "\x9f\x99\x82\xed\xa0\xf4\x90\xff";
    char data[48];
    uint32_t seed = 99;
    (void)state;
    for (int round = 0; round < 5000; round++) {
        struct sink whole;
        struct sink cut;
        for (size_t i = 0; i < sizeof data; i++) {
            seed = seed * 1103515245 + 12345;
            data[i] = alphabet[(seed >> 16) % sizeof alphabet];
        }
        pass(data, sizeof data, sizeof data, &whole);
        pass(data, sizeof data, 1 + (seed >> 20) % 7, &cut);
        assert_int_equal(whole.len, cut.len);
        assert_memory_equal(whole.text, cut.text, whole.len);
        assert_true(cellar_utf8_valid(whole.text, whole.len));
        for (size_t i = 0; i < whole.len; i++)
            assert_true((unsigned char)whole.text[i] >= ' ' ||
                        whole.text[i] == '\n' || whole.text[i] == '\t');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text_passes),
        cmocka_unit_test(escapes_are_shown),
        cmocka_unit_test(the_second_set_of_controls_is_shown),
        cmocka_unit_test(text_that_turns_text_around_is_shown),
        cmocka_unit_test(bytes_that_are_no_utf8_are_shown),
        cmocka_unit_test(any_bytes_come_out_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
