#include <stdio.h>

#include "command.h"
#include "kernel/fail.h"
#include "kernel/refill.h"
#include "table.h"
#include "units.h"

static const struct cellar_column columns[] = {{"ready", NULL},
                                               {"removed", NULL}};

static enum cellar_code print(struct cellar_front *front, uint64_t ready,
                              uint64_t removed)
{
    char text[24] = "";
    if (!front->options.json) {
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)ready);
        if (ready > 0)
            cellar_output_printf(&front->out, "%s ready\n", text);
        return CELLAR_OK;
    }
    struct cellar_table *table = cellar_table_new(columns, 2);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_table_number(table, ready, "");
    cellar_table_number(table, removed, "");
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    size_t ready = 0;
    size_t removed = 0;
    uint64_t size = 0;
    if (cellar_unit_parse(CELLAR_UNIT_COUNT, options->operands[1], &size) !=
            CELLAR_OK ||
        size > CELLAR_READY_MAX)
        return cellar_front_usage(front, "'%.64s' is not a number of 0 to %d",
                                  options->operands[1], CELLAR_READY_MAX);
    enum cellar_code code = cellar_front_open(front);
    if (code == CELLAR_OK)
        code = size > 0 ? cellar_refill(front->c, &options->spec, size, &ready,
                                        &front->err)
                        : cellar_ready_clear(front->c, &removed, &front->err);
    if (code == CELLAR_OK)
        code = print(front, ready, removed);
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
        "A ready session ends when nobody has taken it for its lease. 0 "
        "removes all that\n"
        "stand ready, whatever they are made of. Prints how many are ready; "
        "with --json\n"
        "an object: ready, removed.\n",
    .run = run,
};
