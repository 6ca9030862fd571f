/* The oci engine with no memory: its calls with a stand-in runtime, a script
 * whose containers are a process that waits for this one's end. What the kernel
 * shows of that is believed here (--wrap): it is the calls' way that is looked
 * at. */
#include "oom.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/engine/oci/oci.h"

#define DATA CELLAR_SOURCE_DIR "/kernel/engine"

/* A container is in the place of its bundle's folder, so that the words of the
 * real ones do: --pid-file FILE, and the rest. */
static const char script[] =
    "#!/bin/sh\n"
    "for word; do\n"
    "    [ \"$before\" = --pid-file ] && pid_file=$word\n"
    "    [ \"$before\" = --root ] && root=$word\n"
    "    case $word in run|delete|exec|--version) verb=$word ;; esac\n"
    "    before=$word\n"
    "done\n"
    "case $verb in\n"
    "run) sh -c 'read line' < \"$root/../../life\" &\n"
    "    echo $! > \"$pid_file\" ;;\n"
    "delete) kill -9 $(cat \"$root/../$word/pid\") ;;\n"
    "--version) echo stand-in 1 ;;\n"
    "esac\n";

static struct world {
    char dir[32];
    char data[64];
    char runtime[64];
    int life; /* a FIFO that the processes read until its end */
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    unsigned ends;
    unsigned rows;
    struct cellar_error err;
    struct cellar_stream *stream;
    char left[CELLAR_CONTAINER_ID_MAX + 1];
} w;

/* ---------------------------------------------------- what is believed -- */

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
/* So declared it can't differ from what it stands for. */
__typeof__(cellar_oci_verify) __wrap_cellar_oci_verify;

/* A process with a number of its own inside. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
    static char status[] = "NSpid:\t4711\t1\n";
    size_t len = strlen(path);
    return len > 7 && strcmp(path + len - 7, "/status") == 0
               ? fmemopen(status, sizeof(status) - 1, "r")
               : __real_fopen(path, mode);
}

bool __wrap_cellar_oci_verify(const struct oci_made *made,
                              oci_verified_fn *each, void *user)
{
    assert_non_null(made->config);
    each(user, "seccomp", NULL);
    return cellar_oci_lives(made->born);
}

/* ----------------------------------------------------------- callbacks -- */

static void on_done(void *user, const struct cellar_error *err)
{
    (void)user;
    w.ends++;
    w.err = err ? *err : (struct cellar_error){.code = CELLAR_OK};
    assert_true(!err || (err->code && err->msg[0]));
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    assert_true(!id == !stream && !id == !!err);
    if (id)
        (void)snprintf(w.id, sizeof(w.id), "%s", id);
    w.stream = stream;
    on_done(user, err);
}

static void on_row(void *user, const struct cellar_container *row)
{
    (void)user;
    w.rows++;
    (void)snprintf(w.left, sizeof(w.left), "%s", row->id);
}

static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    (void)vital;
    assert_true(reason && *reason);
    on_done(user, NULL);
}

static void on_usage(void *user, const struct cellar_usage *usage,
                     const struct cellar_error *err)
{
    assert_true(!usage == !!err);
    on_done(user, err);
}

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}

static void on_text(void *user, const char *text, size_t len)
{
    on_bytes(user, (const uint8_t *)text, len);
}

static void on_closed(void *user, const struct cellar_error *err)
{
    (void)user;
    (void)err;
}

static const struct cellar_stream_events events = {on_bytes, on_text,
                                                   on_closed};

/* --------------------------------------------------------------- calls -- */

typedef enum cellar_code call_fn(struct cellar_error *err);

static enum cellar_code call_start(struct cellar_error *err)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.name = "tour";
    spec.runtime = w.runtime;
    struct cellar_launch launch = {.spec = &spec,
                                   .owner = "0123456789abcdef",
                                   .uid = 61001,
                                   .greeting = (const uint8_t *)"hello",
                                   .greeting_len = 5};
    return w.engine->ops->start(w.engine, &launch, &events, on_started, NULL,
                                err);
}

static enum cellar_code call_attach(struct cellar_error *err)
{
    return w.engine->ops->attach(w.engine, w.id, 0, &events, on_started, NULL,
                                 err);
}

static enum cellar_code call_lane(struct cellar_error *err)
{
    return w.engine->ops->attach(w.engine, w.id, 7, &events, on_started, NULL,
                                 err);
}

static enum cellar_code call_list(struct cellar_error *err)
{
    w.rows = 0;
    return w.engine->ops->list(w.engine, on_row, on_done, NULL, err);
}

static enum cellar_code call_diagnose(struct cellar_error *err)
{
    return w.engine->ops->diagnose(w.engine, w.id, on_reason, NULL, err);
}

static enum cellar_code call_usage(struct cellar_error *err)
{
    return w.engine->ops->usage(w.engine, w.id, on_usage, NULL, err);
}

static enum cellar_code call_remove(struct cellar_error *err)
{
    return w.engine->ops->remove(w.engine, w.id, on_done, NULL, err);
}

/* To its end; also of runtimes that nobody waits for any more. */
static enum cellar_code await(call_fn *call, struct cellar_error *err)
{
    w.ends = 0;
    w.stream = NULL;
    enum cellar_code code = call(err);
    assert_int_equal(code, err->code);
    for (int i = 0; i < 10000 && !code && w.ends == 0; i++)
        (void)cellar_loop_run(w.loop, 10);
    assert_int_equal(w.ends, code ? 0 : 1);
    cellar_stream_close(w.stream);
    for (int i = 0; i < 10000 && ((struct oci *)w.engine)->runs; i++)
        (void)cellar_loop_run(w.loop, 10);
    (void)cellar_loop_run(w.loop, 0);
    *err = code ? *err : w.err;
    return err->code;
}

