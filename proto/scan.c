/* cellar_scan(): see message.h. One pass, no recursion, no allocation. */
#include "message.h"

enum shape { SCALAR, BLOB, ARRAY, MAP, REFUSED };

/* First bytes 0xc0 to 0xdf. SCALAR: `width` bytes of value follow; the others:
 * `width` bytes of length, big endian. */
static const struct {
    uint8_t shape;
    uint8_t width;
} heads[32] = {
    {SCALAR, 0},  {REFUSED, 0}, {SCALAR, 0},  {SCALAR, 0},  /* nil - bool */
    {BLOB, 1},    {BLOB, 2},    {BLOB, 4},    {REFUSED, 0}, /* bin, ext8 */
    {REFUSED, 0}, {REFUSED, 0}, {SCALAR, 4},  {SCALAR, 8},  /* ext, float */
    {SCALAR, 1},  {SCALAR, 2},  {SCALAR, 4},  {SCALAR, 8},  /* uint */
    {SCALAR, 1},  {SCALAR, 2},  {SCALAR, 4},  {SCALAR, 8},  /* int */
    {REFUSED, 0}, {REFUSED, 0}, {REFUSED, 0}, {REFUSED, 0}, /* fixext */
    {REFUSED, 0}, {BLOB, 1},    {BLOB, 2},    {BLOB, 4},    /* str */
    {ARRAY, 2},   {ARRAY, 4},   {MAP, 2},     {MAP, 4},
};

/* What a value opens with: how many bytes of body, how many members. */
struct head {
    size_t body;
    uint64_t members;
    bool container;
};

struct cursor {
    const uint8_t *at;
    size_t left;
};

static uint32_t big_endian(const uint8_t *bytes, size_t width)
{
    uint32_t n = 0;
    for (size_t i = 0; i < width; i++)
        n = n << 8 | bytes[i];
    return n;
}

/* 0x80 to 0xbf, where the length is a part of the first byte. */
static void short_head(uint8_t first, struct head *head)
{
    if (first >= 0xa0) {
        head->body = first & 0x1f;
        return;
    }
    head->container = true;
    head->members = first & 0x0f;
    if (first < 0x90)
        head->members *= 2;
}

static bool long_head(struct cursor *cur, uint8_t first, struct head *head)
{
    uint8_t shape = heads[first - 0xc0].shape;
    size_t width = heads[first - 0xc0].width;
    if (shape == REFUSED || width > cur->left)
        return false;
    if (shape == SCALAR) {
        head->body = width;
        return true;
    }
    uint32_t n = big_endian(cur->at, width);
    cur->at += width;
    cur->left -= width;
    head->container = shape != BLOB;
    if (shape == BLOB)
        head->body = n;
    else
        head->members = shape == MAP ? 2 * (uint64_t)n : n;
    return true;
}

/* Takes one value without its members. */
static bool take(struct cursor *cur, struct head *head)
{
    *head = (struct head){0};
    if (cur->left == 0)
        return false;
    uint8_t first = *cur->at;
    cur->at++;
    cur->left--;
    if (first >= 0xc0 && first < 0xe0) {
        if (!long_head(cur, first, head))
            return false;
    } else if (first >= 0x80 && first < 0xc0) {
        short_head(first, head);
    }
    if (head->body > cur->left)
        return false;
    cur->at += head->body;
    cur->left -= head->body;
    return true;
}

enum cellar_code cellar_scan(const uint8_t *payload, size_t len)
{
    struct cursor cur = {payload, len};
    uint64_t due[CELLAR_DEPTH_MAX + 1] = {1}; /* values due at each depth */
    uint64_t items = 1;
    size_t depth = 0;
    while (depth > 0 || due[0] > 0) {
        if (due[depth] == 0) {
            depth--;
            continue;
        }
        due[depth]--;
        struct head head;
        if (!take(&cur, &head))
            return CELLAR_E_PROTO;
        items += head.members;
        if (items > CELLAR_ITEMS_MAX)
            return CELLAR_E_LIMIT;
        if (!head.container)
            continue;
        if (depth == CELLAR_DEPTH_MAX)
            return CELLAR_E_LIMIT;
        due[++depth] = head.members;
    }
    return cur.left == 0 ? CELLAR_OK : CELLAR_E_PROTO;
}
