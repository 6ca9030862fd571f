#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/fail.h"

void cellar_output_guard(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        /* Opened the wrong way round: reading stdin or writing stdout fails
         * as it would have, closed. The lowest free descriptor is this one. */
        int opened = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
        if (opened != fd)
            _exit(3);
    }
}

void cellar_output_init(struct cellar_output *output, int fd)
{
    *output = (struct cellar_output){
        .fd = fd, .tty = isatty(fd) == 1, .at_line_start = true};
}

void cellar_output_done(struct cellar_output *output)
{
    free(output->queue);
    output->queue = NULL;
    output->queue_at = 0;
    output->queued = 0;
    output->queue_room = 0;
}

/* Writes what there is room for; returns how much. The descriptor may be
 * shared, so it can't be made non-blocking; but where poll() finds room, a
 * pipe takes PIPE_BUF bytes without waiting. */
static size_t write_some(struct cellar_output *output, const char *data,
                         size_t len)
{
    size_t done = 0;
    while (done < len) {
        struct pollfd room = {.fd = output->fd, .events = POLLOUT};
        size_t piece = len - done < PIPE_BUF ? len - done : PIPE_BUF;
        if (poll(&room, 1, 0) <= 0)
            break;
        ssize_t n = write(output->fd, data + done, piece);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            output->sys_errno = errno;
        if (n < 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static void enqueue(struct cellar_output *output, const char *data, size_t len)
{
    if (output->queue_at > 0)
        memmove(output->queue, output->queue + output->queue_at,
                output->queued);
    output->queue_at = 0;
    if (len > output->queue_room - output->queued) {
        size_t room = (output->queued + len) * 2;
        char *queue = realloc(output->queue, room);
        if (!queue) {
            output->sys_errno = ENOMEM;
            return;
        }
        output->queue = queue;
        output->queue_room = room;
    }
    memcpy(output->queue + output->queued, data, len);
    output->queued += len;
}

void cellar_output_pump(struct cellar_output *output)
{
    if (!cellar_output_waits(output))
        return;
    size_t n =
        write_some(output, output->queue + output->queue_at, output->queued);
    output->queue_at += n;
    output->queued -= n;
    if (output->queued == 0)
        cellar_output_done(output);
}

bool cellar_output_waits(const struct cellar_output *output)
{
    return output->queued > 0 && output->sys_errno == 0;
}

static void write_raw(void *user, const char *data, size_t len)
{
    struct cellar_output *output = user;
    if (len == 0 || output->sys_errno)
        return;
    output->at_line_start = data[len - 1] == '\n';
    cellar_output_pump(output);
    size_t n = output->queued ? 0 : write_some(output, data, len);
    if (n < len && !output->sys_errno)
        enqueue(output, data + n, len - n);
}

void cellar_output_move(struct cellar_output *from, struct cellar_output *to)
{
    if (from->queued > 0)
        write_raw(to, from->queue + from->queue_at, from->queued);
    if (from->sys_errno && !to->sys_errno)
        to->sys_errno = from->sys_errno;
    cellar_output_done(from);
}

void cellar_output_write(struct cellar_output *output, const char *data,
                         size_t len)
{
    if (output->tty)
        cellar_terminal_put(&output->terminal, data, len, write_raw, output);
    else
        write_raw(output, data, len);
}

void cellar_output_text(struct cellar_output *output, const char *text)
{
    cellar_output_write(output, text, strlen(text));
}

void cellar_output_printf(struct cellar_output *output, const char *fmt, ...)
{
    CELLAR_AUTO_FREE char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0) {
        text = NULL;
        output->sys_errno = ENOMEM;
        return;
    }
    cellar_output_write(output, text, (size_t)n);
}

void cellar_output_flush(struct cellar_output *output)
{
    cellar_terminal_end(&output->terminal, write_raw, output);
}

void cellar_output_end_line(struct cellar_output *output)
{
    cellar_output_flush(output);
    if (!output->at_line_start)
        write_raw(output, "\n", 1);
}

bool cellar_output_ok(const struct cellar_output *output)
{
    return output->sys_errno == 0;
}
