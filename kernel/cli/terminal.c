#include "terminal.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kernel/utf8.h"

static uint32_t decode(const char *bytes, size_t len)
{
    const unsigned char *b = (const unsigned char *)bytes;
    static const unsigned char lead[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = b[0] & lead[len];
    for (size_t i = 1; i < len; i++)
        c = c << 6 | (b[i] & 0x3f);
    return c;
}

/* Controls of both sets, and what turns the direction of text or breaks lines
 * unseen: U+061C, U+200E-F, U+2028-E, U+2066-9 (Unicode TR 36, 2.2). */
static bool harmless(uint32_t c)
{
    if (c < 0x20)
        return c == '\n' || c == '\t';
    if (c >= 0x7f && c < 0xa0)
        return false;
    if (c == 0x61c || c == 0x200e || c == 0x200f)
        return false;
    return !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

static void show(uint32_t c, cellar_terminal_fn *sink, void *user)
{
    char text[16] = "";
    int n = snprintf(text, sizeof text, c > 0xff ? "\\u%04x" : "\\x%02x", c);
    sink(user, text, (size_t)n);
}

/* Whether `len` bytes, too few for a character, could be the front of one. */
static bool may_go_on(const char *bytes, size_t len)
{
    char trial[4];
    if (len == 0 || len > 3 || (unsigned char)bytes[0] < 0xc2)
        return false;
    /* One of these second bytes fits whatever lead byte is valid. */
    static const unsigned char seconds[] = {0x80, 0x90, 0xa0};
    for (size_t s = 0; s < sizeof seconds; s++) {
        memset(trial, 0x80, sizeof trial);
        trial[1] = (char)seconds[s];
        memcpy(trial, bytes, len);
        for (size_t total = len + 1; total <= 4; total++)
            if (cellar_utf8_sequence(trial, total) == total)
                return true;
    }
    return false;
}

/* One character or bad byte at `data`; returns its length, 0 when its rest is
 * still to come. Plain characters are not passed on: *plain says so. */
static size_t step(const char *data, size_t len, bool *plain,
                   cellar_terminal_fn *sink, void *user)
{
    size_t n = cellar_utf8_sequence(data, len);
    *plain = false;
    if (n == 0 && may_go_on(data, len))
        return 0;
    uint32_t c = n ? decode(data, n) : (unsigned char)data[0];
    *plain = n && harmless(c);
    if (!*plain)
        show(c, sink, user);
    return n ? n : 1;
}

/* Completes the character that the last call left; returns how many bytes of
 * `data` it took. */
static size_t finish_rest(struct cellar_terminal *terminal, const char *data,
                          size_t len, cellar_terminal_fn *sink, void *user)
{
    size_t taken = 0;
    while (terminal->rest_len > 0 && taken < len) {
        bool plain = false;
        terminal->rest[terminal->rest_len++] = data[taken++];
        size_t n = step(terminal->rest, terminal->rest_len, &plain, sink, user);
        if (n == 0)
            continue;
        if (plain)
            sink(user, terminal->rest, n);
        /* The last byte may begin a character of its own: the caller's loop
         * looks at it again. The others were refused as its front. */
        if (n < terminal->rest_len) {
            for (size_t i = n; i + 1 < terminal->rest_len; i++)
                show((unsigned char)terminal->rest[i], sink, user);
            taken--;
        }
        terminal->rest_len = 0;
    }
    return taken;
}

void cellar_terminal_put(struct cellar_terminal *terminal, const char *data,
                         size_t len, cellar_terminal_fn *sink, void *user)
{
    size_t at = finish_rest(terminal, data, len, sink, user);
    size_t from = at;
    while (at < len) {
        bool plain = false;
        /* What is plain waits for the first thing that is not. */
        size_t n = cellar_utf8_sequence(data + at, len - at);
        if (n && harmless(decode(data + at, n))) {
            at += n;
            continue;
        }
        if (at > from)
            sink(user, data + from, at - from);
        n = step(data + at, len - at, &plain, sink, user);
        if (n == 0) {
            terminal->rest_len = len - at;
            memcpy(terminal->rest, data + at, terminal->rest_len);
            return;
        }
        at += n;
        from = at;
    }
    if (at > from)
        sink(user, data + from, at - from);
}

void cellar_terminal_end(struct cellar_terminal *terminal,
                         cellar_terminal_fn *sink, void *user)
{
    for (size_t i = 0; i < terminal->rest_len; i++)
        show((unsigned char)terminal->rest[i], sink, user);
    terminal->rest_len = 0;
}
