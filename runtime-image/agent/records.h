/*
 * The records of one worker (proto/record.h), from bytes to what they say. The
 * worker is believed for nothing: which record may come when is a table, every
 * length is checked before a byte of the body is kept, and what breaks a rule
 * ends the stream for good. Pure: bytes in, values out.
 *
 *     cellar_records_init(), then of each worker: SANDBOX, READY (of a woken
 *     copy: AWAKE), and for each cell any of MIME, NAME, TEXT, TRACE, UNFIT,
 *     then END.
 *
 * The parts of an answer stay in the buffer until the END was dealt with:
 * nothing is copied on the way into DONE.
 */
#ifndef CELLAR_AGENT_RECORDS_H
#define CELLAR_AGENT_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/message.h"
#include "proto/record.h"

/* The longest Python version that is believed: "3.15.0a7+" is 9. */
#define CELLAR_PYTHON_MAX 32u

/* A whole answer: all parts at their maxima, with types and headers. */
#define CELLAR_ANSWER_MAX                                                      \
    (CELLAR_RESULT_MAX + CELLAR_NAME_MAX + CELLAR_MESSAGE_MAX +                \
     CELLAR_TRACEBACK_MAX + (CELLAR_MIME_MAX + 5u) * 512u)

/* What a worker is waited for: decides which records may come. */
enum cellar_records_phase {
    CELLAR_RECORDS_LAUNCHING, /* SANDBOX must come */
    CELLAR_RECORDS_BOOTING,   /* READY must come */
    CELLAR_RECORDS_WAKING,    /* AWAKE must come */
    CELLAR_RECORDS_IDLE,      /* nothing may come */
    CELLAR_RECORDS_RUNNING    /* an answer */
};

/* A place in the buffer, behind its head. */
struct cellar_span {
    size_t at;
    size_t len;
};

struct cellar_records {
    enum cellar_records_phase phase;
    bool broken;
    struct cellar_buf in;
    size_t seen; /* bytes of `in` that were dealt with and are kept */
    size_t parts;
    size_t data; /* bytes of all parts' data */
    struct cellar_span types[CELLAR_MIME_MAX];
    struct cellar_span bodies[CELLAR_MIME_MAX];
    bool has[4]; /* NAME, TEXT, TRACE, UNFIT */
    struct cellar_span texts[4];
};

/* What came: SANDBOX, READY, AWAKE or END. */
struct cellar_said {
    enum cellar_record_kind kind;
    unsigned landlock_abi; /* SANDBOX */
    unsigned seccomp;
    char python[CELLAR_PYTHON_MAX + 1]; /* READY */
    uint64_t ping;                      /* AWAKE */
    uint64_t ticket;                    /* END */
    enum cellar_outcome outcome;
    uint32_t exit_status;
};

void cellar_records_init(struct cellar_records *records);
void cellar_records_done(struct cellar_records *records);

/* Forgets the answer that was dealt with and waits for what comes in `phase`.
 * Bytes behind an END are kept: they break the rules of IDLE or belong to the
 * wrong cell, and that must not go unnoticed. LAUNCHING and WAKING mean a new
 * worker: nothing of the last one counts. */
void cellar_records_await(struct cellar_records *records,
                          enum cellar_records_phase phase);

/* Lends room for what arrives next; CELLAR_E_LIMIT when the worker has sent
 * more than an answer may have. */
enum cellar_code cellar_records_room(struct cellar_records *records,
                                     uint8_t **room, size_t *len);
void cellar_records_arrived(struct cellar_records *records, size_t len);

/* CELLAR_OK and what was said; E_AGAIN when bytes are missing; E_PROTO or
 * E_LIMIT when the worker broke the rules: then for ever. After READY, AWAKE
 * and END the phase is IDLE. */
enum cellar_code cellar_records_next(struct cellar_records *records,
                                     struct cellar_said *said);

/* Points result, error fields and checkpoint_why of `done` to the answer's
 * parts; they live until the next cellar_records_await(). */
void cellar_records_answer(const struct cellar_records *records,
                           struct cellar_msg_done *done);

#endif
