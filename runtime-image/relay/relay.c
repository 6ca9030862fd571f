/*
 * The relay: the engine runs it beside the agent to reach one of the agent's
 * lanes.
 *
 *     /cellar/relay LANE
 *
 * It gives its stdin and stdout to the agent (runtime-image/agent/door.h),
 * keeps neither, and waits until the agent lets go of it: an engine's exec
 * lasts as long as its process. It holds no secret; but who could reach into
 * it could reach the host's stream.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime-image/agent/door.h"

/* For the agent to take the call and the packet; then there is no limit. */
#define GIVE_UP_S 10

/* One write, so that the line is whole. */
__attribute__((format(printf, 1, 2))) static noreturn void
die(const char *format, ...)
{
    char line[256] = "cellar-relay: ";
    size_t at = strlen(line);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + at, sizeof(line) - at - 1, format, args);
    va_end(args);
    if (n > 0)
        at += (size_t)n < sizeof(line) - at - 1 ? (size_t)n
                                                : sizeof(line) - at - 2;
    line[at++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, at);
    (void)written;
    exit(EXIT_FAILURE);
}

/* Decimal, no sign, no zero in front; 0: it is no lane of a relay's. */
static uint64_t lane_of(const char *text)
{
    uint64_t lane = 0;
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 10 || text[len] != '\0' || *text == '0')
        return 0;
    for (size_t i = 0; i < len; i++)
        lane = lane * 10 + (uint64_t)(text[i] - '0');
    return lane <= CELLAR_DOOR_LANE_MAX ? lane : 0;
}

/* The file's mode (0711) does it from exec on; an image may have lost it. */
static void insist_on_protection(void)
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
        prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        die("the kernel does not let it be non-dumpable: the host's stream "
            "could be taken from it");
}

/* Any process inside may have taken the agent's name, where the agent has
 * not: the one that listens must be the container's first. A kernel in user
 * space may tell who asks, and nobody else: an agent runs there only if its
 * stream may be open to all of them. */
static void insist_on_agent(int fd)
{
    struct ucred peer = {.pid = 0};
    socklen_t len = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        die("asking who listens: %m");
    if (peer.pid != 1 && peer.pid != getpid())
        die("process %d listens in the agent's place", (int)peer.pid);
}

/* An agent's kernel in user space tells it who sends only what was sent so. */
static bool tell_sender(int fd)
{
    const int yes = 1;
    return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) == 0;
}

static int reach_agent(void)
{
    const struct timeval patience = {.tv_sec = GIVE_UP_S};
    struct sockaddr_un address;
    socklen_t len = cellar_door_address(&address, CELLAR_DOOR_NAME);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) !=
            0 ||
        !tell_sender(fd))
        die("no socket: %m");
    if (connect(fd, (const struct sockaddr *)&address, len) != 0) {
        if (errno == EAGAIN)
            die("the agent did not answer within %d s", GIVE_UP_S);
        die("the agent takes no relays (%m): make the image anew with this "
            "Cellar (`cellar image build`), and the session with it");
    }
    insist_on_agent(fd);
    return fd;
}

static void hand_over(int fd, uint64_t lane)
{
    const int fds[CELLAR_DOOR_FDS] = {STDIN_FILENO, STDOUT_FILENO};
    uint8_t packet[CELLAR_DOOR_BYTES];
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(fds))];
    } control = {0};
    for (size_t i = 0; i < sizeof(packet); i++)
        packet[i] = (uint8_t)(lane >> 8 * (sizeof(packet) - 1 - i));
    struct iovec bytes = {.iov_base = packet, .iov_len = sizeof(packet)};
    struct msghdr msg = {.msg_iov = &bytes,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(head), fds, sizeof(fds));
    if (sendmsg(fd, &msg, MSG_NOSIGNAL) != (ssize_t)sizeof(packet))
        die("handing the stream to the agent: %m");
}

/* The agent says nothing; the end is all there is to wait for. */
static void wait_for_end(int fd)
{
    char byte = 0;
    ssize_t n = 0;
    do
        n = recv(fd, &byte, sizeof(byte), 0);
    while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0)
        die("the agent hung up before it took the stream: %m");
}

int main(int argc, char **argv)
{
    uint64_t lane = argc == 2 ? lane_of(argv[1]) : 0;
    insist_on_protection();
    if (lane == 0)
        die("usage: relay LANE, from 1 to %u", CELLAR_DOOR_LANE_MAX);
    int fd = reach_agent();
    hand_over(fd, lane);
    /* Else the agent would never see the end of one, nor the host that of the
     * other. */
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    wait_for_end(fd);
    return EXIT_SUCCESS;
}
