/* What a stranger does to the bytes between two links, in both directions:
 * nothing that was touched is ever taken. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"
#include "proto/link.h"
#include "proto/sign.h"

#define FRAMES    5
#define FRAME_MAX 256

static void again(void)
{
    pair_done(NULL);
    pair_init(NULL);
}

/* -------------------------------------------------------- bad headers -- */

static enum cellar_code feed_length(struct cellar_link *link, uint32_t length)
{
    const uint8_t header[4] = {(uint8_t)(length >> 24), (uint8_t)(length >> 16),
                               (uint8_t)(length >> 8), (uint8_t)length};
    size_t taken = 0;
    enum cellar_code code = wire_feed(link, header, sizeof(header), &taken);
    assert_int_equal(taken, 0);
    /* whatever was announced, nothing of the size was allocated */
    assert_true(link->in.size <= 4096);
    return code;
}

static void lengths_are_checked_before_anything_else(void **state)
{
    (void)state;
    static const struct {
        uint32_t length;
        enum cellar_code code;
    } cases[] = {
        {0, CELLAR_E_PROTO},
        {1, CELLAR_E_AGAIN},
        {CELLAR_PAYLOAD_MAX, CELLAR_E_AGAIN},
        {CELLAR_PAYLOAD_MAX + 1, CELLAR_E_LIMIT},
        {0x7ffffffe, CELLAR_E_LIMIT},
        {0x80000000, CELLAR_E_LIMIT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(feed_length(&host, cases[i].length), cases[i].code);
        assert_int_equal(feed_length(&agent, cases[i].length), cases[i].code);
        again();
    }
    /* to the agent it may be the beginning of a mark: it looks at 32 bytes */
    uint8_t zeros[CELLAR_RESYNC_BYTES] = {0};
    size_t taken = 0;
    assert_int_equal(feed_length(&host, 0xffffffff), CELLAR_E_LIMIT);
    assert_int_equal(feed_length(&agent, 0xffffffff), CELLAR_E_AGAIN);
    assert_int_equal(wire_feed(&agent, zeros, sizeof(zeros), &taken),
                     CELLAR_E_LIMIT);
}

static void a_payload_of_one_byte_and_of_the_cap_need_a_tag(void **state)
{
    (void)state;
    static uint8_t frame[CELLAR_FRAME_HEADER_BYTES + CELLAR_PAYLOAD_MAX];
    struct cellar_link *links[] = {&host, &agent};
    for (size_t i = 0; i < 2; i++) {
        size_t taken = 0;
        memcpy(frame, (const uint8_t[]){0, 0, 0, 1}, 4);
        assert_int_equal(
            wire_feed(links[i], frame, CELLAR_FRAME_HEADER_BYTES + 1, &taken),
            CELLAR_E_AUTH);
        again();
        memcpy(frame, (const uint8_t[]){0, 64, 0, 0}, 4);
        assert_int_equal(wire_feed(links[i], frame, sizeof(frame) - 1, &taken),
                         CELLAR_E_AGAIN);
        assert_int_equal(wire_feed(links[i], frame, 1, &taken), CELLAR_E_AUTH);
        assert_int_equal(taken, 0);
        again();
    }
}

static void garbage_between_frames_ends_the_epoch(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "HTTP/1.1 200 OK\r\n\r\n", "{\"status\": \"ok\"}\n",
        "Traceback (most recent call last):\n"};
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        const uint8_t *bytes = (const uint8_t *)garbage[i];
        size_t len = strlen(garbage[i]);
        size_t taken = 0;
        assert_int_equal(wire_feed(&host, bytes, len, &taken), CELLAR_E_LIMIT);
        assert_int_equal(wire_feed(&agent, bytes, len, &taken), CELLAR_E_LIMIT);
        again();
    }
}

/* --------------------------------------------- well signed, but not due -- */

static enum cellar_code admit_payload(struct cellar_link *from,
                                      struct cellar_link *to,
                                      const uint8_t *payload, size_t len)
{
    size_t taken = 0;
    assert_int_equal(cellar_link_send_payload(from, payload, len, &out),
                     CELLAR_OK);
    enum cellar_code code = deliver(to, &taken);
    assert_int_equal(taken, code == CELLAR_E_AGAIN);
    return code;
}

