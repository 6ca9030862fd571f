#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "machine.h"
#include "samples.h"

/* Rounds before the other policy has its turn. */
#define TURN 50

/* A session of the bench's own is gone this soon after a bench that died. */
#define LEASE_MS 30000

/* Before a crash: what was to be copied is, also 1 GB. */
#define SETTLE_MS 100

/* Beside the state itself: so much that no copy is given up for it. */
#define SPARE_BYTES (UINT64_C(512) << 20)

/* A state from which on it is asked whether the machine has the memory, and
 * what it must have. */
#define LARGE_BYTES UINT64_C(1000000000)
#define FREE_BYTES  (UINT64_C(4) << 30)

/* What a cell must come to. */
struct expected {
    enum cellar_status status;
    enum cellar_state state;
    enum cellar_taken taken;
    const char *text; /* of its value; NULL: any */
};

static const struct expected copied = {.taken = CELLAR_TAKEN_YES};
static const struct expected not_copied = {.taken = CELLAR_TAKEN_NONE};

/* ----------------------------------------------------------- one cell ----- */

static enum cellar_code check(const struct cellar_result *result,
                              const struct expected *expected,
                              struct cellar_error *err)
{
    const char *text = cellar_result_text(result);
    if (result->checkpoint_why)
        return cellar_fail(err, CELLAR_E_LOST,
                           "no checkpoint after cell %" PRIu64 ": %s",
                           result->cell, result->checkpoint_why);
    if (result->status == expected->status &&
        result->state == expected->state &&
        result->checkpoint == expected->taken &&
        (!expected->text || strcmp(text, expected->text) == 0))
        return CELLAR_OK;
    return cellar_fail(err, CELLAR_E_LOST,
                       "cell %" PRIu64 " ended: %s, %s, '%.40s', not %s, %s",
                       result->cell, cellar_status_name(result->status),
                       cellar_state_name(result->state), text,
                       cellar_status_name(expected->status),
                       cellar_state_name(expected->state));
}

static enum cellar_code run_cell(struct cellar_session *s, const char *code,
                                 const struct expected *expected,
                                 struct cellar_error *err)
{
    struct cellar_cell cell = {.code = code};
    struct cellar_result *result = NULL;
    enum cellar_code ended = cellar_run(s, &cell, &result, err);
    if (ended == CELLAR_OK)
        ended = check(result, expected, err);
    cellar_result_free(result);
    return ended;
}

static void rest(uint64_t ms)
{
    const struct timespec time = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_nsec = (long)(ms % 1000 * 1000000)};
    (void)nanosleep(&time, NULL);
}

static double since(uint64_t began_us)
{
    return (double)(cellar_loop_now_us() - began_us);
}

/* A session that holds so much, each page of it written. */
static enum cellar_code start(struct cellar *c, const struct cellar_spec *spec,
                              enum cellar_checkpoint_policy policy,
                              uint64_t bytes, struct cellar_session **out,
                              struct cellar_error *err)
{
    const struct expected *expected =
        policy == CELLAR_CHECKPOINT_AUTO ? &copied : &not_copied;
    struct cellar_spec mine = *spec;
    char code[128];
    mine.name = NULL;
    mine.lease_ms = LEASE_MS;
    mine.checkpoint = policy;
    mine.memory_bytes = 2 * bytes + SPARE_BYTES;
    (void)snprintf(code, sizeof code,
                   "x = 0\n"
                   "state = bytearray(b'cellar!!') * (%" PRIu64 " // 8)",
                   bytes);
    enum cellar_code ended = cellar_start(c, &mine, out, err);
    return ended == CELLAR_OK ? run_cell(*out, code, expected, err) : ended;
}

/* Waits until it is gone, so that it takes no time from what is measured next.
 * `code` is what it came to; the first error counts. */
static enum cellar_code stop(struct cellar_session *s, enum cellar_code code,
                             struct cellar_error *err)
{
    struct cellar_error ours = {0};
    if (cellar_stop(s, &ours) == CELLAR_OK || code != CELLAR_OK)
        return code;
    *err = ours;
    return ours.code;
}

/* ------------------------------------------------- what they cost a cell -- */

struct side {
    struct cellar_session *session;
    const struct expected *expected;
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
            rest(pause_ms);
        uint64_t began = cellar_loop_now_us();
        code = run_cell(side->session, "x += 1", side->expected, err);
        cellar_samples_add(&side->samples, since(began));
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
    enum cellar_code code =
        start(c, spec, CELLAR_CHECKPOINT_AUTO, CELLAR_BENCH_STATE_BYTES,
              &both->automatic.session, err);
    if (code == CELLAR_OK)
        code = start(c, spec, CELLAR_CHECKPOINT_OFF, CELLAR_BENCH_STATE_BYTES,
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
    struct policies both = {.automatic.expected = &copied,
                            .off.expected = &not_copied};
    enum cellar_code code = compare_both(&both, c, spec, rounds, out, err);
    code = stop(both.automatic.session, code, err);
    code = stop(both.off.session, code, err);
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
    const struct expected crashed = {.status = CELLAR_STATUS_EXITED,
                                     .state = CELLAR_STATE_RESTORED};
    struct expected counted = copied;
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    counted.text = text;
    rest(SETTLE_MS);
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code =
        run_cell(crashes->session, "import os\nos._exit(1)", &crashed, err);
    uint64_t told = cellar_loop_now_us();
    if (code == CELLAR_OK)
        code = run_cell(crashes->session, "x += 1\nx", &counted, err);
    cellar_samples_add(&crashes->crash, (double)(told - began));
    cellar_samples_add(&crashes->next, since(told));
    cellar_samples_add(&crashes->back, since(began));
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
    enum cellar_code code = start(c, spec, CELLAR_CHECKPOINT_AUTO,
                                  row->state_bytes, &crashes->session, err);
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
    code = stop(crashes.session, code, err);
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
    return code;
}
