/*
 * What an agent does with checkpoints: a mistake that costs one cell, a way
 * back to a moment it chose, and three ideas tried at once from there.
 *
 *     cc checkpoint.c $(pkg-config --cflags --libs cellar) -o checkpoint &&
 *         ./checkpoint
 */
#include <cellar/cellar.h>
#include <err.h>
#include <stdio.h>
#include <unistd.h>

#define IDEAS 3

struct idea {
    const char *code;
    char name[CELLAR_NAME_BYTES_MAX + 1];
    struct cellar_session *session;
    struct cellar_result *result;
};

static void must(enum cellar_code code, const struct cellar_error *error)
{
    if (code != CELLAR_OK)
        errx(1, "%s", error->msg);
}

static void show(const char *who, const struct cellar_result *result)
{
    printf("%s: %s, state %s: %s\n", who, cellar_status_name(result->status),
           cellar_state_name(result->state), cellar_result_text(result));
}

static void run(struct cellar_session *session, const char *code)
{
    struct cellar_error error = {0};
    struct cellar_result *result = NULL;
    struct cellar_cell cell = {.code = code};
    must(cellar_run(session, &cell, &result, &error), &error);
    show("root", result);
    cellar_result_free(result);
}

static void on_result(void *user, struct cellar_result *result,
                      const struct cellar_error *error)
{
    struct idea *idea = user;
    if (!result)
        errx(1, "%s", error->msg);
    idea->result = result;
}

/* Each idea has a branch of the session, and all run at the same time. */
static void try_all(struct cellar *cellar, struct cellar_session *root,
                    struct idea *ideas)
{
    struct cellar_error error = {0};
    const char *names[IDEAS];
    for (size_t i = 0; i < IDEAS; i++) {
        snprintf(ideas[i].name, sizeof ideas[i].name, "%.40s-%zu",
                 cellar_session_name(root), i + 1);
        names[i] = ideas[i].name;
    }
    must(cellar_fork(root, names, IDEAS, NULL, &error), &error);
    for (size_t i = 0; i < IDEAS; i++) {
        struct cellar_cell cell = {.code = ideas[i].code, .timeout_ms = 10000};
        must(cellar_adopt(cellar, names[i], &ideas[i].session, &error), &error);
        must(cellar_run_async(ideas[i].session, &cell, on_result, &ideas[i],
                              &error),
             &error);
    }
    for (size_t i = 0; i < IDEAS; i++)
        while (!ideas[i].result)
            cellar_dispatch(cellar, -1);
}

int main(void)
{
    struct idea ideas[IDEAS] = {
        {.code = "orders.sort(); orders[-1] - orders[0]"},
        {.code = "sum(orders) / len(orders)"},
        {.code = "import os; os._exit(1)"},
    };
    struct cellar_error error = {0};
    struct cellar *cellar = NULL;
    struct cellar_session *root = NULL;
    struct cellar_spec spec;
    char name[CELLAR_NAME_BYTES_MAX + 1];

    snprintf(name, sizeof name, "orders-%ld", (long)getpid());
    cellar_spec_init(&spec);
    spec.name = name;      /* only a named session has branches */
    spec.lease_ms = 60000; /* it is gone soon should this program die */
    must(cellar_new(NULL, &cellar, &error), &error);
    must(cellar_start(cellar, &spec, &root, &error), &error);

    run(root, "orders = [120, 310, 75]");
    must(cellar_checkpoint(root, "loaded", NULL, &error), &error);
    run(root, "import ctypes; ctypes.string_at(0)");
    run(root, "orders.clear(); orders");
    must(cellar_restore(root, "loaded", NULL, &error), &error);
    run(root, "orders");

    try_all(cellar, root, ideas);
    for (size_t i = 0; i < IDEAS; i++) {
        show(ideas[i].code, ideas[i].result);
        cellar_result_free(ideas[i].result);
        must(cellar_stop(ideas[i].session, &error), &error);
    }
    run(root, "orders");
    must(cellar_stop(root, &error), &error);
    cellar_free(cellar);
    return 0;
}
