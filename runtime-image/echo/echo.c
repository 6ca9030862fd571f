/*
 * The bare echo that `cellar bench` measures a cell's way against: the same
 * kind of process on the same kind of stream, and no work at all. What begins
 * with a zero byte asks for output instead: a number of 8 bytes follows, and so
 * many bytes in lines of 1 KB are given back.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 1024

static char bytes[64 << 10];

static int put(const char *from, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(STDOUT_FILENO, from + done, len - done);
        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

static int give(uint64_t left)
{
    memset(bytes, 'x', sizeof(bytes));
    for (size_t i = LINE_BYTES; i <= sizeof(bytes); i += LINE_BYTES)
        bytes[i - 1] = '\n';
    while (left > 0) {
        size_t len = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);
        if (!put(bytes, len))
            return 0;
        left -= len;
    }
    return 1;
}

static int answer(size_t len)
{
    uint64_t wanted = 0;
    if (bytes[0] != 0 || len != 1 + sizeof(wanted))
        return put(bytes, len);
    for (size_t i = 1; i < len; i++)
        wanted = wanted << 8 | (unsigned char)bytes[i];
    return give(wanted);
}

int main(void)
{
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    while (n > 0 && answer((size_t)n))
        n = read(STDIN_FILENO, bytes, sizeof(bytes));
    return n == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
