/* The Docker engine with no memory: its files, the container's spec, replies
 * read, and whole calls over an HTTP without a server. */
#include "oom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/engine/docker/verify.h"
#include "tests/fuzz/fake_http.h"

#define DATA_DIR CELLAR_SOURCE_DIR "/kernel/engine"
#define ID       "8c1f04ab3e7d"

static struct cellar_launch launch_of(struct cellar_spec *spec)
{
    cellar_spec_init(spec);
    spec->name = "tour";
    spec->image = "mine:1";
    spec->mounts[0] = "/srv/data:/data";
    return (struct cellar_launch){.spec = spec,
                                  .owner = "0123456789abcdef",
                                  .uid = 61001,
                                  .greeting = (const uint8_t *)"hello",
                                  .greeting_len = 5};
}

/* ------------------------------------------------------------ the spec -- */

/* The files' spec, and the one body that it makes. */
struct spec_case {
    struct cellar_container_spec *spec;
    struct cellar_container_plan plan;
};

static enum cellar_code plan_one(const struct cellar_container_spec *spec,
                                 struct cellar_container_plan *plan,
                                 struct cellar_error *err)
{
    struct cellar_spec of;
    struct cellar_launch launch = launch_of(&of);
    return cellar_container_plan_init(plan, spec, &launch, err);
}

static enum cellar_code make_plan(void *user)
{
    const struct spec_case *c = user;
    struct cellar_container_plan plan = {.body = NULL};
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = plan_one(c->spec, &plan, &err);
    assert_int_equal(err.code, code);
    if (code == CELLAR_OK)
        assert_string_equal(plan.body, c->plan.body);
    else
        assert_null(plan.body);
    cellar_container_plan_done(&plan);
    return code;
}

/* A protection that memory lost would be worse than no container. */
static enum cellar_code load_and_plan(void *user)
{
    struct spec_case c = {.plan = ((const struct spec_case *)user)->plan};
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = cellar_container_spec_load(DATA_DIR, &c.spec, &err);
    assert_int_equal(err.code, code);
    assert_true((code == CELLAR_OK) == (c.spec != NULL));
    if (code == CELLAR_OK) {
        oom_pause(true);
        assert_int_equal(make_plan(&c), CELLAR_OK);
        oom_pause(false);
    }
    cellar_container_spec_free(c.spec);
    return code;
}

/* "/x" for each protection, with '!' where the engine has it otherwise. */
static void note_protection(void *user, const char *protection,
                            const char *wrong)
{
    char *seen = user;
    size_t len = strlen(seen);
    (void)snprintf(seen + len, 1024 - len, "/%s%s", protection,
                   wrong ? "!" : "");
}

/* The body itself as what the engine shows, but for one field: that one, and
 * no other, must be found. */
static char *shown_otherwise(const char *body)
{
    static const char field[] = "\"ReadonlyRootfs\":true";
    const char *at = strstr(body, field);
    char *text = NULL;
    assert_non_null(at);
    assert_true(asprintf(&text, "{\"Config\":%s,%.*s\"ReadonlyRootfs\":false%s",
                         body, (int)(at - body - 1), body + 1,
                         at + sizeof(field) - 1) > 0);
    return text;
}

struct verify_case {
    const struct spec_case *made;
    char *shown;
    char seen[1024];
};

static enum cellar_code verify(void *user)
{
    struct verify_case *v = user;
    struct cellar_error err = {.code = CELLAR_OK};
    char seen[1024] = "";
    enum cellar_code code = cellar_docker_verify(
        v->made->spec, &v->made->plan, v->shown, note_protection, seen, &err);
    assert_int_equal(err.code, code);
    if (code != CELLAR_OK)
        return code;
    if (!v->seen[0])
        memcpy(v->seen, seen, sizeof(seen));
    assert_string_equal(seen, v->seen);
    return code;
}

