/* The door: whole visitors come in, everything else goes with all that it
 * sent, and nobody can keep the agent waiting. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime-image/agent/door.h"

#define FDS_MOST 16

struct world {
    int fds; /* open before */
    struct cellar_door door;
    struct cellar_visitor visitor;
    char name[64];
};

static int count_fds(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static bool always(pid_t pid)
{
    return pid == getpid();
}

static bool anybody(pid_t pid)
{
    return pid > 0;
}

static bool never(pid_t pid)
{
    (void)pid;
    return false;
}

static int asked;

static bool only_at_first(pid_t pid)
{
    (void)pid;
    return asked++ == 0;
}

static int open_world(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->fds = count_fds();
    snprintf(w->name, sizeof(w->name), "cellar-test-door-%d", (int)getpid());
    assert_int_equal(cellar_door_open(&w->door, w->name), CELLAR_OK);
    w->door.is_engines = always;
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    cellar_door_close(&w->door);
    assert_int_equal(count_fds(), w->fds);
    free(w);
    return 0;
}

static int knock(const struct world *w)
{
    struct sockaddr_un address;
    socklen_t len = cellar_door_address(&address, w->name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
    return fd;
}

static void say(int to, const void *data, size_t len, const int *fds,
                size_t count)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(FDS_MOST * sizeof(int))];
    } control = {0};
    struct iovec bytes = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (count > 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    assert_int_equal(sendmsg(to, &msg, MSG_NOSIGNAL), len);
}

static const uint8_t lane_7[8] = {0, 0, 0, 0, 0, 0, 0, 7};

static void take_nobody(struct world *w)
{
    const struct cellar_visitor untouched = {99, -5, -6, -7};
    w->visitor = untouched;
    assert_false(cellar_door_take(&w->door, &w->visitor));
    assert_memory_equal(&w->visitor, &untouched, sizeof(untouched));
}

static bool knocks(const struct world *w)
{
    struct pollfd fds = {cellar_door_fd(&w->door), POLLIN, 0};
    return poll(&fds, 1, 0) == 1;
}

