/* Many sessions of one supervisor at once: what each gives is its own, and
 * none waits for another. Real engine, real containers, one thread. Needs the
 * image cellar-runtime:slim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cellar/cellar.h"
#include "child.h"

#define MANY       24
#define LINES      2000
#define LINE_BYTES 32
#define QUIET      50 /* cells of the quiet one */

/* Longer than anything here takes; a test that hangs has to end. */
#define PATIENCE_S 120

struct one {
    unsigned number;
    struct cellar_session *session;
    bool under_way;
    struct cellar_error err;      /* of the last call */
    struct cellar_result *result; /* of the last cell; owned */
    char output[LINES * LINE_BYTES + 1];
    size_t output_len;
    uint64_t flood_bytes;
};

struct world {
    struct cellar *c;
    struct one many[MANY];
};

static void expect(enum cellar_code code, const struct cellar_error *err)
{
    if (code != CELLAR_OK)
        fail_msg("%s", err->msg);
}

/* -------------------------------------------------------------- calls -- */

static void on_session(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct one *one = user;
    one->session = s;
    one->err = err ? *err : (struct cellar_error){0};
    one->under_way = false;
}

static void on_output(void *user, int stream, const char *data, size_t len)
{
    struct one *one = user;
    (void)stream;
    one->flood_bytes += len;
    if (len > sizeof one->output - 1 - one->output_len)
        len = sizeof one->output - 1 - one->output_len;
    memcpy(one->output + one->output_len, data, len);
    one->output_len += len;
    one->output[one->output_len] = '\0';
}

static void on_result(void *user, struct cellar_result *result,
                      const struct cellar_error *err)
{
    struct one *one = user;
    (void)err;
    cellar_result_free(one->result);
    one->result = result;
    one->under_way = false;
}

static void run(struct one *one, const char *code)
{
    struct cellar_error err = {0};
    struct cellar_cell cell = {
        .code = code, .on_output = on_output, .user = one};
    one->output_len = 0;
    one->flood_bytes = 0;
    one->under_way = true;
    expect(cellar_run_async(one->session, &cell, on_result, one, &err), &err);
}

/* Runs the loop until it holds; a test that waits for ever fails. */
static void wait_until(struct world *w, bool (*holds)(struct world *w))
{
    time_t end = time(NULL) + PATIENCE_S;
    while (!holds(w)) {
        if (time(NULL) > end)
            fail_msg("it did not come true in %d s", PATIENCE_S);
        (void)cellar_dispatch(w->c, 100);
    }
}

static bool none_under_way(struct world *w)
{
    for (unsigned i = 0; i < MANY; i++)
        if (w->many[i].under_way)
            return false;
    return true;
}

static void wait_for_all(struct world *w)
{
    wait_until(w, none_under_way);
    for (unsigned i = 0; i < MANY; i++)
        expect(w->many[i].err.code, &w->many[i].err);
}

static void wait_for_one(struct world *w, struct one *one)
{
    time_t end = time(NULL) + PATIENCE_S;
    while (one->under_way && time(NULL) <= end)
        (void)cellar_dispatch(w->c, 100);
    assert_false(one->under_way);
}

static void run_in_all(struct world *w, const char *code)
{
    for (unsigned i = 0; i < MANY; i++)
        run(&w->many[i], code);
}

/* The value that the session's last cell gave. */
static void assert_gave(const struct one *one, const char *text)
{
    assert_non_null(one->result);
    assert_string_equal("ok", cellar_status_name(one->result->status));
    assert_string_equal(text, cellar_result_text(one->result));
}

static void assert_own_number(const struct one *one, unsigned factor)
{
    char text[32];
    snprintf(text, sizeof text, "%u", one->number * factor);
    assert_gave(one, text);
}

/* -------------------------------------------------------------- world -- */

/* All started at once, named and so written down; each is told its number. */
static int start_all(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct cellar_error err = {0};
    struct cellar_spec spec;
    cellar_spec_init(&spec);
    spec.lease_ms = 60000; /* should this process die */
    *state = w;
    assert_non_null(w);
    expect(cellar_new(NULL, &w->c, &err), &err);
    for (unsigned i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof name, "many-%ld-%u", (long)getpid(), i + 1);
        spec.name = name;
        w->many[i].number = i + 1;
        w->many[i].under_way = true;
        expect(cellar_start_async(w->c, &spec, on_session, &w->many[i], &err),
               &err);
    }
    wait_for_all(w);
    for (unsigned i = 0; i < MANY; i++) {
        char code[32];
        snprintf(code, sizeof code, "me = %u", w->many[i].number);
        run(&w->many[i], code);
    }
    wait_for_all(w);
    return 0;
}

static int stop_all(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    for (unsigned i = 0; i < MANY; i++) {
        w->many[i].under_way = true;
        expect(cellar_stop_async(w->many[i].session, on_session, &w->many[i],
                                 &err),
               &err);
    }
    wait_for_all(w);
    cellar_free(w->c);
    for (unsigned i = 0; i < MANY; i++)
        cellar_result_free(w->many[i].result);
    free(w);
    return 0;
}