static void only_the_other_sides_messages_are_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < wire_example_count; i++) {
        uint8_t payload[512];
        size_t len =
            wire_page_block(wire_examples[i], payload, sizeof(payload));
        enum cellar_message_type type = wire_example(wire_examples[i]).type;
        bool hosts = type < 16 && type != CELLAR_MSG_HELLO;
        bool agents = type >= 16 && type != CELLAR_MSG_WELCOME;
        assert_int_equal(admit_payload(&host, &agent, payload, len),
                         hosts ? CELLAR_E_AGAIN : CELLAR_E_PROTO);
        again();
        assert_int_equal(admit_payload(&agent, &host, payload, len),
                         agents ? CELLAR_E_AGAIN : CELLAR_E_PROTO);
        again();
    }
}

static void a_signed_payload_is_parsed_as_strictly(void **state)
{
    (void)state;
    static const char *const payloads[] = {"\xc1", "\xdd\xff\xff\xff\xff",
                                           "\x93\x05\x01", "hello"};
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        const uint8_t *payload = (const uint8_t *)payloads[i];
        size_t len = strlen(payloads[i]);
        enum cellar_code code = admit_payload(&host, &agent, payload, len);
        assert_true(code == CELLAR_E_PROTO || code == CELLAR_E_LIMIT);
        again();
        code = admit_payload(&agent, &host, payload, len);
        assert_true(code == CELLAR_E_PROTO || code == CELLAR_E_LIMIT);
        again();
    }
}

/* A handshake frame, signed as the peer of `to` would. */
static enum cellar_code offer(struct cellar_link *to,
                              const struct cellar_message *msg)
{
    struct cellar_buf frame;
    uint8_t head[CELLAR_RESYNC_BYTES + CELLAR_FRAME_HEADER_BYTES];
    bool to_host = to->role == CELLAR_ROLE_HOST;
    enum cellar_direction way = to_host ? CELLAR_TO_HOST : CELLAR_TO_AGENT;
    const uint8_t *nonce = to_host ? wire_host_nonce : NULL;
    size_t taken = 0;
    cellar_buf_init(&frame, 4096);
    assert_int_equal(cellar_message_pack(msg, &frame), CELLAR_OK);
    size_t len = cellar_buf_len(&frame);
    memset(head, 0xff, 4);
    cellar_sign_resync(head + 4, wire_key, way, nonce);
    memcpy(head + CELLAR_RESYNC_BYTES, (uint8_t[]){0, 0, 0, (uint8_t)len}, 4);
    cellar_sign_handshake(head + CELLAR_RESYNC_BYTES + 4, wire_key, way, nonce,
                          cellar_buf_peek(&frame), len);
    assert_int_equal(wire_feed(to, head, sizeof(head), &taken), CELLAR_E_AGAIN);
    enum cellar_code code = wire_feed(to, cellar_buf_peek(&frame), len, &taken);
    assert_int_equal(taken, code == CELLAR_E_AGAIN);
    cellar_buf_done(&frame);
    return code;
}

/* A greeting that gets lost. */
static void greet_in_vain(void)
{
    greet(false, wire_host_nonce);
    cellar_buf_reset(&out);
}

static void a_handshake_of_another_version_is_refused(void **state)
{
    (void)state;
    struct cellar_message hello = wire_example("hello");
    struct cellar_message welcome = wire_example("welcome");
    welcome.u.welcome.epoch = 2;
    assert_int_equal(offer(&agent, &hello), CELLAR_E_AGAIN);
    greet_in_vain();
    assert_int_equal(offer(&host, &welcome), CELLAR_E_AGAIN);
    for (int off = -1; off <= 1; off += 2) {
        uint64_t version = (uint64_t)(CELLAR_WIRE_VERSION + off);
        again();
        hello.u.hello.version = version;
        welcome.u.welcome.version = version;
        assert_int_equal(offer(&agent, &hello), CELLAR_E_PROTO);
        greet_in_vain();
        assert_int_equal(offer(&host, &welcome), CELLAR_E_PROTO);
    }
}

