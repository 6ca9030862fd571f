#include <stdlib.h>
#include <string.h>

#include "byname.h"
#include "command.h"
#include "kernel/fail.h"
#include "kernel/refill.h"
#include "kernel/spec.h"
#include "table.h"

static const struct cellar_column columns[] = {{"name", NULL}};

/* The names of all sessions, collected before the first is stopped. */
struct names {
    char **list;
    size_t count;
    size_t unnamed; /* of commands that still run */
    bool failed;
};

static void collect(void *user, const struct cellar_info *info)
{
    struct names *names = user;
    if (!info->name[0]) {
        names->unnamed += strcmp(info->state, "ready") != 0;
        return;
    }
    char **more =
        realloc(names->list, (names->count + 1) * sizeof *names->list);
    if (more) {
        names->list = more;
        more[names->count] = strdup(info->name);
    }
    if (!more || !more[names->count]) {
        names->failed = true;
        return;
    }
    names->count++;
}

static void free_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i]);
    free(names->list);
}

/* Stops each; one that fails does not keep the others. */
static int stop_each(struct cellar_front *front, const struct names *names,
                     struct cellar_table *table)
{
    int status = CELLAR_EXIT_OK;
    for (size_t i = 0; i < names->count; i++) {
        if (cellar_stop_name(front->c, names->list[i], &front->err) ==
            CELLAR_OK)
            cellar_table_text(table, names->list[i]);
        /* It may end by itself between the listing and now. */
        else if (front->err.code != CELLAR_E_NOT_FOUND)
            status = cellar_front_fail(front);
    }
    return status;
}

static int stop_listed(struct cellar_front *front, struct names *names)
{
    struct cellar_table *table = NULL;
    if (cellar_list(front->c, collect, names, &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    if (!names->failed)
        table = cellar_table_new(columns, 1);
    if (!table) {
        cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
        return cellar_front_fail(front);
    }
    int status = stop_each(front, names, table);
    if (names->unnamed > 0)
        cellar_output_printf(&front->err_out,
                             "cellar: %zu unnamed sessions belong to commands "
                             "that run, and end with them\n",
                             names->unnamed);
    if (front->options.json &&
        cellar_table_print(table, CELLAR_TABLE_JSON, &front->out,
                           &front->err) != CELLAR_OK)
        status = cellar_front_fail(front);
    cellar_table_free(table);
    return status;
}

/* Ready ones first: what a pool is filled up with meanwhile is not seen. */
static int stop_all(struct cellar_front *front)
{
    struct names names = {0};
    size_t removed = 0;
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_ready_clear(front->c, &removed, &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    int status = stop_listed(front, &names);
    free_names(&names);
    return status;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    bool named = options->operand_count > 1;
    if (options->all == named)
        return cellar_front_usage(
            front, named ? "both NAME and --all are given; give one"
                         : "'cellar stop' needs NAME or --all");
    return named ? cellar_byname_run(front, cellar_stop_name) : stop_all(front);
}

const struct cellar_command cellar_command_stop = {
    .name = "stop",
    .bit = CELLAR_ON_STOP,
    .operands = "NAME",
    .operands_min = 0,
    .operands_max = 1,
    .text = "Remove a session and its container",
    .details = "A container that branches share goes with the last of them. "
               "--all removes\n"
               "every named session of this state directory, and all that "
               "stand ready in a\n"
               "pool. With --json the name is printed as an object, with "
               "--all a list of them.\n",
    .run = run,
};
