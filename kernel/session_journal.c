/* What is written down of a session, and when: an order in which a kill at any
 * moment loses no finished cell, and doubles none. */
#include <inttypes.h>
#include <string.h>

#include "fail.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"

/* The journal, when this session is to be written and it can be now. */
static struct cellar_journal *journal_of(struct cellar_session *s)
{
    struct cellar_error err = {0};
    bool named = s->record.name[0] && !cellar_name_is_ready(s->record.name);
    if (!named || !s->record.container[0])
        return NULL;
    struct cellar_journal *journal = cellar_supervisor_writes(s->c);
    if (!journal || s->place.session > 0)
        return journal;
    enum cellar_code code =
        cellar_journal_session(journal, &s->record, &s->place, &err);
    return cellar_supervisor_wrote(s->c, code, &err) ? journal : NULL;
}

void cellar_session_journal_open(struct cellar_session *s)
{
    if (!journal_of(s))
        return;
    if (s->place.delivered > s->record.delivered)
        s->record.delivered = s->place.delivered;
    if (s->place.last_cell > s->record.cells)
        s->record.cells = s->place.last_cell;
}

void cellar_session_journal_live(struct cellar_session *s)
{
    struct cellar_error err = {0};
    struct cellar_journal *journal = s->place.ended ? journal_of(s) : NULL;
    if (journal)
        s->place.ended = !cellar_supervisor_wrote(
            s->c, cellar_journal_revive(journal, s->place.session, &err), &err);
}

/* A session that is let go of is not ours to write any more. */
void cellar_session_journal_leave(struct cellar_session *s)
{
    s->left = true;
}

void cellar_session_journal_begin(struct cellar_session *s,
                                  struct cellar_job *job)
{
    struct cellar_error err = {0};
    struct cellar_journal *journal = s->left ? NULL : journal_of(s);
    if (!journal || !job->code || job->begun)
        return;
    job->begun = cellar_supervisor_wrote(
        s->c,
        cellar_journal_begin(journal, s->place.session, job->cell, job->code,
                             job->code_len, job->timeout_ms, &err),
        &err);
}

static bool has_new_output(const struct cellar_job *job)
{
    const struct cellar_collect *collect = &job->collect;
    const struct cellar_journal_mark *mark = &job->mark;
    return cellar_buf_len(&collect->streams[0]) > mark->stream_bytes[0] ||
           cellar_buf_len(&collect->streams[1]) > mark->stream_bytes[1] ||
           collect->result->display_count > mark->displays;
}

static void write_output(struct cellar_session *s, struct cellar_job *job)
{
    struct cellar_error err = {0};
    if (!job || !job->collect.result || !has_new_output(job))
        return;
    struct cellar_journal *journal = s->left ? NULL : journal_of(s);
    if (journal)
        (void)cellar_supervisor_wrote(
            s->c,
            cellar_journal_output(journal, s->place.session, job->cell,
                                  &job->collect, &job->mark,
                                  s->channel.delivered, &err),
            &err);
}

/* Also when it could not be stored: an agent that keeps all would stop reading
 * what the cell prints. */
void cellar_session_settle(struct cellar_session *s)
{
    write_output(s, s->former);
    if (s->jobs && s->jobs->sent)
        write_output(s, s->jobs);
    cellar_channel_settle(&s->channel);
}

/* Streams are stored as they came, results mended where they are not UTF-8:
 * once the former has begun, it is what is gone on with. */
struct cellar_result *cellar_session_journal_end(struct cellar_session *s,
                                                 struct cellar_job *job,
                                                 bool told, bool *first)
{
    struct cellar_error err = {0};
    const struct cellar_journal_mark *mark = &job->mark;
    bool partly = mark->stream_bytes[0] || mark->stream_bytes[1];
    *first = true;
    cellar_session_journal_begin(s, job);
    if (partly)
        write_output(s, job);
    struct cellar_result *result = cellar_collect_take(&job->collect);
    if (partly) {
        job->mark.stream_bytes[0] = result->stdout_len;
        job->mark.stream_bytes[1] = result->stderr_len;
    }
    struct cellar_journal *journal = s->left ? NULL : journal_of(s);
    if (journal)
        (void)cellar_supervisor_wrote(
            s->c,
            cellar_journal_end(journal, s->place.session, result, mark, told,
                               s->channel.delivered, first, &err),
            &err);
    cellar_channel_settle(&s->channel);
    return result;
}

