#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "fail.h"
#include "reaper.h"
#include "spec.h"
#include "supervisor_private.h"

/* ----------------------------------------------------- small parts ---- */

void cellar_waiter_tell(struct cellar_waiter *waiter, struct cellar_session *s,
                        const struct cellar_error *err)
{
    struct cellar_waiter told = *waiter;
    *waiter = (struct cellar_waiter){0};
    if (told.done)
        told.done(told.user, s, err);
}

uint64_t cellar_session_preload_ms(const struct cellar_session *s)
{
    return s->record.preload[0] ? CELLAR_PRELOAD_MS : 0;
}

void cellar_session_kick(struct cellar_session *s)
{
    cellar_timer_set(s->turn, 0);
}

void cellar_session_fail(struct cellar_session *s, bool keep,
                         enum cellar_code code, const char *fmt, ...)
{
    va_list args;
    if (s->phase >= CELLAR_PHASE_LOST)
        return;
    s->phase = CELLAR_PHASE_LOST;
    s->detached = false;
    s->remove = !keep;
    s->kept = keep;
    s->err = (struct cellar_error){.code = code};
    va_start(args, fmt);
    (void)vsnprintf(s->err.msg, sizeof s->err.msg, fmt, args);
    va_end(args);
    cellar_session_kick(s);
}

/* A stream that takes nothing any more is on its way out: its session finds
 * back. An agent that does not read what it was sent is another matter. */
void cellar_session_send(struct cellar_session *s, struct cellar_message *msg)
{
    struct cellar_error err = {0};
    enum cellar_code code = cellar_channel_send(&s->channel, msg, &err);
    if (code == CELLAR_E_LOST)
        cellar_session_detach(s, &err);
    else if (code != CELLAR_OK)
        cellar_session_fail(s, false, CELLAR_E_LOST, "%s", err.msg);
}

/* ------------------------------------------------- the engine's stream - */

static bool take_message(void *user, struct cellar_message *msg)
{
    struct cellar_session *s = user;
    switch (msg->type) {
    case CELLAR_MSG_WELCOME:
        cellar_session_on_welcome(s, &msg->u.welcome);
        break;
    case CELLAR_MSG_READY:
        cellar_session_on_ready(s, &msg->u.ready);
        break;
    case CELLAR_MSG_OUTPUT:
        cellar_session_on_output(s, msg->cell, &msg->u.output);
        break;
    case CELLAR_MSG_DISPLAY:
        cellar_session_on_display(s, msg->cell, &msg->u.display);
        break;
    case CELLAR_MSG_DONE:
        cellar_session_on_done(s, msg->cell, &msg->u.done);
        break;
    case CELLAR_MSG_FAULT:
        cellar_session_on_fault(s, &msg->u.fault);
        break;
    case CELLAR_MSG_REPLY:
        cellar_session_on_reply(s, &msg->u.reply);
        break;
    case CELLAR_MSG_COPIES:
        cellar_session_on_copies(s, &msg->u.copies);
        break;
    default: /* PONG; the link lets nothing else through */
        break;
    }
    if (s->ask_again)
        cellar_session_ask_again(s);
    return s->phase < CELLAR_PHASE_LOST && !s->detached;
}

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    struct cellar_session *s = user;
    struct cellar_error err = {0};
    if (s->phase >= CELLAR_PHASE_LOST || s->detached)
        return;
    if (cellar_channel_feed(&s->channel, data, len, take_message, s, &err) !=
        CELLAR_OK)
        cellar_session_fail(s, false, CELLAR_E_LOST,
                            "the session's agent can't be trusted any more: "
                            "%s",
                            err.msg);
}

static void on_text(void *user, const char *data, size_t len)
{
    struct cellar_session *s = user;
    size_t room = sizeof s->words - 1;
    if (len > room) {
        data += len - room;
        len = room;
    }
    if (s->words_len + len > room) {
        size_t drop = s->words_len + len - room;
        memmove(s->words, s->words + drop, s->words_len - drop);
        s->words_len -= drop;
    }
    memcpy(s->words + s->words_len, data, len);
    s->words_len += len;
    s->words[s->words_len] = '\0';
}

static void on_closed(void *user, const struct cellar_error *err)
{
    cellar_session_detach(user, err);
}

const struct cellar_stream_events cellar_session_stream_events = {
    .bytes = on_bytes, .text = on_text, .closed = on_closed};

/* ------------------------------------------------------------ timers -- */

/* The engine has not given it back: a named one may be adopted when it does. */
static void give_up(struct cellar_session *s)
{
    char why[sizeof s->away];
    memcpy(why, s->away, sizeof why);
    s->diagnosed = true;
    cellar_session_fail(s, s->record.name[0] != '\0', CELLAR_E_LOST,
                        "the session was away for %d s: %s",
                        CELLAR_AWAY_MS / 1000, why);
}

