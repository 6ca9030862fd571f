/*
 * What a container engine may send on a connection that is to be upgraded:
 * the head of its reply, then the multiplexed stream. Input that begins like
 * no reply is a stream from its first byte on. The stream is read twice, at
 * once and in pieces of which the last byte of the input says the size: both
 * must tell the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "kernel/engine/docker/demux.h"
#include "kernel/engine/docker/http_head.h"

/* What a reading of the stream came to. */
struct heard {
    enum cellar_code code;
    size_t bytes[CELLAR_ATTACH_SYSTEM + 1];
    uint32_t sums[CELLAR_ATTACH_SYSTEM + 1]; /* of the bytes, in order */
};

static void must(int fine)
{
    if (!fine)
        abort();
}

static void hear(struct heard *heard, const struct cellar_attach_slice *slice,
                 const uint8_t *from, size_t len)
{
    must(slice->stream <= CELLAR_ATTACH_SYSTEM && slice->len > 0);
    must(slice->data >= from && slice->data + slice->len <= from + len);
    heard->bytes[slice->stream] += slice->len;
    for (size_t i = 0; i < slice->len; i++)
        heard->sums[slice->stream] =
            heard->sums[slice->stream] * 31 + slice->data[i];
}

/* A broken stream stays broken, and gives nothing more. */
static void check_broken(struct cellar_attach *attach, enum cellar_code code)
{
    static const uint8_t more[] = {1, 0, 0, 0, 0, 0, 0, 1, 'x'};
    struct cellar_attach_input in = {more, sizeof(more)};
    struct cellar_attach_slice slice = {.len = 77};
    must(code == CELLAR_E_PROTO || code == CELLAR_E_LIMIT);
    must(cellar_attach_next(attach, &in, &slice) == code && slice.len == 77);
}

static struct heard read_stream(const uint8_t *data, size_t len, size_t piece)
{
    struct heard heard = {.code = CELLAR_E_AGAIN};
    struct cellar_attach attach;
    cellar_attach_init(&attach);
    for (size_t at = 0; at < len && heard.code == CELLAR_E_AGAIN; at += piece) {
        size_t size = piece < len - at ? piece : len - at;
        struct cellar_attach_input in = {data + at, size};
        struct cellar_attach_slice slice;
        while (!(heard.code = cellar_attach_next(&attach, &in, &slice)))
            hear(&heard, &slice, data + at, size);
        must(heard.code != CELLAR_E_AGAIN || in.len == 0);
    }
    if (heard.code != CELLAR_E_AGAIN)
        check_broken(&attach, heard.code);
    return heard;
}

static void check_stream(const uint8_t *data, size_t len)
{
    if (len == 0)
        return;
    struct heard whole = read_stream(data, len, len);
    struct heard pieces = read_stream(data, len, 1 + data[len - 1] % 16);
    must(memcmp(&whole, &pieces, sizeof(whole)) == 0);
}

static void check_head(const char *text, size_t len,
                       const struct cellar_http_head *head)
{
    struct cellar_http_head twin = {.status = -1};
    must(head->len <= len && head->len <= CELLAR_HTTP_HEAD_MAX + 4u);
    must(memcmp(text + head->len - 4, "\r\n\r\n", 4) == 0);
    must(head->status >= 100 && head->status <= 999);
    must(head->has_length || head->length == 0);
    /* What follows the head has no say in it; no part of it is enough. */
    must(cellar_http_head_parse(text, head->len, &twin) == CELLAR_OK);
    must(twin.status == head->status && twin.len == head->len &&
         twin.upgrade_tcp == head->upgrade_tcp &&
         twin.raw_stream == head->raw_stream && twin.length == head->length);
    for (size_t cut = 0; cut < head->len; cut += 1 + head->len / 16)
        must(cellar_http_head_parse(text, cut, &twin) == CELLAR_E_AGAIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cellar_http_head head = {.status = -1};
    const char *text = (const char *)data;
    if (len < 7 || memcmp(data, "HTTP/1.", 7) != 0) {
        check_stream(data, len);
        return 0;
    }
    enum cellar_code code = cellar_http_head_parse(text, len, &head);
    if (code != CELLAR_OK) {
        must(code == CELLAR_E_AGAIN || code == CELLAR_E_PROTO ||
             code == CELLAR_E_LIMIT);
        must(head.status == -1);
        return 0;
    }
    check_head(text, len, &head);
    if (cellar_http_head_is_stream(&head))
        check_stream(data + head.len, len - head.len);
    return 0;
}
