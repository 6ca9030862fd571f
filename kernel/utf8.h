/* UTF-8: what comes from a session is bytes; what leaves in JSON is text. */
#ifndef CELLAR_KERNEL_UTF8_H
#define CELLAR_KERNEL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The length of the well-formed sequence at `bytes` (RFC 3629: no overlong
 * forms, surrogates, or beyond U+10FFFF), 0 where there is none. */
size_t cellar_utf8_sequence(const char *bytes, size_t len);

bool cellar_utf8_valid(const char *bytes, size_t len);

/* A NUL-terminated copy in which U+FFFD stands for each byte that belongs to
 * no sequence. The caller frees it; NULL: out of memory. */
char *cellar_utf8_mend(const char *bytes, size_t len, size_t *out_len);

#endif
