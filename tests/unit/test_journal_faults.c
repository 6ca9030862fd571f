/* What goes wrong with the journal's file harms nothing that was stored. */
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

#include "journal_fixture.h"

static void a_full_disk_is_told_and_loses_nothing(void **state)
{
    struct journal_fixture *f = *state;
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

static void scribble(const struct journal_fixture *f, off_t at, size_t len)
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
    struct journal_fixture *f = *state;
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
    struct journal_fixture *f = *state;
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
    struct journal_fixture *f = *state;
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
    struct journal_fixture *f = *state;
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
    struct journal_fixture *f = *state;
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
static void write_for_ever(struct journal_fixture *f, const char *container,
                           int to)
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
    struct journal_fixture *f = *state;
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
    const struct CMUnitTest tests[] = {
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