static void on_deadline(void *user)
{
    struct cellar_session *s = user;
    if (s->leaving)
        cellar_session_left(s);
    else if (s->arrival == CELLAR_ARRIVAL_TAKE && s->live_since_us == 0)
        cellar_session_fail(s, false, CELLAR_E_TIMEOUT,
                            "the ready session did not answer");
    else if (s->live_since_us > 0 && s->phase < CELLAR_PHASE_LIVE)
        give_up(s);
    else if (s->arrival == CELLAR_ARRIVAL_ADOPT && s->live_since_us == 0)
        cellar_session_fail(s, true, CELLAR_E_TIMEOUT,
                            "session '%s' does not answer; 'cellar stop %s' "
                            "removes it",
                            s->record.name, s->record.name);
    else if (s->phase < CELLAR_PHASE_LIVE)
        cellar_session_fail(s, false, CELLAR_E_TIMEOUT,
                            "the session was not ready within %d s",
                            CELLAR_START_MS / 1000);
    else
        cellar_session_fail(s, false, CELLAR_E_LOST,
                            "the agent did not answer in time");
}

static void on_keepalive(void *user)
{
    struct cellar_session *s = user;
    struct cellar_message ping = {.type = CELLAR_MSG_PING};
    if (s->phase != CELLAR_PHASE_LIVE && s->phase != CELLAR_PHASE_RESETTING)
        return;
    cellar_session_send(s, &ping);
    cellar_timer_set(s->keepalive, s->record.lease_ms / 3);
}

static void on_lifetime(void *user)
{
    struct cellar_session *s = user;
    s->outlived = true;
    cellar_session_fail(s, false, CELLAR_E_LIMIT,
                        "the session has reached its lifetime of %" PRIu64 " s",
                        s->record.lifetime_ms / 1000);
}

/* ----------------------------------------------------- loss and end --- */

/* Everybody who still waits, but for the stop's own caller. */
static void tell_stopped(struct cellar_session *s)
{
    struct cellar_error err = {0};
    cellar_fail(&err, CELLAR_E_LOST, "the session was stopped");
    cellar_session_end_jobs(s, CELLAR_STATUS_LOST, CELLAR_STATE_FRESH, err.msg);
    cellar_session_tell_asked(s, &err);
    cellar_waiter_tell(&s->reset, NULL, &err);
    cellar_waiter_tell(&s->opened, NULL, &err);
}

static void session_free(struct cellar_session *s)
{
    cellar_supervisor_forget(s);
    cellar_channel_done(&s->channel);
    cellar_control_free(s->control);
    cellar_timer_close(s->turn);
    cellar_timer_close(s->deadline);
    cellar_timer_close(s->keepalive);
    cellar_timer_close(s->lifetime);
    cellar_hold_tidy(cellar_supervisor_state_dir(s->c), s->dir, &s->hold);
    cellar_spec_done(&s->spec);
    cellar_reaper_free(s->reaper);
    free(s->uids);
    free(s->stands);
    free(s);
}

static void on_removed(void *user, const struct cellar_error *err)
{
    struct cellar_session *s = user;
    s->pending--;
    if (err)
        cellar_supervisor_log(s->c, "removing container %.12s: %s",
                              s->record.container, err->msg);
    if (s->stopped.done && err)
        s->err = *err;
    cellar_session_kick(s);
}

void cellar_session_explain(struct cellar_session *s, const char *reason)
{
    bool ended = strncmp(s->err.msg, CELLAR_STREAM_ENDED,
                         strlen(CELLAR_STREAM_ENDED)) == 0;
    size_t len = ended ? 0 : strlen(s->err.msg);
    (void)snprintf(s->err.msg + len, sizeof s->err.msg - len, "%s%s",
                   ended ? "" : ": ", reason);
}

static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    struct cellar_session *s = user;
    (void)vital;
    s->pending--;
    if (reason && *reason && s->err.code == CELLAR_E_LOST)
        cellar_session_explain(s, reason);
    cellar_session_kick(s);
}

/* The engine knows more than "the stream ended". */
static bool ask_reason(struct cellar_session *s)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    if (s->diagnosed || !s->record.container[0] || s->err.code != CELLAR_E_LOST)
        return false;
    s->diagnosed = true;
    s->pending++;
    if (engine->ops->diagnose(engine, s->record.container, on_reason, s,
                              NULL) == CELLAR_OK)
        return true;
    s->pending--;
    return false;
}

static void remove_record(struct cellar_session *s)
{
    if (s->hold.dir_fd >= 0 && s->dir[0])
        cellar_record_remove(cellar_supervisor_state_dir(s->c), s->dir,
                             &s->hold);
}

