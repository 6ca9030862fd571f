#include "copies.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/record.h"

static const struct cellar_copy nobody = {.control = -1};

void cellar_copies_init(struct cellar_copies *copies)
{
    *copies = (struct cellar_copies){.order = 0};
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        copies->all[i] = nobody;
}

static void forget(struct cellar_copy *copy)
{
    if (copy->control >= 0)
        close(copy->control);
    *copy = nobody;
}

/* --------------------------------------------------------------- looking -- */

static struct cellar_copy *in_phase(struct cellar_copies *copies,
                                    enum cellar_copy_phase phase)
{
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        if (copies->all[i].phase == phase)
            return &copies->all[i];
    return NULL;
}

struct cellar_copy *cellar_copies_asked(struct cellar_copies *copies)
{
    return in_phase(copies, CELLAR_COPY_ASKED);
}

struct cellar_copy *cellar_copies_newest(struct cellar_copies *copies)
{
    struct cellar_copy *newest = NULL;
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        struct cellar_copy *copy = &copies->all[i];
        if (copy->phase != CELLAR_COPY_NONE &&
            (!newest || copy->order > newest->order))
            newest = copy;
    }
    return newest;
}

struct cellar_copy *cellar_copies_find(struct cellar_copies *copies,
                                       const char *tag)
{
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        if (copies->all[i].phase == CELLAR_COPY_FROZEN &&
            strcmp(copies->all[i].tag, tag) == 0)
            return &copies->all[i];
    return NULL;
}

static size_t count_if(const struct cellar_copies *copies, bool named)
{
    size_t count = 0;
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        count += copies->all[i].phase == CELLAR_COPY_FROZEN &&
                 (!named || copies->all[i].tag[0]);
    return count;
}

size_t cellar_copies_count(const struct cellar_copies *copies)
{
    return count_if(copies, false);
}

size_t cellar_copies_named(const struct cellar_copies *copies)
{
    return count_if(copies, true);
}

size_t cellar_copies_processes(const struct cellar_copies *copies)
{
    return count_if(copies, false) + (copies->leaving > 0);
}

size_t cellar_copies_pids(const struct cellar_copies *copies,
                          pid_t pids[CELLAR_COPY_PLACES])
{
    size_t count = 0;
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        if (copies->all[i].phase == CELLAR_COPY_FROZEN)
            pids[count++] = copies->all[i].pid;
    return count;
}

static struct cellar_copy *with_pid(const struct cellar_copies *copies,
                                    pid_t pid)
{
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        if (copies->all[i].phase == CELLAR_COPY_FROZEN &&
            copies->all[i].pid == pid)
            return (struct cellar_copy *)&copies->all[i];
    return NULL;
}

bool cellar_copies_have(const struct cellar_copies *copies, pid_t pid)
{
    return with_pid(copies, pid) != NULL;
}

/* ------------------------------------------------------------------ birth --
 */

struct cellar_copy *cellar_copies_ask(struct cellar_copies *copies,
                                      const char *tag, uint64_t after,
                                      uint64_t now, int *give)
{
    const int on = 1;
    int ends[2];
    struct cellar_copy *copy = in_phase(copies, CELLAR_COPY_NONE);
    if (!copy || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return NULL;
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 ||
        setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0) {
        close(ends[0]);
        close(ends[1]);
        return NULL;
    }
    *copy = (struct cellar_copy){.phase = CELLAR_COPY_ASKED,
                                 .after = after,
                                 .order = ++copies->order,
                                 .asked = now,
                                 .control = ends[0]};
    (void)snprintf(copy->tag, sizeof(copy->tag), "%s", tag);
    *give = ends[1];
    return copy;
}

/* One read, with the pid of who wrote; 0 where the kernel gives none. */
static ssize_t hear_some(int socket, void *room, size_t size, pid_t *pid)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec into = {.iov_base = room, .iov_len = size};
    struct msghdr msg = {.msg_iov = &into,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = CMSG_SPACE(sizeof(struct ucred))};
    ssize_t n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    struct ucred who = {0};
    if (head && head->cmsg_level == SOL_SOCKET &&
        head->cmsg_type == SCM_CREDENTIALS &&
        head->cmsg_len == CMSG_LEN(sizeof(who)))
        memcpy(&who, CMSG_DATA(head), sizeof(who));
    *pid = who.pid;
    return n;
}

