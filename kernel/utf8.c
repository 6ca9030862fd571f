#include "utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool tail_byte(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* The lowest and highest second byte that the lead byte allows (Unicode 15,
 * table 3-7): where overlong forms and surrogates are kept out. */
static bool second_byte(unsigned char lead, unsigned char c)
{
    switch (lead) {
    case 0xe0:
        return c >= 0xa0 && c <= 0xbf;
    case 0xed:
        return c >= 0x80 && c <= 0x9f;
    case 0xf0:
        return c >= 0x90 && c <= 0xbf;
    case 0xf4:
        return c >= 0x80 && c <= 0x8f;
    default:
        return tail_byte(c);
    }
}

static size_t sequence_length(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    if (lead >= 0xf0 && lead <= 0xf4)
        return 4;
    return 0;
}

size_t cellar_utf8_sequence(const char *bytes, size_t len)
{
    const unsigned char *b = (const unsigned char *)bytes;
    size_t need = len ? sequence_length(b[0]) : 0;
    if (need == 0 || need > len)
        return 0;
    if (need > 1 && !second_byte(b[0], b[1]))
        return 0;
    for (size_t i = 2; i < need; i++)
        if (!tail_byte(b[i]))
            return 0;
    return need;
}

/* How many bytes at the front are plain ASCII, eight at a time: nearly all
 * output is. */
static size_t ascii_run(const char *bytes, size_t len)
{
    size_t i = 0;
    uint64_t word;
    for (; i + sizeof word <= len; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (i < len && !(bytes[i] & 0x80))
        i++;
    return i;
}

/* How many bytes at the front are well-formed. */
static size_t valid_run(const char *bytes, size_t len)
{
    size_t i = 0;
    while (i < len) {
        i += ascii_run(bytes + i, len - i);
        size_t n = i < len ? cellar_utf8_sequence(bytes + i, len - i) : 0;
        if (n == 0)
            break;
        i += n;
    }
    return i;
}

bool cellar_utf8_valid(const char *bytes, size_t len)
{
    return valid_run(bytes, len) == len;
}

static const char replacement[3] = {'\xef', '\xbf', '\xbd'};

/* Every byte that belongs to no sequence becomes three. */
static size_t mended_length(const char *bytes, size_t len)
{
    size_t total = 0;
    for (size_t i = 0; i < len;) {
        size_t run = valid_run(bytes + i, len - i);
        i += run;
        total += run;
        if (i < len) {
            i++;
            total += sizeof replacement;
        }
    }
    return total;
}

char *cellar_utf8_mend(const char *bytes, size_t len, size_t *out_len)
{
    size_t total = mended_length(bytes, len);
    char *out = malloc(total + 1);
    size_t at = 0;
    if (!out)
        return NULL;
    for (size_t i = 0; i < len;) {
        size_t run = valid_run(bytes + i, len - i);
        memcpy(out + at, bytes + i, run);
        i += run;
        at += run;
        if (i < len) {
            memcpy(out + at, replacement, sizeof replacement);
            at += sizeof replacement;
            i++;
        }
    }
    out[at] = '\0';
    if (out_len)
        *out_len = at;
    return out;
}
