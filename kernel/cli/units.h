/*
 * Numbers as people write them: sizes "512m", durations "30s", cores "1.5",
 * counts "128". Pure: text in, numbers out.
 *
 *     uint64_t bytes = 0;
 *     if (cellar_unit_parse(CELLAR_UNIT_BYTES, "1.5g", &bytes) != CELLAR_OK)
 *         ... say cellar_unit_example(CELLAR_UNIT_BYTES)
 *
 * A number is digits, at most one point, at most nine digits after it, and a
 * unit, with nothing around or between: no sign, no exponent, no hex, no nan.
 */
#ifndef CELLAR_CLI_UNITS_H
#define CELLAR_CLI_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/spec.h"

/* Reads all of `text`. What is left below the smallest step (a byte, a
 * millisecond, a thousandth of a core) is cut off. A duration without a unit
 * is in seconds, a size in bytes. E_USAGE: not such a number, or one that is
 * not 0 but smaller than a step; E_LIMIT: more than 64 bits hold. */
enum cellar_code cellar_unit_parse(enum cellar_unit unit, const char *text,
                                   uint64_t *out);

/* The words of a unit that is written as one of them ("off, manual, auto");
 * NULL for all others. Static. */
const char *cellar_unit_words(enum cellar_unit unit);

/* What such a thing is called ("size"), an example of one ("512m"), and the
 * word that stands for one in --help ("SIZE"). Static. */
const char *cellar_unit_noun(enum cellar_unit unit);
const char *cellar_unit_example(enum cellar_unit unit);
const char *cellar_unit_placeholder(enum cellar_unit unit);

/* Long enough for any number in either writing. */
#define CELLAR_UNIT_TEXT_MAX 32

/* Writes `value` so that cellar_unit_parse() reads the same number: "512m". */
void cellar_unit_write(enum cellar_unit unit, uint64_t value,
                       char text[CELLAR_UNIT_TEXT_MAX]);

/* For people: "512 MiB", "1.5 s". Rounded to three places. */
void cellar_unit_say(enum cellar_unit unit, uint64_t value,
                     char text[CELLAR_UNIT_TEXT_MAX]);

#endif
