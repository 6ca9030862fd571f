/* Checkpoints of a session: asked for, answered. One request at a time, between
 * cells but for a list; the agent does the rest. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"
#include "wait.h"

static const enum cellar_message_type requests[] = {
    [CELLAR_ASK_CHECKPOINT] = CELLAR_MSG_CHECKPOINT,
    [CELLAR_ASK_RESTORE] = CELLAR_MSG_RESTORE,
    [CELLAR_ASK_DROP] = CELLAR_MSG_DROP,
    [CELLAR_ASK_LIST] = CELLAR_MSG_LIST,
};

/* -------------------------------------------------------------- asking -- */

static enum cellar_code check_tag(enum cellar_ask ask, const char *tag,
                                  struct cellar_error *err)
{
    if (ask == CELLAR_ASK_LIST || cellar_name_check(tag, NULL) == CELLAR_OK)
        return CELLAR_OK;
    return cellar_fail(err, CELLAR_E_USAGE, "bad checkpoint name: %s",
                       CELLAR_NAME_RULE);
}

static enum cellar_code check_free(const struct cellar_session *s,
                                   enum cellar_message_type request,
                                   struct cellar_error *err)
{
    const struct cellar_job *running = cellar_session_running(s);
    if (s->phase == CELLAR_PHASE_LOST)
        return cellar_fail(err, CELLAR_E_LOST, "the session is lost: %s",
                           s->err.msg);
    if (s->phase == CELLAR_PHASE_CLOSING || s->leaving)
        return cellar_fail(err, CELLAR_E_LOST, "the session was stopped");
    if (request != CELLAR_MSG_LIST && (running || s->jobs))
        return cellar_fail(err, CELLAR_E_BUSY,
                           "cell %" PRIu64 " is running; interrupt it, or wait",
                           running ? running->cell : s->jobs->cell);
    if (s->asked.request || s->resetting)
        return cellar_fail(err, CELLAR_E_BUSY, "a %s is under way",
                           s->resetting ? "reset" : "request");
    return CELLAR_OK;
}

/* A cell that runs has the deadline; its list is not waited for. */
void cellar_session_ask(struct cellar_session *s)
{
    struct cellar_asked *asked = &s->asked;
    struct cellar_message msg = {.type = asked->request};
    if (!asked->request || s->phase != CELLAR_PHASE_LIVE)
        return;
    if (asked->request == CELLAR_MSG_FORK)
        msg.u.fork.count = cellar_branches_count(asked->branches);
    else if (asked->tag[0])
        msg.u.tag.tag = (struct cellar_bytes){(const uint8_t *)asked->tag,
                                              strlen(asked->tag)};
    asked->timed = !cellar_session_running(s);
    if (asked->timed)
        cellar_timer_set(s->deadline, CELLAR_ASK_MS);
    cellar_session_send(s, &msg);
}

/* The answer may be on its way already: a fork is not to be made twice. */
void cellar_session_ask_again(struct cellar_session *s)
{
    s->ask_again = s->asked.request && s->channel.delivered < s->last_delivery;
    if (s->ask_again)
        cellar_timer_set(s->deadline, CELLAR_ASK_MS);
    else
        cellar_session_ask(s);
}

/* While the session is away the request waits for it to be back. */
enum cellar_code cellar_session_request(struct cellar_session *s,
                                        const struct cellar_asked *asked,
                                        struct cellar_error *err)
{
    enum cellar_code code = check_free(s, asked->request, err);
    if (code != CELLAR_OK)
        return code;
    s->asked = *asked;
    cellar_session_ask(s);
    cellar_session_kick(s);
    return CELLAR_OK;
}

enum cellar_code cellar_ask_async(struct cellar_session *s, enum cellar_ask ask,
                                  const char *tag, cellar_moment_fn *done,
                                  void *user, struct cellar_error *err)
{
    struct cellar_asked asked = {
        .request = requests[ask], .done = done, .user = user};
    enum cellar_code code = check_tag(ask, tag, err);
    if (code != CELLAR_OK)
        return code;
    (void)snprintf(asked.tag, sizeof asked.tag, "%s", tag ? tag : "");
    return cellar_session_request(s, &asked, err);
}

/* ------------------------------------------------------------- answers -- */

static void tell(struct cellar_session *s, const struct cellar_moment *moment,
                 const struct cellar_error *err)
{
    struct cellar_asked asked = s->asked;
    s->asked = (struct cellar_asked){0};
    if (asked.timed) {
        if (s->phase == CELLAR_PHASE_LIVE)
            cellar_timer_unset(s->deadline);
        cellar_session_watch(s); /* of a cell that was sent meanwhile */
    }
    cellar_branches_free(cellar_supervisor_state_dir(s->c), asked.branches);
    if (asked.done)
        asked.done(asked.user, err ? NULL : moment, err);
}

void cellar_session_tell_asked(struct cellar_session *s,
                               const struct cellar_error *err)
{
    if (s->asked.request)
        tell(s, NULL, err);
}

