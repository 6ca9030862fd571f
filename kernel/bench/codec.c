#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/fail.h"
#include "kernel/loop.h"
#include "proto/link.h"
#include "proto/sign.h"
#include "report.h"
#include "samples.h"

/* How often each is timed, and for how many bytes each time. */
#define ROUNDS      50
#define ROUND_BYTES (UINT64_C(4) << 20)
#define FRAMES_MIN  64

/* An epoch between two links of this process, and what is sent over it. */
struct codec {
    struct cellar_link host;
    struct cellar_link agent;
    struct cellar_buf wire;
    uint8_t data[CELLAR_CHUNK_MAX];
    uint8_t copy[CELLAR_CHUNK_MAX];
    size_t bytes; /* of a message's data */
    uint64_t frames;
};

/* What is timed: so many frames of so many bytes. */
struct step {
    const char *key;
    const char *text;
    enum cellar_code (*run)(struct codec *codec);
};

/* ------------------------------------------------------------- handshake -- */

static enum cellar_code hand_over(struct codec *codec, struct cellar_link *to)
{
    struct cellar_message msg;
    enum cellar_code code = CELLAR_OK;
    while (cellar_buf_len(&codec->wire) > 0 && code == CELLAR_OK) {
        size_t used = 0;
        code = cellar_link_feed(to, cellar_buf_peek(&codec->wire),
                                cellar_buf_len(&codec->wire), &used);
        cellar_buf_consume(&codec->wire, used);
        if (code == CELLAR_OK)
            code = cellar_link_next(to, &msg);
        code = code == CELLAR_E_AGAIN ? CELLAR_OK : code;
    }
    cellar_buf_reset(&codec->wire);
    return code;
}

static enum cellar_code shake_hands(struct codec *codec)
{
    uint8_t key[CELLAR_KEY_BYTES];
    uint8_t nonces[2][CELLAR_NONCE_BYTES];
    struct cellar_message hello = {.type = CELLAR_MSG_HELLO};
    struct cellar_message welcome = {.type = CELLAR_MSG_WELCOME};
    randombytes_buf(key, sizeof key);
    randombytes_buf(nonces, sizeof nonces);
    cellar_link_init(&codec->host, CELLAR_ROLE_HOST, key);
    cellar_link_init(&codec->agent, CELLAR_ROLE_AGENT, NULL);
    hello.u.hello = (struct cellar_msg_hello){.lease_ms = 60000,
                                              .grace_ms = 2000,
                                              .nproc = 64,
                                              .nofile = 64,
                                              .fsize = 1 << 20};
    enum cellar_code code =
        cellar_link_greet(&codec->host, true, nonces[0], &hello, &codec->wire);
    if (code == CELLAR_OK)
        code = hand_over(codec, &codec->agent);
    if (code == CELLAR_OK)
        code = cellar_link_welcome(&codec->agent, nonces[1], &welcome,
                                   &codec->wire);
    return code == CELLAR_OK ? hand_over(codec, &codec->host) : code;
}

/* ----------------------------------------------------------------- steps -- */

static enum cellar_code write_frames(struct codec *codec)
{
    struct cellar_message msg = {.type = CELLAR_MSG_OUTPUT, .cell = 1};
    enum cellar_code code = CELLAR_OK;
    cellar_buf_reset(&codec->wire);
    msg.u.output.stream = 1;
    msg.u.output.data = (struct cellar_bytes){codec->data, codec->bytes};
    for (uint64_t i = 0; i < codec->frames && code == CELLAR_OK; i++) {
        msg.mark = i + 1;
        code = cellar_link_send(&codec->agent, &msg, &codec->wire);
    }
    return code;
}

/* What write_frames() left, as it comes from a stream: some at a time. */
static enum cellar_code read_frames(struct codec *codec)
{
    const uint8_t *at = cellar_buf_peek(&codec->wire);
    size_t left = cellar_buf_len(&codec->wire);
    struct cellar_message msg;
    uint64_t read = 0;
    enum cellar_code code = CELLAR_E_AGAIN;
    while (left > 0 && code == CELLAR_E_AGAIN) {
        size_t used = 0;
        code = cellar_link_feed(&codec->host, at, left, &used);
        at += used;
        left -= used;
        while (code == CELLAR_OK)
            if ((code = cellar_link_next(&codec->host, &msg)) == CELLAR_OK)
                read += msg.u.output.data.len == codec->bytes;
    }
    return read == codec->frames ? CELLAR_OK : CELLAR_E_PROTO;
}

static enum cellar_code sign_only(struct codec *codec)
{
    uint8_t tag[CELLAR_TAG_BYTES];
    for (uint64_t i = 0; i < codec->frames; i++) {
        cellar_sign_tag(tag, codec->host.key, i, codec->data, codec->bytes);
        codec->data[0] = tag[0];
    }
    return CELLAR_OK;
}

