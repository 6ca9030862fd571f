#include <inttypes.h>
#include <stdio.h>

#include "bare.h"
#include "checked.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "peer.h"
#include "report.h"
#include "samples.h"

#define ROUNDS     10
#define LINE_BYTES 1024
#define LINES      51200

#define BYTES ((uint64_t)LINE_BYTES * LINES)

struct output {
    struct cellar_session *session;
    struct cellar_bare *bare;
    struct cellar_samples cells;
    struct cellar_samples bares;
};

static enum cellar_code print_once(struct output *output,
                                   struct cellar_error *err)
{
    char code[96];
    struct cellar_cell cell = {.code = code};
    struct cellar_result *result = NULL;
    (void)snprintf(code, sizeof code, "for _ in range(%d): print('x' * %d)",
                   LINES, LINE_BYTES - 1);
    uint64_t began = cellar_loop_now_us();
    enum cellar_code ended = cellar_run(output->session, &cell, &result, err);
    cellar_samples_add(&output->cells, cellar_checked_since(began));
    if (ended == CELLAR_OK &&
        (result->status != CELLAR_STATUS_OK || result->stdout_len != BYTES))
        ended = cellar_fail(err, CELLAR_E_LOST,
                            "the cell ended: %s, with %zu of %" PRIu64 " bytes",
                            cellar_status_name(result->status),
                            result->stdout_len, BYTES);
    cellar_result_free(result);
    return ended;
}

static enum cellar_code give_once(struct output *output,
                                  struct cellar_error *err)
{
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code = cellar_bare_output(output->bare, BYTES, err);
    cellar_samples_add(&output->bares, cellar_checked_since(began));
    return code;
}

/* The first of each warms up and is not counted. */
static enum cellar_code measure(struct output *output, uint64_t rounds,
                                struct cellar_error *err)
{
    enum cellar_code code = print_once(output, err);
    if (code == CELLAR_OK)
        code = give_once(output, err);
    output->cells.count = output->bares.count = 0;
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i++) {
        code = print_once(output, err);
        if (code == CELLAR_OK)
            code = give_once(output, err);
    }
    return code;
}

static enum cellar_code open_both(const struct cellar_bench_ask *ask,
                                  uint64_t rounds, struct output *output,
                                  struct cellar_error *err)
{
    struct cellar_spec mine = *ask->spec;
    mine.name = NULL;
    mine.lease_ms = CELLAR_BENCH_LEASE_MS;
    mine.output_bytes = BYTES;
    if (!cellar_samples_init(&output->cells, rounds + 1) ||
        !cellar_samples_init(&output->bares, rounds + 1))
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    enum cellar_code code = cellar_start(ask->c, &mine, &output->session, err);
    return code == CELLAR_OK
               ? cellar_bare_new(ask->c, ask->spec, &output->bare, err)
               : code;
}

static double speed(struct cellar_samples *samples)
{
    double us = cellar_samples_percentile(samples, 50);
    return us > 0 ? (double)BYTES / us * 1e6 : 0;
}

static void tell(struct output *output, uint64_t rounds,
                 struct cellar_report *report)
{
    cellar_report_add(report, "bytes_per_s", "stdout of a cell",
                      speed(&output->cells));
    cellar_report_add(report, "bare_bytes_per_s", "bare process, same stream",
                      speed(&output->bares));
    cellar_report_ratio(report, "ratio_to_bare", "cell to bare process",
                        "bytes_per_s", "bare_bytes_per_s");
    cellar_report_add(report, "output_bytes", "each time, in lines of 1 KB",
                      (double)BYTES);
    cellar_report_add(report, "rounds", "rounds of each, in turn",
                      (double)rounds);
}

static void compare(const struct cellar_bench_ask *ask,
                    struct cellar_report *report)
{
    static const struct cellar_peer_figure figures[] = {
        {"bytes_per_s", "stdout of a cell"}};
    const struct cellar_peer peer = {ask->python, ask->data_dir};
    cellar_peer_measure(&peer, "output", BYTES, figures, 1, report);
    cellar_report_ratio(report, "ratio_to_ipykernel", "Cellar's to ipykernel's",
                        "bytes_per_s", "ipykernel_bytes_per_s");
}

enum cellar_code cellar_bench_output(const struct cellar_bench_ask *ask,
                                     struct cellar_report *report,
                                     struct cellar_error *err)
{
    uint64_t rounds = ask->rounds ? ask->rounds : ROUNDS;
    struct output output = {.session = NULL};
    enum cellar_code code = open_both(ask, rounds, &output, err);
    if (code == CELLAR_OK)
        code = measure(&output, rounds, err);
    if (code == CELLAR_OK)
        tell(&output, rounds, report);
    code = cellar_checked_stop(output.session, code, err);
    cellar_bare_free(output.bare);
    if (code == CELLAR_OK)
        compare(ask, report);
    cellar_samples_done(&output.cells);
    cellar_samples_done(&output.bares);
    return code;
}
