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
    int own_fd;     /* this process's /proc status */
    uint64_t limit; /* bytes; 0: none known */
};

void cellar_memory_init(struct cellar_memory *memory);

/* Bytes until memory runs short, which it does (0) when less than an eighth of
 * the limit (16 MiB at least) is left; what the kernel can drop at once counts
 * as free where that matters. UINT64_MAX: there is no limit, or none so low. */
uint64_t cellar_memory_spare(const struct cellar_memory *memory);

/* Bytes in use that are no file's: of all processes together; of this one. */
uint64_t cellar_memory_private(const struct cellar_memory *memory);
uint64_t cellar_memory_own(const struct cellar_memory *memory);

#endif
