#include "figures.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where a whole number still is one. */
#define WHOLE_MAX 9007199254740992.0

/* By how a key ends; the first that fits, so the longer ones come first. From
 * `from` on a value is shown in this unit. */
static const struct unit {
    const char *ending;
    double from;
    double divisor;
    int digits;
    const char *name;
} units[] = {
    {"bytes_per_s", 1e9, 1e9, 2, " GB/s"},
    {"bytes_per_s", 0, 1e6, 1, " MB/s"},
    {"per_s", 0, 1, 0, " /s"},
    {"bytes", 1 << 20, 1 << 20, 2, " MiB"},
    {"bytes", 0, 1 << 10, 1, " KiB"},
    {"_us", 1e6, 1e6, 2, " s"},
    {"_us", 1e4, 1e3, 1, " ms"},
    {"_us", 0, 1, 1, " us"},
    {"rounds", 0, 1, 0, ""},
    {"missed", 0, 1, 0, ""},
    {"sessions", 0, 1, 0, ""},
    {"", 0, 1, 2, ""},
};

static bool fits(const struct unit *unit, const struct cellar_figure *figure)
{
    size_t len = strlen(figure->key);
    size_t end = strlen(unit->ending);
    return fabs(figure->value) >= unit->from && len >= end &&
           strcmp(figure->key + len - end, unit->ending) == 0;
}

/* The table's last row fits everything. */
static void print_value(struct cellar_output *out,
                        const struct cellar_figure *figure)
{
    const struct unit *unit = units;
    char value[48];
    while (!fits(unit, figure))
        unit++;
    (void)snprintf(value, sizeof value, "%.*f%s", unit->digits,
                   figure->value / unit->divisor, unit->name);
    cellar_output_printf(out, "%-40s %14s\n", figure->text, value);
}

void cellar_figures_print(struct cellar_output *out,
                          const struct cellar_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct cellar_figure *figure = &report->list[i];
        if (figure->why[0])
            cellar_output_printf(out, "%-40s %14s  %s\n", figure->text, "-",
                                 figure->why);
        else
            print_value(out, figure);
    }
}

static json_t *number(double value)
{
    return floor(value) == value && fabs(value) < WHOLE_MAX
               ? json_integer((json_int_t)value)
               : json_real(value);
}

bool cellar_figures_json(json_t *root, const struct cellar_report *report)
{
    json_t *missing = json_object();
    bool fine = missing != NULL;
    for (size_t i = 0; i < report->count && fine; i++) {
        const struct cellar_figure *figure = &report->list[i];
        bool there = !figure->why[0];
        fine = json_object_set_new(root, figure->key,
                                   there ? number(figure->value)
                                         : json_null()) == 0;
        if (fine && !there)
            fine = json_object_set_new(missing, figure->key,
                                       json_string(figure->why)) == 0;
    }
    return json_object_set_new(root, "not_measured", missing) == 0 && fine;
}
