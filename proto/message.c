#include "message.h"

#include <msgpack.h>
#include <string.h>

#include "preload.h"

/* How a field looks in C, and what it is in msgpack. */
enum kind {
    NUMBER, /* uint64_t; an unsigned integer of min..max */
    FLAG,   /* bool; a boolean */
    NONCE,  /* uint8_t[CELLAR_NONCE_BYTES]; bin */
    BYTES,  /* struct cellar_bytes; bin of min..max bytes */
    PARTS,  /* size_t at `at`, the parts at `more`; array of [type, data],
             * min..max of them */
    KEPT,   /* the same, of [tag, after, age_ms] */
    MODULES /* char[CELLAR_PRELOAD_MAX + 1]; bin */
};

struct field {
    enum kind kind;
    size_t at;
    size_t more;
    uint64_t min;
    uint64_t max;
};

/* Whether a message belongs to a cell; whether its mark numbers a delivery. */
enum rule { ZERO, POSITIVE, ANY };

struct layout {
    enum cellar_message_type type;
    enum rule cell;
    enum rule mark;
    const struct field *fields;
    size_t count;
};

#define AT(member) offsetof(struct cellar_message, u.member)
#define U64(member, low, high)                                                 \
    {                                                                          \
        .kind = NUMBER, .at = AT(member), .min = (low), .max = (high)          \
    }
#define BIN(member, low, high)                                                 \
    {                                                                          \
        .kind = BYTES, .at = AT(member), .min = (low), .max = (high)           \
    }
#define MIME(count, array, low)                                                \
    {                                                                          \
        .kind = PARTS, .at = AT(count), .more = AT(array), .min = (low),       \
        .max = CELLAR_MIME_MAX                                                 \
    }

static const struct field hello_fields[] = {
    U64(hello.version, 0, UINT64_MAX),
    {.kind = NONCE, .at = AT(hello.nonce)},
    U64(hello.lease_ms, 1, CELLAR_MS_MAX),
    U64(hello.life_ms, 0, CELLAR_MS_MAX),
    U64(hello.grace_ms, 0, CELLAR_MS_MAX),
    U64(hello.nproc, 0, UINT64_MAX),
    U64(hello.nofile, 0, UINT64_MAX),
    U64(hello.fsize, 0, UINT64_MAX),
    U64(hello.policy, 0, CELLAR_CHECKPOINT_AUTO),
    {.kind = MODULES, .at = AT(hello.preload)},
};
static const struct field tag_fields[] = {
    BIN(tag.tag, 1, CELLAR_CHECKPOINT_TAG_MAX),
};
static const struct field run_fields[] = {
    BIN(run.code, 0, CELLAR_CODE_MAX),
    U64(run.timeout_ms, 0, CELLAR_MS_MAX),
    U64(run.output_max, 0, UINT64_MAX),
};
static const struct field welcome_fields[] = {
    U64(welcome.version, 0, UINT64_MAX),
    {.kind = NONCE, .at = AT(welcome.nonce)},
    U64(welcome.epoch, 1, UINT64_MAX),
    U64(welcome.generation, 0, UINT64_MAX),
    U64(welcome.ready, 0, 1),
    U64(welcome.running, 0, UINT64_MAX),
    U64(welcome.last_cell, 0, UINT64_MAX),
    U64(welcome.delivered, 0, UINT64_MAX),
};
static const struct field ready_fields[] = {
    U64(ready.generation, 1, UINT64_MAX),
    BIN(ready.python, 0, CELLAR_NAME_MAX),
    U64(ready.landlock_abi, 0, UINT32_MAX),
    U64(ready.seccomp, 0, 2),
};
static const struct field output_fields[] = {
    U64(output.stream, 1, 2),
    BIN(output.data, 1, CELLAR_CHUNK_MAX),
};
static const struct field display_fields[] = {
    MIME(display.count, display.parts, 1),
};
static const struct field done_fields[] = {
    U64(done.status, 0, CELLAR_STATUS_EXITED),
    U64(done.state, 0, CELLAR_STATE_FRESH),
    U64(done.restored_from, 0, UINT64_MAX),
    U64(done.limit, 0, CELLAR_LIMIT_OUTPUT),
    U64(done.code, 0, UINT32_MAX),
    MIME(done.parts, done.result, 0),
    {.kind = FLAG, .at = AT(done.has_error)},
    BIN(done.error_name, 0, CELLAR_NAME_MAX),
    BIN(done.error_message, 0, CELLAR_MESSAGE_MAX),
    BIN(done.traceback, 0, CELLAR_TRACEBACK_MAX),
    U64(done.dropped_stdout, 0, UINT64_MAX),
    U64(done.dropped_stderr, 0, UINT64_MAX),
    U64(done.wall_us, 0, UINT64_MAX),
    U64(done.cpu_us, 0, UINT64_MAX),
    U64(done.peak_memory_bytes, 0, UINT64_MAX),
    U64(done.checkpoint, 0, CELLAR_TAKEN_NO),
    BIN(done.checkpoint_why, 0, CELLAR_WHY_MAX),
};
static const struct field fault_fields[] = {
    U64(fault.code, CELLAR_FAULT_NO_PYTHON, CELLAR_FAULT_PRELOAD),
    BIN(fault.text, 0, CELLAR_MESSAGE_MAX),
};
static const struct field reply_fields[] = {
    U64(reply.request, 0, CELLAR_MSG_FORK), {.kind = FLAG, .at = AT(reply.ok)},
    BIN(reply.text, 0, CELLAR_WHY_MAX),     U64(reply.after, 0, UINT64_MAX),
    U64(reply.took_us, 0, UINT64_MAX),      U64(reply.lane, 0, UINT32_MAX),
};
static const struct field fork_fields[] = {
    U64(fork.count, 1, CELLAR_BRANCHES_MAX),
};
static const struct field copies_fields[] = {
    U64(copies.held_bytes, 0, UINT64_MAX),
    {.kind = KEPT,
     .at = AT(copies.count),
     .more = AT(copies.kept),
     .min = 0,
     .max = CELLAR_COPIES_MAX},
};

