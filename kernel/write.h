/* Files written whole. */
#ifndef CELLAR_KERNEL_WRITE_H
#define CELLAR_KERNEL_WRITE_H

#include <stdbool.h>
#include <stddef.h>

/* All of it, through interruptions and short writes; false with errno. */
bool cellar_write_all(int fd, const char *text, size_t len);

#endif
