/* The journal: what is stored comes back the same, once; and what goes wrong
 * with the file harms nothing that was stored. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/journal.h"

#define CODE "print('x')"

struct fixture {
    char dir[64];
    struct cellar_journal *journal;
    struct cellar_journal_place place;
    struct cellar_error err;
};

static struct cellar_record record_of(const char *name, const char *container)
{
    struct cellar_record record = {.created = 1700000000};
    (void)snprintf(record.name, sizeof record.name, "%s", name);
    (void)snprintf(record.container, sizeof record.container, "%s", container);
    (void)snprintf(record.engine, sizeof record.engine, "docker");
    return record;
}

static void path_of(const struct fixture *f, char path[128], const char *end)
{
    (void)snprintf(path, 128, "%s/journal.db%s", f->dir, end);
}

static void open_journal(struct fixture *f)
{
    if (cellar_journal_open(f->dir, &f->journal, &f->err) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
}

static void reopen(struct fixture *f)
{
    cellar_journal_close(f->journal);
    open_journal(f);
}

static void must(struct fixture *f, enum cellar_code code)
{
    if (code != CELLAR_OK)
        fail_msg("%s", f->err.msg);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct cellar_record record = record_of("a", "c1");
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/cellar-journal-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    open_journal(f);
    must(f, cellar_journal_session(f->journal, &record, &f->place, &f->err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[128];
    static const char *const ends[] = {"", "-wal", "-shm", ".old"};
    cellar_journal_close(f->journal);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        path_of(f, path, ends[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* ------------------------------------------------- results for storing -- */

static void collect_text(struct cellar_collect *collect, int stream,
                         const char *text, size_t len)
{
    assert_int_equal(
        cellar_collect_output(collect, stream, (const uint8_t *)text, len),
        len);
}

static void collect_display(struct cellar_collect *collect, size_t parts)
{
    struct cellar_msg_display display = {.count = parts};
    for (size_t i = 0; i < parts; i++)
        display.parts[i] = (struct cellar_mime_part){
            {(const uint8_t *)(i ? "image/png" : "text/plain"), i ? 9 : 10},
            {(const uint8_t *)"iVBORw0KGgo=", 12}};
    cellar_collect_display(collect, &display);
}

static void collect_init(struct cellar_collect *collect, uint64_t cell)
{
    struct cellar_limits limits = {
        .timeout_ms = 2000, .memory_bytes = 1 << 20, .output_bytes = 64 << 20};
    assert_int_equal(cellar_collect_init(collect, cell, &limits), CELLAR_OK);
}

/* Every kind of ending, with every field that it may have. */
static struct cellar_result *make_result(uint64_t cell, unsigned kind)
{
    struct cellar_collect collect;
    struct cellar_msg_done done = {
        .wall_us = 12, .cpu_us = 34, .peak_memory_bytes = UINT64_C(1) << 40};
    collect_init(&collect, cell);
    done.status = kind % 7;
    if (kind % 2)
        collect_text(&collect, 1, "out\n", 4);
    if (kind % 3 == 0)
        collect_text(&collect, 2, "bad \xff byte\n", 11);
    for (unsigned i = 0; i < kind % 4; i++)
        collect_display(&collect, i % 2 + 1);
    done.state = kind % 3;
    done.restored_from = done.state == CELLAR_STATE_RESTORED ? 1 : 0;
    if (done.status == CELLAR_STATUS_OK && kind > 6) {
        done.parts = 2;
        done.result[0] =
            (struct cellar_mime_part){{(const uint8_t *)"text/plain", 10},
                                      {(const uint8_t *)"4\0"
                                                        "2",
                                       3}};
        done.result[1] = (struct cellar_mime_part){
            {(const uint8_t *)"text/html", 9}, {(const uint8_t *)"", 0}};
    }
    if (done.status == CELLAR_STATUS_ERROR) {
        done.has_error = true;
        done.error_name =
            (struct cellar_bytes){(const uint8_t *)"ValueError", 10};
        done.error_message = (struct cellar_bytes){(const uint8_t *)"", 0};
        done.traceback = (struct cellar_bytes){(const uint8_t *)"a\nb", 3};
    }
    if (done.status == CELLAR_STATUS_TIMEOUT)
        done.limit = CELLAR_LIMIT_TIMEOUT;
    if (done.status == CELLAR_STATUS_OUT_OF_MEMORY)
        done.limit = CELLAR_LIMIT_MEMORY;
    if (kind > 20)
        done.dropped_stdout = 77;
    done.code = done.status == CELLAR_STATUS_KILLED   ? 11
                : done.status == CELLAR_STATUS_EXITED ? 3
                                                      : 0;
    assert_int_equal(cellar_collect_finish(&collect, &done), CELLAR_OK);
    return cellar_collect_take(&collect);
}

