#include <inttypes.h>
#include <stdio.h>

#include "command.h"
#include "kernel/fail.h"
#include "kernel/spec.h"
#include "moment.h"
#include "table.h"
#include "units.h"

static const struct cellar_column columns[] = {
    {"checkpoint", "CHECKPOINT"}, {"after", "AFTER CELL"}, {"age_ms", "AGE"}};

static void add_row(void *user, const struct cellar_checkpoint *checkpoint)
{
    struct cellar_table *table = user;
    char after[24] = "";
    char age[CELLAR_UNIT_TEXT_MAX] = "";
    snprintf(after, sizeof after, "%" PRIu64, checkpoint->after);
    cellar_unit_say(CELLAR_UNIT_MILLIS, checkpoint->age_ms, age);
    /* An automatic one has no name: null in JSON. */
    cellar_table_text(table, checkpoint->tag[0] ? checkpoint->tag : NULL);
    cellar_table_number(table, checkpoint->after, after);
    cellar_table_number(table, checkpoint->age_ms, age);
}

static enum cellar_code print_list(struct cellar_front *front,
                                   struct cellar_table *table)
{
    struct cellar_moment moment = {0};
    char held[CELLAR_UNIT_TEXT_MAX] = "";
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    enum cellar_code code = cellar_checkpoint_list(front->session, add_row,
                                                   table, &moment, &front->err);
    if (code == CELLAR_OK)
        code = cellar_table_print(table,
                                  front->options.json ? CELLAR_TABLE_JSON
                                                      : CELLAR_TABLE_COLUMNS,
                                  &front->out, &front->err);
    if (code != CELLAR_OK || front->options.json)
        return code;
    cellar_unit_say(CELLAR_UNIT_BYTES, moment.held_bytes, held);
    cellar_output_printf(&front->out, "They hold %s of the session's memory.\n",
                         held);
    return CELLAR_OK;
}

static int list(struct cellar_front *front)
{
    struct cellar_table *table = cellar_table_new(columns, 3);
    enum cellar_code code = print_list(front, table);
    cellar_table_free(table);
    return code == CELLAR_OK ? CELLAR_EXIT_OK : cellar_front_fail(front);
}

static int take(struct cellar_front *front, const char *tag)
{
    struct cellar_moment moment = {0};
    if (cellar_checkpoint(front->session, tag, &moment, &front->err) !=
        CELLAR_OK)
        return cellar_front_fail(front);
    return cellar_moment_print(front, "checkpoint", tag, &moment);
}

static int drop(struct cellar_front *front, const char *tag)
{
    if (cellar_checkpoint_drop(front->session, tag, &front->err) != CELLAR_OK)
        return cellar_moment_fail(front, front->options.operands[1], tag);
    return cellar_moment_print(front, "deleted", tag, NULL);
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    const char *name = options->operands[1];
    const char *tag = options->operand_count > 2 ? options->operands[2] : NULL;
    if (options->list ? tag || options->drop : !tag)
        return cellar_front_usage(
            front, options->list ? "--list stands alone"
                                 : "a name for the checkpoint is missing");
    if (cellar_name_check(name, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_front_adopt(front, name) != CELLAR_OK)
        return cellar_front_fail(front);
    if (options->list)
        return list(front);
    return options->drop ? drop(front, tag) : take(front, tag);
}

const struct cellar_command cellar_command_checkpoint = {
    .name = "checkpoint",
    .bit = CELLAR_ON_CHECKPOINT,
    .operands = "NAME [TAG]",
    .operands_min = 1,
    .operands_max = 2,
    .text = "Keep a session's globals under a name, to go back to",
    .details = "Kept is what the Python process holds: its globals, and all "
               "they lead to. Files\n"
               "and processes are not; and while threads run there is none to "
               "keep. TAG is a\n"
               "name like a session's; an older checkpoint of that name is "
               "replaced. A session\n"
               "keeps 16 of them, in its memory, until it ends or is reset. "
               "Automatic ones,\n"
               "taken after each cell, are listed without a name. With --json: "
               "{checkpoint,\n"
               "after, took_us}; of --list a list of {checkpoint (null: "
               "automatic), after,\n"
               "age_ms}; of --delete {deleted}. after is the cell after which "
               "it was taken.\n",
    .run = run,
};
