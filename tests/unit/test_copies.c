/* Frozen copies as the agent keeps them: who is one, what is told of those that
 * are not, and that nothing of them is left. The copies are processes of this
 * test's own. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/record.h"
#include "runtime-image/agent/copies.h"

#define PATIENCE_MS 30000

static const uint8_t frozen[CELLAR_RECORD_HEADER_BYTES] = {
    0, 0, 0, 0, CELLAR_RECORD_FROZEN};

static struct cellar_copies copies;
static int fds_before;

static int count_fds(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int set_up(void **state)
{
    (void)state;
    cellar_copies_init(&copies);
    fds_before = count_fds();
    return 0;
}

/* The children that are left have been killed, stopped or not. */
static int tear_down(void **state)
{
    (void)state;
    cellar_copies_clear(&copies);
    while (waitpid(-1, NULL, 0) > 0)
        continue;
    assert_int_equal(count_fds(), fds_before);
    return 0;
}

/* ------------------------------------------------------------- processes -- */

static struct cellar_copy *ask(const char *tag, uint64_t after, int *give)
{
    struct cellar_copy *copy =
        cellar_copies_ask(&copies, tag, after, 1000, give);
    assert_non_null(copy);
    assert_int_equal(copy->phase, CELLAR_COPY_ASKED);
    return copy;
}

/* What a copy says, with `count` descriptors. */
static bool speak(int socket, const void *bytes, size_t len, size_t count)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    const int fds[2] = {STDIN_FILENO, STDOUT_FILENO};
    struct iovec some = {.iov_base = (void *)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &some, .msg_iovlen = 1};
    if (count > 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    return sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)len;
}

/* A process that says FROZEN on `socket`, and then is there. */
static pid_t fork_copy(int socket, size_t fds)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        close(socket);
        return pid;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
        !speak(socket, frozen, sizeof(frozen), fds))
        _exit(1);
    for (;;)
        pause();
}

static enum cellar_code hear(struct cellar_copy *copy, uint64_t now, char *why)
{
    struct pollfd look = {.fd = copy->control, .events = POLLIN};
    assert_int_equal(poll(&look, 1, PATIENCE_MS), 1);
    return cellar_copies_hear(copy, now, why);
}

/* A frozen copy, from the question on. */
static struct cellar_copy *freeze(const char *tag, uint64_t after)
{
    int give = -1;
    char why[CELLAR_WHY_MAX];
    struct cellar_copy *copy = ask(tag, after, &give);
    pid_t pid = fork_copy(give, 0);
    assert_int_equal(hear(copy, 2000 + after, why), CELLAR_OK);
    assert_int_equal(copy->pid, pid);
    return copy;
}

