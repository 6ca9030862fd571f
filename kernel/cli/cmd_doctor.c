#include <inttypes.h>
#include <stdio.h>

#include "command.h"
#include "kernel/fail.h"
#include "kernel/refill.h"
#include "kernel/session.h"
#include "kernel/supervisor.h"
#include "table.h"

static const struct cellar_column columns[] = {
    {"name", "CHECK"}, {"result", "RESULT"}, {"text", "FOUND"}, {"cure", NULL}};

static const char *const words[] = {[CELLAR_CHECK_OK] = "ok",
                                    [CELLAR_CHECK_WARN] = "warn",
                                    [CELLAR_CHECK_FAIL] = "fail"};

/* The check under way. Cures are shown below the table, where there is room
 * for them. */
struct visit {
    struct cellar_front *front;
    struct cellar_table *table;
    struct cellar_table *cures;
    size_t cure_count;
    bool done;
    bool failed;
};

static const struct cellar_column cure_columns[] = {{"name", "FOR"},
                                                    {"cure", "CURE"}};

static void add_row(void *user, const struct cellar_check_row *row)
{
    struct visit *visit = user;
    cellar_table_text(visit->table, row->name);
    cellar_table_text(visit->table, words[row->result]);
    cellar_table_text(visit->table, row->text);
    cellar_table_text(visit->table, row->cure);
    visit->failed |= row->result == CELLAR_CHECK_FAIL;
    if (!row->cure)
        return;
    cellar_table_text(visit->cures, row->name);
    cellar_table_text(visit->cures, row->cure);
    visit->cure_count++;
}

static void checked(void *user, const struct cellar_error *err)
{
    struct visit *visit = user;
    visit->done = true;
    visit->front->err = err ? *err : (struct cellar_error){0};
}

static void tell_landlock(struct visit *visit)
{
    uint64_t abi = visit->front->session->landlock_abi;
    char text[96];
    (void)snprintf(text, sizeof text,
                   "Landlock, version %" PRIu64
                   ", keeps the worker from writing outside /tmp and /dev/shm",
                   abi);
    if (abi > 0)
        add_row(visit, &(struct cellar_check_row){.name = "landlock",
                                                  .result = CELLAR_CHECK_OK,
                                                  .text = text});
    else
        add_row(visit,
                &(struct cellar_check_row){
                    .name = "landlock",
                    .result = CELLAR_CHECK_WARN,
                    .text = "the kernel has no Landlock: under memory pressure "
                            "a hostile worker may have the agent killed in its "
                            "place, which ends its session",
                    .cure = "run a Linux from 5.13 on, with landlock among its "
                            "security modules (lsm=)"});
}

/* The proof of it all: a session, from the image to its Python. */
static void try_session(struct visit *visit)
{
    struct cellar_front *front = visit->front;
    struct cellar_spec spec = front->options.spec;
    char text[96];
    spec.name = NULL;
    if (cellar_front_start(front, &spec) != CELLAR_OK) {
        struct cellar_error err = front->err;
        front->err = (struct cellar_error){0};
        add_row(visit, &(struct cellar_check_row){.name = "session",
                                                  .result = CELLAR_CHECK_FAIL,
                                                  .text = err.msg});
        return;
    }
    (void)snprintf(text, sizeof text, "a session starts, and runs Python %s",
                   cellar_session_python(front->session));
    add_row(visit, &(struct cellar_check_row){.name = "session",
                                              .result = CELLAR_CHECK_OK,
                                              .text = text});
    tell_landlock(visit);
    add_row(visit, &(struct cellar_check_row){
                       .name = "own_limits",
                       .result = CELLAR_CHECK_OK,
                       .text = "timeout, grace, output-limit, queue, "
                               "file-size, lease and lifetime are Cellar's "
                               "own, with any engine"});
}

static void add_trouble(void *user, const char *text)
{
    char found[CELLAR_TROUBLE_MAX + 16];
    (void)snprintf(found, sizeof found, "a pool %s", text);
    add_row(user, &(struct cellar_check_row){
                      .name = "pool",
                      .result = CELLAR_CHECK_WARN,
                      .text = found,
                      .cure = "run 'cellar pool 1' with that command's options "
                              "to try again, or 'cellar pool 0' to forget it"});
}

static enum cellar_code check(struct visit *visit)
{
    struct cellar_front *front = visit->front;
    if (!visit->table || !visit->cures)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    enum cellar_code code = cellar_front_open(front);
    if (code != CELLAR_OK)
        return code;
    struct cellar_engine *engine = cellar_supervisor_engine(front->c);
    code = engine->ops->check(engine, &front->options.spec, add_row, checked,
                              visit, &front->err);
    if (code != CELLAR_OK)
        return code;
    while (!visit->done)
        cellar_dispatch(front->c, -1);
    if (front->err.code == CELLAR_OK && !visit->failed)
        try_session(visit);
    cellar_refill_troubles(cellar_supervisor_state_dir(front->c), add_trouble,
                           visit);
    return front->err.code;
}

static enum cellar_code print(struct visit *visit)
{
    struct cellar_front *front = visit->front;
    bool json = front->options.json;
    enum cellar_code code = cellar_table_print(
        visit->table, json ? CELLAR_TABLE_JSON : CELLAR_TABLE_COLUMNS,
        &front->out, &front->err);
    if (code != CELLAR_OK || json || visit->cure_count == 0)
        return code;
    cellar_output_text(&front->out, "\n");
    return cellar_table_print(visit->cures, CELLAR_TABLE_COLUMNS, &front->out,
                              &front->err);
}

static int examine(struct visit *visit)
{
    struct cellar_front *front = visit->front;
    enum cellar_code code = check(visit);
    struct cellar_error err = front->err;
    /* What was found before the checking itself failed is shown too. */
    if (visit->table && visit->cures && print(visit) != CELLAR_OK)
        return cellar_front_fail(front);
    if (code != CELLAR_OK) {
        front->err = err;
        return cellar_front_fail(front);
    }
    return visit->failed ? CELLAR_EXIT_FAILED : CELLAR_EXIT_OK;
}

static int run(struct cellar_front *front)
{
    struct visit visit = {.front = front,
                          .table = cellar_table_new(columns, 4),
                          .cures = cellar_table_new(cure_columns, 2)};
    int status = examine(&visit);
    cellar_table_free(visit.table);
    cellar_table_free(visit.cures);
    return status;
}

const struct cellar_command cellar_command_doctor = {
    .name = "doctor",
    .bit = CELLAR_ON_DOCTOR,
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .text = "Say what works here, what does not, and the cure",
    .details = "Looks at the engine, the image, and each protection, and "
               "starts a session.\n"
               "Exit status 3 when a check failed. With --json a list of "
               "objects: name,\n"
               "result (ok, warn, fail), text, cure (or null).\n",
    .run = run,
};
