#include "records.h"

#include <string.h>

/* What one read may bring: the first of an answer nearly always brings all of
 * it and needs no more than the buffer keeps; a large one is read in steps. */
#define READ_BYTES       (64u << 10)
#define FIRST_READ_BYTES (4u << 10)

struct rule {
    enum cellar_record_kind kind;
    enum cellar_records_phase phase;
    size_t min; /* of the body */
    size_t max;
};

static const struct rule rules[] = {
    {CELLAR_RECORD_SANDBOX, CELLAR_RECORDS_LAUNCHING, 2, 2},
    {CELLAR_RECORD_READY, CELLAR_RECORDS_BOOTING, 1, CELLAR_PYTHON_MAX},
    {CELLAR_RECORD_AWAKE, CELLAR_RECORDS_WAKING, CELLAR_RECORD_AWAKE_BYTES,
     CELLAR_RECORD_AWAKE_BYTES},
    {CELLAR_RECORD_MIME, CELLAR_RECORDS_RUNNING, 2,
     CELLAR_NAME_MAX + 1 + CELLAR_RESULT_MAX},
    {CELLAR_RECORD_NAME, CELLAR_RECORDS_RUNNING, 0, CELLAR_NAME_MAX},
    {CELLAR_RECORD_TEXT, CELLAR_RECORDS_RUNNING, 0, CELLAR_MESSAGE_MAX},
    {CELLAR_RECORD_TRACE, CELLAR_RECORDS_RUNNING, 0, CELLAR_TRACEBACK_MAX},
    {CELLAR_RECORD_UNFIT, CELLAR_RECORDS_RUNNING, 1, CELLAR_WHY_MAX},
    {CELLAR_RECORD_END, CELLAR_RECORDS_RUNNING, CELLAR_RECORD_END_BYTES,
     CELLAR_RECORD_END_BYTES},
};

void cellar_records_init(struct cellar_records *records)
{
    *records = (struct cellar_records){.phase = CELLAR_RECORDS_LAUNCHING};
    cellar_buf_init(&records->in, CELLAR_ANSWER_MAX + READ_BYTES);
}

void cellar_records_done(struct cellar_records *records)
{
    cellar_buf_done(&records->in);
}

void cellar_records_await(struct cellar_records *records,
                          enum cellar_records_phase phase)
{
    cellar_buf_consume(&records->in, records->seen);
    if (phase == CELLAR_RECORDS_LAUNCHING || phase == CELLAR_RECORDS_WAKING) {
        cellar_buf_consume(&records->in, cellar_buf_len(&records->in));
        records->broken = false;
    }
    if (cellar_buf_len(&records->in) == 0)
        cellar_buf_reset(&records->in);
    records->phase = phase;
    records->seen = 0;
    records->parts = 0;
    records->data = 0;
    memset(records->has, 0, sizeof(records->has));
}

enum cellar_code cellar_records_room(struct cellar_records *records,
                                     uint8_t **room, size_t *len)
{
    bool first = cellar_buf_len(&records->in) == 0;
    *len = first ? FIRST_READ_BYTES : READ_BYTES;
    return cellar_buf_reserve(&records->in, *len, room);
}

void cellar_records_arrived(struct cellar_records *records, size_t len)
{
    cellar_buf_commit(&records->in, len);
}

static uint64_t number(const uint8_t *from, size_t len)
{
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++)
        n = n << 8 | from[i];
    return n;
}

static const struct rule *rule_of(const struct cellar_records *records,
                                  uint8_t kind)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].kind == kind && rules[i].phase == records->phase)
            return &rules[i];
    return NULL;
}

/* ------------------------------------------------------------- the kinds -- */

static enum cellar_code take_mime(struct cellar_records *records,
                                  const uint8_t *body, struct cellar_span span)
{
    const uint8_t *zero = memchr(body, 0, span.len);
    size_t type = zero ? (size_t)(zero - body) : 0;
    if (type == 0 || type > CELLAR_NAME_MAX)
        return CELLAR_E_PROTO;
    size_t len = span.len - type - 1;
    if (records->parts == CELLAR_MIME_MAX ||
        len > CELLAR_RESULT_MAX - records->data)
        return CELLAR_E_LIMIT;
    size_t i = records->parts++;
    records->types[i] = (struct cellar_span){span.at, type};
    records->bodies[i] = (struct cellar_span){span.at + type + 1, len};
    records->data += len;
    return CELLAR_OK;
}

static enum cellar_code take_text(struct cellar_records *records, size_t which,
                                  struct cellar_span span)
{
    if (records->has[which])
        return CELLAR_E_PROTO;
    records->has[which] = true;
    records->texts[which] = span;
    return CELLAR_OK;
}

