#include <stdio.h>
#include <unistd.h>

#include "checked.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "report.h"
#include "samples.h"

#define ROUNDS    20
#define POOL_SIZE 4

/* So long a pool may take to be full again. */
#define PATIENCE_US UINT64_C(60000000)

/* Unnamed, and under a name that is recorded. */
enum kind { UNNAMED, NAMED, KINDS };

struct takes {
    struct cellar_pool *pool;
    struct cellar_samples take[KINDS];
    struct cellar_samples first[KINDS];
    struct cellar_samples cold;
};

/* A name of nobody else's. */
static void make_name(char name[CELLAR_NAME_BYTES_MAX + 1])
{
    static unsigned count;
    (void)snprintf(name, CELLAR_NAME_BYTES_MAX + 1, "bench-pool-%ld-%u",
                   (long)getpid(), ++count);
}

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
                                 enum kind kind, struct takes *takes,
                                 struct cellar_error *err)
{
    struct cellar_session *session = NULL;
    char name[CELLAR_NAME_BYTES_MAX + 1];
    enum cellar_code code = until_full(ask, takes, err);
    if (code != CELLAR_OK)
        return code;
    make_name(name);
    uint64_t began = cellar_loop_now_us();
    code = cellar_pool_take(takes->pool, kind == NAMED ? name : NULL, &session,
                            err);
    cellar_samples_add(&takes->take[kind], cellar_checked_since(began));
    if (code == CELLAR_OK)
        code = cellar_checked_first(session, ask->spec, err);
    cellar_samples_add(&takes->first[kind], cellar_checked_since(began));
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

static void each_samples(struct takes *takes,
                         void (*act)(struct cellar_samples *samples))
{
    for (int kind = 0; kind < KINDS; kind++) {
        act(&takes->take[kind]);
        act(&takes->first[kind]);
    }
    act(&takes->cold);
}

static void forget(struct cellar_samples *samples)
{
    samples->count = 0;
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
        for (int kind = 0; kind < KINDS && code == CELLAR_OK; kind++)
            code = take_one(ask, (enum kind)kind, takes, err);
        if (code == CELLAR_OK)
            code = start_one(ask, &mine, takes, err);
        if (i == 0)
            each_samples(takes, forget);
    }
    return code;
}

static void tell_times(struct cellar_samples *samples, const char *prefix,
                       const char *text, struct cellar_report *report)
{
    const struct cellar_bench_times times = cellar_samples_times(samples);
    cellar_report_times(report, prefix, text, &times);
}

static void tell(struct takes *takes, uint64_t rounds,
                 struct cellar_report *report)
{
    struct cellar_pool_stats stats;
    cellar_pool_stats(takes->pool, &stats);
    tell_times(&takes->first[UNNAMED], "", "taken from a pool, to first result",
               report);
    tell_times(&takes->take[UNNAMED], "take_", "of this, until it is ready",
               report);
    tell_times(&takes->first[NAMED], "named_",
               "taken under a name, to first result", report);
    tell_times(&takes->take[NAMED], "named_take_", "of this, until it is ready",
               report);
    tell_times(&takes->cold, "start_", "started, to first result", report);
    cellar_report_ratio(report, "start_to_pool", "started to taken",
                        "start_p50_us", "p50_us");
    cellar_report_ratio(report, "named_to_unnamed", "named to unnamed",
                        "named_p50_us", "p50_us");
    cellar_report_add(report, "missed", "takes that found none ready",
                      (double)stats.missed);
    cellar_report_add(report, "rounds", "rounds of each, in turn",
                      (double)rounds);
}

static bool make_room(struct takes *takes, size_t room)
{
    bool made = cellar_samples_init(&takes->cold, room);
    for (int kind = 0; kind < KINDS; kind++)
        made &= cellar_samples_init(&takes->take[kind], room) &&
                cellar_samples_init(&takes->first[kind], room);
    return made;
}

enum cellar_code cellar_bench_pool(const struct cellar_bench_ask *ask,
                                   struct cellar_report *report,
                                   struct cellar_error *err)
{
    uint64_t rounds = ask->rounds ? ask->rounds : ROUNDS;
    struct takes takes = {.pool = NULL};
    enum cellar_code code = CELLAR_E_NOMEM;
    if (!make_room(&takes, rounds + 1))
        (void)cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    else
        code = measure(ask, rounds, &takes, err);
    if (code == CELLAR_OK)
        tell(&takes, rounds, report);
    cellar_pool_free(takes.pool);
    each_samples(&takes, cellar_samples_done);
    return code;
}
