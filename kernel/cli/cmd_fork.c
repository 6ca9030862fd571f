#include <inttypes.h>
#include <stdio.h>

#include "command.h"
#include "kernel/fail.h"
#include "kernel/spec.h"
#include "table.h"

static const struct cellar_column columns[] = {
    {"name", NULL}, {"forked_from", NULL}, {"after", NULL}, {"took_us", NULL}};

static void add_row(struct cellar_table *table, const char *name,
                    const char *parent, const struct cellar_moment *moment)
{
    cellar_table_text(table, name);
    cellar_table_text(table, parent);
    cellar_table_number(table, moment->after, "");
    cellar_table_number(table, moment->took_us, "");
}

static enum cellar_code print_json(struct cellar_front *front,
                                   const struct cellar_moment *moment)
{
    const struct cellar_options *options = &front->options;
    struct cellar_table *table = cellar_table_new(columns, 4);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    for (size_t i = 2; i < options->operand_count; i++)
        add_row(table, options->operands[i], options->operands[1], moment);
    enum cellar_code code =
        cellar_table_print(table, CELLAR_TABLE_JSON, &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

static void print_plain(struct cellar_front *front,
                        const struct cellar_moment *moment)
{
    const struct cellar_options *options = &front->options;
    size_t count = options->operand_count - 2;
    cellar_output_printf(
        &front->out,
        "%zu %s of %s: after cell %" PRIu64 ", %" PRIu64 ".%" PRIu64 " ms\n",
        count, count == 1 ? "branch" : "branches", options->operands[1],
        moment->after, moment->took_us / 1000, moment->took_us % 1000 / 100);
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    struct cellar_moment moment = {0};
    for (size_t i = 1; i < options->operand_count; i++)
        if (cellar_name_check(options->operands[i], &front->err) != CELLAR_OK)
            return cellar_front_usage(front, "%s", front->err.msg);
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_front_adopt(front, options->operands[1]) != CELLAR_OK)
        return cellar_front_fail(front);
    if (cellar_fork(front->session, options->operands + 2,
                    options->operand_count - 2, &moment,
                    &front->err) != CELLAR_OK)
        return cellar_front_refused(front);
    if (!options->json)
        print_plain(front, &moment);
    else if (print_json(front, &moment) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

const struct cellar_command cellar_command_fork = {
    .name = "fork",
    .bit = CELLAR_ON_FORK,
    .operands = "NAME NEWNAME...",
    .operands_min = 2,
    .operands_max = 1 + CELLAR_FORK_MAX,
    .text = "Make new sessions that go on from a session's globals",
    .details = "Each is a session like any other, with globals, cells, output, "
               "checkpoints and\n"
               "an end of its own; up to 16 at once. They live in NAME's "
               "container, and share\n"
               "its limits and the files in /tmp and /dev/shm; it goes with "
               "the last of them.\n"
               "With --json a list of {name, forked_from, after, took_us}; "
               "after is the cell\n"
               "of NAME after which they go on.\n",
    .run = run,
};
