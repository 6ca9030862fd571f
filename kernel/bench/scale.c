#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "machine.h"
#include "samples.h"

/* What each session prints at once. */
#define OUTPUT_BYTES (UINT64_C(1) << 20)

/* What is not through after so long is given up, and its session stopped. */
#define PATIENCE_US UINT64_C(300000000)

/* One of the sessions, and its call under way. */
struct one {
    struct scale *all;
    uint64_t number;
    char name[64];
    struct cellar_session *session;
    uint64_t began_us;
    uint64_t left; /* cells it has to run still */
    uint64_t expected;
    uint64_t output_bytes;
    struct cellar_samples own; /* its cells, when all run together */
};

struct scale {
    struct cellar *c;
    struct one *list;
    uint64_t count;
    uint64_t under_way;
    struct cellar_samples *samples; /* of the calls under way */
    bool interrupting;
    uint64_t failures;
    struct cellar_error err; /* the first thing that went wrong */
};

/* The others go on: what is lost of many is a figure, too. */
static void note(struct scale *all, const struct cellar_error *err)
{
    if (all->failures++ == 0)
        all->err = *err;
}

static double since(uint64_t began_us)
{
    return (double)(cellar_loop_now_us() - began_us);
}

/* Until all calls have come back. */
static enum cellar_code await(struct scale *all, struct cellar_error *err)
{
    uint64_t began = cellar_loop_now_us();
    while (all->under_way > 0 && cellar_loop_now_us() - began < PATIENCE_US)
        (void)cellar_dispatch(all->c, 1000);
    if (all->under_way > 0)
        return cellar_fail(err, CELLAR_E_TIMEOUT,
                           "%" PRIu64 " sessions do not answer",
                           all->under_way);
    return CELLAR_OK;
}

/* ------------------------------------------------------- start and stop -- */

static void on_started(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct one *one = user;
    one->all->under_way--;
    one->session = s;
    if (err)
        note(one->all, err);
    cellar_samples_add(one->all->samples, since(one->began_us));
}

static enum cellar_code start_all(struct scale *all,
                                  const struct cellar_spec *spec,
                                  struct cellar_error *err)
{
    struct cellar_spec mine = *spec;
    mine.lease_ms = CELLAR_BENCH_LEASE_MS;
    for (uint64_t i = 0; i < all->count; i++) {
        struct one *one = &all->list[i];
        mine.name = one->name;
        one->began_us = cellar_loop_now_us();
        if (cellar_start_async(all->c, &mine, on_started, one, err) !=
            CELLAR_OK)
            return err->code;
        all->under_way++;
    }
    return await(all, err);
}

static void on_stopped(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct one *one = user;
    (void)s;
    one->all->under_way--;
    if (err)
        note(one->all, err);
    cellar_samples_add(one->all->samples, since(one->began_us));
}

/* Also after a failure: all that there is. A stop and the cells it ends always
 * come back, so nothing calls back later. */
static void stop_all(struct scale *all)
{
    for (uint64_t i = 0; i < all->count; i++) {
        struct one *one = &all->list[i];
        struct cellar_error ours = {0};
        one->began_us = cellar_loop_now_us();
        if (!one->session)
            continue;
        if (cellar_stop_async(one->session, on_stopped, one, &ours) ==
            CELLAR_OK)
            all->under_way++;
        else
            note(all, &ours);
    }
    while (all->under_way > 0)
        (void)cellar_dispatch(all->c, 1000);
}

/* --------------------------------------------------------------- cells -- */

static void run_one(struct one *one);

static void check(struct one *one, const struct cellar_result *result)
{
    char text[32];
    struct cellar_error err;
    enum cellar_status wanted =
        one->all->interrupting ? CELLAR_STATUS_INTERRUPTED : CELLAR_STATUS_OK;
    (void)snprintf(text, sizeof text, "%" PRIu64, one->expected);
    bool right = result->status == wanted &&
                 result->stdout_len == one->output_bytes &&
                 (one->all->interrupting ||
                  strcmp(cellar_result_text(result), text) == 0);
    if (right)
        return;
    cellar_fail(&err, CELLAR_E_PROTO,
                "session %s, cell %" PRIu64 ": %s, '%.40s' and %zu bytes "
                "came, not %s and %" PRIu64 " bytes",
                one->name, result->cell, cellar_status_name(result->status),
                cellar_result_text(result), result->stdout_len, text,
                one->output_bytes);
    note(one->all, &err);
}

