/* The interface of engines against a real one, with a container that only
 * echoes: start, two-way stream, attach again, list, diagnose, remove, check;
 * and lanes, with a script in the agent's place. CELLAR_ENGINE names it:
 * docker, which needs the image cellar-runtime:slim, or oci, whose OCI runtime
 * CELLAR_RUNTIME names. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/engine/engine.h"

/* What a kernel in user space does not do, and says so. */
static const char *const missing[] = {"agent", "tmpfs"};

struct world {
    bool oci;
    bool sandbox;       /* it has a kernel of its own */
    char state_dir[64]; /* of oci */
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    struct cellar_stream *stream;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    bool done;
    bool closed;
    struct cellar_error err;
    uint64_t bytes;
    char last[64];
    char said[256]; /* the beginning of all bytes; of all text */
    char text[256];
    int rows; /* of the list that are ours; of a check */
    int failed;
    char reason[256];
    enum cellar_vital vital;
};

static void append(char to[256], const char *data, size_t len)
{
    size_t at = strlen(to);
    snprintf(to + at, 256 - at, "%.*s", (int)(len < 255 ? len : 255), data);
}

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
    struct world *w = user;
    w->bytes += len;
    append(w->said, (const char *)data, len);
    snprintf(w->last, sizeof(w->last), "%.*s", (int)(len < 63 ? len : 63),
             (const char *)data);
}

static void on_text(void *user, const char *data, size_t len)
{
    struct world *w = user;
    append(w->text, data, len);
}

static void on_closed(void *user, const struct cellar_error *err)
{
    struct world *w = user;
    (void)err;
    w->closed = true;
}

static const struct cellar_stream_events events = {on_bytes, on_text,
                                                   on_closed};

static void on_done(void *user, const struct cellar_error *err)
{
    struct world *w = user;
    w->done = true;
    w->err = err ? *err : (struct cellar_error){0};
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    struct world *w = user;
    on_done(user, err);
    w->stream = stream;
    if (id)
        snprintf(w->id, sizeof(w->id), "%s", id);
}

static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    struct world *w = user;
    on_done(user, NULL);
    snprintf(w->reason, sizeof(w->reason), "%s", reason);
    w->vital = vital;
}

static void on_container(void *user, const struct cellar_container *container)
{
    struct world *w = user;
    if (strcmp(container->id, w->id) != 0)
        return;
    w->rows++;
    assert_string_equal(container->owner, "test_engine");
    assert_int_equal(container->uid, 61002);
    assert_string_equal(container->session, "");
    assert_string_equal(container->state, "running");
    assert_string_equal(container->image,
                        w->oci ? "/usr" : "cellar-runtime:slim");
    assert_true(container->created > 1700000000);
}

static void on_row(void *user, const struct cellar_check_row *row)
{
    struct world *w = user;
    w->rows++;
    for (size_t i = 0; w->sandbox && i < 2; i++)
        if (strcmp(row->name, missing[i]) == 0) {
            assert_int_equal(row->result, CELLAR_CHECK_FAIL);
            return;
        }
    if (row->result == CELLAR_CHECK_FAIL) {
        w->failed++;
        print_error("%s: %s\n", row->name, row->text);
    }
}

static void wait_for(struct world *w, const bool *flag)
{
    uint64_t end = cellar_loop_now_us() + UINT64_C(60000000);
    while (!*flag && cellar_loop_now_us() < end)
        cellar_loop_run(w->loop, 100);
    assert_true(*flag);
}

static void wait_done(struct world *w, enum cellar_code begun)
{
    assert_int_equal(begun, CELLAR_OK);
    assert_false(w->done);
    wait_for(w, &w->done);
    w->done = false;
}

static void assert_ok(const struct world *w)
{
    if (w->err.code)
        fail_msg("%s", w->err.msg);
}

static void begin_start_with(struct world *w, const char *entrypoint,
                             const char *greeting)
{
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.memory_bytes = w->sandbox ? 128 << 20 : 64 << 20;
    spec.runtime = getenv("CELLAR_RUNTIME");
    for (size_t i = 0; w->sandbox && i < 2; i++)
        spec.allow[i] = missing[i];
    struct cellar_launch launch = {
        .spec = &spec,
        .owner = "test_engine",
        .uid = 61002,
        .entrypoint = entrypoint,
        .greeting = (const uint8_t *)greeting,
        .greeting_len = strlen(greeting),
    };
    wait_done(w, w->engine->ops->start(w->engine, &launch, &events, on_started,
                                       w, NULL));
}