/* -------------------------------------------------------------- tests -- */

static void each_answers_for_itself(void **state)
{
    struct world *w = *state;
    for (unsigned round = 1; round <= 20; round++) {
        char code[32];
        snprintf(code, sizeof code, "me * %u", round);
        run_in_all(w, code);
        wait_for_all(w);
        for (unsigned i = 0; i < MANY; i++)
            assert_own_number(&w->many[i], round);
    }
}

static void all_stream_their_own(void **state)
{
    struct world *w = *state;
    char line[LINE_BYTES + 1];
    run_in_all(w, "for i in range(2000): print('%015d-%015d' % (me, i))");
    wait_for_all(w);
    for (unsigned i = 0; i < MANY; i++) {
        const struct one *one = &w->many[i];
        assert_int_equal(LINES * LINE_BYTES, one->output_len);
        for (unsigned k = 0; k < LINES; k++) {
            snprintf(line, sizeof line, "%015u-%015u\n", one->number, k);
            assert_memory_equal(line, one->output + k * LINE_BYTES, LINE_BYTES);
        }
        assert_memory_equal(one->output, one->result->stdout_text,
                            one->output_len);
    }
}

static bool all_have_written(struct world *w)
{
    for (unsigned i = 0; i < MANY; i++)
        if (w->many[i].output_len == 0)
            return false;
    return true;
}

static void all_are_interrupted(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    run_in_all(w, "try:\n"
                  "    print('begun', flush=True)\n"
                  "    import time\n"
                  "    time.sleep(600)\n"
                  "finally:\n"
                  "    print(me, flush=True)");
    wait_until(w, all_have_written);
    for (unsigned i = 0; i < MANY; i++)
        expect(cellar_interrupt(w->many[i].session, &err), &err);
    wait_for_all(w);
    for (unsigned i = 0; i < MANY; i++) {
        char text[32];
        const struct cellar_result *result = w->many[i].result;
        snprintf(text, sizeof text, "begun\n%u\n", w->many[i].number);
        assert_string_equal("interrupted", cellar_status_name(result->status));
        assert_string_equal(text, result->stdout_text);
    }
    run_in_all(w, "me");
    wait_for_all(w);
    for (unsigned i = 0; i < MANY; i++)
        assert_own_number(&w->many[i], 1);
}

static bool three_flood(struct world *w)
{
    for (unsigned i = 1; i <= 3; i++)
        if (w->many[i].flood_bytes < 1 << 20)
            return false;
    return true;
}

/* The floods end by an interrupt only: the quiet one's cells are all through
 * while they still run. */
static void a_quiet_one_is_served_beside_floods(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    for (unsigned i = 1; i <= 3; i++)
        run(&w->many[i], "while True: print('x' * 4000)");
    wait_until(w, three_flood);
    for (unsigned k = 0; k < QUIET; k++) {
        run(&w->many[0], "me");
        wait_for_one(w, &w->many[0]);
        assert_own_number(&w->many[0], 1);
    }
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(w->many[i].under_way);
        expect(cellar_interrupt(w->many[i].session, &err), &err);
    }
    wait_for_all(w);
    for (unsigned i = 1; i <= 3; i++) {
        assert_string_equal("interrupted",
                            cellar_status_name(w->many[i].result->status));
        assert_true(w->many[i].result->truncated);
    }
}

static void from_outside(const char *word, const struct one *one)
{
    const char *id = cellar_session_container(one->session);
    assert_int_equal(0, child_from_outside(word, id));
}

static void a_paused_one_holds_up_no_other(void **state)
{
    struct world *w = *state;
    struct one *paused = &w->many[MANY - 1];
    from_outside("pause", paused);
    run_in_all(w, "me * 3");
    for (unsigned i = 0; i < MANY - 1; i++) {
        wait_for_one(w, &w->many[i]);
        assert_own_number(&w->many[i], 3);
    }
    assert_true(paused->under_way);
    from_outside("unpause", paused);
    wait_for_one(w, paused);
    assert_own_number(paused, 3);
}

static void all_are_reset(void **state)
{
    struct world *w = *state;
    struct cellar_error err = {0};
    for (unsigned i = 0; i < MANY; i++) {
        w->many[i].under_way = true;
        expect(cellar_reset_async(w->many[i].session, on_session, &w->many[i],
                                  &err),
               &err);
    }
    wait_for_all(w);
    run_in_all(w, "'me' in globals()");
    wait_for_all(w);
    for (unsigned i = 0; i < MANY; i++)
        assert_gave(&w->many[i], "False");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_answers_for_itself),
        cmocka_unit_test(all_stream_their_own),
        cmocka_unit_test(all_are_interrupted),
        cmocka_unit_test(a_quiet_one_is_served_beside_floods),
        cmocka_unit_test(a_paused_one_holds_up_no_other),
        cmocka_unit_test(all_are_reset),
    };
    return cmocka_run_group_tests_name("many", tests, start_all, stop_all);
}