static void open_case(struct spec_case *c)
{
    struct cellar_error err;
    memset(c, 0, sizeof(*c));
    assert_int_equal(cellar_container_spec_load(DATA_DIR, &c->spec, &err),
                     CELLAR_OK);
    assert_int_equal(plan_one(c->spec, &c->plan, &err), CELLAR_OK);
}

static void close_case(struct spec_case *c)
{
    cellar_container_plan_done(&c->plan);
    cellar_container_spec_free(c->spec);
}

static void a_container_spec_is_whole_or_not_there(void **state)
{
    struct spec_case c;
    (void)state;
    open_case(&c);
    oom_sweep(make_plan, &c);
    close_case(&c);
}

static void a_protection_that_is_missing_is_seen(void **state)
{
    struct spec_case c;
    struct verify_case v = {.made = &c};
    (void)state;
    open_case(&c);
    v.shown = shown_otherwise(c.plan.body);
    assert_int_equal(verify(&v), CELLAR_OK);
    assert_non_null(strstr(v.seen, "/read_only!"));
    oom_sweep(verify, &v);
    free(v.shown);
    close_case(&c);
}

/* --------------------------------------------------------------- calls -- */

static const struct {
    const char *part; /* of the path */
    int status;
    const char *body;
} replies[] = {
    {"/version", 200, "{\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}"},
    {"/images/create", 200,
     "{\"status\":\"Pulling\",\"id\":\"1\"}\n{\"status\":\"Done\"}\n"},
    {"/images/", 200, "{\"Id\":\"sha256:1\",\"Config\":{\"Labels\":{}}}"},
    {"/containers/create", 201, "{\"Id\":\"" ID "\",\"Warnings\":[\"odd\"]}"},
    {"/stats", 200, "{\"pids_stats\":{\"current\":1}}"},
    {"/attach", 101, ""},
    {"/exec/", 101, ""},
    {"/exec", 201, "{\"Id\":\"e1f\"}"},
    {"/start", 204, ""},
    {"/containers/json", 200,
     "[{\"Id\":\"" ID "\",\"State\":\"running\",\"Labels\":{}}]"},
    {"/json", 200,
     "{\"State\":{\"Running\":true,\"Status\":\"running\"},"
     "\"Config\":{\"User\":\"61001:61001\"},"
     "\"HostConfig\":{}}"},
    {"/info", 200,
     "{\"ServerVersion\":\"20.10.24\",\"SecurityOptions\":[\"name=seccomp\"],"
     "\"Runtimes\":{\"runc\":{\"path\":\"runc\"}}}"},
    {"/containers/", 204, ""},
};

static struct fake_reply reply_to(const char *method, const char *path)
{
    (void)method;
    for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++)
        if (strstr(path, replies[i].part))
            return (struct fake_reply){replies[i].status,
                                       (const uint8_t *)replies[i].body,
                                       strlen(replies[i].body)};
    return (struct fake_reply){0, NULL, 0};
}

static struct {
    unsigned ends;
    enum cellar_code code;
    struct cellar_stream *stream;
    bool left; /* the engine logs that a container may be */
} seen;

static void on_done(void *user, const struct cellar_error *err)
{
    (void)user;
    seen.ends++;
    seen.code = err ? err->code : CELLAR_OK;
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    assert_true(!id == !stream && !id == !!err);
    seen.stream = stream;
    on_done(user, err);
}

static void on_row(void *user, const struct cellar_container *row)
{
    (void)user;
    assert_string_equal(row->id, ID);
}

static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    (void)vital;
    assert_true(reason && *reason);
    on_done(user, NULL);
}

static void on_check(void *user, const struct cellar_check_row *row)
{
    (void)user;
    assert_true(*row->name && *row->text);
}

static void on_closed(void *user, const struct cellar_error *err)
{
    (void)user;
    (void)err;
}

static const struct cellar_stream_events events = {.closed = on_closed};

static void on_log(void *user, const char *line)
{
    (void)user;
    seen.left |= strstr(line, "may be left") != NULL;
}

typedef enum cellar_code call_fn(struct cellar_engine *engine,
                                 struct cellar_error *err);

