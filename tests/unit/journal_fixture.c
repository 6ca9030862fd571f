#include "journal_fixture.h"

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

struct cellar_record record_of(const char *name, const char *container)
{
    struct cellar_record record = {.created = 1700000000};
    (void)snprintf(record.name, sizeof record.name, "%s", name);
    (void)snprintf(record.container, sizeof record.container, "%s", container);
    (void)snprintf(record.engine, sizeof record.engine, "docker");
    return record;
}

void path_of(const struct journal_fixture *f, char path[128], const char *end)
{
    (void)snprintf(path, 128, "%s/journal.db%s", f->dir, end);
}

uint64_t file_size(const struct journal_fixture *f)
{
    char path[128];
    struct stat is = {0};
    path_of(f, path, "");
    assert_int_equal(stat(path, &is), 0);
    return (uint64_t)is.st_size;
}

void open_journal(struct journal_fixture *f)
{
    if (cellar_journal_open(f->dir, &f->journal, &f->err) != CELLAR_OK)
        fail_msg("%s", f->err.msg);
}

void reopen(struct journal_fixture *f)
{
    cellar_journal_close(f->journal);
    open_journal(f);
}

void must(struct journal_fixture *f, enum cellar_code code)
{
    if (code != CELLAR_OK)
        fail_msg("%s", f->err.msg);
}

int journal_setup(void **state)
{
    struct journal_fixture *f = calloc(1, sizeof *f);
    struct cellar_record record = record_of("a", "c1");
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/cellar-journal-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    open_journal(f);
    must(f, cellar_journal_session(f->journal, &record, &f->place, &f->err));
    *state = f;
    return 0;
}

int journal_teardown(void **state)
{
    struct journal_fixture *f = *state;
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

void collect_text(struct cellar_collect *collect, int stream, const char *text,
                  size_t len)
{
    assert_int_equal(
        cellar_collect_output(collect, stream, (const uint8_t *)text, len),
        len);
}

void collect_display(struct cellar_collect *collect, size_t parts)
{
    struct cellar_msg_display display = {.count = parts};
    for (size_t i = 0; i < parts; i++)
        display.parts[i] = (struct cellar_mime_part){
            {(const uint8_t *)(i ? "image/png" : "text/plain"), i ? 9 : 10},
            {(const uint8_t *)"iVBORw0KGgo=", 12}};
    cellar_collect_display(collect, &display);
}

void collect_init(struct cellar_collect *collect, uint64_t cell)
{
    struct cellar_limits limits = {
        .timeout_ms = 2000, .memory_bytes = 1 << 20, .output_bytes = 64 << 20};
    assert_int_equal(cellar_collect_init(collect, cell, &limits), CELLAR_OK);
}

/* Every kind of ending, with every field that it may have. */
struct cellar_result *make_result(uint64_t cell, unsigned kind)
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

void store(struct journal_fixture *f, const struct cellar_result *result,
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

void store_ok(struct journal_fixture *f, uint64_t cell)
{
    struct cellar_result *result = make_result(cell, 1);
    result->status = CELLAR_STATUS_OK;
    store(f, result, true);
    cellar_result_free(result);
}

/* ------------------------------------------------------ what comes back -- */

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

struct seen look(struct journal_fixture *f)
{
    struct seen seen = {0};
    must(f, cellar_journal_cells(f->journal, f->place.session, 0, see, &seen,
                                 &f->err));
    return seen;
}

void forget(struct seen *seen)
{
    for (size_t i = 0; i < seen->count; i++)
        free(seen->json[i]);
}

void assert_cells(struct journal_fixture *f, size_t count)
{
    struct seen seen = look(f);
    assert_int_equal(seen.count, count);
    forget(&seen);
}
