#include "report.h"

#include <stdio.h>
#include <string.h>

static struct cellar_figure *next(struct cellar_report *report, const char *key,
                                  const char *text)
{
    if (report->count == CELLAR_REPORT_MAX)
        return NULL;
    struct cellar_figure *figure = &report->list[report->count++];
    *figure = (struct cellar_figure){.value = 0};
    (void)snprintf(figure->key, sizeof figure->key, "%s", key);
    (void)snprintf(figure->text, sizeof figure->text, "%s", text);
    return figure;
}

void cellar_report_add(struct cellar_report *report, const char *key,
                       const char *text, double value)
{
    struct cellar_figure *figure = next(report, key, text);
    if (figure)
        figure->value = value;
}

void cellar_report_miss(struct cellar_report *report, const char *key,
                        const char *text, const char *why)
{
    struct cellar_figure *figure = next(report, key, text);
    if (figure)
        (void)snprintf(figure->why, sizeof figure->why, "%s", why);
}

void cellar_report_times(struct cellar_report *report, const char *prefix,
                         const char *text,
                         const struct cellar_bench_times *times)
{
    const double values[] = {times->p50_us, times->p99_us};
    static const char *const names[] = {"p50", "p99"};
    char key[CELLAR_REPORT_KEY_MAX];
    char label[CELLAR_REPORT_TEXT_MAX];
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(key, sizeof key, "%s%s_us", prefix, names[i]);
        (void)snprintf(label, sizeof label, "%s, %s", text, names[i]);
        cellar_report_add(report, key, label, values[i]);
    }
}

const struct cellar_figure *
cellar_report_find(const struct cellar_report *report, const char *key)
{
    for (size_t i = 0; i < report->count; i++)
        if (strcmp(report->list[i].key, key) == 0)
            return &report->list[i];
    return NULL;
}

void cellar_report_ratio(struct cellar_report *report, const char *key,
                         const char *text, const char *over, const char *under)
{
    const struct cellar_figure *a = cellar_report_find(report, over);
    const struct cellar_figure *b = cellar_report_find(report, under);
    if (!a || !b)
        cellar_report_miss(report, key, text, "there is nothing to divide");
    else if (a->why[0] || b->why[0])
        cellar_report_miss(report, key, text, a->why[0] ? a->why : b->why);
    else if (b->value <= 0)
        cellar_report_miss(report, key, text, "what it is divided by is 0");
    else
        cellar_report_add(report, key, text, a->value / b->value);
}