#define WITH(fields) fields, sizeof(fields) / sizeof((fields)[0])

/* clang-format off */
static const struct layout layouts[] = {
    {CELLAR_MSG_HELLO,     ZERO,     ANY,      WITH(hello_fields)},
    {CELLAR_MSG_RUN,       POSITIVE, ANY,      WITH(run_fields)},
    {CELLAR_MSG_INTERRUPT, POSITIVE, ANY,      NULL, 0},
    {CELLAR_MSG_RESET,     ZERO,     ANY,      NULL, 0},
    {CELLAR_MSG_PING,      ZERO,     ANY,      NULL, 0},
    {CELLAR_MSG_STOP,      ZERO,     ANY,      NULL, 0},
    {CELLAR_MSG_CHECKPOINT, ZERO,    ANY,      WITH(tag_fields)},
    {CELLAR_MSG_RESTORE,   ZERO,     ANY,      WITH(tag_fields)},
    {CELLAR_MSG_DROP,      ZERO,     ANY,      WITH(tag_fields)},
    {CELLAR_MSG_LIST,      ZERO,     ANY,      NULL, 0},
    {CELLAR_MSG_FORK,      ZERO,     ANY,      WITH(fork_fields)},
    {CELLAR_MSG_WELCOME,   ZERO,     ZERO,     WITH(welcome_fields)},
    {CELLAR_MSG_READY,     ZERO,     POSITIVE, WITH(ready_fields)},
    {CELLAR_MSG_OUTPUT,    ANY,      POSITIVE, WITH(output_fields)},
    {CELLAR_MSG_DISPLAY,   POSITIVE, POSITIVE, WITH(display_fields)},
    {CELLAR_MSG_DONE,      POSITIVE, POSITIVE, WITH(done_fields)},
    {CELLAR_MSG_FAULT,     ZERO,     POSITIVE, WITH(fault_fields)},
    {CELLAR_MSG_PONG,      ZERO,     ZERO,     NULL, 0},
    {CELLAR_MSG_REPLY,     ZERO,     POSITIVE, WITH(reply_fields)},
    {CELLAR_MSG_COPIES,    ZERO,     POSITIVE, WITH(copies_fields)},
};
/* clang-format on */

/* type, cell, mark */
#define LEADING 3

static const struct layout *layout_of(uint64_t type)
{
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
        if (layouts[i].type == type)
            return &layouts[i];
    return NULL;
}

static const void *at(const struct cellar_message *msg, size_t offset)
{
    return (const uint8_t *)msg + offset;
}

static void *room(struct cellar_message *msg, size_t offset)
{
    return (uint8_t *)msg + offset;
}

/* ---------------------------------------------------------------- checks -- */

static enum cellar_code check_range(uint64_t n, uint64_t min, uint64_t max)
{
    if (n > max)
        return CELLAR_E_LIMIT;
    return n < min ? CELLAR_E_PROTO : CELLAR_OK;
}

