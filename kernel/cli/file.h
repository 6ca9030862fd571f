/* Files read and written whole, within bounds. */
#ifndef CELLAR_CLI_FILE_H
#define CELLAR_CLI_FILE_H

#include <stddef.h>

#include "cellar/error.h"

/* Reads all of `path`, "-" being stdin, into *text, which the caller frees;
 * a NUL that isn't counted follows. E_USAGE: there is no such file, it can't
 * be read, is a directory, or is longer than `max`. */
enum cellar_code cellar_file_read(const char *path, size_t max, char **text,
                                  size_t *len, struct cellar_error *err);

/* E_USAGE unless `path` could be written with the call below: it is a plain
 * file, or nothing yet, in a directory that is there and may be written. */
enum cellar_code cellar_file_writable(const char *path,
                                      struct cellar_error *err);

/* Makes `path` hold `text`, all at once or not at all; follows a symbolic
 * link; keeps the permissions of a file that is there. */
enum cellar_code cellar_file_replace(const char *path, const char *text,
                                     size_t len, struct cellar_error *err);

#endif