/* The version goes to people's terminals: nothing but what one has in it. */
static enum cellar_code take_ready(struct cellar_said *said,
                                   const uint8_t *body, size_t len)
{
    static const char allowed[] = "0123456789.abcrcdevpost+-";
    for (size_t i = 0; i < len; i++)
        if (body[i] == '\0' || !strchr(allowed, body[i]))
            return CELLAR_E_PROTO;
    memcpy(said->python, body, len);
    return CELLAR_OK;
}

static enum cellar_code take_end(struct cellar_said *said, const uint8_t *body)
{
    if (body[8] > CELLAR_OUTCOME_EXIT)
        return CELLAR_E_PROTO;
    said->ticket = number(body, 8);
    said->outcome = (enum cellar_outcome)body[8];
    said->exit_status = (uint32_t)number(body + 9, 4);
    return CELLAR_OK;
}

/* E_AGAIN: a part of an answer, which is kept; go on. */
static enum cellar_code take(struct cellar_records *records,
                             enum cellar_record_kind kind,
                             struct cellar_span span, struct cellar_said *said)
{
    const uint8_t *body = cellar_buf_peek(&records->in) + span.at;
    enum cellar_code code = CELLAR_OK;
    *said = (struct cellar_said){.kind = kind};
    switch (kind) {
    case CELLAR_RECORD_SANDBOX:
        said->landlock_abi = body[0];
        said->seccomp = body[1];
        records->phase = CELLAR_RECORDS_BOOTING;
        return body[1] <= 2 ? CELLAR_OK : CELLAR_E_PROTO;
    case CELLAR_RECORD_READY:
        records->phase = CELLAR_RECORDS_IDLE;
        return take_ready(said, body, span.len);
    case CELLAR_RECORD_AWAKE:
        records->phase = CELLAR_RECORDS_IDLE;
        said->ping = number(body, span.len);
        return CELLAR_OK;
    case CELLAR_RECORD_END:
        records->phase = CELLAR_RECORDS_IDLE;
        return take_end(said, body);
    case CELLAR_RECORD_MIME:
        code = take_mime(records, body, span);
        break;
    case CELLAR_RECORD_NAME:
        code = take_text(records, 0, span);
        break;
    case CELLAR_RECORD_TEXT:
        code = take_text(records, 1, span);
        break;
    case CELLAR_RECORD_TRACE:
        code = take_text(records, 2, span);
        break;
    case CELLAR_RECORD_UNFIT:
        code = take_text(records, 3, span);
        break;
    case CELLAR_RECORD_CODE:
    case CELLAR_RECORD_FREEZE:
    case CELLAR_RECORD_FROZEN:
    case CELLAR_RECORD_WAKE:
        return CELLAR_E_PROTO;
    }
    return code == CELLAR_OK ? CELLAR_E_AGAIN : code;
}

/* One record; E_AGAIN with *more false when it has not come whole. */
static enum cellar_code step(struct cellar_records *records,
                             struct cellar_said *said, bool *more)
{
    *more = false;
    size_t held = cellar_buf_len(&records->in) - records->seen;
    if (held < CELLAR_RECORD_HEADER_BYTES)
        return held > 0 && records->phase == CELLAR_RECORDS_IDLE
                   ? CELLAR_E_PROTO
                   : CELLAR_E_AGAIN;
    const uint8_t *header = cellar_buf_peek(&records->in) + records->seen;
    size_t len = (size_t)number(header, 4);
    const struct rule *rule = rule_of(records, header[4]);
    if (!rule)
        return CELLAR_E_PROTO;
    if (len < rule->min || len > rule->max)
        return CELLAR_E_LIMIT;
    if (held - CELLAR_RECORD_HEADER_BYTES < len)
        return CELLAR_E_AGAIN;
    struct cellar_span span = {records->seen + CELLAR_RECORD_HEADER_BYTES, len};
    records->seen = span.at + len;
    *more = true;
    return take(records, rule->kind, span, said);
}

enum cellar_code cellar_records_next(struct cellar_records *records,
                                     struct cellar_said *said)
{
    bool more = true;
    enum cellar_code code = records->broken ? CELLAR_E_PROTO : CELLAR_E_AGAIN;
    while (code == CELLAR_E_AGAIN && more)
        code = step(records, said, &more);
    records->broken = code != CELLAR_OK && code != CELLAR_E_AGAIN;
    return code;
}

static struct cellar_bytes bytes_of(const struct cellar_records *records,
                                    struct cellar_span span)
{
    return (struct cellar_bytes){cellar_buf_peek(&records->in) + span.at,
                                 span.len};
}

void cellar_records_answer(const struct cellar_records *records,
                           struct cellar_msg_done *done)
{
    struct cellar_bytes *texts[] = {&done->error_name, &done->error_message,
                                    &done->traceback, &done->checkpoint_why};
    for (size_t i = 0; i < records->parts; i++) {
        done->result[i].type = bytes_of(records, records->types[i]);
        done->result[i].data = bytes_of(records, records->bodies[i]);
    }
    done->parts = records->parts;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (records->has[i])
            *texts[i] = bytes_of(records, records->texts[i]);
}
