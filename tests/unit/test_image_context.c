/* What the runtime image is built from: the tar that goes to the engine. */
#include <fcntl.h>
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

#include "kernel/image/context.h"

/* A ustar header: name, mode, uid, gid, size, mtime, ..., type. */
struct ustar {
    char name[100];
    char mode[8], uid[8], gid[8], size[12], mtime[12], sum[8];
    char type;
    char rest[355];
};

struct data_dir {
    char path[64];
    char tar[65536];
    size_t len;
    char digest[CELLAR_IMAGE_DIGEST_BYTES];
};

static void put(const struct data_dir *dir, const char *name, const char *text,
                mode_t mode)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int set_up(void **state)
{
    struct data_dir *dir = calloc(1, sizeof(*dir));
    assert_non_null(dir);
    snprintf(dir->path, sizeof(dir->path), "/tmp/cellar-test-XXXXXX");
    assert_non_null(mkdtemp(dir->path));
    char sub[128];
    snprintf(sub, sizeof(sub), "%s/cellar", dir->path);
    assert_int_equal(mkdir(sub, 0700), 0);
    put(dir, "Dockerfile", "FROM scratch\n", 0600);
    put(dir, "cellar/agent", "agent", 0755);
    put(dir, "cellar/boot.py", "boot", 0600);
    put(dir, "cellar/launcher", "launcher", 0700);
    put(dir, "cellar/relay", "relay", 0755);
    put(dir, "container.json", "{}", 0644);
    *state = dir;
    return 0;
}

static int tear_down(void **state)
{
    struct data_dir *dir = *state;
    static const char *const names[] = {
        "Dockerfile",      "cellar/agent", "cellar/boot.py",
        "cellar/launcher", "cellar/link",  "cellar/relay",
        "container.json",  "cellar",       ""};
    char path[128];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir->path, names[i]);
        remove(path);
    }
    free(dir);
    return 0;
}

static void make(struct data_dir *dir)
{
    struct cellar_error err = {0};
    int fd = -1;
    assert_int_equal(cellar_image_context(dir->path, &fd, dir->digest, &err),
                     CELLAR_OK);
    ssize_t len = read(fd, dir->tar, sizeof(dir->tar));
    assert_in_range(len, 512, sizeof(dir->tar) - 1);
    dir->len = (size_t)len;
    close(fd);
}

static const struct ustar *entry(const struct data_dir *dir, const char *name)
{
    for (size_t at = 0; at + 512 <= dir->len;) {
        const struct ustar *header = (const struct ustar *)(dir->tar + at);
        if (strcmp(header->name, name) == 0)
            return header;
        size_t size = strtoull(header->size, NULL, 8);
        at += 512 + (size + 511) / 512 * 512;
    }
    return NULL;
}

static void assert_entry(const struct data_dir *dir, const char *name,
                         unsigned long mode)
{
    const struct ustar *header = entry(dir, name);
    assert_non_null(header);
    assert_int_equal(strtoul(header->mode, NULL, 8), mode);
    assert_int_equal(strtoul(header->uid, NULL, 8), 0);
    assert_int_equal(strtoul(header->gid, NULL, 8), 0);
}

static void has_the_runtime_files_with_their_modes(void **state)
{
    struct data_dir *dir = *state;
    make(dir);
    assert_entry(dir, "Dockerfile", 0644);
    assert_entry(dir, "cellar/", 0755);
    assert_entry(dir, "cellar/agent", 0711);
    assert_entry(dir, "cellar/boot.py", 0644);
    assert_entry(dir, "cellar/launcher", 0755);
    assert_entry(dir, "cellar/relay", 0711);
    assert_null(entry(dir, "container.json"));
    const char *text = (const char *)(entry(dir, "cellar/boot.py") + 1);
    assert_memory_equal(text, "boot", 5);
}

static void the_same_files_give_the_same_bytes(void **state)
{
    struct data_dir *dir = *state;
    make(dir);
    struct data_dir *again = calloc(1, sizeof(*again));
    assert_non_null(again);
    memcpy(again->path, dir->path, sizeof(again->path));
    put(dir, "cellar/boot.py", "boot", 0640);
    make(again);
    assert_int_equal(dir->len, again->len);
    assert_memory_equal(dir->tar, again->tar, dir->len);
    assert_string_equal(dir->digest, again->digest);
    free(again);
}

static void the_digest_tells_of_any_change(void **state)
{
    struct data_dir *dir = *state;
    char before[CELLAR_IMAGE_DIGEST_BYTES];
    make(dir);
    assert_int_equal(strlen(dir->digest), CELLAR_IMAGE_DIGEST_BYTES - 1);
    memcpy(before, dir->digest, sizeof(before));
    put(dir, "cellar/boot.py", "b00t", 0600);
    make(dir);
    assert_string_not_equal(dir->digest, before);
    put(dir, "cellar/boot.py", "boot", 0700);
    make(dir);
    assert_string_not_equal(dir->digest, before);
    put(dir, "cellar/boot.py", "boot", 0600);
    put(dir, "Dockerfile", "FROM nothing\n", 0600);
    make(dir);
    assert_string_equal(dir->digest, before);
}

static void names_what_is_missing(void **state)
{
    struct data_dir *dir = *state;
    struct cellar_error err = {0};
    int fd = -1;
    char path[128];
    snprintf(path, sizeof(path), "%s/cellar/agent", dir->path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cellar_image_context(dir->path, &fd, dir->digest, &err),
                     CELLAR_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(cellar_image_context("/nowhere", &fd, dir->digest, &err),
                     CELLAR_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nowhere/Dockerfile"));
    assert_int_equal(fd, -1);
}

static void refuses_what_leads_elsewhere(void **state)
{
    struct data_dir *dir = *state;
    struct cellar_error err = {0};
    int fd = -1;
    char path[128];
    snprintf(path, sizeof(path), "%s/cellar/link", dir->path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(cellar_image_context(dir->path, &fd, dir->digest, &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "cellar/link"));
    assert_int_equal(fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(has_the_runtime_files_with_their_modes,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_files_give_the_same_bytes,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_digest_tells_of_any_change, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(names_what_is_missing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(refuses_what_leads_elsewhere, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
