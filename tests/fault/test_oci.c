/* OCI runtimes that die, hang, talk and talk, and lie: scripts in a real one's
 * place. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/engine/engine.h"
#include "kernel/engine/oci/oci.h"

#define DATA CELLAR_SOURCE_DIR "/kernel/engine"

/* For every script: what it was told, and where the pid belongs. */
#define BEGIN                                                                  \
    "#!/bin/sh\n"                                                              \
    "for word; do\n"                                                           \
    "    [ \"$before\" = --pid-file ] && pid_file=$word\n"                     \
    "    case $word in run|delete) verb=$word ;; esac\n"                       \
    "    before=$word\n"                                                       \
    "done\n"                                                                   \
    "[ $verb = delete ] && exit 0\n"

struct world {
    char dir[64];
    char data[128];
    char runtime[128];
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    struct cellar_error err;
    bool done;
    int ends;
    bool wanted;
    int rows;
    char heard[16];
    struct cellar_stream *stream;
};

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    struct world *w = user;
    size_t have = strlen(w->heard);
    snprintf(w->heard + have, sizeof(w->heard) - have, "%.*s", (int)len,
             (const char *)data);
}

static void on_text(void *user, const char *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}

static void on_closed(void *user, const struct cellar_error *err)
{
    (void)user;
    (void)err;
}

static const struct cellar_stream_events events = {on_bytes, on_text,
                                                   on_closed};

static void on_done(void *user, const struct cellar_error *err)
{
    struct world *w = user;
    w->done = true;
    w->ends++;
    w->err = err ? *err : (struct cellar_error){0};
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    assert_null(id);
    assert_null(stream);
    on_done(user, err);
}

static void on_row(void *user, const struct cellar_container *container)
{
    struct world *w = user;
    w->rows++;
    snprintf(w->id, sizeof(w->id), "%s", container->id);
    assert_string_equal(container->state, "created");
    assert_string_equal(container->owner, "faults");
}

static bool on_turn(void *user)
{
    return ((struct world *)user)->wanted;
}

static void open_engine(struct world *w)
{
    struct cellar_engine_place place = {.state_dir = w->dir,
                                        .data_dir = w->data};
    assert_int_equal(cellar_oci_new(w->loop, &place, &w->engine, &w->err), 0);
}

static void link_data(const struct world *w, const char *name)
{
    char from[256];
    char to[256];
    snprintf(from, sizeof(from), DATA "/%s", name);
    snprintf(to, sizeof(to), "%s/%s", w->data, name);
    assert_int_equal(symlink(from, to), 0);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    char path[256];
    if (!w || cellar_loop_new(&w->loop, NULL))
        return -1;
    snprintf(w->dir, sizeof(w->dir), "/tmp/cellar-fault-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    snprintf(w->runtime, sizeof(w->runtime), "%s/runtime", w->dir);
    snprintf(w->data, sizeof(w->data), "%s/data", w->dir);
    snprintf(path, sizeof(path), "%s/cellar", w->data);
    assert_int_equal(mkdir(w->data, 0755), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    link_data(w, "container.json");
    link_data(w, "seccomp.json");
    w->wanted = true;
    open_engine(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"data/container.json",
                                        "data/seccomp.json", "runtime"};
    static const char *const folders[] = {"data/cellar", "data", "oci/.run",
                                          "oci", ""};
    struct world *w = *state;
    char path[256];
    w->engine->ops->free(w->engine);
    cellar_loop_free(w->loop);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", w->dir, files[i]);
        unlink(path);
    }
    for (size_t i = 0; i < 5; i++) { /* empty: nothing was left */
        snprintf(path, sizeof(path), "%s/%s", w->dir, folders[i]);
        assert_true(rmdir(path) == 0 || errno == ENOENT);
    }
    free(w);
    return 0;
}

static void script(const struct world *w, const char *text)
{
    FILE *file = fopen(w->runtime, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(w->runtime, 0755), 0);
}

static enum cellar_code begin_start(struct world *w)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.runtime = w->runtime;
    struct cellar_launch launch = {.spec = &spec,
                                   .owner = "faults",
                                   .uid = 61002,
                                   .greeting = (const uint8_t *)"key",
                                   .greeting_len = 3,
                                   .turn = on_turn};
    return w->engine->ops->start(w->engine, &launch, &events, on_started, w,
                                 &w->err);
}