static void begin_start(struct world *w, const char *entrypoint)
{
    begin_start_with(w, entrypoint, "hello\n");
}

static enum cellar_code open_engine(struct world *w, const char *data)
{
    const char *name = getenv("CELLAR_ENGINE");
    struct cellar_engine_place place = {.state_dir = w->state_dir,
                                        .data_dir = data};
    w->oci = name && strcmp(name, "oci") == 0;
    name = getenv("CELLAR_RUNTIME");
    w->sandbox = w->oci && name && strcmp(name, "runsc") == 0;
    snprintf(w->state_dir, sizeof(w->state_dir), "/tmp/cellar-engine-XXXXXX");
    if (!w->oci)
        return cellar_docker_new(w->loop, NULL, data, NULL, NULL, &w->engine,
                                 NULL);
    if (!mkdtemp(w->state_dir))
        return CELLAR_E_SYS;
    return cellar_oci_new(w->loop, &place, &w->engine, NULL);
}

static int open_world(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    const char *data = getenv("CELLAR_DATA_DIR");
    if (!w || !data || cellar_loop_new(&w->loop, NULL) || open_engine(w, data))
        return -1;
    *state = w;
    return 0;
}

static void remove_empty(const char *dir, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s%s", dir, name);
    assert_true(rmdir(path) == 0 || errno == ENOENT);
}

static int close_world(void **state)
{
    struct world *w = *state;
    cellar_stream_close(w->stream);
    if (*w->id)
        wait_done(w,
                  w->engine->ops->remove(w->engine, w->id, on_done, w, NULL));
    w->engine->ops->free(w->engine);
    cellar_loop_free(w->loop);
    if (w->oci) {
        remove_empty(w->state_dir, "/oci/.run");
        remove_empty(w->state_dir, "/oci");
        remove_empty(w->state_dir, "");
    }
    free(w);
    return 0;
}

static void wait_bytes(struct world *w, uint64_t count)
{
    uint64_t end = cellar_loop_now_us() + UINT64_C(60000000);
    while (w->bytes < count && !w->closed && cellar_loop_now_us() < end)
        cellar_loop_run(w->loop, 100);
    assert_int_equal(w->bytes, count);
}

static void echoes_from_the_first_byte_on(void **state)
{
    struct world *w = *state;
    begin_start(w, "/bin/cat");
    assert_ok(w);
    wait_bytes(w, 6);
    assert_string_equal(w->last, "hello\n");
}

static void carries_more_than_any_buffer_holds(void **state)
{
    struct world *w = *state;
    const size_t len = 8u << 20;
    begin_start(w, "/bin/cat");
    assert_ok(w);
    uint8_t *data = malloc(len);
    assert_non_null(data);
    memset(data, 'z', len);
    assert_int_equal(cellar_stream_write(w->stream, data, len), CELLAR_OK);
    free(data);
    wait_bytes(w, 6 + len);
}

static void is_attached_to_again(void **state)
{
    struct world *w = *state;
    begin_start(w, "/bin/cat");
    wait_bytes(w, 6);
    for (int i = 0; i < 3; i++) {
        cellar_stream_close(w->stream);
        w->stream = NULL;
        w->bytes = 0;
        wait_done(w, w->engine->ops->attach(w->engine, w->id, 0, &events,
                                            on_started, w, NULL));
        assert_ok(w);
        assert_int_equal(
            cellar_stream_write(w->stream, (const uint8_t *)"again\n", 6),
            CELLAR_OK);
        wait_bytes(w, 6);
        assert_string_equal(w->last, "again\n");
    }
}

static void is_listed_with_its_labels(void **state)
{
    struct world *w = *state;
    begin_start(w, "/bin/cat");
    wait_done(w,
              w->engine->ops->list(w->engine, on_container, on_done, w, NULL));
    assert_ok(w);
    assert_int_equal(w->rows, 1);
}

static void is_gone_when_removed_and_says_so(void **state)
{
    struct world *w = *state;
    begin_start(w, "/bin/cat");
    for (int i = 0; i < 2; i++) {
        wait_done(w,
                  w->engine->ops->remove(w->engine, w->id, on_done, w, NULL));
        assert_ok(w);
    }
    wait_for(w, &w->closed);
    wait_done(w,
              w->engine->ops->diagnose(w->engine, w->id, on_reason, w, NULL));
    assert_non_null(strstr(w->reason, w->oci ? "removed from outside"
                                             : "killed from outside"));
    cellar_stream_close(w->stream);
    w->stream = NULL;
    wait_done(w, w->engine->ops->attach(w->engine, w->id, 0, &events,
                                        on_started, w, NULL));
    assert_int_equal(w->err.code, CELLAR_E_LOST);
}

