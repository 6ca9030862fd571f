/*
 * A result while it is being collected: output as it streams in, displays,
 * then the ending. The finished `struct cellar_result` is in cellar/cellar.h.
 */
#ifndef CELLAR_KERNEL_RESULT_H
#define CELLAR_KERNEL_RESULT_H

#include "cellar/cellar.h"
#include "proto/buf.h"
#include "proto/message.h"

/* MIME bundles one cell may display; more are dropped and marked. */
#define CELLAR_DISPLAYS_MAX 1024

/* The values of the limits a cell may hit, as the host set them. */
struct cellar_limits {
    uint64_t timeout_ms;
    uint64_t memory_bytes;
    uint64_t output_bytes;
    uint64_t lifetime_ms;
};

struct cellar_collect {
    struct cellar_result *result;
    struct cellar_buf streams[2]; /* stdout, stderr */
    uint64_t dropped;             /* bytes that came over the cap */
    struct cellar_limits limits;
};

/* Begins the result of `cell`. E_NOMEM. */
enum cellar_code cellar_collect_init(struct cellar_collect *collect,
                                     uint64_t cell,
                                     const struct cellar_limits *limits);
/* Frees what was not taken. */
void cellar_collect_done(struct cellar_collect *collect);

/* Appends output; returns how many bytes of it are within the cap (the agent
 * keeps to it; a broken one costs us nothing). E_NOMEM counts as over it. */
size_t cellar_collect_output(struct cellar_collect *collect, int stream,
                             const uint8_t *data, size_t len);
void cellar_collect_display(struct cellar_collect *collect,
                            const struct cellar_msg_display *display);

/* One more part of the result's MIME bundle, copied. E_LIMIT: it is one too
 * many; E_NOMEM. */
enum cellar_code cellar_collect_part(struct cellar_collect *collect,
                                     const char *type, const char *data,
                                     size_t len);

/* The agent's word on how it ended. */
enum cellar_code cellar_collect_finish(struct cellar_collect *collect,
                                       const struct cellar_msg_done *done);
/* An ending that the host gives. `reason` is copied; may be NULL. */
void cellar_collect_end(struct cellar_collect *collect,
                        enum cellar_status status, enum cellar_state state,
                        const char *reason);

/* The finished result; the caller frees it. Never NULL after init. */
struct cellar_result *cellar_collect_take(struct cellar_collect *collect);

#endif