static enum cellar_code call_start(struct cellar_engine *engine,
                                   struct cellar_error *err)
{
    struct cellar_spec spec;
    struct cellar_launch launch = launch_of(&spec);
    return engine->ops->start(engine, &launch, &events, on_started, NULL, err);
}

static enum cellar_code call_attach(struct cellar_engine *engine,
                                    struct cellar_error *err)
{
    return engine->ops->attach(engine, ID, 0, &events, on_started, NULL, err);
}

static enum cellar_code call_lane(struct cellar_engine *engine,
                                  struct cellar_error *err)
{
    return engine->ops->attach(engine, ID, 7, &events, on_started, NULL, err);
}

static enum cellar_code call_list(struct cellar_engine *engine,
                                  struct cellar_error *err)
{
    return engine->ops->list(engine, on_row, on_done, NULL, err);
}

static enum cellar_code call_diagnose(struct cellar_engine *engine,
                                      struct cellar_error *err)
{
    return engine->ops->diagnose(engine, ID, on_reason, NULL, err);
}

static void on_usage(void *user, const struct cellar_usage *usage,
                     const struct cellar_error *err)
{
    assert_true(!usage == !!err);
    on_done(user, err);
}

static enum cellar_code call_usage(struct cellar_engine *engine,
                                   struct cellar_error *err)
{
    return engine->ops->usage(engine, ID, on_usage, NULL, err);
}

static enum cellar_code call_pull(struct cellar_engine *engine,
                                  struct cellar_error *err)
{
    return engine->ops->image_pull(engine, "mine:1", NULL, on_done, NULL, err);
}

static enum cellar_code call_check(struct cellar_engine *engine,
                                   struct cellar_error *err)
{
    static const struct cellar_spec mine = {.image = "mine:1"};
    return engine->ops->check(engine, &mine, on_check, on_done, NULL, err);
}

/* An answer that could not be read for want of memory is to the engine's code
 * one that says nothing: any error will do, but one there must be, and a
 * container whose start failed must have been removed, or be named as left. */
static enum cellar_code make_call(void *user)
{
    call_fn *call = *(call_fn **)user;
    struct cellar_engine *engine = NULL;
    struct cellar_error err = {.code = CELLAR_OK};
    fake_http = (struct fake_http){
        .next = reply_to, .quiet = oom_pause, .keep_open = true, .piece = 4096};
    memset(&seen, 0, sizeof(seen));
    enum cellar_code code = cellar_docker_new(NULL, "unix:///nowhere", DATA_DIR,
                                              on_log, NULL, &engine, &err);
    if (code == CELLAR_OK) {
        code = call(engine, &err);
        fake_http_run();
        assert_int_equal(seen.ends, code == CELLAR_OK ? 1 : 0);
        cellar_stream_close(seen.stream);
        engine->ops->free(engine);
    }
    assert_int_equal(err.code, code);
    assert_int_equal(fake_http.streams, 0);
    if (call == call_start && seen.code && fake_http.starts > 0)
        assert_true(fake_http.removals == 1 || seen.left);
    return code == CELLAR_OK && seen.code ? CELLAR_E_NOMEM : code;
}

static void a_call_ends_once_and_leaves_nothing(void **state)
{
    static call_fn *const calls[] = {call_start, call_attach,   call_lane,
                                     call_list,  call_diagnose, call_usage,
                                     call_pull,  call_check};
    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        call_fn *call = calls[i];
        oom_sweep(make_call, &call);
    }
}

static void the_files_are_read_whole_or_not_at_all(void **state)
{
    struct spec_case c;
    (void)state;
    open_case(&c);
    oom_sweep(load_and_plan, &c);
    close_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_container_spec_is_whole_or_not_there),
        cmocka_unit_test(a_protection_that_is_missing_is_seen),
        cmocka_unit_test(a_call_ends_once_and_leaves_nothing),
        cmocka_unit_test(the_files_are_read_whole_or_not_at_all),
    };
    oom_init();
    return cmocka_run_group_tests_name("oom engine", tests, NULL, NULL);
}
