/* How the processes of a session are reaped and killed. What is tested kills
 * everything that it can see: so each case runs as process 1 of a namespace of
 * its own, with a /proc of its own, and nowhere else. It needs root. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime-image/agent/processes.h"

/* A case that came to its end; nothing else says so. */
#define WHOLE 42

/* A user nobody else is: a limit on processes counts all of a user's. */
#define FORKER_UID 61987
#define FORKERS    30

#define MUCH (32 << 20)

/* What the processes of a case share. */
static struct {
    atomic_uint forks;
    atomic_uint echoes;
} * shared;

/* Inside of a namespace nothing may return into cmocka. */
#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            (void)dprintf(STDERR_FILENO, "%s:%d: not so: %s (%s)\n", __FILE__, \
                          __LINE__, #condition, strerror(errno));              \
            _exit(EXIT_FAILURE);                                               \
        }                                                                      \
    } while (0)

/* ----------------------------------------------------------- a namespace -- */

/* Process 1 of it dies with the test, and all others with process 1. */
static void be_process_one(void (*body)(void))
{
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    MUST(getpid() == 1);
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    MUST(mount("proc", "/proc", "proc", 0, NULL) == 0);
    char self[16] = "";
    MUST(readlink("/proc/self", self, sizeof(self) - 1) == 1);
    MUST(strcmp(self, "1") == 0);
    body();
    _exit(WHOLE);
}