/* An automatic one that failed after its cell's result was told. */
static void warn(struct cellar_session *s, const struct cellar_msg_reply *reply)
{
    cellar_supervisor_warn(
        s->c, "session '%s': no checkpoint after cell %" PRIu64 ": %.*s",
        s->record.name, reply->after, (int)reply->text.len,
        (const char *)reply->text.data);
}

/* It answers what a process asked that had the session before. */
static bool is_stale(const struct cellar_session *s)
{
    return s->arrival == CELLAR_ARRIVAL_ADOPT &&
           s->channel.delivered <= s->last_delivery;
}

void cellar_session_on_reply(struct cellar_session *s,
                             const struct cellar_msg_reply *reply)
{
    struct cellar_moment moment = {.after = reply->after,
                                   .took_us = reply->took_us};
    struct cellar_error err = {0};
    enum cellar_code code = CELLAR_OK;
    if (reply->request == 0)
        warn(s, reply);
    else if (reply->request == CELLAR_MSG_STOP)
        cellar_session_left(s);
    if (reply->request == 0 || reply->request != s->asked.request ||
        is_stale(s))
        return;
    if (!reply->ok)
        code =
            cellar_fail(&err, cellar_refusal_code(reply->text), "%.*s",
                        (int)reply->text.len, (const char *)reply->text.data);
    else if (reply->request == CELLAR_MSG_RESTORE)
        cellar_session_journal_restore(s, reply->after);
    else if (s->asked.branches)
        code = cellar_branches_record(s, s->asked.branches, reply, &err);
    tell(s, &moment, code == CELLAR_OK ? NULL : &err);
}

/* Tags as they were given: anything else is not the agent's to say. */
static bool copy_tag(const struct cellar_bytes *from,
                     char to[CELLAR_TAG_BYTES_MAX + 1])
{
    if (from->len > CELLAR_TAG_BYTES_MAX)
        return false;
    memcpy(to, from->data, from->len);
    to[from->len] = '\0';
    return from->len == 0 || cellar_name_check(to, NULL) == CELLAR_OK;
}

void cellar_session_on_copies(struct cellar_session *s,
                              const struct cellar_msg_copies *copies)
{
    char tags[CELLAR_COPIES_MAX][CELLAR_TAG_BYTES_MAX + 1];
    struct cellar_checkpoint list[CELLAR_COPIES_MAX];
    struct cellar_moment moment = {.held_bytes = copies->held_bytes,
                                   .list = list};
    if (s->asked.request != CELLAR_MSG_LIST || is_stale(s))
        return;
    for (size_t i = 0; i < copies->count; i++) {
        const struct cellar_kept *kept = &copies->kept[i];
        size_t n = moment.count;
        if (!copy_tag(&kept->tag, tags[n]))
            continue;
        list[n] =
            (struct cellar_checkpoint){tags[n], kept->after, kept->age_ms};
        moment.count++;
    }
    tell(s, &moment, NULL);
}

/* ------------------------------------------------ the calls that wait --- */

struct request {
    struct cellar_wait wait;
    struct cellar_moment moment;
    void (*each)(void *user, const struct cellar_checkpoint *checkpoint);
    void *user;
};

static void on_answer(void *user, const struct cellar_moment *moment,
                      const struct cellar_error *err)
{
    struct request *request = user;
    for (size_t i = 0; moment && request->each && i < moment->count; i++)
        request->each(request->user, &moment->list[i]);
    if (moment)
        request->moment = *moment;
    request->moment.list = NULL;
    cellar_wait_done(&request->wait, err);
}

static enum cellar_code ask(struct cellar_session *s, enum cellar_ask what,
                            const char *tag, struct request *request,
                            struct cellar_moment *moment,
                            struct cellar_error *err)
{
    enum cellar_code code =
        cellar_ask_async(s, what, tag, on_answer, request, err);
    if (code == CELLAR_OK)
        code = cellar_wait_for(s->c, &request->wait, err);
    if (code == CELLAR_OK && moment)
        *moment = request->moment;
    return code;
}

enum cellar_code cellar_checkpoint(struct cellar_session *s, const char *tag,
                                   struct cellar_moment *moment,
                                   struct cellar_error *err)
{
    struct request request = {.each = NULL};
    return ask(s, CELLAR_ASK_CHECKPOINT, tag, &request, moment, err);
}

enum cellar_code cellar_restore(struct cellar_session *s, const char *tag,
                                struct cellar_moment *moment,
                                struct cellar_error *err)
{
    struct request request = {.each = NULL};
    return ask(s, CELLAR_ASK_RESTORE, tag, &request, moment, err);
}

enum cellar_code cellar_checkpoint_drop(struct cellar_session *s,
                                        const char *tag,
                                        struct cellar_error *err)
{
    struct request request = {.each = NULL};
    return ask(s, CELLAR_ASK_DROP, tag, &request, NULL, err);
}

enum cellar_code cellar_checkpoint_list(
    struct cellar_session *s,
    void (*each)(void *user, const struct cellar_checkpoint *checkpoint),
    void *user, struct cellar_moment *moment, struct cellar_error *err)
{
    struct request request = {.each = each, .user = user};
    return ask(s, CELLAR_ASK_LIST, NULL, &request, moment, err);
}