static void store(struct fixture *f, const struct cellar_result *result,
                  bool told)
{
    struct cellar_journal_mark none = {0};
    bool first = false;
    must(f, cellar_journal_begin(f->journal, f->place.session, result->cell,
                                 CODE, strlen(CODE), 2000, &f->err));
    must(f, cellar_journal_end(f->journal, f->place.session, result, &none,
                               told, result->cell * 10, &first, &f->err));
    assert_true(first);
}

static void store_ok(struct fixture *f, uint64_t cell)
{
    struct cellar_result *result = make_result(cell, 1);
    result->status = CELLAR_STATUS_OK;
    store(f, result, true);
    cellar_result_free(result);
}

/* ------------------------------------------------------ what comes back -- */

struct seen {
    size_t count, pruned;
    char *json[64];
    uint64_t first;
};

static void see(void *user, const struct cellar_entry *entry)
{
    struct seen *seen = user;
    assert_true(seen->count < 64);
    assert_int_equal(entry->code_len, strlen(CODE));
    if (seen->count == 0)
        seen->first = entry->cell;
    seen->pruned += entry->pruned;
    seen->json[seen->count++] = cellar_result_json(entry->result);
}

static struct seen look(struct fixture *f)
{
    struct seen seen = {0};
    must(f, cellar_journal_cells(f->journal, f->place.session, 0, see, &seen,
                                 &f->err));
    return seen;
}

static void forget(struct seen *seen)
{
    for (size_t i = 0; i < seen->count; i++)
        free(seen->json[i]);
}

static void assert_cells(struct fixture *f, size_t count)
{
    struct seen seen = look(f);
    assert_int_equal(seen.count, count);
    forget(&seen);
}