/* Removes the record and, unless others live in it, the container; once. */
static bool remove_all(struct cellar_session *s)
{
    struct cellar_engine *engine = cellar_supervisor_engine(s->c);
    if (!s->remove)
        return false;
    s->remove = false;
    s->removed = true;
    remove_record(s);
    if (!s->record.container[0] || cellar_session_shares(s))
        return false;
    s->pending++;
    if (engine->ops->remove(engine, s->record.container, on_removed, s, NULL) ==
        CELLAR_OK)
        return true;
    s->pending--;
    return false;
}

/* The agent's own last words explain an end better than any status. */
static void add_words(struct cellar_session *s)
{
    size_t len = strlen(s->err.msg);
    for (size_t i = 0; i < s->words_len; i++)
        if ((unsigned char)s->words[i] < ' ')
            s->words[i] = ' ';
    if (s->words_len > 0 && s->err.code == CELLAR_E_LOST)
        (void)snprintf(s->err.msg + len, sizeof s->err.msg - len, " (%.200s)",
                       s->words);
    s->words_len = 0;
}

/* A start or an adoption that failed is nobody's session: it goes. Otherwise
 * its owner keeps an object that answers E_LOST until it is closed. */
static void tell_loss(struct cellar_session *s)
{
    bool unopened = s->opened.done != NULL;
    cellar_session_end_jobs(s, CELLAR_STATUS_LOST, CELLAR_STATE_FRESH,
                            s->err.msg);
    if (s->removed)
        cellar_session_journal_close(s, "lost", s->err.msg);
    if (unopened)
        s->phase = CELLAR_PHASE_CLOSING;
    cellar_session_tell_asked(s, &s->err);
    cellar_waiter_tell(&s->reset, unopened ? NULL : s, &s->err);
    cellar_waiter_tell(&s->opened, NULL, &s->err);
    cellar_waiter_tell(&s->gone, s, &s->err);
}

static void turn_lost(struct cellar_session *s)
{
    cellar_stream_close(CELLAR_TAKE(s->channel.stream));
    cellar_timer_unset(s->deadline);
    cellar_timer_unset(s->keepalive);
    cellar_timer_unset(s->lifetime);
    if (s->pending > 0 || ask_reason(s))
        return;
    add_words(s);
    if (remove_all(s))
        return; /* whoever waits is told when nothing is left behind */
    cellar_control_free(CELLAR_TAKE(s->control));
    cellar_hold_tidy(cellar_supervisor_state_dir(s->c), s->dir, &s->hold);
    if (s->arrival == CELLAR_ARRIVAL_TAKE && s->live_since_us == 0)
        cellar_session_start_instead(s);
    else
        tell_loss(s);
}

static void turn_closing(struct cellar_session *s)
{
    cellar_stream_close(CELLAR_TAKE(s->channel.stream));
    if (s->pending > 0 || remove_all(s))
        return;
    struct cellar_waiter stopped = s->stopped;
    struct cellar_error err = s->err;
    tell_stopped(s);
    if (s->removed)
        cellar_session_journal_close(s, "stopped", NULL);
    session_free(s);
    cellar_waiter_tell(&stopped, NULL, err.code ? &err : NULL);
}

static void on_turn(void *user)
{
    struct cellar_session *s = user;
    cellar_session_tell_doomed(s);
    if (s->phase == CELLAR_PHASE_LOST)
        turn_lost(s);
    if (s->phase == CELLAR_PHASE_CLOSING)
        turn_closing(s);
    else if (s->detached)
        cellar_session_seek(s);
    else if (s->phase == CELLAR_PHASE_LIVE) {
        cellar_session_tell_untold(s);
        cellar_session_pump(s);
    }
}

struct cellar_session *cellar_session_new(struct cellar *c,
                                          struct cellar_error *err)
{
    struct cellar_session *s = calloc(1, sizeof *s);
    struct cellar_loop *loop = cellar_supervisor_loop(c);
    if (!s) {
        cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
        return NULL;
    }
    s->c = c;
    s->hold = CELLAR_HOLD_NONE;
    s->jobs_end = &s->jobs;
    cellar_supervisor_adopt(s);
    if (cellar_timer_new(loop, on_turn, s, &s->turn, err) != CELLAR_OK ||
        cellar_timer_new(loop, on_deadline, s, &s->deadline, err) !=
            CELLAR_OK ||
        cellar_timer_new(loop, on_keepalive, s, &s->keepalive, err) !=
            CELLAR_OK ||
        cellar_timer_new(loop, on_lifetime, s, &s->lifetime, err) !=
            CELLAR_OK) {
        session_free(s);
        return NULL;
    }
    return s;
}

/* --------------------------------------------- what its owner may ask -- */

