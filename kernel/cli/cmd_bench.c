#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "kernel/bench/bench.h"
#include "kernel/bench/machine.h"
#include "kernel/fail.h"

static void print_text(struct cellar_output *out,
                       const struct cellar_bench_cell *bench,
                       const char *machine)
{
    cellar_output_printf(out, "%-26s %10s %10s\n", "round trip", "p50", "p99");
    cellar_output_printf(out, "%-26s %7.1f us %7.1f us\n", "cell x+=1",
                         bench->p50_us, bench->p99_us);
    cellar_output_printf(out, "%-26s %7.1f us %7.1f us\n",
                         "bare echo, same stream", bench->bare_p50_us,
                         bench->bare_p99_us);
    cellar_output_printf(out, "%-26s %7.2f\n", "ratio of the medians",
                         bench->ratio_to_bare);
    cellar_output_printf(out, "%" PRIu64 " rounds of each, in turn, on %s\n",
                         bench->rounds, machine);
}

static enum cellar_code print_json(struct cellar_front *front,
                                   const struct cellar_bench_cell *bench,
                                   const char *machine)
{
    const struct cellar_spec *spec = &front->options.spec;
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:s}", "bench",
                  "cell", "engine", "docker", "image", spec->image, "rounds",
                  (json_int_t)bench->rounds, "p50_us", bench->p50_us, "p99_us",
                  bench->p99_us, "bare_p50_us", bench->bare_p50_us,
                  "bare_p99_us", bench->bare_p99_us, "ratio_to_bare",
                  bench->ratio_to_bare, "machine", machine);
    CELLAR_AUTO_FREE char *line =
        root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    if (!line)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_output_printf(&front->out, "%s\n", line);
    return CELLAR_OK;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    uint64_t rounds = options->cells ? options->cells : CELLAR_BENCH_ROUNDS;
    struct cellar_bench_cell bench;
    char machine[256];
    if (options->operand_count > 1 && strcmp(options->operands[1], "cell") != 0)
        return cellar_front_usage(front, "unknown bench '%s': there is 'cell'",
                                  options->operands[1]);
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_front_start(front, &options->spec) != CELLAR_OK ||
        cellar_bench_cell(front->c, front->session, &options->spec, rounds,
                          &bench, &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    cellar_machine(machine, sizeof machine);
    if (!options->json)
        print_text(&front->out, &bench, machine);
    else if (print_json(front, &bench, machine) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

const struct cellar_command cellar_command_bench = {
    .name = "bench",
    .bit = CELLAR_ON_BENCH,
    .operands = "[cell]",
    .operands_min = 0,
    .operands_max = 1,
    .text = "Measure a cell beside the bare stream",
    .details = "cell: the round trip of `x+=1` in a session, and of a bare "
               "echo process in a\n"
               "container of the same spec over the same kind of stream, in "
               "turn in one run.\n"
               "Times drift; compare ratios.\n",
    .run = run,
};