static void an_epoch_of_the_past_is_refused(void **state)
{
    (void)state;
    struct cellar_message welcome = wire_example("welcome");
    greet_in_vain();
    assert_int_equal(welcome.u.welcome.epoch, host.epoch);
    assert_int_equal(offer(&host, &welcome), CELLAR_E_PROTO);
}

static void only_a_handshake_may_follow_a_mark(void **state)
{
    (void)state;
    struct cellar_message ping = wire_example("ping");
    struct cellar_message pong = wire_example("pong");
    assert_int_equal(offer(&agent, &ping), CELLAR_E_PROTO);
    greet_in_vain();
    assert_int_equal(offer(&host, &pong), CELLAR_E_PROTO);
    assert_int_equal(host.state, CELLAR_LINK_BROKEN);
}

/* An old greeting ends the epoch, and opens one that is of no use: nobody
 * knows what the agent's fresh nonce makes of the key. */
static void a_replayed_hello_opens_nothing_to_its_sender(void **state)
{
    (void)state;
    uint8_t old[512];
    size_t len = wire_page_block("greeting", old, sizeof(old));
    const size_t skip = CELLAR_PREAMBLE_BYTES + CELLAR_KEY_BYTES;
    uint8_t frames[512];
    size_t frames_len =
        wire_page_block("frames-to-agent", frames, sizeof(frames));
    size_t taken = 0;
    assert_int_equal(wire_feed(&agent, old + skip, len - skip, &taken),
                     CELLAR_E_AGAIN);
    assert_int_equal(taken, 1);
    welcome(wire_host_nonce);
    assert_int_equal(wire_feed(&agent, frames, frames_len, &taken),
                     CELLAR_E_AUTH);
    assert_int_equal(taken, 0);
}

/* --------------------------------------------------- ten thousand times -- */

struct stream {
    uint8_t bytes[4 * FRAMES * FRAME_MAX];
    size_t ends[FRAMES + 1]; /* where frame i begins is ends[i] */
    size_t len;
};

static void record(struct stream *stream, struct cellar_link *from)
{
    static const char *const of_host[] = {"run", "interrupt", "ping", "reset",
                                          "stop"};
    static const char *const of_agent[] = {"ready", "output", "display",
                                           "done-error", "pong"};
    memset(stream, 0, sizeof(*stream));
    for (size_t i = 0; i < FRAMES; i++) {
        say(from, from->role == CELLAR_ROLE_HOST ? of_host[i] : of_agent[i]);
        stream->ends[i + 1] = cellar_buf_len(&out);
    }
    stream->len = cellar_buf_len(&out);
    assert_true(stream->len <= sizeof(stream->bytes));
    memcpy(stream->bytes, cellar_buf_peek(&out), stream->len);
    cellar_buf_reset(&out);
}

/* Replaces frame i by `len` other bytes. */
static void splice(struct stream *stream, size_t i, const uint8_t *bytes,
                   size_t len)
{
    uint8_t *at = stream->bytes + stream->ends[i];
    size_t old = stream->ends[i + 1] - stream->ends[i];
    size_t rest = stream->len - stream->ends[i + 1];
    memmove(at + len, at + old, rest);
    memcpy(at, bytes, len);
    stream->len = stream->len - old + len;
}

