#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

/* Those of whom one is let in at a time; a relay waits for its turn. */
#define BACKLOG 8

/* More than a stat's line up to its parent's number. */
#define STAT_BYTES 256

/* A packet, and what came with it. */
struct parcel {
    uint8_t packet[CELLAR_DOOR_BYTES];
    ssize_t len;
    pid_t sender; /* 0: the kernel did not say */
    int fds[CELLAR_DOOR_FDS];
    size_t count;
    bool excess;
};

/* ------------------------------------------------------------- opening -- */

static bool watch(const struct cellar_door *door, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    return epoll_ctl(door->poll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool want_sender(int fd)
{
    const int yes = 1;
    return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) == 0;
}

/* The kernel tells who sent a packet from the first one on: accepted sockets
 * inherit the wish; but for one in user space, where the relay has it, too. */
static bool listen_at(struct cellar_door *door, const char *name)
{
    struct sockaddr_un address;
    socklen_t len = cellar_door_address(&address, name);
    door->listener =
        socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return door->listener >= 0 && want_sender(door->listener) &&
           bind(door->listener, (const struct sockaddr *)&address, len) == 0 &&
           listen(door->listener, BACKLOG) == 0;
}

enum cellar_code cellar_door_open(struct cellar_door *door, const char *name)
{
    *door = (struct cellar_door){.listener = -1,
                                 .poll = epoll_create1(EPOLL_CLOEXEC),
                                 .is_engines = cellar_door_is_engines};
    if (door->poll >= 0 && listen_at(door, name) && watch(door, door->listener))
        return CELLAR_OK;
    int why = errno;
    cellar_door_close(door);
    errno = why;
    return CELLAR_E_SYS;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void cellar_door_close(struct cellar_door *door)
{
    for (size_t i = 0; i < door->count; i++)
        close_end(&door->waiting[i]);
    door->count = 0;
    close_end(&door->listener);
    close_end(&door->poll);
}

int cellar_door_fd(const struct cellar_door *door)
{
    return door->poll;
}

/* ------------------------------------------------- who was it started by -- */

/* "PID (NAME) STATE PARENT ...": nothing after the name has a parenthesis. */
bool cellar_door_parent_is_outside(const char *stat)
{
    const char *name_end = strrchr(stat, ')');
    return name_end != NULL && name_end[1] == ' ' && name_end[2] != '\0' &&
           strncmp(name_end + 3, " 0 ", 3) == 0;
}

bool cellar_door_is_engines(pid_t pid)
{
    char text[STAT_BYTES + 1];
    (void)snprintf(text, sizeof(text), "/proc/%d/stat", (int)pid);
    /* Number 1 is the agent, whose parent is outside as well. */
    int fd = pid > 1 ? open(text, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    ssize_t len = read(fd, text, STAT_BYTES);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    return cellar_door_parent_is_outside(text);
}

/* The agent, which connects to nobody. A kernel in user space that tells who
 * asks in the place of who is asked about says so; then who sent the packet
 * must do. */
#define ASKER 1

/* Who connected; 0: nobody in our process ids. */
static pid_t peer_of(int fd)
{
    struct ucred peer = {.pid = 0};
    socklen_t len = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return 0;
    return peer.pid;
}

/* ------------------------------------------------------------- letting in */

/* The descriptor leaves `waiting`, open. */
static void forget(struct cellar_door *door, size_t at)
{
    door->count--;
    memmove(door->waiting + at, door->waiting + at + 1,
            (door->count - at) * sizeof(*door->waiting));
}

static void drop(struct cellar_door *door, size_t at)
{
    int fd = door->waiting[at];
    forget(door, at);
    close(fd);
}

/* Strangers go before they cost a place: they can't crowd a relay out. */
static void let_in(struct cellar_door *door)
{
    int fd = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    pid_t peer = peer_of(fd);
    if ((peer != ASKER && !door->is_engines(peer)) || !want_sender(fd) ||
        !watch(door, fd)) {
        close(fd);
        return;
    }
    if (door->count == CELLAR_DOOR_WAITING_MAX)
        drop(door, 0);
    door->waiting[door->count++] = fd;
}

/* ------------------------------------------------------------- hearing -- */

static void keep_fds(struct parcel *parcel, const struct cmsghdr *part)
{
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int fd = -1;
        memcpy(&fd, CMSG_DATA(part) + i * sizeof(fd), sizeof(fd));
        if (parcel->count < CELLAR_DOOR_FDS) {
            parcel->fds[parcel->count++] = fd;
        } else {
            parcel->excess = true;
            close(fd);
        }
    }
}

static void unpack(struct parcel *parcel, struct msghdr *msg)
{
    struct ucred sender;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(msg); part != NULL;
         part = CMSG_NXTHDR(msg, part)) {
        if (part->cmsg_level != SOL_SOCKET)
            continue;
        if (part->cmsg_type == SCM_RIGHTS) {
            keep_fds(parcel, part);
        } else if (part->cmsg_type == SCM_CREDENTIALS &&
                   part->cmsg_len == CMSG_LEN(sizeof(sender))) {
            memcpy(&sender, CMSG_DATA(part), sizeof(sender));
            parcel->sender = sender.pid;
        }
    }
}

/* False: nothing has come yet. There is room for the fds of a relay: of more
 * the kernel makes none here, and says so. */
static bool hear(int fd, struct parcel *parcel)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(struct ucred)) +
                  CMSG_SPACE(CELLAR_DOOR_FDS * sizeof(int))];
    } control = {0};
    struct iovec bytes = {.iov_base = parcel->packet,
                          .iov_len = sizeof(parcel->packet)};
    struct msghdr msg = {.msg_iov = &bytes,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    parcel->len = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (parcel->len < 0)
        return errno != EAGAIN && errno != EINTR;
    unpack(parcel, &msg);
    parcel->excess |= (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    return true;
}

static bool ready_stream(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fstat(fd, &st) == 0 &&
           (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) &&
           fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

static uint64_t lane_of(const struct parcel *parcel)
{
    uint64_t lane = 0;
    for (size_t i = 0; i < CELLAR_DOOR_BYTES; i++)
        lane = lane << 8 | parcel->packet[i];
    return lane;
}

static bool is_peer(int fd, pid_t sender)
{
    pid_t peer = peer_of(fd);
    return peer == sender || peer == ASKER;
}

/* Whether it is whole, and the relay's own that holds the connection. */
static bool is_relays(const struct cellar_door *door, int fd,
                      const struct parcel *parcel)
{
    return parcel->len == (ssize_t)CELLAR_DOOR_BYTES && !parcel->excess &&
           parcel->count == CELLAR_DOOR_FDS && lane_of(parcel) > 0 &&
           lane_of(parcel) <= CELLAR_DOOR_LANE_MAX &&
           is_peer(fd, parcel->sender) && door->is_engines(parcel->sender) &&
           ready_stream(parcel->fds[0]) && ready_stream(parcel->fds[1]);
}

/* Whatever was heard, `at` waits no longer. */
static bool judge(struct cellar_door *door, size_t at,
                  const struct parcel *parcel, struct cellar_visitor *out)
{
    int fd = door->waiting[at];
    if (is_relays(door, fd, parcel)) {
        forget(door, at);
        (void)epoll_ctl(door->poll, EPOLL_CTL_DEL, fd, NULL);
        *out = (struct cellar_visitor){lane_of(parcel), parcel->fds[0],
                                       parcel->fds[1], fd};
        return true;
    }
    for (size_t i = 0; i < parcel->count; i++)
        close(parcel->fds[i]);
    drop(door, at);
    return false;
}

/* All who wait are asked: they are few, and who has not spoken costs a call. */
static bool ask_waiting(struct cellar_door *door, struct cellar_visitor *out)
{
    for (size_t at = 0; at < door->count;) {
        struct parcel parcel = {.sender = 0};
        if (!hear(door->waiting[at], &parcel))
            at++;
        else if (judge(door, at, &parcel, out))
            return true;
    }
    return false;
}

bool cellar_door_take(struct cellar_door *door, struct cellar_visitor *out)
{
    if (ask_waiting(door, out))
        return true;
    let_in(door);
    return ask_waiting(door, out);
}
