#include <inttypes.h>
#include <stdio.h>

#include "cellar/history.h"
#include "command.h"
#include "entry.h"
#include "kernel/fail.h"
#include "kernel/spec.h"
#include "past.h"
#include "table.h"
#include "units.h"

/* ------------------------------------------------------- all sessions -- */

static const struct cellar_column columns[] = {
    {"name", "NAME"},       {"id", "ID"},
    {"created", "CREATED"}, {"ended", "ENDED"},
    {"ending", "ENDING"},   {"reason", NULL},
    {"cells", "CELLS"},     {"output_bytes", "OUTPUT"},
    {"image", "IMAGE"},     {"engine", NULL},
    {"container", NULL},    {"python", NULL},
};
#define COLUMN_COUNT (sizeof columns / sizeof columns[0])

static void add_time(struct cellar_table *table, uint64_t ms)
{
    char when[CELLAR_WHEN_MAX] = "";
    cellar_past_when(ms, when);
    if (ms)
        cellar_table_number(table, ms / 1000, when);
    else
        cellar_table_text(table, NULL);
}

static void add_count(struct cellar_table *table, uint64_t count)
{
    char text[24] = "";
    snprintf(text, sizeof text, "%" PRIu64, count);
    cellar_table_number(table, count, text);
}

/* NULL for a text that is empty: null in JSON, "-" for people. */
static const char *filled(const char *text)
{
    return text && text[0] ? text : NULL;
}

static void add_session(void *user, const struct cellar_past *past)
{
    struct cellar_table *table = user;
    char output[CELLAR_UNIT_TEXT_MAX] = "";
    cellar_unit_say(CELLAR_UNIT_BYTES, past->output_bytes, output);
    cellar_table_text(table, past->name);
    add_count(table, past->id);
    add_time(table, past->created_ms);
    add_time(table, past->ended_ms);
    cellar_table_text(table, filled(past->ending));
    cellar_table_text(table, filled(past->reason));
    add_count(table, past->cells);
    cellar_table_number(table, past->output_bytes, output);
    cellar_table_text(table, past->image);
    cellar_table_text(table, past->engine);
    cellar_table_text(table, past->container);
    cellar_table_text(table, past->python);
}

static int list_sessions(struct cellar_front *front)
{
    struct cellar_table *table = cellar_table_new(columns, COLUMN_COUNT);
    enum cellar_code code =
        table
            ? cellar_history_sessions(front->c, add_session, table, &front->err)
            : cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    if (code == CELLAR_OK)
        code = cellar_table_print(table,
                                  front->options.json ? CELLAR_TABLE_JSON
                                                      : CELLAR_TABLE_COLUMNS,
                                  &front->out, &front->err);
    cellar_table_free(table);
    return code == CELLAR_OK ? CELLAR_EXIT_OK : cellar_front_fail(front);
}

/* -------------------------------------------------------- one session -- */

struct reading {
    struct cellar_front *front;
    struct cellar_entry_view view;
    uint64_t skip;  /* how many to pass over before the first */
    uint64_t count; /* of all that were given */
    bool shown;     /* one was */
    struct cellar_error err;
};

static void show(void *user, const struct cellar_entry *entry)
{
    struct reading *reading = user;
    struct cellar_front *front = reading->front;
    uint64_t only = front->options.cell;
    bool passed = reading->count++ < reading->skip;
    if (passed || (only && entry->cell != only) ||
        reading->err.code != CELLAR_OK || cellar_front_quit(front))
        return;
    reading->shown = true;
    if (front->options.json)
        (void)cellar_entry_json(&front->out, entry, &reading->err);
    else
        cellar_entry_print(&front->out, &reading->view, entry);
    /* Waits for a slow reader: a history may be larger than memory. */
    cellar_front_flush(front);
}

static void count_one(void *user, const struct cellar_entry *entry)
{
    uint64_t *count = user;
    (void)entry;
    (*count)++;
}

/* Where to begin for the last `last` cells. Numbers may have been left out
 * while the journal could not be written: so what is there is counted. */
static enum cellar_code find_last(struct cellar_front *front,
                                  const struct cellar_pick *pick,
                                  uint64_t *first, uint64_t *skip)
{
    uint64_t last = front->options.last;
    uint64_t count = 0;
    *first = pick->cells > last ? pick->cells - last + 1 : 0;
    enum cellar_code code = cellar_history_id(front->c, pick->id, *first,
                                              count_one, &count, &front->err);
    *skip = count > last ? count - last : 0;
    return code;
}

static void print_head(struct cellar_output *out,
                       const struct cellar_pick *pick)
{
    char created[CELLAR_WHEN_MAX] = "";
    char ended[CELLAR_WHEN_MAX] = "";
    cellar_past_when(pick->created_ms, created);
    cellar_past_when(pick->ended_ms, ended);
    cellar_output_printf(out, "== %s (id %" PRIu64 "), %s, Python %s\n",
                         pick->name, pick->id, pick->image, pick->python);
    cellar_output_printf(out, "== started %s", created);
    if (pick->ended_ms)
        cellar_output_printf(out, ", %s %s", pick->ending, ended);
    cellar_output_printf(out, "%s%s\n\n", pick->reason[0] ? ": " : "",
                         pick->reason);
}

