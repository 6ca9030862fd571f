/*
 * A journal in a directory of the test's own, with one session, "a" in
 * container c1; results of every kind to store in it, and a look at what it
 * holds.
 */
#ifndef CELLAR_TESTS_JOURNAL_FIXTURE_H
#define CELLAR_TESTS_JOURNAL_FIXTURE_H

#include "kernel/journal.h"

#define CODE "print('x')"

struct journal_fixture {
    char dir[64];
    struct cellar_journal *journal;
    struct cellar_journal_place place;
    struct cellar_error err;
};

int journal_setup(void **state);
int journal_teardown(void **state);
#define T(test)                                                                \
    cmocka_unit_test_setup_teardown(test, journal_setup, journal_teardown)

struct cellar_record record_of(const char *name, const char *container);
/* The file's path, and the paths of those beside it: "-wal". */
void path_of(const struct journal_fixture *f, char path[128], const char *end);
uint64_t file_size(const struct journal_fixture *f);

/* The test fails where they do. */
void must(struct journal_fixture *f, enum cellar_code code);
void open_journal(struct journal_fixture *f);
void reopen(struct journal_fixture *f);

void collect_init(struct cellar_collect *collect, uint64_t cell);
void collect_text(struct cellar_collect *collect, int stream, const char *text,
                  size_t len);
void collect_display(struct cellar_collect *collect, size_t parts);
/* Kinds 0 to 41 are every ending, with every field that it may have. */
struct cellar_result *make_result(uint64_t cell, unsigned kind);

/* Begins and ends a cell; _ok: one that went well. */
void store(struct journal_fixture *f, const struct cellar_result *result,
           bool told);
void store_ok(struct journal_fixture *f, uint64_t cell);

/* All cells of the session, as JSON; forget() frees. */
struct seen {
    size_t count, pruned;
    char *json[64];
    uint64_t first;
};
struct seen look(struct journal_fixture *f);
void forget(struct seen *seen);
void assert_cells(struct journal_fixture *f, size_t count);

#endif
