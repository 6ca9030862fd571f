#include <stdio.h>

#include "command.h"
#include "kernel/fail.h"
#include "kernel/refill.h"
#include "table.h"
#include "units.h"

static const struct cellar_column columns[] = {
    {"ready", NULL}, {"removed", NULL}, {"others", NULL}};

static void print_text(struct cellar_front *front,
                       const struct cellar_refilled *told)
{
    if (told->ready > 0)
        cellar_output_printf(&front->out, "%zu ready%s", told->ready,
                             told->others ? "" : "\n");
    if (told->others > 0)
        cellar_output_printf(&front->out, ", %zu more of other options\n",
                             told->others);
}

static enum cellar_code print(struct cellar_front *front,
                              const struct cellar_refilled *told)
{
    if (!front->options.json) {
        print_text(front, told);
        return CELLAR_OK;
    }
    struct cellar_table *table = cellar_table_new(columns, 3);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_table_number(table, told->ready, "");
    cellar_table_number(table, told->removed, "");
    cellar_table_number(table, told->others, "");
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

static enum cellar_code refill(struct cellar_front *front, size_t size,
                               struct cellar_refilled *told)
{
    const struct cellar_options *options = &front->options;
    const struct cellar_refill_ask ask = {
        .size = size, .at_least = options->at_least, .only = options->only};
    return cellar_refill(front->c, &options->spec, &ask, told, &front->err);
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    struct cellar_refilled told = {0};
    uint64_t size = 0;
    if (cellar_unit_parse(CELLAR_UNIT_COUNT, options->operands[1], &size) !=
            CELLAR_OK ||
        size > CELLAR_READY_MAX)
        return cellar_front_usage(front, "'%.64s' is not a number of 0 to %d",
                                  options->operands[1], CELLAR_READY_MAX);
    enum cellar_code code = cellar_front_open(front);
    if (code == CELLAR_OK)
        code = size > 0
                   ? refill(front, size, &told)
                   : cellar_ready_clear(front->c, &told.removed, &front->err);
    if (code == CELLAR_OK)
        code = print(front, &told);
    return code == CELLAR_OK ? CELLAR_EXIT_OK : cellar_front_fail(front);
}

const struct cellar_command cellar_command_pool = {
    .name = "pool",
    .bit = CELLAR_ON_POOL,
    .operands = "N",
    .operands_min = 1,
    .operands_max = 1,
    .text = "Have N sessions stand ready for start, run and repl",
    .details =
        "With their own pool option those take one that was made with the same "
        "options,\n"
        "and fill the pool up again in the background; 'doctor' shows what "
        "failed there.\n"
        "A ready session ends when nobody has taken it for its lease. Of more "
        "than N of\n"
        "the same options the oldest are removed. 0 removes all that stand "
        "ready,\n"
        "whatever they are made of. Prints how many are ready; with --json an "
        "object:\n"
        "ready, removed, others (ready ones of other options).\n",
    .run = run,
};
