#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher.h"

#define PLACE_BYTES   4096
#define OPTIONS_BYTES 256

/* Mounted by the engine for itself: devices, kernel interfaces, the files of
 * /etc that it writes, and what Cellar brought along. */
static const char *const systems[] = {"/proc", "/sys", "/dev", "/etc",
                                      "/cellar"};

static bool is_system(const char *place)
{
    for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
        size_t len = strlen(systems[i]);
        if (strncmp(place, systems[i], len) == 0 &&
            (place[len] == '/' || place[len] == '\0'))
            return true;
    }
    return strcmp(place, "/") == 0;
}

static bool is_octal(const char *text)
{
    return text[0] >= '0' && text[0] <= '3' && text[1] >= '0' &&
           text[1] <= '7' && text[2] >= '0' && text[2] <= '7';
}

/* The kernel writes a space in a name as \040. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from == '\\' && is_octal(from + 1)) {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 |
                           (from[3] - '0'));
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static void done_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

static void done_line(char **line)
{
    free(*line);
}

/* A line: two ids, a device, a root, the place, its options, ... */
void cellar_mounts_each(void (*each)(void *user, const char *place), void *user)
{
    __attribute__((cleanup(done_file))) FILE *file =
        fopen("/proc/self/mountinfo", "re");
    __attribute__((cleanup(done_line))) char *line = NULL;
    char place[PLACE_BYTES];
    char options[OPTIONS_BYTES];
    size_t size = 0;
    while (file && getline(&line, &size, file) > 0) {
        if (sscanf(line, "%*s %*s %*s %*s %4095s %255s", place, options) != 2 ||
            strncmp(options, "rw", 2) != 0)
            continue;
        unescape(place);
        if (!is_system(place))
            each(user, place);
    }
}