static void wait_done(struct world *w, enum cellar_code begun)
{
    assert_int_equal(begun, CELLAR_OK);
    while (!w->done)
        cellar_loop_run(w->loop, 100);
    w->done = false;
}

static void list(struct world *w)
{
    w->rows = 0;
    wait_done(w, w->engine->ops->list(w->engine, on_row, on_done, w, &w->err));
}

static void refuse(struct world *w, enum cellar_code code, const char *words)
{
    wait_done(w, begin_start(w));
    if (w->err.code != code || !strstr(w->err.msg, words))
        fail_msg("\"%s\" is not in \"%s\"", words, w->err.msg);
    list(w);
    assert_int_equal(w->rows, 0);
}

static void one_that_fails_is_quoted(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "echo 'time=\"x\" level=error msg=\"it is Monday\"' >&2\n"
                    "exit 1\n");
    refuse(w, CELLAR_E_ENGINE, "runtime says: it is Monday");
}

static void one_that_says_nothing_is_told_so(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "exit 7\n");
    refuse(w, CELLAR_E_ENGINE, "says: nothing");
}

static void one_that_is_killed_has_failed(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "kill -9 $$\n");
    refuse(w, CELLAR_E_ENGINE, "starting the container");
}

static void of_megabytes_the_last_is_kept(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "head -c 20000000 /dev/zero | tr '\\0' x >&2\n"
                    "head -c 20000000 /dev/zero\n"
                    "echo >&2\necho the end >&2\nexit 1\n");
    refuse(w, CELLAR_E_ENGINE, "the end");
}

static void one_that_starts_nothing_is_found_out(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "exit 0\n");
    refuse(w, CELLAR_E_ENGINE, "first process");
}

static void a_number_of_nobodys_is_found_out(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "echo 3999999 > $pid_file\n");
    refuse(w, CELLAR_E_LOST, "ended as soon as");
    script(w, BEGIN "echo nonsense > $pid_file\n");
    refuse(w, CELLAR_E_ENGINE, "first process");
}

/* And lives on. */
static void a_process_outside_of_any_container_is_not_killed(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "echo $PPID > $pid_file\n");
    refuse(w, CELLAR_E_ENGINE, "in no container");
}

static void a_process_without_the_protections_is_not_taken(void **state)
{
    struct world *w = *state;
    if (geteuid() != 0)
        skip(); /* to make a pid namespace */
    script(w, BEGIN "unshare --pid --fork --kill-child sleep 100 &\n"
                    "until pgrep -P $! > $pid_file; do :; done\n");
    refuse(w, CELLAR_E_ENGINE, "does not enforce \"user\"");
}

static void a_start_that_nobody_wants_makes_nothing(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "exit 0\n");
    w->wanted = false;
    refuse(w, CELLAR_E_LOST, "given up");
}

static void a_runtime_that_is_not_there_is_named(void **state)
{
    struct world *w = *state;
    assert_int_equal(begin_start(w), CELLAR_E_USAGE);
    assert_non_null(strstr(w->err.msg, w->runtime));
}

/* The script, under a name that a runtime is known by. */
static void call_it(struct world *w, const char *name, const char *text)
{
    char plain[sizeof(w->runtime)];
    script(w, text);
    memcpy(plain, w->runtime, sizeof(plain));
    snprintf(w->runtime, sizeof(w->runtime), "%s/%s", w->dir, name);
    assert_int_equal(rename(plain, w->runtime), 0);
}

/* The engine could not look at what it made. */
static void a_virtual_machine_is_refused(void **state)
{
    struct world *w = *state;
    call_it(w, "kata-runtime", BEGIN "exit 0\n");
    assert_int_equal(begin_start(w), CELLAR_E_USAGE);
    assert_non_null(strstr(w->err.msg, "use --engine docker"));
    assert_int_equal(unlink(w->runtime), 0);
}

static void a_process_outside_of_any_sandbox_is_not_killed(void **state)
{
    struct world *w = *state;
    call_it(w, "runsc", BEGIN "echo $PPID > $pid_file\n");
    refuse(w, CELLAR_E_ENGINE, "in no container");
    assert_int_equal(unlink(w->runtime), 0);
}

