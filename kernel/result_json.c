/*
 * The result object in JSON. Its keys, in order:
 *
 *   cell, status, state, restored_from (null unless state is "restored"),
 *   checkpoint {taken: true}, or {taken: false, why}; null where none was due
 *   stdout, stderr, truncated, dropped_bytes,
 *   result     a MIME bundle, or null
 *   displays   MIME bundles
 *   error      {name, message, traceback: [lines]}, null unless status "error"
 *   limit      {name, value, unit}, null when none was hit
 *   exit_code  null unless status is "exited"
 *   signal     "SIGSEGV", null unless status is "killed"
 *   reason     the engine's words when status is "lost"; why the state was not
 * kept before a cell that ended by itself; else null usage      {wall_us,
 * cpu_us, peak_memory_bytes}
 */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "result.h"

/* json_string() refuses what is not UTF-8; all texts here were mended. */
static json_t *text(const char *bytes, size_t len)
{
    return json_stringn(bytes ? bytes : "", bytes ? len : 0);
}

static json_t *maybe_text(const char *string)
{
    return string ? json_string(string) : json_null();
}

static json_t *number(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

/* Takes `made`: NULL where a part of it could not be made. All that follows
 * is made of these, so that JSON is whole or not there. */
static json_t *whole(json_t *made, bool fine)
{
    if (fine)
        return made;
    json_decref(made);
    return NULL;
}

static json_t *bundle(const struct cellar_part *parts, size_t count)
{
    json_t *object = json_object();
    bool fine = object != NULL;
    for (size_t i = 0; fine && i < count; i++)
        fine = json_object_set_new(object, parts[i].type,
                                   text(parts[i].data, parts[i].len)) == 0;
    return whole(object, fine);
}

static json_t *displays(const struct cellar_result *result)
{
    json_t *array = json_array();
    bool fine = array != NULL;
    for (size_t i = 0; fine && i < result->display_count; i++)
        fine = json_array_append_new(array,
                                     bundle(result->displays[i].parts,
                                            result->displays[i].count)) == 0;
    return whole(array, fine);
}

static json_t *lines(const char *joined)
{
    json_t *array = json_array();
    bool fine = array != NULL;
    while (fine && joined && *joined) {
        size_t len = strcspn(joined, "\n");
        fine = json_array_append_new(array, text(joined, len)) == 0;
        joined += len + (joined[len] == '\n');
    }
    return whole(array, fine);
}

static json_t *error(const struct cellar_result *result)
{
    if (!result->error_name)
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "name", maybe_text(result->error_name),
                     "message", maybe_text(result->error_message), "traceback",
                     lines(result->traceback));
}

static json_t *limit(const struct cellar_result *result)
{
    const char *name = cellar_limit_name(result->limit);
    if (result->limit == CELLAR_LIMIT_NONE || !name)
        return json_null();
    if (result->limit == CELLAR_LIMIT_TIMEOUT ||
        result->limit == CELLAR_LIMIT_LIFETIME)
        return json_pack("{s:s, s:f, s:s}", "name", name, "value",
                         (double)result->limit_value / 1000.0, "unit", "s");
    return json_pack("{s:s, s:o, s:s}", "name", name, "value",
                     number(result->limit_value), "unit", "bytes");
}

/* "SIGSEGV"; "signal 40" where it has no name. */
static json_t *signal_name(const struct cellar_result *result)
{
    char name[32];
    const char *abbreviation = NULL;
    if (result->status != CELLAR_STATUS_KILLED)
        return json_null();
    abbreviation = sigabbrev_np(result->signal);
    if (abbreviation)
        (void)snprintf(name, sizeof name, "SIG%s", abbreviation);
    else
        (void)snprintf(name, sizeof name, "signal %d", result->signal);
    return json_string(name);
}

static json_t *checkpoint(const struct cellar_result *result)
{
    if (result->checkpoint == CELLAR_TAKEN_NONE)
        return json_null();
    if (result->checkpoint == CELLAR_TAKEN_YES)
        return json_pack("{s:b}", "taken", 1);
    return json_pack("{s:b, s:o}", "taken", 0, "why",
                     maybe_text(result->checkpoint_why));
}

static json_t *usage(const struct cellar_result *result)
{
    return json_pack("{s:o, s:o, s:o}", "wall_us", number(result->wall_us),
                     "cpu_us", number(result->cpu_us), "peak_memory_bytes",
                     number(result->peak_memory_bytes));
}

static bool fill(json_t *root, const struct cellar_result *result)
{
    const char *status = cellar_status_name(result->status);
    const char *state = cellar_state_name(result->state);
    const struct {
        const char *key;
        json_t *value;
    } members[] = {
        {"cell", number(result->cell)},
        {"status", maybe_text(status)},
        {"state", maybe_text(state)},
        {"restored_from", result->state == CELLAR_STATE_RESTORED
                              ? number(result->restored_from)
                              : json_null()},
        {"checkpoint", checkpoint(result)},
        {"stdout", text(result->stdout_text, result->stdout_len)},
        {"stderr", text(result->stderr_text, result->stderr_len)},
        {"truncated", json_boolean(result->truncated)},
        {"dropped_bytes", number(result->dropped_bytes)},
        {"result", result->result_count
                       ? bundle(result->result, result->result_count)
                       : json_null()},
        {"displays", displays(result)},
        {"error", error(result)},
        {"limit", limit(result)},
        {"exit_code", result->status == CELLAR_STATUS_EXITED
                          ? json_integer(result->exit_code)
                          : json_null()},
        {"signal", signal_name(result)},
        {"reason", maybe_text(result->reason)},
        {"usage", usage(result)},
    };
    bool fine = true;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        fine &=
            json_object_set_new(root, members[i].key, members[i].value) == 0;
    return fine;
}

char *cellar_result_json(const struct cellar_result *result)
{
    json_t *root = json_object();
    bool fine = root && fill(root, result);
    char *line =
        fine ? cellar_json_text(root, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(root);
    return line;
}
