#include "demux.h"

#include <string.h>

void cellar_attach_init(struct cellar_attach *attach)
{
    *attach = (struct cellar_attach){0};
}

static void take_header(struct cellar_attach *attach,
                        struct cellar_attach_input *in)
{
    size_t len = CELLAR_ATTACH_HEADER_BYTES - attach->have;
    if (len > in->len)
        len = in->len;
    memcpy(attach->header + attach->have, in->data, len);
    attach->have += len;
    in->data += len;
    in->len -= len;
}

static enum cellar_code read_header(struct cellar_attach *attach)
{
    const uint8_t *h = attach->header;
    uint32_t len = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 |
                   (uint32_t)h[6] << 8 | (uint32_t)h[7];
    if (h[0] > CELLAR_ATTACH_SYSTEM || h[1] || h[2] || h[3])
        return CELLAR_E_PROTO;
    if (len > CELLAR_ATTACH_CHUNK_MAX)
        return CELLAR_E_LIMIT;
    attach->left = len;
    if (!len)
        attach->have = 0; /* an empty chunk: another header follows */
    return CELLAR_OK;
}

/* Reads headers until a chunk has begun. */
static enum cellar_code seek_chunk(struct cellar_attach *attach,
                                   struct cellar_attach_input *in)
{
    while (!attach->left) {
        if (!in->len)
            return CELLAR_E_AGAIN;
        take_header(attach, in);
        if (attach->have < CELLAR_ATTACH_HEADER_BYTES)
            return CELLAR_E_AGAIN;
        enum cellar_code code = read_header(attach);
        if (code)
            return code;
    }
    return in->len ? CELLAR_OK : CELLAR_E_AGAIN;
}

enum cellar_code cellar_attach_next(struct cellar_attach *attach,
                                    struct cellar_attach_input *in,
                                    struct cellar_attach_slice *out)
{
    if (attach->fault)
        return attach->fault;
    enum cellar_code code = seek_chunk(attach, in);
    if (code) {
        if (code != CELLAR_E_AGAIN)
            attach->fault = code;
        return code;
    }
    size_t len = in->len < attach->left ? in->len : attach->left;
    *out = (struct cellar_attach_slice){
        .stream = (enum cellar_attach_stream)attach->header[0],
        .data = in->data,
        .len = len,
    };
    in->data += len;
    in->len -= len;
    attach->left -= (uint32_t)len;
    if (!attach->left)
        attach->have = 0;
    return CELLAR_OK;
}
