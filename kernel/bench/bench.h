/*
 * What `cellar bench` measures. Each measurement sets Cellar beside the bare
 * thing, in turn in one run: absolute times drift from machine to machine and
 * from minute to minute, ratios much less.
 */
#ifndef CELLAR_BENCH_BENCH_H
#define CELLAR_BENCH_BENCH_H

#include "cellar/cellar.h"
#include "cellar/error.h"

/* A session of the bench's own is gone this soon after a bench that died. */
#define CELLAR_BENCH_LEASE_MS 30000

struct cellar_bench_times {
    double p50_us, p99_us, max_us;
};

struct cellar_report; /* report.h */

/* What the benches with a report are asked. */
struct cellar_bench_ask {
    struct cellar *c;
    const struct cellar_spec *spec; /* of the sessions, which are its own */
    uint64_t rounds;                /* of each side; 0: the bench's choice */
    uint64_t sessions;              /* memory; 0: the bench's choice */
    const char *python;   /* one that has ipykernel; NULL: the usual one */
    const char *data_dir; /* where the script is that measures ipykernel */
};

/* The round trip of `x+=1`, beside that of a bare echo process over the same
 * kind of stream: back to back without checkpoints, unnamed and named (a named
 * one's cells are written down); with checkpoints and a pause after each cell,
 * as a user leaves, beside an echo with the same pauses; and with checkpoints
 * back to back, where each cell waits for the copying. Beside ipykernel. */
enum cellar_code cellar_bench_cell(const struct cellar_bench_ask *ask,
                                   struct cellar_report *report,
                                   struct cellar_error *err);

/* A new session, from nothing to the result of its first cell, beside a bare
 * container of the same spec until its first echo. */
enum cellar_code cellar_bench_start(const struct cellar_bench_ask *ask,
                                    struct cellar_report *report,
                                    struct cellar_error *err);

/* A session out of a pool that stands full, to the result of its first cell,
 * beside one that is started. */
enum cellar_code cellar_bench_pool(const struct cellar_bench_ask *ask,
                                   struct cellar_report *report,
                                   struct cellar_error *err);

/* 50 MB of stdout in lines of 1 KB, from a cell and from a bare process. */
enum cellar_code cellar_bench_output(const struct cellar_bench_ask *ask,
                                     struct cellar_report *report,
                                     struct cellar_error *err);

/* What an idle session takes: inside, its processes' shares of memory, with and
 * without a checkpoint; on the host, of a supervisor with many. */
enum cellar_code cellar_bench_memory(const struct cellar_bench_ask *ask,
                                     struct cellar_report *report,
                                     struct cellar_error *err);

/* Frames of 200 B and of 64 KB: packed and signed, verified and parsed, beside
 * signing alone and copying alone. Needs no engine. */
enum cellar_code cellar_bench_codec(const struct cellar_bench_ask *ask,
                                    struct cellar_report *report,
                                    struct cellar_error *err);

struct cellar_bench_hostile {
    uint64_t rounds;     /* of each */
    uint64_t interrupts; /* of a flood */
    struct cellar_bench_times alone;
    struct cellar_bench_times beside; /* two floods */
    struct cellar_bench_times interrupt;
    uint64_t peak_rss_bytes; /* of this process, since its start */
};

#define CELLAR_BENCH_HOSTILE_ROUNDS 1000
#define CELLAR_BENCH_INTERRUPTS     20

/* How long `1+1` takes in one session while two others of the same supervisor
 * flood: one prints 1 GB at once, again and again, the other lines for ever;
 * how long an interrupt takes to end the latter; and the memory of it all. The
 * sessions are its own, of `spec`, but for a short lease and the memory that
 * 1 GB of text needs inside. */
enum cellar_code cellar_bench_hostile(struct cellar *c,
                                      const struct cellar_spec *spec,
                                      uint64_t rounds,
                                      struct cellar_bench_hostile *out,
                                      struct cellar_error *err);

