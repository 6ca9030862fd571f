/*
 * The stream that Docker sends for an attached container: chunks of stdout
 * and stderr, each behind a header of 8 bytes {stream, 0, 0, 0, length (u32,
 * big endian)}. Pure: it copies nothing and lends slices of what it is fed.
 *
 *     struct cellar_attach_input in = {data, len};
 *     while (!(code = cellar_attach_next(&attach, &in, &slice)))
 *         use(slice);
 *     if (code != CELLAR_E_AGAIN)
 *         the stream is broken for good;
 *
 * The parser's state is complete whenever a slice is returned: its user may
 * do anything with it there, ending the stream included.
 */
#ifndef CELLAR_ENGINE_DOCKER_DEMUX_H
#define CELLAR_ENGINE_DOCKER_DEMUX_H

#include <stddef.h>
#include <stdint.h>

#include "cellar/error.h"

#define CELLAR_ATTACH_HEADER_BYTES 8

/* One chunk. Docker's are 32 KiB at most; nothing is held of them, so this
 * only tells a stream that lost its step from a sane one. */
#define CELLAR_ATTACH_CHUNK_MAX (16u << 20)

enum cellar_attach_stream {
    CELLAR_ATTACH_STDIN = 0, /* an echo, "written on stdout" */
    CELLAR_ATTACH_STDOUT = 1,
    CELLAR_ATTACH_STDERR = 2,
    CELLAR_ATTACH_SYSTEM = 3 /* an error of the engine's own, as text */
};

struct cellar_attach {
    uint8_t header[CELLAR_ATTACH_HEADER_BYTES];
    size_t have;   /* bytes of the header so far */
    uint32_t left; /* bytes of the chunk still to come */
    enum cellar_code fault;
};

struct cellar_attach_input {
    const uint8_t *data;
    size_t len;
};

/* Part of a chunk, never empty; lent as long as the input. */
struct cellar_attach_slice {
    enum cellar_attach_stream stream;
    const uint8_t *data;
    size_t len;
};

void cellar_attach_init(struct cellar_attach *attach);

/* Takes the next slice off the front of `in`. CELLAR_E_AGAIN: `in` is used
 * up. CELLAR_E_PROTO (no such stream), CELLAR_E_LIMIT (a chunk is too long):
 * from then on every call answers so. */
enum cellar_code cellar_attach_next(struct cellar_attach *attach,
                                    struct cellar_attach_input *in,
                                    struct cellar_attach_slice *out);

#endif