static void every_result_comes_back_the_same(void **state)
{
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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

/* ------------------------------------------------------ a cell that runs - */

static void output_so_far_is_gone_on_with(void **state)
{
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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
    struct fixture *f = *state;
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

static uint64_t file_size(const struct fixture *f)
{
    char path[128];
    struct stat is = {0};
    path_of(f, path, "");
    assert_int_equal(stat(path, &is), 0);
    return (uint64_t)is.st_size;
}

static void store_large(struct fixture *f, uint64_t cell, size_t len,
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
    struct fixture *f = *state;
    for (uint64_t cell = 1; cell <= 4; cell++)
        store_large(f, cell, 5 << 20, 0);
    cellar_journal_close(f->journal);
    assert_true(file_size(f) < 8 << 20);
    open_journal(f);
    assert_cells(f, 4);
}

static struct cellar_pruned prune(struct fixture *f, uint64_t age,
                                  uint64_t bytes)
{
    struct cellar_pruned pruned = {0};
    must(f, cellar_journal_prune(f->journal, age, bytes, &pruned, &f->err));
    return pruned;
}

static void old_sessions_go_and_live_ones_stay(void **state)
{
    struct fixture *f = *state;
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

static void outputs_go_when_there_is_too_much(void **state)
{
    struct fixture *f = *state;
    for (uint64_t cell = 1; cell <= 3; cell++)
        store_large(f, cell, (size_t)cell << 20, (unsigned)cell);
    assert_int_equal(prune(f, UINT64_MAX, UINT64_C(4) << 20).cells, 2);
    struct seen seen = look(f);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.pruned, 2);
    forget(&seen);
}

/* ------------------------------------------------------- what goes wrong - */

static void a_full_disk_is_told_and_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct rlimit before;
    struct cellar_journal_mark none = {0};
    bool first = false;
    store_ok(f, 1);
    struct cellar_result *result = make_result(2, 1);
    free(result->stdout_text);
    result->stdout_text = calloc(1, (4 << 20) + 1);
    assert_non_null(result->stdout_text);
    memset(result->stdout_text, 'x', 4 << 20);
    result->stdout_len = 4 << 20;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {1 << 20, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 3; i++) {
        result->stdout_text[i] = 'y'; /* no piece is like another */
        for (size_t at = 0; at < result->stdout_len; at += 65536)
            result->stdout_text[at + 7] = (char)(at / 65536 + 1);
        assert_int_equal(cellar_journal_end(f->journal, f->place.session,
                                            result, &none, true, 20, &first,
                                            &f->err),
                         CELLAR_E_SYS);
        assert_non_null(strstr(f->err.msg, "journal.db"));
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_cells(f, 1);
    must(f, cellar_journal_begin(f->journal, f->place.session, 2, CODE,
                                 strlen(CODE), 0, &f->err));
    must(f, cellar_journal_end(f->journal, f->place.session, result, &none,
                               true, 20, &first, &f->err));
    assert_cells(f, 2);
    cellar_result_free(result);
}

static void scribble(const struct fixture *f, off_t at, size_t len)
{
    char path[128];
    char junk[4096];
    memset(junk, 0xa5, sizeof junk);
    path_of(f, path, "");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, junk, len, at), len);
    close(fd);
}

static void a_file_that_is_none_is_left_alone(void **state)
{
    struct fixture *f = *state;
    struct cellar_journal *other = NULL;
    store_ok(f, 1);
    cellar_journal_close(f->journal);
    scribble(f, 0, 100);
    f->journal = NULL;
    uint64_t size = file_size(f);
    assert_int_equal(cellar_journal_open(f->dir, &other, &f->err),
                     CELLAR_E_SYS);
    assert_non_null(strstr(f->err.msg, "is damaged"));
    assert_non_null(strstr(f->err.msg, "mv "));
    assert_int_equal(file_size(f), size);
}

static void ignore_entry(void *user, const struct cellar_entry *entry)
{
    (void)user;
    assert_non_null(entry->result);
}

/* Wherever it is damaged: an error or what is left, and no crash. */
static void a_damaged_file_is_read_with_care(void **state)
{
    struct fixture *f = *state;
    struct cellar_record record = record_of("a", "c1");
    unsigned errors = 0;
    for (uint64_t cell = 1; cell <= 30; cell++)
        store_ok(f, cell);
    cellar_journal_close(f->journal);
    f->journal = NULL;
    uint64_t size = file_size(f);
    for (uint64_t at = 4096; at + 512 < size; at += 2048) {
        struct cellar_journal *journal = NULL;
        struct cellar_journal_place place = {0};
        scribble(f, (off_t)at, 64 + at % 448);
        if (cellar_journal_open(f->dir, &journal, &f->err) != CELLAR_OK) {
            errors++;
            continue;
        }
        errors += cellar_journal_cells(journal, 1, 0, ignore_entry, NULL,
                                       &f->err) != CELLAR_OK;
        errors += cellar_journal_session(journal, &record, &place, &f->err) !=
                  CELLAR_OK;
        cellar_journal_close(journal);
    }
    assert_true(errors > 0);
    assert_non_null(strstr(f->err.msg, "journal.db"));
}

static void a_file_of_a_later_version_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cellar_journal *other = NULL;
    char path[128];
    uint8_t version[4] = {0, 0, 0, 99};
    reopen(f);
    cellar_journal_close(f->journal);
    f->journal = NULL;
    path_of(f, path, "");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, version, 4, 60), 4);
    close(fd);
    assert_int_equal(cellar_journal_open(f->dir, &other, &f->err),
                     CELLAR_E_SYS);
    assert_non_null(strstr(f->err.msg, "later version"));
}

