#include "puppet.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/fail.h"

struct puppet puppet;

enum call_kind { STARTED, LISTED, REMOVED, REASONED };

/* Calls that wait for their answer. A session has a few at most. */
#define CALLS_MAX 16
static struct call {
    enum call_kind kind;
    enum cellar_code code;
    cellar_engine_started_fn *started;
    cellar_engine_done_fn *done;
    cellar_engine_each_fn *each;
    cellar_engine_reason_fn *reason;
    void *user;
} calls[CALLS_MAX];
static size_t call_count;

static struct cellar_stream stream;
static const struct cellar_stream_events *events;
static void *events_user;
static bool hung_up;

static void quiet(bool on)
{
    if (puppet.quiet)
        puppet.quiet(on);
}

static void ask(const struct call *call)
{
    if (call_count == CALLS_MAX)
        abort();
    calls[call_count++] = *call;
}

/* ----------------------------------------------------------- the agent -- */

void puppet_say(struct cellar_message *msg)
{
    if (msg->type != CELLAR_MSG_WELCOME && msg->type != CELLAR_MSG_PONG)
        msg->mark = puppet.delivered + 1;
    if (cellar_link_send(&puppet.link, msg, &puppet.out) == CELLAR_OK)
        puppet.delivered += msg->mark != 0;
}

void puppet_welcome(void)
{
    static const uint8_t nonce[CELLAR_NONCE_BYTES] = "agent";
    struct cellar_message msg = {.type = CELLAR_MSG_WELCOME,
                                 .u.welcome = puppet.welcome};
    if (msg.u.welcome.generation == 0)
        msg.u.welcome = (struct cellar_msg_welcome){
            .generation = 1, .delivered = puppet.delivered};
    /* A welcome that breaks the rules is not said. */
    if (puppet.link.state == CELLAR_LINK_WELCOMING)
        (void)!cellar_link_welcome(&puppet.link, nonce, &msg, &puppet.out);
}

void puppet_ready(uint64_t generation)
{
    struct cellar_message msg = {
        .type = CELLAR_MSG_READY,
        .u.ready = {.generation = generation,
                    .python = {(const uint8_t *)"3.11.2", 6},
                    .seccomp = 2}};
    puppet_say(&msg);
}

static void hear(const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t used = 0;
        struct cellar_message msg;
        if (cellar_link_feed(&puppet.link, data, len, &used) != CELLAR_OK)
            break;
        data += used;
        len -= used;
        enum cellar_code code = CELLAR_OK;
        while ((code = cellar_link_next(&puppet.link, &msg)) == CELLAR_OK)
            puppet.on_message(&msg);
        if (code != CELLAR_E_AGAIN)
            puppet.bad_host = true;
        if (used == 0)
            break;
    }
}

/* ---------------------------------------------------------- the stream -- */

static enum cellar_code stream_write(struct cellar_stream *base,
                                     const uint8_t *data, size_t len)
{
    (void)base;
    quiet(true);
    hear(data, len);
    quiet(false);
    return hung_up ? CELLAR_E_LOST : CELLAR_OK;
}

static int stream_fd(const struct cellar_stream *base)
{
    (void)base;
    return -1;
}

static void stream_close(struct cellar_stream *base)
{
    (void)base;
    if (!puppet.attached)
        abort();
    puppet.attached = false;
}

static const struct cellar_stream_ops stream_ops = {stream_write, stream_fd,
                                                    stream_close};

static void attach(const struct cellar_stream_events *to, void *user)
{
    if (puppet.attached)
        abort();
    stream.ops = &stream_ops;
    events = to;
    events_user = user;
    puppet.attached = true;
    hung_up = false;
}

void puppet_hang_up(void)
{
    if (!puppet.attached || hung_up)
        return;
    hung_up = true;
    events->closed(events_user, NULL);
}

/* -------------------------------------------------------------- turns -- */

static void list_to(const struct call *call)
{
    const struct cellar_container container = {.id = "puppet1",
                                               .session = puppet.listed,
                                               .owner = puppet.owner,
                                               .supervisor = "",
                                               .uid = 61001,
                                               .image = "i",
                                               .state = "running"};
    if (puppet.running && puppet.listed)
        call->each(call->user, &container);
}

static void answer(const struct call *call)
{
    if (call->kind == LISTED)
        list_to(call);
    struct cellar_error err = {call->code, 0, "as the test wants it"};
    const struct cellar_error *why = call->code ? &err : NULL;
    if (call->kind == STARTED)
        call->started(call->user, why ? NULL : "puppet1", why ? NULL : &stream,
                      why);
    else if (call->kind == REASONED)
        call->reason(call->user,
                     puppet.running ? puppet.vital : CELLAR_VITAL_GONE,
                     "as the test wants it");
    else
        call->done(call->user, why);
}