static void assert_killed(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void assert_lives(pid_t pid)
{
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
}

/* ----------------------------------------------------------------- birth -- */

static void a_copy_is_whoever_says_so_and_is_stopped(void **state)
{
    (void)state;
    int give = -1;
    int status = 0;
    char why[CELLAR_WHY_MAX];
    struct cellar_copy *copy = ask("loaded", 7, &give);
    assert_ptr_equal(cellar_copies_asked(&copies), copy);
    assert_int_equal(cellar_copies_count(&copies), 0);
    assert_null(cellar_copies_find(&copies, "loaded"));
    assert_int_equal(cellar_copies_hear(copy, 1500, why), CELLAR_E_AGAIN);
    pid_t pid = fork_copy(give, 0);
    assert_int_equal(hear(copy, 2000, why), CELLAR_OK);
    assert_int_equal(copy->phase, CELLAR_COPY_FROZEN);
    assert_int_equal(copy->pid, pid);
    assert_int_equal(copy->after, 7);
    assert_int_equal(copy->asked, 1000);
    assert_int_equal(copy->taken, 2000);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    assert_null(cellar_copies_asked(&copies));
    assert_ptr_equal(cellar_copies_find(&copies, "loaded"), copy);
}

/* The agent's table of descriptors is no place for a session's. */
static void descriptors_that_a_copy_sends_go_nowhere(void **state)
{
    (void)state;
    for (size_t count = 1; count <= 2; count++) {
        int give = -1;
        char why[CELLAR_WHY_MAX];
        struct cellar_copy *copy = ask("", count, &give);
        int before = count_fds();
        pid_t pid = fork_copy(give, count); /* closes give */
        assert_int_equal(hear(copy, 2000, why), CELLAR_OK);
        assert_int_equal(copy->pid, pid);
        assert_int_equal(count_fds(), before - 1);
    }
}

/* One answer that makes no copy; what is told of it. */
static void refused(const void *bytes, size_t len, const char *told)
{
    int give = -1;
    char why[CELLAR_WHY_MAX];
    memset(why, 'x', sizeof(why));
    struct cellar_copy *copy = ask("", 1, &give);
    if (len > 0)
        assert_true(speak(give, bytes, len, 0));
    close(give);
    assert_int_equal(hear(copy, 2000, why), CELLAR_E_SYS);
    assert_string_equal(why, told);
    assert_int_equal(copy->phase, CELLAR_COPY_NONE);
    assert_int_equal(copy->control, -1);
    assert_int_equal(count_fds(), fds_before);
}

#define REFUSED(bytes, told) refused(bytes, sizeof(bytes) - 1, told)

static void a_refusal_is_told_in_plain_letters(void **state)
{
    (void)state;
    uint8_t most[CELLAR_RECORD_HEADER_BYTES + CELLAR_WHY_MAX + 64] = {
        0, 0, 1, 0, CELLAR_RECORD_UNFIT};
    char told[CELLAR_WHY_MAX];
    REFUSED("\0\0\0\5U5 GPU", "5 GPU");
    REFUSED("\0\0\0\1U\033]0;a\a\n\r\0b\177\377\303\251", "?]0;a????b????");
    REFUSED("\0\0\0\3U\0\0\0", "???");
    memset(most + CELLAR_RECORD_HEADER_BYTES, 'n',
           sizeof(most) - CELLAR_RECORD_HEADER_BYTES);
    memset(told, 'n', sizeof(told));
    told[sizeof(told) - 1] = '\0';
    refused(most, CELLAR_RECORD_HEADER_BYTES + CELLAR_WHY_MAX, told);
    refused(most, sizeof(most), told);
}

static void what_is_no_copy_is_dropped(void **state)
{
    (void)state;
    static const char told[] = "the worker did not make a copy of itself";
    refused("", 0, told); /* it has died */
    REFUSED("\0\0\0\0U", told);
    REFUSED("\0\0\0\0X", told);
    REFUSED("\0\0\0\0", told);
    REFUSED("Z", told);
    REFUSED("\0\0\0\0Z\0", told);
    REFUSED("\0\0\0\1Zx", told);
    REFUSED("\0\0\0\10A12345678", told);
    REFUSED("\0\0\0\0Z\0\0\0\0Z", told);
}

/* --------------------------------------------------------------- looking -- */

static void copies_are_found_by_name_and_age(void **state)
{
    (void)state;
    int give = -1;
    assert_null(cellar_copies_newest(&copies));
    const struct cellar_copy *first = freeze("loaded", 1);
    const struct cellar_copy *second = freeze("", 2);
    assert_ptr_equal(cellar_copies_newest(&copies), second);
    const struct cellar_copy *third = freeze("trained", 3);
    assert_ptr_equal(cellar_copies_newest(&copies), third);
    assert_ptr_equal(cellar_copies_find(&copies, "loaded"), first);
    assert_ptr_equal(cellar_copies_find(&copies, "trained"), third);
    assert_null(cellar_copies_find(&copies, "loade"));
    assert_int_equal(cellar_copies_count(&copies), 3);
    assert_int_equal(cellar_copies_named(&copies), 2);
    const struct cellar_copy *asked = ask("later", 4, &give);
    assert_ptr_equal(cellar_copies_asked(&copies), asked);
    assert_int_equal(cellar_copies_count(&copies), 3);
    assert_int_equal(cellar_copies_named(&copies), 2);
    close(give);
}

static void copies_are_known_by_their_pids(void **state)
{
    (void)state;
    int give = -1;
    pid_t pids[CELLAR_COPY_PLACES];
    assert_int_equal(cellar_copies_pids(&copies, pids), 0);
    pid_t first = freeze("", 1)->pid;
    pid_t second = freeze("", 2)->pid;
    (void)ask("", 3, &give);
    close(give);
    assert_int_equal(cellar_copies_pids(&copies, pids), 2);
    assert_int_equal(pids[0], first);
    assert_int_equal(pids[1], second);
    assert_true(cellar_copies_have(&copies, first));
    assert_true(cellar_copies_have(&copies, second));
    assert_false(cellar_copies_have(&copies, getpid()));
    /* one that is asked for has none yet */
    assert_false(cellar_copies_have(&copies, 0));
    assert_false(cellar_copies_died(&copies, 0));
    assert_non_null(cellar_copies_asked(&copies));
}

static void a_tag_is_kept_whole(void **state)
{
    (void)state;
    char tag[CELLAR_CHECKPOINT_TAG_MAX + 1];
    memset(tag, 't', sizeof(tag));
    tag[CELLAR_CHECKPOINT_TAG_MAX] = '\0';
    const struct cellar_copy *copy = freeze(tag, 1);
    assert_string_equal(copy->tag, tag);
    assert_ptr_equal(cellar_copies_find(&copies, tag), copy);
}

/* ------------------------------------------------------------------ ends -- */

static void a_copy_that_is_dropped_is_killed(void **state)
{
    (void)state;
    struct cellar_copy *copy = freeze("", 1);
    pid_t other = freeze("", 2)->pid;
    pid_t pid = copy->pid;
    cellar_copy_drop(copy);
    assert_killed(pid);
    assert_lives(other);
    assert_int_equal(cellar_copies_count(&copies), 1);
    assert_false(cellar_copies_have(&copies, pid));
}

/* It was reaped, and its number may be another's: no signal goes there. */
static void a_copy_that_died_is_only_forgotten(void **state)
{
    (void)state;
    pid_t dead = freeze("", 1)->pid;
    pid_t left = freeze("", 2)->pid;
    int before = count_fds();
    kill(dead, SIGKILL);
    assert_killed(dead);
    assert_true(cellar_copies_died(&copies, dead));
    assert_false(cellar_copies_died(&copies, dead));
    assert_int_equal(count_fds(), before - 1);
    assert_int_equal(cellar_copies_count(&copies), 1);
    assert_lives(left);
}

static void a_copy_that_is_taken_lives_on_its_socket(void **state)
{
    (void)state;
    int on = -1;
    socklen_t len = sizeof(on);
    struct cellar_copy *copy = freeze("loaded", 1);
    pid_t pid = copy->pid;
    int control = cellar_copy_take(copy);
    assert_int_equal(cellar_copies_count(&copies), 0);
    assert_null(cellar_copies_find(&copies, "loaded"));
    cellar_copies_clear(&copies);
    assert_lives(pid);
    assert_int_equal(getsockopt(control, SOL_SOCKET, SO_PASSCRED, &on, &len),
                     0);
    assert_int_equal(on, 0);
    assert_int_equal(send(control, "x", 1, MSG_NOSIGNAL), 1);
    close(control);
    kill(pid, SIGKILL);
}

static void thinning_drops_the_oldest_that_have_no_name(void **state)
{
    (void)state;
    int give = -1;
    pid_t oldest = freeze("", 1)->pid;
    pid_t named = freeze("loaded", 2)->pid;
    pid_t older = freeze("", 3)->pid;
    pid_t newest = freeze("", 4)->pid;
    const struct cellar_copy *asked = ask("", 5, &give);
    close(give);
    assert_false(cellar_copies_thin(&copies, 3));
    assert_int_equal(cellar_copies_count(&copies), 4);
    assert_true(cellar_copies_thin(&copies, 1));
    assert_killed(oldest);
    assert_killed(older);
    assert_true(cellar_copies_have(&copies, newest));
    assert_true(cellar_copies_thin(&copies, 0));
    assert_killed(newest);
    assert_false(cellar_copies_thin(&copies, 0));
    assert_true(cellar_copies_have(&copies, named));
    assert_int_equal(asked->phase, CELLAR_COPY_ASKED);
}

/* Who counts the session's processes finds it among them until then. */
static void one_that_was_thinned_out_counts_until_it_is_reaped(void **state)
{
    (void)state;
    pid_t oldest = freeze("", 1)->pid;
    pid_t newest = freeze("", 2)->pid;
    assert_int_equal(cellar_copies_processes(&copies), 2);
    assert_true(cellar_copies_thin(&copies, 1));
    assert_int_equal(cellar_copies_count(&copies), 1);
    assert_int_equal(cellar_copies_processes(&copies), 2);
    assert_killed(oldest);
    assert_true(cellar_copies_died(&copies, oldest));
    assert_false(cellar_copies_died(&copies, oldest));
    assert_int_equal(cellar_copies_processes(&copies), 1);
    assert_true(cellar_copies_have(&copies, newest));
}

static void clearing_drops_all_and_frees_the_places(void **state)
{
    (void)state;
    int give = -1;
    pid_t first = freeze("", 1)->pid;
    pid_t second = freeze("loaded", 2)->pid;
    (void)ask("", 3, &give);
    close(give);
    cellar_copies_clear(&copies);
    assert_killed(first);
    assert_killed(second);
    assert_null(cellar_copies_newest(&copies));
    assert_int_equal(count_fds(), fds_before);
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        assert_int_equal(copies.all[i].control, -1);
}

/* ---------------------------------------------------------------- limits -- */

static void places_run_out(void **state)
{
    (void)state;
    int give = -1;
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        (void)ask("", i, &give);
        close(give);
    }
    int before = count_fds();
    give = -1;
    assert_null(cellar_copies_ask(&copies, "", 0, 0, &give));
    assert_int_equal(give, -1);
    assert_int_equal(count_fds(), before);
    cellar_copy_drop(&copies.all[3]);
    assert_ptr_equal(ask("", 99, &give), &copies.all[3]);
    assert_ptr_equal(cellar_copies_newest(&copies), &copies.all[3]);
    close(give);
}

