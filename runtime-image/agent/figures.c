#include "figures.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cellar_figures_open(const char *const *paths, size_t count)
{
    char text[CELLAR_FIGURES_MAX];
    int fd = -1;
    for (size_t i = 0; i < count && fd < 0; i++)
        fd = open(paths[i], O_RDONLY | O_CLOEXEC);
    cellar_figures_read(fd, text);
    return fd;
}

void cellar_figures_read(int fd, char text[CELLAR_FIGURES_MAX])
{
    ssize_t n = fd >= 0 ? pread(fd, text + 1, CELLAR_FIGURES_MAX - 2, 0) : 0;
    text[0] = '\n';
    text[n > 0 ? n + 1 : 1] = '\0';
}

uint64_t cellar_figure(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}
