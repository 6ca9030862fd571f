/*
 * The config file: a JSON object of defaults, keyed by option name.
 *
 *     {"memory": "1g", "cpus": 2, "timeout": "2m", "verbose": true,
 *      "mount": ["/srv/data:/data"]}
 *
 * A value is written as on the command line, or as a plain number; a flag is
 * true or false; an option that may be given again is a list.
 */
#ifndef CELLAR_CLI_CONFIG_H
#define CELLAR_CLI_CONFIG_H

#include "options.h"

#define CELLAR_CONFIG_BYTES_MAX (1u << 20)

/* Reads `path`; where it is NULL, the file that CELLAR_CONFIG names, or
 * $XDG_CONFIG_HOME/cellar/config.json (else ~/.config/...) if that is there.
 * Sets `options` from it; their strings then live in options->file. E_USAGE
 * names the file and the place or the key. */
enum cellar_code cellar_config_load(const char *path,
                                    struct cellar_options *options,
                                    struct cellar_error *err);

/* The same from text; `name` stands for the file in messages. */
enum cellar_code cellar_config_read(const char *name, const char *text,
                                    size_t len, struct cellar_options *options,
                                    struct cellar_error *err);

void cellar_config_free(struct cellar_config_file *file); /* NULL is fine */

#endif
