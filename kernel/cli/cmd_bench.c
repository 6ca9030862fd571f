#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "figures.h"
#include "kernel/bench/bench.h"
#include "kernel/bench/machine.h"
#include "kernel/bench/report.h"
#include "kernel/fail.h"
#include "kernel/json.h"
#include "kernel/supervisor.h"

/* What a bench was run on. */
struct about {
    const char *engine; /* static */
    char machine[256];
};

/* Takes `root`, which may be NULL: out of memory. */
static enum cellar_code print_json(struct cellar_front *front, json_t *root)
{
    CELLAR_AUTO_FREE char *line =
        cellar_json_text(root, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    if (!line)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_output_printf(&front->out, "%s\n", line);
    return CELLAR_OK;
}

/* ------------------------------------------------- those with a report -- */

static enum cellar_code report_json(struct cellar_front *front,
                                    const char *name, const struct about *about,
                                    const struct cellar_report *report)
{
    json_t *root = json_pack("{s:s, s:s, s:s}", "bench", name, "engine",
                             about->engine, "image", front->options.spec.image);
    if (root &&
        (!cellar_figures_json(root, report) ||
         json_object_set_new(root, "machine", json_string(about->machine)))) {
        json_decref(root);
        root = NULL;
    }
    return print_json(front, root);
}

typedef enum cellar_code measure_fn(const struct cellar_bench_ask *ask,
                                    struct cellar_report *report,
                                    struct cellar_error *err);

static int run_report(struct cellar_front *front, const char *name,
                      measure_fn *measure, const struct about *about)
{
    const struct cellar_options *options = &front->options;
    const struct cellar_bench_ask ask = {
        .c = front->c,
        .spec = &options->spec,
        .rounds = options->cells,
        .sessions = options->sessions,
        .python = options->python,
        .data_dir = cellar_supervisor_data_dir(front->c)};
    struct cellar_report report = {.count = 0};
    if (measure(&ask, &report, &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    if (options->json)
        return report_json(front, name, about, &report) == CELLAR_OK
                   ? CELLAR_EXIT_OK
                   : cellar_front_fail(front);
    cellar_figures_print(&front->out, &report);
    cellar_output_printf(&front->out, "on %s\n", about->machine);
    return CELLAR_EXIT_OK;
}

/* -------------------------------------------- those with their own form -- */

static void print_times(struct cellar_output *out, const char *what,
                        const struct cellar_bench_times *times)
{
    cellar_output_printf(out, "%-26s %7.2f ms %7.2f ms %7.2f ms\n", what,
                         times->p50_us / 1e3, times->p99_us / 1e3,
                         times->max_us / 1e3);
}

static void print_hostile_text(struct cellar_output *out,
                               const struct cellar_bench_hostile *bench,
                               const struct about *about)
{
    cellar_output_printf(out, "%-26s %10s %10s %10s\n", "", "p50", "p99",
                         "slowest");
    print_times(out, "1+1 alone", &bench->alone);
    print_times(out, "1+1 beside two floods", &bench->beside);
    print_times(out, "interrupt of a flood", &bench->interrupt);
    cellar_output_printf(out, "%-26s %6.1f MiB\n", "peak memory on the host",
                         (double)bench->peak_rss_bytes / (1 << 20));
    cellar_output_printf(out,
                         "%" PRIu64 " rounds, %" PRIu64 " interrupts, on %s\n",
                         bench->rounds, bench->interrupts, about->machine);
}

static json_t *times_json(const struct cellar_bench_times *times)
{
    return json_pack("{s:f, s:f, s:f}", "p50_us", times->p50_us, "p99_us",
                     times->p99_us, "max_us", times->max_us);
}

static enum cellar_code
print_hostile_json(struct cellar_front *front,
                   const struct cellar_bench_hostile *bench,
                   const struct about *about)
{
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:I, s:s}", "bench",
        "hostile", "engine", about->engine, "image", front->options.spec.image,
        "rounds", (json_int_t)bench->rounds, "interrupts",
        (json_int_t)bench->interrupts, "alone", times_json(&bench->alone),
        "beside", times_json(&bench->beside), "interrupt",
        times_json(&bench->interrupt), "peak_rss_bytes",
        (json_int_t)bench->peak_rss_bytes, "machine", about->machine);
    return print_json(front, root);
}

static int run_hostile(struct cellar_front *front, const struct about *about)
{
    const struct cellar_options *options = &front->options;
    uint64_t rounds =
        options->cells ? options->cells : CELLAR_BENCH_HOSTILE_ROUNDS;
    struct cellar_bench_hostile bench;
    if (cellar_bench_hostile(front->c, &options->spec, rounds, &bench,
                             &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    if (!options->json)
        print_hostile_text(&front->out, &bench, about);
    else if (print_hostile_json(front, &bench, about) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

static void print_scale_text(struct cellar_output *out,
                             const struct cellar_bench_scale *bench,
                             const struct about *about)
{
    cellar_output_printf(out, "%-26s %10s %10s %10s\n", "", "p50", "p99",
                         "slowest");
    print_times(out, "start, all at once", &bench->start);
    print_times(out, "cell, in turn", &bench->in_turn);
    print_times(out, "cell, all at once", &bench->at_once);
    print_times(out, "interrupt, all at once", &bench->interrupt);
    print_times(out, "stop, all at once", &bench->stop);
    cellar_output_printf(out, "%-26s %7.2f s\n", "all are ready after",
                         bench->start_all_us / 1e6);
    cellar_output_printf(out, "%-26s %7.0f /s\n", "cells, all at once",
                         bench->cells_per_s);
    cellar_output_printf(out, "%-26s %7.2f\n", "slowest session to median",
                         bench->slowest_to_median);
    cellar_output_printf(out, "%-26s %7.1f MB/s\n", "output, all at once",
                         bench->output_bytes_per_s / 1e6);
    cellar_output_printf(out, "%-26s %6.1f KiB allocated, %.1f KiB resident\n",
                         "memory a session", (double)bench->memory_bytes / 1024,
                         (double)bench->rss_bytes / 1024);
    cellar_output_printf(
        out, "%-26s %7.2f descriptors; %" PRIu64 " threads in all\n", "and",
        bench->descriptors, bench->threads);
    cellar_output_printf(out, "%-26s %6.2f MiB\n", "inside, a session",
                         (double)bench->inside_bytes / (1 << 20));
    cellar_output_printf(out, "%-26s %6.2f MiB\n", "of the machine, a session",
                         (double)bench->machine_bytes / (1 << 20));
    cellar_output_printf(out, "%-26s %7" PRIu64 " %s\n", "failures",
                         bench->failures, bench->first_failure);
    cellar_output_printf(out,
                         "%" PRIu64 " sessions, %" PRIu64
                         " cells each, in one process, on %s\n",
                         bench->sessions, bench->cells, about->machine);
}

static enum cellar_code print_scale_json(struct cellar_front *front,
                                         const struct cellar_bench_scale *bench,
                                         const struct about *about)
{
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:o, s:f, s:o, s:o, s:f, s:f, s:f, s:o, "
        "s:o, s:I, s:I, s:f, s:I, s:o, s:I, s:I, s:s, s:s}",
        "bench", "scale", "engine", about->engine, "image",
        front->options.spec.image, "sessions", (json_int_t)bench->sessions,
        "cells", (json_int_t)bench->cells, "start", times_json(&bench->start),
        "start_all_us", bench->start_all_us, "in_turn",
        times_json(&bench->in_turn), "at_once", times_json(&bench->at_once),
        "cells_per_s", bench->cells_per_s, "slowest_to_median",
        bench->slowest_to_median, "output_bytes_per_s",
        bench->output_bytes_per_s, "interrupt", times_json(&bench->interrupt),
        "stop", times_json(&bench->stop), "memory_bytes_per_session",
        (json_int_t)bench->memory_bytes, "rss_bytes_per_session",
        (json_int_t)bench->rss_bytes, "descriptors_per_session",
        bench->descriptors, "threads", (json_int_t)bench->threads,
        "pss_bytes_per_session",
        bench->inside_bytes > 0 ? json_integer((json_int_t)bench->inside_bytes)
                                : json_null(),
        "machine_bytes_per_session", (json_int_t)bench->machine_bytes,
        "failures", (json_int_t)bench->failures, "first_failure",
        bench->first_failure, "machine", about->machine);
    return print_json(front, root);
}

static int run_scale(struct cellar_front *front, const struct about *about)
{
    const struct cellar_options *options = &front->options;
    uint64_t sessions =
        options->sessions ? options->sessions : CELLAR_BENCH_SESSIONS;
    uint64_t cells = options->cells ? options->cells : CELLAR_BENCH_SCALE_CELLS;
    struct cellar_bench_scale bench;
    if (cellar_bench_scale(front->c, &options->spec, sessions, cells, &bench,
                           &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    if (!options->json)
        print_scale_text(&front->out, &bench, about);
    else if (print_scale_json(front, &bench, about) != CELLAR_OK)
        return cellar_front_fail(front);
    return bench.failures > 0 ? CELLAR_EXIT_CELL : CELLAR_EXIT_OK;
}

static void print_micros(struct cellar_output *out, const char *what,
                         const struct cellar_bench_times *times)
{
    cellar_output_printf(out, "%-26s %7.1f us %7.1f us %7.1f us\n", what,
                         times->p50_us, times->p99_us, times->max_us);
}

static void print_pair(struct cellar_output *out, const char *what,
                       const struct cellar_bench_policies *both)
{
    cellar_output_printf(out, "%s\n", what);
    print_micros(out, "  x += 1, auto", &both->automatic);
    print_micros(out, "  x += 1, off", &both->off);
    cellar_output_printf(out, "%-26s %7.2f\n", "  ratio of the medians",
                         both->ratio_to_off);
}

static void print_restore(struct cellar_output *out,
                          const struct cellar_bench_restore *row)
{
    cellar_output_printf(out, "a crash with %" PRIu64 " MB of state",
                         row->state_bytes / 1000000);
    if (row->skipped) {
        cellar_output_printf(out, ": skipped, %s\n", row->skipped);
        return;
    }
    cellar_output_text(out, "\n");
    print_times(out, "  the crash, to its result", &row->crash);
    print_times(out, "  from there to the next", &row->next);
    print_times(out, "  both: back at work", &row->back);
}

static void print_fork(struct cellar_output *out,
                       const struct cellar_bench_fork *row)
{
    cellar_output_printf(out,
                         "%" PRIu64 " branches of %" PRIu64 " MB of state\n",
                         row->branches, row->state_bytes / 1000000);
    print_times(out, "  until all are there", &row->all);
    print_times(out, "  one of them, adopted", &row->adopt);
    print_times(out, "  its first cell", &row->cell);
}

static void print_checkpoint_text(struct cellar_output *out,
                                  const struct cellar_bench_checkpoint *bench,
                                  const struct about *about)
{
    cellar_output_printf(out, "%-26s %10s %10s %10s\n", "", "p50", "p99",
                         "slowest");
    print_pair(out, "cells with a pause of 10 ms between them", &bench->paused);
    print_pair(out, "cells back to back: each waits for the copying",
               &bench->back_to_back);
    for (size_t i = 0; i < CELLAR_BENCH_RESTORES; i++)
        print_restore(out, &bench->restores[i]);
    print_fork(out, &bench->fork);
    cellar_output_printf(
        out,
        "The goal: back at work within %.0f ms, with 100 MB of state.\n"
        "%" PRIu64
        " cells of each policy, in turn, with 10 MB of state; %" PRIu64
        " crashes of each size;\n%" PRIu64 " times %" PRIu64
        " branches; on %s\n",
        CELLAR_BENCH_BACK_US / 1e3, bench->paused.rounds,
        bench->restores[0].rounds, bench->fork.rounds, bench->fork.branches,
        about->machine);
}

static json_t *policies_json(const struct cellar_bench_policies *both,
                             unsigned pause_us)
{
    return json_pack(
        "{s:I, s:I, s:o, s:o, s:f}", "pause_us", (json_int_t)pause_us, "rounds",
        (json_int_t)both->rounds, "auto", times_json(&both->automatic), "off",
        times_json(&both->off), "ratio_to_off", both->ratio_to_off);
}

static json_t *restore_json(const struct cellar_bench_restore *row)
{
    json_int_t bytes = (json_int_t)row->state_bytes;
    if (row->skipped)
        return json_pack("{s:I, s:s}", "state_bytes", bytes, "skipped",
                         row->skipped);
    return json_pack("{s:I, s:I, s:o, s:o, s:o}", "state_bytes", bytes,
                     "rounds", (json_int_t)row->rounds, "crash",
                     times_json(&row->crash), "next", times_json(&row->next),
                     "back", times_json(&row->back));
}

static json_t *restores_json(const struct cellar_bench_checkpoint *bench)
{
    json_t *list = json_array();
    for (size_t i = 0; i < CELLAR_BENCH_RESTORES; i++)
        if (json_array_append_new(list, restore_json(&bench->restores[i])) !=
            0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *fork_json(const struct cellar_bench_fork *row)
{
    return json_pack(
        "{s:I, s:I, s:I, s:o, s:o, s:o}", "state_bytes",
        (json_int_t)row->state_bytes, "branches", (json_int_t)row->branches,
        "rounds", (json_int_t)row->rounds, "all", times_json(&row->all),
        "adopt", times_json(&row->adopt), "cell", times_json(&row->cell));
}

static enum cellar_code
print_checkpoint_json(struct cellar_front *front,
                      const struct cellar_bench_checkpoint *bench,
                      const struct about *about)
{
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:s}", "bench",
        "checkpoint", "engine", about->engine, "image",
        front->options.spec.image, "state_bytes",
        (json_int_t)CELLAR_BENCH_STATE_BYTES, "paused",
        policies_json(&bench->paused, CELLAR_BENCH_PAUSE_MS * 1000),
        "back_to_back", policies_json(&bench->back_to_back, 0), "restores",
        restores_json(bench), "fork", fork_json(&bench->fork), "goal_back_us",
        (json_int_t)CELLAR_BENCH_BACK_US, "goal_state_bytes",
        (json_int_t)CELLAR_BENCH_BACK_BYTES, "machine", about->machine);
    return print_json(front, root);
}

static int run_checkpoint(struct cellar_front *front, const struct about *about)
{
    const struct cellar_options *options = &front->options;
    uint64_t rounds =
        options->cells ? options->cells : CELLAR_BENCH_CHECKPOINT_ROUNDS;
    struct cellar_bench_checkpoint bench = {0};
    if (cellar_bench_checkpoint(front->c, &options->spec, rounds, &bench,
                                &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    if (!options->json)
        print_checkpoint_text(&front->out, &bench, about);
    else if (print_checkpoint_json(front, &bench, about) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

/* Each has one of the two. `all` runs them in this order. */
static const struct bench {
    const char *name;
    measure_fn *measure;
    int (*run)(struct cellar_front *front, const struct about *about);
} benches[] = {{"cell", cellar_bench_cell, NULL},
               {"start", cellar_bench_start, NULL},
               {"pool", cellar_bench_pool, NULL},
               {"output", cellar_bench_output, NULL},
               {"memory", cellar_bench_memory, NULL},
               {"codec", cellar_bench_codec, NULL},
               {"checkpoint", NULL, run_checkpoint},
               {"hostile", NULL, run_hostile},
               {"scale", NULL, run_scale}};

#define BENCHES (sizeof benches / sizeof benches[0])

static int run_one(struct cellar_front *front, const struct bench *bench,
                   const struct about *about)
{
    return bench->measure
               ? run_report(front, bench->name, bench->measure, about)
               : bench->run(front, about);
}

static int run_all(struct cellar_front *front, const struct about *about)
{
    int status = CELLAR_EXIT_OK;
    for (size_t i = 0; i < BENCHES && status == CELLAR_EXIT_OK; i++) {
        if (!front->options.json)
            cellar_output_printf(&front->out, "%s%s\n", i ? "\n" : "",
                                 benches[i].name);
        cellar_front_flush(front);
        status = run_one(front, &benches[i], about);
    }
    return status;
}

/* Where either engine may get a session, one tells which does. */
static enum cellar_code find_engine(struct cellar_front *front,
                                    const char **name)
{
    const struct cellar_engine *engine = cellar_supervisor_engine(front->c);
    struct cellar_spec mine = front->options.spec;
    struct cellar_session *s = NULL;
    *name = engine->ops->name;
    if (strcmp(*name, "auto") != 0)
        return CELLAR_OK;
    mine.name = NULL;
    if (cellar_start(front->c, &mine, &s, &front->err) != CELLAR_OK)
        return front->err.code;
    *name = cellar_engine_name_of(engine, cellar_session_container(s));
    return cellar_stop(s, &front->err);
}

static const struct bench *find(const char *name)
{
    for (size_t i = 0; i < BENCHES; i++)
        if (strcmp(name, benches[i].name) == 0)
            return &benches[i];
    return NULL;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    const char *name =
        options->operand_count > 1 ? options->operands[1] : "cell";
    bool all = strcmp(name, "all") == 0;
    const struct bench *bench = find(name);
    struct about about;
    if (!bench && !all)
        return cellar_front_usage(
            front,
            "unknown bench '%s': there are 'cell', 'start', 'pool', 'output', "
            "'memory', 'codec', 'checkpoint', 'hostile', 'scale' and 'all'",
            name);
    cellar_machine(about.machine, sizeof about.machine);
    if (cellar_front_open(front) != CELLAR_OK ||
        find_engine(front, &about.engine) != CELLAR_OK)
        return cellar_front_fail(front);
    return bench ? run_one(front, bench, &about) : run_all(front, &about);
}

const struct cellar_command cellar_command_bench = {
    .name = "bench",
    .bit = CELLAR_ON_BENCH,
    .operands = "[BENCH|all]",
    .operands_min = 0,
    .operands_max = 1,
    .text = "Measure Cellar beside the bare thing and ipykernel",
    .details =
        "Each bench has Cellar and what it is compared with take turns in one "
        "run:\n"
        "cell: the round trip of `x+=1`, beside a bare echo process in a "
        "container of\n"
        "the same spec over the same kind of stream: unnamed, named, with "
        "checkpoints.\n"
        "start: a new session to its first result, beside a bare container to "
        "its echo.\n"
        "pool: a session out of a pool to its first result, beside one that is "
        "started.\n"
        "output: 50 MB of stdout in lines of 1 KB, beside a bare process that "
        "writes it.\n"
        "memory: what an idle session takes, inside and of its supervisor.\n"
        "codec: frames packed and signed, verified and parsed, beside "
        "libsodium alone.\n"
        "checkpoint: `x += 1` with the policies auto and off in turn, with "
        "pauses and\n"
        "back to back; how soon a session is back from a crash with 10, 100 "
        "and 1,000\n"
        "MB of state: the crash to its result, and from there to the next "
        "cell's; and\n"
        "how soon there are ten branches of 100 MB.\n"
        "hostile: the round trip of `1+1` alone, and while two sessions of the "
        "same\n"
        "supervisor flood; how soon an interrupt ends a flood; the "
        "supervisor's memory.\n"
        "scale: many named sessions of one supervisor at once: starts, cells, "
        "output,\n"
        "interrupts, stops, and what a session takes.\n"
        "ipykernel is measured through jupyter_client where --python,\n"
        "CELLAR_BENCH_PYTHON or python3 has both. Times drift; compare "
        "ratios.\n",
    .run = run,
};
