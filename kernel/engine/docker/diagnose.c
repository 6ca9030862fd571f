/* What became of a container, in words. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "docker.h"

/* Events of one container that is gone: a handful of lines. */
#define EVENT_BYTES_MAX (256u << 10)
#define EVENT_MS        2000

/* What became of a container, from its description and from the engine's
 * events. */
struct fate {
    bool oom;
    bool ended_from_outside; /* somebody asked the engine to */
    bool told;     /* the events tell of its end, so also of its why */
    bool died;     /* `exit_code` is known */
    bool unborn;   /* it was never started */
    int exit_code; /* above 128: ended by a signal */
    uint64_t memory_bytes;
    char error[160]; /* the engine's own words */
};

struct diagnosis {
    struct docker_op op; /* first */
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    struct fate fate;
    cellar_engine_reason_fn *done;
    void *user;
};

static struct diagnosis *diagnosis_of(struct docker_op *op)
{
    return (struct diagnosis *)op;
}

static void end_diagnosis(struct docker_op *op, enum cellar_vital vital,
                          const char *reason)
{
    struct diagnosis diagnosis = *(struct diagnosis *)op;
    cellar_docker_op_free(op);
    diagnosis.done(diagnosis.user, vital, reason);
}

static void fail_diagnosis(struct docker_op *op, const struct cellar_error *err)
{
    char reason[CELLAR_ERROR_MSG_MAX];
    snprintf(reason, sizeof(reason), "%s", err->msg);
    end_diagnosis(op, CELLAR_VITAL_UNKNOWN, reason);
}

/* How the agent ends by itself: runtime-image/agent/agent.h. */
static const struct {
    int exit_code;
    const char *text;
} ends[] = {
    {0, "its lease or its lifetime was over"},
    {1, "its agent refused to run unprotected"},
    {2, "its agent was not greeted by a host of Cellar's"},
    {3, "its agent failed: no memory, or processes that could not be ended"},
};

static void tell_exit(const struct fate *fate, char *text, size_t size)
{
    if (fate->exit_code > 128 && fate->exit_code < 192)
        snprintf(text, size, "its agent was killed by signal %d",
                 fate->exit_code - 128);
    else
        snprintf(text, size, "its agent exited with status %d",
                 fate->exit_code);
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
        if (ends[i].exit_code == fate->exit_code)
            snprintf(text, size, "%s", ends[i].text);
    /* An engine that was restarted has forgotten whom it stopped. */
    if (fate->exit_code == 0 && !fate->told)
        snprintf(text, size, "%s, or the engine stopped it", ends[0].text);
}

static void tell_fate(const struct fate *fate, char *text, size_t size)
{
    char exit_text[128];
    tell_exit(fate, exit_text, sizeof(exit_text));
    if (fate->unborn)
        snprintf(text, size, "the container was never started");
    else if (fate->oom && fate->memory_bytes)
        snprintf(text, size,
                 "the kernel's OOM killer ended the container: its memory is "
                 "limited to %" PRIu64 " MiB",
                 fate->memory_bytes >> 20);
    else if (fate->oom)
        snprintf(text, size, "the kernel's OOM killer ended the container");
    else if (fate->ended_from_outside)
        snprintf(text, size, "the container was %s from outside",
                 fate->died && fate->exit_code != 128 + SIGKILL ? "stopped"
                                                                : "killed");
    else if (fate->died)
        snprintf(text, size, "the container ended: %s%s%s", exit_text,
                 *fate->error ? ": " : "", fate->error);
    else
        snprintf(text, size, "the container was removed from outside");
}

/* An OOM kill of some process is no reason if the agent lived on. */
static void end_gone(struct docker_op *op)
{
    char reason[384];
    struct fate *fate = &diagnosis_of(op)->fate;
    if (fate->ended_from_outside ||
        (fate->died && fate->exit_code != 128 + SIGKILL))
        fate->oom = false;
    tell_fate(fate, reason, sizeof(reason));
    end_diagnosis(op, CELLAR_VITAL_GONE, reason);
}

/* ---- from events: all there is of one that was removed */

/* Some signals are but knocks. */
static bool is_deadly(const char *number)
{
    return !*number || strtol(number, NULL, 10) == SIGKILL ||
           strtol(number, NULL, 10) == SIGTERM;
}

static void add_event(struct fate *fate, const json_t *event)
{
    const char *action = cellar_docker_string(event, "Action");
    json_t *attributes = cellar_json_at(event, "Actor.Attributes");
    const char *code = cellar_docker_string(attributes, "exitCode");
    if (strcmp(action, "oom") == 0)
        fate->oom = true;
    if (strcmp(action, "kill") == 0 &&
        is_deadly(cellar_docker_string(attributes, "signal")))
        fate->ended_from_outside = true;
    if (strcmp(action, "die") == 0)
        fate->told = true;
    if (strcmp(action, "die") == 0 && *code) {
        fate->died = true;
        fate->exit_code = (int)strtol(code, NULL, 10);
    }
}

