/*
 * What the worker and its children write to stdout and stderr: two pipes,
 * read into OUTPUT messages while a cell runs, into a short tail while the
 * worker starts, and away between cells, so that late output of one cell is
 * never taken for the next one's.
 *
 * The host's bounds hold here: of a cell's output `left` bytes are sent, the
 * rest is counted. When the ring has no room the pipes are not read: the
 * writers wait, as they would for a slow terminal. A host that acknowledges
 * nothing for CELLAR_OUTPUT_STALL_US has stopped: from then on output is
 * counted as dropped and the cell goes on.
 */
#ifndef CELLAR_AGENT_OUTPUT_H
#define CELLAR_AGENT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define CELLAR_OUTPUT_STALL_US (5000000u)

/* What a pipe may hold: large enough that a worker prints on while the agent
 * signs, small enough to be read away between two cells. */
#define CELLAR_OUTPUT_PIPE_BYTES (256u << 10)

/* The last words of a worker that did not start. */
#define CELLAR_OUTPUT_TAIL 2048u

/* Pipes whose writers outlived their cell. A pipe without writers goes at
 * the next cell's begin; when all places are taken the oldest one goes, and its
 * writers get SIGPIPE. */
#define CELLAR_OUTPUT_LEFT_MAX 32

enum cellar_output_mode {
    CELLAR_OUTPUT_TAILED,    /* the worker starts */
    CELLAR_OUTPUT_DISCARDED, /* between cells */
    CELLAR_OUTPUT_SENT       /* a cell runs */
};

struct cellar_output {
    int fds[2];        /* stdout's and stderr's read ends; -1: closed */
    bool late;         /* something was written between two cells */
    uint64_t left_due; /* when they are read away next; 0: not */
    size_t left_count;
    int left_behind[CELLAR_OUTPUT_LEFT_MAX]; /* of earlier pipes, oldest first
                                              */
    enum cellar_output_mode mode;
    bool maybe[2]; /* the pipe was not seen empty since it had bytes */
    uint64_t cell;
    uint64_t left;       /* of what may be sent */
    uint64_t dropped[2]; /* of this cell */
    uint64_t stalled;  /* since when writers wait for the host; 0: they don't */
    uint64_t oldest;   /* the ring's oldest delivery then */
    bool hurried;      /* the cell is to end: it waits for no host */
    uint64_t drain[2]; /* what may still be read of an ended cell */
    size_t discarded;  /* since the last cell's end */
    size_t tail_len;
    char tail[CELLAR_OUTPUT_TAIL];
};

void cellar_output_init(struct cellar_output *output);

/* A new worker's pipes; takes them. */
void cellar_output_open(struct cellar_output *output, int out, int err);
void cellar_output_close(struct cellar_output *output);

/* Reads away what was left behind, as far as it may be there; from now on
 * everything is of `cell`. Where there was something (`late`), whoever wrote it
 * may go on: then the cell is to have pipes of its own. */
void cellar_output_begin(struct cellar_output *output, uint64_t cell,
                         uint64_t max);

/* The cell's own pipes; takes them. The ones before stay open and are read
 * away now and then while cells run: a process left behind lives on, a pool
 * that prints does not hang, and a flood takes little of the session's time. */
void cellar_output_replace(struct cellar_output *output, int out, int err);

/* The worker has said its last: what the pipes hold now is still the cell's.
 * `unsure`: also look into pipes that poll() did not announce. */
void cellar_output_end(struct cellar_output *output, bool unsure);

/* Goes on reading an ended cell's output; true when all of it was taken, or
 * dropped because the host has stopped. */
bool cellar_output_drained(struct cellar_output *output,
                           struct cellar_wire *wire, uint64_t now);

/* Whether poll() shall look at the pipes. */
bool cellar_output_wants(const struct cellar_output *output,
                         const struct cellar_wire *wire);

/* The running cell is to end: from now on its output is dropped where it would
 * have to wait. A worker whose writes wait for the host couldn't end in time,
 * and would lose its globals for it. */
void cellar_output_hurry(struct cellar_output *output);

/* Once a turn: looks whether the host has stopped, or goes on. */
void cellar_output_tick(struct cellar_output *output,
                        const struct cellar_wire *wire, uint64_t now);

/* When the next tick is due although nothing happens (0: never). */
uint64_t cellar_output_due(const struct cellar_output *output);

/* One read of pipe 0 or 1, which poll() announced. */
void cellar_output_read(struct cellar_output *output, struct cellar_wire *wire,
                        int which, uint64_t now);

/* Nothing is of a cell any more. */
void cellar_output_idle(struct cellar_output *output);

/* The last words on stderr while the worker started, made fit for a terminal;
 * they live until the next read. */
struct cellar_bytes cellar_output_tail(struct cellar_output *output);

#endif
