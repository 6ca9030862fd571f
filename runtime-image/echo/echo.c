/*
 * The bare echo that `cellar bench` measures a cell's way against: the same
 * kind of process on the same kind of stream, and no work at all.
 */
#include <stdlib.h>
#include <unistd.h>

static char bytes[64 << 10];

static int put(size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(STDOUT_FILENO, bytes + done, len - done);
        if (n <= 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

int main(void)
{
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    while (n > 0 && put((size_t)n))
        n = read(STDIN_FILENO, bytes, sizeof(bytes));
    return n == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