static enum cellar_code copy_only(struct codec *codec)
{
    for (uint64_t i = 0; i < codec->frames; i++) {
        memcpy(codec->copy, codec->data, codec->bytes);
        /* So that no copy is left out as one that nobody reads. */
        __asm__ volatile("" : : "r"(codec->copy) : "memory");
    }
    return CELLAR_OK;
}

static const struct step steps[] = {
    {"write", "packed and signed", write_frames},
    {"read", "verified and parsed", read_frames},
    {"sign", "libsodium alone, signing", sign_only},
    {"copy", "memcpy() alone", copy_only},
};

#define STEPS (sizeof steps / sizeof steps[0])

/* --------------------------------------------------------------- measuring -
 */

static enum cellar_code measure_size(struct codec *codec, uint64_t rounds,
                                     struct cellar_samples samples[STEPS])
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < rounds; i++)
        for (size_t k = 0; k < STEPS && code == CELLAR_OK; k++) {
            uint64_t began = cellar_loop_now_us();
            code = steps[k].run(codec);
            cellar_samples_add(&samples[k],
                               (double)(cellar_loop_now_us() - began));
        }
    return code;
}

static void tell_step(const struct codec *codec, const char *size,
                      const struct step *step, struct cellar_samples *samples,
                      struct cellar_report *report)
{
    char key[CELLAR_REPORT_KEY_MAX];
    char text[CELLAR_REPORT_TEXT_MAX];
    double us = cellar_samples_percentile(samples, 50);
    double frames = us > 0 ? (double)codec->frames / us * 1e6 : 0;
    (void)snprintf(key, sizeof key, "%s_%s_per_s", size, step->key);
    (void)snprintf(text, sizeof text, "%s: %s", size, step->text);
    cellar_report_add(report, key, text, frames);
    (void)snprintf(key, sizeof key, "%s_%s_bytes_per_s", size, step->key);
    cellar_report_add(report, key, text, frames * (double)codec->bytes);
}

static void tell_ratios(const char *size, struct cellar_report *report)
{
    static const char *const ways[] = {"write", "read"};
    char key[CELLAR_REPORT_KEY_MAX];
    char text[CELLAR_REPORT_TEXT_MAX];
    char over[CELLAR_REPORT_KEY_MAX];
    char under[CELLAR_REPORT_KEY_MAX];
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(key, sizeof key, "%s_%s_ratio_to_sign", size, ways[i]);
        (void)snprintf(text, sizeof text, "%s: %s to signing alone", size,
                       i == 0 ? "writing" : "reading");
        (void)snprintf(over, sizeof over, "%s_%s_per_s", size, ways[i]);
        (void)snprintf(under, sizeof under, "%s_sign_per_s", size);
        cellar_report_ratio(report, key, text, over, under);
    }
}

static enum cellar_code run_size(struct codec *codec, const char *size,
                                 size_t bytes, uint64_t rounds,
                                 struct cellar_report *report)
{
    struct cellar_samples samples[STEPS] = {{0}};
    bool room = true;
    codec->bytes = bytes;
    codec->frames = ROUND_BYTES / bytes;
    codec->frames = codec->frames < FRAMES_MIN ? FRAMES_MIN : codec->frames;
    for (size_t k = 0; k < STEPS; k++)
        room = cellar_samples_init(&samples[k], rounds) && room;
    enum cellar_code code =
        room ? measure_size(codec, rounds, samples) : CELLAR_E_NOMEM;
    for (size_t k = 0; k < STEPS; k++) {
        if (code == CELLAR_OK)
            tell_step(codec, size, &steps[k], &samples[k], report);
        cellar_samples_done(&samples[k]);
    }
    if (code == CELLAR_OK)
        tell_ratios(size, report);
    return code;
}

enum cellar_code cellar_bench_codec(const struct cellar_bench_ask *ask,
                                    struct cellar_report *report,
                                    struct cellar_error *err)
{
    uint64_t rounds = ask->rounds ? ask->rounds : ROUNDS;
    struct codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    cellar_buf_init(&codec->wire, 2 * ROUND_BYTES);
    enum cellar_code code = cellar_sign_init();
    if (code == CELLAR_OK)
        code = shake_hands(codec);
    if (code == CELLAR_OK)
        code = run_size(codec, "200b", 200, rounds, report);
    if (code == CELLAR_OK)
        code = run_size(codec, "64k", CELLAR_CHUNK_MAX, rounds, report);
    cellar_report_add(report, "rounds", "rounds of each, in turn",
                      (double)rounds);
    cellar_link_done(&codec->host);
    cellar_link_done(&codec->agent);
    cellar_buf_done(&codec->wire);
    free(codec);
    return code == CELLAR_OK ? CELLAR_OK
                             : cellar_fail(err, code, "the codec: %s",
                                           cellar_code_text(code));
}
