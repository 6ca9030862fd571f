/* Bundles whose files are damaged, huge, links, or something else altogether:
 * they are listed and removed, and nothing outside of them is touched. */
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

#include "kernel/engine/oci/oci.h"

#define DATA CELLAR_SOURCE_DIR "/kernel/engine"

struct world {
    char dir[64];
    struct cellar_loop *loop;
    struct oci *oci;
    char id[OCI_ID_BYTES];
    int fd; /* of a bundle */
    struct cellar_error err;
    bool done;
    int rows;
    char session[64];
    char owner[64];
    char state[16];
};

static const struct oci_labels labels = {.session = "lab",
                                         .owner = "me",
                                         .supervisor = "it",
                                         .image = "/usr",
                                         .runtime = "/no/such/runtime",
                                         .uid = 61005,
                                         .created = 1700000001};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct cellar_engine *engine = NULL;
    if (!w || cellar_loop_new(&w->loop, NULL))
        return -1;
    snprintf(w->dir, sizeof(w->dir), "/tmp/cellar-bundle-XXXXXX");
    struct cellar_engine_place place = {.state_dir = mkdtemp(w->dir),
                                        .data_dir = DATA};
    if (cellar_oci_new(w->loop, &place, &engine, &w->err))
        return -1;
    w->oci = (struct oci *)engine;
    if (cellar_oci_bundle_make(w->oci, &labels, w->id, &w->fd, &w->err))
        return -1;
    *state = w;
    return 0;
}

static void on_done(void *user, const struct cellar_error *err)
{
    struct world *w = user;
    w->done = true;
    w->err = err ? *err : (struct cellar_error){0};
}

static void wait_done(struct world *w, enum cellar_code begun)
{
    assert_int_equal(begun, CELLAR_OK);
    while (!w->done)
        cellar_loop_run(w->loop, 100);
    w->done = false;
    if (w->err.code)
        fail_msg("%s", w->err.msg);
}

static void remove_it(struct world *w)
{
    struct stat st;
    char path[128];
    wait_done(w,
              cellar_oci_remove(&w->oci->engine, w->id, on_done, w, &w->err));
    snprintf(path, sizeof(path), "%s/oci/%s", w->dir, w->id);
    assert_int_equal(lstat(path, &st), -1);
}

static int tear_down(void **state)
{
    struct world *w = *state;
    char path[128];
    close(w->fd);
    remove_it(w);
    w->oci->engine.ops->free(&w->oci->engine);
    cellar_loop_free(w->loop);
    snprintf(path, sizeof(path), "%s/oci/.run", w->dir);
    assert_int_equal(rmdir(path), 0);
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(w->dir), 0);
    free(w);
    return 0;
}

static void on_row(void *user, const struct cellar_container *container)
{
    struct world *w = user;
    assert_string_equal(container->id, w->id);
    w->rows++;
    snprintf(w->session, sizeof(w->session), "%s", container->session);
    snprintf(w->owner, sizeof(w->owner), "%s", container->owner);
    snprintf(w->state, sizeof(w->state), "%s", container->state);
}

static void list(struct world *w)
{
    w->rows = 0;
    wait_done(w, cellar_oci_list(&w->oci->engine, on_row, on_done, w, &w->err));
}

