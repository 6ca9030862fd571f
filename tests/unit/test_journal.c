/* The journal: what is stored comes back the same, once, and takes no more room
 * than it must. */
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

#include "journal_fixture.h"

static void every_result_comes_back_the_same(void **state)
{
    struct journal_fixture *f = *state;
    char *wanted[42];
    for (unsigned kind = 0; kind < 42; kind++) {
        struct cellar_result *result = make_result(kind + 1, kind);
        wanted[kind] = cellar_result_json(result);
        store(f, result, true);
        cellar_result_free(result);
    }
    reopen(f);
    struct seen seen = look(f);
    assert_int_equal(seen.count, 42);
    for (unsigned kind = 0; kind < 42; kind++) {
        assert_string_equal(seen.json[kind], wanted[kind]);
        free(wanted[kind]);
    }
    forget(&seen);
}

static void a_session_is_found_again_by_its_container(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_record same = record_of("a", "c1");
    struct cellar_record other = record_of("a", "c2");
    struct cellar_journal_place place = {0};
    uint64_t newest = 0;
    store_ok(f, 1);
    store_ok(f, 2);
    must(f, cellar_journal_session(f->journal, &same, &place, &f->err));
    assert_int_equal(place.session, f->place.session);
    assert_int_equal(place.last_cell, 2);
    assert_int_equal(place.delivered, 20);
    assert_false(place.ended);
    must(f, cellar_journal_session(f->journal, &other, &place, &f->err));
    assert_int_not_equal(place.session, f->place.session);
    assert_int_equal(place.last_cell, 0);
    must(f, cellar_journal_find(f->journal, "a", &newest, &f->err));
    assert_int_equal(newest, place.session);
    assert_int_equal(cellar_journal_find(f->journal, "b", &newest, &f->err),
                     CELLAR_E_NOT_FOUND);
}

/* -------------------------------------------------------------- branches - */

/* The session of a branch in the container of "a", as its adopter finds it. */
static struct cellar_journal_place branch_of(struct journal_fixture *f,
                                             uint64_t after, uint64_t lane)
{
    struct cellar_record branch = record_of("b", "c1");
    struct cellar_journal_place place = {0};
    branch.lane = lane;
    must(f, cellar_journal_branch(f->journal, f->place.session, after, &branch,
                                  &f->err));
    must(f, cellar_journal_session(f->journal, &branch, &place, &f->err));
    return place;
}

static void a_branch_begins_with_its_parents_past(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_journal_place parent = f->place;
    struct cellar_result *untold = make_result(43, 1);
    for (unsigned kind = 0; kind < 42; kind++) {
        struct cellar_result *result = make_result(kind + 1, kind);
        store(f, result, true);
        cellar_result_free(result);
    }
    struct seen wanted = look(f);
    store(f, untold, false);
    f->place = branch_of(f, 42, 1);
    reopen(f);
    assert_int_not_equal(f->place.session, parent.session);
    assert_int_equal(f->place.last_cell, 42);
    assert_int_equal(f->place.delivered, 0); /* of a lane of its own */
    struct seen seen = look(f);
    assert_int_equal(seen.count, wanted.count);
    for (size_t i = 0; i < seen.count; i++)
        assert_string_equal(seen.json[i], wanted.json[i]);
    forget(&wanted);
    forget(&seen);
    cellar_result_free(untold);
    store_ok(f, 43);
    assert_cells(f, 43);
    f->place = parent;
    assert_cells(f, 43);
}

static void
a_branch_has_neither_what_runs_nor_what_nobody_was_told(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_journal_place parent = f->place;
    struct cellar_result *result = make_result(1, 1);
    store(f, result, false);
    must(f, cellar_journal_begin(f->journal, parent.session, 2, CODE,
                                 strlen(CODE), 0, &f->err));
    f->place = branch_of(f, 2, 1);
    assert_cells(f, 1);
    cellar_result_free(result);
    must(f, cellar_journal_take_untold(f->journal, f->place.session, &result,
                                       &f->err));
    assert_null(result);
    must(f, cellar_journal_take_untold(f->journal, parent.session, &result,
                                       &f->err));
    assert_non_null(result);
    cellar_result_free(result);
}

