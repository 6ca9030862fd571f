/*
 * The journal, as a file that was damaged or forged: it is read, written to
 * and pruned, as far as it lets itself. What is given is sound, what fails is
 * told, and nothing else happens.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "kernel/journal.h"
#include "kernel/utf8.h"

static char state_dir[] = "/dev/shm/cellar-fuzz-XXXXXX";

static void must(bool fine)
{
    if (!fine)
        abort();
}

static void remove_files(void)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[64];
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        snprintf(path, sizeof(path), "%s/journal.db%s", state_dir, ends[i]);
        unlink(path);
    }
}

static void tidy(void)
{
    remove_files();
    rmdir(state_dir);
}

static void put(const uint8_t *data, size_t len)
{
    static bool made;
    char path[64];
    if (!made) {
        must(mkdtemp(state_dir) != NULL);
        must(atexit(tidy) == 0);
        made = true;
    }
    remove_files();
    snprintf(path, sizeof(path), "%s/journal.db", state_dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    close(fd);
}

static void on_past(void *user, const struct cellar_past *past)
{
    (void)user;
    must(past->name && past->container && past->ending && past->reason);
}

static void on_entry(void *user, const struct cellar_entry *entry)
{
    const struct cellar_result *result = entry->result;
    (void)user;
    must(result->status <= CELLAR_STATUS_LOST);
    must(cellar_utf8_valid(result->stdout_text, result->stdout_len));
    char *json = cellar_result_json(result);
    must(json != NULL);
    free(json);
}

/* A failure is one that the header names. */
static void took(enum cellar_code code, const struct cellar_error *err)
{
    must(code == CELLAR_OK || err->code == code);
    must(code == CELLAR_OK || code == CELLAR_E_SYS ||
         code == CELLAR_E_NOT_FOUND);
}

static void read_all(struct cellar_journal *journal)
{
    struct cellar_journal_glance glance;
    struct cellar_error err = {0};
    uint64_t id = 0;
    took(cellar_journal_sessions(journal, on_past, NULL, &err), &err);
    took(cellar_journal_find(journal, "a", &id, &err), &err);
    took(cellar_journal_cells(journal, 1, 0, on_entry, NULL, &err), &err);
    took(cellar_journal_glance(journal, "c1", &glance, &err), &err);
}

static void write_all(struct cellar_journal *journal)
{
    struct cellar_record record = {.name = "a", .container = "c1"};
    struct cellar_journal_place place = {0};
    struct cellar_journal_mark none = {0};
    struct cellar_pruned pruned;
    struct cellar_result *untold = NULL;
    struct cellar_error err = {0};
    char text[] = "4";
    struct cellar_result result = {
        .stdout_text = text, .stdout_len = 1, .stderr_text = text};
    bool first = false;
    enum cellar_code code =
        cellar_journal_session(journal, &record, &place, &err);
    took(code, &err);
    result.cell = place.last_cell + 1;
    if (code == CELLAR_OK) {
        took(cellar_journal_begin(journal, place.session, result.cell, "x", 1,
                                  0, &err),
             &err);
        took(cellar_journal_end(journal, place.session, &result, &none, true, 1,
                                &first, &err),
             &err);
        took(cellar_journal_take_untold(journal, place.session, &untold, &err),
             &err);
        cellar_result_free(untold);
    }
    took(cellar_journal_prune(journal, 0, 0, &pruned, &err), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cellar_journal *journal = NULL;
    struct cellar_error err = {0};
    put(data, len);
    enum cellar_code code = cellar_journal_open(state_dir, &journal, &err);
    took(code, &err);
    if (code != CELLAR_OK)
        return 0;
    read_all(journal);
    write_all(journal);
    cellar_journal_close(journal);
    return 0;
}