static void on_events(struct docker_op *op, const struct docker_reply *r)
{
    const char *p = r->body;
    const char *end = r->body + r->len;
    while (r->status == 200 && p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((line_end ? line_end : end) - p);
        json_t *event = cellar_json_parse(p, len, 0, NULL);
        add_event(&diagnosis_of(op)->fate, event);
        json_decref(event);
        p += len + 1;
    }
    end_gone(op);
}

/* It is gone all the same. */
static void fail_events(struct docker_op *op, const struct cellar_error *err)
{
    (void)err;
    end_gone(op);
}

/* Until now: for an end in the future the engine would wait. */
static void ask_events(struct docker_op *op)
{
    const struct diagnosis *diagnosis = diagnosis_of(op);
    struct cellar_error err;
    char filter[CELLAR_CONTAINER_ID_MAX + 32];
    snprintf(filter, sizeof(filter), "{\"container\":[\"%s\"]}", diagnosis->id);
    CELLAR_AUTO_FREE char *escaped = cellar_docker_escape(filter);
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "GET",
                             .path = path,
                             .deadline_ms = EVENT_MS,
                             .reply_max = EVENT_BYTES_MAX};
    op->failed = fail_events;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    enum cellar_code code =
        escaped
            ? cellar_docker_path(
                  path, &err, "/events?since=%lld&until=%lld.%09ld&filters=%s",
                  (long long)now.tv_sec - 24 * 60 * 60, (long long)now.tv_sec,
                  now.tv_nsec, escaped)
            : cellar_fail(&err, CELLAR_E_NOMEM, "events: out of memory");
    if (code)
        fail_events(op, &err);
    else
        cellar_docker_op_next(op, &ask, on_events);
}

/* ---- from its description */

static void read_fate(struct fate *fate, const json_t *reply)
{
    const json_t *state = json_object_get(reply, "State");
    json_int_t memory =
        json_integer_value(cellar_json_at(reply, "HostConfig.Memory"));
    fate->oom = json_is_true(json_object_get(state, "OOMKilled"));
    fate->unborn =
        strcmp(cellar_docker_string(state, "Status"), "created") == 0;
    fate->died = true;
    fate->exit_code =
        (int)json_integer_value(json_object_get(state, "ExitCode"));
    fate->memory_bytes = memory > 0 ? (uint64_t)memory : 0;
    snprintf(fate->error, sizeof(fate->error), "%s",
             cellar_docker_string(state, "Error"));
}

/* An answer that says nothing of the container is none. */
static enum cellar_vital vital_of(const json_t *reply)
{
    const json_t *running = cellar_json_at(reply, "State.Running");
    if (json_is_true(cellar_json_at(reply, "State.Paused")))
        return CELLAR_VITAL_PAUSED;
    if (json_is_true(running))
        return CELLAR_VITAL_ALIVE;
    return running ? CELLAR_VITAL_GONE : CELLAR_VITAL_UNKNOWN;
}

static void end_lasting(struct docker_op *op, enum cellar_vital vital)
{
    char reason[128];
    if (vital == CELLAR_VITAL_PAUSED)
        snprintf(reason, sizeof(reason),
                 "the container is paused: `docker unpause %.12s` wakes it",
                 diagnosis_of(op)->id);
    else if (vital == CELLAR_VITAL_ALIVE)
        snprintf(reason, sizeof(reason),
                 "the container runs, but its agent does not answer");
    else
        snprintf(reason, sizeof(reason),
                 "the engine does not say how the container is");
    end_diagnosis(op, vital, reason);
}

static void on_described(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    if (r->status == 404) {
        ask_events(op);
        return;
    }
    if (r->status != 200) {
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE,
                                 "asking for the container", r);
        fail_diagnosis(op, &err);
        return;
    }
    json_t *reply = cellar_json_parse(r->body, r->len, 0, NULL);
    enum cellar_vital vital = vital_of(reply);
    if (vital == CELLAR_VITAL_GONE)
        read_fate(&diagnosis_of(op)->fate, reply);
    json_decref(reply);
    if (vital == CELLAR_VITAL_GONE)
        ask_events(op); /* who ended it, if anybody */
    else
        end_lasting(op, vital);
}

static enum cellar_code ask_description(struct docker_op *op,
                                        struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "GET", .path = path};
    enum cellar_code code = cellar_docker_path(path, err, "/containers/%s/json",
                                               diagnosis_of(op)->id);
    return code ? code : cellar_docker_op_send(op, &ask, on_described, err);
}

enum cellar_code cellar_docker_diagnose(struct cellar_engine *engine,
                                        const char *id,
                                        cellar_engine_reason_fn *done,
                                        void *user, struct cellar_error *err)
{
    enum cellar_code code = cellar_docker_check_id(id, err);
    if (code)
        return code;
    struct diagnosis *diagnosis = calloc(1, sizeof(*diagnosis));
    if (!diagnosis)
        return cellar_fail(err, CELLAR_E_NOMEM, "diagnose: out of memory");
    diagnosis->op.failed = fail_diagnosis;
    diagnosis->op.destroy = cellar_docker_op_destroy;
    diagnosis->done = done;
    diagnosis->user = user;
    snprintf(diagnosis->id, sizeof(diagnosis->id), "%s", id);
    return cellar_docker_op_begin((struct docker *)engine, &diagnosis->op,
                                  ask_description, err);
}
