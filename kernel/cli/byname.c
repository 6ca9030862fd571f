#include "byname.h"

#include "kernel/fail.h"
#include "kernel/spec.h"
#include "table.h"

static const struct cellar_column columns[] = {{"name", NULL}};

static enum cellar_code print_name(struct cellar_front *front, const char *name)
{
    struct cellar_table *table = cellar_table_new(columns, 1);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_table_text(table, name);
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

int cellar_byname_run(struct cellar_front *front, cellar_byname_fn *act)
{
    const char *name = front->options.operands[1];
    if (cellar_name_check(name, &front->err) != CELLAR_OK)
        return cellar_front_usage(front, "%s", front->err.msg);
    if (cellar_front_open(front) != CELLAR_OK ||
        act(front->c, name, &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    if (front->options.json && print_name(front, name) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}