static void on_result(void *user, struct cellar_result *result,
                      const struct cellar_error *err)
{
    struct one *one = user;
    double us = since(one->began_us);
    (void)err;
    one->all->under_way--;
    check(one, result);
    cellar_result_free(result);
    cellar_samples_add(one->all->samples, us);
    cellar_samples_add(&one->own, us);
    if (one->left > 0)
        run_one(one);
}

static void run_code(struct one *one, const char *code)
{
    struct cellar_error err = {0};
    struct cellar_cell cell = {.code = code};
    one->began_us = cellar_loop_now_us();
    if (!one->session)
        return; /* it did not start, which is counted */
    if (cellar_run_async(one->session, &cell, on_result, one, &err) ==
        CELLAR_OK)
        one->all->under_way++;
    else
        note(one->all, &err);
}

/* A number that no other session and no other cell has. */
static void run_one(struct one *one)
{
    char code[64];
    one->left--;
    one->expected = one->number * 1000003 + one->left;
    (void)snprintf(code, sizeof code, "%" PRIu64 " * 1000003 + %" PRIu64,
                   one->number, one->left);
    run_code(one, code);
}

static enum cellar_code cells_in_turn(struct scale *all, uint64_t cells,
                                      struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < cells * all->count && code == CELLAR_OK; i++) {
        struct one *one = &all->list[i % all->count];
        one->left = 1;
        run_one(one);
        code = await(all, err);
    }
    return code;
}

static enum cellar_code cells_at_once(struct scale *all, uint64_t cells,
                                      struct cellar_error *err)
{
    for (uint64_t i = 0; i < all->count; i++) {
        all->list[i].left = cells;
        all->list[i].own.count = 0;
        run_one(&all->list[i]);
    }
    return await(all, err);
}

static enum cellar_code print_at_once(struct scale *all,
                                      struct cellar_error *err)
{
    for (uint64_t i = 0; i < all->count; i++) {
        struct one *one = &all->list[i];
        one->output_bytes = OUTPUT_BYTES;
        one->expected = one->number;
        char code[96];
        (void)snprintf(code, sizeof code,
                       "for _ in range(1024): print('x' * 1023)\n%" PRIu64,
                       one->number);
        run_code(one, code);
    }
    enum cellar_code code = await(all, err);
    for (uint64_t i = 0; i < all->count; i++)
        all->list[i].output_bytes = 0;
    return code;
}

/* The cells sleep: what is measured is the way of the interrupt. */
static enum cellar_code interrupt_at_once(struct scale *all,
                                          struct cellar_error *err)
{
    uint64_t end = cellar_loop_now_us() + 500000;
    all->interrupting = true;
    for (uint64_t i = 0; i < all->count; i++)
        run_code(&all->list[i], "import time; time.sleep(600)");
    while (cellar_loop_now_us() < end)
        (void)cellar_dispatch(all->c, 50);
    for (uint64_t i = 0; i < all->count; i++) {
        struct one *one = &all->list[i];
        struct cellar_error ours = {0};
        one->began_us = cellar_loop_now_us();
        if (one->session && cellar_interrupt(one->session, &ours) != CELLAR_OK)
            note(all, &ours);
    }
    enum cellar_code code = await(all, err);
    all->interrupting = false;
    return code;
}

/* ----------------------------------------------------------- the whole -- */

/* Of the calls since the last time. */
static struct cellar_bench_times take_times(struct scale *all)
{
    struct cellar_bench_times times = cellar_samples_times(all->samples);
    all->samples->count = 0;
    return times;
}

static double slowest_to_median(struct scale *all)
{
    struct cellar_samples medians;
    if (!cellar_samples_init(&medians, all->count))
        return 0;
    for (uint64_t i = 0; i < all->count; i++)
        cellar_samples_add(&medians,
                           cellar_samples_percentile(&all->list[i].own, 50));
    double median = cellar_samples_percentile(&medians, 50);
    double ratio =
        median > 0 ? cellar_samples_percentile(&medians, 100) / median : 0;
    cellar_samples_done(&medians);
    return ratio;
}

