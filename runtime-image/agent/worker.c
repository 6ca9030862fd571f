#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "output.h"
#include "proto/record.h"

#define CODE_HEADER_BYTES                                                      \
    (CELLAR_RECORD_HEADER_BYTES + CELLAR_RECORD_CODE_BYTES)

/* Both ends of what connects agent and worker, while a worker is born. */
struct ends {
    int control[2];
    int out[2];
    int err[2];
};

void cellar_worker_init(struct cellar_worker *worker)
{
    *worker = (struct cellar_worker){
        .control = -1, .out = -1, .err = -1, .pass = {-1, -1}, .rank_fd = -1};
    cellar_buf_init(&worker->todo, CELLAR_CODE_MAX + CODE_HEADER_BYTES);
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_pass(struct cellar_worker *worker)
{
    close_end(&worker->pass[0]);
    close_end(&worker->pass[1]);
}

void cellar_worker_close(struct cellar_worker *worker)
{
    close_end(&worker->control);
    close_end(&worker->out);
    close_end(&worker->err);
    close_end(&worker->rank_fd);
    close_pass(worker);
    cellar_buf_reset(&worker->todo);
    worker->ready = false;
}

/* ----------------------------------------------------------------- birth -- */

static void close_ends(struct ends *ends)
{
    for (int i = 0; i < 2; i++) {
        close_end(&ends->control[i]);
        close_end(&ends->out[i]);
        close_end(&ends->err[i]);
    }
}

/* Ours never blocks; the worker's stays as programs expect their stdout. A
 * larger pipe is a wish: the user's quota may refuse it. */
static bool make_pipe(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    (void)fcntl(fds[0], F_SETPIPE_SZ, CELLAR_OUTPUT_PIPE_BYTES);
    return fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool make_ends(struct ends *ends)
{
    *ends = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}};
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends->control) ==
               0 &&
           fcntl(ends->control[0], F_SETFL, O_NONBLOCK) == 0 &&
           make_pipe(ends->out) && make_pipe(ends->err);
}

/* The agent has fds 0 to 2 open, so the ends are above and no target of a
 * dup2 is the source of a later one but for the last, which is safe. */
static int describe(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr,
                    const struct ends *ends)
{
    sigset_t none;
    sigemptyset(&none);
    int rc =
        posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(files, ends->out[1], 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(files, ends->err[1], 2);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(files, ends->control[1],
                                              CELLAR_RECORD_FD);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK);
    return rc;
}

static int spawn(pid_t *pid, const struct ends *ends, char *const *argv)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&files);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        rc = describe(&files, &attr, ends);
        if (rc == 0)
            rc = posix_spawn(pid, argv[0], &files, &attr, argv, environ);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static int launch(pid_t *pid, const struct ends *ends,
                  const struct cellar_msg_hello *hello)
{
    static char path[] = CELLAR_LAUNCHER_PATH;
    char limits[3][24];
    char preload[sizeof(hello->preload)];
    char *argv[] = {path, limits[0], limits[1], limits[2], preload, NULL};
    const uint64_t values[3] = {hello->nproc, hello->nofile, hello->fsize};
    for (int i = 0; i < 3; i++)
        snprintf(limits[i], sizeof(limits[i]), "%" PRIu64, values[i]);
    snprintf(preload, sizeof(preload), "%s", hello->preload);
    return spawn(pid, ends, argv);
}

enum cellar_code cellar_worker_spawn(struct cellar_worker *worker,
                                     const struct cellar_msg_hello *hello)
{
    struct ends ends;
    cellar_worker_close(worker);
    int rc = make_ends(&ends) ? 0 : errno;
    if (rc == 0)
        rc = launch(&worker->pid, &ends, hello);
    if (rc == 0) {
        worker->control = ends.control[0];
        worker->out = ends.out[0];
        worker->err = ends.err[0];
        ends.control[0] = ends.out[0] = ends.err[0] = -1;
    }
    close_ends(&ends);
    errno = rc;
    return rc == 0 ? CELLAR_OK : CELLAR_E_SYS;
}

enum cellar_code cellar_worker_renew_pipes(struct cellar_worker *worker)
{
    struct ends ends = {{-1, -1}, {-1, -1}, {-1, -1}};
    if (!make_pipe(ends.out) || !make_pipe(ends.err)) {
        int why = errno;
        close_ends(&ends);
        errno = why;
        return CELLAR_E_SYS;
    }
    close_pass(worker);
    worker->out = ends.out[0];
    worker->err = ends.err[0];
    worker->pass[0] = ends.out[1];
    worker->pass[1] = ends.err[1];
    return CELLAR_OK;
}