static enum cellar_code check_kept(const struct cellar_kept *kept, size_t count)
{
    enum cellar_code code = CELLAR_OK;
    for (size_t i = 0; i < count && code == CELLAR_OK; i++)
        code = check_range(kept[i].tag.len, 0, CELLAR_CHECKPOINT_TAG_MAX);
    return code;
}

/* One bound for the data of a bundle as a whole: sixteen parts of the largest
 * size each would not fit in a payload. */
static enum cellar_code check_parts(const struct cellar_mime_part *parts,
                                    size_t count)
{
    size_t left = CELLAR_RESULT_MAX;
    for (size_t i = 0; i < count; i++) {
        enum cellar_code code =
            check_range(parts[i].type.len, 1, CELLAR_NAME_MAX);
        if (code != CELLAR_OK)
            return code;
        if (parts[i].data.len > left)
            return CELLAR_E_LIMIT;
        left -= parts[i].data.len;
    }
    return CELLAR_OK;
}

static enum cellar_code check_modules(const char *text)
{
    size_t len = strnlen(text, CELLAR_PRELOAD_MAX + 1);
    if (len > CELLAR_PRELOAD_MAX)
        return CELLAR_E_LIMIT;
    return cellar_preload_valid(text, len) ? CELLAR_OK : CELLAR_E_PROTO;
}

static enum cellar_code check_field(const struct field *field,
                                    const struct cellar_message *msg)
{
    const struct cellar_bytes *bytes = at(msg, field->at);
    const uint64_t *number = at(msg, field->at);
    const size_t *count = at(msg, field->at);
    enum cellar_code code = CELLAR_OK;
    switch (field->kind) {
    case NUMBER:
        return check_range(*number, field->min, field->max);
    case BYTES:
        return check_range(bytes->len, field->min, field->max);
    case PARTS:
        code = check_range(*count, field->min, field->max);
        return code != CELLAR_OK ? code
                                 : check_parts(at(msg, field->more), *count);
    case KEPT:
        code = check_range(*count, field->min, field->max);
        return code != CELLAR_OK ? code
                                 : check_kept(at(msg, field->more), *count);
    case MODULES:
        return check_modules(at(msg, field->at));
    case FLAG:
    case NONCE:
        break;
    }
    return CELLAR_OK;
}

static bool obeys(enum rule rule, uint64_t n)
{
    return rule == ANY || (rule == POSITIVE) == (n > 0);
}

/* The exit status or the signal, and neither where there can't be one. */
static bool code_fits(const struct cellar_msg_done *done)
{
    if (done->status == CELLAR_STATUS_KILLED)
        return done->code >= 1 && done->code <= CELLAR_SIGNAL_MAX;
    return done->status == CELLAR_STATUS_EXITED || done->code == 0;
}

static bool limit_fits(const struct cellar_msg_done *done)
{
    if (done->status == CELLAR_STATUS_TIMEOUT)
        return done->limit == CELLAR_LIMIT_TIMEOUT;
    if (done->status == CELLAR_STATUS_OUT_OF_MEMORY)
        return done->limit == CELLAR_LIMIT_MEMORY;
    return done->limit != CELLAR_LIMIT_OUTPUT || done->dropped_stdout > 0 ||
           done->dropped_stderr > 0;
}

/* That the fields of a DONE tell one story (docs/PROTOCOL.md, "done"). */
static bool coherent(uint64_t cell, const struct cellar_msg_done *done)
{
    bool restored = done->state == CELLAR_STATE_RESTORED;
    bool error_text =
        done->error_name.len + done->error_message.len + done->traceback.len >
        0;
    return restored == (done->restored_from > 0) &&
           done->restored_from < cell &&
           (done->checkpoint == CELLAR_TAKEN_NO) ==
               (done->checkpoint_why.len > 0) &&
           (done->parts == 0 || done->status == CELLAR_STATUS_OK) &&
           done->has_error == (done->status == CELLAR_STATUS_ERROR) &&
           (done->has_error || !error_text) && code_fits(done) &&
           limit_fits(done);
}

static enum cellar_code check(const struct layout *layout,
                              const struct cellar_message *msg)
{
    if (!obeys(layout->cell, msg->cell) || !obeys(layout->mark, msg->mark))
        return CELLAR_E_PROTO;
    for (size_t i = 0; i < layout->count; i++) {
        enum cellar_code code = check_field(&layout->fields[i], msg);
        if (code != CELLAR_OK)
            return code;
    }
    if (msg->type == CELLAR_MSG_DONE && !coherent(msg->cell, &msg->u.done))
        return CELLAR_E_PROTO;
    if (msg->type == CELLAR_MSG_REPLY &&
        msg->u.reply.ok == (msg->u.reply.text.len > 0))
        return CELLAR_E_PROTO;
    return CELLAR_OK;
}

