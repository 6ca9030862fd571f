#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/loop.h"

struct log {
    struct cellar_loop *loop;
    struct cellar_timer *timer;
    struct cellar_watch *watch;
    struct cellar_wake *wake;
    int fd;
    char text[16];
    int events;
    int calls;
};

static struct log *open_log(void)
{
    static struct log log;
    log = (struct log){.fd = -1};
    assert_int_equal(cellar_loop_new(&log.loop, NULL), CELLAR_OK);
    return &log;
}

static void put_a(void *user)
{
    struct log *log = user;
    log->text[strlen(log->text)] = 'a';
}

static void put_b(void *user)
{
    struct log *log = user;
    log->text[strlen(log->text)] = 'b';
}

static void timers_fire_once_and_in_their_order(void **state)
{
    (void)state;
    struct log *log = open_log();
    struct cellar_timer *a = NULL;
    struct cellar_timer *b = NULL;
    assert_int_equal(cellar_timer_new(log->loop, put_a, log, &a, NULL), 0);
    assert_int_equal(cellar_timer_new(log->loop, put_b, log, &b, NULL), 0);
    cellar_timer_set(a, 30);
    cellar_timer_set(b, 10);
    uint64_t began = cellar_loop_now_us();
    while (cellar_loop_run(log->loop, -1))
        ;
    assert_string_equal(log->text, "ba");
    assert_true(cellar_loop_now_us() - began >= 29000);
    cellar_timer_close(a);
    cellar_timer_close(b);
    cellar_loop_free(log->loop);
}

static void a_timer_counts_from_when_it_is_set(void **state)
{
    (void)state;
    struct log *log = open_log();
    assert_int_equal(cellar_timer_new(log->loop, put_a, log, &log->timer, NULL),
                     0);
    usleep(60000); /* a callback that took long */
    uint64_t began = cellar_loop_now_us();
    cellar_timer_set(log->timer, 40);
    cellar_loop_run(log->loop, -1);
    assert_string_equal(log->text, "a");
    assert_true(cellar_loop_now_us() - began >= 39000);
    cellar_timer_close(log->timer);
    cellar_loop_free(log->loop);
}

static void an_unset_timer_holds_nothing_up(void **state)
{
    (void)state;
    struct log *log = open_log();
    assert_int_equal(cellar_timer_new(log->loop, put_a, log, &log->timer, NULL),
                     0);
    assert_false(cellar_loop_run(log->loop, -1));
    cellar_timer_set(log->timer, 5);
    cellar_timer_unset(log->timer);
    assert_false(cellar_loop_run(log->loop, -1));
    assert_string_equal(log->text, "");
    cellar_timer_close(log->timer);
    cellar_loop_free(log->loop);
}

static void waits_no_longer_than_told(void **state)
{
    (void)state;
    struct log *log = open_log();
    uint64_t began = cellar_loop_now_us();
    assert_int_equal(cellar_timer_new(log->loop, put_a, log, &log->timer, NULL),
                     0);
    cellar_timer_set(log->timer, 60000);
    assert_true(cellar_loop_run(log->loop, 0));
    assert_true(cellar_loop_run(log->loop, 30));
    uint64_t took = cellar_loop_now_us() - began;
    assert_true(took >= 29000);
    assert_true(took < 30000000);
    cellar_timer_close(log->timer);
    cellar_loop_free(log->loop);
}

static void close_timer(void *user)
{
    struct log *log = user;
    cellar_timer_close(log->timer);
    log->timer = NULL;
    log->calls++;
}

static void take_long(void *user)
{
    struct log *log = user;
    put_a(log);
    usleep(30000);
    cellar_timer_set(log->timer, 1000);
}

/* What is due comes first, and may take as long as there was to wait. */
static void nor_after_what_took_as_long(void **state)
{
    (void)state;
    struct log *log = open_log();
    struct cellar_timer *now = NULL;
    assert_int_equal(cellar_timer_new(log->loop, take_long, log, &now, NULL),
                     0);
    assert_int_equal(cellar_timer_new(log->loop, put_b, log, &log->timer, NULL),
                     0);
    cellar_timer_set(now, 0);
    cellar_loop_run(log->loop, 10);
    assert_string_equal(log->text, "a");
    cellar_timer_close(now);
    cellar_timer_close(log->timer);
    cellar_loop_free(log->loop);
}

static void a_timer_may_be_closed_as_it_fires(void **state)
{
    (void)state;
    struct log *log = open_log();
    assert_int_equal(
        cellar_timer_new(log->loop, close_timer, log, &log->timer, NULL), 0);
    cellar_timer_set(log->timer, 0);
    while (cellar_loop_run(log->loop, -1))
        ;
    assert_int_equal(log->calls, 1);
    cellar_loop_free(log->loop);
}