/* ---------------------------------------------------------------- speech -- */

static void put_number(uint8_t *to, uint64_t n, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(n >> (8 * (bytes - 1 - i)));
}

enum cellar_code cellar_worker_send_code(struct cellar_worker *worker,
                                         uint64_t cell, uint64_t ticket,
                                         bool kept,
                                         const struct cellar_buf *code)
{
    uint8_t header[CODE_HEADER_BYTES];
    size_t len = cellar_buf_len(code);
    put_number(header, len + CELLAR_RECORD_CODE_BYTES, 4);
    header[4] = CELLAR_RECORD_CODE;
    put_number(header + 5, cell, 8);
    put_number(header + 13, ticket, 8);
    header[21] = kept;
    enum cellar_code rc =
        cellar_buf_append(&worker->todo, header, sizeof(header));
    if (rc == CELLAR_OK)
        rc = cellar_buf_append(&worker->todo, cellar_buf_peek(code), len);
    return rc;
}

/* Descriptors travel with the first byte. At most two. */
static ssize_t send_with(int socket, const void *data, size_t len,
                         const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec bytes = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &bytes,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    if (!head)
        return -1;
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    return sendmsg(socket, &msg, MSG_NOSIGNAL);
}

bool cellar_worker_send_freeze(struct cellar_worker *worker, int socket)
{
    const uint8_t record[CELLAR_RECORD_HEADER_BYTES] = {0, 0, 0, 0,
                                                        CELLAR_RECORD_FREEZE};
    return cellar_buf_len(&worker->todo) == 0 &&
           send_with(worker->control, record, sizeof(record), &socket, 1) ==
               (ssize_t)sizeof(record);
}

enum cellar_code cellar_worker_wake(struct cellar_worker *worker, pid_t pid,
                                    int control, uint64_t ping,
                                    enum cellar_wake_reason reason)
{
    uint8_t record[CELLAR_RECORD_HEADER_BYTES + CELLAR_RECORD_WAKE_BYTES];
    cellar_worker_close(worker);
    worker->pid = pid;
    worker->control = control;
    put_number(record, CELLAR_RECORD_WAKE_BYTES, 4);
    record[4] = CELLAR_RECORD_WAKE;
    record[5] = (uint8_t)reason;
    put_number(record + 6, ping, 8);
    enum cellar_code code = cellar_worker_renew_pipes(worker);
    if (code == CELLAR_OK)
        code = cellar_buf_append(&worker->todo, record, sizeof(record));
    return code;
}

bool cellar_worker_flush(struct cellar_worker *worker)
{
    size_t len = cellar_buf_len(&worker->todo);
    if (len == 0)
        return true;
    const uint8_t *data = cellar_buf_peek(&worker->todo);
    ssize_t n = worker->pass[0] >= 0
                    ? send_with(worker->control, data, len, worker->pass, 2)
                    : send(worker->control, data, len, MSG_NOSIGNAL);
    if (n > 0)
        close_pass(worker);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    cellar_buf_consume(&worker->todo, (size_t)n);
    if (cellar_buf_len(&worker->todo) == 0)
        cellar_buf_reset(&worker->todo);
    return true;
}

ssize_t cellar_worker_receive(const struct cellar_worker *worker, void *room,
                              size_t len, int *passed)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec into = {.iov_base = room, .iov_len = len};
    struct msghdr msg = {.msg_iov = &into,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    ssize_t n = recvmsg(worker->control, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    *passed = -1;
    if (head && head->cmsg_level == SOL_SOCKET &&
        head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof(*passed)))
        memcpy(passed, CMSG_DATA(head), sizeof(*passed));
    return n;
}

void cellar_worker_find_rank(struct cellar_worker *worker)
{
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)worker->pid);
    close_end(&worker->rank_fd);
    worker->rank_fd = open(path, O_WRONLY | O_CLOEXEC);
}

void cellar_worker_rank(const struct cellar_worker *worker, unsigned rank)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%u", rank);
    if (worker->rank_fd >= 0)
        (void)!pwrite(worker->rank_fd, text, (size_t)len, 0);
}

void cellar_worker_hang_up(struct cellar_worker *worker)
{
    close_end(&worker->control);
    cellar_buf_reset(&worker->todo);
}

void cellar_worker_interrupt(const struct cellar_worker *worker)
{
    if (worker->pid > 0)
        kill(worker->pid, SIGINT);
}