/* ------------------------------------------------------------------ pack -- */

struct sink {
    struct cellar_buf *out;
    enum cellar_code code;
};

static int write_out(void *data, const char *bytes, size_t len)
{
    struct sink *sink = data;
    if (sink->code == CELLAR_OK)
        sink->code = cellar_buf_append(sink->out, bytes, len);
    return 0;
}

static void pack_parts(msgpack_packer *pk, const struct cellar_mime_part *parts,
                       size_t count)
{
    msgpack_pack_array(pk, count);
    for (size_t i = 0; i < count; i++) {
        msgpack_pack_array(pk, 2);
        msgpack_pack_bin_with_body(pk, parts[i].type.data, parts[i].type.len);
        msgpack_pack_bin_with_body(pk, parts[i].data.data, parts[i].data.len);
    }
}

static void pack_kept(msgpack_packer *pk, const struct cellar_kept *kept,
                      size_t count)
{
    msgpack_pack_array(pk, count);
    for (size_t i = 0; i < count; i++) {
        msgpack_pack_array(pk, 3);
        msgpack_pack_bin_with_body(pk, kept[i].tag.data, kept[i].tag.len);
        msgpack_pack_uint64(pk, kept[i].after);
        msgpack_pack_uint64(pk, kept[i].age_ms);
    }
}

static void pack_field(msgpack_packer *pk, const struct field *field,
                       const struct cellar_message *msg)
{
    const struct cellar_bytes *bytes = at(msg, field->at);
    const uint64_t *number = at(msg, field->at);
    const size_t *count = at(msg, field->at);
    const bool *flag = at(msg, field->at);
    const char *text = at(msg, field->at);
    switch (field->kind) {
    case NUMBER:
        msgpack_pack_uint64(pk, *number);
        break;
    case FLAG:
        (void)(*flag ? msgpack_pack_true(pk) : msgpack_pack_false(pk));
        break;
    case NONCE:
        msgpack_pack_bin_with_body(pk, at(msg, field->at), CELLAR_NONCE_BYTES);
        break;
    case BYTES:
        msgpack_pack_bin_with_body(pk, bytes->data, bytes->len);
        break;
    case PARTS:
        pack_parts(pk, at(msg, field->more), *count);
        break;
    case KEPT:
        pack_kept(pk, at(msg, field->more), *count);
        break;
    case MODULES:
        msgpack_pack_bin_with_body(pk, text, strlen(text));
        break;
    }
}

enum cellar_code cellar_message_pack(const struct cellar_message *msg,
                                     struct cellar_buf *out)
{
    const struct layout *layout = layout_of(msg->type);
    if (!layout)
        return CELLAR_E_PROTO;
    enum cellar_code code = check(layout, msg);
    if (code != CELLAR_OK)
        return code;
    size_t before = cellar_buf_len(out);
    struct sink sink = {out, CELLAR_OK};
    msgpack_packer pk;
    msgpack_packer_init(&pk, &sink, write_out);
    msgpack_pack_array(&pk, LEADING + layout->count);
    msgpack_pack_uint64(&pk, msg->type);
    msgpack_pack_uint64(&pk, msg->cell);
    msgpack_pack_uint64(&pk, msg->mark);
    for (size_t i = 0; i < layout->count; i++)
        pack_field(&pk, &layout->fields[i], msg);
    if (sink.code != CELLAR_OK)
        cellar_buf_cut(out, before);
    return sink.code;
}

/* ---------------------------------------------------------------- unpack -- */

