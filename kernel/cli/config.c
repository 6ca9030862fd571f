#include "config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "kernel/fail.h"
#include "kernel/json.h"
#include "nearest.h"

/* What keeps the strings of the options alive. Numbers are turned to text:
 * the one reader of numbers is the option parser's. */
struct cellar_config_file {
    json_t *root;
};

#define NUMBER_TEXT_MAX 40

void cellar_config_free(struct cellar_config_file *file)
{
    if (!file)
        return;
    json_decref(file->root);
    free(file);
}

static enum cellar_code unknown_key(const char *key, struct cellar_error *err)
{
    struct cellar_nearest nearest;
    cellar_nearest_init(&nearest, key);
    for (size_t i = 0; i < cellar_option_count(); i++) {
        struct cellar_option option = cellar_option_at(i);
        if (option.in_config)
            cellar_nearest_offer(&nearest, option.name);
    }
    if (nearest.best)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "unknown key '%s'; did you mean '%s'?", key,
                           nearest.best);
    return cellar_fail(err, CELLAR_E_USAGE, "unknown key '%.64s'", key);
}

static enum cellar_code set_flag(struct cellar_options *options, size_t i,
                                 const char *key, const json_t *value,
                                 struct cellar_error *err)
{
    if (!json_is_boolean(value))
        return cellar_fail(err, CELLAR_E_USAGE, "%s: must be true or false",
                           key);
    return json_is_true(value) ? cellar_options_set(options, i, key, NULL, err)
                               : CELLAR_OK;
}

static enum cellar_code set_list(struct cellar_options *options, size_t i,
                                 const char *key, const json_t *value,
                                 struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    if (!json_is_array(value))
        return cellar_fail(err, CELLAR_E_USAGE, "%s: must be a list of texts",
                           key);
    for (size_t n = 0; code == CELLAR_OK && n < json_array_size(value); n++) {
        const char *text = json_string_value(json_array_get(value, n));
        code = text ? cellar_options_set(options, i, key, text, err)
                    : cellar_fail(err, CELLAR_E_USAGE,
                                  "%s: must be a list of texts", key);
    }
    return code;
}

static enum cellar_code set_number(struct cellar_options *options, size_t i,
                                   const char *key, const json_t *value,
                                   struct cellar_error *err)
{
    char text[NUMBER_TEXT_MAX] = "";
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT,
                 json_integer_value(value));
    else
        snprintf(text, sizeof text, "%.9g", json_real_value(value));
    return cellar_options_set(options, i, key, text, err);
}

static enum cellar_code set_key(struct cellar_options *options, const char *key,
                                const json_t *value, struct cellar_error *err)
{
    size_t i = cellar_option_find(key);
    if (i == cellar_option_count() || !cellar_option_at(i).in_config)
        return unknown_key(key, err);
    enum cellar_option_type type = cellar_option_at(i).type;
    if (type == CELLAR_OPTION_FLAG)
        return set_flag(options, i, key, value, err);
    if (type == CELLAR_OPTION_LIST)
        return set_list(options, i, key, value, err);
    if (type == CELLAR_OPTION_NUMBER && json_is_number(value))
        return set_number(options, i, key, value, err);
    if (!json_is_string(value))
        return cellar_fail(err, CELLAR_E_USAGE, "%s: must be a text%s", key,
                           type == CELLAR_OPTION_NUMBER ? " or a number" : "");
    return cellar_options_set(options, i, key, json_string_value(value), err);
}

static enum cellar_code set_all(struct cellar_options *options, json_t *root,
                                struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    const char *key = NULL;
    json_t *value = NULL;
    if (!json_is_object(root))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "must be a JSON object, as {\"memory\": \"1g\"}");
    json_object_foreach(root, key, value)
    {
        code = set_key(options, key, value, err);
        if (code != CELLAR_OK)
            break;
    }
    return code;
}

enum cellar_code cellar_config_read(const char *name, const char *text,
                                    size_t len, struct cellar_options *options,
                                    struct cellar_error *err)
{
    json_error_t where = {0};
    struct cellar_config_file *file = calloc(1, sizeof *file);
    if (!file)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    cellar_config_free(options->file);
    options->file = file;
    file->root = cellar_json_parse(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!file->root && cellar_json_starved(&where))
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    if (!file->root)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%.200s: line %d, column %d: %s", name, where.line,
                           where.column, where.text);
    enum cellar_code code = set_all(options, file->root, err);
    return code == CELLAR_OK ? CELLAR_OK : cellar_wrap(err, "%.200s", name);
}

/* The path of the default file in `path`; false where no home is known. */
static bool default_path(char *path, size_t size)
{
    const char *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    if (config && config[0] == '/')
        return (size_t)snprintf(path, size, "%s/cellar/config.json", config) <
               size;
    if (home && home[0] == '/')
        return (size_t)snprintf(path, size, "%s/.config/cellar/config.json",
                                home) < size;
    return false;
}

/* It may name a program to run: one that lies where it is looked for must not
 * be somebody else's. */
static enum cellar_code check_owner(const char *path, struct cellar_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0 ||
        ((st.st_uid == 0 || st.st_uid == geteuid()) && !(st.st_mode & S_IWOTH)))
        return CELLAR_OK;
    return cellar_fail(err, CELLAR_E_USAGE,
                       "%.200s could be changed by another user: `chown` it to "
                       "yourself and `chmod o-w` it, or name a file with "
                       "--config",
                       path);
}

enum cellar_code cellar_config_load(const char *path,
                                    struct cellar_options *options,
                                    struct cellar_error *err)
{
    char usual[4096] = "";
    CELLAR_AUTO_FREE char *text = NULL;
    size_t len = 0;
    if (!path)
        path = getenv("CELLAR_CONFIG");
    bool named = path && path[0];
    if (!named && !default_path(usual, sizeof usual))
        return CELLAR_OK;
    if (!named && access(usual, F_OK) != 0 &&
        (errno == ENOENT || errno == ENOTDIR))
        return CELLAR_OK;
    path = named ? path : usual;
    enum cellar_code code = named ? CELLAR_OK : check_owner(path, err);
    if (code == CELLAR_OK)
        code =
            cellar_file_read(path, CELLAR_CONFIG_BYTES_MAX, &text, &len, err);
    if (code != CELLAR_OK)
        return code;
    return cellar_config_read(path, text, len, options, err);
}
