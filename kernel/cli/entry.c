#include "entry.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "kernel/fail.h"
#include "kernel/json.h"
#include "kernel/spec.h"
#include "past.h"
#include "print.h"
#include "units.h"

/* Enough for seconds since 1970 with milliseconds. */
#define TIME_DIGITS 14

/* --------------------------------------------------------- for people -- */

static void print_when(struct cellar_output *out,
                       const struct cellar_entry *entry)
{
    char began[CELLAR_WHEN_MAX] = "";
    char took[CELLAR_UNIT_TEXT_MAX] = "";
    cellar_past_when(entry->began_ms, began);
    if (entry->ended_ms >= entry->began_ms && entry->began_ms > 0)
        cellar_unit_say(CELLAR_UNIT_MILLIS, entry->ended_ms - entry->began_ms,
                        took);
    cellar_output_printf(out, "-- %s%s%s\n", began, took[0] ? ", " : "", took);
}

static void print_output(struct cellar_output *out,
                         const struct cellar_result *result)
{
    cellar_output_write(out, result->stdout_text, result->stdout_len);
    cellar_output_end_line(out);
    cellar_output_write(out, result->stderr_text, result->stderr_len);
    cellar_output_end_line(out);
}

static void print_state(struct cellar_output *out, bool ended,
                        const struct cellar_entry *entry)
{
    if (!entry->ended_ms)
        cellar_output_printf(out, "cell %" PRIu64 ": %s\n", entry->cell,
                             ended ? "cut off with its session"
                                   : "it has not ended");
    if (entry->untold)
        cellar_output_printf(out,
                             "cell %" PRIu64 ": ended while nobody was "
                             "attached\n",
                             entry->cell);
    if (entry->pruned)
        cellar_output_printf(out, "cell %" PRIu64 ": its output was pruned\n",
                             entry->cell);
}

/* A cell that runs has no ending yet, only what it printed. */
static void print_result(struct cellar_output *out,
                         const struct cellar_entry *entry)
{
    if (!entry->result)
        return;
    struct cellar_result shown = *entry->result;
    if (!entry->ended_ms) {
        shown.status = CELLAR_STATUS_OK;
        shown.state = CELLAR_STATE_KEPT;
    }
    print_output(out, &shown);
    cellar_print_ending(out, &shown);
}

void cellar_entry_print(struct cellar_output *out,
                        struct cellar_entry_view *view,
                        const struct cellar_entry *entry)
{
    static const char unknown[] = "(its code is not known)";
    const char *code = entry->code ? entry->code : unknown;
    cellar_output_text(out, view->any ? "\n" : "");
    if (view->any && entry->resets != view->resets)
        cellar_output_text(out, "-- the session was reset here\n\n");
    if (view->any && entry->restores != view->restores)
        cellar_output_printf(
            out, "-- the session was restored here, to cell %" PRIu64 "\n\n",
            entry->back_to);
    view->any = true;
    view->resets = entry->resets;
    view->restores = entry->restores;
    print_when(out, entry);
    cellar_print_code(out, entry->cell, code,
                      entry->code ? entry->code_len : strlen(unknown), true);
    print_result(out, entry);
    print_state(out, view->ended, entry);
}

/* --------------------------------------------------------------- JSON -- */

static json_t *seconds(uint64_t ms)
{
    return ms ? json_real((double)ms / 1000.0) : json_null();
}

/* The one result object, made of its own JSON. NULL: out of memory. */
static json_t *result_object(const struct cellar_entry *entry)
{
    if (!entry->result)
        return json_null();
    CELLAR_AUTO_FREE char *text = cellar_result_json(entry->result);
    json_t *object =
        text ? cellar_json_parse(text, strlen(text), JSON_ALLOW_NUL, NULL)
             : NULL;
    if (!object || entry->ended_ms)
        return object;
    if (json_object_set_new(object, "status", json_null()) == 0 &&
        json_object_set_new(object, "state", json_null()) == 0)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *code_of(const struct cellar_entry *entry)
{
    return entry->code ? json_stringn(entry->code, entry->code_len)
                       : json_null();
}

static json_t *object_of(const struct cellar_entry *entry)
{
    return json_pack(
        "{s:I, s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:b, s:o}", "cell",
        (json_int_t)entry->cell, "code", code_of(entry), "began",
        seconds(entry->began_ms), "ended", seconds(entry->ended_ms), "resets",
        (json_int_t)entry->resets, "restores", (json_int_t)entry->restores,
        "back_to", (json_int_t)entry->back_to, "untold", entry->untold,
        "pruned", entry->pruned, "result", result_object(entry));
}

enum cellar_code cellar_entry_json(struct cellar_output *out,
                                   const struct cellar_entry *entry,
                                   struct cellar_error *err)
{
    json_t *object = object_of(entry);
    CELLAR_AUTO_FREE char *text =
        cellar_json_text(object, JSON_COMPACT | JSON_ENSURE_ASCII |
                                     JSON_REAL_PRECISION(TIME_DIGITS));
    json_decref(object);
    if (!text)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    cellar_output_text(out, text);
    cellar_output_text(out, "\n");
    return CELLAR_OK;
}