static bool read_number(const msgpack_object *from, uint64_t *to)
{
    if (from->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return false;
    *to = from->via.u64;
    return true;
}

static bool read_flag(const msgpack_object *from, bool *to)
{
    if (from->type != MSGPACK_OBJECT_BOOLEAN)
        return false;
    *to = from->via.boolean;
    return true;
}

static bool read_bytes(const msgpack_object *from, struct cellar_bytes *to)
{
    if (from->type != MSGPACK_OBJECT_BIN)
        return false;
    to->data = (const uint8_t *)from->via.bin.ptr;
    to->len = from->via.bin.size;
    return true;
}

static bool read_nonce(const msgpack_object *from, uint8_t *to)
{
    struct cellar_bytes bytes = {0};
    if (!read_bytes(from, &bytes) || bytes.len != CELLAR_NONCE_BYTES)
        return false;
    memcpy(to, bytes.data, CELLAR_NONCE_BYTES);
    return true;
}

static bool read_part(const msgpack_object *from, struct cellar_mime_part *to)
{
    return from->type == MSGPACK_OBJECT_ARRAY && from->via.array.size == 2 &&
           read_bytes(&from->via.array.ptr[0], &to->type) &&
           read_bytes(&from->via.array.ptr[1], &to->data);
}

static bool read_parts(const msgpack_object *from, size_t *count,
                       struct cellar_mime_part *parts)
{
    if (from->type != MSGPACK_OBJECT_ARRAY ||
        from->via.array.size > CELLAR_MIME_MAX)
        return false;
    *count = from->via.array.size;
    for (size_t i = 0; i < *count; i++)
        if (!read_part(&from->via.array.ptr[i], &parts[i]))
            return false;
    return true;
}

static bool read_one_kept(const msgpack_object *from, struct cellar_kept *to)
{
    return from->type == MSGPACK_OBJECT_ARRAY && from->via.array.size == 3 &&
           read_bytes(&from->via.array.ptr[0], &to->tag) &&
           read_number(&from->via.array.ptr[1], &to->after) &&
           read_number(&from->via.array.ptr[2], &to->age_ms);
}

static bool read_kept(const msgpack_object *from, size_t *count,
                      struct cellar_kept *kept)
{
    if (from->type != MSGPACK_OBJECT_ARRAY ||
        from->via.array.size > CELLAR_COPIES_MAX)
        return false;
    *count = from->via.array.size;
    for (size_t i = 0; i < *count; i++)
        if (!read_one_kept(&from->via.array.ptr[i], &kept[i]))
            return false;
    return true;
}

/* A text with a zero byte in it would be another one here. */
static bool read_modules(const msgpack_object *from, char *to)
{
    struct cellar_bytes bytes = {0};
    if (!read_bytes(from, &bytes) || bytes.len > CELLAR_PRELOAD_MAX ||
        !cellar_preload_valid((const char *)bytes.data, bytes.len))
        return false;
    if (bytes.len > 0)
        memcpy(to, bytes.data, bytes.len);
    to[bytes.len] = '\0';
    return true;
}

static bool read_field(const msgpack_object *from, const struct field *field,
                       struct cellar_message *msg)
{
    void *to = room(msg, field->at);
    switch (field->kind) {
    case NUMBER:
        return read_number(from, to);
    case FLAG:
        return read_flag(from, to);
    case NONCE:
        return read_nonce(from, to);
    case BYTES:
        return read_bytes(from, to);
    case PARTS:
        return read_parts(from, to, room(msg, field->more));
    case KEPT:
        return read_kept(from, to, room(msg, field->more));
    case MODULES:
        return read_modules(from, to);
    }
    return false;
}

static enum cellar_code read_message(const msgpack_object *root,
                                     struct cellar_message *msg)
{
    if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size < LEADING)
        return CELLAR_E_PROTO;
    const msgpack_object *from = root->via.array.ptr;
    uint64_t type = 0;
    if (!read_number(&from[0], &type) || !read_number(&from[1], &msg->cell) ||
        !read_number(&from[2], &msg->mark))
        return CELLAR_E_PROTO;
    const struct layout *layout = layout_of(type);
    if (!layout || root->via.array.size != LEADING + layout->count)
        return CELLAR_E_PROTO;
    msg->type = layout->type;
    for (size_t i = 0; i < layout->count; i++)
        if (!read_field(&from[LEADING + i], &layout->fields[i], msg))
            return CELLAR_E_PROTO;
    return check(layout, msg);
}

static enum cellar_code code_of(msgpack_unpack_return result, size_t end,
                                size_t len)
{
    if (result == MSGPACK_UNPACK_NOMEM_ERROR)
        return CELLAR_E_NOMEM;
    return result == MSGPACK_UNPACK_SUCCESS && end == len ? CELLAR_OK
                                                          : CELLAR_E_PROTO;
}

enum cellar_code cellar_message_unpack(const uint8_t *payload, size_t len,
                                       struct cellar_message *msg)
{
    enum cellar_code code = cellar_scan(payload, len);
    if (code != CELLAR_OK)
        return code;
    __attribute__((cleanup(msgpack_unpacked_destroy))) msgpack_unpacked tree;
    msgpack_unpacked_init(&tree);
    size_t end = 0;
    msgpack_unpack_return result =
        msgpack_unpack_next(&tree, (const char *)payload, len, &end);
    code = code_of(result, end, len);
    if (code != CELLAR_OK)
        return code;
    struct cellar_message got = {0};
    code = read_message(&tree.data, &got);
    if (code == CELLAR_OK)
        *msg = got;
    return code;
}
