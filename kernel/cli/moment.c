#include "moment.h"

#include <inttypes.h>

#include "kernel/fail.h"
#include "table.h"

static enum cellar_code print_object(struct cellar_front *front,
                                     const char *what, const char *tag,
                                     const struct cellar_moment *moment)
{
    const struct cellar_column columns[] = {
        {what, NULL}, {"after", NULL}, {"took_us", NULL}};
    struct cellar_table *table = cellar_table_new(columns, moment ? 3 : 1);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_table_text(table, tag);
    if (moment) {
        cellar_table_number(table, moment->after, "");
        cellar_table_number(table, moment->took_us, "");
    }
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

int cellar_moment_print(struct cellar_front *front, const char *what,
                        const char *tag, const struct cellar_moment *moment)
{
    if (front->options.json)
        return print_object(front, what, tag, moment) == CELLAR_OK
                   ? CELLAR_EXIT_OK
                   : cellar_front_fail(front);
    cellar_output_printf(&front->out, "%s %s", what, tag);
    if (moment)
        cellar_output_printf(
            &front->out, ": after cell %" PRIu64 ", %" PRIu64 ".%" PRIu64 " ms",
            moment->after, moment->took_us / 1000,
            moment->took_us % 1000 / 100);
    cellar_output_text(&front->out, "\n");
    return CELLAR_EXIT_OK;
}

int cellar_moment_fail(struct cellar_front *front, const char *name,
                       const char *tag)
{
    struct cellar_error refused = front->err;
    if (refused.code == CELLAR_E_NOT_FOUND)
        cellar_fail(&front->err, refused.code,
                    "checkpoint '%.63s': %.200s; 'cellar checkpoint --list "
                    "%.63s' lists those there are",
                    tag, refused.msg, name);
    return cellar_front_refused(front);
}
