#include "runtime-image/worker/sink.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SINKS = 2,
    ROOM_BYTES = 64 << 10, /* what a pipe holds */
    BURST_LINES = 256,     /* that are written one by one before a flood */
    LINES_PER_MS = 16,     /* and that may be for ever */
    LOOK_EVERY = 8,        /* lines of a flood, for whether one may be */
    NAP_NS = 2000000,
};

/* What PyThread_start_new_thread() returns on failure; the stable ABI has no
 * name for it. */
static const unsigned long no_thread = (unsigned long)-1;

/* data[start..end) waits to be written. All but `fd` is guarded by `lock`,
 * which nobody waits for while holding the GIL, and which the flusher never
 * holds while it waits for the pipe. */
struct cellar_sink {
    int fd;
    PyThread_type_lock lock;
    size_t start;
    size_t end;
    unsigned lines;  /* that may be written at once */
    unsigned unseen; /* lines since the clock was last looked at */
    int64_t refilled_ms;
    bool flusher; /* a thread is there */
    char *data;
};

static char room[SINKS][ROOM_BYTES];
static struct cellar_sink sinks[SINKS] = {
    {.fd = STDOUT_FILENO, .data = room[0]},
    {.fd = STDERR_FILENO, .data = room[1]},
};

/* Of which cell the writes are; only told apart, never counted. */
static unsigned turn;

void cellar_sink_turn(void)
{
    turn++;
}

struct cellar_sink *cellar_sink_of(int fd)
{
    return &sinks[fd - STDOUT_FILENO];
}

static void hold(struct cellar_sink *sink)
{
    if (PyThread_acquire_lock(sink->lock, NOWAIT_LOCK))
        return;
    PyThreadState *state = PyEval_SaveThread();
    PyThread_acquire_lock(sink->lock, WAIT_LOCK);
    PyEval_RestoreThread(state);
}

static void release(struct cellar_sink *sink)
{
    PyThread_release_lock(sink->lock);
}

/* Writes at most `max` bytes. 0 or an errno. */
static int write_some(struct cellar_sink *sink, size_t max)
{
    size_t len = sink->end - sink->start;
    ssize_t n =
        write(sink->fd, sink->data + sink->start, len < max ? len : max);
    if (n > 0)
        sink->start += (size_t)n;
    else if (n < 0 && errno != EINTR && errno != EAGAIN)
        sink->start = sink->end;
    int failed = n < 0 ? errno : 0;
    if (sink->start == sink->end)
        sink->start = sink->end = 0;
    return failed;
}

/* The user may have made the pipe non-blocking. */
static int wait_room(struct cellar_sink *sink)
{
    struct pollfd fd = {.fd = sink->fd, .events = POLLOUT};
    return poll(&fd, 1, -1) < 0 ? errno : 0;
}

static int write_all(struct cellar_sink *sink)
{
    int failed = 0;
    while (!failed && sink->end > 0) {
        failed = write_some(sink, ROOM_BYTES);
        if (failed == EAGAIN)
            failed = wait_room(sink);
    }
    return failed;
}

/* Writes all and lets go of the lock, without the GIL. */
static int write_and_release(struct cellar_sink *sink)
{
    PyThreadState *state = PyEval_SaveThread();
    int failed = write_all(sink);
    release(sink);
    PyEval_RestoreThread(state);
    return failed;
}

/* A pipe that polls writable takes PIPE_BUF bytes without blocking. */
static void write_what_fits(struct cellar_sink *sink)
{
    struct pollfd fd = {.fd = sink->fd, .events = POLLOUT};
    while (sink->end > 0 && poll(&fd, 1, 0) > 0)
        if (write_some(sink, PIPE_BUF))
            return;
}

/* Runs as a thread of its own, and ends when nothing is left. */
static void flush_by_and_by(void *argument)
{
    struct cellar_sink *sink = argument;
    sigset_t all;
    sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, NULL); /* of this thread */
    for (bool more = true; more;) {
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        PyThread_acquire_lock(sink->lock, WAIT_LOCK);
        write_what_fits(sink);
        more = sink->end > 0;
        sink->flusher = more;
        release(sink);
    }
}

static bool ensure_flusher(struct cellar_sink *sink)
{
    if (!sink->flusher)
        sink->flusher =
            PyThread_start_new_thread(flush_by_and_by, sink) != no_thread;
    return sink->flusher;
}

/* Whether a line may be written at once. Where the flusher is on its way to
 * those before, another one can wait with them: the clock would cost it as much
 * as all the rest. */
static bool take_line(struct cellar_sink *sink)
{
    if (sink->lines == 0 && sink->flusher && ++sink->unseen < LOOK_EVERY)
        return false;
    sink->unseen = 0;
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    int64_t ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    int64_t more = (ms - sink->refilled_ms) * LINES_PER_MS + sink->lines;
    sink->lines = more < BURST_LINES ? (unsigned)more : BURST_LINES;
    sink->refilled_ms = ms;
    if (sink->lines == 0)
        return false;
    sink->lines--;
    return true;
}

static bool ends_line(const char *data, size_t len)
{
    return memchr(data, '\n', len) || memchr(data, '\r', len);
}

static void append(struct cellar_sink *sink, const char *data, size_t len,
                   size_t *done)
{
    size_t fits = ROOM_BYTES - sink->end;
    size_t piece = len - *done < fits ? len - *done : fits;
    memcpy(sink->data + sink->end, data + *done, piece);
    sink->end += piece;
    *done += piece;
}

int cellar_sink_write(struct cellar_sink *sink, const char *data, size_t len,
                      size_t *done)
{
    bool urgent = ends_line(data + *done, len - *done);
    unsigned began = turn;
    hold(sink);
    while (*done < len && turn == began) {
        /* Lines of several threads shall not cut each other: what has no room
         * beside what is there waits until that is gone. */
        if (sink->end == 0 || len - *done <= ROOM_BYTES - sink->end) {
            append(sink, data, len, done);
            continue;
        }
        int failed = write_and_release(sink);
        if (failed)
            return failed;
        hold(sink);
    }
    if (urgent && sink->end > 0 && (take_line(sink) || !ensure_flusher(sink)))
        return write_and_release(sink);
    release(sink);
    return 0;
}

int cellar_sink_flush(struct cellar_sink *sink)
{
    hold(sink);
    if (sink->end > 0)
        return write_and_release(sink);
    release(sink);
    return 0;
}

/* A child shall neither write what its parent has gathered nor wait for a
 * thread that it does not have. */
static void before_fork(void)
{
    for (size_t i = 0; i < SINKS; i++) {
        PyThread_acquire_lock(sinks[i].lock, WAIT_LOCK);
        (void)write_all(&sinks[i]);
    }
}

static void after_fork(void)
{
    for (size_t i = 0; i < SINKS; i++)
        release(&sinks[i]);
}

static void after_fork_in_child(void)
{
    for (size_t i = 0; i < SINKS; i++) {
        sinks[i].start = sinks[i].end = 0;
        sinks[i].flusher = false;
        sinks[i].lines = BURST_LINES;
        release(&sinks[i]);
    }
}

bool cellar_sink_init(void)
{
    for (size_t i = 0; i < SINKS; i++) {
        sinks[i].lock = PyThread_allocate_lock();
        if (!sinks[i].lock)
            return false;
        sinks[i].lines = BURST_LINES;
    }
    return pthread_atfork(before_fork, after_fork, after_fork_in_child) == 0;
}