static enum cellar_code read_cells(struct cellar_front *front,
                                   const struct cellar_pick *pick)
{
    const struct cellar_options *options = &front->options;
    struct reading reading = {.front = front,
                              .view.ended = pick->ended_ms != 0};
    uint64_t first = options->cell;
    if (options->last) {
        enum cellar_code code = find_last(front, pick, &first, &reading.skip);
        if (code != CELLAR_OK)
            return code;
    }
    if (!options->json && !options->cell)
        print_head(&front->out, pick);
    enum cellar_code code = cellar_history_id(front->c, pick->id, first, show,
                                              &reading, &front->err);
    if (code == CELLAR_OK && reading.err.code != CELLAR_OK) {
        front->err = reading.err;
        return reading.err.code;
    }
    if (code == CELLAR_OK && options->cell && !reading.shown)
        return cellar_fail(&front->err, CELLAR_E_NOT_FOUND,
                           "the journal has no cell %" PRIu64
                           " of session '%s' (id %" PRIu64 ")",
                           options->cell, pick->name, pick->id);
    return code;
}

static int show_session(struct cellar_front *front)
{
    struct cellar_pick pick = {0};
    if (cellar_past_pick(front, &pick) != CELLAR_OK ||
        read_cells(front, &pick) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

/* ------------------------------------------------------------ pruning -- */

static const struct cellar_column pruned_columns[] = {
    {"sessions", NULL},
    {"cells", NULL},
    {"freed_bytes", NULL},
    {"size_bytes", NULL},
};

static enum cellar_code print_pruned(struct cellar_front *front,
                                     const struct cellar_pruned *pruned)
{
    char freed[CELLAR_UNIT_TEXT_MAX] = "";
    char left[CELLAR_UNIT_TEXT_MAX] = "";
    cellar_unit_say(CELLAR_UNIT_BYTES, pruned->bytes, freed);
    cellar_unit_say(CELLAR_UNIT_BYTES, pruned->size_bytes, left);
    if (!front->options.json) {
        cellar_output_printf(&front->out,
                             "sessions removed: %" PRIu64
                             "\ncells whose output was removed: %" PRIu64
                             "\nthe journal is smaller by: %s\nand now has: "
                             "%s\n",
                             pruned->sessions, pruned->cells, freed, left);
        return CELLAR_OK;
    }
    struct cellar_table *table = cellar_table_new(pruned_columns, 4);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    add_count(table, pruned->sessions);
    add_count(table, pruned->cells);
    add_count(table, pruned->bytes);
    add_count(table, pruned->size_bytes);
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

static int prune(struct cellar_front *front)
{
    struct cellar_pruned pruned = {0};
    if (cellar_history_prune(front->c, front->options.age_ms,
                             front->options.size_bytes, &pruned,
                             &front->err) != CELLAR_OK ||
        print_pruned(front, &pruned) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

/* ----------------------------------------------------------- the whole -- */

/* What is wrong with the words together; NULL: nothing. */
static const char *contradiction(const struct cellar_options *options)
{
    bool named = options->operand_count > 1;
    bool picks = options->id || options->cell || options->last;
    bool bounds = cellar_options_given(options, "age") ||
                  cellar_options_given(options, "size");
    if (options->prune && (named || picks))
        return "--prune is about the whole journal; it takes --age and --size "
               "only";
    if (bounds && !options->prune)
        return "--age and --size are bounds of --prune, which is missing";
    if (picks && !named)
        return "--id, --cell and --last need the NAME of a session";
    if (options->cell && options->last)
        return "both --cell and --last are given; give one";
    return NULL;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    const char *wrong = contradiction(options);
    bool named = options->operand_count > 1;
    if (wrong)
        return cellar_front_usage(front, "%s", wrong);
    if (named &&
        cellar_name_check(options->operands[1], &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (cellar_front_open(front) != CELLAR_OK)
        return cellar_front_fail(front);
    if (options->prune)
        return prune(front);
    return named ? show_session(front) : list_sessions(front);
}

const struct cellar_command cellar_command_history = {
    .name = "history",
    .bit = CELLAR_ON_HISTORY,
    .operands = "[NAME]",
    .operands_min = 0,
    .operands_max = 1,
    .text = "Show what a session ran, also one that is gone",
    .details =
        "Without NAME the sessions in the journal, live ones and past ones. "
        "With NAME\n"
        "the cells of the newest session called so: when each was run, its "
        "code, what it\n"
        "printed and how it ended. Unnamed sessions leave no history.\n\n"
        "With --json a list of the sessions: name, id, created and ended "
        "(seconds since\n"
        "1970; null while it lives), ending, reason, cells, output_bytes, "
        "image, engine,\n"
        "container, python. With NAME one object per cell and line: cell, "
        "code, began,\n"
        "ended, resets and restores (of the session before the cell), "
        "back_to (the\n"
        "cell that the last of these restores went back to), untold (it ended "
        "while\n"
        "nobody was attached, and nobody was told yet), pruned (its output "
        "was), result.\n"
        "While the cell runs, ended is null, and so are status and state of "
        "the result.\n\n"
        "Sessions that ended 30 days ago are removed by themselves, and the "
        "oldest ones\n"
        "when the journal is larger than 1 GiB. --prune does it now, to other "
        "bounds.\n",
    .run = run,
};
