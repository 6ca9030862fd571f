#include "checked.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "report.h"
#include "samples.h"

#define ROUNDS    20
#define POOL_SIZE 4

/* So long a pool may take to be full again. */
#define PATIENCE_US UINT64_C(60000000)

struct takes {
    struct cellar_pool *pool;
    struct cellar_samples take;
    struct cellar_samples first;
    struct cellar_samples cold;
};

/* All of them: what is being started takes time from what is measured. */
static enum cellar_code until_full(const struct cellar_bench_ask *ask,
                                   const struct takes *takes,
                                   struct cellar_error *err)
{
    uint64_t began = cellar_loop_now_us();
    struct cellar_pool_stats stats;
    cellar_pool_stats(takes->pool, &stats);
    while (stats.ready < stats.size) {
        if (cellar_loop_now_us() - began > PATIENCE_US)
            return cellar_fail(err, CELLAR_E_TIMEOUT,
                               "the pool does not fill: %.200s",
                               stats.trouble ? stats.trouble : "no reason");
        (void)cellar_dispatch(ask->c, 100);
        cellar_pool_stats(takes->pool, &stats);
    }
    return CELLAR_OK;
}

static enum cellar_code take_one(const struct cellar_bench_ask *ask,
                                 struct takes *takes, struct cellar_error *err)
{
    struct cellar_session *session = NULL;
    enum cellar_code code = until_full(ask, takes, err);
    if (code != CELLAR_OK)
        return code;
    uint64_t began = cellar_loop_now_us();
    code = cellar_pool_take(takes->pool, NULL, &session, err);
    cellar_samples_add(&takes->take, cellar_checked_since(began));
    if (code == CELLAR_OK)
        code = cellar_checked_first(session, ask->spec, err);
    cellar_samples_add(&takes->first, cellar_checked_since(began));
    return cellar_checked_stop(session, code, err);
}

static enum cellar_code start_one(const struct cellar_bench_ask *ask,
                                  const struct cellar_spec *spec,
                                  struct takes *takes, struct cellar_error *err)
{
    struct cellar_session *session = NULL;
    enum cellar_code code = until_full(ask, takes, err);
    if (code != CELLAR_OK)
        return code;
    uint64_t began = cellar_loop_now_us();
    code = cellar_start(ask->c, spec, &session, err);
    if (code == CELLAR_OK)
        code = cellar_checked_first(session, ask->spec, err);
    cellar_samples_add(&takes->cold, cellar_checked_since(began));
    return cellar_checked_stop(session, code, err);
}

/* The first of each warms up and is not counted. */
static enum cellar_code measure(const struct cellar_bench_ask *ask,
                                uint64_t rounds, struct takes *takes,
                                struct cellar_error *err)
{
    struct cellar_spec mine = *ask->spec;
    mine.name = NULL;
    mine.lease_ms = CELLAR_BENCH_LEASE_MS;
    enum cellar_code code =
        cellar_pool_new(ask->c, &mine, POOL_SIZE, &takes->pool, err);
    for (uint64_t i = 0; i <= rounds && code == CELLAR_OK; i++) {
        code = take_one(ask, takes, err);
        if (code == CELLAR_OK)
            code = start_one(ask, &mine, takes, err);
        if (i == 0)
            takes->take.count = takes->first.count = takes->cold.count = 0;
    }
    return code;
}

static void tell(struct takes *takes, uint64_t rounds,
                 struct cellar_report *report)
{
    const struct cellar_bench_times first = cellar_samples_times(&takes->first);
    const struct cellar_bench_times take = cellar_samples_times(&takes->take);
    const struct cellar_bench_times cold = cellar_samples_times(&takes->cold);
    struct cellar_pool_stats stats;
    cellar_pool_stats(takes->pool, &stats);
    cellar_report_times(report, "", "taken from a pool, to first result",
                        &first);
    cellar_report_times(report, "take_", "of this, until it is ready", &take);
    cellar_report_times(report, "start_", "started, to first result", &cold);
    cellar_report_ratio(report, "start_to_pool", "started to taken",
                        "start_p50_us", "p50_us");
    cellar_report_add(report, "missed", "takes that found none ready",
                      (double)stats.missed);
    cellar_report_add(report, "rounds", "rounds of each, in turn",
                      (double)rounds);
}

enum cellar_code cellar_bench_pool(const struct cellar_bench_ask *ask,
                                   struct cellar_report *report,
                                   struct cellar_error *err)
{
    uint64_t rounds = ask->rounds ? ask->rounds : ROUNDS;
    struct takes takes = {.pool = NULL};
    enum cellar_code code = CELLAR_E_NOMEM;
    if (!cellar_samples_init(&takes.take, rounds + 1) ||
        !cellar_samples_init(&takes.first, rounds + 1) ||
        !cellar_samples_init(&takes.cold, rounds + 1))
        (void)cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    else
        code = measure(ask, rounds, &takes, err);
    if (code == CELLAR_OK)
        tell(&takes, rounds, report);
    cellar_pool_free(takes.pool);
    cellar_samples_done(&takes.take);
    cellar_samples_done(&takes.first);
    cellar_samples_done(&takes.cold);
    return code;
}
