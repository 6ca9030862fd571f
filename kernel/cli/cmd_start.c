#include "command.h"
#include "kernel/fail.h"
#include "kernel/spec.h"
#include "table.h"

static const struct cellar_column columns[] = {
    {"name", NULL}, {"container", NULL}, {"image", NULL}, {"python", NULL}};

static enum cellar_code print_object(struct cellar_front *front)
{
    const struct cellar_session *session = front->session;
    struct cellar_table *table = cellar_table_new(columns, 4);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_table_text(table, cellar_session_name(session));
    cellar_table_text(table, cellar_session_container(session));
    cellar_table_text(table, front->options.spec.image);
    cellar_table_text(table, cellar_session_python(session));
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

static int run(struct cellar_front *front)
{
    struct cellar_spec *spec = &front->options.spec;
    spec->name = front->options.operands[1];
    if (cellar_name_check(spec->name, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_front_start(front, spec) != CELLAR_OK)
        return cellar_front_fail(front);
    if (!front->options.json)
        cellar_output_printf(&front->out, "%s\n", spec->name);
    else if (print_object(front) != CELLAR_OK)
        return cellar_front_fail(front);
    /* Nobody was told of it: it must not stay. */
    front->ends = !cellar_output_ok(&front->out);
    return CELLAR_EXIT_OK;
}

const struct cellar_command cellar_command_start = {
    .name = "start",
    .bit = CELLAR_ON_START,
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .text = "Start a session that stays, and print its name",
    .details =
        "A name has 1 to 63 of a-z 0-9 . _ - and begins with a letter or "
        "digit. The\n"
        "session ends with 'cellar stop NAME', or when no command has used it "
        "for its\n"
        "lease.\n",
    .run = run,
};