static enum cellar_code run_cells(struct scale *all, uint64_t cells,
                                  struct cellar_bench_scale *out,
                                  struct cellar_error *err)
{
    enum cellar_code code = cells_in_turn(all, cells, err);
    out->in_turn = take_times(all);
    uint64_t began = cellar_loop_now_us();
    if (code == CELLAR_OK)
        code = cells_at_once(all, cells, err);
    out->cells_per_s = (double)(cells * all->count) / since(began) * 1e6;
    out->at_once = take_times(all);
    out->slowest_to_median = slowest_to_median(all);
    began = cellar_loop_now_us();
    if (code == CELLAR_OK)
        code = print_at_once(all, err);
    out->output_bytes_per_s =
        (double)(OUTPUT_BYTES * all->count) / since(began) * 1e6;
    all->samples->count = 0;
    if (code == CELLAR_OK)
        code = interrupt_at_once(all, err);
    out->interrupt = take_times(all);
    return code;
}

/* Idle, with the checkpoint of their last cell. Many share the pages of one
 * file, so it is the sum that counts. */
static void look_inside(struct scale *all, struct cellar_bench_scale *out)
{
    uint64_t sum = 0;
    uint64_t seen = 0;
    for (uint64_t i = 0; i < all->count; i++) {
        struct cellar_shares shares;
        if (!all->list[i].session ||
            !cellar_shares_take(cellar_session_container(all->list[i].session),
                                &shares))
            continue;
        sum += shares.agent_bytes + shares.worker_bytes;
        seen++;
    }
    out->inside_bytes = seen > 0 ? sum / seen : 0;
}

static void look_outside(struct scale *all, const struct cellar_stock *before,
                         uint64_t free_before, struct cellar_bench_scale *out)
{
    struct cellar_stock after = cellar_stock_take();
    out->memory_bytes = cellar_stock_share(after.malloced_bytes,
                                           before->malloced_bytes, all->count);
    out->rss_bytes =
        cellar_stock_share(after.rss_bytes, before->rss_bytes, all->count);
    out->descriptors =
        (double)(after.descriptors - before->descriptors) / (double)all->count;
    out->threads = cellar_entry_count("/proc/self/task");
    out->machine_bytes = cellar_stock_share(
        free_before, cellar_machine_free_bytes(), all->count);
}

static enum cellar_code measure(struct scale *all,
                                const struct cellar_spec *spec, uint64_t cells,
                                struct cellar_bench_scale *out,
                                struct cellar_error *err)
{
    struct cellar_stock before = cellar_stock_take();
    uint64_t free_before = cellar_machine_free_bytes();
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code = start_all(all, spec, err);
    out->start_all_us = since(began);
    out->start = take_times(all);
    if (code == CELLAR_OK)
        code = run_cells(all, cells, out, err);
    look_outside(all, &before, free_before, out);
    if (code == CELLAR_OK)
        look_inside(all, out);
    return code;
}

static enum cellar_code init(struct scale *all, uint64_t cells,
                             struct cellar_error *err)
{
    all->list = calloc(all->count, sizeof *all->list);
    bool fine =
        all->list && cellar_samples_init(all->samples, all->count * cells);
    for (uint64_t i = 0; fine && i < all->count; i++) {
        struct one *one = &all->list[i];
        one->all = all;
        one->number = i + 1;
        (void)snprintf(one->name, sizeof one->name, "bench-%ld-%" PRIu64,
                       (long)getpid(), i + 1);
        fine = cellar_samples_init(&one->own, cells);
    }
    return fine ? CELLAR_OK : cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
}

enum cellar_code cellar_bench_scale(struct cellar *c,
                                    const struct cellar_spec *spec,
                                    uint64_t sessions, uint64_t cells,
                                    struct cellar_bench_scale *out,
                                    struct cellar_error *err)
{
    struct cellar_samples samples = {0};
    struct scale all = {.c = c, .count = sessions, .samples = &samples};
    *out = (struct cellar_bench_scale){.sessions = sessions, .cells = cells};
    enum cellar_code code = init(&all, cells, err);
    if (code == CELLAR_OK)
        code = measure(&all, spec, cells, out, err);
    if (all.list) {
        samples.count = 0;
        stop_all(&all);
        out->stop = take_times(&all);
    }
    out->failures = all.failures;
    (void)snprintf(out->first_failure, sizeof out->first_failure, "%s",
                   all.failures ? all.err.msg : "");
    for (uint64_t i = 0; all.list && i < sessions; i++)
        cellar_samples_done(&all.list[i].own);
    free(all.list);
    cellar_samples_done(&samples);
    return code;
}
