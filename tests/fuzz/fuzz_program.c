/*
 * A python3 of an image's, as a file: the launcher reads whether it asks for
 * musl's loader. A file that never names that loader doesn't, and the rest of
 * the file has no say.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "runtime-image/launcher/program.h"

static void must(int fine)
{
    if (!fine)
        abort();
}

static int file_of(const uint8_t *data, size_t len)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("program", MFD_CLOEXEC);
    must(fd >= 0 && ftruncate(fd, 0) == 0);
    must(pwrite(fd, data, len, 0) == (ssize_t)len);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    int fd = file_of(data, len);
    bool musl = cellar_program_needs_musl(fd);
    must(!musl || memmem(data, len, "ld-musl", 7) != NULL);
    must(!musl || memcmp(data, "\177ELF", 4) == 0);
    must(pwrite(fd, "more", 4, (off_t)len) == 4);
    must(cellar_program_needs_musl(fd) == musl || !musl);
    return 0;
}
