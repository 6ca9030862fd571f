#include "print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel/fail.h"
#include "kernel/json.h"
#include "kernel/spec.h"
#include "kernel/utf8.h"
#include "units.h"

void cellar_print_code(struct cellar_output *out, uint64_t cell,
                       const char *code, size_t len, bool first)
{
    char prompt[40] = "";
    int width = snprintf(prompt, sizeof prompt, "In [%" PRIu64 "]: ", cell);
    cellar_output_end_line(out);
    cellar_output_text(out, first ? "" : "\n");
    cellar_output_text(out, prompt);
    while (len > 0) {
        const char *end = memchr(code, '\n', len);
        size_t line = end ? (size_t)(end - code) : len;
        cellar_output_write(out, code, line);
        cellar_output_text(out, "\n");
        line += end ? 1 : 0;
        code += line;
        len -= line;
        if (len > 0)
            cellar_output_printf(out, "%*s", width, "...: ");
    }
    cellar_output_end_line(out);
}

/* The text of a MIME bundle, or a word on what it holds in its place. */
static void print_bundle(struct cellar_output *out, const char *label,
                         const struct cellar_part *parts, size_t count)
{
    const struct cellar_part *shown = &parts[0];
    for (size_t i = 0; i < count; i++)
        if (strcmp(parts[i].type, "text/plain") == 0)
            shown = &parts[i];
    cellar_output_end_line(out);
    cellar_output_text(out, label);
    if (strcmp(shown->type, "text/plain") == 0)
        cellar_output_write(out, shown->data, shown->len);
    else
        cellar_output_printf(out, "<%s, %zu bytes>", shown->type, shown->len);
    cellar_output_end_line(out);
}

static void print_displays(struct cellar_output *out,
                           const struct cellar_result *result)
{
    for (size_t i = 0; i < result->display_count; i++)
        if (result->displays[i].count > 0)
            print_bundle(out, "", result->displays[i].parts,
                         result->displays[i].count);
}

/* A result of many lines begins below its label, so that its columns, say a
 * table's, stay in line. */
static void print_result(struct cellar_output *out, const char *label,
                         const struct cellar_result *result)
{
    char below[48] = "";
    if (result->result_count == 0)
        return;
    if (label[0] && strchr(cellar_result_text(result), '\n')) {
        snprintf(below, sizeof below, "%s\n", label);
        label = below;
    }
    print_bundle(out, label, result->result, result->result_count);
}

static void print_error(struct cellar_output *out,
                        const struct cellar_result *result)
{
    if (result->traceback && result->traceback[0]) {
        cellar_output_end_line(out);
        cellar_output_text(out, result->traceback);
        cellar_output_end_line(out);
    } else if (result->error_name) {
        cellar_output_end_line(out);
        cellar_output_printf(out, "%s: %s\n", result->error_name,
                             result->error_message ? result->error_message
                                                   : "");
    }
}

/* ------------------------------------------------------ ending lines -- */

static void say_limit(const struct cellar_result *result, char *text,
                      size_t size)
{
    char amount[CELLAR_UNIT_TEXT_MAX] = "";
    if (result->limit == CELLAR_LIMIT_NONE || result->limit_value == 0)
        return;
    bool time = result->limit == CELLAR_LIMIT_TIMEOUT;
    cellar_unit_say(time ? CELLAR_UNIT_MILLIS : CELLAR_UNIT_BYTES,
                    result->limit_value, amount);
    snprintf(text, size, " %s %s", time ? "after" : "at", amount);
}

