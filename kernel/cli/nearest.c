#include "nearest.h"

#include <stdint.h>
#include <string.h>

#define WORD_MAX     32
#define DISTANCE_MAX 2

void cellar_nearest_init(struct cellar_nearest *nearest, const char *typed)
{
    *nearest = (struct cellar_nearest){.typed = typed, .distance = SIZE_MAX};
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Levenshtein's distance, one row of the table at a time. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t row[WORD_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = min3(row[j] + 1, row[j - 1] + 1, change);
        }
    }
    return row[b_len];
}

void cellar_nearest_offer(struct cellar_nearest *nearest, const char *word)
{
    size_t typed_len = strnlen(nearest->typed, WORD_MAX + 1);
    size_t word_len = strnlen(word, WORD_MAX + 1);
    if (typed_len > WORD_MAX || word_len > WORD_MAX)
        return;
    size_t d = distance(nearest->typed, typed_len, word, word_len);
    if (d <= DISTANCE_MAX && d * 2 <= word_len && d < nearest->distance) {
        nearest->distance = d;
        nearest->best = word;
    }
}