static void a_file_that_was_replaced_is_not_written(void **state)
{
    struct fixture *f = *state;
    char path[128];
    char old[128];
    path_of(f, path, "");
    path_of(f, old, ".old");
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(cellar_journal_begin(f->journal, f->place.session, 1, CODE,
                                          strlen(CODE), 0, &f->err),
                     CELLAR_E_SYS);
    assert_non_null(strstr(f->err.msg, "removed, or replaced"));
}

static void it_is_for_its_owner_alone(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct stat is;
    static const char *const ends[] = {"", "-wal", "-shm"};
    store_ok(f, 1);
    for (size_t i = 0; i < 3; i++) {
        path_of(f, path, ends[i]);
        assert_int_equal(stat(path, &is), 0);
        assert_int_equal(is.st_mode & 0777, 0600);
    }
}

/* ------------------------------------------------------- many processes -- */

/* Stores cells for ever, and says of each when its end is committed. */
static void write_for_ever(struct fixture *f, const char *container, int to)
{
    struct cellar_record record = record_of("w", container);
    open_journal(f);
    must(f, cellar_journal_session(f->journal, &record, &f->place, &f->err));
    for (uint64_t cell = 1;; cell++) {
        struct cellar_result *result = make_result(cell, 7 * (cell % 5) + 7);
        store(f, result, true);
        cellar_result_free(result);
        if (write(to, "x", 1) != 1)
            _exit(1);
    }
}

static void count_cell(void *user, const struct cellar_entry *entry)
{
    uint64_t *next = user;
    assert_int_equal(entry->cell, ++*next);
}

/* Three that write at once are killed: all that they committed is there. */
static void a_killed_writer_loses_no_committed_end(void **state)
{
    struct fixture *f = *state;
    static const char *const containers[] = {"w1", "w2", "w3"};
    pid_t pids[3];
    int pipes[3][2];
    /* A connection must not be carried over a fork. */
    cellar_journal_close(f->journal);
    f->journal = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        pids[i] = fork();
        if (pids[i] == 0)
            write_for_ever(f, containers[i], pipes[i][1]);
        close(pipes[i][1]);
    }
    char said[4096];
    for (int i = 0; i < 3; i++)
        assert_int_equal(read(pipes[i][0], said, 1), 1);
    usleep(200000);
    open_journal(f);
    for (int i = 0; i < 3; i++) {
        struct cellar_record record = record_of("w", containers[i]);
        struct cellar_journal_place place = {0};
        uint64_t committed = 1;
        uint64_t found = 0;
        assert_int_equal(kill(pids[i], SIGKILL), 0);
        assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
        for (ssize_t n; (n = read(pipes[i][0], said, sizeof said)) > 0;)
            committed += (uint64_t)n;
        close(pipes[i][0]);
        must(f, cellar_journal_session(f->journal, &record, &place, &f->err));
        must(f, cellar_journal_cells(f->journal, place.session, 0, count_cell,
                                     &found, &f->err));
        assert_in_range(found, committed, committed + 1);
    }
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(every_result_comes_back_the_same),
        T(a_session_is_found_again_by_its_container),
        T(output_so_far_is_gone_on_with),
        T(a_cell_has_one_end),
        T(what_nobody_was_told_of_is_told_once),
        T(the_end_of_a_session_ends_its_cells),
        T(a_large_output_is_stored_once),
        T(old_sessions_go_and_live_ones_stay),
        T(outputs_go_when_there_is_too_much),
        T(a_full_disk_is_told_and_loses_nothing),
        T(a_file_that_is_none_is_left_alone),
        T(a_damaged_file_is_read_with_care),
        T(a_file_of_a_later_version_is_refused),
        T(a_file_that_was_replaced_is_not_written),
        T(it_is_for_its_owner_alone),
        T(a_killed_writer_loses_no_committed_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