/* Never empty: that would be no reason. */
static enum cellar_code fail(struct cellar_copy *copy, char why[CELLAR_WHY_MAX],
                             const uint8_t *text, size_t len)
{
    len = len < CELLAR_WHY_MAX ? len : CELLAR_WHY_MAX - 1;
    for (size_t i = 0; i < len; i++)
        why[i] = text[i] >= ' ' && text[i] <= '~' ? (char)text[i] : '?';
    why[len] = '\0';
    cellar_copy_drop(copy);
    return CELLAR_E_SYS;
}

/* A record is one write on a socket of its own: it comes whole, or from
 * somebody who is not to be believed. */
enum cellar_code cellar_copies_hear(struct cellar_copy *copy, uint64_t now,
                                    char why[CELLAR_WHY_MAX])
{
    static const char broken[] = "the worker did not make a copy of itself";
    uint8_t record[CELLAR_RECORD_HEADER_BYTES + CELLAR_WHY_MAX];
    pid_t pid = 0;
    ssize_t n = hear_some(copy->control, record, sizeof(record), &pid);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return CELLAR_E_AGAIN;
    if (n == CELLAR_RECORD_HEADER_BYTES && record[4] == CELLAR_RECORD_FROZEN &&
        pid > 1) {
        copy->phase = CELLAR_COPY_FROZEN;
        copy->pid = pid;
        copy->taken = now;
        kill(pid, SIGSTOP);
        return CELLAR_OK;
    }
    if (n > CELLAR_RECORD_HEADER_BYTES && record[4] == CELLAR_RECORD_UNFIT)
        return fail(copy, why, record + CELLAR_RECORD_HEADER_BYTES,
                    (size_t)n - CELLAR_RECORD_HEADER_BYTES);
    return fail(copy, why, (const uint8_t *)broken, sizeof(broken) - 1);
}

/* ------------------------------------------------------------------- ends --
 */

void cellar_copy_drop(struct cellar_copy *copy)
{
    if (copy->phase == CELLAR_COPY_FROZEN)
        kill(copy->pid, SIGKILL);
    forget(copy);
}

int cellar_copy_take(struct cellar_copy *copy)
{
    const int off = 0;
    int control = copy->control;
    (void)setsockopt(control, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
    copy->control = -1;
    forget(copy);
    return control;
}

bool cellar_copies_died(struct cellar_copies *copies, pid_t pid)
{
    struct cellar_copy *copy = with_pid(copies, pid);
    bool left = pid > 0 && copies->leaving == pid;
    if (copy)
        forget(copy);
    if (left)
        copies->leaving = 0;
    return copy != NULL || left;
}

static struct cellar_copy *oldest_automatic(struct cellar_copies *copies,
                                            size_t *count)
{
    struct cellar_copy *oldest = NULL;
    *count = 0;
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        struct cellar_copy *copy = &copies->all[i];
        if (copy->phase != CELLAR_COPY_FROZEN || copy->tag[0])
            continue;
        (*count)++;
        if (!oldest || copy->order < oldest->order)
            oldest = copy;
    }
    return oldest;
}

bool cellar_copies_thin(struct cellar_copies *copies, size_t keep)
{
    bool any = false;
    size_t count = 0;
    struct cellar_copy *oldest = oldest_automatic(copies, &count);
    while (oldest && count > keep) {
        copies->leaving = oldest->pid;
        cellar_copy_drop(oldest);
        any = true;
        oldest = oldest_automatic(copies, &count);
    }
    return any;
}

void cellar_copies_clear(struct cellar_copies *copies)
{
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++)
        if (copies->all[i].phase != CELLAR_COPY_NONE)
            cellar_copy_drop(&copies->all[i]);
    copies->leaving = 0;
}