/* Apart from the host, and no kernel of runsc's. */
static void a_sandbox_that_is_none_is_not_taken(void **state)
{
    struct world *w = *state;
    call_it(w, "runsc",
            BEGIN "unshare --user --map-root-user --mount --net sleep 100 &\n"
                  "until [ \"$(cat /proc/$!/comm)\" = sleep ]; do :; done\n"
                  "echo $! > $pid_file\n");
    refuse(w, CELLAR_E_ENGINE, "does not enforce \"user\"");
    assert_int_equal(unlink(w->runtime), 0);
}

/* It would not do so by itself. */
static void a_sandbox_is_told_to_filter(void **state)
{
    struct world *w = *state;
    call_it(w, "runsc",
            BEGIN "case \"$*\" in *--oci-seccomp=true*--network=none*|\\\n"
                  "*--network=none*--oci-seccomp=true*) ;; *) exit 0;; esac\n"
                  "echo 'it was told to' >&2\nexit 1\n");
    refuse(w, CELLAR_E_ENGINE, "it was told to");
    assert_int_equal(unlink(w->runtime), 0);
}

/* Its start is cut off, as by a kill; what is left is seen by the next one, and
 * removed although the runtime does not answer. */
static void one_that_hangs_holds_nobody_up(void **state)
{
    struct world *w = *state;
    script(w, "#!/bin/sh\nexec sleep 1000\n");
    assert_int_equal(begin_start(w), CELLAR_OK);
    for (int i = 0; i < 20; i++)
        cellar_loop_run(w->loop, 10);
    assert_false(w->done);
    w->engine->ops->free(w->engine);
    open_engine(w);
    list(w);
    assert_int_equal(w->rows, 1);
    wait_done(w, w->engine->ops->remove(w->engine, w->id, on_done, w, &w->err));
    assert_int_equal(w->err.code, CELLAR_OK);
    list(w);
    assert_int_equal(w->rows, 0);
}

/* ---------------------------------------------------------------- relays -- */

#define BUNDLE OCI_ID_PREFIX "0123456789abcdef0123456789ab"

static void bundle_path(const struct world *w, const char *name, char path[256])
{
    snprintf(path, 256, "%s/oci/" BUNDLE "%s%s", w->dir, *name ? "/" : "",
             name);
}

static void put(const struct world *w, const char *name, const char *text)
{
    char path[256];
    bundle_path(w, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void read_boot(char boot[64])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    assert_non_null(file);
    assert_non_null(fgets(boot, 64, file));
    boot[strcspn(boot, "\n")] = '\0';
    fclose(file);
}

/* A container that lives: its first process is this one. */
static void make_bundle(const struct world *w)
{
    char path[256];
    char text[256];
    char boot[64];
    snprintf(path, sizeof(path), "%s/oci", w->dir);
    (void)mkdir(path, 0700);
    bundle_path(w, "", path);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(text, sizeof(text), "{\"runtime\": \"%s\"}", w->runtime);
    put(w, "labels.json", text);
    put(w, "config.json", "{\"process\": {\"args\": []}}");
    read_boot(boot);
    snprintf(text, sizeof(text),
             "{\"pid\": %d, \"began\": %" PRIu64 ", \"boot\": \"%s\"}",
             (int)getpid(), cellar_oci_began(getpid()), boot);
    put(w, "born.json", text);
}

static void remove_bundle(const struct world *w)
{
    static const char *const files[] = {"labels.json", "config.json",
                                        "born.json", "go", ""};
    char path[256];
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        bundle_path(w, files[i], path);
        assert_int_equal(remove(path), 0);
    }
}

static void on_attached(void *user, const char *id,
                        struct cellar_stream *stream,
                        const struct cellar_error *err)
{
    struct world *w = user;
    (void)id;
    w->stream = stream;
    on_done(user, err);
}

/* The rest of what an agent had for the last host: who attaches must greet
 * before, or it could not tell it from a lie. */
static void what_a_relay_writes_waits_for_who_attaches(void **state)
{
    struct world *w = *state;
    char go[256];
    char text[512];
    bundle_path(w, "go", go);
    snprintf(text, sizeof(text),
             "#!/bin/sh\nprintf early\n"
             "until [ -e %s ]; do sleep 0.01; done\n",
             go);
    script(w, text);
    make_bundle(w);
    assert_int_equal(w->engine->ops->attach(w->engine, BUNDLE, 1, &events,
                                            on_attached, w, &w->err),
                     CELLAR_OK);
    for (int i = 0; i < 30; i++)
        cellar_loop_run(w->loop, 10);
    assert_false(w->done);
    assert_string_equal(w->heard, "");
    put(w, "go", "");
    wait_done(w, CELLAR_OK);
    assert_int_equal(w->err.code, CELLAR_OK);
    assert_string_equal(w->heard, "");
    while (strcmp(w->heard, "early") != 0)
        cellar_loop_run(w->loop, 100);
    w->stream->ops->close(w->stream);
    remove_bundle(w);
}