static int status_of(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void as_process_one(void (*body)(void))
{
    pid_t outside = fork();
    assert_true(outside >= 0);
    if (outside == 0) {
        MUST(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        MUST(unshare(CLONE_NEWPID | CLONE_NEWNS) == 0);
        pid_t one = fork();
        MUST(one >= 0);
        if (one == 0)
            be_process_one(body);
        _exit(status_of(one));
    }
    assert_int_equal(status_of(outside), WHOLE);
}

static int set_up(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(shared, sizeof(*shared));
}

/* ------------------------------------------------------------- processes -- */

static pid_t start(void (*life)(void))
{
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        life();
        _exit(EXIT_SUCCESS);
    }
    return pid;
}

static void wait_for_ever(void)
{
    for (;;)
        pause();
}

static void count_up(void)
{
    for (;;)
        atomic_fetch_add(&shared->echoes, 1);
}

static void end_at_once(void)
{
}

static void use_memory(void)
{
    char *much = malloc(MUCH);
    MUST(much != NULL);
    for (size_t i = 0; i < MUCH; i += 1024)
        ((volatile char *)much)[i] = 1;
}

static void be_a_user_of_few_processes(void)
{
    const struct rlimit few = {FORKERS, FORKERS};
    MUST(setrlimit(RLIMIT_NPROC, &few) == 0);
    MUST(setresuid(FORKER_UID, FORKER_UID, FORKER_UID) == 0);
}

/* One process that is never the same for long: its number is another's before
 * a signal gets there. */
static void fork_on(void)
{
    be_a_user_of_few_processes();
    for (;;) {
        pid_t pid = fork();
        if (pid > 0)
            _exit(EXIT_SUCCESS);
        if (pid == 0)
            atomic_fetch_add(&shared->forks, 1);
    }
}

/* As many processes as there may be, which try three times each to make others;
 * the first never ends, so that they don't die out. */
static void fork_wildly(void)
{
    bool first = true;
    be_a_user_of_few_processes();
    MUST(signal(SIGCHLD, SIG_IGN) != SIG_ERR); /* for the kernel to reap them */
    for (int tries = 0; first || tries < 3; tries++)
        if (fork() == 0) {
            atomic_fetch_add(&shared->forks, 1);
            first = false;
            tries = -1;
        }
}

/* A dead one counts as one of its user's until it is reaped. */
static void wait_for_forks(unsigned least)
{
    while (atomic_load(&shared->forks) < least)
        (void)waitpid(-1, NULL, WNOHANG);
}

static void wait_for_echoes(unsigned least)
{
    while (atomic_load(&shared->echoes) < least)
        sched_yield();
}

static void wait_for_death(pid_t pid)
{
    siginfo_t info;
    MUST(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

/* The letter of /proc/PID/stat; 0: there is no such process. */
static char state_of(pid_t pid)
{
    char path[32];
    char letter = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    MUST(fscanf(file, "%*d (%*[^)]) %c", &letter) == 1);
    MUST(fclose(file) == 0);
    return letter;
}

/* A signal is taken when its process next looks, not when it is sent. */
static void wait_for_stop(pid_t pid)
{
    for (int i = 0; i < 10000 && state_of(pid) != 'T'; i++)
        MUST(usleep(1000) == 0);
    MUST(state_of(pid) == 'T');
}

static size_t count_processes(void)
{
    size_t count = 0;
    DIR *proc = opendir("/proc");
    MUST(proc != NULL);
    for (const struct dirent *e = readdir(proc); e; e = readdir(proc))
        count += strtol(e->d_name, NULL, 10) > 0;
    MUST(closedir(proc) == 0);
    return count;
}

static bool all_are_reaped(void)
{
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

/* --------------------------------------------------------------- reaping -- */

static void reap_each(void)
{
    struct cellar_death death;
    MUST(!cellar_processes_reap(&death));
    pid_t alive = start(wait_for_ever);
    MUST(!cellar_processes_reap(&death));
    pid_t dead = start(use_memory);
    wait_for_death(dead);
    MUST(cellar_processes_reap(&death));
    MUST(death.pid == dead);
    MUST(WIFEXITED(death.status) && WEXITSTATUS(death.status) == EXIT_SUCCESS);
    MUST(death.used.ru_maxrss >= MUCH >> 10);
    MUST(!cellar_processes_reap(&death));
    MUST(kill(alive, SIGTERM) == 0);
    wait_for_death(alive);
    MUST(cellar_processes_reap(&death));
    MUST(death.pid == alive);
    MUST(WIFSIGNALED(death.status) && WTERMSIG(death.status) == SIGTERM);
}

static void the_dead_are_reaped_one_by_one(void **state)
{
    (void)state;
    as_process_one(reap_each);
}

/* ------------------------------------------------------------- all of them --
 */

static void kill_a_crowd(void)
{
    (void)start(wait_for_ever);
    (void)start(count_up);
    pid_t stopped = start(wait_for_ever);
    MUST(kill(stopped, SIGSTOP) == 0);
    (void)start(end_at_once);
    (void)start(fork_on);
    (void)start(fork_wildly);
    wait_for_forks(300);
    MUST(cellar_processes_kill_all());
    MUST(all_are_reaped());
    MUST(count_processes() == 1);
    MUST(cellar_processes_kill_all()); /* when there is nobody */
}

static void all_are_killed_that_fork_too(void **state)
{
    (void)state;
    as_process_one(kill_a_crowd);
}

/* ------------------------------------------------------------- but some -- */

struct list {
    pid_t *pids;
    size_t count;
};

static void strike_out(void *user, const struct cellar_death *death)
{
    const struct list *list = user;
    for (size_t i = 0; i < list->count; i++)
        if (list->pids[i] == death->pid)
            list->pids[i] = 0;
}

/* As the agent does that has one lane: `spared` are its copies. */
static bool kill_others(pid_t *spared, size_t count)
{
    struct list list = {.count = count};
    list.pids = spared;
    const struct cellar_kin kin = {
        .frozen = spared, .count = count, .reaped = strike_out, .user = &list};
    return cellar_processes_kill_strangers(&kin);
}

static void spare_two(void)
{
    pid_t idle = start(wait_for_ever);
    pid_t busy = start(count_up);
    pid_t spared[] = {busy, idle};
    pid_t others[] = {start(wait_for_ever), start(count_up),
                      start(end_at_once)};
    wait_for_echoes(1);
    MUST(kill_others(spared, 2));
    MUST(spared[0] == busy && spared[1] == idle);
    wait_for_stop(busy);
    wait_for_stop(idle);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        MUST(kill(others[i], 0) < 0 && errno == ESRCH);
    MUST(count_processes() == 3);
    MUST(waitpid(-1, NULL, WNOHANG) == 0);
    /* stopped, and not more than that */
    unsigned before = atomic_load(&shared->echoes);
    MUST(kill(busy, SIGCONT) == 0);
    wait_for_echoes(before + 1);
}

static void the_spared_are_stopped_and_the_others_gone(void **state)
{
    (void)state;
    as_process_one(spare_two);
}

static void spare_one_of_a_bomb(void)
{
    pid_t spared[] = {start(wait_for_ever)};
    pid_t one = spared[0];
    (void)start(fork_on);
    (void)start(fork_wildly);
    wait_for_forks(300);
    MUST(kill_others(spared, 1));
    wait_for_stop(one);
    unsigned before = atomic_load(&shared->forks);
    MUST(spared[0] == one);
    MUST(count_processes() == 2);
    MUST(waitpid(-1, NULL, WNOHANG) == 0);
    MUST(atomic_load(&shared->forks) == before);
}

static void others_that_fork_on_are_killed(void **state)
{
    (void)state;
    as_process_one(spare_one_of_a_bomb);
}

/* With others beside it, and with none. */
static void spare_the_dead(void)
{
    for (int others = 0; others < 2; others++) {
        pid_t alive = start(wait_for_ever);
        pid_t spared[] = {start(end_at_once), alive};
        wait_for_death(spared[0]);
        if (others)
            (void)start(wait_for_ever);
        MUST(kill_others(spared, 2));
        MUST(spared[0] == 0 && spared[1] == alive);
        wait_for_stop(alive);
        MUST(kill(alive, SIGKILL) == 0);
        MUST(waitpid(alive, NULL, 0) == alive);
        MUST(all_are_reaped());
    }
}

static void a_spared_one_that_is_dead_is_told(void **state)
{
    (void)state;
    as_process_one(spare_the_dead);
}

static void have_a_child(void)
{
    (void)start(count_up);
    wait_for_ever();
}

/* A lane whose worker is waiting, with a child that works; and all of
 * another's.
 */
static void spare_the_living(void)
{
    pid_t living[] = {start(have_a_child)};
    pid_t frozen[] = {start(wait_for_ever)};
    struct list list = {frozen, 1};
    const struct cellar_kin kin = {.frozen = frozen,
                                   .count = 1,
                                   .living = living,
                                   .living_count = 1,
                                   .beside = true,
                                   .reaped = strike_out,
                                   .user = &list};
    MUST(kill(frozen[0], SIGSTOP) == 0);
    wait_for_echoes(1);
    (void)start(fork_on);
    (void)start(fork_wildly);
    (void)start(have_a_child);
    wait_for_forks(300);
    MUST(cellar_processes_kill_strangers(&kin));
    MUST(count_processes() == 4);
    wait_for_stop(frozen[0]);
    MUST(state_of(living[0]) != 'T');
    unsigned before = atomic_load(&shared->echoes);
    wait_for_echoes(before + 1);
}

static void what_lives_beside_goes_on_with_its_children(void **state)
{
    (void)state;
    as_process_one(spare_the_living);
}

static void spare_without_proc(void)
{
    pid_t spared[] = {start(wait_for_ever)};
    (void)start(wait_for_ever);
    MUST(umount2("/proc", MNT_DETACH) == 0);
    /* what was there before may show the processes of another namespace */
    MUST(mount("none", "/proc", "tmpfs", 0, NULL) == 0);
    MUST(!kill_others(spared, 1));
    MUST(cellar_processes_kill_all());
    MUST(all_are_reaped());
}

static void without_proc_nobody_is_spared(void **state)
{
    (void)state;
    as_process_one(spare_without_proc);
}

/* ---------------------------------------------------------- thread, process */

static void *tell_number(void *number)
{
    *(pid_t *)number = (pid_t)syscall(SYS_gettid);
    MUST(cellar_processes_leader(*(pid_t *)number) == getpid());
    return NULL;
}

static void a_thread_is_of_its_process(void **state)
{
    pthread_t thread;
    pid_t number = 0;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, tell_number, &number), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_not_equal(number, getpid());
    assert_int_equal(cellar_processes_leader(getpid()), getpid());
    assert_int_equal(cellar_processes_leader(0), 0);
    assert_int_equal(cellar_processes_leader(-7), -7);
    assert_int_equal(cellar_processes_leader(INT_MAX), INT_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_dead_are_reaped_one_by_one),
        TEST(all_are_killed_that_fork_too),
        TEST(the_spared_are_stopped_and_the_others_gone),
        TEST(others_that_fork_on_are_killed),
        TEST(a_spared_one_that_is_dead_is_told),
        TEST(what_lives_beside_goes_on_with_its_children),
        TEST(without_proc_nobody_is_spared),
        cmocka_unit_test(a_thread_is_of_its_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
