#include <inttypes.h>

#include "bare.h"
#include "bench.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "samples.h"

/* Rounds before the other side has its turn: short enough that both meet the
 * same machine, long enough to be warm. */
#define TURN 50

static enum cellar_code run_cell(struct cellar_session *s, const char *code,
                                 struct cellar_error *err)
{
    struct cellar_cell cell = {.code = code};
    struct cellar_result *result = NULL;
    enum cellar_code ended = cellar_run(s, &cell, &result, err);
    if (ended == CELLAR_OK && result->status != CELLAR_STATUS_OK)
        ended = cellar_fail(err, CELLAR_E_LOST, "cell %" PRIu64 " ended: %s",
                            result->cell, cellar_status_name(result->status));
    cellar_result_free(result);
    return ended;
}

static enum cellar_code turn_cells(struct cellar_session *s, uint64_t rounds,
                                   struct cellar_samples *samples,
                                   struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i++) {
        uint64_t began = cellar_loop_now_us();
        code = run_cell(s, "x+=1", err);
        cellar_samples_add(samples, (double)(cellar_loop_now_us() - began));
    }
    return code;
}

static enum cellar_code turn_bare(struct cellar_bare *bare, uint64_t rounds,
                                  struct cellar_samples *samples,
                                  struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i++) {
        uint64_t began = cellar_loop_now_us();
        code = cellar_bare_round(bare, err);
        cellar_samples_add(samples, (double)(cellar_loop_now_us() - began));
    }
    return code;
}

/* The first turn of each warms up and is not counted. */
static enum cellar_code measure(struct cellar_session *s,
                                struct cellar_bare *bare, uint64_t rounds,
                                struct cellar_samples *cells,
                                struct cellar_samples *bares,
                                struct cellar_error *err)
{
    struct cellar_samples none = {0};
    enum cellar_code code = run_cell(s, "x = 0", err);
    if (code == CELLAR_OK)
        code = turn_cells(s, TURN, &none, err);
    if (code == CELLAR_OK)
        code = turn_bare(bare, TURN, &none, err);
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i += TURN) {
        uint64_t turn = rounds - i < TURN ? rounds - i : TURN;
        code = turn_cells(s, turn, cells, err);
        if (code == CELLAR_OK)
            code = turn_bare(bare, turn, bares, err);
    }
    return code;
}

static void summarize(uint64_t rounds, struct cellar_samples *cells,
                      struct cellar_samples *bares,
                      struct cellar_bench_cell *out)
{
    *out = (struct cellar_bench_cell){
        .rounds = rounds,
        .p50_us = cellar_samples_percentile(cells, 50),
        .p99_us = cellar_samples_percentile(cells, 99),
        .bare_p50_us = cellar_samples_percentile(bares, 50),
        .bare_p99_us = cellar_samples_percentile(bares, 99)};
    if (out->bare_p50_us > 0)
        out->ratio_to_bare = out->p50_us / out->bare_p50_us;
}

enum cellar_code cellar_bench_cell(struct cellar *c, struct cellar_session *s,
                                   const struct cellar_spec *spec,
                                   uint64_t rounds,
                                   struct cellar_bench_cell *out,
                                   struct cellar_error *err)
{
    struct cellar_samples cells = {0};
    struct cellar_samples bares = {0};
    struct cellar_bare *bare = NULL;
    enum cellar_code code = CELLAR_OK;
    if (!cellar_samples_init(&cells, rounds) ||
        !cellar_samples_init(&bares, rounds))
        code = cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    if (code == CELLAR_OK)
        code = cellar_bare_new(c, spec, &bare, err);
    if (code == CELLAR_OK)
        code = measure(s, bare, rounds, &cells, &bares, err);
    cellar_bare_free(bare);
    if (code == CELLAR_OK)
        summarize(rounds, &cells, &bares, out);
    cellar_samples_done(&cells);
    cellar_samples_done(&bares);
    return code;
}
