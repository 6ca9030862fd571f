#include "checked.h"
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kernel/fail.h"
#include "kernel/loop.h"

/* Beside the state itself: so much that no copy is given up for it. */
#define SPARE_BYTES (UINT64_C(512) << 20)

const struct cellar_expected cellar_copied = {.taken = CELLAR_TAKEN_YES};
const struct cellar_expected cellar_not_copied = {.taken = CELLAR_TAKEN_NONE};

static enum cellar_code check(const struct cellar_result *result,
                              const struct cellar_expected *expected,
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

enum cellar_code cellar_checked_run(struct cellar_session *s, const char *code,
                                    const struct cellar_expected *expected,
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

void cellar_checked_rest(uint64_t ms)
{
    const struct timespec time = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_nsec = (long)(ms % 1000 * 1000000)};
    (void)nanosleep(&time, NULL);
}

double cellar_checked_since(uint64_t began_us)
{
    return (double)(cellar_loop_now_us() - began_us);
}

enum cellar_code cellar_checked_start(struct cellar *c,
                                      const struct cellar_spec *spec,
                                      uint64_t bytes,
                                      struct cellar_session **out,
                                      struct cellar_error *err)
{
    struct cellar_spec mine = *spec;
    char code[128];
    mine.lease_ms = CELLAR_BENCH_LEASE_MS;
    mine.memory_bytes = 2 * bytes + SPARE_BYTES;
    (void)snprintf(code, sizeof code,
                   "x = 0\n"
                   "state = bytearray(b'cellar!!') * (%" PRIu64 " // 8)",
                   bytes);
    enum cellar_code ended = cellar_start(c, &mine, out, err);
    if (ended != CELLAR_OK)
        return ended;
    return cellar_checked_run(*out, code,
                              spec->checkpoint == CELLAR_CHECKPOINT_AUTO
                                  ? &cellar_copied
                                  : &cellar_not_copied,
                              err);
}

enum cellar_code cellar_checked_first(struct cellar_session *s,
                                      const struct cellar_spec *spec,
                                      struct cellar_error *err)
{
    const struct cellar_expected two = {
        .taken = spec->checkpoint == CELLAR_CHECKPOINT_AUTO ? CELLAR_TAKEN_YES
                                                            : CELLAR_TAKEN_NONE,
        .text = "2"};
    return cellar_checked_run(s, "1+1", &two, err);
}

enum cellar_code cellar_checked_stop(struct cellar_session *s,
                                     enum cellar_code code,
                                     struct cellar_error *err)
{
    struct cellar_error ours = {0};
    if (cellar_stop(s, &ours) == CELLAR_OK || code != CELLAR_OK)
        return code;
    *err = ours;
    return ours.code;
}
