#include "runtime-image/worker/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/limits.h"
#include "runtime-image/worker/pipes.h"

enum {
    NUMBER_BYTES = 8, /* of a cell, of a ticket */
    END_RECORD_BYTES = CELLAR_RECORD_HEADER_BYTES + CELLAR_RECORD_END_BYTES,
    BUFFER_BYTES = 4096,     /* what is there from the start */
    BUFFER_KEEP = 256 << 10, /* what is kept for the next cell */
};

static struct {
    int fd;
    uint8_t *data;
    size_t len;
    size_t size;
    size_t used;          /* by the record that is being run */
    struct stat pipes[2]; /* the stdout and stderr that the agent gave */
    int passed;           /* a copy's socket that has come, or -1 */
    bool piped;           /* pipes have come */
} channel = {.fd = -1, .passed = -1};

static void put_number(uint8_t *out, uint64_t number, unsigned bytes)
{
    while (bytes-- > 0) {
        out[bytes] = (uint8_t)number;
        number >>= 8;
    }
}

static uint64_t get_number(const uint8_t *in, unsigned bytes)
{
    uint64_t number = 0;
    while (bytes-- > 0)
        number = number << 8 | *in++;
    return number;
}

/* No exit handlers: a thread or an atexit function of the user's could keep
 * the process for ever. */
static void leave(const char *why)
{
    if (why)
        dprintf(STDERR_FILENO, "worker: %s\n", why);
    _exit(why ? EXIT_FAILURE : EXIT_SUCCESS);
}

static void close_in_child(void)
{
    close(channel.fd);
}

/* fstat() itself would need a newer glibc than the oldest image has. */
static bool identify(int fd, struct stat *file)
{
    return syscall(SYS_fstat, fd, file) == 0;
}

bool cellar_channel_init(int fd)
{
    int type = 0;
    socklen_t size = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return false;
    channel.data = malloc(BUFFER_BYTES);
    if (!channel.data)
        return false;
    channel.size = BUFFER_BYTES;
    channel.fd = fd;
    if (!identify(STDOUT_FILENO, &channel.pipes[0]) ||
        !identify(STDERR_FILENO, &channel.pipes[1]))
        return false;
    return pthread_atfork(NULL, NULL, close_in_child) == 0;
}

static bool grow(uint8_t **data, size_t *size, size_t need)
{
    if (need <= *size)
        return true;
    size_t larger = *size ? *size : BUFFER_BYTES;
    while (larger < need)
        larger *= 2;
    uint8_t *moved = realloc(*data, larger);
    if (!moved)
        return false;
    *data = moved;
    *size = larger;
    return true;
}

/* Gives the memory of an uncommonly large record back. */
static void shrink(uint8_t **data, size_t *size)
{
    if (*size <= BUFFER_KEEP)
        return;
    uint8_t *moved = realloc(*data, BUFFER_BYTES);
    if (!moved)
        return;
    *data = moved;
    *size = BUFFER_BYTES;
}

/* The place of a record's body of `len` bytes, or NULL. */
static uint8_t *append(struct cellar_answer *answer,
                       enum cellar_record_kind kind, size_t len)
{
    size_t need = answer->len + CELLAR_RECORD_HEADER_BYTES + len;
    if (!grow(&answer->data, &answer->size, need + END_RECORD_BYTES))
        return NULL;
    uint8_t *header = answer->data + answer->len;
    put_number(header, len, 4);
    header[4] = (uint8_t)kind;
    answer->len = need;
    return header + CELLAR_RECORD_HEADER_BYTES;
}

bool cellar_answer_add(struct cellar_answer *answer,
                       enum cellar_record_kind kind, const void *body,
                       size_t len)
{
    uint8_t *place = append(answer, kind, len);
    if (place)
        memcpy(place, body, len);
    return place != NULL;
}

bool cellar_answer_add_part(struct cellar_answer *answer, const char *type,
                            const void *data, size_t len)
{
    size_t type_len = strlen(type) + 1;
    uint8_t *place = append(answer, CELLAR_RECORD_MIME, type_len + len);
    if (!place)
        return false;
    memcpy(place, type, type_len);
    memcpy(place + type_len, data, len);
    return true;
}