/* Puts `text` in the place of a file of the bundle. */
static void put(const struct world *w, const char *name, const char *text)
{
    unlinkat(w->fd, name, 0);
    int fd = openat(w->fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void half_made_ones_are_listed_and_removed(void **state)
{
    struct world *w = *state;
    list(w);
    assert_int_equal(w->rows, 1);
    assert_string_equal(w->session, "lab");
    assert_string_equal(w->owner, "me");
    assert_string_equal(w->state, "created");
    remove_it(w);
    list(w);
    assert_int_equal(w->rows, 0);
}

static void damaged_labels_leave_it_to_this_state_directory(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "nonsense",
        "{\"uid\": -1, \"session\": 7}",
        "{\"session\": \"lab\", \"owner\": null}"};
    struct world *w = *state;
    int fd = open(w->dir, O_DIRECTORY);
    assert_int_equal(cellar_oci_file_write(fd, "owner", "0123abcd", NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        put(w, "labels.json", texts[i]);
        list(w);
        assert_int_equal(w->rows, 1);
        assert_string_equal(w->session, "");
        assert_string_equal(w->owner, "0123abcd");
    }
    for (size_t i = 4; i < 6; i++) {
        put(w, "labels.json", texts[i]);
        list(w);
        assert_int_equal(w->rows, 1);
    }
    assert_int_equal(unlinkat(fd, "owner", 0), 0);
    close(fd);
}

static void labels_of_another_kind_are_none(void **state)
{
    struct world *w = *state;
    struct oci_labels read;
    unlinkat(w->fd, "labels.json", 0);
    assert_int_equal(symlinkat("/etc/hostname", w->fd, "labels.json"), 0);
    assert_false(cellar_oci_labels_read(w->fd, &read));
    unlinkat(w->fd, "labels.json", 0);
    assert_int_equal(mkdirat(w->fd, "labels.json", 0700), 0);
    assert_false(cellar_oci_labels_read(w->fd, &read));
    unlinkat(w->fd, "labels.json", AT_REMOVEDIR);
    assert_int_equal(mkfifoat(w->fd, "labels.json", 0600), 0);
    assert_false(cellar_oci_labels_read(w->fd, &read)); /* and does not wait */
}

static void a_huge_file_is_not_read(void **state)
{
    struct world *w = *state;
    int fd = openat(w->fd, "config.json", O_WRONLY | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
    close(fd);
    assert_null(cellar_oci_file_read(w->fd, "config.json"));
}

static void a_process_that_is_none_of_ours_is_not_alive(void **state)
{
    static const char *const texts[] = {
        "{\"pid\": 1, \"began\": 1}", "{\"pid\": -5, \"began\": 1}",
        "{\"pid\": 99999999999, \"began\": 1}", "{\"pid\": \"x\"}", "x"};
    struct world *w = *state;
    struct oci_born born;
    char text[64];
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        put(w, "born.json", texts[i]);
        assert_false(cellar_oci_born_read(w->fd, &born));
    }
    /* This process, but not as it began: the number came again. */
    snprintf(text, sizeof(text), "{\"pid\": %d, \"began\": 12}", (int)getpid());
    put(w, "born.json", text);
    assert_true(cellar_oci_born_read(w->fd, &born));
    assert_false(cellar_oci_lives(&born));
    cellar_oci_kill(&born);
    born.began = cellar_oci_began(getpid());
    assert_true(cellar_oci_lives(&born));
}

/* The machine was started anew: all numbers come again, and all times. */
static void a_process_of_another_boot_is_not_ours(void **state)
{
    struct world *w = *state;
    struct oci_born born;
    char text[160];
    snprintf(text, sizeof(text),
             "{\"pid\": %d, \"began\": %llu, \"boot\": "
             "\"00000000-0000-4000-8000-000000000000\"}",
             (int)getpid(), (unsigned long long)cellar_oci_began(getpid()));
    put(w, "born.json", text);
    assert_true(cellar_oci_born_read(w->fd, &born));
    assert_false(cellar_oci_lives(&born));
    cellar_oci_kill(&born);
    assert_string_equal(cellar_oci_state(w->oci, w->fd, w->id), "exited");
}

static void a_group_gives_the_controllers_it_names(void **state)
{
    struct world *w = *state;
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", w->fd);
    assert_false(cellar_oci_group_gives(path, "memory"));
    put(w, "cgroup.controllers", "cpuset cpu io memory\n");
    assert_true(cellar_oci_group_gives(path, "cpu"));
    assert_true(cellar_oci_group_gives(path, "memory"));
    assert_false(cellar_oci_group_gives(path, "pids"));
    assert_false(cellar_oci_group_gives(path, "mem"));
    put(w, "cgroup.controllers", "\n");
    assert_false(cellar_oci_group_gives(path, "cpu"));
}

static void a_process_in_no_container_is_not_taken(void **state)
{
    struct world *w = *state;
    struct oci_born born;
    char text[32];
    snprintf(text, sizeof(text), "%d", (int)getpid());
    put(w, "pid", text);
    assert_int_equal(
        cellar_oci_born_write(w->fd, w->id, OCI_RUNC, &born, &w->err),
        CELLAR_E_ENGINE);
    assert_non_null(strstr(w->err.msg, "no container"));
    put(w, "pid", "1");
    assert_int_equal(
        cellar_oci_born_write(w->fd, w->id, OCI_RUNC, &born, &w->err),
        CELLAR_E_ENGINE);
}

static void a_fifo_that_is_none_is_not_opened(void **state)
{
    struct world *w = *state;
    int fds[3];
    put(w, "stdout", "bytes of somebody's");
    assert_int_not_equal(cellar_oci_fifos_open(w->fd, fds, &w->err), 0);
    assert_non_null(strstr(w->err.msg, "FIFO"));
    unlinkat(w->fd, "stdout", 0);
    assert_int_equal(symlinkat("stdin", w->fd, "stdout"), 0);
    assert_int_not_equal(cellar_oci_fifos_open(w->fd, fds, &w->err), 0);
}

static void nothing_is_removed_through_a_link(void **state)
{
    struct world *w = *state;
    char outside[] = "/tmp/cellar-outside-XXXXXX";
    char path[128];
    assert_non_null(mkdtemp(outside));
    snprintf(path, sizeof(path), "%s/kept", outside);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    assert_int_equal(symlinkat(outside, w->fd, "root"), 0);
    remove_it(w);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    rmdir(outside);
}

static void a_link_in_its_place_is_no_bundle(void **state)
{
    struct world *w = *state;
    char path[128];
    char away[160];
    snprintf(path, sizeof(path), "%s/oci/%s", w->dir, w->id);
    snprintf(away, sizeof(away), "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(symlink(away, path), 0);
    assert_int_equal(cellar_oci_bundle_open(w->oci, w->id), -1);
    list(w);
    assert_int_equal(w->rows, 0);
    unlink(path);
    assert_int_equal(rename(away, path), 0);
}

static void ids_are_checked(void **state)
{
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      ".run",
                                      "oci-",
                                      "../oci-00112233445566778899aabbcc",
                                      "oci-00112233445566778899aabbcc/d",
                                      "oci-00112233445566778899AABBCCDD",
                                      "oci-00112233445566778899aabbccdd0",
                                      "xci-00112233445566778899aabbccdd",
                                      "oci-00112233445566778899aabbccd\n"};
    struct world *w = *state;
    assert_int_equal(
        cellar_oci_check_id("oci-00112233445566778899aabbccdd", NULL), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(cellar_oci_check_id(bad[i], NULL), CELLAR_E_USAGE);
        assert_int_equal(
            cellar_oci_remove(&w->oci->engine, bad[i], on_done, w, &w->err),
            CELLAR_E_USAGE);
        assert_int_equal(cellar_oci_attach(&w->oci->engine, bad[i], 0, NULL,
                                           NULL, w, &w->err),
                         CELLAR_E_USAGE);
        assert_int_equal(cellar_oci_bundle_open(w->oci, bad[i]), -1);
    }
}

static void the_last_words_of_a_log_are_its_message(void **state)
{
    char text[64];
    (void)state;
    cellar_oci_words("time=\"x\" level=error msg=\"no way\"\n", text,
                     sizeof(text));
    assert_string_equal(text, "no way");
    cellar_oci_words("first\nlast\n\n", text, sizeof(text));
    assert_string_equal(text, "last");
    cellar_oci_words("", text, sizeof(text));
    assert_string_equal(text, "");
    cellar_oci_words("msg=\"", text, sizeof(text));
    assert_string_equal(text, "");
}

#define WORLD_TEST(name)                                                       \
    cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(half_made_ones_are_listed_and_removed),
        WORLD_TEST(damaged_labels_leave_it_to_this_state_directory),
        WORLD_TEST(labels_of_another_kind_are_none),
        WORLD_TEST(a_huge_file_is_not_read),
        WORLD_TEST(a_process_that_is_none_of_ours_is_not_alive),
        WORLD_TEST(a_process_of_another_boot_is_not_ours),
        WORLD_TEST(a_group_gives_the_controllers_it_names),
        WORLD_TEST(a_process_in_no_container_is_not_taken),
        WORLD_TEST(a_fifo_that_is_none_is_not_opened),
        WORLD_TEST(nothing_is_removed_through_a_link),
        WORLD_TEST(a_link_in_its_place_is_no_bundle),
        WORLD_TEST(ids_are_checked),
        cmocka_unit_test(the_last_words_of_a_log_are_its_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
