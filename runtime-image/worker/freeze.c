#include "runtime-image/worker/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/record.h"
#include "runtime-image/worker/apart.h"
#include "runtime-image/worker/cell.h"
#include "runtime-image/worker/channel.h"
#include "runtime-image/worker/files.h"
#include "runtime-image/worker/interrupt.h"
#include "runtime-image/worker/seed.h"
#include "runtime-image/worker/task.h"

/* Known to hang or crash in a forked process, threads or not. */
static const struct {
    const char *module;
    const char *why;
} breakers[] = {
    {"grpc._cython.cygrpc", "gRPC does not survive a fork"},
    {"tensorflow.python", "TensorFlow does not survive a fork"},
    {"jaxlib", "JAX does not survive a fork"},
    {"polars", "Polars does not survive a fork"},
    {"jpype", "JPype's Java does not survive a fork"},
    {"ray._raylet", "Ray does not survive a fork"},
};

/* 20 ms in all, and what sleeping adds. */
#define LEAVE_PAUSES_MAX 400
#define LEAVE_PAUSE_NS   50000
#define END_PAUSES_MAX   20
#define END_PAUSE_NS     1000000

/* Descriptors: a copy's socket, and the pipes that it gets when it wakes. */
#define SOCKETS 1
#define PIPES   2

#define BREAKERS (sizeof(breakers) / sizeof(breakers[0]))

static struct {
    PyObject *count; /* _thread._count */
    PyObject *names[BREAKERS];
    PyObject *ping; /* the code of an addition */
    char why[CELLAR_WHY_MAX];
    size_t fit_tasks;  /* so many threads were found to be of known libraries */
    size_t left_tasks; /* so many of unknown ones, that did not go */
    size_t left_threads; /* so many of Python's, that did not */
} freezer;

bool cellar_freeze_init(void)
{
    freezer.count = cellar_import_from("_thread", "_count");
    freezer.ping = Py_CompileString("ping + 1", "<cellar>", Py_eval_input);
    for (size_t i = 0; i < BREAKERS; i++) {
        freezer.names[i] = PyUnicode_InternFromString(breakers[i].module);
        if (!freezer.names[i])
            return false;
    }
    return freezer.count && freezer.ping;
}

/* ------------------------------------------------------- what can't be --- */

static const char *say_missing(size_t count, const char *what)
{
    (void)snprintf(freezer.why, sizeof(freezer.why), "%zu %s would be missing",
                   count, what);
    return freezer.why;
}

static const char *say_failed(int error)
{
    (void)snprintf(freezer.why, sizeof(freezer.why), "fork: %s",
                   strerror(error));
    return freezer.why;
}

static size_t python_threads(void)
{
    CELLAR_REF PyObject *count = PyObject_CallObject(freezer.count, NULL);
    long n = count ? PyLong_AsLong(count) : 0;
    PyErr_Clear();
    return n > 0 ? (size_t)n : 0;
}

/* All of the process, this one too: a directory has two links, and one for each
 * directory in it. */
static size_t tasks(void)
{
    struct stat st;
    bool known =
        syscall(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &st, 0) == 0;
    return known && st.st_nlink > 2 ? (size_t)st.st_nlink - 2 : 1;
}

static void done_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

/* A thread that Python has joined may still be on its way out of the kernel:
 * microseconds, but on a machine that is loaded. Those that stay are waited for
 * once. Their number. */
static size_t wait_for_those_who_leave(size_t all)
{
    const struct timespec pause = {.tv_nsec = LEAVE_PAUSE_NS};
    for (int i = 0; i < LEAVE_PAUSES_MAX; i++) {
        if (all == 1 || all == freezer.fit_tasks || all == freezer.left_tasks)
            break;
        nanosleep(&pause, NULL);
        all = tasks();
    }
    return all;
}

/* One of Python's that was told to end may not have had its turn since: as the
 * timer that matplotlib stops when it has its fonts. Also waited for once. */
static size_t wait_for_those_who_end(void)
{
    const struct timespec pause = {.tv_nsec = END_PAUSE_NS};
    size_t left = python_threads();
    for (int i = 0; i < END_PAUSES_MAX; i++) {
        if (left == 0 || left == freezer.left_threads)
            break;
        Py_BEGIN_ALLOW_THREADS;
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS;
        left = python_threads();
    }
    freezer.left_threads = left;
    return left;
}

/* OpenBLAS stops its threads when the process forks, and starts them again;
 * GNU's and LLVM's OpenMP hang in the child. */
static bool are_of_openblas(void)
{
    __attribute__((cleanup(done_file))) FILE *maps =
        fopen("/proc/self/maps", "re");
    char line[512];
    bool openblas = false;
    while (maps && fgets(line, sizeof(line), maps)) {
        if (strstr(line, "libgomp") || strstr(line, "libomp") ||
            strstr(line, "libiomp"))
            return false;
        openblas |= strstr(line, "openblas") != NULL;
    }
    return openblas;
}

/* The highest numbers that the program may have are the last to be given out:
 * where they are free, no others need be tried. */