static void branches_of_a_container_end_one_by_one(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_journal_place parent = f->place;
    struct cellar_record same = record_of("a", "c1");
    store_ok(f, 1);
    struct cellar_journal_place first = branch_of(f, 1, 1);
    struct cellar_journal_place eleventh = branch_of(f, 1, 11);
    assert_int_not_equal(first.session, eleventh.session);
    must(f, cellar_journal_end_session(f->journal, "c1/1", "stopped", NULL,
                                       &f->err));
    must(f, cellar_journal_session(f->journal, &same, &parent, &f->err));
    assert_int_equal(parent.session, f->place.session);
    assert_false(parent.ended);
    same.lane = 1;
    must(f, cellar_journal_session(f->journal, &same, &first, &f->err));
    assert_true(first.ended);
    same.lane = 11;
    must(f, cellar_journal_session(f->journal, &same, &eleventh, &f->err));
    assert_false(eleventh.ended);
}

/* ------------------------------------------------------ a cell that runs - */

static void output_so_far_is_gone_on_with(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_collect collect;
    struct cellar_collect again;
    struct cellar_journal_mark mark = {0};
    struct cellar_journal_mark found = {0};
    char text[1000];
    collect_init(&collect, 1);
    collect_init(&again, 1);
    must(f, cellar_journal_begin(f->journal, f->place.session, 1, CODE,
                                 strlen(CODE), 1234, &f->err));
    for (unsigned i = 0; i < 300; i++) {
        memset(text, 'a' + (int)(i % 26), sizeof text);
        collect_text(&collect, 1 + (int)(i % 2), text, sizeof text);
        if (i % 40 == 0)
            collect_display(&collect, 2);
        must(f, cellar_journal_output(f->journal, f->place.session, 1, &collect,
                                      &mark, i, &f->err));
    }
    reopen(f);
    must(f, cellar_journal_resume(f->journal, f->place.session, 1, &again,
                                  &found, &f->err));
    assert_memory_equal(&found, &mark, sizeof mark);
    assert_int_equal(again.limits.timeout_ms, 1234);
    struct cellar_result *a = cellar_collect_take(&collect);
    struct cellar_result *b = cellar_collect_take(&again);
    char *wanted = cellar_result_json(a);
    char *json = cellar_result_json(b);
    assert_string_equal(json, wanted);
    bool first = false;
    must(f, cellar_journal_end(f->journal, f->place.session, b, &found, true,
                               300, &first, &f->err));
    struct seen seen = look(f);
    assert_string_equal(seen.json[0], wanted);
    forget(&seen);
    free(wanted);
    free(json);
    cellar_result_free(a);
    cellar_result_free(b);
}

static void a_cell_has_one_end(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_journal_mark none = {0};
    bool first = true;
    struct cellar_result *result = make_result(1, 1);
    store(f, result, true);
    result->status = CELLAR_STATUS_TIMEOUT;
    must(f, cellar_journal_end(f->journal, f->place.session, result, &none,
                               true, 10, &first, &f->err));
    assert_false(first);
    cellar_result_free(result);
    struct seen seen = look(f);
    assert_int_equal(seen.count, 1);
    assert_null(strstr(seen.json[0], "timeout\","));
    forget(&seen);
}

static void what_nobody_was_told_of_is_told_once(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_result *taken = NULL;
    store_ok(f, 1);
    for (uint64_t cell = 2; cell < 4; cell++) {
        struct cellar_result *result = make_result(cell, 1);
        store(f, result, false);
        cellar_result_free(result);
    }
    for (uint64_t cell = 2; cell < 4; cell++) {
        must(f, cellar_journal_take_untold(f->journal, f->place.session, &taken,
                                           &f->err));
        assert_non_null(taken);
        assert_int_equal(taken->cell, cell);
        cellar_result_free(taken);
        taken = NULL;
    }
    must(f, cellar_journal_take_untold(f->journal, f->place.session, &taken,
                                       &f->err));
    assert_null(taken);
}

static void the_end_of_a_session_ends_its_cells(void **state)
{
    struct journal_fixture *f = *state;
    must(f, cellar_journal_begin(f->journal, f->place.session, 1, CODE,
                                 strlen(CODE), 0, &f->err));
    must(f, cellar_journal_end_session(f->journal, "c1", "lost", "its disk",
                                       &f->err));
    must(f, cellar_journal_end_session(f->journal, "c1", "stopped", NULL,
                                       &f->err));
    struct seen seen = look(f);
    assert_non_null(strstr(seen.json[0], "\"status\":\"lost\""));
    assert_non_null(strstr(seen.json[0], "its disk"));
    forget(&seen);
}

