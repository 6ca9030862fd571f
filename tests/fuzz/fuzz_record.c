/* What a worker may write on its control socket, in pieces. The first byte of
 * the input says how large they are, and with WAKES that the worker is a copy
 * which was woken. Each answer that the agent would take must make a DONE that
 * its own wire takes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "proto/message.h"
#include "runtime-image/agent/records.h"

enum { WAKES = 128 };

static void check_answer(const struct cellar_records *records,
                         const struct cellar_said *said)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DONE, .cell = 1, .mark = 1};
    struct cellar_buf out;
    cellar_records_answer(records, &msg.u.done);
    bool error = said->outcome == CELLAR_OUTCOME_ERROR;
    if (error)
        msg.u.done.parts = 0;
    else
        msg.u.done.error_name = msg.u.done.error_message =
            msg.u.done.traceback = (struct cellar_bytes){NULL, 0};
    msg.u.done.status = error ? CELLAR_STATUS_ERROR : CELLAR_STATUS_OK;
    msg.u.done.has_error = error;
    if (msg.u.done.checkpoint_why.len > 0)
        msg.u.done.checkpoint = CELLAR_TAKEN_NO;
    cellar_buf_init(&out, CELLAR_PAYLOAD_MAX);
    if (cellar_message_pack(&msg, &out) != CELLAR_OK)
        abort();
    cellar_buf_done(&out);
}

static enum cellar_code drain(struct cellar_records *records)
{
    struct cellar_said said;
    enum cellar_code code = CELLAR_OK;
    while ((code = cellar_records_next(records, &said)) == CELLAR_OK) {
        if (said.kind == CELLAR_RECORD_END)
            check_answer(records, &said);
        cellar_records_await(records, said.kind == CELLAR_RECORD_SANDBOX
                                          ? CELLAR_RECORDS_BOOTING
                                          : CELLAR_RECORDS_RUNNING);
    }
    return code;
}

static enum cellar_code feed(struct cellar_records *records,
                             const uint8_t *data, size_t len)
{
    while (len > 0) {
        uint8_t *room = NULL;
        size_t size = 0;
        enum cellar_code code = cellar_records_room(records, &room, &size);
        if (code != CELLAR_OK)
            return code;
        size = size < len ? size : len;
        memcpy(room, data, size);
        cellar_records_arrived(records, size);
        data += size;
        len -= size;
        code = drain(records);
        if (code != CELLAR_E_AGAIN)
            return code;
    }
    return CELLAR_E_AGAIN;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct cellar_records records;
    const size_t piece = 1 + data[0] % WAKES;
    enum cellar_code code = CELLAR_E_AGAIN;
    cellar_records_init(&records);
    if (data[0] & WAKES)
        cellar_records_await(&records, CELLAR_RECORDS_WAKING);
    for (size_t at = 1; at < len && code == CELLAR_E_AGAIN; at += piece)
        code = feed(&records, data + at, piece < len - at ? piece : len - at);
    cellar_records_done(&records);
    return 0;
}
