/* Images that somebody else made, taken apart: nothing is written outside of
 * the folder, and nothing comes out that gives rights. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/image/unpack.h"

/* A ustar header: name, mode, uid, gid, size, mtime, sum, type, link. */
struct ustar {
    char name[100];
    char mode[8], uid[8], gid[8], size[12], mtime[12], sum[8];
    char type;
    char link[100];
    char magic[8];
    char users[64];
    char major[8], minor[8];
    char rest[167];
};

#define FILE_ENTRY   '0'
#define HARD_ENTRY   '1'
#define LINK_ENTRY   '2'
#define CHAR_ENTRY   '3'
#define BLOCK_ENTRY  '4'
#define FOLDER_ENTRY '5'
#define FIFO_ENTRY   '6'

struct world {
    char dir[64];
    int dir_fd;
    int host_fd; /* dir/host: must stay as it is */
    int root_fd; /* dir/root */
    int tar_fd;
    struct cellar_error err;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    if (!w)
        return -1;
    snprintf(w->dir, sizeof(w->dir), "/tmp/cellar-unpack-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->tar_fd = open(w->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (mkdirat(w->dir_fd, "host", 0755) || mkdirat(w->dir_fd, "root", 0755))
        return -1;
    w->host_fd = openat(w->dir_fd, "host", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->root_fd = openat(w->dir_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = w;
    return w->tar_fd < 0 || w->host_fd < 0 || w->root_fd < 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    struct world *w = *state;
    close(w->tar_fd);
    close(w->host_fd);
    close(w->root_fd);
    close(w->dir_fd);
    int failed = nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(w);
    return failed;
}

static void sign(struct ustar *head)
{
    unsigned sum = 0;
    memset(head->sum, ' ', sizeof(head->sum));
    for (size_t i = 0; i < sizeof(*head); i++)
        sum += ((const unsigned char *)head)[i];
    snprintf(head->sum, sizeof(head->sum), "%06o", sum);
}

static void put(struct world *w, const struct ustar *like, const char *text)
{
    struct ustar head = *like;
    char block[512] = "";
    snprintf(head.size, sizeof(head.size), "%07o",
             (unsigned)strlen(text) & 0777u);
    snprintf(head.mtime, sizeof(head.mtime), "%011o", 1700000000);
    memcpy(head.magic, "ustar\00000", sizeof(head.magic));
    sign(&head);
    assert_int_equal(write(w->tar_fd, &head, sizeof(head)), sizeof(head));
    snprintf(block, sizeof(block), "%s", text);
    if (*text)
        assert_int_equal(write(w->tar_fd, block, sizeof(block)), sizeof(block));
}

static void put_link(struct world *w, char type, const char *name,
                     const char *target)
{
    struct ustar head = {.mode = "0000777", .type = type};
    snprintf(head.name, sizeof(head.name), "%s", name);
    snprintf(head.link, sizeof(head.link), "%s", target);
    put(w, &head, "");
}

static void put_file(struct world *w, const char *name, const char *text)
{
    struct ustar head = {.mode = "0000644", .type = FILE_ENTRY};
    snprintf(head.name, sizeof(head.name), "%s", name);
    put(w, &head, text);
}

/* What an image's files end with. */
static enum cellar_code extract(struct world *w)
{
    char end[1024] = "";
    assert_int_equal(write(w->tar_fd, end, sizeof(end)), sizeof(end));
    assert_int_equal(lseek(w->tar_fd, 0, SEEK_SET), 0);
    return cellar_image_extract(w->tar_fd, w->root_fd, &w->err);
}

static bool is_there(int dir_fd, const char *name)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_host_is_untouched(struct world *w)
{
    struct stat st;
    assert_int_equal(fstat(w->host_fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_nlink, 2);
    assert_int_not_equal(unlinkat(w->dir_fd, "host", AT_REMOVEDIR), -1);
    assert_int_equal(mkdirat(w->dir_fd, "host", 0755), 0);
}

static void host_path(const struct world *w, const char *name, char path[100])
{
    snprintf(path, 100, "%s/host%s", w->dir, name);
}

/* ---------------------------------------------------------------- ways out */

static void a_path_that_climbs_is_refused(void **state)
{
    struct world *w = *state;
    put_file(w, "../host/planted", "x");
    assert_int_not_equal(extract(w), CELLAR_OK);
    assert_host_is_untouched(w);
}

static void an_absolute_path_is_refused(void **state)
{
    struct world *w = *state;
    char path[100];
    host_path(w, "/planted", path);
    put_file(w, path, "x");
    assert_int_not_equal(extract(w), CELLAR_OK);
    assert_host_is_untouched(w);
}

static void nothing_is_written_through_a_link(void **state)
{
    struct world *w = *state;
    char path[100];
    host_path(w, "", path);
    put_link(w, LINK_ENTRY, "way", path);
    put_file(w, "way/planted", "x");
    assert_int_not_equal(extract(w), CELLAR_OK);
    assert_host_is_untouched(w);
}

static void a_file_over_a_link_leaves_its_target(void **state)
{
    struct world *w = *state;
    char path[100];
    host_path(w, "/planted", path);
    put_link(w, LINK_ENTRY, "file", path);
    put_file(w, "file", "x");
    (void)extract(w);
    assert_host_is_untouched(w);
}

static void a_hard_link_reaches_nothing_outside(void **state)
{
    struct world *w = *state;
    char path[100];
    int fd = openat(w->dir_fd, "secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "secret", 6), 6);
    close(fd);
    snprintf(path, sizeof(path), "%s/secret", w->dir);
    put_link(w, HARD_ENTRY, "inside", path);
    assert_int_not_equal(extract(w), CELLAR_OK);
    assert_false(is_there(w->root_fd, "inside"));
}

static void a_hard_link_that_climbs_is_refused(void **state)
{
    struct world *w = *state;
    int fd = openat(w->dir_fd, "secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    put_link(w, HARD_ENTRY, "inside", "../secret");
    assert_int_not_equal(extract(w), CELLAR_OK);
    assert_false(is_there(w->root_fd, "inside"));
}

static void writing_through_a_hard_link_to_a_link_reaches_nothing(void **state)
{
    struct world *w = *state;
    char path[100];
    struct ustar head = {
        .name = "second", .mode = "0000777", .type = HARD_ENTRY};
    host_path(w, "/planted", path);
    put_link(w, LINK_ENTRY, "first", path);
    snprintf(head.link, sizeof(head.link), "first");
    put(w, &head, "x");
    (void)extract(w);
    assert_host_is_untouched(w);
}

/* What a container is mounted on is made where the image has none: not where
 * the image's link leads. */
static void a_link_in_a_folders_place_is_refused(void **state)
{
    struct world *w = *state;
    char path[100];
    host_path(w, "", path);
    put_link(w, LINK_ENTRY, "sys", path);
    assert_int_equal(extract(w), CELLAR_E_IMAGE);
    assert_non_null(strstr(w->err.msg, "/sys"));
    assert_host_is_untouched(w);
}

static void a_link_deeper_down_is_refused(void **state)
{
    struct world *w = *state;
    char path[100];
    host_path(w, "", path);
    put_link(w, LINK_ENTRY, "sys/kernel", path);
    assert_int_equal(extract(w), CELLAR_E_IMAGE);
    assert_non_null(strstr(w->err.msg, "/sys/kernel"));
    assert_host_is_untouched(w);
}

static void a_file_in_a_folders_place_is_refused(void **state)
{
    struct world *w = *state;
    put_file(w, "dev", "x");
    assert_int_equal(extract(w), CELLAR_E_IMAGE);
    assert_non_null(strstr(w->err.msg, "/dev"));
}

/* ------------------------------------------------------------------ rights */

static void no_bit_gives_rights(void **state)
{
    struct world *w = *state;
    struct stat st;
    struct ustar head = {.name = "su", .mode = "0006755", .type = FILE_ENTRY};
    struct ustar folder = {
        .name = "shared", .mode = "0002775", .type = FOLDER_ENTRY};
    put(w, &head, "x");
    put(w, &folder, "");
    assert_int_equal(extract(w), CELLAR_OK);
    assert_int_equal(fstatat(w->root_fd, "su", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(fstatat(w->root_fd, "shared", &st, 0), 0);
    assert_int_equal(st.st_mode & 07000, 0);
}

static void devices_and_fifos_stay_out(void **state)
{
    struct world *w = *state;
    struct ustar memory = {.name = "memory",
                           .mode = "0000666",
                           .type = CHAR_ENTRY,
                           .major = "0000001",
                           .minor = "0000001"};
    struct ustar disk = {.name = "disk",
                         .mode = "0000666",
                         .type = BLOCK_ENTRY,
                         .major = "0000376"};
    struct ustar fifo = {.name = "fifo", .mode = "0000666", .type = FIFO_ENTRY};
    put(w, &memory, "");
    put(w, &disk, "");
    put(w, &fifo, "");
    put_file(w, "file", "x");
    assert_int_equal(extract(w), CELLAR_OK);
    assert_false(is_there(w->root_fd, "memory"));
    assert_false(is_there(w->root_fd, "disk"));
    assert_false(is_there(w->root_fd, "fifo"));
    assert_true(is_there(w->root_fd, "file"));
}

static void the_folder_itself_stays_ours(void **state)
{
    struct world *w = *state;
    struct stat st;
    struct ustar head = {.name = "./",
                         .mode = "0000777",
                         .uid = "0001750",
                         .gid = "0001750",
                         .type = FOLDER_ENTRY};
    put(w, &head, "");
    assert_int_equal(extract(w), CELLAR_OK);
    assert_int_equal(fstat(w->root_fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_uid, geteuid());
}

/* ------------------------------------------------------------------- damage */

static void a_tar_that_is_cut_off_is_refused(void **state)
{
    struct world *w = *state;
    struct ustar head = {.name = "file", .mode = "0000644", .type = FILE_ENTRY};
    put(w, &head, "");
    snprintf(head.size, sizeof(head.size), "%011o", 1 << 20);
    memcpy(head.magic, "ustar\00000", sizeof(head.magic));
    snprintf(head.name, sizeof(head.name), "other");
    sign(&head);
    assert_int_equal(write(w->tar_fd, &head, sizeof(head)), sizeof(head));
    assert_int_not_equal(extract(w), CELLAR_OK);
}

static void what_a_container_is_mounted_on_is_made(void **state)
{
    static const char *const names[] = {
        "proc",   "dev",           "tmp",
        "cellar", "sys/fs/cgroup", "sys/kernel/mm/transparent_hugepage"};
    struct world *w = *state;
    struct stat st;
    put_file(w, "file", "x");
    assert_int_equal(extract(w), CELLAR_OK);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        assert_int_equal(
            fstatat(w->root_fd, names[i], &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_true(S_ISDIR(st.st_mode));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_path_that_climbs_is_refused),
        TEST(an_absolute_path_is_refused),
        TEST(nothing_is_written_through_a_link),
        TEST(a_file_over_a_link_leaves_its_target),
        TEST(a_hard_link_reaches_nothing_outside),
        TEST(a_hard_link_that_climbs_is_refused),
        TEST(writing_through_a_hard_link_to_a_link_reaches_nothing),
        TEST(a_link_in_a_folders_place_is_refused),
        TEST(a_link_deeper_down_is_refused),
        TEST(a_file_in_a_folders_place_is_refused),
        TEST(no_bit_gives_rights),
        TEST(devices_and_fifos_stay_out),
        TEST(the_folder_itself_stays_ours),
        TEST(a_tar_that_is_cut_off_is_refused),
        TEST(what_a_container_is_mounted_on_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
