#include "channel.h"

#include <inttypes.h>
#include <sodium.h>

#include "fail.h"

void cellar_channel_init(struct cellar_channel *channel,
                         const uint8_t key[CELLAR_KEY_BYTES],
                         uint64_t delivered)
{
    *channel = (struct cellar_channel){
        .delivered = delivered, .settled = delivered, .fresh = true};
    cellar_link_init(&channel->link, CELLAR_ROLE_HOST, key);
    cellar_buf_init(&channel->out, 2 * CELLAR_PAYLOAD_MAX);
}

void cellar_channel_done(struct cellar_channel *channel)
{
    cellar_stream_close(CELLAR_TAKE(channel->stream));
    cellar_link_done(&channel->link);
    cellar_buf_done(&channel->out);
}

void cellar_channel_detach(struct cellar_channel *channel)
{
    cellar_stream_close(CELLAR_TAKE(channel->stream));
    cellar_buf_reset(&channel->out);
}

void cellar_channel_settle(struct cellar_channel *channel)
{
    channel->settled = channel->delivered;
}

bool cellar_channel_owes(const struct cellar_channel *channel)
{
    return channel->unacked >= CELLAR_CHANNEL_ACK_BYTES;
}

enum cellar_code cellar_channel_greet(struct cellar_channel *channel,
                                      bool first,
                                      const struct cellar_msg_hello *hello,
                                      struct cellar_error *err)
{
    uint8_t nonce[CELLAR_NONCE_BYTES];
    struct cellar_message msg = {
        .type = CELLAR_MSG_HELLO, .mark = channel->settled, .u.hello = *hello};
    randombytes_buf(nonce, sizeof nonce);
    channel->fresh = true;
    enum cellar_code code =
        cellar_link_greet(&channel->link, first, nonce, &msg, &channel->out);
    if (code != CELLAR_OK)
        return cellar_fail(err, code, "greeting the agent: %s",
                           cellar_code_text(code));
    return CELLAR_OK;
}

static enum cellar_code flush(struct cellar_channel *channel,
                              struct cellar_error *err)
{
    enum cellar_code code =
        cellar_stream_write(channel->stream, cellar_buf_peek(&channel->out),
                            cellar_buf_len(&channel->out));
    cellar_buf_reset(&channel->out);
    if (code != CELLAR_OK)
        return cellar_fail(err, code, "writing to the container: %s",
                           cellar_code_text(code));
    return CELLAR_OK;
}

enum cellar_code cellar_channel_bind(struct cellar_channel *channel,
                                     struct cellar_stream *stream,
                                     struct cellar_error *err)
{
    channel->stream = stream;
    return cellar_buf_len(&channel->out) ? flush(channel, err) : CELLAR_OK;
}

enum cellar_code cellar_channel_send(struct cellar_channel *channel,
                                     struct cellar_message *msg,
                                     struct cellar_error *err)
{
    if (!channel->stream)
        return cellar_fail(err, CELLAR_E_LOST, "the container is not attached");
    msg->mark = channel->settled;
    enum cellar_code code =
        cellar_link_send(&channel->link, msg, &channel->out);
    if (code != CELLAR_OK)
        return cellar_fail(err, code, "sending '%s' to the agent: %s",
                           cellar_message_name(msg->type),
                           cellar_code_text(code));
    channel->unacked = 0;
    return flush(channel, err);
}

/* What a message weighs in the agent's ring, near enough. */
static uint64_t weight(const struct cellar_message *msg)
{
    return 64 + (msg->type == CELLAR_MSG_OUTPUT ? msg->u.output.data.len : 0);
}

/* Whether `msg` is to be given on. A repeated delivery is not; a gap within
 * an epoch means that something was lost, which the wire promises not to. */
static enum cellar_code admit(struct cellar_channel *channel,
                              const struct cellar_message *msg, bool *is_new,
                              struct cellar_error *err)
{
    *is_new = true;
    if (msg->mark == 0)
        return CELLAR_OK;
    if (msg->mark <= channel->delivered) {
        *is_new = false;
        return CELLAR_OK;
    }
    if (!channel->fresh && msg->mark != channel->delivered + 1)
        return cellar_fail(err, CELLAR_E_PROTO,
                           "delivery %" PRIu64 " came after %" PRIu64,
                           msg->mark, channel->delivered);
    channel->fresh = false;
    channel->delivered = msg->mark;
    channel->unacked += weight(msg);
    return CELLAR_OK;
}

/* All complete messages of what was fed. E_AGAIN: they were all given on. */
static enum cellar_code drain(struct cellar_channel *channel,
                              bool (*take)(void *, struct cellar_message *),
                              void *user, bool *stopped,
                              struct cellar_error *err)
{
    while (!*stopped) {
        struct cellar_message msg;
        bool is_new = false;
        enum cellar_code code = cellar_link_next(&channel->link, &msg);
        if (code == CELLAR_E_AGAIN)
            return code;
        if (code != CELLAR_OK)
            return cellar_fail(err, code, "%s", cellar_code_text(code));
        code = admit(channel, &msg, &is_new, err);
        if (code != CELLAR_OK)
            return code;
        *stopped = is_new && !take(user, &msg);
    }
    return CELLAR_OK;
}

enum cellar_code
cellar_channel_feed(struct cellar_channel *channel, const uint8_t *data,
                    size_t len, bool (*take)(void *, struct cellar_message *),
                    void *user, struct cellar_error *err)
{
    bool stopped = false;
    while (len > 0 && !stopped) {
        size_t used = 0;
        enum cellar_code code =
            cellar_link_feed(&channel->link, data, len, &used);
        if (code != CELLAR_OK)
            return cellar_fail(err, code, "%s", cellar_code_text(code));
        data += used;
        len -= used;
        code = drain(channel, take, user, &stopped, err);
        if (code != CELLAR_OK && code != CELLAR_E_AGAIN)
            return code;
        if (used == 0 && !stopped)
            return cellar_fail(err, CELLAR_E_PROTO, "the link takes no bytes");
    }
    return CELLAR_OK;
}
