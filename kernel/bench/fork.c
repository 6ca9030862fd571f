#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "bench.h"
#include "checked.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "samples.h"

/* Before a fork: the branches of the one before are gone, and what was to be
 * copied is. */
#define SETTLE_MS 100

struct forks {
    struct cellar *c;
    struct cellar_session *session;
    char names[CELLAR_BENCH_BRANCHES][CELLAR_NAME_BYTES_MAX + 1];
    struct cellar_samples all;
    struct cellar_samples adopt;
    struct cellar_samples cell;
};

/* Which one is used takes turns. It knows what its parent knew, and what it
 * does the next one does not see. */
static enum cellar_code use(struct forks *forks, const char *name,
                            struct cellar_error *err)
{
    struct cellar_expected counted = cellar_copied;
    struct cellar_session *branch = NULL;
    counted.text = "1";
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code = cellar_adopt(forks->c, name, &branch, err);
    cellar_samples_add(&forks->adopt, cellar_checked_since(began));
    began = cellar_loop_now_us();
    if (code == CELLAR_OK)
        code = cellar_checked_run(branch, "x += 1\nx", &counted, err);
    cellar_samples_add(&forks->cell, cellar_checked_since(began));
    cellar_close(branch);
    return code;
}

/* All of them, also after an error; the first one counts. */
static enum cellar_code stop_all(struct forks *forks, enum cellar_code code,
                                 struct cellar_error *err)
{
    for (size_t i = 0; i < CELLAR_BENCH_BRANCHES; i++) {
        struct cellar_error ours = {0};
        if (cellar_stop_name(forks->c, forks->names[i], &ours) == CELLAR_OK ||
            code != CELLAR_OK)
            continue;
        *err = ours;
        code = ours.code;
    }
    return code;
}

static enum cellar_code fork_once(struct forks *forks, uint64_t round,
                                  struct cellar_error *err)
{
    const char *names[CELLAR_BENCH_BRANCHES];
    for (size_t i = 0; i < CELLAR_BENCH_BRANCHES; i++)
        names[i] = forks->names[i];
    cellar_checked_rest(SETTLE_MS);
    uint64_t began = cellar_loop_now_us();
    enum cellar_code code =
        cellar_fork(forks->session, names, CELLAR_BENCH_BRANCHES, NULL, err);
    cellar_samples_add(&forks->all, cellar_checked_since(began));
    if (code != CELLAR_OK)
        return code;
    code = use(forks, names[round % CELLAR_BENCH_BRANCHES], err);
    return stop_all(forks, code, err);
}

static enum cellar_code fork_often(struct forks *forks,
                                   const struct cellar_spec *spec,
                                   const struct cellar_bench_fork *row,
                                   struct cellar_error *err)
{
    char name[CELLAR_NAME_BYTES_MAX + 1];
    struct cellar_spec mine = *spec;
    mine.name = name;
    mine.checkpoint = CELLAR_CHECKPOINT_AUTO;
    (void)snprintf(name, sizeof name, "bench-%ld", (long)getpid());
    for (size_t i = 0; i < CELLAR_BENCH_BRANCHES; i++)
        (void)snprintf(forks->names[i], sizeof forks->names[i], "%.32s-%zu",
                       name, i + 1);
    enum cellar_code code = cellar_checked_start(
        forks->c, &mine, row->state_bytes, &forks->session, err);
    for (uint64_t i = 0; i < row->rounds && code == CELLAR_OK; i++)
        code = fork_once(forks, i, err);
    return code;
}

enum cellar_code cellar_bench_fork(struct cellar *c,
                                   const struct cellar_spec *spec,
                                   uint64_t rounds,
                                   struct cellar_bench_fork *out,
                                   struct cellar_error *err)
{
    struct forks forks = {.c = c};
    *out = (struct cellar_bench_fork){
        .state_bytes = CELLAR_BENCH_BACK_BYTES,
        .branches = CELLAR_BENCH_BRANCHES,
        .rounds = rounds < CELLAR_BENCH_FORKS ? rounds : CELLAR_BENCH_FORKS};
    enum cellar_code code = CELLAR_E_NOMEM;
    if (!cellar_samples_init(&forks.all, out->rounds) ||
        !cellar_samples_init(&forks.adopt, out->rounds) ||
        !cellar_samples_init(&forks.cell, out->rounds))
        (void)cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    else
        code = fork_often(&forks, spec, out, err);
    out->all = cellar_samples_times(&forks.all);
    out->adopt = cellar_samples_times(&forks.adopt);
    out->cell = cellar_samples_times(&forks.cell);
    code = cellar_checked_stop(forks.session, code, err);
    cellar_samples_done(&forks.all);
    cellar_samples_done(&forks.adopt);
    cellar_samples_done(&forks.cell);
    return code;
}
