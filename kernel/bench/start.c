#include "bare.h"
#include "checked.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "peer.h"
#include "report.h"
#include "samples.h"

#define ROUNDS 20

/* ipykernel takes half a second each time. */
#define PEER_ROUNDS 5

struct starts {
    struct cellar_samples ready;
    struct cellar_samples first;
    struct cellar_samples bare;
};

static enum cellar_code start_session(const struct cellar_bench_ask *ask,
                                      struct starts *starts,
                                      struct cellar_error *err)
{
    struct cellar_session *session = NULL;
    struct cellar_spec mine = *ask->spec;
    mine.name = NULL;
    mine.lease_ms = CELLAR_BENCH_LEASE_MS;
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code = cellar_start(ask->c, &mine, &session, err);
    cellar_samples_add(&starts->ready, cellar_checked_since(began));
    if (code == CELLAR_OK)
        code = cellar_checked_first(session, ask->spec, err);
    cellar_samples_add(&starts->first, cellar_checked_since(began));
    return cellar_checked_stop(session, code, err);
}

static enum cellar_code start_bare(const struct cellar_bench_ask *ask,
                                   struct starts *starts,
                                   struct cellar_error *err)
{
    struct cellar_bare *bare = NULL;
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code = cellar_bare_new(ask->c, ask->spec, &bare, err);
    cellar_samples_add(&starts->bare, cellar_checked_since(began));
    cellar_bare_free(bare);
    return code;
}

/* The first of each warms up and is not counted. */
static enum cellar_code measure(const struct cellar_bench_ask *ask,
                                uint64_t rounds, struct starts *starts,
                                struct cellar_error *err)
{
    enum cellar_code code = start_session(ask, starts, err);
    if (code == CELLAR_OK)
        code = start_bare(ask, starts, err);
    starts->ready.count = starts->first.count = starts->bare.count = 0;
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i++) {
        code = start_session(ask, starts, err);
        if (code == CELLAR_OK)
            code = start_bare(ask, starts, err);
    }
    return code;
}

static void tell(struct starts *starts, uint64_t rounds,
                 struct cellar_report *report)
{
    const struct cellar_bench_times first =
        cellar_samples_times(&starts->first);
    const struct cellar_bench_times ready =
        cellar_samples_times(&starts->ready);
    const struct cellar_bench_times bare = cellar_samples_times(&starts->bare);
    cellar_report_times(report, "", "start to first result", &first);
    cellar_report_times(report, "ready_", "of this, until it is ready", &ready);
    cellar_report_times(report, "bare_", "bare container to first echo", &bare);
    cellar_report_add(report, "added_us", "added to the bare start",
                      first.p50_us - bare.p50_us);
    cellar_report_ratio(report, "ratio_to_bare", "start to bare start",
                        "p50_us", "bare_p50_us");
    cellar_report_add(report, "rounds", "rounds of each, in turn",
                      (double)rounds);
}

static void compare(const struct cellar_bench_ask *ask, uint64_t rounds,
                    struct cellar_report *report)
{
    static const struct cellar_peer_figure figures[] = {
        {"p50_us", "start to first result, p50"},
        {"p99_us", "start to first result, p99"}};
    const struct cellar_peer peer = {ask->python, ask->data_dir};
    cellar_peer_measure(&peer, "start",
                        rounds < PEER_ROUNDS ? rounds : PEER_ROUNDS, figures, 2,
                        report);
    cellar_report_ratio(report, "ipykernel_to_cellar",
                        "ipykernel's to Cellar's", "ipykernel_p50_us",
                        "p50_us");
}

enum cellar_code cellar_bench_start(const struct cellar_bench_ask *ask,
                                    struct cellar_report *report,
                                    struct cellar_error *err)
{
    uint64_t rounds = ask->rounds ? ask->rounds : ROUNDS;
    struct starts starts = {.ready = {0}};
    enum cellar_code code = CELLAR_E_NOMEM;
    if (!cellar_samples_init(&starts.ready, rounds + 1) ||
        !cellar_samples_init(&starts.first, rounds + 1) ||
        !cellar_samples_init(&starts.bare, rounds + 1))
        (void)cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    else
        code = measure(ask, rounds, &starts, err);
    if (code == CELLAR_OK) {
        tell(&starts, rounds, report);
        compare(ask, rounds, report);
    }
    cellar_samples_done(&starts.ready);
    cellar_samples_done(&starts.first);
    cellar_samples_done(&starts.bare);
    return code;
}