static bool has_free_end(size_t count)
{
    struct rlimit limit;
    struct pollfd end[SOCKETS + PIPES];
    if (syscall(SYS_getrlimit, RLIMIT_NOFILE, &limit) != 0 ||
        limit.rlim_cur < count || limit.rlim_cur > INT_MAX)
        return false;
    for (size_t i = 0; i < count; i++)
        end[i] = (struct pollfd){.fd = (int)(limit.rlim_cur - 1 - i)};
    if (poll(end, count, 0) != (int)count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (end[i].revents != POLLNVAL)
            return false;
    return true;
}

static bool has_descriptors(size_t count)
{
    if (has_free_end(count))
        return true;
    int fds[SOCKETS + PIPES];
    size_t n = 0;
    while (n < count && (fds[n] = open("/", O_PATH | O_CLOEXEC)) >= 0)
        n++;
    bool enough = n == count || errno != EMFILE;
    while (n > 0)
        close(fds[--n]);
    return enough;
}

static const char *find_breaker(void)
{
    PyObject *modules = PyImport_GetModuleDict();
    for (size_t i = 0; i < BREAKERS; i++)
        if (PyDict_GetItem(modules, freezer.names[i]))
            return breakers[i].why;
    return NULL;
}

static const char *hindrance(size_t descriptors)
{
    const char *breaker = find_breaker();
    if (breaker)
        return breaker;
    if (!has_descriptors(descriptors))
        return "the program has no file descriptors left";
    size_t all = tasks();
    size_t python = all > 1 ? wait_for_those_who_end() : 0;
    if (python > 0)
        return say_missing(python, "of its threads");
    all = wait_for_those_who_leave(tasks());
    if (all == 1)
        freezer.left_tasks = freezer.left_threads = 0;
    if (all == 1 || all == freezer.fit_tasks)
        return NULL;
    if (!are_of_openblas()) {
        freezer.left_tasks = all;
        return say_missing(all - 1, "of a library's threads");
    }
    freezer.fit_tasks = all;
    return NULL;
}

const char *cellar_freeze_hindrance(void)
{
    return hindrance(SOCKETS + PIPES);
}

/* ------------------------------------------------------------- forking --- */

/* The copy is to be the agent's child, not the worker's: the program must not
 * find it when it waits for children of its own, and the agent must hear of
 * its end. So a process in between forks it and dies; it shares the memory with
 * the worker, which stands still meanwhile (vfork), so that nothing is copied
 * twice. True in the copy, whose stack is its own from then on. */
static bool split(int *failed)
{
    int status = 0;
    pid_t between = vfork(); /* NOLINT(*.insecureAPI.vfork) */
    if (between == 0) {
        pid_t copy = fork(); /* NOLINT(clang-analyzer-unix.Vfork) */
        if (copy == 0)
            return true;
        _exit(copy < 0 ? errno : 0);
    }
    *failed = errno;
    if (between < 0)
        return false;
    while (waitpid(between, &status, 0) < 0 && errno == EINTR)
        continue;
    *failed = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return false;
}

/* A program that adopts orphans would adopt the copy. Whether it does. */
static bool adopt(bool orphans)
{
    int before = 0;
    (void)prctl(PR_GET_CHILD_SUBREAPER, &before, 0, 0, 0);
    if (orphans != (before != 0))
        (void)prctl(PR_SET_CHILD_SUBREAPER, orphans, 0, 0, 0);
    return before != 0;
}

/* One that is ours, and no business of the program's handlers: the end of the
 * process in between, what a copy is woken with. */
static void forget_signal(int number)
{
    sigset_t set;
    const struct timespec now = {0};
    sigemptyset(&set);
    sigaddset(&set, number);
    (void)sigtimedwait(&set, NULL, &now);
}

/* -------------------------------------------------------------- the copy -- */

/* That the interpreter runs, and is whoever it was. */
static void answer(uint64_t ping)
{
    CELLAR_REF PyObject *names =
        Py_BuildValue("{sK}", "ping", (unsigned long long)ping);
    CELLAR_REF PyObject *sum =
        names ? PyEval_EvalCode(freezer.ping, names, names) : NULL;
    if (sum)
        cellar_channel_awake(PyLong_AsUnsignedLongLong(sum));
    else
        _exit(EXIT_FAILURE);
}

static void be_copy(int socket, const sigset_t *signals, bool adopts)
{
    uint64_t ping = 0;
    setsid();
    cellar_files_part();
    enum cellar_wake_reason reason = cellar_channel_freeze(socket, &ping);
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    (void)adopt(adopts);
    forget_signal(SIGCONT);
    (void)sigprocmask(SIG_SETMASK, signals, NULL);
    cellar_cell_move();
    cellar_task_renew();
    if (reason == CELLAR_WAKE_BRANCH) {
        cellar_seed_anew();
        cellar_apart_begin();
    }
    cellar_interrupt_discard();
    answer(ping);
}

/* A copy is closed to other processes of its user from its first moment on:
 * it is born of a worker that is. */
bool cellar_freeze(int socket)
{
    sigset_t all, before;
    int failed = 0;
    const char *why = hindrance(PIPES);
    cellar_interrupt_discard();
    if (why) {
        cellar_channel_refuse(socket, why);
        return false;
    }
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    bool dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1;
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    bool adopts = adopt(false);
    cellar_files_note();
    if (split(&failed)) {
        be_copy(socket, &before, adopts);
        return false;
    }
    if (dumpable)
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    (void)adopt(adopts);
    if (!sigismember(&before, SIGCHLD))
        forget_signal(SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (failed)
        cellar_channel_refuse(socket, say_failed(failed));
    else
        close(socket);
    return failed == 0;
}
