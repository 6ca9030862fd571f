/* What became of a container, by what an engine says of it: for good or not,
 * and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "count_fds.h"
#include "kernel/engine/engine.h"
#include "scripted.h"

struct fate {
    bool done;
    enum cellar_vital vital;
    char reason[512];
};

static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    struct fate *fate = user;
    assert_false(fate->done);
    fate->done = true;
    fate->vital = vital;
    snprintf(fate->reason, sizeof(fate->reason), "%s", reason);
}

static struct fate diagnose(const struct line *lines)
{
    struct fate fate = {0};
    int fds = count_fds();
    struct scripted *s = scripted_start(lines, scripted_good);
    struct cellar_loop *loop = NULL;
    struct cellar_engine *engine = NULL;
    assert_int_equal(cellar_loop_new(&loop, NULL), CELLAR_OK);
    assert_int_equal(cellar_docker_new(loop, scripted_host(s),
                                       CELLAR_SOURCE_DIR "/kernel/engine", NULL,
                                       NULL, &engine, NULL),
                     CELLAR_OK);
    assert_int_equal(
        engine->ops->diagnose(engine, "abc", on_reason, &fate, NULL),
        CELLAR_OK);
    uint64_t end = cellar_loop_now_us() + UINT64_C(30000000);
    while (!fate.done && cellar_loop_now_us() < end)
        cellar_loop_run(loop, 100);
    assert_true(fate.done);
    engine->ops->free(engine);
    cellar_loop_free(loop);
    scripted_stop(s);
    assert_int_equal(count_fds(), fds);
    return fate;
}

#define DIE(code)                                                              \
    "{\"Action\":\"die\",\"Actor\":{\"Attributes\":{\"exitCode\":\"" code      \
    "\"}}}\n"
#define KILL(signal)                                                           \
    "{\"Action\":\"kill\",\"Actor\":{\"Attributes\":{\"signal\":\"" signal     \
    "\"}}}\n"
#define OOM       "{\"Action\":\"oom\"}\n"
#define DESTROY   "{\"Action\":\"destroy\"}\n"
#define NOT_FOUND "HTTP/1.1 404 Not Found\r\n\r\n{}"
#define ENDED(code, oom)                                                       \
    SCRIPTED_OK "{\"HostConfig\":{\"Memory\":67108864},\"State\":{"            \
                "\"Running\":false,\"Status\":\"exited\",\"OOMKilled\":" oom   \
                ",\"ExitCode\":" code "}}"

/* A container that is gone: its description, the engine's events, and the
 * reason, or words of it. */
static const struct {
    const char *description;
    const char *events;
    const char *reason;
} gone[] = {
    /* It ended by itself. */
    {ENDED("0", "false"), SCRIPTED_OK DIE("0"),
     "the container ended: its lease or its lifetime was over"},
    {ENDED("0", "false"), SCRIPTED_OK,
     "the container ended: its lease or its lifetime was over, or the engine "
     "stopped it"},
    {ENDED("1", "false"), SCRIPTED_OK DIE("1"), "unprotected"},
    {ENDED("2", "false"), SCRIPTED_OK DIE("2"), "not greeted"},
    {ENDED("3", "false"), SCRIPTED_OK DIE("3"), "its agent failed"},
    {ENDED("77", "false"), SCRIPTED_OK DIE("77"), "exited with status 77"},
    {ENDED("139", "false"), SCRIPTED_OK DIE("139"), "killed by signal 11"},
    {ENDED("137", "false"), SCRIPTED_OK DIE("137"), "killed by signal 9"},
    /* Somebody ended it. */
    {ENDED("137", "false"), SCRIPTED_OK KILL("9") DIE("137"),
     "killed from outside"},
    {ENDED("137", "false"), SCRIPTED_OK DIE("137") KILL("9"),
     "killed from outside"},
    {ENDED("0", "false"), SCRIPTED_OK KILL("15") DIE("0"),
     "stopped from outside"},
    {NOT_FOUND, SCRIPTED_OK KILL("9") DIE("137") DESTROY,
     "killed from outside"},
    {NOT_FOUND, SCRIPTED_OK DIE("0") DESTROY, "lease"},
    {NOT_FOUND, SCRIPTED_OK, "removed from outside"},
    /* A signal that does not kill is nobody's end. */
    {ENDED("0", "false"), SCRIPTED_OK KILL("1") DIE("0"), "lease"},
    /* Out of memory: the agent, or some process that it outlived. */
    {ENDED("137", "true"), SCRIPTED_OK OOM DIE("137"), "limited to 64 MiB"},
    {ENDED("137", "true"), SCRIPTED_OK, "OOM killer"},
    {ENDED("0", "true"), SCRIPTED_OK OOM DIE("0"), "lease"},
    {ENDED("137", "true"), SCRIPTED_OK OOM KILL("9") DIE("137"),
     "killed from outside"},
    {NOT_FOUND, SCRIPTED_OK OOM DIE("137") DESTROY, "OOM killer"},
    /* Without events, or with such that make no sense. */
    {NOT_FOUND, "HTTP/1.1 500 Oops\r\n\r\n", "removed from outside"},
    {ENDED("3", "false"), "", "its agent failed"},
    {ENDED("3", "false"), SCRIPTED_OK "\n[]\nnull\n{{{\n{\"Action\":7}",
     "its agent failed"},
    /* A start that was cut off. */
    {SCRIPTED_OK "{\"State\":{\"Running\":false,\"Status\":\"created\"}}",
     SCRIPTED_OK, "never started"},
};

