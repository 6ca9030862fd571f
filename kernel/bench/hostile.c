#include <inttypes.h>
#include <string.h>

#include "bench.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "machine.h"
#include "samples.h"

/* What print('x'*10**9) takes: the text, and it once more as bytes. */
#define HUGE_MEMORY (UINT64_C(3) << 30)

/* A flood that neither writes nor ends for so long is given up. */
#define PATIENCE_US UINT64_C(30000000)

/* A cell that floods, started again whenever it ends. */
struct flood {
    const char *code;
    struct cellar_session *session;
    bool running;
    bool stopping; /* what ends is not started again */
    uint64_t output_bytes;
    struct cellar_error err; /* why it does not flood any more */
};

struct bench {
    struct cellar *c;
    struct cellar_session *calm;
    struct flood huge;  /* one text of 1 GB */
    struct flood lines; /* two bytes at a time, for ever */
    struct cellar_samples alone;
    struct cellar_samples beside;
    struct cellar_samples interrupts;
};

static void on_output(void *user, int stream, const char *data, size_t len)
{
    struct flood *flood = user;
    (void)stream;
    (void)data;
    flood->output_bytes += len;
}

static void on_ended(void *user, struct cellar_result *result,
                     const struct cellar_error *err);

static enum cellar_code flood_run(struct flood *flood, struct cellar_error *err)
{
    struct cellar_cell cell = {.code = flood->code,
                               .timeout_ms = UINT64_MAX,
                               .on_output = on_output,
                               .user = flood};
    flood->output_bytes = 0;
    enum cellar_code code =
        cellar_run_async(flood->session, &cell, on_ended, flood, err);
    flood->running = code == CELLAR_OK;
    return code;
}

static void on_ended(void *user, struct cellar_result *result,
                     const struct cellar_error *err)
{
    struct flood *flood = user;
    flood->running = false;
    if (err)
        flood->err = *err;
    else if (result->status != CELLAR_STATUS_OK &&
             result->status != CELLAR_STATUS_INTERRUPTED)
        cellar_fail(&flood->err, CELLAR_E_LOST, "the flood %s ended: %s",
                    flood->code, cellar_status_name(result->status));
    cellar_result_free(result);
    if (flood->err.code == CELLAR_OK && !flood->stopping)
        (void)flood_run(flood, &flood->err);
}

/* Runs the loop until the flood writes, or has ended. */
static enum cellar_code flood_wait(struct bench *bench, struct flood *flood,
                                   bool ended, struct cellar_error *err)
{
    uint64_t began = cellar_loop_now_us();
    while (flood->err.code == CELLAR_OK &&
           (ended ? flood->running : flood->output_bytes == 0)) {
        if (cellar_loop_now_us() - began > PATIENCE_US)
            return cellar_fail(err, CELLAR_E_TIMEOUT,
                               "the flood %s neither writes nor ends",
                               flood->code);
        (void)cellar_dispatch(bench->c, 1000);
    }
    if (flood->err.code != CELLAR_OK)
        *err = flood->err;
    return flood->err.code;
}

static enum cellar_code flood_start(struct bench *bench, struct flood *flood,
                                    const struct cellar_spec *spec,
                                    struct cellar_error *err)
{
    enum cellar_code code = cellar_start(bench->c, spec, &flood->session, err);
    if (code == CELLAR_OK)
        code = flood_run(flood, err);
    return code == CELLAR_OK ? flood_wait(bench, flood, false, err) : code;
}

/* From the call to the cell's end, which the agent has signed. */
static enum cellar_code flood_interrupt(struct bench *bench,
                                        struct flood *flood,
                                        struct cellar_error *err)
{
    uint64_t began = cellar_loop_now_us();
    flood->stopping = true;
    enum cellar_code code = cellar_interrupt(flood->session, err);
    if (code == CELLAR_OK)
        code = flood_wait(bench, flood, true, err);
    cellar_samples_add(&bench->interrupts,
                       (double)(cellar_loop_now_us() - began));
    flood->stopping = false;
    if (code == CELLAR_OK)
        code = flood_run(flood, err);
    return code == CELLAR_OK ? flood_wait(bench, flood, false, err) : code;
}