void cellar_answer_end(struct cellar_answer *answer, uint64_t ticket,
                       enum cellar_outcome outcome, uint32_t status)
{
    uint8_t body[CELLAR_RECORD_END_BYTES];
    put_number(body, ticket, NUMBER_BYTES);
    body[NUMBER_BYTES] = (uint8_t)outcome;
    put_number(body + NUMBER_BYTES + 1, status, 4);
    /* Room was kept by the READY that went through the same buffer. */
    if (!cellar_answer_add(answer, CELLAR_RECORD_END, body, sizeof(body)))
        leave("out of memory");
}

void cellar_channel_send(struct cellar_answer *answer)
{
    size_t sent = 0;
    while (sent < answer->len) {
        ssize_t n = send(channel.fd, answer->data + sent, answer->len - sent,
                         MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = channel.fd, .events = POLLOUT}, 1, -1);
        else if (n < 0 && errno != EINTR)
            leave(errno == EPIPE || errno == ECONNRESET ? NULL
                                                        : strerror(errno));
        else if (n > 0)
            sent += (size_t)n;
    }
    answer->len = 0;
    shrink(&answer->data, &answer->size);
}

/* Fresh pipes for a cell take the places of the ones given before; a place
 * that the user's code has put something else in stays as it is. */
static void take_pipe(int from, int to, struct stat *ours)
{
    struct stat now;
    if (identify(to, &now) && now.st_dev == ours->st_dev &&
        now.st_ino == ours->st_ino && identify(from, &now) &&
        dup2(from, to) == to)
        *ours = now;
    close(from);
}

/* One descriptor is a copy's socket, two are pipes. A program that has used up
 * its own gets none, or one of two: that is as good as none. */
