/*
 * The container's memory, as its control group has it: whether it runs short,
 * and what is in use. Without a readable control group it never runs short.
 */
#ifndef CELLAR_AGENT_MEMORY_H
#define CELLAR_AGENT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct cellar_memory {
    int usage_fd;
    int stat_fd;
    uint64_t limit; /* bytes; 0: none known */
};

void cellar_memory_init(struct cellar_memory *memory);

/* Whether less than an eighth of the limit (16 MiB at least) is left, what the
 * kernel can drop at once counted as free. */
bool cellar_memory_is_short(const struct cellar_memory *memory);

/* Bytes in use that are no file's: of all processes together. */
uint64_t cellar_memory_private(const struct cellar_memory *memory);

#endif
