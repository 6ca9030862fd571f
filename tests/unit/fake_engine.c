#include "fake_engine.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/fail.h"

struct fake fake;

/* A host's attachment to the fake container. */
struct fake_stream {
    struct cellar_stream base;
    struct cellar_timer *timer;
    const struct cellar_stream_events *events;
    void *user;
    bool told_closed;
};

struct fake_engine {
    struct cellar_engine base;
    struct fake_stream *stream;
};

/* A call of the host's that answers from the loop. */
struct fake_call {
    struct cellar_timer *timer;
    struct fake_engine *engine;
    struct fake_stream *stream;
    cellar_engine_started_fn *started;
    cellar_engine_done_fn *done;
    cellar_engine_each_fn *each;
    cellar_engine_reason_fn *reason;
    cellar_engine_usage_fn *usage;
    enum cellar_code code;
    void *user;
};

/* ------------------------------------------------------------ the agent - */

void fake_say(struct fake_agent *agent, struct cellar_message *msg)
{
    if (msg->type != CELLAR_MSG_WELCOME && msg->type != CELLAR_MSG_PONG)
        msg->mark = ++agent->delivered;
    if (cellar_link_send(&agent->link, msg, &agent->out) != CELLAR_OK)
        abort();
}

void fake_ready(struct fake_agent *agent, uint64_t generation)
{
    struct cellar_message msg = {
        .type = CELLAR_MSG_READY,
        .u.ready = {.generation = generation,
                    .python = {(const uint8_t *)"3.11.2", 6},
                    .seccomp = 2}};
    fake_say(agent, &msg);
}

void fake_done(struct fake_agent *agent, uint64_t cell,
               enum cellar_status status, enum cellar_state state)
{
    struct cellar_message msg = {
        .type = CELLAR_MSG_DONE,
        .cell = cell,
        .u.done = {.status = status, .state = state, .wall_us = 7}};
    if (status == CELLAR_STATUS_KILLED)
        msg.u.done.code = 9;
    if (status == CELLAR_STATUS_OK) {
        msg.u.done.parts = 1;
        msg.u.done.result[0] = (struct cellar_mime_part){
            {(const uint8_t *)"text/plain", 10}, {(const uint8_t *)"42", 2}};
    }
    fake_say(agent, &msg);
}

static void welcome(struct fake_agent *agent)
{
    static const uint8_t nonce[CELLAR_NONCE_BYTES] = {7};
    struct cellar_message msg = {.type = CELLAR_MSG_WELCOME,
                                 .u.welcome = {.generation = 1,
                                               .ready = agent->attached > 1,
                                               .running = agent->running,
                                               .last_cell = agent->last_cell,
                                               .delivered = agent->delivered}};
    if (cellar_link_welcome(&agent->link, nonce, &msg, &agent->out) !=
        CELLAR_OK)
        abort();
}

void fake_polite(struct fake_agent *agent, const struct cellar_message *msg)
{
    switch (msg->type) {
    case CELLAR_MSG_HELLO:
        welcome(agent);
        if (agent->attached == 1)
            fake_ready(agent, 1);
        break;
    case CELLAR_MSG_RUN:
        fake_done(agent, msg->cell, CELLAR_STATUS_OK, CELLAR_STATE_KEPT);
        break;
    case CELLAR_MSG_RESET:
        fake_ready(agent, 2);
        break;
    default:
        break;
    }
}

static void agent_feed(struct fake_agent *agent, const uint8_t *data,
                       size_t len)
{
    while (len > 0 && !agent->mute) {
        size_t used = 0;
        struct cellar_message msg;
        if (cellar_link_feed(&agent->link, data, len, &used) != CELLAR_OK)
            abort();
        data += used;
        len -= used;
        while (cellar_link_next(&agent->link, &msg) == CELLAR_OK)
            fake.on_message(agent, &msg);
    }
}

/* ------------------------------------------------------------ streams --- */

static void stream_turn(void *user)
{
    struct fake_stream *stream = user;
    struct fake_agent *agent = &fake.agent;
    size_t len = cellar_buf_len(&agent->out);
    if (len > 0) {
        uint8_t *copy = malloc(len);
        if (!copy)
            abort();
        memcpy(copy, cellar_buf_peek(&agent->out), len);
        cellar_buf_consume(&agent->out, len);
        cellar_timer_set(stream->timer, 0);
        stream->events->bytes(stream->user, copy, len);
        free(copy);
    } else if (agent->gone && !stream->told_closed) {
        stream->told_closed = true;
        stream->events->closed(stream->user, NULL);
    }
}

static enum cellar_code stream_write(struct cellar_stream *base,
                                     const uint8_t *data, size_t len)
{
    struct fake_stream *stream = (struct fake_stream *)base;
    agent_feed(&fake.agent, data, len);
    cellar_timer_set(stream->timer, 0);
    return CELLAR_OK;
}

static int stream_fd(const struct cellar_stream *base)
{
    (void)base;
    return -1;
}

static void stream_close(struct cellar_stream *base)
{
    struct fake_stream *stream = (struct fake_stream *)base;
    cellar_timer_close(stream->timer);
    free(stream);
}

static const struct cellar_stream_ops stream_ops = {stream_write, stream_fd,
                                                    stream_close};

static struct fake_stream *stream_new(struct cellar_engine *engine,
                                      const struct cellar_stream_events *events,
                                      void *user)
{
    struct fake_stream *stream = calloc(1, sizeof *stream);
    if (!stream || cellar_timer_new(engine->loop, stream_turn, stream,
                                    &stream->timer, NULL) != CELLAR_OK)
        abort();
    stream->base.ops = &stream_ops;
    stream->events = events;
    stream->user = user;
    fake.agent.attached++;
    return stream;
}

