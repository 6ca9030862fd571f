#include "program.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

#define HEADERS_MAX  64
#define INTERP_BYTES 256

bool cellar_program_needs_musl(int fd)
{
    Elf64_Ehdr head;
    Elf64_Phdr part;
    char loader[INTERP_BYTES];
    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_phnum > HEADERS_MAX)
        return false;
    for (int i = 0; i < head.e_phnum; i++) {
        off_t at = (off_t)(head.e_phoff + (size_t)i * sizeof(part));
        if (pread(fd, &part, sizeof(part), at) != (ssize_t)sizeof(part))
            return false;
        if (part.p_type != PT_INTERP)
            continue;
        ssize_t n = pread(fd, loader, sizeof(loader) - 1, (off_t)part.p_offset);
        loader[n > 0 ? n : 0] = '\0';
        return strstr(loader, "ld-musl") != NULL;
    }
    return false;
}