static void run(const char *const argv[])
{
    int status = -1;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* What an administrator may do to a container: `docker WORD ID`, or the same of
 * the OCI runtime's. */
static void from_outside(const struct world *w, const char *word)
{
    const char *runtime = getenv("CELLAR_RUNTIME");
    char root[128];
    snprintf(root, sizeof(root), "%s/oci/.run", w->state_dir);
    if (!w->oci) {
        run((const char *[]){"docker", word, w->id, NULL});
        return;
    }
    if (strcmp(word, "unpause") == 0)
        word = "resume";
    run((const char *[]){runtime ? runtime : "runc", "--root", root, word,
                         w->id, strcmp(word, "kill") == 0 ? "KILL" : NULL,
                         NULL});
}

static void tells_paused_from_killed(void **state)
{
    struct world *w = *state;
    begin_start(w, "/bin/cat");
    wait_done(w,
              w->engine->ops->diagnose(w->engine, w->id, on_reason, w, NULL));
    assert_non_null(strstr(w->reason, "runs"));
    assert_int_equal(w->vital, CELLAR_VITAL_ALIVE);
    from_outside(w, "pause");
    wait_done(w,
              w->engine->ops->diagnose(w->engine, w->id, on_reason, w, NULL));
    assert_non_null(strstr(w->reason, w->oci ? "resume" : "docker unpause"));
    assert_int_equal(w->vital, CELLAR_VITAL_PAUSED);
    from_outside(w, "unpause");
    from_outside(w, "kill");
    wait_for(w, &w->closed);
    /* A kernel in user space ends some time after its last process. */
    uint64_t end = cellar_loop_now_us() + UINT64_C(30000000);
    do
        wait_done(
            w, w->engine->ops->diagnose(w->engine, w->id, on_reason, w, NULL));
    while (w->vital == CELLAR_VITAL_ALIVE && w->sandbox &&
           cellar_loop_now_us() < end);
    assert_true(strstr(w->reason, "killed") != NULL);
    assert_int_equal(w->vital, CELLAR_VITAL_GONE);
}

static void says_that_an_entrypoint_is_missing(void **state)
{
    struct world *w = *state;
    begin_start(w, "/nonexistent/agent");
    assert_int_equal(w->err.code, CELLAR_E_ENGINE);
    assert_non_null(strstr(w->err.msg, "/nonexistent/agent"));
    assert_string_equal(w->id, "");
}

static void passes_its_own_check(void **state)
{
    struct world *w = *state;
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.runtime = getenv("CELLAR_RUNTIME");
    wait_done(
        w, w->engine->ops->check(w->engine, &spec, on_row, on_done, w, NULL));
    assert_ok(w);
    assert_int_equal(w->failed, 0);
    assert_true(w->rows >= (w->oci ? 20 : 25));
}

static void finds_images_and_names_the_cure_of_missing_ones(void **state)
{
    struct world *w = *state;
    if (w->oci) {
        assert_int_equal(
            w->engine->ops->image_find(w->engine, "data", on_done, w, &w->err),
            CELLAR_E_USAGE);
        assert_non_null(strstr(w->err.msg, "--rootfs"));
        return;
    }
    wait_done(w, w->engine->ops->image_find(w->engine, "cellar-runtime:slim",
                                            on_done, w, NULL));
    assert_ok(w);
    wait_done(w, w->engine->ops->image_find(w->engine, "cellar-runtime:other",
                                            on_done, w, NULL));
    assert_int_equal(w->err.code, CELLAR_E_IMAGE);
    assert_non_null(strstr(w->err.msg, "cellar image build"));
}

/* --------------------------------------------------------------- lanes -- */

static void wait_said(struct world *w, const char *words)
{
    uint64_t end = cellar_loop_now_us() + UINT64_C(60000000);
    while (!strstr(w->said, words) && !w->closed && cellar_loop_now_us() < end)
        cellar_loop_run(w->loop, 100);
    if (!strstr(w->said, words))
        fail_msg("\"%s\" is not in \"%s\"; \"%s\"", words, w->said, w->text);
}

/* From the stream that there is to that of a lane. */
static void change_to_lane(struct world *w, uint64_t lane)
{
    cellar_stream_close(w->stream);
    w->stream = NULL;
    *w->said = *w->text = '\0';
    wait_done(w, w->engine->ops->attach(w->engine, w->id, lane, &events,
                                        on_started, w, NULL));
    assert_ok(w);
}

static void assert_text(struct world *w, const char *words)
{
    wait_for(w, &w->closed);
    if (!strstr(w->text, words))
        fail_msg("\"%s\" is not in \"%s\"", words, w->text);
    assert_string_equal(w->said, "");
}

static void a_relay_that_finds_no_agent_says_so_and_ends(void **state)
{
    struct world *w = *state;
    begin_start(w, "/bin/cat");
    assert_ok(w);
    change_to_lane(w, 1);
    assert_text(w, "cellar-relay: the agent takes no relays");
}

/* The agent's part: takes one relay, tells on its lane what it brought and
 * what a process of the same user may see of it, echoes a line, lets go. */
#define LISTENER                                                               \
    "python3 -I -c '\n"                                                        \
    "import os, socket, struct\n"                                              \
    "door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"            \
    "door.bind(\"\\0cellar-agent\")\n"                                         \
    "door.listen(1)\n"                                                         \
    "print(\"listens\", flush=True)\n"                                         \
    "relay, _ = door.accept()\n"                                               \
    "lane, (stdin, stdout), _, _ = socket.recv_fds(relay, 99, 9)\n"            \
    "pid, _, _ = struct.unpack(\"3i\", relay.getsockopt(\n"                    \
    "    socket.SOL_SOCKET, socket.SO_PEERCRED, 12))\n"                        \
    "def ask(call, name):\n"                                                   \
    "    try:\n"                                                               \
    "        call(\"/proc/%d/%s\" % (pid, name))\n"                            \
    "    except PermissionError:\n"                                            \
    "        return \"refused\"\n"                                             \
    "    return \"granted\"\n"                                                 \
    "stat = open(\"/proc/%d/stat\" % pid).read().rpartition(\")\")[2]\n"       \
    "said = [lane.hex(), \"parent\", stat.split()[1], ask(os.listdir, "        \
    "\"fd\"),\n"                                                               \
    "        ask(open, \"mem\"), ask(open, \"environ\")]\n"                    \
    "os.write(stdout, (\" \".join(said) + \"\\n\").encode())\n"                \
    "os.write(stdout, os.read(stdin, 99))\n"                                   \
    "os.close(stdout)\n"                                                       \
    "relay.close()\n"                                                          \
    "os.read(0, 1)\n"                                                          \
    "'"

static void a_relay_brings_its_stream_and_is_closed_to_its_user(void **state)
{
    struct world *w = *state;
    begin_start_with(w, "/bin/sh", "exec " LISTENER "\n");
    assert_ok(w);
    wait_said(w, "listens\n");
    change_to_lane(w, 4294967295);
    /* A kernel in user space names no peer to look at. */
    wait_said(w, w->sandbox
                     ? "00000000ffffffff parent 0 "
                     : "00000000ffffffff parent 0 refused refused refused\n");
    assert_false(w->closed);
    assert_int_equal(
        cellar_stream_write(w->stream, (const uint8_t *)"ping\n", 5),
        CELLAR_OK);
    wait_said(w, "ping\n");
    wait_for(w, &w->closed);
    assert_string_equal(w->text, "");
}

/* The agent's name is anybody's where no agent has taken it. */
static void a_relay_gives_nothing_to_another_process(void **state)
{
    struct world *w = *state;
    if (w->sandbox)
        return; /* who has it can't be told, so the agent takes it first */
    begin_start_with(w, "/bin/sh", LISTENER " &\n");
    assert_ok(w);
    wait_said(w, "listens\n");
    change_to_lane(w, 1);
    assert_text(w, "in the agent's place");
}

#define WORLD_TEST(name)                                                       \
    cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(echoes_from_the_first_byte_on),
        WORLD_TEST(carries_more_than_any_buffer_holds),
        WORLD_TEST(is_attached_to_again),
        WORLD_TEST(is_listed_with_its_labels),
        WORLD_TEST(is_gone_when_removed_and_says_so),
        WORLD_TEST(tells_paused_from_killed),
        WORLD_TEST(says_that_an_entrypoint_is_missing),
        WORLD_TEST(passes_its_own_check),
        WORLD_TEST(finds_images_and_names_the_cure_of_missing_ones),
        WORLD_TEST(a_relay_that_finds_no_agent_says_so_and_ends),
        WORLD_TEST(a_relay_brings_its_stream_and_is_closed_to_its_user),
        WORLD_TEST(a_relay_gives_nothing_to_another_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
