#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "command.h"
#include "kernel/fail.h"
#include "kernel/json.h"
#include "kernel/loop.h"
#include "kernel/spec.h"
#include "signals.h"
#include "units.h"

/* Over how long the CPU of the first row is measured. */
#define FIRST_MS 200

/* One row: what a session uses, and what its checkpoints hold. */
struct row {
    struct cellar_stats stats;
    uint64_t checkpoints; /* CELLAR_UNKNOWN: it can't be told */
    uint64_t held_bytes;
};

/* Rows between two lines of titles, for people. */
#define ROWS_PER_TITLE 20

/* Thousandths of a core in use between two measurements. */
static uint64_t cpu_millis(const struct cellar_stats *before,
                           const struct cellar_stats *now)
{
    if (before->cpu_us == CELLAR_UNKNOWN || now->cpu_us == CELLAR_UNKNOWN ||
        now->taken_us <= before->taken_us || now->cpu_us < before->cpu_us)
        return CELLAR_UNKNOWN;
    return (uint64_t)((double)(now->cpu_us - before->cpu_us) * 1000.0 /
                      (double)(now->taken_us - before->taken_us));
}

static void say(enum cellar_unit unit, uint64_t value,
                char text[CELLAR_UNIT_TEXT_MAX])
{
    if (value == CELLAR_UNKNOWN)
        snprintf(text, CELLAR_UNIT_TEXT_MAX, "-");
    else
        cellar_unit_say(unit, value, text);
}

static void print_titles(struct cellar_output *out)
{
    cellar_output_printf(out, "%-8s %7s %25s %11s %15s %11s %7s  %s\n", "TIME",
                         "CPU", "MEMORY / LIMIT", "PIDS", "CHECKPOINTS",
                         "OUTPUT", "CELLS", "STATE");
}

static void print_row(struct cellar_output *out, uint64_t millis,
                      const struct row *row)
{
    const struct cellar_stats *stats = &row->stats;
    char at[16] = "";
    char cpu[CELLAR_UNIT_TEXT_MAX] = "-";
    char texts[7][CELLAR_UNIT_TEXT_MAX] = {""};
    time_t now = time(NULL);
    struct tm parts = {0};
    if (localtime_r(&now, &parts))
        (void)strftime(at, sizeof at, "%H:%M:%S", &parts);
    if (millis != CELLAR_UNKNOWN)
        snprintf(cpu, sizeof cpu, "%.1f%%", (double)millis / 10.0);
    say(CELLAR_UNIT_BYTES, stats->memory_bytes, texts[0]);
    say(CELLAR_UNIT_BYTES, stats->memory_limit_bytes, texts[1]);
    say(CELLAR_UNIT_COUNT, stats->pids, texts[2]);
    say(CELLAR_UNIT_COUNT, stats->pids_limit, texts[3]);
    say(CELLAR_UNIT_BYTES, stats->output_bytes, texts[4]);
    say(CELLAR_UNIT_COUNT, row->checkpoints, texts[5]);
    say(CELLAR_UNIT_BYTES, row->held_bytes, texts[6]);
    cellar_output_printf(
        out,
        "%-8s %7s %11s / %11s %4s / %4s %2s / %10s %11s %7" PRIu64 "  %s\n", at,
        cpu, texts[0], texts[1], texts[2], texts[3], texts[5], texts[6],
        texts[4], stats->cells, stats->state ? stats->state : "-");
}

static json_t *number(uint64_t value)
{
    return value == CELLAR_UNKNOWN ? json_null()
                                   : json_integer((json_int_t)value);
}

static json_t *percent(uint64_t millis)
{
    return millis == CELLAR_UNKNOWN ? json_null()
                                    : json_real((double)millis / 10.0);
}

static json_t *object_of(const char *name, uint64_t millis,
                         const struct row *row)
{
    const struct cellar_stats *stats = &row->stats;
    return json_pack(
        "{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}",
        "name", name, "time_s", (json_int_t)time(NULL), "cpu_percent",
        percent(millis), "cpu_us", number(stats->cpu_us), "memory_bytes",
        number(stats->memory_bytes), "memory_limit_bytes",
        number(stats->memory_limit_bytes), "pids", number(stats->pids),
        "pids_limit", number(stats->pids_limit), "checkpoints",
        number(row->checkpoints), "checkpoint_bytes", number(row->held_bytes),
        "output_bytes", number(stats->output_bytes), "cells",
        number(stats->cells), "state", stats->state ? stats->state : "");
}

