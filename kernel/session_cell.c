/* The cells of a session: the queue, one running, each ending told once. */
#include <inttypes.h>
#include <string.h>

#include "fail.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"
#include "utf8.h"

struct cellar_job *cellar_session_running(const struct cellar_session *s)
{
    if (s->former && s->former->sent)
        return s->former;
    return s->jobs && s->jobs->sent ? s->jobs : NULL;
}

static struct cellar_limits limits_of(const struct cellar_session *s,
                                      uint64_t timeout_ms)
{
    return (struct cellar_limits){.timeout_ms = timeout_ms,
                                  .memory_bytes = s->record.memory_bytes,
                                  .output_bytes = s->record.output_bytes,
                                  .lifetime_ms = s->record.lifetime_ms};
}

static void job_free(struct cellar_job *job)
{
    cellar_collect_done(&job->collect);
    free(job->code);
    free(job);
}

static struct cellar_job *job_new(struct cellar_session *s, uint64_t cell,
                                  uint64_t timeout_ms)
{
    struct cellar_limits limits = limits_of(s, timeout_ms);
    struct cellar_job *job = calloc(1, sizeof *job);
    if (job && cellar_collect_init(&job->collect, cell, &limits) != CELLAR_OK)
        free(CELLAR_TAKE(job));
    if (!job)
        return NULL;
    job->cell = cell;
    job->timeout_ms = timeout_ms;
    return job;
}

static void enqueue(struct cellar_session *s, struct cellar_job *job)
{
    *s->jobs_end = job;
    s->jobs_end = &job->next;
    s->job_count++;
}

static struct cellar_job *dequeue(struct cellar_session *s)
{
    struct cellar_job *job = s->jobs;
    s->jobs = job->next;
    if (!s->jobs)
        s->jobs_end = &s->jobs;
    s->job_count--;
    return job;
}

/* Writes the end down, then hands the result to whoever asked for it; or, of a
 * former supervisor's cell, to whoever listens, once. */
static void job_end(struct cellar_session *s, struct cellar_job *job)
{
    bool told = job->done || cellar_supervisor_hears(s->c);
    bool first = false;
    struct cellar_result *result =
        cellar_session_journal_end(s, job, told, &first);
    if (job->done)
        job->done(job->done_user, result, NULL);
    else if (first && !s->left)
        cellar_supervisor_unattended(s, result);
    else
        cellar_result_free(result);
    job_free(job);
    cellar_supervisor_settle_soon(s->c);
}

/* ------------------------------------------------------------ running -- */

static enum cellar_code check_code(const struct cellar_cell *cell, size_t *len,
                                   struct cellar_error *err)
{
    size_t n = cell->code_len ? cell->code_len
                              : strnlen(cell->code, CELLAR_CODE_MAX + 1);
    if (n > CELLAR_CODE_MAX)
        return cellar_fail(err, CELLAR_E_LIMIT,
                           "the cell is over %u bytes long; write large data "
                           "to a file and mount it",
                           CELLAR_CODE_MAX);
    if (memchr(cell->code, '\0', n))
        return cellar_fail(err, CELLAR_E_USAGE, "the cell holds a NUL byte");
    if (!cellar_utf8_valid(cell->code, n))
        return cellar_fail(err, CELLAR_E_USAGE, "the cell is not UTF-8");
    *len = n;
    return CELLAR_OK;
}

static uint64_t timeout_of(const struct cellar_session *s,
                           const struct cellar_cell *cell)
{
    if (cell->timeout_ms == UINT64_MAX)
        return 0;
    return cell->timeout_ms ? cell->timeout_ms : s->record.timeout_ms;
}

static enum cellar_code check_open(const struct cellar_session *s,
                                   struct cellar_error *err)
{
    if (s->phase == CELLAR_PHASE_LOST)
        return cellar_fail(err, CELLAR_E_LOST, "the session is lost: %s",
                           s->err.msg);
    if (s->phase == CELLAR_PHASE_CLOSING || s->leaving)
        return cellar_fail(err, CELLAR_E_LOST, "the session was stopped");
    if (s->job_count > s->record.queue_cells)
        return cellar_fail(err, CELLAR_E_BUSY,
                           "%" PRIu64 " cells wait already: the session's "
                           "limit",
                           s->record.queue_cells);
    return CELLAR_OK;
}

enum cellar_code cellar_run_async(struct cellar_session *s,
                                  const struct cellar_cell *cell,
                                  cellar_result_fn *done, void *user,
                                  struct cellar_error *err)
{
    size_t len = 0;
    enum cellar_code code = check_open(s, err);
    if (code == CELLAR_OK)
        code = check_code(cell, &len, err);
    if (code != CELLAR_OK)
        return code;
    struct cellar_job *job =
        job_new(s, s->record.cells + 1, timeout_of(s, cell));
    if (job)
        job->code = malloc(len + 1);
    if (!job || !job->code) {
        if (job)
            job_free(job);
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    }
    memcpy(job->code, cell->code, len);
    job->code_len = len;
    job->on_output = cell->on_output;
    job->user = cell->user;
    job->done = done;
    job->done_user = user;
    s->record.cells++;
    enqueue(s, job);
    cellar_session_pump(s);
    return CELLAR_OK;
}

/* The host counts too: an agent that has lost its clock, or its life, is not
 * waited for. */
static void watch(struct cellar_session *s, const struct cellar_job *job)
{
    if (job->timeout_ms > 0)
        cellar_timer_set(s->deadline, job->timeout_ms + s->record.grace_ms +
                                          CELLAR_SLACK_MS +
                                          cellar_session_preload_ms(s));
    else
        cellar_timer_unset(s->deadline);
}