static void flip_a_bit(struct stream *stream, size_t i)
{
    uint64_t size = stream->ends[i + 1] - stream->ends[i];
    uint64_t bit = wire_below(8 * size);
    stream->bytes[stream->ends[i] + bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static void truncate_within(struct stream *stream, size_t i)
{
    uint64_t size = stream->ends[i + 1] - stream->ends[i];
    stream->len = stream->ends[i] + wire_below(size);
}

static void cut_a_piece(struct stream *stream, size_t i)
{
    uint8_t frame[FRAME_MAX];
    size_t size = stream->ends[i + 1] - stream->ends[i];
    size_t keep = wire_below(size);
    memcpy(frame, stream->bytes + stream->ends[i], keep);
    splice(stream, i, frame, keep);
}

static void take_from(struct stream *stream, size_t i,
                      const struct stream *other, size_t j)
{
    uint8_t frame[FRAME_MAX];
    size_t len = other->ends[j + 1] - other->ends[j];
    memcpy(frame, other->bytes + other->ends[j], len);
    splice(stream, i, frame, len);
}

/* Frame j in the place of another one: repeated, left out, moved. */
static void move_a_frame(struct stream *stream, size_t i)
{
    struct stream copy = *stream;
    take_from(stream, i, &copy, (i + 1 + wire_below(FRAMES - 1)) % FRAMES);
}

static void put_noise(struct stream *stream, size_t i)
{
    uint8_t noise[FRAME_MAX] = {0};
    size_t len = 1 + wire_below(sizeof(noise));
    for (size_t n = 0; n < len; n++)
        noise[n] = (uint8_t)wire_random();
    noise[0] |= 0x80; /* no length */
    splice(stream, i, noise, len);
}

/* One of the ways to tamper; `back` is what went the other way, `old` what
 * the same side said in another epoch. */
static void tamper(struct stream *stream, const struct stream *back,
                   const struct stream *old)
{
    size_t i = wire_below(FRAMES);
    switch (wire_below(7)) {
    case 0:
        flip_a_bit(stream, i);
        break;
    case 1:
        truncate_within(stream, i);
        break;
    case 2:
        cut_a_piece(stream, i);
        break;
    case 3:
        move_a_frame(stream, i);
        break;
    case 4:
        put_noise(stream, i);
        break;
    case 5:
        take_from(stream, i, back, wire_below(FRAMES));
        break;
    default:
        take_from(stream, i, old, i);
        break;
    }
}

/* Frames before the first that is not as it was sent. A piece cut out may be
 * the same as what comes to stand in its place. */
static size_t untouched(const struct stream *sent, const struct stream *got)
{
    size_t count = 0;
    while (count < FRAMES && sent->ends[count + 1] <= got->len &&
           memcmp(sent->bytes, got->bytes, sent->ends[count + 1]) == 0)
        count++;
    return count;
}

static void reopen(const uint8_t *nonce)
{
    size_t taken = 0;
    greet(false, nonce);
    assert_int_equal(deliver(&agent, &taken), CELLAR_E_AGAIN);
    welcome(wire_agent_nonce);
    assert_int_equal(deliver(&host, &taken), CELLAR_E_AGAIN);
    assert_int_equal(host.state, CELLAR_LINK_OPEN);
}

/* Feeds `stream` in random pieces; counts what was taken until the epoch
 * ended, and says how it ended. */
static enum cellar_code feed_in_pieces(struct cellar_link *to,
                                       const struct stream *stream,
                                       size_t *taken)
{
    enum cellar_code code = CELLAR_E_AGAIN;
    *taken = 0;
    for (size_t at = 0; at < stream->len && code == CELLAR_E_AGAIN;) {
        size_t more = 0;
        size_t len = 1 + wire_below(stream->len - at);
        code = wire_feed(to, stream->bytes + at, len, &more);
        *taken += more;
        at += len;
    }
    return code;
}

static void tamper_many_times(struct cellar_link *from, struct cellar_link *to)
{
    size_t refused = 0;
    size_t settled = 0; /* bytes allocated, once everything has been met */
    wire_seed();
    for (size_t round = 0; round < 10000; round++) {
        struct stream sent;
        struct stream stream;
        struct stream back;
        struct stream old;
        size_t taken = 0;
        reopen(wire_agent_nonce);
        record(&old, from);
        reopen(wire_host_nonce);
        record(&back, to);
        record(&sent, from);
        stream = sent;
        tamper(&stream, &back, &old);
        enum cellar_code code = feed_in_pieces(to, &stream, &taken);
        size_t whole = untouched(&sent, &stream);
        assert_int_equal(taken, whole);
        /* refused, or the rest of a frame is still waited for */
        if (round == 1000)
            settled = mallinfo2().uordblks;
        if (code != CELLAR_E_AGAIN)
            refused++;
        else
            assert_true(to->state != CELLAR_LINK_OPEN ||
                        cellar_buf_len(&to->in) > 0 ||
                        stream.len == sent.ends[whole]);
    }
    assert_true(refused > 5000);
    assert_true(mallinfo2().uordblks <= settled + (64u << 10));
}

static void no_tampering_towards_the_agent_is_accepted(void **state)
{
    (void)state;
    tamper_many_times(&host, &agent);
}

static void no_tampering_towards_the_host_is_accepted(void **state)
{
    (void)state;
    tamper_many_times(&agent, &host);
}

/* A session of another key: its frames are noise to this one. */
static void another_sessions_frames_are_refused(void **state)
{
    (void)state;
    struct stream stream;
    size_t taken = 0;
    cellar_sign_epoch_key(host.send_key, wire_agent_nonce, CELLAR_TO_AGENT,
                          wire_host_nonce, wire_agent_nonce);
    record(&stream, &host);
    assert_int_equal(feed_in_pieces(&agent, &stream, &taken), CELLAR_E_AUTH);
    assert_int_equal(taken, 0);
}

/* -------------------------------------------------- a talk in all pieces -- */

/* Moves a random number of bytes; says how many messages came out. */
static size_t trickle(struct cellar_buf *pipe, struct cellar_link *to)
{
    size_t taken = 0;
    size_t len = wire_below(cellar_buf_len(pipe) + 1);
    if (len == 0)
        return 0;
    assert_int_equal(wire_feed(to, cellar_buf_peek(pipe), len, &taken),
                     CELLAR_E_AGAIN);
    cellar_buf_consume(pipe, len);
    return taken;
}

static void send_some(struct cellar_link *from, const char *small,
                      struct cellar_buf *pipe, size_t *sent)
{
    static const uint8_t chunk[CELLAR_CHUNK_MAX];
    struct cellar_message msg = wire_example(small);
    if (cellar_buf_len(pipe) > (1 << 20))
        return;
    if (msg.type == CELLAR_MSG_OUTPUT && wire_below(4) == 0)
        msg.u.output.data =
            (struct cellar_bytes){chunk, 1 + wire_below(sizeof(chunk))};
    assert_int_equal(cellar_link_send(from, &msg, pipe), CELLAR_OK);
    (*sent)++;
}

static void two_links_talk_through_pieces_of_any_size(void **state)
{
    (void)state;
    struct cellar_buf down;
    struct cellar_buf up;
    size_t sent[2] = {0};
    size_t taken[2] = {0};
    wire_seed();
    cellar_buf_init(&down, 4 << 20);
    cellar_buf_init(&up, 4 << 20);
    for (size_t round = 0; round < 20000; round++) {
        if (wire_below(2) == 0)
            send_some(&host, "run", &down, &sent[0]);
        if (wire_below(2) == 0)
            send_some(&agent, "output", &up, &sent[1]);
        taken[0] += trickle(&down, &agent);
        taken[1] += trickle(&up, &host);
    }
    while (cellar_buf_len(&down) + cellar_buf_len(&up) > 0) {
        taken[0] += trickle(&down, &agent);
        taken[1] += trickle(&up, &host);
    }
    assert_int_equal(taken[0], sent[0]);
    assert_int_equal(taken[1], sent[1]);
    assert_true(sent[0] > 1000 && sent[1] > 1000);
    cellar_buf_done(&down);
    cellar_buf_done(&up);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR_TEST(lengths_are_checked_before_anything_else),
        PAIR_TEST(a_payload_of_one_byte_and_of_the_cap_need_a_tag),
        PAIR_TEST(garbage_between_frames_ends_the_epoch),
        PAIR_TEST(only_the_other_sides_messages_are_taken),
        PAIR_TEST(a_signed_payload_is_parsed_as_strictly),
        PAIR_TEST(a_handshake_of_another_version_is_refused),
        PAIR_TEST(an_epoch_of_the_past_is_refused),
        PAIR_TEST(only_a_handshake_may_follow_a_mark),
        PAIR_TEST(a_replayed_hello_opens_nothing_to_its_sender),
        PAIR_TEST(no_tampering_towards_the_agent_is_accepted),
        PAIR_TEST(no_tampering_towards_the_host_is_accepted),
        PAIR_TEST(another_sessions_frames_are_refused),
        PAIR_TEST(two_links_talk_through_pieces_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
