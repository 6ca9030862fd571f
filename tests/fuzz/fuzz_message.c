/* Payloads from anybody. What is taken must be packable again, and come back
 * the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "proto/message.h"

static void pack(const struct cellar_message *msg, struct cellar_buf *out)
{
    cellar_buf_init(out, CELLAR_PAYLOAD_MAX);
    if (cellar_message_pack(msg, out) != CELLAR_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cellar_message msg;
    struct cellar_message twin;
    struct cellar_buf first;
    struct cellar_buf second;
    if (cellar_message_unpack(data, len, &msg) != CELLAR_OK)
        return 0;
    pack(&msg, &first);
    if (cellar_message_unpack(cellar_buf_peek(&first), cellar_buf_len(&first),
                              &twin) != CELLAR_OK)
        abort();
    pack(&twin, &second);
    if (cellar_buf_len(&first) != cellar_buf_len(&second) ||
        memcmp(cellar_buf_peek(&first), cellar_buf_peek(&second),
               cellar_buf_len(&first)) != 0)
        abort();
    cellar_buf_done(&first);
    cellar_buf_done(&second);
    return 0;
}
