/* "Did you mean ...?": the known word nearest to a mistyped one. Pure. */
#ifndef CELLAR_CLI_NEAREST_H
#define CELLAR_CLI_NEAREST_H

#include <stddef.h>

/* A search under way; offer every known word, then take `best`. Borrows both
 * the mistyped word and the words offered. */
struct cellar_nearest {
    const char *typed;
    const char *best; /* NULL: nothing was near enough to be meant */
    size_t distance;
};

void cellar_nearest_init(struct cellar_nearest *nearest, const char *typed);

/* Near enough is an edit distance of at most 2, and at most half of
 * the word; words over 32 bytes are never near. The first of equals stays. */
void cellar_nearest_offer(struct cellar_nearest *nearest, const char *word);

#endif