static enum cellar_code print_json(struct cellar_front *front, uint64_t millis,
                                   const struct row *row)
{
    json_t *object = object_of(front->options.operands[1], millis, row);
    CELLAR_AUTO_FREE char *text = cellar_json_text(
        object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    json_decref(object);
    if (!text)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_output_text(&front->out, text);
    cellar_output_text(&front->out, "\n");
    return CELLAR_OK;
}

static bool is_idle(const struct row *row)
{
    return row->stats.state && strcmp(row->stats.state, "idle") == 0;
}

/* While a session is idle its checkpoints stay what they are: it is taken to be
 * asked once, and its lease is not lengthened by who only looks. */
static void count_checkpoints(struct cellar_front *front, struct row *row,
                              const struct row *before)
{
    struct cellar_moment moment = {0};
    bool same = is_idle(row) && before->checkpoints != CELLAR_UNKNOWN &&
                is_idle(before) && before->stats.cells == row->stats.cells;
    if (same)
        moment = (struct cellar_moment){.count = before->checkpoints,
                                        .held_bytes = before->held_bytes};
    bool known =
        same || cellar_copies_name(front->c, front->options.operands[1],
                                   &moment, NULL) == CELLAR_OK;
    row->checkpoints = known ? moment.count : CELLAR_UNKNOWN;
    row->held_bytes = known ? moment.held_bytes : CELLAR_UNKNOWN;
}

static enum cellar_code measure(struct cellar_front *front, struct row *row)
{
    return cellar_stats_name(front->c, front->options.operands[1], &row->stats,
                             &front->err);
}

/* Waits for the time of the next row: an engine may take its own time to
 * measure, which counts. False: the user ended it. */
static bool wait_for_row(struct cellar_front *front, uint64_t row,
                         uint64_t *due_us)
{
    uint64_t interval_ms = row == 0 ? FIRST_MS : front->options.interval_ms;
    uint64_t now_us = cellar_loop_now_us();
    *due_us += interval_ms * 1000;
    if (*due_us < now_us)
        *due_us = now_us;
    return cellar_front_pause(front, (*due_us - now_us + 999) / 1000);
}

/* One row. E_AGAIN: the user ended it. */
static enum cellar_code show_next(struct cellar_front *front, uint64_t number,
                                  uint64_t *due_us, struct row *before)
{
    struct row now = {0};
    if (!wait_for_row(front, number, due_us))
        return CELLAR_E_AGAIN;
    enum cellar_code code = measure(front, &now);
    if (code != CELLAR_OK)
        return code;
    uint64_t millis = cpu_millis(&before->stats, &now.stats);
    count_checkpoints(front, &now, before);
    if (front->options.json)
        code = print_json(front, millis, &now);
    else {
        if (number % ROWS_PER_TITLE == 0)
            print_titles(&front->out);
        print_row(&front->out, millis, &now);
    }
    cellar_front_flush(front);
    *before = now;
    return code;
}

/* Ctrl-C is how one ends it; any other signal and a dead stdout are told. */
static int ended_by_user(const struct cellar_front *front)
{
    bool fine = cellar_signals_quit() == 0 && cellar_output_ok(&front->out);
    return fine ? CELLAR_EXIT_OK : cellar_front_quit(front);
}

static int watch(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    struct row before = {.checkpoints = CELLAR_UNKNOWN};
    uint64_t count = options->count;
    uint64_t row = 0;
    uint64_t due_us = cellar_loop_now_us();
    if (count == 0 && !front->out.tty)
        count = 1;
    enum cellar_code code = measure(front, &before);
    while (code == CELLAR_OK && (count == 0 || row < count)) {
        code = show_next(front, row, &due_us, &before);
        row += code == CELLAR_OK;
    }
    if (code == CELLAR_E_AGAIN)
        return ended_by_user(front);
    /* The session's end ends the watching; why, is told where it is known. */
    bool gone = code == CELLAR_E_NOT_FOUND || code == CELLAR_E_LOST;
    int status = CELLAR_EXIT_OK;
    if (code != CELLAR_OK && !(code == CELLAR_E_NOT_FOUND && row > 0))
        status = cellar_front_fail(front);
    return gone && row > 0 ? CELLAR_EXIT_OK : status;
}

static int run(struct cellar_front *front)
{
    const char *name = front->options.operands[1];
    if (cellar_name_check(name, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_signals_catch(front->c, &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    return watch(front);
}

const struct cellar_command cellar_command_stats = {
    .name = "stats",
    .bit = CELLAR_ON_STATS,
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .text = "Show what a session uses, row by row",
    .details =
        "A row per interval, until Ctrl-C or the session's end; one row where "
        "stdout is\n"
        "no terminal. CPU is that since the row before, 100% one core; "
        "CHECKPOINTS how\n"
        "many, and the memory they hold; OUTPUT what all cells printed, "
        "dropped output\n"
        "counted. With --json an object per row: name, time_s (seconds "
        "since 1970),\n"
        "cpu_percent, cpu_us (since the start), memory_bytes, "
        "memory_limit_bytes,\n"
        "pids, pids_limit, checkpoints, checkpoint_bytes, output_bytes, "
        "cells, state;\n"
        "null where it can't be had.\n",
    .run = run,
};