void cellar_session_interrupt(struct cellar_session *s)
{
    struct cellar_job *job = cellar_session_running(s);
    struct cellar_message msg = {.type = CELLAR_MSG_INTERRUPT};
    bool away = s->live_since_us > 0 && s->phase < CELLAR_PHASE_LIVE;
    s->interrupt_late = job && away;
    if (!job || s->phase != CELLAR_PHASE_LIVE)
        return;
    msg.cell = job->cell;
    cellar_session_send(s, &msg);
    if (!s->detached)
        cellar_timer_set(s->deadline, s->record.grace_ms + CELLAR_SLACK_MS);
}

void cellar_session_ask_reset(struct cellar_session *s)
{
    struct cellar_message msg = {.type = CELLAR_MSG_RESET};
    s->phase = CELLAR_PHASE_RESETTING;
    cellar_timer_set(s->deadline,
                     CELLAR_RESET_MS + cellar_session_preload_ms(s));
    cellar_session_send(s, &msg);
}

/* While it is away, the reset is the first thing when it is back. */
enum cellar_code cellar_reset_async(struct cellar_session *s,
                                    cellar_session_fn *done, void *user,
                                    struct cellar_error *err)
{
    if (s->phase == CELLAR_PHASE_LOST)
        return cellar_fail(err, CELLAR_E_LOST, "the session is lost: %s",
                           s->err.msg);
    if (s->phase == CELLAR_PHASE_CLOSING || s->resetting)
        return cellar_fail(err, CELLAR_E_BUSY, "a %s is under way",
                           s->resetting ? "reset" : "stop");
    s->reset = (struct cellar_waiter){done, user};
    s->resetting = true;
    cellar_session_doom(s);
    cellar_session_journal_reset(s);
    if (s->phase == CELLAR_PHASE_LIVE)
        cellar_session_ask_reset(s);
    cellar_session_kick(s);
    return CELLAR_OK;
}

enum cellar_code cellar_stop_async(struct cellar_session *s,
                                   cellar_session_fn *done, void *user,
                                   struct cellar_error *err)
{
    if (s->stopped.done || s->phase == CELLAR_PHASE_CLOSING)
        return cellar_fail(err, CELLAR_E_BUSY, "a stop is under way");
    /* A lost session's container is gone already, unless it was given up: then
     * its lock was, too, and somebody else may have it by now. */
    bool given_up = s->phase == CELLAR_PHASE_LOST && s->kept;
    enum cellar_code code = CELLAR_OK;
    if (given_up && s->hold.dir_fd < 0)
        code = cellar_hold_take(cellar_supervisor_state_dir(s->c),
                                s->record.name, &s->hold, err);
    if (code != CELLAR_OK)
        return code;
    s->remove = s->phase != CELLAR_PHASE_LOST || s->remove || given_up;
    s->stopped = (struct cellar_waiter){done, user};
    s->err = (struct cellar_error){0};
    if (cellar_session_leave(s))
        return CELLAR_OK;
    s->phase = CELLAR_PHASE_CLOSING;
    s->detached = false;
    cellar_session_kick(s);
    return CELLAR_OK;
}

/* What the next holder must know; the last mark, so that the agent keeps
 * nothing that was taken. */
static void let_go(struct cellar_session *s)
{
    struct cellar_message ping = {.type = CELLAR_MSG_PING};
    struct cellar_error err = {0};
    cellar_session_settle(s);
    cellar_session_journal_leave(s);
    s->record.delivered = s->channel.settled;
    (void)cellar_channel_send(&s->channel, &ping, &err);
    /* The journal and the agent know as much: it is only good to have. */
    if (cellar_record_save(&s->hold, &s->record, &err) != CELLAR_OK)
        cellar_supervisor_log(s->c, "session '%s': %s", s->record.name,
                              err.msg);
}

void cellar_close(struct cellar_session *s)
{
    if (!s || s->phase == CELLAR_PHASE_CLOSING)
        return;
    if (s->phase != CELLAR_PHASE_LOST) {
        if (s->record.name[0])
            let_go(s);
        s->remove = !s->record.name[0];
    }
    s->err = (struct cellar_error){0};
    s->phase = CELLAR_PHASE_CLOSING;
    s->detached = false;
    cellar_stream_close(CELLAR_TAKE(s->channel.stream));
    cellar_session_kick(s);
    /* A named session must be free for the next process when this returns;
     * an unnamed one is waited for by cellar_free(). */
    cellar_control_free(CELLAR_TAKE(s->control));
    if (s->remove) /* lost just now: its record goes while it is ours */
        remove_record(s);
    cellar_hold_done(&s->hold);
}

const char *cellar_session_name(const struct cellar_session *s)
{
    return s->record.name;
}

const char *cellar_session_container(const struct cellar_session *s)
{
    return s->record.container;
}

const char *cellar_session_python(const struct cellar_session *s)
{
    return s->record.python;
}

uint64_t cellar_session_cells(const struct cellar_session *s)
{
    return s->record.cells;
}