static void say_status(const struct cellar_result *result, char *text,
                       size_t size)
{
    char limit[CELLAR_UNIT_TEXT_MAX + 16] = "";
    const char *name = NULL;
    switch (result->status) {
    case CELLAR_STATUS_OK:
    case CELLAR_STATUS_ERROR:
        break;
    case CELLAR_STATUS_INTERRUPTED:
        snprintf(text, size, "interrupted");
        break;
    case CELLAR_STATUS_TIMEOUT:
        say_limit(result, limit, sizeof limit);
        snprintf(text, size, "timeout%s", limit);
        break;
    case CELLAR_STATUS_OUT_OF_MEMORY:
        say_limit(result, limit, sizeof limit);
        snprintf(text, size, "out of memory%s", limit);
        break;
    case CELLAR_STATUS_KILLED:
        name = sigabbrev_np(result->signal);
        snprintf(text, size, "killed by signal %d%s%s%s", result->signal,
                 name ? " (SIG" : "", name ? name : "", name ? ")" : "");
        break;
    case CELLAR_STATUS_EXITED:
        snprintf(text, size, "exited with status %d", result->exit_code);
        break;
    case CELLAR_STATUS_LOST:
        snprintf(text, size, "lost: %.300s",
                 result->reason ? result->reason : "the container is gone");
        break;
    }
}

static void say_state(const struct cellar_result *result, char *text,
                      size_t size)
{
    const char *reason = result->reason ? result->reason : "";
    const char *colon = result->reason ? ": " : "";
    if (result->state == CELLAR_STATE_RESTORED)
        snprintf(text, size,
                 "; state restored to that after cell %" PRIu64 "%s%.60s",
                 result->restored_from, colon, reason);
    else if (result->status != CELLAR_STATUS_LOST)
        snprintf(text, size, "; state %s%s%.60s",
                 cellar_state_name(result->state), colon, reason);
}

void cellar_print_ending_line(const struct cellar_result *result,
                              char line[CELLAR_ENDING_MAX])
{
    char status[CELLAR_ENDING_MAX - 128] = "";
    char state[128] = "";
    line[0] = '\0';
    say_status(result, status, sizeof status);
    /* An exception keeps the state, and its traceback says the rest. */
    if (!status[0] && result->state == CELLAR_STATE_KEPT)
        return;
    say_state(result, state, sizeof state);
    snprintf(line, CELLAR_ENDING_MAX, "%s%s",
             status[0] ? status : cellar_status_name(result->status), state);
}

static void print_ending_line(struct cellar_output *out,
                              const struct cellar_result *result)
{
    char line[CELLAR_ENDING_MAX] = "";
    cellar_output_end_line(out);
    if (result->truncated)
        cellar_output_printf(out,
                             "cell %" PRIu64 ": output cut; %" PRIu64
                             " bytes more were dropped\n",
                             result->cell, result->dropped_bytes);
    cellar_print_ending_line(result, line);
    if (line[0])
        cellar_output_printf(out, "cell %" PRIu64 ": %s\n", result->cell, line);
}

/* --------------------------------------------------------- the whole -- */

void cellar_print_ending(struct cellar_output *out,
                         const struct cellar_result *result)
{
    char label[40] = "";
    snprintf(label, sizeof label, "Out[%" PRIu64 "]: ", result->cell);
    cellar_output_end_line(out);
    print_displays(out, result);
    print_result(out, label, result);
    print_error(out, result);
    print_ending_line(out, result);
}

void cellar_print_plain(struct cellar_output *out,
                        struct cellar_output *err_out,
                        const struct cellar_result *result)
{
    print_displays(out, result);
    print_result(out, "", result);
    print_error(err_out, result);
    print_ending_line(err_out, result);
}

void cellar_print_file_json(struct cellar_output *out, const char *file,
                            const struct cellar_result *result)
{
    CELLAR_AUTO_FREE char *json = cellar_result_json(result);
    CELLAR_AUTO_FREE char *sound = cellar_utf8_mend(file, strlen(file), NULL);
    json_t *name = sound ? json_string(sound) : NULL;
    CELLAR_AUTO_FREE char *text = cellar_json_text(name, JSON_ENCODE_ANY);
    json_decref(name);
    if (!json || !text) {
        out->sys_errno = ENOMEM;
        return;
    }
    cellar_output_printf(out, "{\"file\":%s,%s\n", text, json + 1);
}

void cellar_print_json(struct cellar_output *out,
                       const struct cellar_result *result)
{
    CELLAR_AUTO_FREE char *json = cellar_result_json(result);
    if (!json) {
        out->sys_errno = ENOMEM;
        return;
    }
    cellar_output_text(out, json);
    cellar_output_end_line(out);
}
