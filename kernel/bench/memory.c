#include <stdlib.h>

#include "checked.h"
#include "kernel/fail.h"
#include "machine.h"
#include "peer.h"
#include "report.h"

#define SESSIONS 50

/* Before a measurement: what was to be copied is, and what was freed is gone.
 */
#define SETTLE_MS 500

/* A session of the bench's own is gone this soon after a bench that died. */
#define LEASE_MS 60000

struct memory {
    struct cellar *c;
    struct cellar_spec spec;
    struct cellar_session **list;
    uint64_t count;
};

static enum cellar_code start_more(struct memory *memory, uint64_t count,
                                   struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (uint64_t i = 0; i < count && code == CELLAR_OK; i++) {
        code = cellar_start(memory->c, &memory->spec,
                            &memory->list[memory->count], err);
        memory->count += code == CELLAR_OK;
    }
    return code;
}

static void tell_miss(struct cellar_report *report, const char *const keys[3],
                      const char *const texts[3])
{
    for (size_t i = 0; i < 3; i++)
        cellar_report_miss(report, keys[i], texts[i],
                           "the session's processes are not seen here, or not "
                           "their memory: that takes root on the engine's "
                           "machine");
}

static void tell_inside(const struct memory *memory, const char *const keys[3],
                        const char *const texts[3],
                        struct cellar_report *report)
{
    struct cellar_shares shares;
    const char *id = cellar_session_container(memory->list[0]);
    if (!cellar_shares_take(id, &shares)) {
        tell_miss(report, keys, texts);
        return;
    }
    cellar_report_add(report, keys[0], texts[0],
                      (double)(shares.agent_bytes + shares.worker_bytes));
    cellar_report_add(report, keys[1], texts[1], (double)shares.agent_bytes);
    cellar_report_add(report, keys[2], texts[2], (double)shares.worker_bytes);
}

/* One alone: nothing of its pages is shared with another one's. */
static enum cellar_code look_inside(struct memory *memory,
                                    struct cellar_report *report,
                                    struct cellar_error *err)
{
    static const char *const new_keys[] = {"pss_bytes", "agent_pss_bytes",
                                           "worker_pss_bytes"};
    static const char *const new_texts[] = {"a new session, inside",
                                            "  its agent", "  its worker"};
    static const char *const kept_keys[] = {
        "kept_pss_bytes", "kept_agent_pss_bytes", "kept_worker_pss_bytes"};
    static const char *const kept_texts[] = {"after a cell and its checkpoint",
                                             "  its agent",
                                             "  its worker and the copy"};
    enum cellar_code code = start_more(memory, 1, err);
    if (code != CELLAR_OK)
        return code;
    cellar_checked_rest(SETTLE_MS);
    tell_inside(memory, new_keys, new_texts, report);
    code = cellar_checked_run(memory->list[0], "x = 0", &cellar_copied, err);
    cellar_checked_rest(SETTLE_MS);
    if (code == CELLAR_OK)
        tell_inside(memory, kept_keys, kept_texts, report);
    return code;
}

static enum cellar_code look_outside(struct memory *memory, uint64_t sessions,
                                     struct cellar_report *report,
                                     struct cellar_error *err)
{
    struct cellar_stock before = cellar_stock_take();
    enum cellar_code code = start_more(memory, sessions, err);
    struct cellar_stock after = cellar_stock_take();
    if (code != CELLAR_OK)
        return code;
    cellar_report_add(report, "host_bytes", "supervisor, an idle session",
                      (double)cellar_stock_share(after.malloced_bytes,
                                                 before.malloced_bytes,
                                                 sessions));
    cellar_report_add(report, "host_rss_bytes", "the same of what is resident",
                      (double)cellar_stock_share(after.rss_bytes,
                                                 before.rss_bytes, sessions));
    cellar_report_add(report, "sessions", "sessions of one supervisor",
                      (double)sessions);
    return CELLAR_OK;
}

static void compare(const struct cellar_bench_ask *ask,
                    struct cellar_report *report)
{
    static const struct cellar_peer_figure figures[] = {
        {"pss_bytes", "idle kernel"}};
    const struct cellar_peer peer = {ask->python, ask->data_dir};
    cellar_peer_measure(&peer, "memory", 1, figures, 1, report);
    cellar_report_ratio(report, "ipykernel_to_cellar",
                        "ipykernel's to Cellar's", "ipykernel_pss_bytes",
                        "pss_bytes");
}

enum cellar_code cellar_bench_memory(const struct cellar_bench_ask *ask,
                                     struct cellar_report *report,
                                     struct cellar_error *err)
{
    uint64_t sessions = ask->sessions ? ask->sessions : SESSIONS;
    struct memory memory = {.c = ask->c, .spec = *ask->spec};
    memory.spec.name = NULL;
    memory.spec.lease_ms = LEASE_MS;
    memory.spec.checkpoint = CELLAR_CHECKPOINT_AUTO;
    memory.list = calloc(1 + sessions, sizeof(struct cellar_session *));
    if (!memory.list)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    enum cellar_code code = look_inside(&memory, report, err);
    if (code == CELLAR_OK)
        code = look_outside(&memory, sessions, report, err);
    for (uint64_t i = 0; i < memory.count; i++)
        code = cellar_checked_stop(memory.list[i], code, err);
    free(memory.list);
    if (code == CELLAR_OK)
        compare(ask, report);
    return code;
}