static bool hung_up(int fd)
{
    char byte = 0;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void close_visitor(const struct cellar_visitor *visitor)
{
    close(visitor->in);
    close(visitor->out);
    close(visitor->hold);
}

/* What a relay does: both of its descriptors, then none of its own. */
static int visit(const struct world *w, const int fds[2])
{
    int relay = knock(w);
    say(relay, lane_7, sizeof(lane_7), fds, 2);
    close(fds[0]);
    close(fds[1]);
    return relay;
}

static void assert_ours(int fd)
{
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void a_relay_brings_its_lane_and_both_ends(void **state)
{
    struct world *w = *state;
    int in[2];
    int out[2];
    char bytes[4] = "";
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    assert_false(knocks(w));
    int relay = visit(w, (int[2]){in[0], out[1]});
    assert_true(knocks(w));
    assert_true(cellar_door_take(&w->door, &w->visitor));
    assert_false(knocks(w));
    assert_int_equal(w->visitor.lane, 7);
    assert_int_equal(write(in[1], "to", 2), 2);
    assert_int_equal(read(w->visitor.in, bytes, 4), 2);
    assert_int_equal(write(w->visitor.out, "fro", 3), 3);
    assert_int_equal(read(out[0], bytes, 4), 3);
    assert_ours(w->visitor.in);
    assert_ours(w->visitor.out);
    assert_ours(w->visitor.hold);
    close(in[1]);
    assert_int_equal(read(w->visitor.in, bytes, 4), 0);
    assert_false(hung_up(relay));
    close_visitor(&w->visitor);
    assert_true(hung_up(relay));
    close(out[0]);
    close(relay);
}

static void a_relay_may_speak_later(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    int relay = knock(w);
    take_nobody(w);
    assert_false(knocks(w));
    say(relay, lane_7, sizeof(lane_7), ends, 2);
    assert_true(knocks(w));
    assert_true(cellar_door_take(&w->door, &w->visitor));
    assert_int_equal(w->visitor.lane, 7);
    close_visitor(&w->visitor);
    close(ends[0]);
    close(ends[1]);
    close(relay);
}

static void a_relay_that_dies_is_seen_by_its_taker(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int relay = visit(w, ends);
    assert_true(cellar_door_take(&w->door, &w->visitor));
    struct pollfd hold = {w->visitor.hold, POLLIN, 0};
    assert_int_equal(poll(&hold, 1, 0), 0);
    close(relay);
    assert_int_equal(poll(&hold, 1, 0), 1);
    close_visitor(&w->visitor);
}

/* Sent with `count` times the descriptor `fd`: nothing of it stays open. */
static void assert_dropped(struct world *w, const void *data, size_t len,
                           int fd, size_t count)
{
    int fds[FDS_MOST];
    int before = count_fds();
    int relay = knock(w);
    for (size_t i = 0; i < FDS_MOST; i++)
        fds[i] = fd;
    say(relay, data, len, fds, count);
    take_nobody(w);
    assert_true(hung_up(relay));
    assert_false(knocks(w));
    close(relay);
    assert_int_equal(count_fds(), before);
}

static void packets_of_another_shape_are_dropped(void **state)
{
    struct world *w = *state;
    static const uint8_t lane_0[8];
    static const uint8_t beyond[8] = {0, 0, 0, 1, 0, 0, 0, 0};
    static const uint8_t longer[4096] = {0, 0, 0, 0, 0, 0, 0, 7};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    for (size_t len = 0; len < sizeof(lane_7); len++)
        assert_dropped(w, lane_7, len, ends[0], 2);
    assert_dropped(w, longer, 9, ends[0], 2);
    assert_dropped(w, longer, sizeof(longer), ends[0], 2);
    assert_dropped(w, lane_0, sizeof(lane_0), ends[0], 2);
    assert_dropped(w, beyond, sizeof(beyond), ends[0], 2);
    close(ends[0]);
    close(ends[1]);
}

static void all_fds_of_a_wrong_number_are_closed(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    for (size_t count = 0; count <= FDS_MOST; count++)
        if (count != CELLAR_DOOR_FDS)
            assert_dropped(w, lane_7, sizeof(lane_7), ends[0], count);
    close(ends[0]);
    close(ends[1]);
}

static void what_is_no_pipe_is_dropped(void **state)
{
    struct world *w = *state;
    static const char *const paths[] = {"/dev/null", "/dev/ptmx", "/", NULL};
    for (size_t i = 0; paths[i]; i++) {
        int fd = open(paths[i], O_RDONLY | O_NOCTTY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_dropped(w, lane_7, sizeof(lane_7), fd, 2);
        close(fd);
    }
}

static void whom_the_engine_did_not_start_is_not_heard(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    w->door.is_engines = never;
    assert_dropped(w, lane_7, sizeof(lane_7), ends[0], 2);
    int silent = knock(w);
    take_nobody(w);
    assert_true(hung_up(silent));
    close(silent);
    /* the number changes hands between the connection and the packet */
    w->door.is_engines = only_at_first;
    asked = 0;
    assert_dropped(w, lane_7, sizeof(lane_7), ends[0], 2);
    assert_int_equal(asked, 2);
    close(ends[0]);
    close(ends[1]);
}

static void the_sender_must_be_who_connected(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    w->door.is_engines = anybody;
    int relay = knock(w);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        say(relay, lane_7, sizeof(lane_7), ends, 2);
        for (;;)
            pause();
    }
    struct pollfd fds = {cellar_door_fd(&w->door), POLLIN, 0};
    take_nobody(w);
    while (!hung_up(relay)) {
        assert_int_equal(poll(&fds, 1, 60000), 1);
        take_nobody(w);
    }
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(relay);
    close(ends[0]);
    close(ends[1]);
}

static void the_silent_are_few_and_the_oldest_goes(void **state)
{
    struct world *w = *state;
    enum { CROWD = CELLAR_DOOR_WAITING_MAX + 3 };
    int relays[CROWD];
    int ends[2];
    int before = count_fds();
    for (size_t i = 0; i < CROWD; i++) {
        relays[i] = knock(w);
        take_nobody(w);
    }
    assert_int_equal(count_fds(), before + CROWD + CELLAR_DOOR_WAITING_MAX);
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(hung_up(relays[i]),
                         i < CROWD - CELLAR_DOOR_WAITING_MAX);
    assert_int_equal(pipe(ends), 0);
    say(relays[CROWD - 1], lane_7, sizeof(lane_7), ends, 2);
    assert_true(cellar_door_take(&w->door, &w->visitor));
    close_visitor(&w->visitor);
    for (size_t i = 0; i < CROWD; i++)
        close(relays[i]);
    take_nobody(w);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(count_fds(), before);
}

static void who_hangs_up_leaves_nothing(void **state)
{
    struct world *w = *state;
    int ends[2];
    int before = count_fds();
    int relay = knock(w);
    close(relay); /* not let in yet */
    take_nobody(w);
    relay = knock(w);
    take_nobody(w);
    close(relay); /* waits */
    take_nobody(w);
    assert_false(knocks(w));
    assert_int_equal(count_fds(), before);
    /* its packet is there, and itself gone: the taker sees it at once */
    assert_int_equal(pipe(ends), 0);
    close(visit(w, ends));
    assert_true(cellar_door_take(&w->door, &w->visitor));
    assert_true(hung_up(w->visitor.hold));
    close_visitor(&w->visitor);
}

static void several_come_in_one_after_the_other(void **state)
{
    struct world *w = *state;
    int relays[3];
    for (size_t i = 0; i < 3; i++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        relays[i] = visit(w, ends);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(knocks(w));
        assert_true(cellar_door_take(&w->door, &w->visitor));
        close_visitor(&w->visitor);
        assert_true(hung_up(relays[i]));
        close(relays[i]);
    }
    take_nobody(w);
}

static void what_waits_goes_with_the_door(void **state)
{
    struct world *w = *state;
    int waits = knock(w);
    take_nobody(w);
    int knocking = knock(w);
    cellar_door_close(&w->door);
    assert_true(hung_up(waits));
    assert_true(hung_up(knocking));
    assert_int_equal(cellar_door_fd(&w->door), -1);
    close(waits);
    close(knocking);
}

static void a_name_is_taken_once(void **state)
{
    struct world *w = *state;
    struct cellar_door second;
    int before = count_fds();
    assert_int_equal(cellar_door_open(&second, w->name), CELLAR_E_SYS);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(cellar_door_fd(&second), -1);
    assert_int_equal(count_fds(), before);
}

static void a_parent_is_read_behind_any_name(void **state)
{
    (void)state;
    static const char *const outside[] = {
        "7 (relay) S 0 7 7 0 -1", "7 (a b) R 0 7", "7 (a) S 3 () S 0 7 7",
        "7 ()) S 0 1", "7 (\n) S 0 1"};
    static const char *const inside[] = {"7 (relay) S 1 7 7 0 -1",
                                         "7 (a) S 0 7 7 () S 3 7 7",
                                         "7 (relay) S 01 7",
                                         "7 (relay) S 00 7",
                                         "7 (relay) S 0",
                                         "7 (relay) S",
                                         "7 (relay) ",
                                         "7 (relay)",
                                         "7 (relay)) 0 0",
                                         "7 (S 0 7 7",
                                         "7 relay S 0 7",
                                         "",
                                         "7 (relay) SS 0 7",
                                         "7 (relay) S -0 7",
                                         "7 (relay) S 0)"};
    for (size_t i = 0; i < sizeof(outside) / sizeof(*outside); i++)
        assert_true(cellar_door_parent_is_outside(outside[i]));
    for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++)
        assert_false(cellar_door_parent_is_outside(inside[i]));
}

static void a_process_with_a_parent_is_not_the_engines(void **state)
{
    (void)state;
    char name[16] = "";
    assert_int_equal(prctl(PR_GET_NAME, name), 0);
    assert_false(cellar_door_is_engines(getpid()));
    assert_int_equal(prctl(PR_SET_NAME, "x) S 0 (y"), 0);
    assert_false(cellar_door_is_engines(getpid()));
    assert_int_equal(prctl(PR_SET_NAME, name), 0);
    assert_false(cellar_door_is_engines(1)); /* the agent itself */
    assert_false(cellar_door_is_engines(0));
    assert_false(cellar_door_is_engines(-1));
}

#define DOOR_TEST(name)                                                        \
    cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOOR_TEST(a_relay_brings_its_lane_and_both_ends),
        DOOR_TEST(a_relay_may_speak_later),
        DOOR_TEST(a_relay_that_dies_is_seen_by_its_taker),
        DOOR_TEST(packets_of_another_shape_are_dropped),
        DOOR_TEST(all_fds_of_a_wrong_number_are_closed),
        DOOR_TEST(what_is_no_pipe_is_dropped),
        DOOR_TEST(whom_the_engine_did_not_start_is_not_heard),
        DOOR_TEST(the_sender_must_be_who_connected),
        DOOR_TEST(the_silent_are_few_and_the_oldest_goes),
        DOOR_TEST(who_hangs_up_leaves_nothing),
        DOOR_TEST(several_come_in_one_after_the_other),
        DOOR_TEST(what_waits_goes_with_the_door),
        DOOR_TEST(a_name_is_taken_once),
        cmocka_unit_test(a_parent_is_read_behind_any_name),
        cmocka_unit_test(a_process_with_a_parent_is_not_the_engines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
