#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "command.h"
#include "kernel/fail.h"
#include "table.h"
#include "units.h"

static const struct cellar_column columns[] = {
    {"name", "NAME"},     {"container", NULL},  {"image", "IMAGE"},
    {"engine", "ENGINE"}, {"state", "STATE"},   {"age_s", "AGE"},
    {"created", NULL},    {"idle_ms", "IDLE"},  {"memory_bytes", "MEMORY"},
    {"cells", "CELLS"},   {"holder", "HOLDER"},
};
#define COLUMN_COUNT (sizeof columns / sizeof columns[0])

struct listing {
    struct cellar_table *table;
    bool json;
};

/* Whole seconds, minutes, hours or days: an age is only glanced at. */
static void say_age(uint64_t seconds, char text[CELLAR_UNIT_TEXT_MAX])
{
    uint64_t step = seconds < 120      ? 1
                    : seconds < 7200   ? 60
                    : seconds < 172800 ? 3600
                                       : 86400;
    if (seconds == 0)
        snprintf(text, CELLAR_UNIT_TEXT_MAX, "0 s");
    else
        cellar_unit_say(CELLAR_UNIT_MILLIS, seconds / step * step * 1000, text);
}

/* null in JSON and "-" for people where it is not known. */
static void add_idle(struct cellar_table *table, uint64_t idle_ms)
{
    char text[CELLAR_UNIT_TEXT_MAX] = "";
    if (idle_ms == CELLAR_UNKNOWN) {
        cellar_table_text(table, NULL);
        return;
    }
    say_age(idle_ms / 1000, text);
    cellar_table_number(table, idle_ms, text);
}

static void add_memory(struct cellar_table *table, uint64_t bytes)
{
    char text[CELLAR_UNIT_TEXT_MAX] = "";
    if (bytes == CELLAR_UNKNOWN) {
        cellar_table_text(table, NULL);
        return;
    }
    cellar_unit_say(CELLAR_UNIT_BYTES, bytes, text);
    cellar_table_number(table, bytes, text);
}

static void add_row(void *user, const struct cellar_info *info)
{
    struct listing *listing = user;
    char age_text[CELLAR_UNIT_TEXT_MAX] = "";
    char cells[24] = "";
    char holder[24] = "-";
    /* Now, and not before the engine was asked, which may take a while. */
    uint64_t now = (uint64_t)time(NULL);
    uint64_t age = now > info->created ? now - info->created : 0;
    say_age(age, age_text);
    snprintf(cells, sizeof cells, "%" PRIu64, info->cells);
    if (info->holder)
        snprintf(holder, sizeof holder, "%" PRIu64, info->holder);
    const char *name = info->name[0] || listing->json ? info->name : NULL;
    cellar_table_text(listing->table, name);
    cellar_table_text(listing->table, info->container);
    cellar_table_text(listing->table, info->image);
    cellar_table_text(listing->table, info->engine);
    cellar_table_text(listing->table, info->state);
    cellar_table_number(listing->table, age, age_text);
    cellar_table_number(listing->table, info->created, "");
    add_idle(listing->table, info->idle_ms);
    add_memory(listing->table, info->memory_bytes);
    cellar_table_number(listing->table, info->cells, cells);
    cellar_table_number(listing->table, info->holder, holder);
}

static enum cellar_code list(struct cellar_front *front,
                             struct cellar_table *table)
{
    struct listing listing = {.table = table, .json = front->options.json};
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    enum cellar_code code = cellar_front_open(front);
    if (code == CELLAR_OK)
        code = cellar_list(front->c, add_row, &listing, &front->err);
    if (code == CELLAR_OK)
        code = cellar_table_print(
            table, listing.json ? CELLAR_TABLE_JSON : CELLAR_TABLE_COLUMNS,
            &front->out, &front->err);
    return code;
}

static int run(struct cellar_front *front)
{
    struct cellar_table *table = cellar_table_new(columns, COLUMN_COUNT);
    enum cellar_code code = list(front, table);
    cellar_table_free(table);
    return code == CELLAR_OK ? CELLAR_EXIT_OK : cellar_front_fail(front);
}

const struct cellar_command cellar_command_ps = {
    .name = "ps",
    .bit = CELLAR_ON_PS,
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .text = "List the sessions",
    .details =
        "IDLE is the time since the last cell ended, HOLDER the process that "
        "has the\n"
        "session now. With --json a list of objects: name (empty for a "
        "session that ends\n"
        "with its command), container, image, engine, state, age_s, created "
        "(seconds\n"
        "since 1970), idle_ms (0 while a cell runs), memory_bytes, cells, "
        "holder (0:\n"
        "nobody); null where a figure can't be had. A session that stands "
        "ready in a\n"
        "pool (cellar pool) has no name, and the state ready.\n",
    .run = run,
};
