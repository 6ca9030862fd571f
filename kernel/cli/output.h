/*
 * What the command prints: stdout and stderr, raw where they are files or
 * pipes, made safe where they are terminals. Remembers that a write failed, so
 * that a full disk or a closed pipe ends the command with an error and not
 * with a lie.
 *
 * Nothing here waits: what a slow or stopped reader has no room for is kept
 * (a cell's output has a limit) and written by cellar_output_pump(), so that
 * an interrupt or the session's signs of life are never behind it.
 */
#ifndef CELLAR_CLI_OUTPUT_H
#define CELLAR_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "terminal.h"

struct cellar_output {
    int fd;
    bool tty;
    bool at_line_start;
    int sys_errno; /* of the first write that failed; 0: none did */
    struct cellar_terminal terminal;
    char *queue; /* what waits for room: `queued` bytes from `queue_at` */
    size_t queue_at;
    size_t queued;
    size_t queue_room;
};

/* Makes sure that descriptors 0, 1 and 2 are open, if only on something that
 * can't be read or written: else the next file opened takes their place, and
 * output of a session would be written into it. */
void cellar_output_guard(void);

void cellar_output_init(struct cellar_output *output, int fd);
/* Throws away what waits. */
void cellar_output_done(struct cellar_output *output);

/* Text of Cellar's or of a session's, of any bytes. */
void cellar_output_write(struct cellar_output *output, const char *data,
                         size_t len);
void cellar_output_text(struct cellar_output *output, const char *text);
void cellar_output_printf(struct cellar_output *output, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Shows a character that stays without its rest. */
void cellar_output_flush(struct cellar_output *output);

/* The same, and ends a line that is not ended. */
void cellar_output_end_line(struct cellar_output *output);

/* Writes of what waits as much as there is room for now. */
void cellar_output_pump(struct cellar_output *output);

/* What waits in `from`, made safe already, is written to `to`. One that was
 * opened on descriptor -1 only keeps. */
void cellar_output_move(struct cellar_output *from, struct cellar_output *to);

/* Whether something waits: poll the descriptor for room, then pump. */
bool cellar_output_waits(const struct cellar_output *output);

/* Whether no write has failed. */
bool cellar_output_ok(const struct cellar_output *output);

#endif
