#include <inttypes.h>
#include <stdio.h>

#include "bench.h"
#include "checked.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "machine.h"
#include "samples.h"

/* Rounds before the other policy has its turn. */
#define TURN 50

/* Before a crash: what was to be copied is, also 1 GB. */
#define SETTLE_MS 100

/* A state from which on it is asked whether the machine has the memory, and
 * what it must have. */
#define LARGE_BYTES UINT64_C(1000000000)
#define FREE_BYTES  (UINT64_C(4) << 30)

static struct cellar_spec unnamed(const struct cellar_spec *spec,
                                  enum cellar_checkpoint_policy policy)
{
    struct cellar_spec mine = *spec;
    mine.name = NULL;
    mine.checkpoint = policy;
    return mine;
}

/* ------------------------------------------------- what they cost a cell -- */

struct side {
    struct cellar_session *session;
    const struct cellar_expected *expected;
    struct cellar_samples samples;
};

struct policies {
    struct side automatic;
    struct side off;
    uint64_t pause_ms;
};

static enum cellar_code turn(struct side *side, uint64_t rounds,
                             uint64_t pause_ms, struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i++) {
        if (pause_ms > 0)
            cellar_checked_rest(pause_ms);
        uint64_t began = cellar_loop_now_us();
        code = cellar_checked_run(side->session, "x += 1", side->expected, err);
        cellar_samples_add(&side->samples, cellar_checked_since(began));
    }
    return code;
}

/* The first turn of each warms up and is not counted. */
static enum cellar_code turns(struct policies *both, uint64_t rounds,
                              struct cellar_error *err)
{
    enum cellar_code code = turn(&both->automatic, TURN, 0, err);
    if (code == CELLAR_OK)
        code = turn(&both->off, TURN, 0, err);
    both->automatic.samples.count = both->off.samples.count = 0;
    for (uint64_t i = 0; i < rounds && code == CELLAR_OK; i += TURN) {
        uint64_t now = rounds - i < TURN ? rounds - i : TURN;
        code = turn(&both->automatic, now, both->pause_ms, err);
        if (code == CELLAR_OK)
            code = turn(&both->off, now, both->pause_ms, err);
    }
    return code;
}

static enum cellar_code compare(struct policies *both, uint64_t rounds,
                                uint64_t pause_ms,
                                struct cellar_bench_policies *out,
                                struct cellar_error *err)
{
    both->pause_ms = pause_ms;
    enum cellar_code code = turns(both, rounds, err);
    *out = (struct cellar_bench_policies){
        .rounds = rounds,
        .automatic = cellar_samples_times(&both->automatic.samples),
        .off = cellar_samples_times(&both->off.samples)};
    if (out->off.p50_us > 0)
        out->ratio_to_off = out->automatic.p50_us / out->off.p50_us;
    return code;
}

static enum cellar_code compare_both(struct policies *both, struct cellar *c,
                                     const struct cellar_spec *spec,
                                     uint64_t rounds,
                                     struct cellar_bench_checkpoint *out,
                                     struct cellar_error *err)
{
    size_t room = (size_t)(rounds > TURN ? rounds : TURN);
    if (!cellar_samples_init(&both->automatic.samples, room) ||
        !cellar_samples_init(&both->off.samples, room))
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    const struct cellar_spec automatic = unnamed(spec, CELLAR_CHECKPOINT_AUTO);
    const struct cellar_spec off = unnamed(spec, CELLAR_CHECKPOINT_OFF);
    enum cellar_code code = cellar_checked_start(
        c, &automatic, CELLAR_BENCH_STATE_BYTES, &both->automatic.session, err);
    if (code == CELLAR_OK)
        code = cellar_checked_start(c, &off, CELLAR_BENCH_STATE_BYTES,
                                    &both->off.session, err);
    if (code == CELLAR_OK)
        code = compare(both, rounds, CELLAR_BENCH_PAUSE_MS, &out->paused, err);
    return code == CELLAR_OK ? compare(both, rounds, 0, &out->back_to_back, err)
                             : code;
}