static void what_is_gone_is_gone_for_good_and_says_why(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(gone) / sizeof(*gone); i++) {
        const struct line lines[] = {
            {"/containers/abc/json", CUT, gone[i].description, 0},
            {"/events?", CUT, gone[i].events, 0},
            {NULL, SAY, NULL, 0}};
        struct fate fate = diagnose(lines);
        assert_int_equal(fate.vital, CELLAR_VITAL_GONE);
        bool whole = strncmp(gone[i].reason, "the container", 13) == 0;
        if (whole)
            assert_string_equal(fate.reason, gone[i].reason);
        else if (!strstr(fate.reason, gone[i].reason))
            fail_msg("%zu: \"%s\" is not in \"%s\"", i, gone[i].reason,
                     fate.reason);
    }
}

/* What it says while the container may still be there. */
static const struct {
    const char *description;
    enum cellar_vital vital;
    const char *reason;
} lasting[] = {
    {SCRIPTED_OK "{\"State\":{\"Running\":true}}", CELLAR_VITAL_ALIVE, "runs"},
    {SCRIPTED_OK "{\"State\":{\"Running\":true,\"Paused\":true}}",
     CELLAR_VITAL_PAUSED, "docker unpause abc"},
    {SCRIPTED_OK "{\"State\":{}}", CELLAR_VITAL_UNKNOWN, "does not say"},
    {SCRIPTED_OK "[]", CELLAR_VITAL_UNKNOWN, "does not say"},
    {SCRIPTED_OK "", CELLAR_VITAL_UNKNOWN, "does not say"},
    {"HTTP/1.1 500 Oops\r\n\r\n{\"message\":\"boo\"}", CELLAR_VITAL_UNKNOWN,
     "boo"},
    {"HTTP/1.1 503 Busy\r\n\r\n", CELLAR_VITAL_UNKNOWN, "503"},
    {"", CELLAR_VITAL_UNKNOWN, "cut the connection"},
};

static void what_may_be_there_is_not_given_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(lasting) / sizeof(*lasting); i++) {
        const struct line lines[] = {
            {"/containers/abc/json", CUT, lasting[i].description, 0},
            {NULL, SAY, NULL, 0}};
        struct fate fate = diagnose(lines);
        assert_int_equal(fate.vital, lasting[i].vital);
        if (!strstr(fate.reason, lasting[i].reason))
            fail_msg("%zu: \"%s\" is not in \"%s\"", i, lasting[i].reason,
                     fate.reason);
    }
}

static void an_engine_that_is_silent_is_asked_again(void **state)
{
    (void)state;
    const struct line lines[] = {{"/version", CUT, "", 0},
                                 {NULL, SAY, NULL, 0}};
    struct fate fate = diagnose(lines);
    assert_int_equal(fate.vital, CELLAR_VITAL_UNKNOWN);
    assert_non_null(strstr(fate.reason, "cut the connection"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_gone_is_gone_for_good_and_says_why),
        cmocka_unit_test(what_may_be_there_is_not_given_up),
        cmocka_unit_test(an_engine_that_is_silent_is_asked_again),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
