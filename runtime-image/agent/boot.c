/* A worker's start, and what may keep it from it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "agent.h"

/* Launcher, Python's start and the extension take 15 ms, modules to preload
 * some seconds; a machine under the heaviest load still is far below this. */
#define BOOT_SECONDS_MAX 60u

void cellar_lane_fault(struct cellar_lane *lane, enum cellar_fault code,
                       const char *text, struct cellar_bytes words)
{
    char all[256 + CELLAR_PRELOAD_MAX + CELLAR_OUTPUT_TAIL];
    int len = snprintf(all, sizeof(all), "%s%s%.*s", text,
                       *text && words.len > 0 ? ": " : "", (int)words.len,
                       (const char *)words.data);
    struct cellar_message msg = {.type = CELLAR_MSG_FAULT};
    msg.u.fault.code = code;
    msg.u.fault.text = (struct cellar_bytes){
        (const uint8_t *)all,
        (size_t)len < sizeof(all) ? (size_t)len : sizeof(all) - 1};
    lane->faulted = true;
    cellar_lane_finish_fresh(lane);
    cellar_lane_post(lane, &msg);
    cellar_lane_kill_all(lane);
}

void cellar_lane_start_worker(struct cellar_lane *lane)
{
    lane->generation++;
    enum cellar_code code = cellar_worker_spawn(&lane->worker, &lane->hello);
    if (code != CELLAR_OK) {
        cellar_lane_fault(
            lane, CELLAR_FAULT_INTERNAL,
            "starting " CELLAR_LAUNCHER_PATH " failed",
            (struct cellar_bytes){(const uint8_t *)strerror(errno),
                                  strlen(strerror(errno))});
        return;
    }
    struct cellar_worker *worker = &lane->worker;
    cellar_output_open(&lane->output, worker->out, worker->err);
    worker->out = worker->err = -1;
    cellar_usage_attach(&lane->usage, worker->pid);
    cellar_records_await(&lane->records, CELLAR_RECORDS_LAUNCHING);
    lane->boot_end = lane->agent->now + BOOT_SECONDS_MAX * 1000000u;
}

/* What an exit status of launcher or bootstrap means. */
static const struct {
    int status;
    enum cellar_fault fault;
} boot_faults[] = {
    {CELLAR_BOOT_NO_PYTHON, CELLAR_FAULT_NO_PYTHON},
    {CELLAR_BOOT_MUSL, CELLAR_FAULT_MUSL},
    {CELLAR_BOOT_OLD_PYTHON, CELLAR_FAULT_OLD_PYTHON},
    {CELLAR_BOOT_EXTENSION, CELLAR_FAULT_EXTENSION},
    {CELLAR_BOOT_SANDBOX, CELLAR_FAULT_SANDBOX},
    {CELLAR_BOOT_PRELOAD, CELLAR_FAULT_PRELOAD},
};

/* A Python 2 does not get as far as telling its version. */
static bool knows_no_isolation(int status, struct cellar_bytes words)
{
    static const char complaint[] = "Unknown option: -I";
    return WIFEXITED(status) && WEXITSTATUS(status) == 2 &&
           memmem(words.data, words.len, complaint, sizeof(complaint) - 1);
}

/* The worker's own word of a module stands behind what libraries have printed
 * meanwhile. */
static struct cellar_bytes last_line(struct cellar_bytes words)
{
    const uint8_t *newline = memrchr(words.data, '\n', words.len);
    if (!newline)
        return words;
    size_t skipped = (size_t)(newline + 1 - words.data);
    return (struct cellar_bytes){newline + 1, words.len - skipped};
}

static bool imports(const struct cellar_lane *lane)
{
    return lane->hello.preload[0] &&
           lane->records.phase == CELLAR_RECORDS_BOOTING;
}

/* Behind what ended a worker that was confined already: it may be a module
 * which did. */
static const char *what_it_imports(const struct cellar_lane *lane,
                                   char text[32 + CELLAR_PRELOAD_MAX])
{
    (void)snprintf(text, 32 + CELLAR_PRELOAD_MAX, "%s%s",
                   imports(lane) ? " while it imported " : "",
                   imports(lane) ? lane->hello.preload : "");
    return text;
}

void cellar_lane_boot_is_over(struct cellar_lane *lane)
{
    char text[192 + CELLAR_PRELOAD_MAX];
    if (imports(lane))
        (void)snprintf(text, sizeof(text),
                       "the import of a module of --preload did not end within "
                       "%u s; import them in a cell to see which, and where it "
                       "stands: %s",
                       BOOT_SECONDS_MAX, lane->hello.preload);
    else
        (void)snprintf(text, sizeof(text),
                       "the worker did not become ready within %u s",
                       BOOT_SECONDS_MAX);
    cellar_lane_fault(lane, CELLAR_FAULT_WORKER, text,
                      cellar_output_tail(&lane->output));
}

static void fault_of_boot(struct cellar_lane *lane, int status)
{
    struct cellar_bytes words = cellar_output_tail(&lane->output);
    if (knows_no_isolation(status, words)) {
        cellar_lane_fault(
            lane, CELLAR_FAULT_OLD_PYTHON,
            "the image's python3 is a Python 2; Cellar needs CPython 3.8 or "
            "later",
            (struct cellar_bytes){0});
        return;
    }
    for (size_t i = 0; i < sizeof(boot_faults) / sizeof(boot_faults[0]); i++)
        if (WIFEXITED(status) && WEXITSTATUS(status) == boot_faults[i].status) {
            if (boot_faults[i].fault == CELLAR_FAULT_PRELOAD)
                words = last_line(words);
            cellar_lane_fault(lane, boot_faults[i].fault, "", words);
            return;
        }
    char modules[32 + CELLAR_PRELOAD_MAX];
    char text[96 + sizeof(modules)];
    (void)what_it_imports(lane, modules);
    if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "the worker was killed by signal %d%s%s",
                 WTERMSIG(status),
                 cellar_usage_oom(&lane->usage) ? " (out of memory)" : "",
                 modules);
    else
        snprintf(text, sizeof(text), "the worker exited with status %d%s",
                 WEXITSTATUS(status), modules);
    cellar_lane_fault(lane, CELLAR_FAULT_WORKER, text, words);
}

void cellar_lane_died_booting(struct cellar_lane *lane, int status)
{
    cellar_output_end(&lane->output, true);
    (void)cellar_output_drained(&lane->output, &lane->wire, lane->agent->now);
    fault_of_boot(lane, status);
}
