#include "units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FRACTION_DIGITS 9

struct suffix {
    const char *text; /* as parsed, whatever the case */
    const char *word; /* as said to people; NULL: never said */
    uint64_t steps;
};

/* The first of a factor is the one that is written; "" is the bare number. */
static const struct suffix count_suffixes[] = {{"", "", 1}, {0}};

static const struct suffix byte_suffixes[] = {
    {"", "bytes", 1},
    {"k", "KiB", UINT64_C(1) << 10},
    {"m", "MiB", UINT64_C(1) << 20},
    {"g", "GiB", UINT64_C(1) << 30},
    {"t", "TiB", UINT64_C(1) << 40},
    {"b", NULL, 1},
    {"kb", NULL, UINT64_C(1) << 10},
    {"mb", NULL, UINT64_C(1) << 20},
    {"gb", NULL, UINT64_C(1) << 30},
    {"tb", NULL, UINT64_C(1) << 40},
    {"kib", NULL, UINT64_C(1) << 10},
    {"mib", NULL, UINT64_C(1) << 20},
    {"gib", NULL, UINT64_C(1) << 30},
    {"tib", NULL, UINT64_C(1) << 40},
    {0},
};

static const struct suffix milli_suffixes[] = {
    {"ms", "ms", 1},         {"s", "s", 1000},
    {"m", "min", 60000},     {"h", "h", 3600000},
    {"d", "days", 86400000}, {"", NULL, 1000},
    {"min", NULL, 60000},    {0},
};

static const struct suffix cpu_suffixes[] = {{"", "", 1000}, {0}};

static const struct {
    const char *noun;
    const char *example;
    const char *placeholder;
    const struct suffix *suffixes;
} units[] = {
    [CELLAR_UNIT_COUNT] = {"whole number", "128", "N", count_suffixes},
    [CELLAR_UNIT_BYTES] = {"size", "512m", "SIZE", byte_suffixes},
    [CELLAR_UNIT_MILLIS] = {"duration", "30s", "TIME", milli_suffixes},
    [CELLAR_UNIT_CPUS] = {"number of cores", "1.5", "CORES", cpu_suffixes},
    [CELLAR_UNIT_POLICY] = {"policy", "manual", "POLICY", count_suffixes},
};

/* whole + fraction / scale, exactly. */
struct decimal {
    uint64_t whole;
    uint64_t fraction;
    uint64_t scale;
};

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static enum cellar_code scan_whole(const char **at, uint64_t *whole)
{
    if (!digit(**at))
        return CELLAR_E_USAGE;
    for (; digit(**at); (*at)++)
        if (__builtin_mul_overflow(*whole, 10, whole) ||
            __builtin_add_overflow(*whole, (uint64_t)(**at - '0'), whole))
            return CELLAR_E_LIMIT;
    return CELLAR_OK;
}

static enum cellar_code scan_fraction(const char **at, struct decimal *number)
{
    if (**at != '.')
        return CELLAR_OK;
    (*at)++;
    if (!digit(**at))
        return CELLAR_E_USAGE;
    for (int n = 0; digit(**at); (*at)++, n++) {
        if (n == FRACTION_DIGITS)
            return CELLAR_E_USAGE;
        number->fraction = number->fraction * 10 + (uint64_t)(**at - '0');
        number->scale *= 10;
    }
    return CELLAR_OK;
}

/* number * steps, cut to a whole. A fraction below 10^9 times the largest
 * factor, 2^40, needs 70 bits. */
static enum cellar_code multiply(const struct decimal *number, uint64_t steps,
                                 uint64_t *out)
{
    uint64_t whole = 0;
    __extension__ unsigned __int128 wide = number->fraction;
    uint64_t part = (uint64_t)(wide * steps / number->scale);
    if (__builtin_mul_overflow(number->whole, steps, &whole) ||
        __builtin_add_overflow(whole, part, &whole))
        return CELLAR_E_LIMIT;
    /* "0.0001s" must not turn into the 0 that means no limit. */
    if (whole == 0 && number->fraction != 0)
        return CELLAR_E_USAGE;
    *out = whole;
    return CELLAR_OK;
}

