/*
 * The record of a named session, as a file that was damaged or forged. What is
 * taken is of the session that was asked for, and is the same when it is saved
 * and loaded again; what is refused leaves the caller's record as it was.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "kernel/record.h"

#define NAME "tour"

static char state_dir[] = "/dev/shm/cellar-fuzz-XXXXXX";
static struct cellar_hold hold = CELLAR_HOLD_NONE;

static void must(int fine)
{
    if (!fine)
        abort();
}

/* Not by memcmp() of the whole: what lies between the fields is anything. */
static bool same(const struct cellar_record *a, const struct cellar_record *b)
{
    const size_t numbers = offsetof(struct cellar_record, uid);
    return strcmp(a->name, b->name) == 0 && strcmp(a->engine, b->engine) == 0 &&
           strcmp(a->container, b->container) == 0 &&
           strcmp(a->image, b->image) == 0 &&
           strcmp(a->python, b->python) == 0 &&
           strcmp(a->preload, b->preload) == 0 &&
           memcmp(a->key, b->key, sizeof(a->key)) == 0 &&
           memcmp((const char *)a + numbers, (const char *)b + numbers,
                  sizeof(*a) - numbers) == 0;
}

static void tidy(void)
{
    char path[64];
    cellar_record_remove(state_dir, NAME, &hold);
    cellar_hold_done(&hold);
    snprintf(path, sizeof(path), "%s/sessions", state_dir);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/supervisors", state_dir);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/owner", state_dir);
    unlink(path);
    rmdir(state_dir);
}

static void open_state(void)
{
    char owner[CELLAR_OWNER_BYTES];
    if (hold.dir_fd >= 0)
        return;
    must(mkdtemp(state_dir) != NULL);
    must(cellar_state_open(state_dir, owner, NULL) == CELLAR_OK);
    must(cellar_hold_take(state_dir, NAME, &hold, NULL) == CELLAR_OK);
    must(atexit(tidy) == 0);
}

static void put(const uint8_t *data, size_t len)
{
    int fd = openat(hold.dir_fd, "record.json",
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct cellar_record blank;
    struct cellar_record record = {0};
    struct cellar_record twin = {0};
    struct cellar_error err = {.code = CELLAR_OK};
    open_state();
    put(data, len);
    enum cellar_code code = cellar_record_load(state_dir, NAME, &record, &err);
    if (code != CELLAR_OK) {
        must(code == CELLAR_E_SYS && err.code == code);
        must(same(&record, &blank));
        return 0;
    }
    must(strcmp(record.name, NAME) == 0);
    must(cellar_record_save(&hold, &record, NULL) == CELLAR_OK);
    must(cellar_record_load(state_dir, NAME, &twin, NULL) == CELLAR_OK);
    must(same(&record, &twin));
    return 0;
}