/* ------------------------------------------------------------- its size -- */

static void store_large(struct journal_fixture *f, uint64_t cell, size_t len,
                        unsigned salt)
{
    struct cellar_collect collect;
    struct cellar_msg_done done = {.status = CELLAR_STATUS_OK};
    char *text = malloc(len);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + (i * i / 977 + salt) % 26);
    collect_init(&collect, cell);
    collect_text(&collect, 1, text, len);
    assert_int_equal(cellar_collect_finish(&collect, &done), CELLAR_OK);
    struct cellar_result *result = cellar_collect_take(&collect);
    store(f, result, true);
    cellar_result_free(result);
    free(text);
}

static void a_large_output_is_stored_once(void **state)
{
    struct journal_fixture *f = *state;
    for (uint64_t cell = 1; cell <= 4; cell++)
        store_large(f, cell, 5 << 20, 0);
    cellar_journal_close(f->journal);
    assert_true(file_size(f) < 8 << 20);
    open_journal(f);
    assert_cells(f, 4);
}

static struct cellar_pruned prune(struct journal_fixture *f, uint64_t age,
                                  uint64_t bytes)
{
    struct cellar_pruned pruned = {0};
    must(f, cellar_journal_prune(f->journal, age, bytes, &pruned, &f->err));
    return pruned;
}

static void old_sessions_go_and_live_ones_stay(void **state)
{
    struct journal_fixture *f = *state;
    struct cellar_record other = record_of("b", "c2");
    struct cellar_journal_place place = {0};
    store_large(f, 1, 1 << 20, 0);
    must(f, cellar_journal_session(f->journal, &other, &place, &f->err));
    must(f, cellar_journal_begin(f->journal, place.session, 1, CODE,
                                 strlen(CODE), 0, &f->err));
    assert_int_equal(prune(f, 3600000, UINT64_MAX).sessions, 0);
    must(f, cellar_journal_end_session(f->journal, "c1", "stopped", NULL,
                                       &f->err));
    usleep(2000);
    struct cellar_pruned pruned = prune(f, 0, UINT64_MAX);
    assert_int_equal(pruned.sessions, 1);
    assert_true(pruned.bytes > 1 << 20);
    assert_true(file_size(f) < 1 << 20);
    f->place = place;
    assert_cells(f, 1);
}

static void a_branch_keeps_its_past_when_the_parent_goes(void **state)
{
    struct journal_fixture *f = *state;
    store_large(f, 1, 1 << 20, 0);
    struct seen wanted = look(f);
    f->place = branch_of(f, 1, 1);
    must(f, cellar_journal_end_session(f->journal, "c1", "stopped", NULL,
                                       &f->err));
    usleep(2000);
    assert_int_equal(prune(f, 0, UINT64_MAX).sessions, 1);
    struct seen seen = look(f);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.json[0], wanted.json[0]);
    forget(&wanted);
    forget(&seen);
}

static void outputs_go_when_there_is_too_much(void **state)
{
    struct journal_fixture *f = *state;
    for (uint64_t cell = 1; cell <= 3; cell++)
        store_large(f, cell, (size_t)cell << 20, (unsigned)cell);
    assert_int_equal(prune(f, UINT64_MAX, UINT64_C(4) << 20).cells, 2);
    struct seen seen = look(f);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.pruned, 2);
    forget(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_result_comes_back_the_same),
        T(a_session_is_found_again_by_its_container),
        T(a_branch_begins_with_its_parents_past),
        T(a_branch_has_neither_what_runs_nor_what_nobody_was_told),
        T(branches_of_a_container_end_one_by_one),
        T(a_branch_keeps_its_past_when_the_parent_goes),
        T(output_so_far_is_gone_on_with),
        T(a_cell_has_one_end),
        T(what_nobody_was_told_of_is_told_once),
        T(the_end_of_a_session_ends_its_cells),
        T(a_large_output_is_stored_once),
        T(old_sessions_go_and_live_ones_stay),
        T(outputs_go_when_there_is_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
