/*
 * The worker's end of the control socket: answers go out, cells come in
 * (proto/record.h). Knows nothing of Python; no call needs the GIL.
 *
 *     struct cellar_answer answer = {0};
 *     cellar_channel_init(CELLAR_RECORD_FD);
 *     cellar_answer_add(&answer, CELLAR_RECORD_READY, version, len);
 *     for (;;) {
 *         cellar_channel_send(&answer);
 *         while (!cellar_channel_wait())
 *             ... see to the signal ...
 *         cellar_channel_read(&request);
 *         ... run request, fill answer, cellar_answer_end() ...
 *     }
 */
#ifndef CELLAR_WORKER_CHANNEL_H
#define CELLAR_WORKER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/record.h"

/* A cell to run (CODE), or a wish for a copy (FREEZE). `code` lives until the
 * next cellar_channel_wait(). */
struct cellar_request {
    enum cellar_record_kind kind;
    int socket; /* of the copy: the caller's to close; -1 with CODE, and when
                   the program has no descriptor left */
    uint64_t cell;
    uint64_t ticket; /* for cellar_answer_end() */
    bool kept;       /* whether a copy is to be made when it has ended */
    const char *code;
    size_t len;
};

/* Records that leave together. Zeroed is empty; the buffer is reused. */
struct cellar_answer {
    uint8_t *data;
    size_t len;
    size_t size;
};

/* Makes `fd` the channel: not inherited over exec, and closed in every forked
 * child, which so can't answer in its parent's place. False: no socket. */
bool cellar_channel_init(int fd);

/* Appends a record. False: out of memory, and the record is left out. */
bool cellar_answer_add(struct cellar_answer *answer,
                       enum cellar_record_kind kind, const void *body,
                       size_t len);

/* As cellar_answer_add(), for a MIME record. */
bool cellar_answer_add_part(struct cellar_answer *answer, const char *type,
                            const void *data, size_t len);

/* Appends END, for which every answer keeps room: it is never left out. */
void cellar_answer_end(struct cellar_answer *answer, uint64_t ticket,
                       enum cellar_outcome outcome, uint32_t status);

/* Writes the answer and empties it. Ends the process, at once and without any
 * exit handler, when the agent is gone. */
void cellar_channel_send(struct cellar_answer *answer);

/* Waits until the next cell, or a part of it, is there. False: a signal came
 * before. */
bool cellar_channel_wait(void);

/* Whether the socket has bytes to read. For signal handlers too. */
bool cellar_channel_has_bytes(void);

/* Reads the next cell or wish. Ends the process as cellar_channel_send() does,
 * also on a record that is neither. */
void cellar_channel_read(struct cellar_request *request);

/* Says on a copy's socket, which is closed, why there will be none. */
void cellar_channel_refuse(int socket, const char *why);

/* In a copy that has just been forked: `socket` is the channel from now on,
 * what is written to stdout and stderr goes nowhere. Says FROZEN and waits,
 * until it is woken and has its pipes; ends the process when the agent lets go
 * of it. */
enum cellar_wake_reason cellar_channel_freeze(int socket, uint64_t *ping);

/* Says AWAKE. */
void cellar_channel_awake(uint64_t sum);

#endif