/* ------------------------------------------------------------- engine --- */

static void call_answer(void *user)
{
    struct fake_call *call = user;
    struct cellar_error err = {.code = call->code};
    const struct cellar_error *why = call->code ? &err : NULL;
    cellar_timer_close(call->timer);
    if (call->started)
        call->started(call->user, why ? NULL : "fake1",
                      why ? NULL : &call->stream->base, why);
    if (call->each && fake.listed)
        call->each(call->user,
                   &(struct cellar_container){
                       .id = "fake1",
                       .session = fake.listed,
                       .owner = fake.owner,
                       .supervisor = fake.supervisor ? fake.supervisor : "",
                       .uid = 61001,
                       .image = "i",
                       .created = fake.created,
                       .state = fake.state ? fake.state : "running"});
    if (call->done)
        call->done(call->user, why);
    if (call->usage)
        call->usage(call->user,
                    &(struct cellar_usage){.cpu_us = 5, .memory_bytes = 6},
                    NULL);
    if (call->reason)
        call->reason(call->user, fake.vital, fake.reason);
    free(call);
}

static struct fake_call *call_new(struct cellar_engine *engine, void *user)
{
    struct fake_call *call = calloc(1, sizeof *call);
    if (!call || cellar_timer_new(engine->loop, call_answer, call, &call->timer,
                                  NULL) != CELLAR_OK)
        abort();
    call->engine = (struct fake_engine *)engine;
    call->user = user;
    cellar_timer_set(call->timer, fake.answer_ms);
    return call;
}

static enum cellar_code fake_start(struct cellar_engine *engine,
                                   const struct cellar_launch *launch,
                                   const struct cellar_stream_events *events,
                                   cellar_engine_started_fn *done, void *user,
                                   struct cellar_error *err)
{
    struct fake_call *call = call_new(engine, user);
    (void)err;
    call->started = done;
    call->code = fake.start_code;
    if (call->code == CELLAR_OK && launch->turn && !launch->turn(user))
        call->code = CELLAR_E_LOST;
    if (call->code != CELLAR_OK)
        return CELLAR_OK;
    call->stream = stream_new(engine, events, user);
    agent_feed(&fake.agent, launch->greeting, launch->greeting_len);
    cellar_timer_set(call->stream->timer, 0);
    return CELLAR_OK;
}

static enum cellar_code fake_attach(struct cellar_engine *engine,
                                    const char *id, uint64_t lane,
                                    const struct cellar_stream_events *events,
                                    cellar_engine_started_fn *done, void *user,
                                    struct cellar_error *err)
{
    struct fake_call *call = call_new(engine, user);
    (void)id;
    (void)err;
    fake.lane = lane;
    call->started = done;
    call->code = fake.agent.removed ? CELLAR_E_LOST : fake.attach_code;
    fake.attaches++;
    if (call->code == CELLAR_OK)
        fake.agent.gone = false;
    if (call->code == CELLAR_OK)
        call->stream = stream_new(engine, events, user);
    return CELLAR_OK;
}

static enum cellar_code fake_remove(struct cellar_engine *engine,
                                    const char *id, cellar_engine_done_fn *done,
                                    void *user, struct cellar_error *err)
{
    (void)id;
    (void)err;
    struct fake_call *call = call_new(engine, user);
    fake.removes++;
    fake.agent.removed = true;
    call->done = done;
    call->code = fake.remove_code;
    return CELLAR_OK;
}

static enum cellar_code fake_list(struct cellar_engine *engine,
                                  cellar_engine_each_fn *each,
                                  cellar_engine_done_fn *done, void *user,
                                  struct cellar_error *err)
{
    struct fake_call *call = call_new(engine, user);
    (void)err;
    call->each = each;
    call->done = done;
    return CELLAR_OK;
}

static enum cellar_code fake_diagnose(struct cellar_engine *engine,
                                      const char *id,
                                      cellar_engine_reason_fn *done, void *user,
                                      struct cellar_error *err)
{
    (void)id;
    (void)err;
    call_new(engine, user)->reason = done;
    return CELLAR_OK;
}

static void fake_free(struct cellar_engine *engine)
{
    free(engine);
}

static enum cellar_code fake_usage(struct cellar_engine *engine, const char *id,
                                   cellar_engine_usage_fn *done, void *user,
                                   struct cellar_error *err)
{
    (void)id;
    (void)err;
    call_new(engine, user)->usage = done;
    return CELLAR_OK;
}

static const struct cellar_engine_ops ops = {.name = "fake",
                                             .free = fake_free,
                                             .start = fake_start,
                                             .attach = fake_attach,
                                             .remove = fake_remove,
                                             .list = fake_list,
                                             .diagnose = fake_diagnose,
                                             .usage = fake_usage};

enum cellar_code fake_engine_open(struct cellar_loop *loop,
                                  const struct cellar_engine_place *place,
                                  struct cellar_engine **out,
                                  struct cellar_error *err)
{
    struct fake_engine *engine = calloc(1, sizeof *engine);
    (void)place;
    (void)err;
    if (!engine)
        abort();
    engine->base = (struct cellar_engine){&ops, loop};
    *out = &engine->base;
    return CELLAR_OK;
}

void fake_next_agent(void)
{
    cellar_link_done(&fake.agent.link);
    cellar_buf_done(&fake.agent.out);
    fake.agent = (struct fake_agent){0};
    cellar_link_init(&fake.agent.link, CELLAR_ROLE_AGENT, NULL);
    cellar_buf_init(&fake.agent.out, 64u << 20);
}

void fake_reset(void)
{
    struct fake_agent last = fake.agent;
    fake = (struct fake){.agent = last, .on_message = fake_polite};
    fake_next_agent();
}