static const struct suffix *find_suffix(enum cellar_unit unit, const char *text)
{
    for (const struct suffix *s = units[unit].suffixes; s->text; s++)
        if (strcasecmp(s->text, text) == 0)
            return s;
    return NULL;
}

static enum cellar_code parse_policy(const char *text, uint64_t *out)
{
    for (int i = CELLAR_CHECKPOINT_OFF; i <= CELLAR_CHECKPOINT_AUTO; i++)
        if (!strcmp(text, cellar_checkpoint_name(i))) {
            *out = (uint64_t)i;
            return CELLAR_OK;
        }
    return CELLAR_E_USAGE;
}

const char *cellar_unit_words(enum cellar_unit unit)
{
    return unit == CELLAR_UNIT_POLICY ? "off, manual, auto" : NULL;
}

enum cellar_code cellar_unit_parse(enum cellar_unit unit, const char *text,
                                   uint64_t *out)
{
    if (unit == CELLAR_UNIT_POLICY)
        return parse_policy(text, out);
    struct decimal number = {.scale = 1};
    enum cellar_code code = scan_whole(&text, &number.whole);
    if (code == CELLAR_OK && unit != CELLAR_UNIT_COUNT)
        code = scan_fraction(&text, &number);
    if (code != CELLAR_OK)
        return code;
    const struct suffix *suffix = find_suffix(unit, text);
    return suffix ? multiply(&number, suffix->steps, out) : CELLAR_E_USAGE;
}

const char *cellar_unit_noun(enum cellar_unit unit)
{
    return units[unit].noun;
}

const char *cellar_unit_example(enum cellar_unit unit)
{
    return units[unit].example;
}

const char *cellar_unit_placeholder(enum cellar_unit unit)
{
    return units[unit].placeholder;
}

/* Thousandths as a decimal number without trailing zeros. */
static int print_thousandths(uint64_t value, char *text, size_t size)
{
    int n = snprintf(text, size, "%" PRIu64 ".%03" PRIu64, value / 1000,
                     value % 1000);
    while (n > 0 && text[n - 1] == '0')
        text[--n] = '\0';
    if (n > 0 && text[n - 1] == '.')
        text[--n] = '\0';
    return n;
}

void cellar_unit_write(enum cellar_unit unit, uint64_t value,
                       char text[CELLAR_UNIT_TEXT_MAX])
{
    const char *word =
        unit == CELLAR_UNIT_POLICY ? cellar_checkpoint_name((int)value) : NULL;
    if (unit == CELLAR_UNIT_POLICY) {
        snprintf(text, CELLAR_UNIT_TEXT_MAX, "%s", word ? word : "");
        return;
    }
    if (unit == CELLAR_UNIT_CPUS) {
        print_thousandths(value, text, CELLAR_UNIT_TEXT_MAX);
        return;
    }
    const struct suffix *best = &units[unit].suffixes[0];
    for (const struct suffix *s = best; s->text && s->word; s++)
        if (value >= s->steps && value % s->steps == 0)
            best = s;
    const char *mark = value == 0 ? "" : best->text;
    snprintf(text, CELLAR_UNIT_TEXT_MAX, "%" PRIu64 "%s", value / best->steps,
             mark);
}

void cellar_unit_say(enum cellar_unit unit, uint64_t value,
                     char text[CELLAR_UNIT_TEXT_MAX])
{
    const struct suffix *best = &units[unit].suffixes[0];
    for (const struct suffix *s = best; s->text && s->word; s++)
        if (value >= s->steps)
            best = s;
    if (best->steps == 1) {
        const char *word =
            unit == CELLAR_UNIT_BYTES && value == 1 ? "byte" : best->word;
        snprintf(text, CELLAR_UNIT_TEXT_MAX, "%" PRIu64 "%s%s", value,
                 word[0] ? " " : "", word);
        return;
    }
    __extension__ unsigned __int128 wide = value;
    int n = print_thousandths((uint64_t)(wide * 1000 / best->steps), text,
                              CELLAR_UNIT_TEXT_MAX);
    if (best->word[0])
        snprintf(text + n, CELLAR_UNIT_TEXT_MAX - (size_t)n, " %s", best->word);
}
