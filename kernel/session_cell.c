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

/* Hands the finished result to whoever asked for it. */
static void job_tell(struct cellar_job *job)
{
    if (job->done)
        job->done(job->done_user, cellar_collect_take(&job->collect), NULL);
    job_free(job);
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
    if (s->phase == CELLAR_PHASE_CLOSING)
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
                                          CELLAR_SLACK_MS);
    else
        cellar_timer_unset(s->deadline);
}

void cellar_session_pump(struct cellar_session *s)
{
    struct cellar_job *job = s->jobs;
    if (s->phase != CELLAR_PHASE_LIVE || !job || job->sent)
        return;
    struct cellar_message msg = {
        .type = CELLAR_MSG_RUN,
        .cell = job->cell,
        .u.run = {.code = {(const uint8_t *)job->code, job->code_len},
                  .timeout_ms = job->timeout_ms,
                  .output_max = s->record.output_bytes}};
    job->sent = true;
    watch(s, job);
    cellar_session_send(s, &msg);
    free(CELLAR_TAKE(job->code));
}

void cellar_session_expect(struct cellar_session *s, uint64_t cell)
{
    struct cellar_job *job = job_new(s, cell, 0);
    if (!job) {
        cellar_session_fail(s, true, CELLAR_E_NOMEM, "out of memory");
        return;
    }
    job->sent = true;
    enqueue(s, job);
}

/* -------------------------------------------------- what comes of them - */

void cellar_session_on_output(struct cellar_session *s, uint64_t cell,
                              const struct cellar_msg_output *output)
{
    struct cellar_job *job = cellar_session_running(s);
    size_t kept = 0;
    if (!job || job->cell != cell || !job->done)
        return;
    kept = cellar_collect_output(&job->collect, (int)output->stream,
                                 output->data.data, output->data.len);
    if (kept > 0 && job->on_output)
        job->on_output(job->user, (int)output->stream,
                       (const char *)output->data.data, kept);
}

void cellar_session_on_display(struct cellar_session *s, uint64_t cell,
                               const struct cellar_msg_display *display)
{
    struct cellar_job *job = cellar_session_running(s);
    if (job && job->cell == cell && job->done)
        cellar_collect_display(&job->collect, display);
}

void cellar_session_on_done(struct cellar_session *s, uint64_t cell,
                            const struct cellar_msg_done *done)
{
    struct cellar_job *job = cellar_session_running(s);
    if (!job || job->cell != cell) {
        cellar_supervisor_log(
            s->c, "cell %" PRIu64 " of '%s' had ended: %s", cell,
            s->record.name,
            cellar_status_name((enum cellar_status)done->status));
        return;
    }
    if (s->phase == CELLAR_PHASE_LIVE)
        cellar_timer_unset(s->deadline);
    dequeue(s);
    if (cellar_collect_finish(&job->collect, done) != CELLAR_OK)
        job->collect.result->truncated = true;
    job_tell(job);
    cellar_session_pump(s);
}

static void end_list(const struct cellar_session *s, struct cellar_job *job,
                     enum cellar_status status, enum cellar_state state,
                     const char *reason)
{
    while (job) {
        struct cellar_job *next = job->next;
        cellar_collect_end(&job->collect, status, state, reason);
        if (s->outlived && job->collect.result)
            job->collect.result->limit = CELLAR_LIMIT_LIFETIME;
        job_tell(job);
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
    s->doomed = cut_behind(s, cellar_session_running(s));
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
    end_list(s, cut_behind(s, NULL), status, state, reason);
}
