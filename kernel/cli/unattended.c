#include "unattended.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel/fail.h"
#include "kernel/utf8.h"
#include "print.h"

/* The longest message of an exception that is told; it may be a book. */
#define MESSAGE_MAX 160

/* Bytes of the first line of `text`, at most MESSAGE_MAX, no character cut. */
static size_t first_line(const char *text)
{
    size_t len = strcspn(text, "\r\n");
    size_t used = 0;
    while (used < len) {
        size_t n = cellar_utf8_sequence(text + used, len - used);
        n = n ? n : 1;
        if (used + n > MESSAGE_MAX)
            break;
        used += n;
    }
    return used;
}

void cellar_unattended_ending(const struct cellar_result *result,
                              char line[CELLAR_UNATTENDED_MAX])
{
    char ending[CELLAR_ENDING_MAX] = "";
    if (result->status == CELLAR_STATUS_ERROR && result->error_name) {
        const char *message =
            result->error_message ? result->error_message : "";
        size_t len = first_line(message);
        snprintf(line, CELLAR_UNATTENDED_MAX, "%.64s%s%.*s%s",
                 result->error_name, len ? ": " : "", (int)len, message,
                 message[len] ? " ..." : "");
        return;
    }
    cellar_print_ending_line(result, ending);
    snprintf(line, CELLAR_UNATTENDED_MAX, "%.*s", (int)first_line(ending),
             ending);
    if (!line[0])
        snprintf(line, CELLAR_UNATTENDED_MAX, "%s",
                 cellar_status_name(result->status));
}

void cellar_unattended_tell(struct cellar_output *err_out, const char *session,
                            const struct cellar_result *result, bool json)
{
    char line[CELLAR_UNATTENDED_MAX] = "";
    cellar_output_end_line(err_out);
    if (json) {
        CELLAR_AUTO_FREE char *object = cellar_result_json(result);
        if (object)
            cellar_output_printf(err_out, "{\"unattended\":%s}\n", object);
        else
            err_out->sys_errno = ENOMEM;
        return;
    }
    cellar_unattended_ending(result, line);
    cellar_output_printf(err_out,
                         "cellar: cell %" PRIu64
                         " ended while nobody was attached: %s; 'cellar "
                         "history %s --cell %" PRIu64 "' shows it\n",
                         result->cell, line, session, result->cell);
}