/* ---------------------------------------------------- crowds and lanes -- */

#define CROWD 20

static void each_of_many_starts_that_fail_is_told(void **state)
{
    struct world *w = *state;
    script(w, BEGIN "exit 1\n");
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(begin_start(w), CELLAR_OK);
    while (w->ends < CROWD)
        cellar_loop_run(w->loop, 100);
    w->done = false;
    list(w);
    assert_int_equal(w->rows, 0);
}

/* Those that have begun, and those that wait for their turn. */
static void the_engine_may_be_freed_amid_a_crowd(void **state)
{
    struct world *w = *state;
    script(w, "#!/bin/sh\nexec sleep 1000\n");
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(begin_start(w), CELLAR_OK);
    for (int i = 0; i < 5; i++)
        cellar_loop_run(w->loop, 10);
    w->engine->ops->free(w->engine);
    assert_int_equal(w->ends, 0);
    open_engine(w);
    script(w, BEGIN "exit 0\n");
    for (list(w); w->rows > 0; list(w))
        wait_done(
            w, w->engine->ops->remove(w->engine, w->id, on_done, w, &w->err));
}

static void fail_to_attach(struct world *w, const char *id, uint64_t lane,
                           enum cellar_code expected)
{
    enum cellar_code code = w->engine->ops->attach(w->engine, id, lane, &events,
                                                   on_started, w, &w->err);
    if (!code)
        wait_done(w, code);
    if (w->err.code != expected)
        fail_msg("%d: %s", (int)w->err.code, w->err.msg);
}

static void a_container_that_is_gone_is_lost(void **state)
{
    struct world *w = *state;
    char id[] = "oci-0123456789abcdef0123456789ab";
    for (uint64_t lane = 0; lane < 2; lane++)
        fail_to_attach(w, id, lane, CELLAR_E_LOST);
    fail_to_attach(w, "../../etc", 0, CELLAR_E_USAGE);
}

static void one_that_never_ran_has_no_streams(void **state)
{
    struct world *w = *state;
    script(w, "#!/bin/sh\nexec sleep 1000\n");
    assert_int_equal(begin_start(w), CELLAR_OK);
    cellar_loop_run(w->loop, 10);
    w->engine->ops->free(w->engine);
    open_engine(w);
    list(w);
    for (uint64_t lane = 0; lane < 2; lane++)
        fail_to_attach(w, w->id, lane, CELLAR_E_LOST);
    script(w, BEGIN "exit 0\n");
    wait_done(w, w->engine->ops->remove(w->engine, w->id, on_done, w, &w->err));
}

#define WORLD_TEST(name)                                                       \
    cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(one_that_fails_is_quoted),
        WORLD_TEST(one_that_says_nothing_is_told_so),
        WORLD_TEST(one_that_is_killed_has_failed),
        WORLD_TEST(of_megabytes_the_last_is_kept),
        WORLD_TEST(one_that_starts_nothing_is_found_out),
        WORLD_TEST(a_number_of_nobodys_is_found_out),
        WORLD_TEST(a_process_outside_of_any_container_is_not_killed),
        WORLD_TEST(a_process_without_the_protections_is_not_taken),
        WORLD_TEST(a_start_that_nobody_wants_makes_nothing),
        WORLD_TEST(a_runtime_that_is_not_there_is_named),
        WORLD_TEST(a_virtual_machine_is_refused),
        WORLD_TEST(a_process_outside_of_any_sandbox_is_not_killed),
        WORLD_TEST(a_sandbox_that_is_none_is_not_taken),
        WORLD_TEST(a_sandbox_is_told_to_filter),
        WORLD_TEST(one_that_hangs_holds_nobody_up),
        WORLD_TEST(what_a_relay_writes_waits_for_who_attaches),
        WORLD_TEST(each_of_many_starts_that_fail_is_told),
        WORLD_TEST(the_engine_may_be_freed_amid_a_crowd),
        WORLD_TEST(a_container_that_is_gone_is_lost),
        WORLD_TEST(one_that_never_ran_has_no_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