struct cellar_bench_scale {
    uint64_t sessions, cells;          /* cells of each session, in both ways */
    struct cellar_bench_times start;   /* all at once: from call to ready */
    double start_all_us;               /* the last one is ready */
    struct cellar_bench_times in_turn; /* a cell, one session after the other */
    struct cellar_bench_times at_once; /* a cell, all sessions together */
    double cells_per_s;                /* while they run together */
    double slowest_to_median;  /* of the sessions' medians then: fairness */
    double output_bytes_per_s; /* all print at once */
    struct cellar_bench_times interrupt; /* all at once: to the cell's end */
    struct cellar_bench_times stop;      /* all at once */
    uint64_t memory_bytes;  /* of this process for one idle session: its share
                               of what the allocator has given out */
    uint64_t rss_bytes;     /* the same of the resident set */
    double descriptors;     /* of this process for a session */
    uint64_t threads;       /* of this process */
    uint64_t inside_bytes;  /* a session's processes' shares of memory; 0: not
                               to be seen */
    uint64_t machine_bytes; /* what the machine has less for each session, all
                               counted: the engine's and the kernel's too */
    uint64_t failures;      /* starts, cells and stops */
    char first_failure[CELLAR_ERROR_MSG_MAX];
};

#define CELLAR_BENCH_SESSIONS    100
#define CELLAR_BENCH_SCALE_CELLS 50

/* So many named sessions of `spec`, all of one supervisor: started, run,
 * flooding, interrupted and stopped at once. Every result is checked: one that
 * is wrong is a failure, as one that fails, and the others go on. */
enum cellar_code cellar_bench_scale(struct cellar *c,
                                    const struct cellar_spec *spec,
                                    uint64_t sessions, uint64_t cells,
                                    struct cellar_bench_scale *out,
                                    struct cellar_error *err);

/* `x += 1` with the policies auto and off, in turn. */
struct cellar_bench_policies {
    uint64_t rounds; /* of each */
    struct cellar_bench_times automatic, off;
    double ratio_to_off; /* of the medians */
};

/* From a crash to the next cell. */
struct cellar_bench_restore {
    uint64_t state_bytes;
    uint64_t rounds;                 /* 0: skipped */
    const char *skipped;             /* why, or NULL. Static */
    struct cellar_bench_times crash; /* the sending of the cell that kills its
                                        worker, to its result */
    struct cellar_bench_times next;  /* from there to the next cell's result */
    struct cellar_bench_times back;  /* both together */
};

/* Branches of one session, made all at once, again and again. */
struct cellar_bench_fork {
    uint64_t state_bytes;
    uint64_t branches;
    uint64_t rounds;
    struct cellar_bench_times all;   /* from the call until all are there */
    struct cellar_bench_times adopt; /* one of them, from the call until it can
                                        be used */
    struct cellar_bench_times cell;  /* the first of one of them */
};

#define CELLAR_BENCH_RESTORES 3

struct cellar_bench_checkpoint {
    struct cellar_bench_policies paused;       /* as an agent leaves */
    struct cellar_bench_policies back_to_back; /* the copying is in the way */
    struct cellar_bench_restore restores[CELLAR_BENCH_RESTORES];
    struct cellar_bench_fork fork;
};

#define CELLAR_BENCH_CHECKPOINT_ROUNDS 1000
#define CELLAR_BENCH_CRASHES           50 /* at most, of each size */
#define CELLAR_BENCH_PAUSE_MS          10
#define CELLAR_BENCH_STATE_BYTES       UINT64_C(10000000)
#define CELLAR_BENCH_BACK_US           5000                /* the goal */
#define CELLAR_BENCH_BACK_BYTES        UINT64_C(100000000) /* with so much */
#define CELLAR_BENCH_BRANCHES          10
#define CELLAR_BENCH_FORKS             20 /* at most */

/* Ten branches of a session with 100 MB of state, again and again; one of each
 * ten is used, all are stopped. The sessions have names, and are its own. */
enum cellar_code cellar_bench_fork(struct cellar *c,
                                   const struct cellar_spec *spec,
                                   uint64_t rounds,
                                   struct cellar_bench_fork *out,
                                   struct cellar_error *err);

/* What checkpoints cost a cell, how soon a session is back from a crash with
 * 10, 100 and 1,000 MB of state, and how soon there are ten branches of 100 MB.
 * The sessions are its own, of `spec` but for a short lease and the memory that
 * the state needs. Every ending, state and value is checked: one that is wrong
 * is an error. */
enum cellar_code cellar_bench_checkpoint(struct cellar *c,
                                         const struct cellar_spec *spec,
                                         uint64_t rounds,
                                         struct cellar_bench_checkpoint *out,
                                         struct cellar_error *err);

#endif
