#include "buf.h"

#include <stdlib.h>
#include <string.h>

/* The first allocation, and what an empty buffer keeps: a small cell with its
 * frame. A thousand idle sessions hold no more than this each. */
#define SMALL_BYTES 4096u

void cellar_buf_init(struct cellar_buf *buf, size_t max)
{
    *buf = (struct cellar_buf){.max = max};
}

void cellar_buf_done(struct cellar_buf *buf)
{
    free(buf->data);
    cellar_buf_init(buf, buf->max);
}

void cellar_buf_reset(struct cellar_buf *buf)
{
    if (buf->size > SMALL_BYTES)
        cellar_buf_done(buf);
    buf->head = 0;
    buf->tail = 0;
}

const uint8_t *cellar_buf_peek(const struct cellar_buf *buf)
{
    return buf->data ? buf->data + buf->head : NULL;
}

size_t cellar_buf_len(const struct cellar_buf *buf)
{
    return buf->tail - buf->head;
}

/* Doubles, so that n appends copy O(n) bytes; never beyond the maximum. */
static size_t grown(const struct cellar_buf *buf, size_t need)
{
    size_t size = buf->size < SMALL_BYTES / 2 ? SMALL_BYTES : buf->size * 2;
    if (size < need)
        size = need;
    return size < buf->max ? size : buf->max;
}

static enum cellar_code grow(struct cellar_buf *buf, size_t need)
{
    size_t size = grown(buf, need);
    uint8_t *data = realloc(buf->data, size);
    if (!data)
        return CELLAR_E_NOMEM;
    buf->data = data;
    buf->size = size;
    return CELLAR_OK;
}

static void compact(struct cellar_buf *buf)
{
    if (buf->head == 0)
        return;
    memmove(buf->data, buf->data + buf->head, cellar_buf_len(buf));
    buf->tail -= buf->head;
    buf->head = 0;
}

static enum cellar_code make_room(struct cellar_buf *buf, size_t need)
{
    compact(buf);
    return !buf->data || need > buf->size ? grow(buf, need) : CELLAR_OK;
}

enum cellar_code cellar_buf_reserve(struct cellar_buf *buf, size_t len,
                                    uint8_t **room)
{
    size_t held = cellar_buf_len(buf);
    if (len == 0 || len > buf->max - held)
        return len == 0 ? CELLAR_OK : CELLAR_E_LIMIT;
    enum cellar_code code = CELLAR_OK;
    if (!buf->data || len > buf->size - buf->tail)
        code = make_room(buf, held + len);
    if (code == CELLAR_OK)
        *room = buf->data + buf->tail;
    return code;
}

void cellar_buf_commit(struct cellar_buf *buf, size_t len)
{
    buf->tail += len;
}

enum cellar_code cellar_buf_append(struct cellar_buf *buf, const void *bytes,
                                   size_t len)
{
    if (len == 0)
        return CELLAR_OK;
    uint8_t *room = NULL;
    enum cellar_code code = cellar_buf_reserve(buf, len, &room);
    if (code != CELLAR_OK)
        return code;
    memcpy(room, bytes, len);
    cellar_buf_commit(buf, len);
    return CELLAR_OK;
}

void cellar_buf_consume(struct cellar_buf *buf, size_t len)
{
    size_t held = cellar_buf_len(buf);
    buf->head += len < held ? len : held;
    if (buf->head == buf->tail) {
        buf->head = 0;
        buf->tail = 0;
    }
}

void cellar_buf_cut(struct cellar_buf *buf, size_t len)
{
    if (len < cellar_buf_len(buf))
        buf->tail = buf->head + len;
}

char *cellar_buf_take(struct cellar_buf *buf)
{
    size_t len = cellar_buf_len(buf);
    if (buf->data)
        compact(buf);
    char *text = realloc(buf->data, len + 1);
    if (!text)
        return NULL;
    text[len] = '\0';
    cellar_buf_init(buf, buf->max);
    return text;
}
