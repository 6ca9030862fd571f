#include "outputs.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kernel/json.h"
#include "print.h"

static bool add_stream(json_t *outputs, const char *name, const char *text,
                       size_t len)
{
    if (len == 0)
        return true;
    return json_array_append_new(outputs,
                                 json_pack("{s:s, s:s, s:s%}", "name", name,
                                           "output_type", "stream", "text",
                                           text, len)) == 0;
}

/* nbformat wants JSON itself under a JSON type, and text under all others. */
static json_t *bundle_data(const struct cellar_part *part)
{
    size_t n = strlen(part->type);
    bool is_json = strcmp(part->type, "application/json") == 0 ||
                   (n > 5 && strcmp(part->type + n - 5, "+json") == 0);
    json_t *value = NULL;
    if (is_json)
        value = cellar_json_parse(part->data, part->len,
                                  JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    return value ? value : json_stringn(part->data, part->len);
}

static json_t *bundle(const struct cellar_part *parts, size_t count)
{
    json_t *data = json_object();
    for (size_t i = 0; i < count; i++) {
        if (json_object_set_new(data, parts[i].type, bundle_data(&parts[i])) ==
            0)
            continue;
        json_decref(data);
        return NULL;
    }
    return data;
}

static bool add_displays(json_t *outputs, const struct cellar_result *result)
{
    bool ok = true;
    for (size_t i = 0; ok && i < result->display_count; i++) {
        json_t *data =
            bundle(result->displays[i].parts, result->displays[i].count);
        ok =
            json_array_append_new(
                outputs, json_pack("{s:o, s:{}, s:s}", "data", data, "metadata",
                                   "output_type", "display_data")) == 0;
    }
    return ok;
}

static bool add_result(json_t *outputs, const struct cellar_result *result)
{
    if (result->result_count == 0)
        return true;
    json_t *data = bundle(result->result, result->result_count);
    return json_array_append_new(
               outputs,
               json_pack("{s:o, s:I, s:{}, s:s}", "data", data,
                         "execution_count", (json_int_t)result->cell,
                         "metadata", "output_type", "execute_result")) == 0;
}

/* The lines of `text` as a list. */
static json_t *lines_of(const char *text)
{
    json_t *lines = json_array();
    while (lines && *text) {
        size_t len = strcspn(text, "\n");
        if (json_array_append_new(lines, json_stringn(text, len)) != 0) {
            json_decref(lines);
            return NULL;
        }
        text += len;
        text += *text ? 1 : 0;
    }
    return lines;
}

static bool add_error(json_t *outputs, const char *name, const char *value,
                      const char *traceback)
{
    return json_array_append_new(
               outputs, json_pack("{s:s, s:s, s:s, s:o}", "ename", name,
                                  "evalue", value, "output_type", "error",
                                  "traceback", lines_of(traceback))) == 0;
}

static bool add_ending(json_t *outputs, const struct cellar_result *result)
{
    char line[CELLAR_ENDING_MAX] = "";
    if (result->status == CELLAR_STATUS_OK)
        return true;
    if (result->error_name)
        return add_error(outputs, result->error_name,
                         result->error_message ? result->error_message : "",
                         result->traceback ? result->traceback : "");
    cellar_print_ending_line(result, line);
    return add_error(outputs, cellar_status_name(result->status), line, line);
}

static bool add_cut(json_t *outputs, const struct cellar_result *result)
{
    char line[96] = "";
    if (!result->truncated)
        return true;
    int n = snprintf(line, sizeof line,
                     "output cut; %llu bytes more were dropped\n",
                     (unsigned long long)result->dropped_bytes);
    return add_stream(outputs, "stderr", line, (size_t)n);
}

json_t *cellar_outputs_new(const struct cellar_result *result)
{
    json_t *outputs = json_array();
    if (!outputs)
        return NULL;
    if (add_stream(outputs, "stdout", result->stdout_text,
                   result->stdout_len) &&
        add_stream(outputs, "stderr", result->stderr_text,
                   result->stderr_len) &&
        add_cut(outputs, result) && add_displays(outputs, result) &&
        add_result(outputs, result) && add_ending(outputs, result))
        return outputs;
    json_decref(outputs);
    return NULL;
}
