#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/fail.h"
#include "signals.h"

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

/* After a failed write: whether to try again. */
static bool try_again(struct cellar_output *output, unsigned signals)
{
    if (errno == EINTR) {
        /* Ctrl-C must reach the cell although the reader of its output has
         * stopped: give up on the output, go back to the loop. */
        output->dropping = cellar_signals_count() != signals;
        return !output->dropping;
    }
    if (errno == EAGAIN) {
        struct pollfd p = {.fd = output->fd, .events = POLLOUT};
        if (poll(&p, 1, -1) >= 0)
            return true;
        return errno == EINTR && try_again(output, signals);
    }
    output->sys_errno = errno;
    return false;
}

static void write_raw(void *user, const char *data, size_t len)
{
    struct cellar_output *output = user;
    unsigned signals = cellar_signals_count();
    if (len > 0)
        output->at_line_start = data[len - 1] == '\n';
    while (len > 0 && !output->sys_errno && !output->dropping) {
        ssize_t n = write(output->fd, data, len);
        if (n < 0 && !try_again(output, signals))
            return;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
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
    output->dropping = false;
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