static void note_events(void *user, int events)
{
    struct log *log = user;
    log->events |= events;
    log->calls++;
}

static void open_pair(struct log *log, int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds),
                     0);
    assert_int_equal(cellar_watch_new(log->loop, fds[0], note_events, log,
                                      &log->watch, NULL),
                     CELLAR_OK);
}

static void close_pair(struct log *log, int fds[2])
{
    cellar_watch_close(log->watch);
    cellar_loop_free(log->loop);
    close(fds[0]);
    if (fds[1] >= 0)
        close(fds[1]);
}

static void a_watch_tells_until_all_is_read(void **state)
{
    (void)state;
    struct log *log = open_log();
    int fds[2];
    char byte = 0;
    open_pair(log, fds);
    assert_int_equal(cellar_watch_set(log->watch, CELLAR_READABLE), CELLAR_OK);
    cellar_loop_run(log->loop, 5);
    assert_int_equal(log->calls, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    cellar_loop_run(log->loop, 1000);
    cellar_loop_run(log->loop, 1000);
    assert_int_equal(log->calls, 2);
    assert_int_equal(log->events, CELLAR_READABLE);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    cellar_loop_run(log->loop, 5);
    assert_int_equal(log->calls, 2);
    close_pair(log, fds);
}

static void a_watch_tells_only_what_it_was_asked(void **state)
{
    (void)state;
    struct log *log = open_log();
    int fds[2];
    open_pair(log, fds);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(cellar_watch_set(log->watch, CELLAR_WRITABLE), CELLAR_OK);
    cellar_loop_run(log->loop, 1000);
    assert_int_equal(log->events, CELLAR_WRITABLE);
    assert_int_equal(cellar_watch_set(log->watch, 0), CELLAR_OK);
    int calls = log->calls;
    cellar_loop_run(log->loop, 5);
    assert_int_equal(log->calls, calls);
    close_pair(log, fds);
}

static void a_hang_up_can_be_read(void **state)
{
    (void)state;
    struct log *log = open_log();
    int fds[2];
    open_pair(log, fds);
    assert_int_equal(cellar_watch_set(log->watch, CELLAR_READABLE), CELLAR_OK);
    close(fds[1]);
    fds[1] = -1;
    cellar_loop_run(log->loop, 1000);
    cellar_loop_run(log->loop, 1000);
    assert_int_equal(log->calls, 2);
    assert_int_equal(log->events, CELLAR_READABLE);
    close_pair(log, fds);
}

static void a_loop_around_it_is_told_to_run_first(void **state)
{
    (void)state;
    struct log *log = open_log();
    int fds[2];
    open_pair(log, fds);
    assert_true(cellar_loop_fd(log->loop) >= 0);
    assert_int_equal(cellar_watch_set(log->watch, CELLAR_READABLE), CELLAR_OK);
    /* the kernel does not know of the watch yet */
    assert_int_equal(cellar_loop_timeout(log->loop), 0);
    cellar_loop_run(log->loop, 0);
    assert_int_equal(cellar_loop_timeout(log->loop), -1);
    close_pair(log, fds);
}

static void *signal_wake(void *arg)
{
    usleep(20000);
    cellar_wake_signal(((struct log *)arg)->wake);
    return NULL;
}

static void a_thread_wakes_the_loop(void **state)
{
    (void)state;
    struct log *log = open_log();
    pthread_t thread;
    assert_int_equal(cellar_wake_new(log->loop, put_a, log, &log->wake, NULL),
                     CELLAR_OK);
    assert_int_equal(pthread_create(&thread, NULL, signal_wake, log), 0);
    while (!*log->text)
        cellar_loop_run(log->loop, -1);
    pthread_join(thread, NULL);
    assert_string_equal(log->text, "a");
    cellar_wake_close(log->wake);
    cellar_loop_free(log->loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_and_in_their_order),
        cmocka_unit_test(a_timer_counts_from_when_it_is_set),
        cmocka_unit_test(an_unset_timer_holds_nothing_up),
        cmocka_unit_test(waits_no_longer_than_told),
        cmocka_unit_test(nor_after_what_took_as_long),
        cmocka_unit_test(a_timer_may_be_closed_as_it_fires),
        cmocka_unit_test(a_watch_tells_until_all_is_read),
        cmocka_unit_test(a_watch_tells_only_what_it_was_asked),
        cmocka_unit_test(a_hang_up_can_be_read),
        cmocka_unit_test(a_loop_around_it_is_told_to_run_first),
        cmocka_unit_test(a_thread_wakes_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