void cellar_session_journal_reset(struct cellar_session *s)
{
    struct cellar_error err = {0};
    struct cellar_journal *journal = journal_of(s);
    if (journal)
        (void)cellar_supervisor_wrote(
            s->c, cellar_journal_reset(journal, s->place.session, &err), &err);
}

void cellar_session_journal_restore(struct cellar_session *s, uint64_t cell)
{
    struct cellar_error err = {0};
    struct cellar_journal *journal = journal_of(s);
    if (journal)
        (void)cellar_supervisor_wrote(
            s->c, cellar_journal_restore(journal, s->place.session, cell, &err),
            &err);
}

void cellar_session_journal_close(struct cellar_session *s, const char *ending,
                                  const char *reason)
{
    struct cellar_error err = {0};
    char place[CELLAR_PLACE_MAX];
    struct cellar_journal *journal =
        s->place.session > 0 && !s->left ? journal_of(s) : NULL;
    cellar_record_place(&s->record, place);
    if (journal)
        (void)cellar_supervisor_wrote(
            s->c,
            cellar_journal_end_session(journal, place, ending, reason, &err),
            &err);
}

void cellar_session_journal_branch(struct cellar_session *s,
                                   const struct cellar_record *branch,
                                   uint64_t after)
{
    struct cellar_error err = {0};
    struct cellar_journal *journal = journal_of(s);
    if (journal)
        (void)cellar_supervisor_wrote(
            s->c,
            cellar_journal_branch(journal, s->place.session, after, branch,
                                  &err),
            &err);
}

void cellar_session_journal_resume(struct cellar_session *s,
                                   struct cellar_job *job)
{
    struct cellar_error err = {0};
    struct cellar_journal *journal = journal_of(s);
    if (journal)
        (void)cellar_supervisor_wrote(
            s->c,
            cellar_journal_resume(journal, s->place.session, job->cell,
                                  &job->collect, &job->mark, &err),
            &err);
}

/* At most one: the last. The agent has never heard of it. */
void cellar_session_journal_unsent(struct cellar_session *s)
{
    struct cellar_error err = {0};
    struct cellar_journal_mark none = {0};
    bool first = false;
    char nothing[] = "";
    char why[] = "the process that had the session ended before it had sent "
                 "the cell: it never ran";
    struct cellar_result result = {.cell = s->place.last_cell,
                                   .status = CELLAR_STATUS_LOST,
                                   .state = CELLAR_STATE_KEPT,
                                   .stdout_text = nothing,
                                   .stderr_text = nothing,
                                   .reason = why};
    struct cellar_journal *journal = journal_of(s);
    if (journal && s->place.last_cell > s->last_cell)
        (void)cellar_supervisor_wrote(
            s->c,
            cellar_journal_end(journal, s->place.session, &result, &none, false,
                               s->channel.settled, &first, &err),
            &err);
}

void cellar_session_tell_untold(struct cellar_session *s)
{
    struct cellar_error err = {0};
    struct cellar_journal *journal = NULL;
    struct cellar_result *result = NULL;
    if (s->untold_asked || !cellar_supervisor_hears(s->c))
        return;
    s->untold_asked = true;
    while ((journal = journal_of(s)) &&
           cellar_supervisor_wrote(s->c,
                                   cellar_journal_take_untold(journal,
                                                              s->place.session,
                                                              &result, &err),
                                   &err) &&
           result)
        cellar_supervisor_unattended(s, CELLAR_TAKE(result));
}