void cellar_session_watch(struct cellar_session *s)
{
    const struct cellar_job *job = cellar_session_running(s);
    if (job)
        watch(s, job);
}

void cellar_session_pump(struct cellar_session *s)
{
    struct cellar_job *job = s->jobs;
    if (s->phase != CELLAR_PHASE_LIVE || !job || cellar_session_running(s))
        return;
    struct cellar_message msg = {
        .type = CELLAR_MSG_RUN,
        .cell = job->cell,
        .u.run = {.code = {(const uint8_t *)job->code, job->code_len},
                  .timeout_ms = job->timeout_ms,
                  .output_max = s->record.output_bytes}};
    cellar_session_journal_begin(s, job);
    job->sent = true;
    watch(s, job);
    cellar_session_send(s, &msg);
}

void cellar_session_resend(struct cellar_session *s)
{
    struct cellar_job *job = s->jobs;
    if (job && job->sent && job->cell > s->last_cell)
        job->sent = false;
}

void cellar_session_expect(struct cellar_session *s, uint64_t cell,
                           bool running)
{
    if (!s->former)
        s->former = job_new(s, cell, s->record.timeout_ms);
    if (!s->former) {
        cellar_session_fail(s, true, CELLAR_E_NOMEM, "out of memory");
        return;
    }
    s->former->sent = running;
    if (!s->former->begun)
        cellar_session_journal_resume(s, s->former);
    s->former->begun = true;
}

/* -------------------------------------------------- what comes of them - */

/* Whose cell this is. One that an adopted agent had finished is learned of by
 * what the agent sends again. */
static struct cellar_job *job_of(struct cellar_session *s, uint64_t cell)
{
    bool adopted = s->arrival == CELLAR_ARRIVAL_ADOPT;
    if (adopted && !s->former && cell > 0 && cell == s->last_cell)
        cellar_session_expect(s, cell, false);
    if (s->former && s->former->cell == cell)
        return s->former;
    return s->jobs && s->jobs->sent && s->jobs->cell == cell ? s->jobs : NULL;
}

/* Output is acknowledged when it is stored: soon, or when it is much. */
static void settle(struct cellar_session *s)
{
    struct cellar_message ping = {.type = CELLAR_MSG_PING};
    if (!cellar_channel_owes(&s->channel)) {
        cellar_supervisor_settle_soon(s->c);
        return;
    }
    cellar_session_settle(s);
    cellar_session_send(s, &ping);
}

void cellar_session_on_output(struct cellar_session *s, uint64_t cell,
                              const struct cellar_msg_output *output)
{
    struct cellar_job *job = job_of(s, cell);
    size_t kept = 0;
    if (job)
        kept = cellar_collect_output(&job->collect, (int)output->stream,
                                     output->data.data, output->data.len);
    if (kept > 0 && job->on_output)
        job->on_output(job->user, (int)output->stream,
                       (const char *)output->data.data, kept);
    settle(s);
}

void cellar_session_on_display(struct cellar_session *s, uint64_t cell,
                               const struct cellar_msg_display *display)
{
    struct cellar_job *job = job_of(s, cell);
    if (job)
        cellar_collect_display(&job->collect, display);
    settle(s);
}

static struct cellar_job *take(struct cellar_session *s, struct cellar_job *job)
{
    if (job != s->former)
        return dequeue(s);
    s->last_cell = 0;
    return CELLAR_TAKE(s->former);
}

void cellar_session_on_done(struct cellar_session *s, uint64_t cell,
                            const struct cellar_msg_done *done)
{
    struct cellar_job *job = job_of(s, cell);
    if (!job) {
        cellar_supervisor_log(
            s->c, "cell %" PRIu64 " of '%s' had ended: %s", cell,
            s->record.name,
            cellar_status_name((enum cellar_status)done->status));
        return;
    }
    if (s->phase == CELLAR_PHASE_LIVE)
        cellar_timer_unset(s->deadline);
    job = take(s, job);
    if (cellar_collect_finish(&job->collect, done) != CELLAR_OK)
        job->collect.result->truncated = true;
    job_end(s, job);
    cellar_session_pump(s);
}

static void end_list(struct cellar_session *s, struct cellar_job *job,
                     enum cellar_status status, enum cellar_state state,
                     const char *reason)
{
    while (job) {
        struct cellar_job *next = job->next;
        cellar_collect_end(&job->collect, status, state, reason);
        if (s->outlived && job->collect.result)
            job->collect.result->limit = CELLAR_LIMIT_LIFETIME;
        job_end(s, job);
        job = next;
    }
}

/* Takes all jobs behind `last` (NULL: all) off the queue. A callback may
 * queue new cells, which do not belong to what ends here. */
static struct cellar_job *cut_behind(struct cellar_session *s,
                                     struct cellar_job *last)
{
    struct cellar_job **end = last ? &last->next : &s->jobs;
    struct cellar_job *cut = *end;
    *end = NULL;
    s->jobs_end = end;
    s->job_count = last ? 1 : 0;
    return cut;
}

void cellar_session_doom(struct cellar_session *s)
{
    s->doomed = cut_behind(s, s->jobs && s->jobs->sent ? s->jobs : NULL);
}

void cellar_session_tell_doomed(struct cellar_session *s)
{
    end_list(s, CELLAR_TAKE(s->doomed), CELLAR_STATUS_KILLED,
             CELLAR_STATE_FRESH, NULL);
}

void cellar_session_end_jobs(struct cellar_session *s,
                             enum cellar_status status, enum cellar_state state,
                             const char *reason)
{
    cellar_session_tell_doomed(s);
    end_list(s, CELLAR_TAKE(s->former), status, state, reason);
    end_list(s, cut_behind(s, NULL), status, state, reason);
}
