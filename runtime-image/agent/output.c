#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What an OUTPUT message adds to its data. */
#define MESSAGE_BYTES 64u

/* Below this the ring counts as full: crumbs cost more than they bring. */
#define ROOM_MIN 4096u

/* A process left behind may write for ever. After so much it has to wait in
 * its write(2) for the next cell, instead of eating the session's time. */
#define DISCARD_MAX (1u << 20)

/* Between two readings of what was left behind, while a cell runs: at most
 * CELLAR_OUTPUT_PIPE_BYTES of each pipe, so 25 MB a second. */
#define LEFT_US 10000u

/* With its frame's header it fits a pipe as it is made, 64 KiB: a frame that
 * is some bytes larger takes two writes, and whoever reads wakes up twice. */
static uint8_t chunk[CELLAR_CHUNK_MAX - MESSAGE_BYTES];

void cellar_output_init(struct cellar_output *output)
{
    *output = (struct cellar_output){.fds = {-1, -1}};
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void drop_left(struct cellar_output *output, size_t i)
{
    close_end(&output->left_behind[i]);
    output->left_count--;
    memmove(&output->left_behind[i], &output->left_behind[i + 1],
            (output->left_count - i) * sizeof(output->left_behind[0]));
}

void cellar_output_close(struct cellar_output *output)
{
    for (int i = 0; i < 2; i++) {
        close_end(&output->fds[i]);
        output->maybe[i] = false;
    }
    while (output->left_count > 0)
        drop_left(output, output->left_count - 1);
}

void cellar_output_open(struct cellar_output *output, int out, int err)
{
    cellar_output_close(output);
    cellar_output_idle(output);
    output->fds[0] = out;
    output->fds[1] = err;
    output->mode = CELLAR_OUTPUT_TAILED;
    output->tail_len = 0;
}

void cellar_output_idle(struct cellar_output *output)
{
    output->mode = CELLAR_OUTPUT_DISCARDED;
    output->cell = 0;
    output->left = 0;
    output->stalled = 0;
    output->hurried = false;
    output->discarded = 0;
    for (int i = 0; i < 2; i++) {
        output->dropped[i] = 0;
        output->drain[i] = 0;
    }
}

/* --------------------------------------------------------------- reading -- */

static void keep_tail(struct cellar_output *output, const uint8_t *bytes,
                      size_t len)
{
    if (len > CELLAR_OUTPUT_TAIL) {
        bytes += len - CELLAR_OUTPUT_TAIL;
        len = CELLAR_OUTPUT_TAIL;
    }
    size_t over = output->tail_len + len > CELLAR_OUTPUT_TAIL
                      ? output->tail_len + len - CELLAR_OUTPUT_TAIL
                      : 0;
    memmove(output->tail, output->tail + over, output->tail_len - over);
    memcpy(output->tail + output->tail_len - over, bytes, len);
    output->tail_len += len - over;
}

static void post(struct cellar_output *output, struct cellar_wire *wire,
                 int which, size_t len)
{
    size_t sent = len < output->left ? len : (size_t)output->left;
    struct cellar_message msg = {.type = CELLAR_MSG_OUTPUT,
                                 .cell = output->cell};
    msg.u.output.stream = (uint64_t)which + 1;
    msg.u.output.data = (struct cellar_bytes){chunk, sent};
    if (sent > 0 && cellar_wire_post(wire, &msg) != CELLAR_OK)
        sent = 0;
    output->left -= sent;
    output->dropped[which] += len - sent;
}

static void deal_with(struct cellar_output *output, struct cellar_wire *wire,
                      int which, size_t len)
{
    switch (output->mode) {
    case CELLAR_OUTPUT_TAILED:
        if (which == 1)
            keep_tail(output, chunk, len);
        break;
    case CELLAR_OUTPUT_DISCARDED:
        output->discarded += len;
        break;
    case CELLAR_OUTPUT_SENT:
        post(output, wire, which, len);
        break;
    }
}

/* A short read has emptied the pipe: one system call less than to read until
 * EAGAIN. Returns what was read. */
static size_t read_pipe(struct cellar_output *output, int which, size_t max)
{
    output->maybe[which] = false;
    if (output->fds[which] < 0)
        return 0;
    ssize_t n = read(output->fds[which], chunk, max);
    output->maybe[which] = n == (ssize_t)max;
    if (n > 0)
        return (size_t)n;
    if (n == 0 || errno != EAGAIN)
        close_end(&output->fds[which]);
    return 0;
}

static bool blocked(const struct cellar_output *output,
                    const struct cellar_wire *wire)
{
    return output->mode == CELLAR_OUTPUT_SENT && output->left > 0 &&
           cellar_ring_output_room(&wire->ring) < ROOM_MIN + MESSAGE_BYTES;
}

/* How much may be read: 0 while the writers have to wait. */
static size_t allowance(struct cellar_output *output,
                        const struct cellar_wire *wire, uint64_t now)
{
    if (blocked(output, wire)) {
        output->stalled = output->stalled > 0 ? output->stalled : now;
        output->oldest = wire->ring.first;
        return 0;
    }
    size_t room = cellar_ring_output_room(&wire->ring);
    bool sends = output->mode == CELLAR_OUTPUT_SENT && output->left > 0;
    return !sends || room > sizeof(chunk) + MESSAGE_BYTES
               ? sizeof(chunk)
               : room - MESSAGE_BYTES;
}

void cellar_output_read(struct cellar_output *output, struct cellar_wire *wire,
                        int which, uint64_t now)
{
    output->maybe[which] = true;
    size_t max = allowance(output, wire, now);
    if (max > 0)
        deal_with(output, wire, which, read_pipe(output, which, max));
}

bool cellar_output_wants(const struct cellar_output *output,
                         const struct cellar_wire *wire)
{
    if (output->mode == CELLAR_OUTPUT_DISCARDED)
        return output->discarded < DISCARD_MAX;
    return output->stalled == 0 || !blocked(output, wire);
}

void cellar_output_hurry(struct cellar_output *output)
{
    output->hurried = true;
}

/* Whether waiting for the host is over. Every acknowledgement, even one that
 * makes no room yet, shows a host that reads. */
static bool has_waited(struct cellar_output *output,
                       const struct cellar_wire *wire, uint64_t now)
{
    if (output->hurried)
        return true;
    if (wire->ring.first != output->oldest) {
        output->oldest = wire->ring.first;
        output->stalled = now;
    }
    return now - output->stalled >= CELLAR_OUTPUT_STALL_US;
}

/* -------------------------------------------------- what was left behind - */

/* False when the pipe has no writers any more. */
static bool read_away(int fd)
{
    ssize_t n = read(fd, chunk, sizeof(chunk));
    for (size_t gone = 0; n > 0 && gone < CELLAR_OUTPUT_PIPE_BYTES;
         gone += (size_t)n)
        n = read(fd, chunk, sizeof(chunk));
    return n != 0;
}

/* What processes left behind have written since the last cell. */
static void read_left(struct cellar_output *output)
{
    for (size_t i = output->left_count; i > 0; i--)
        if (!read_away(output->left_behind[i - 1]))
            drop_left(output, i - 1);
}

static void tick_left(struct cellar_output *output, uint64_t now)
{
    if (output->mode != CELLAR_OUTPUT_SENT || output->left_count == 0) {
        output->left_due = 0;
        return;
    }
    if (output->left_due > 0 && now >= output->left_due) {
        read_left(output);
        output->left_due = 0;
    }
    if (output->left_due == 0)
        output->left_due = now + LEFT_US;
}

/* A host that has stopped loses the rest of this cell's output: nothing of it
 * may follow a gap. */
void cellar_output_tick(struct cellar_output *output,
                        const struct cellar_wire *wire, uint64_t now)
{
    tick_left(output, now);
    if (output->stalled == 0)
        return;
    if (!blocked(output, wire)) {
        output->stalled = 0;
    } else if (has_waited(output, wire, now)) {
        output->left = 0;
        output->stalled = 0;
    }
}

uint64_t cellar_output_due(const struct cellar_output *output)
{
    uint64_t stall =
        output->stalled > 0 ? output->stalled + CELLAR_OUTPUT_STALL_US : 0;
    bool left_first =
        output->left_due > 0 && (stall == 0 || output->left_due < stall);
    return left_first ? output->left_due : stall;
}

/* ------------------------------------------------------------------ cells --
 */

void cellar_output_begin(struct cellar_output *output, uint64_t cell,
                         uint64_t max)
{
    bool muted = output->discarded >= DISCARD_MAX;
    size_t late = output->discarded;
    for (int i = 0; i < 2; i++) {
        size_t gone = 0;
        output->maybe[i] |= muted;
        while (output->maybe[i] && gone < CELLAR_OUTPUT_PIPE_BYTES)
            gone += read_pipe(output, i, sizeof(chunk));
        late += gone;
    }
    read_left(output);
    cellar_output_idle(output);
    output->late = late > 0;
    output->mode = CELLAR_OUTPUT_SENT;
    output->cell = cell;
    output->left = max;
}

void cellar_output_replace(struct cellar_output *output, int out, int err)
{
    const int fresh[2] = {out, err};
    for (int i = 0; i < 2; i++) {
        if (output->left_count == CELLAR_OUTPUT_LEFT_MAX)
            drop_left(output, 0);
        if (output->fds[i] >= 0)
            output->left_behind[output->left_count++] = output->fds[i];
        output->fds[i] = fresh[i];
        output->maybe[i] = false;
    }
    output->late = false;
}

void cellar_output_end(struct cellar_output *output, bool unsure)
{
    for (int i = 0; i < 2; i++)
        output->drain[i] =
            unsure || output->maybe[i] ? CELLAR_OUTPUT_PIPE_BYTES : 0;
}

/* All that a pipe held when the cell ended is within the first bytes of a
 * pipe's size; a process left behind that writes on gets no further. */
static bool drain_one(struct cellar_output *output, struct cellar_wire *wire,
                      int which, uint64_t now)
{
    while (output->drain[which] > 0) {
        size_t max = allowance(output, wire, now);
        if (max == 0)
            return false;
        if (max > output->drain[which])
            max = (size_t)output->drain[which];
        size_t n = read_pipe(output, which, max);
        deal_with(output, wire, which, n);
        output->drain[which] -= n;
        if (!output->maybe[which])
            output->drain[which] = 0;
    }
    return true;
}

bool cellar_output_drained(struct cellar_output *output,
                           struct cellar_wire *wire, uint64_t now)
{
    return drain_one(output, wire, 0, now) && drain_one(output, wire, 1, now);
}

struct cellar_bytes cellar_output_tail(struct cellar_output *output)
{
    while (output->tail_len > 0 && output->tail[output->tail_len - 1] == '\n')
        output->tail_len--;
    for (size_t i = 0; i < output->tail_len; i++) {
        unsigned char c = (unsigned char)output->tail[i];
        if ((c < ' ' && c != '\n') || c == 0x7f)
            output->tail[i] = '?';
    }
    return (struct cellar_bytes){(const uint8_t *)output->tail,
                                 output->tail_len};
}
