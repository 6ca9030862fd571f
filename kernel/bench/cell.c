#include <stdio.h>
#include <unistd.h>

#include "bare.h"
#include "checked.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "peer.h"
#include "report.h"
#include "samples.h"

#define ROUNDS 2000

/* Rounds before the next one has its turn: short enough that all meet the same
 * machine, long enough to be warm. */
#define TURN 50

/* The first of a turn find cold caches, of this process and of others: they are
 * not counted. */
#define WARM 5

/* One of those that take turns: a session's cells, or the echo. */
struct side {
    const char *prefix; /* of its keys */
    const char *text;
    uint64_t pause_ms;
    struct cellar_session *session;
    struct cellar_samples samples;
    enum cellar_checkpoint_policy policy;
    bool named;
    bool is_bare;
};

struct cell {
    struct cellar_bare *bare;
    struct side sides[6];
};

static const struct side sides[] = {
    {"", "cell x+=1", .policy = CELLAR_CHECKPOINT_OFF},
    {"named_", "the same, named", .named = true,
     .policy = CELLAR_CHECKPOINT_OFF},
    {"bare_", "bare echo, same stream", .is_bare = true},
    {"kept_", "checkpoints, back to back", .policy = CELLAR_CHECKPOINT_AUTO},
    {"paused_", "checkpoints, 10 ms apart", .policy = CELLAR_CHECKPOINT_AUTO,
     .pause_ms = CELLAR_BENCH_PAUSE_MS},
    {"paused_bare_", "bare echo, 10 ms apart", .is_bare = true,
     .pause_ms = CELLAR_BENCH_PAUSE_MS}};

#define SIDES (sizeof sides / sizeof sides[0])

static enum cellar_code once(struct cell *cell, struct side *side,
                             struct cellar_error *err)
{
    const struct cellar_expected *expected =
        side->policy == CELLAR_CHECKPOINT_AUTO ? &cellar_copied
                                               : &cellar_not_copied;
    return side->is_bare
               ? cellar_bare_round(cell->bare, err)
               : cellar_checked_run(side->session, "x+=1", expected, err);
}

static enum cellar_code turn(struct cell *cell, struct side *side,
                             uint64_t rounds, struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < WARM + rounds && code == CELLAR_OK; i++) {
        if (side->pause_ms > 0)
            cellar_checked_rest(side->pause_ms);
        uint64_t began = cellar_loop_now_us();
        code = once(cell, side, err);
        if (i >= WARM)
            cellar_samples_add(&side->samples, cellar_checked_since(began));
    }
    return code;
}

static enum cellar_code measure(struct cell *cell, uint64_t rounds,
                                struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < rounds; i += TURN) {
        uint64_t now = rounds - i < TURN ? rounds - i : TURN;
        for (size_t k = 0; k < SIDES && code == CELLAR_OK; k++)
            code = turn(cell, &cell->sides[k], now, err);
    }
    return code;
}

static enum cellar_code open_side(const struct cellar_bench_ask *ask,
                                  struct side *side, struct cellar_error *err)
{
    char name[CELLAR_NAME_BYTES_MAX + 1];
    struct cellar_spec mine = *ask->spec;
    if (side->is_bare)
        return CELLAR_OK;
    (void)snprintf(name, sizeof name, "bench-%ld", (long)getpid());
    mine.name = side->named ? name : NULL;
    mine.checkpoint = side->policy;
    mine.lease_ms = CELLAR_BENCH_LEASE_MS;
    enum cellar_code code = cellar_start(ask->c, &mine, &side->session, err);
    const struct cellar_expected any = {
        .taken = side->policy == CELLAR_CHECKPOINT_AUTO ? CELLAR_TAKEN_YES
                                                        : CELLAR_TAKEN_NONE};
    return code == CELLAR_OK
               ? cellar_checked_run(side->session, "x = 0", &any, err)
               : code;
}

static enum cellar_code open_all(const struct cellar_bench_ask *ask,
                                 struct cell *cell, uint64_t rounds,
                                 struct cellar_error *err)
{
    enum cellar_code code =
        cellar_bare_new(ask->c, ask->spec, &cell->bare, err);
    for (size_t i = 0; i < SIDES && code == CELLAR_OK; i++) {
        cell->sides[i] = sides[i];
        if (!cellar_samples_init(&cell->sides[i].samples, rounds))
            return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
        code = open_side(ask, &cell->sides[i], err);
    }
    return code;
}

static enum cellar_code close_all(struct cell *cell, enum cellar_code code,
                                  struct cellar_error *err)
{
    for (size_t i = 0; i < SIDES; i++) {
        code = cellar_checked_stop(cell->sides[i].session, code, err);
        cellar_samples_done(&cell->sides[i].samples);
    }
    cellar_bare_free(cell->bare);
    return code;
}

static void tell(struct cell *cell, uint64_t rounds,
                 struct cellar_report *report)
{
    for (size_t i = 0; i < SIDES; i++) {
        const struct cellar_bench_times times =
            cellar_samples_times(&cell->sides[i].samples);
        cellar_report_times(report, sides[i].prefix, sides[i].text, &times);
    }
    cellar_report_ratio(report, "ratio_to_bare", "cell to bare echo", "p50_us",
                        "bare_p50_us");
    cellar_report_ratio(report, "named_ratio_to_bare", "named to bare echo",
                        "named_p50_us", "bare_p50_us");
    cellar_report_ratio(report, "paused_ratio_to_bare",
                        "10 ms apart, with checkpoints", "paused_p50_us",
                        "paused_bare_p50_us");
    cellar_report_add(report, "rounds", "rounds of each, in turn",
                      (double)rounds);
}

static void compare(const struct cellar_bench_ask *ask, uint64_t rounds,
                    struct cellar_report *report)
{
    static const struct cellar_peer_figure figures[] = {
        {"p50_us", "cell x+=1, p50"}, {"p99_us", "cell x+=1, p99"}};
    const struct cellar_peer peer = {ask->python, ask->data_dir};
    cellar_peer_measure(&peer, "cell", rounds, figures, 2, report);
    cellar_report_ratio(report, "ipykernel_to_cellar",
                        "ipykernel's to Cellar's", "ipykernel_p50_us",
                        "p50_us");
}

enum cellar_code cellar_bench_cell(const struct cellar_bench_ask *ask,
                                   struct cellar_report *report,
                                   struct cellar_error *err)
{
    uint64_t rounds = ask->rounds ? ask->rounds : ROUNDS;
    struct cell cell = {.bare = NULL};
    enum cellar_code code = open_all(ask, &cell, rounds, err);
    if (code == CELLAR_OK)
        code = measure(&cell, rounds, err);
    if (code == CELLAR_OK)
        tell(&cell, rounds, report);
    code = close_all(&cell, code, err);
    if (code == CELLAR_OK)
        compare(ask, rounds < ROUNDS ? rounds : ROUNDS / 4, report);
    return code;
}
