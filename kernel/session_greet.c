/* Host and agent shake hands: of a new container, an adopted one, and one that
 * this process had before. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "fail.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"

/* Milliseconds from now until the agent ends by itself; 0: never. */
static uint64_t life_left(const struct cellar_record *r)
{
    uint64_t end = r->created * 1000 + r->lifetime_ms;
    uint64_t now = (uint64_t)time(NULL) * 1000;
    if (r->lifetime_ms == 0)
        return 0;
    return (end > now ? end - now : 0) + CELLAR_LIFETIME_SLACK_MS;
}

enum cellar_code cellar_session_greet(struct cellar_session *s, bool first,
                                      struct cellar_error *err)
{
    const struct cellar_record *r = &s->record;
    /* The worker's limit is below the container's, so that the agent can still
     * start the next worker when a fork bomb has used up what there is. */
    struct cellar_msg_hello hello = {.lease_ms = r->lease_ms,
                                     .life_ms = life_left(r),
                                     .grace_ms = r->grace_ms,
                                     .nproc = r->pids > 4 ? r->pids - 4 : 1,
                                     .nofile = r->files,
                                     .fsize = r->file_bytes,
                                     .policy = r->checkpoint};
    (void)snprintf(hello.preload, sizeof hello.preload, "%s", r->preload);
    bool known = s->arrival == CELLAR_ARRIVAL_RETURN ||
                 s->arrival == CELLAR_ARRIVAL_TAKE;
    if (!known)
        cellar_channel_init(&s->channel, r->key, r->delivered);
    return cellar_channel_greet(&s->channel, first, &hello, err);
}

static void on_copies(void *user, const struct cellar_moment *moment,
                      const struct cellar_error *err)
{
    struct cellar_session *s = user;
    (void)err;
    cellar_control_copies(s->control, moment);
}

static void on_control(void *user, enum cellar_request request)
{
    struct cellar_session *s = user;
    struct cellar_error err = {0};
    if (request == CELLAR_REQUEST_INTERRUPT)
        cellar_session_interrupt(s);
    else if (request == CELLAR_REQUEST_LEAVE)
        (void)cellar_session_leave(s);
    else if (request == CELLAR_REQUEST_COPIES) {
        if (cellar_ask_async(s, CELLAR_ASK_LIST, NULL, on_copies, s, NULL) !=
            CELLAR_OK)
            cellar_control_copies(s->control, NULL);
    } else if (cellar_reset_async(s, NULL, NULL, &err) != CELLAR_OK)
        cellar_supervisor_log(s->c, "reset of session '%s': %s", s->record.name,
                              err.msg);
}

void cellar_session_listen(struct cellar_session *s)
{
    struct cellar_error err = {0};
    if (!s->control &&
        cellar_control_new(cellar_supervisor_loop(s->c), &s->hold, on_control,
                           s, &s->control, &err) != CELLAR_OK)
        cellar_supervisor_log(s->c, "session '%s': %s", s->record.name,
                              err.msg);
}

/* The first time in this process. */
static void settle_in(struct cellar_session *s)
{
    if (s->arrival != CELLAR_ARRIVAL_ADOPT)
        cellar_session_journal_open(s); /* its Python is known now */
    cellar_session_journal_live(s);
    if (s->record.lifetime_ms > 0)
        cellar_timer_set(s->lifetime,
                         life_left(&s->record) - CELLAR_LIFETIME_SLACK_MS);
    if (s->record.name[0] && !cellar_name_is_ready(s->record.name))
        cellar_session_listen(s);
}

/* What was under way when the stream broke goes on, or is asked for again. */
static void pick_up(struct cellar_session *s)
{
    cellar_supervisor_log(s->c, "session '%s': attached again", s->record.name);
    cellar_session_resend(s);
    cellar_session_watch(s);
    if (s->interrupt_late)
        cellar_session_interrupt(s);
    s->interrupt_late = false;
    cellar_session_ask_again(s);
    if (s->resetting)
        cellar_session_ask_reset(s);
}

void cellar_session_open_up(struct cellar_session *s)
{
    cellar_timer_unset(s->deadline);
    cellar_timer_set(s->keepalive, s->record.lease_ms / 3);
    s->phase = CELLAR_PHASE_LIVE;
    s->live_since_us = cellar_loop_now_us();
    if (s->arrival == CELLAR_ARRIVAL_RETURN)
        pick_up(s);
    else
        settle_in(s);
    cellar_waiter_tell(&s->opened, s, NULL);
    cellar_session_kick(s);
}

/* Cells that the record has not heard of (its holder was killed): a number must
 * not come twice. */
static void take_stock(struct cellar_session *s,
                       const struct cellar_msg_welcome *welcome)
{
    if (welcome->last_cell > s->record.cells)
        s->record.cells = welcome->last_cell;
    if (welcome->running)
        cellar_session_expect(s, welcome->running, true);
    cellar_session_journal_unsent(s);
}

void cellar_session_on_welcome(struct cellar_session *s,
                               const struct cellar_msg_welcome *welcome)
{
    if (s->phase > CELLAR_PHASE_GREETING)
        return;
    s->phase = CELLAR_PHASE_BOOTING;
    s->generation = welcome->generation;
    s->last_cell = welcome->last_cell;
    s->last_delivery = welcome->delivered;
    if (s->arrival == CELLAR_ARRIVAL_TAKE && welcome->last_cell > 0) {
        cellar_session_fail(s, false, CELLAR_E_PROTO,
                            "the ready session was used before");
        return;
    }
    if (s->arrival == CELLAR_ARRIVAL_ADOPT)
        take_stock(s, welcome);
    if (s->arrival != CELLAR_ARRIVAL_START && welcome->ready)
        s->ready = true;
    if (s->ready && s->channel.stream)
        cellar_session_open_up(s);
}

void cellar_session_on_ready(struct cellar_session *s,
                             const struct cellar_msg_ready *ready)
{
    bool anew = ready->generation > s->generation;
    s->generation = ready->generation;
    s->landlock_abi = ready->landlock_abi;
    (void)snprintf(s->record.python, sizeof s->record.python, "%.*s",
                   (int)ready->python.len, (const char *)ready->python.data);
    if (s->phase == CELLAR_PHASE_BOOTING) {
        /* Without its stream a session can't run cells, nor be recorded. */
        s->ready = true;
        if (s->channel.stream)
            cellar_session_open_up(s);
    } else if (s->phase == CELLAR_PHASE_RESETTING && anew) {
        cellar_timer_unset(s->deadline);
        s->phase = CELLAR_PHASE_LIVE;
        s->resetting = false;
        cellar_session_tell_doomed(s);
        cellar_waiter_tell(&s->reset, s, NULL);
        cellar_session_kick(s);
    }
}

void cellar_session_on_fault(struct cellar_session *s,
                             const struct cellar_msg_fault *fault)
{
    bool preload = fault->code == CELLAR_FAULT_PRELOAD;
    bool image = fault->code <= CELLAR_FAULT_EXTENSION || preload;
    bool ended = fault->code == CELLAR_FAULT_ENDED;
    s->words_len = 0;
    s->diagnosed = true; /* by the agent: it lives, and has told why */
    cellar_session_fail(s, false, image ? CELLAR_E_IMAGE : CELLAR_E_LOST,
                        "%s %s%s: %.*s%s", ended ? "session" : "image",
                        ended ? s->record.name : s->record.image,
                        ended ? " is lost" : "",
                        (int)(fault->text.len < 300 ? fault->text.len : 300),
                        (const char *)fault->text.data,
                        preload ? "; install it in the image, or take it out "
                                  "of --preload"
                                : "");
}