/* With all the memory there is. */
static void must(call_fn *call)
{
    struct cellar_error err = {.code = CELLAR_OK};
    oom_pause(true);
    if (await(call, &err) != CELLAR_OK)
        fail_msg("%s", err.msg);
    oom_pause(false);
}

static void remove_left(void)
{
    must(call_list);
    while (w.rows > 0) {
        memcpy(w.id, w.left, sizeof(w.id));
        must(call_remove);
        must(call_list);
    }
}

/* A failure for want of memory may look like another one: an answer that could
 * not be read says nothing. */
static enum cellar_code verdict(enum cellar_code code)
{
    return code == CELLAR_OK ? CELLAR_OK : CELLAR_E_NOMEM;
}

static enum cellar_code start_and_look(void *user)
{
    struct cellar_error err = {.code = CELLAR_OK};
    (void)user;
    enum cellar_code code = await(call_start, &err);
    must(call_list);
    /* It is there; or its removal had no memory either, and it is listed, for
     * whoever sweeps. */
    assert_true(code == CELLAR_OK ? w.rows == 1 : w.rows <= 1);
    remove_left();
    return verdict(code);
}

static enum cellar_code remove_and_look(void *user)
{
    struct cellar_error err = {.code = CELLAR_OK};
    (void)user;
    must(call_start);
    enum cellar_code code = await(call_remove, &err);
    must(call_list);
    assert_true(code || w.rows == 0);
    remove_left();
    return verdict(code);
}

/* Of a container that runs, and goes on. */
static enum cellar_code ask(void *user)
{
    struct cellar_error err = {.code = CELLAR_OK};
    return verdict(await(*(call_fn **)user, &err));
}

static enum cellar_code open_and_list(void *user)
{
    struct cellar_engine_place place = {.state_dir = w.dir, .data_dir = w.data};
    struct cellar_engine *other = NULL;
    struct cellar_engine *ours = w.engine;
    struct cellar_error err = {.code = CELLAR_OK};
    (void)user;
    enum cellar_code code = cellar_oci_new(w.loop, &place, &other, &err);
    assert_int_equal(code, err.code);
    if (code)
        return code;
    w.engine = other;
    code = await(call_list, &err);
    w.engine = ours;
    other->ops->free(other);
    return verdict(code);
}

/* --------------------------------------------------------------- tests -- */

static void a_start_is_whole_or_leaves_what_is_listed(void **state)
{
    (void)state;
    must(call_start); /* the container's files are read once */
    remove_left();
    oom_sweep(start_and_look, NULL);
}

static void a_removal_is_whole_or_can_be_asked_for_again(void **state)
{
    (void)state;
    oom_sweep(remove_and_look, NULL);
}

static void what_is_asked_of_one_that_runs_ends_once(void **state)
{
    static call_fn *const calls[] = {call_attach, call_lane, call_list,
                                     call_diagnose};
    (void)state;
    must(call_start);
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        call_fn *call = calls[i];
        oom_sweep(ask, &call);
    }
    /* It has no groups that could be measured: that is said, or no memory. */
    call_fn *measure = call_usage;
    assert_int_equal(ask(&measure), CELLAR_E_NOMEM);
    remove_left();
}

static void an_engine_is_opened_whole_or_not_at_all(void **state)
{
    (void)state;
    oom_sweep(open_and_list, NULL);
}

/* ------------------------------------------------------------ the world -- */

static void link_data(const char *name)
{
    char from[256];
    char to[128];
    (void)snprintf(from, sizeof(from), DATA "/%s", name);
    (void)snprintf(to, sizeof(to), "%s/%s", w.data, name);
    assert_int_equal(symlink(from, to), 0);
}

static int set_up(void **state)
{
    char path[128];
    (void)state;
    (void)snprintf(w.dir, sizeof(w.dir), "/tmp/cellar-oom-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    (void)snprintf(w.runtime, sizeof(w.runtime), "%s/runtime", w.dir);
    (void)snprintf(w.data, sizeof(w.data), "%s/data", w.dir);
    (void)snprintf(path, sizeof(path), "%s/cellar", w.data);
    assert_int_equal(mkdir(w.data, 0755), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    link_data("container.json");
    link_data("seccomp.json");
    FILE *file = fopen(w.runtime, "w");
    assert_non_null(file);
    assert_true(fputs(script, file) >= 0 && fclose(file) == 0);
    assert_int_equal(chmod(w.runtime, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/life", w.dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    w.life = open(path, O_RDWR | O_CLOEXEC);
    assert_true(w.life >= 0);
    struct cellar_engine_place place = {.state_dir = w.dir, .data_dir = w.data};
    assert_int_equal(cellar_loop_new(&w.loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_oci_new(w.loop, &place, &w.engine, NULL),
                     CELLAR_OK);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"data/container.json",
                                        "data/seccomp.json",
                                        "runtime",
                                        "life",
                                        "data/cellar",
                                        "data",
                                        "oci/.run",
                                        "oci",
                                        ""};
    char path[128];
    (void)state;
    w.engine->ops->free(w.engine);
    cellar_loop_free(w.loop);
    close(w.life);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", w.dir, names[i]);
        assert_int_equal(remove(path), 0); /* empty: nothing was left */
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_is_whole_or_leaves_what_is_listed),
        cmocka_unit_test(a_removal_is_whole_or_can_be_asked_for_again),
        cmocka_unit_test(what_is_asked_of_one_that_runs_ends_once),
        cmocka_unit_test(an_engine_is_opened_whole_or_not_at_all),
    };
    oom_init();
    return cmocka_run_group_tests_name("oom oci", tests, set_up, tear_down);
}