static enum cellar_code answer(struct bench *bench,
                               struct cellar_samples *samples,
                               struct cellar_error *err)
{
    struct cellar_cell cell = {.code = "1+1"};
    struct cellar_result *result = NULL;
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code = cellar_run(bench->calm, &cell, &result, err);
    cellar_samples_add(samples, (double)(cellar_loop_now_us() - began));
    if (code == CELLAR_OK && result->status != CELLAR_STATUS_OK)
        code = cellar_fail(err, CELLAR_E_LOST, "1+1 ended: %s",
                           cellar_status_name(result->status));
    cellar_result_free(result);
    return code;
}

static enum cellar_code measure(struct bench *bench,
                                const struct cellar_spec *spec, uint64_t rounds,
                                struct cellar_error *err)
{
    struct cellar_spec mine = *spec;
    mine.name = NULL;
    mine.lease_ms = CELLAR_BENCH_LEASE_MS;
    enum cellar_code code = cellar_start(bench->c, &mine, &bench->calm, err);
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i++)
        code = answer(bench, &bench->alone, err);
    if (code == CELLAR_OK)
        code = flood_start(bench, &bench->lines, &mine, err);
    if (mine.memory_bytes < HUGE_MEMORY)
        mine.memory_bytes = HUGE_MEMORY;
    if (code == CELLAR_OK)
        code = flood_start(bench, &bench->huge, &mine, err);
    for (uint64_t i = 1; i <= rounds && code == CELLAR_OK; i++) {
        code = answer(bench, &bench->beside, err);
        if (code == CELLAR_OK && i * CELLAR_BENCH_INTERRUPTS / rounds >
                                     (i - 1) * CELLAR_BENCH_INTERRUPTS / rounds)
            code = flood_interrupt(bench, &bench->lines, err);
    }
    return code;
}

static void summarize(struct bench *bench, uint64_t rounds,
                      struct cellar_bench_hostile *out)
{
    *out = (struct cellar_bench_hostile){
        .rounds = rounds,
        .interrupts = bench->interrupts.count,
        .alone = cellar_samples_times(&bench->alone),
        .beside = cellar_samples_times(&bench->beside),
        .interrupt = cellar_samples_times(&bench->interrupts),
        .peak_rss_bytes = cellar_process_bytes("VmHWM:")};
}

/* The first error is the one told. */
static void stop(struct cellar_session *session, enum cellar_code *code,
                 struct cellar_error *err)
{
    struct cellar_error ours = {0};
    if (!session || cellar_stop(session, &ours) == CELLAR_OK)
        return;
    if (*code == CELLAR_OK) {
        *code = ours.code;
        *err = ours;
    }
}

static void stop_all(struct bench *bench, enum cellar_code *code,
                     struct cellar_error *err)
{
    bench->huge.stopping = true;
    bench->lines.stopping = true;
    stop(bench->huge.session, code, err);
    stop(bench->lines.session, code, err);
    stop(bench->calm, code, err);
}

enum cellar_code cellar_bench_hostile(struct cellar *c,
                                      const struct cellar_spec *spec,
                                      uint64_t rounds,
                                      struct cellar_bench_hostile *out,
                                      struct cellar_error *err)
{
    struct bench bench = {.c = c,
                          .huge = {.code = "print('x'*10**9)"},
                          .lines = {.code = "while 1: print('x')"}};
    enum cellar_code code = CELLAR_OK;
    if (!cellar_samples_init(&bench.alone, rounds) ||
        !cellar_samples_init(&bench.beside, rounds) ||
        !cellar_samples_init(&bench.interrupts, CELLAR_BENCH_INTERRUPTS))
        code = cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    if (code == CELLAR_OK)
        code = measure(&bench, spec, rounds, err);
    stop_all(&bench, &code, err);
    if (code == CELLAR_OK)
        summarize(&bench, rounds, out);
    cellar_samples_done(&bench.alone);
    cellar_samples_done(&bench.beside);
    cellar_samples_done(&bench.interrupts);
    return code;
}