static void take_passed(struct msghdr *msg)
{
    struct cmsghdr *head = CMSG_FIRSTHDR(msg);
    int fds[2];
    if (!head || head->cmsg_type != SCM_RIGHTS ||
        head->cmsg_len > CMSG_LEN(sizeof(fds)))
        return;
    memcpy(fds, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
    bool one = head->cmsg_len == CMSG_LEN(sizeof(int));
    if (one && msg->msg_flags & MSG_CTRUNC) {
        close(fds[0]);
        return;
    }
    if (one) {
        channel.passed = fds[0];
        return;
    }
    channel.piped = true;
    take_pipe(fds[0], STDOUT_FILENO, &channel.pipes[0]);
    take_pipe(fds[1], STDERR_FILENO, &channel.pipes[1]);
}

static ssize_t receive_some(void)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec bytes = {.iov_base = channel.data + channel.len,
                          .iov_len = channel.size - channel.len};
    struct msghdr msg = {.msg_iov = &bytes,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    ssize_t n = recvmsg(channel.fd, &msg, MSG_CMSG_CLOEXEC);
    if (n > 0 && msg.msg_controllen > 0)
        take_passed(&msg);
    return n;
}

/* Reads what has arrived, and waits for something if nothing has. */
static void receive(void)
{
    ssize_t n = receive_some();
    if (n > 0)
        channel.len += (size_t)n;
    else if (n == 0)
        leave(NULL);
    else if (errno == EAGAIN)
        poll(&(struct pollfd){.fd = channel.fd, .events = POLLIN}, 1, -1);
    else if (errno != EINTR)
        leave(errno == ECONNRESET ? NULL : strerror(errno));
}

static void receive_until(size_t need)
{
    if (!grow(&channel.data, &channel.size, need))
        leave("out of memory");
    while (channel.len < need)
        receive();
}

/* Drops the record that was run; what came behind it moves to the front. */
static void drop_used(void)
{
    channel.len -= channel.used;
    if (channel.len > 0)
        memmove(channel.data, channel.data + channel.used, channel.len);
    else
        shrink(&channel.data, &channel.size);
    channel.used = 0;
}

/* Not by reading, which the kernel also wakes up when the agent has taken what
 * was sent before. */
bool cellar_channel_wait(void)
{
    drop_used();
    return channel.len > 0 ||
           poll(&(struct pollfd){.fd = channel.fd, .events = POLLIN}, 1, -1) >
               0;
}

bool cellar_channel_has_bytes(void)
{
    return poll(&(struct pollfd){.fd = channel.fd, .events = POLLIN}, 1, 0) > 0;
}

/* One record, whole: its kind and the length of its body. */
static uint8_t read_record(uint64_t max, uint64_t *len)
{
    receive_until(CELLAR_RECORD_HEADER_BYTES);
    *len = get_number(channel.data, 4);
    if (*len > max)
        leave("the control socket carried too long a record");
    receive_until(CELLAR_RECORD_HEADER_BYTES + (size_t)*len);
    channel.used = CELLAR_RECORD_HEADER_BYTES + (size_t)*len;
    return channel.data[4];
}

void cellar_channel_read(struct cellar_request *request)
{
    uint64_t len = 0;
    uint8_t kind =
        read_record(CELLAR_RECORD_CODE_BYTES + CELLAR_CODE_MAX, &len);
    const uint8_t *body = channel.data + CELLAR_RECORD_HEADER_BYTES;
    *request = (struct cellar_request){.kind = (enum cellar_record_kind)kind,
                                       .socket = channel.passed};
    channel.passed = -1;
    if (kind == CELLAR_RECORD_FREEZE)
        return;
    if (kind != CELLAR_RECORD_CODE || len < CELLAR_RECORD_CODE_BYTES)
        leave("the control socket carried no cell");
    request->cell = get_number(body, NUMBER_BYTES);
    request->ticket = get_number(body + NUMBER_BYTES, NUMBER_BYTES);
    request->kept = body[2 * NUMBER_BYTES] != 0;
    request->code = (const char *)body + CELLAR_RECORD_CODE_BYTES;
    request->len = (size_t)len - CELLAR_RECORD_CODE_BYTES;
}

/* ------------------------------------------------------------------ copies --
 */

/* Small enough for any socket that nobody reads from; a copy that can't speak
 * is none. */
static void send_small(int fd, enum cellar_record_kind kind, const void *body,
                       size_t len)
{
    uint8_t record[CELLAR_RECORD_HEADER_BYTES + CELLAR_WHY_MAX];
    put_number(record, len, 4);
    record[4] = (uint8_t)kind;
    if (len > 0)
        memcpy(record + CELLAR_RECORD_HEADER_BYTES, body, len);
    len += CELLAR_RECORD_HEADER_BYTES;
    if (send(fd, record, len, MSG_NOSIGNAL) != (ssize_t)len)
        leave(NULL);
}

void cellar_channel_refuse(int socket, const char *why)
{
    size_t len = strnlen(why, CELLAR_WHY_MAX);
    uint8_t record[CELLAR_RECORD_HEADER_BYTES + CELLAR_WHY_MAX];
    put_number(record, len, 4);
    record[4] = CELLAR_RECORD_UNFIT;
    memcpy(record + CELLAR_RECORD_HEADER_BYTES, why, len);
    (void)!send(socket, record, CELLAR_RECORD_HEADER_BYTES + len, MSG_NOSIGNAL);
    close(socket);
}

/* The agent's pipes are not held open by those who don't write to them: it has
 * to hear when the last writer is gone. */
static void let_go_of_pipe(int place, struct stat *ours)
{
    struct stat now;
    int nowhere = -1;
    if (!identify(place, &now) || now.st_dev != ours->st_dev ||
        now.st_ino != ours->st_ino)
        return;
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0)
        close(place); /* nobody's is better than another's */
    else
        take_pipe(nowhere, place, ours);
}

enum cellar_wake_reason cellar_channel_freeze(int socket, uint64_t *ping)
{
    uint64_t len = 0;
    channel.fd = socket;
    channel.len = 0;
    channel.used = 0;
    let_go_of_pipe(STDOUT_FILENO, &channel.pipes[0]);
    let_go_of_pipe(STDERR_FILENO, &channel.pipes[1]);
    cellar_pipes_part();
    send_small(socket, CELLAR_RECORD_FROZEN, NULL, 0);
    channel.piped = false;
    uint8_t kind = read_record(CELLAR_RECORD_WAKE_BYTES, &len);
    if (!channel.piped)
        leave("no descriptors are left for its output");
    if (kind != CELLAR_RECORD_WAKE || len != CELLAR_RECORD_WAKE_BYTES)
        leave("the control socket woke nobody");
    const uint8_t *body = channel.data + CELLAR_RECORD_HEADER_BYTES;
    *ping = get_number(body + 1, NUMBER_BYTES);
    return (enum cellar_wake_reason)body[0];
}

void cellar_channel_awake(uint64_t sum)
{
    uint8_t body[CELLAR_RECORD_AWAKE_BYTES];
    put_number(body, sum, sizeof(body));
    send_small(channel.fd, CELLAR_RECORD_AWAKE, body, sizeof(body));
}
