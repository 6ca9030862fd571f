/*
 * A program with a sandboxed Python in it: three cells, one session.
 *
 *     cc embed.c $(pkg-config --cflags --libs cellar) -o embed && ./embed
 *
 * Python's state lives from cell to cell; output comes while a cell runs; a
 * cell that never ends is ended, and the state is still there.
 */
#include <cellar/cellar.h>
#include <err.h>
#include <stdio.h>

static void show(void *user, int stream, const char *data, size_t len)
{
    (void)user;
    fwrite(data, 1, len, stream == 2 ? stderr : stdout);
}

static void run(struct cellar_session *session, const char *code)
{
    struct cellar_error error = {0};
    struct cellar_result *result = NULL;
    struct cellar_cell cell = {
        .code = code, .timeout_ms = 2000, .on_output = show};
    if (cellar_run(session, &cell, &result, &error) != CELLAR_OK)
        errx(1, "%s", error.msg);
    printf("%s, state %s: %s\n", cellar_status_name(result->status),
           cellar_state_name(result->state), cellar_result_text(result));
    cellar_result_free(result);
}

int main(void)
{
    struct cellar_error error = {0};
    struct cellar *cellar = NULL;
    struct cellar_session *session = NULL;
    struct cellar_spec spec;

    cellar_spec_init(&spec);
    spec.memory_bytes = 256u << 20;
    if (cellar_new(NULL, &cellar, &error) != CELLAR_OK ||
        cellar_start(cellar, &spec, &session, &error) != CELLAR_OK)
        errx(1, "%s", error.msg);

    run(session, "numbers = [3, 1, 2]\nprint('sorting', len(numbers))\n"
                 "sorted(numbers)");
    run(session, "while True:\n    pass");
    run(session, "sum(numbers)");

    enum cellar_code code = cellar_stop(session, &error);
    cellar_free(cellar);
    if (code != CELLAR_OK)
        errx(1, "%s", error.msg);
    return 0;
}
