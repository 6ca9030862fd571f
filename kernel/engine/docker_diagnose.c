/* What became of a container, in words. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "docker_private.h"

/* Events of one container that is gone: a handful of lines. */
#define EVENT_BYTES_MAX (256u << 10)
#define EVENT_MS        2000

struct diagnosis {
    struct docker_op op; /* first */
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    cellar_engine_reason_fn *done;
    void *user;
};

/* What became of a container, from its description or from the engine's
 * events. */
struct fate {
    bool oom;
    bool killed;   /* somebody asked the engine to */
    bool died;     /* `exit_code` is known */
    int exit_code; /* above 128: ended by a signal */
    uint64_t memory_bytes;
    char error[160]; /* the engine's own words */
};

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

static void tell_exit(const struct fate *fate, char *text, size_t size)
{
    if (fate->exit_code > 128 && fate->exit_code < 192)
        snprintf(text, size, "its agent was killed by signal %d",
                 fate->exit_code - 128);
    else
        snprintf(text, size, "its agent exited with status %d",
                 fate->exit_code);
}

static void tell_fate(const struct fate *fate, const char *otherwise,
                      char *text, size_t size)
{
    char exit_text[64];
    tell_exit(fate, exit_text, sizeof(exit_text));
    if (fate->oom && fate->memory_bytes)
        snprintf(text, size,
                 "the kernel's OOM killer ended the container: its memory is "
                 "limited to %" PRIu64 " MiB",
                 fate->memory_bytes >> 20);
    else if (fate->oom)
        snprintf(text, size, "the kernel's OOM killer ended the container");
    else if (fate->killed)
        snprintf(text, size, "the container was killed from outside");
    else if (fate->died)
        snprintf(text, size, "the container ended: %s%s%s", exit_text,
                 *fate->error ? ": " : "", fate->error);
    else
        snprintf(text, size, "%s", otherwise);
}

/* ---- from events, when the container is gone */

static void add_event(struct fate *fate, const json_t *event)
{
    const char *action = cellar_docker_string(event, "Action");
    json_t *attributes = cellar_json_at(event, "Actor.Attributes");
    const char *code = cellar_docker_string(attributes, "exitCode");
    if (strcmp(action, "oom") == 0)
        fate->oom = true;
    if (strcmp(action, "kill") == 0)
        fate->killed = true;
    if (strcmp(action, "die") == 0 && *code) {
        fate->died = true;
        fate->exit_code = (int)strtol(code, NULL, 10);
    }
}

/* An OOM kill of some process is no reason if the agent lived on and was
 * removed later: then the removal's kill comes after. */
static void settle_events(struct fate *fate)
{
    if (fate->killed && fate->oom)
        fate->oom = false;
}

static void on_events(struct docker_op *op, const struct docker_reply *r)
{
    struct fate fate = {0};
    const char *p = r->body;
    const char *end = r->body + r->len;
    while (r->status == 200 && p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((line_end ? line_end : end) - p);
        json_t *event = cellar_json_parse(p, len, 0, NULL);
        add_event(&fate, event);
        json_decref(event);
        p += len + 1;
    }
    settle_events(&fate);
    char reason[256];
    tell_fate(&fate, "the container was removed from outside", reason,
              sizeof(reason));
    end_diagnosis(op, CELLAR_VITAL_GONE, reason);
}

/* Until now: for an end in the future the engine would wait. */
static void ask_events(struct docker_op *op)
{
    const struct diagnosis *diagnosis = (struct diagnosis *)op;
    struct cellar_error err;
    char filter[CELLAR_CONTAINER_ID_MAX + 32];
    snprintf(filter, sizeof(filter), "{\"container\":[\"%s\"]}", diagnosis->id);
    CELLAR_AUTO_FREE char *escaped = cellar_docker_escape(filter);
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "GET",
                             .path = path,
                             .deadline_ms = EVENT_MS,
                             .reply_max = EVENT_BYTES_MAX};
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
        fail_diagnosis(op, &err);
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

static void tell_vital(const struct docker_op *op, const json_t *reply,
                       enum cellar_vital vital, char *text, size_t size)
{
    struct fate fate = {0};
    switch (vital) {
    case CELLAR_VITAL_PAUSED:
        snprintf(text, size,
                 "the container is paused: `docker unpause %.12s` wakes it",
                 ((const struct diagnosis *)op)->id);
        break;
    case CELLAR_VITAL_ALIVE:
        snprintf(text, size,
                 "the container runs, but its agent does not answer");
        break;
    case CELLAR_VITAL_GONE:
        read_fate(&fate, reply);
        tell_fate(&fate, "", text, size);
        break;
    case CELLAR_VITAL_UNKNOWN:
        snprintf(text, size, "the engine does not say how the container is");
        break;
    }
}

static void on_described(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    char reason[384];
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
    tell_vital(op, reply, vital, reason, sizeof(reason));
    json_decref(reply);
    end_diagnosis(op, vital, reason);
}

static enum cellar_code ask_description(struct docker_op *op,
                                        struct cellar_error *err)
{
    char path[DOCKER_PATH_MAX];
    struct docker_ask ask = {.method = "GET", .path = path};
    enum cellar_code code = cellar_docker_path(path, err, "/containers/%s/json",
                                               ((struct diagnosis *)op)->id);
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