static enum cellar_code measure_policies(struct cellar *c,
                                         const struct cellar_spec *spec,
                                         uint64_t rounds,
                                         struct cellar_bench_checkpoint *out,
                                         struct cellar_error *err)
{
    struct policies both = {.automatic.expected = &cellar_copied,
                            .off.expected = &cellar_not_copied};
    enum cellar_code code = compare_both(&both, c, spec, rounds, out, err);
    code = cellar_checked_stop(both.automatic.session, code, err);
    code = cellar_checked_stop(both.off.session, code, err);
    cellar_samples_done(&both.automatic.samples);
    cellar_samples_done(&both.off.samples);
    return code;
}

/* ------------------------------------------------------ back from a crash - */

struct crashes {
    struct cellar_session *session;
    struct cellar_samples crash;
    struct cellar_samples next;
    struct cellar_samples back;
};

/* The count goes on where it stood: nothing was lost but the crashed cell. */
static enum cellar_code crash_once(struct crashes *crashes, uint64_t number,
                                   struct cellar_error *err)
{
    const struct cellar_expected crashed = {.status = CELLAR_STATUS_EXITED,
                                            .state = CELLAR_STATE_RESTORED};
    struct cellar_expected counted = cellar_copied;
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    counted.text = text;
    cellar_checked_rest(SETTLE_MS);
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code = cellar_checked_run(
        crashes->session, "import os\nos._exit(1)", &crashed, err);
    uint64_t told = cellar_loop_now_us();
    if (code == CELLAR_OK)
        code = cellar_checked_run(crashes->session, "x += 1\nx", &counted, err);
    cellar_samples_add(&crashes->crash, (double)(told - began));
    cellar_samples_add(&crashes->next, cellar_checked_since(told));
    cellar_samples_add(&crashes->back, cellar_checked_since(began));
    return code;
}

static enum cellar_code crash_often(struct crashes *crashes, struct cellar *c,
                                    const struct cellar_spec *spec,
                                    const struct cellar_bench_restore *row,
                                    struct cellar_error *err)
{
    if (!cellar_samples_init(&crashes->crash, row->rounds) ||
        !cellar_samples_init(&crashes->next, row->rounds) ||
        !cellar_samples_init(&crashes->back, row->rounds))
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    const struct cellar_spec mine = unnamed(spec, CELLAR_CHECKPOINT_AUTO);
    enum cellar_code code = cellar_checked_start(c, &mine, row->state_bytes,
                                                 &crashes->session, err);
    for (uint64_t i = 1; i <= row->rounds && code == CELLAR_OK; i++)
        code = crash_once(crashes, i, err);
    return code;
}

static enum cellar_code measure_restore(struct cellar *c,
                                        const struct cellar_spec *spec,
                                        uint64_t bytes, uint64_t rounds,
                                        struct cellar_bench_restore *out,
                                        struct cellar_error *err)
{
    struct crashes crashes = {0};
    *out = (struct cellar_bench_restore){.state_bytes = bytes};
    if (bytes >= LARGE_BYTES && cellar_machine_free_bytes() < FREE_BYTES) {
        out->skipped = "the machine has less than 4 GiB of memory free";
        return CELLAR_OK;
    }
    out->rounds = rounds < CELLAR_BENCH_CRASHES ? rounds : CELLAR_BENCH_CRASHES;
    enum cellar_code code = crash_often(&crashes, c, spec, out, err);
    out->crash = cellar_samples_times(&crashes.crash);
    out->next = cellar_samples_times(&crashes.next);
    out->back = cellar_samples_times(&crashes.back);
    code = cellar_checked_stop(crashes.session, code, err);
    cellar_samples_done(&crashes.crash);
    cellar_samples_done(&crashes.next);
    cellar_samples_done(&crashes.back);
    return code;
}

/* ------------------------------------------------------------------- all -- */

enum cellar_code cellar_bench_checkpoint(struct cellar *c,
                                         const struct cellar_spec *spec,
                                         uint64_t rounds,
                                         struct cellar_bench_checkpoint *out,
                                         struct cellar_error *err)
{
    static const uint64_t sizes[CELLAR_BENCH_RESTORES] = {
        UINT64_C(10000000), CELLAR_BENCH_BACK_BYTES, LARGE_BYTES};
    enum cellar_code code = measure_policies(c, spec, rounds, out, err);
    for (size_t i = 0; i < CELLAR_BENCH_RESTORES && code == CELLAR_OK; i++)
        code =
            measure_restore(c, spec, sizes[i], rounds, &out->restores[i], err);
    if (code == CELLAR_OK)
        code = cellar_bench_fork(c, spec, rounds, &out->fork, err);
    return code;
}