static void descriptors_run_out(void **state)
{
    (void)state;
    struct rlimit before;
    int give = -1;
    int next = dup(STDIN_FILENO);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit low = {.rlim_cur = (rlim_t)next + 1,
                               .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    const struct cellar_copy *copy =
        cellar_copies_ask(&copies, "", 0, 0, &give);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(copy);
    assert_int_equal(give, -1);
    assert_null(cellar_copies_asked(&copies));
    assert_int_equal(count_fds(), fds_before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_copy_is_whoever_says_so_and_is_stopped),
        TEST(descriptors_that_a_copy_sends_go_nowhere),
        TEST(a_refusal_is_told_in_plain_letters),
        TEST(what_is_no_copy_is_dropped),
        TEST(copies_are_found_by_name_and_age),
        TEST(copies_are_known_by_their_pids),
        TEST(a_tag_is_kept_whole),
        TEST(a_copy_that_is_dropped_is_killed),
        TEST(a_copy_that_died_is_only_forgotten),
        TEST(a_copy_that_is_taken_lives_on_its_socket),
        TEST(thinning_drops_the_oldest_that_have_no_name),
        TEST(one_that_was_thinned_out_counts_until_it_is_reaped),
        TEST(clearing_drops_all_and_frees_the_places),
        TEST(places_run_out),
        TEST(descriptors_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