static bool say_all(void)
{
    size_t len = cellar_buf_len(&puppet.out);
    if (!puppet.attached || hung_up || len == 0)
        return false;
    quiet(true);
    uint8_t *copy = malloc(len);
    if (!copy)
        abort();
    memcpy(copy, cellar_buf_peek(&puppet.out), len);
    cellar_buf_reset(&puppet.out);
    quiet(false);
    events->bytes(events_user, copy, len);
    free(copy);
    return true;
}

/* A container that was removed has no stream. */
static bool hang_up_removed(void)
{
    if (puppet.running || !puppet.attached || hung_up)
        return false;
    puppet_hang_up();
    return true;
}

bool puppet_turn(void)
{
    if (call_count == 0)
        return say_all() || hang_up_removed();
    struct call call = calls[0];
    call_count--;
    memmove(calls, calls + 1, call_count * sizeof(calls[0]));
    answer(&call);
    return true;
}

/* -------------------------------------------------------- engine calls -- */

/* Of another container, which knows no key yet. */
static void next_agent(void)
{
    cellar_link_done(&puppet.link);
    cellar_link_init(&puppet.link, CELLAR_ROLE_AGENT, NULL);
    cellar_buf_reset(&puppet.out);
    puppet.delivered = 0;
}

static enum cellar_code puppet_start(struct cellar_engine *engine,
                                     const struct cellar_launch *launch,
                                     const struct cellar_stream_events *to,
                                     cellar_engine_started_fn *done, void *user,
                                     struct cellar_error *err)
{
    (void)engine;
    (void)err;
    enum cellar_code code = puppet.start_code;
    if (code == CELLAR_OK && launch->turn && !launch->turn(user))
        code = CELLAR_E_LOST;
    ask(&(struct call){
        .kind = STARTED, .started = done, .code = code, .user = user});
    if (code != CELLAR_OK)
        return CELLAR_OK;
    if (puppet.starts++ > 0)
        next_agent();
    puppet.running = true;
    attach(to, user);
    quiet(true);
    hear(launch->greeting, launch->greeting_len);
    quiet(false);
    return CELLAR_OK;
}

static enum cellar_code puppet_attach(struct cellar_engine *engine,
                                      const char *id, uint64_t lane,
                                      const struct cellar_stream_events *to,
                                      cellar_engine_started_fn *done,
                                      void *user, struct cellar_error *err)
{
    (void)engine;
    (void)id;
    (void)lane;
    (void)err;
    ask(&(struct call){.kind = STARTED,
                       .started = done,
                       .code = puppet.running ? CELLAR_OK : CELLAR_E_NOT_FOUND,
                       .user = user});
    if (puppet.running)
        attach(to, user);
    return CELLAR_OK;
}

static enum cellar_code puppet_remove(struct cellar_engine *engine,
                                      const char *id,
                                      cellar_engine_done_fn *done, void *user,
                                      struct cellar_error *err)
{
    (void)engine;
    (void)id;
    (void)err;
    puppet.removes++;
    puppet.running = false;
    ask(&(struct call){.kind = REMOVED, .done = done, .user = user});
    return CELLAR_OK;
}

static enum cellar_code puppet_list(struct cellar_engine *engine,
                                    cellar_engine_each_fn *each,
                                    cellar_engine_done_fn *done, void *user,
                                    struct cellar_error *err)
{
    (void)engine;
    (void)err;
    ask(&(struct call){
        .kind = LISTED, .each = each, .done = done, .user = user});
    return CELLAR_OK;
}

static enum cellar_code puppet_diagnose(struct cellar_engine *engine,
                                        const char *id,
                                        cellar_engine_reason_fn *done,
                                        void *user, struct cellar_error *err)
{
    (void)engine;
    (void)id;
    (void)err;
    ask(&(struct call){.kind = REASONED, .reason = done, .user = user});
    return CELLAR_OK;
}

static void puppet_free(struct cellar_engine *engine)
{
    (void)engine;
}

static const struct cellar_engine_ops ops = {.name = "puppet",
                                             .free = puppet_free,
                                             .start = puppet_start,
                                             .attach = puppet_attach,
                                             .remove = puppet_remove,
                                             .list = puppet_list,
                                             .diagnose = puppet_diagnose};

enum cellar_code puppet_open(struct cellar_loop *loop,
                             const struct cellar_engine_place *place,
                             struct cellar_engine **out,
                             struct cellar_error *err)
{
    static struct cellar_engine engine;
    (void)place;
    (void)err;
    engine = (struct cellar_engine){&ops, loop};
    *out = &engine;
    return CELLAR_OK;
}

void puppet_init(void)
{
    puppet = (struct puppet){0};
    call_count = 0;
    hung_up = false;
    cellar_link_init(&puppet.link, CELLAR_ROLE_AGENT, NULL);
    cellar_buf_init(&puppet.out, 64u << 20);
}

void puppet_done(void)
{
    cellar_link_done(&puppet.link);
    cellar_buf_done(&puppet.out);
}
