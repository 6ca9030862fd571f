/*
 * A byte buffer that grows up to a maximum given at init and never beyond.
 * Bytes are appended at the end and consumed at the front.
 */
#ifndef CELLAR_PROTO_BUF_H
#define CELLAR_PROTO_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "cellar/error.h"

/* Invariant: head <= tail <= size <= max; data is NULL iff size is 0. */
struct cellar_buf {
    uint8_t *data;
    size_t head; /* the first byte not consumed yet */
    size_t tail; /* one past the last byte */
    size_t size; /* bytes allocated */
    size_t max;  /* bytes held at the most (tail - head) */
};

/* Makes an empty buffer that may hold `max` bytes. Allocates nothing. */
void cellar_buf_init(struct cellar_buf *buf, size_t max);

/* Frees the bytes; the buffer is empty and may be used again. */
void cellar_buf_done(struct cellar_buf *buf);

/* Drops the content; keeps a small allocation, gives a large one back. */
void cellar_buf_reset(struct cellar_buf *buf);

/* The bytes held, and how many. The pointer lives until the next append,
 * reserve, consume, reset or done. */
const uint8_t *cellar_buf_peek(const struct cellar_buf *buf);
size_t cellar_buf_len(const struct cellar_buf *buf);

/* Copies `len` bytes to the end. CELLAR_E_LIMIT over the maximum,
 * CELLAR_E_NOMEM; on failure nothing is appended. */
enum cellar_code cellar_buf_append(struct cellar_buf *buf, const void *bytes,
                                   size_t len);

/* Lends room for `len` bytes at the end; cellar_buf_commit() makes the first
 * `len` of them content. The room lives until the next call on the buffer; for
 * no bytes `room` stays untouched. Codes as above. */
enum cellar_code cellar_buf_reserve(struct cellar_buf *buf, size_t len,
                                    uint8_t **room);
void cellar_buf_commit(struct cellar_buf *buf, size_t len);

/* Drops `len` bytes at the front; at most what is held. */
void cellar_buf_consume(struct cellar_buf *buf, size_t len);

/* Gives away what is held, with a NUL behind it; the caller frees it and the
 * buffer is empty. NULL: out of memory, and nothing has changed. */
char *cellar_buf_take(struct cellar_buf *buf);

/* Keeps the first `len` bytes, drops what was appended after them: how a
 * writer that failed half-way takes back what it wrote. */
void cellar_buf_cut(struct cellar_buf *buf, size_t len);

#endif
