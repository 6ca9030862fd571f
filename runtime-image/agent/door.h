/*
 * The door: where relays come in. The container's stdio is the stream of lane
 * 0; for every other lane the engine runs /cellar/relay LANE in the container
 * (kernel/engine/docker/attach.c), which brings its stdin and stdout here:
 *
 *     relay: connects to the abstract unix socket CELLAR_DOOR_NAME (seqpacket)
 *     relay: one packet: the lane, 8 bytes, big endian; with it, as
 *            SCM_RIGHTS, the fd to read from and the fd to write to
 *     agent: reads and writes these; closes the connection when it has done
 *            with them: then the relay ends, and with it the engine's exec
 *
 * The agent's side:
 *
 *     cellar_door_open(&door, CELLAR_DOOR_NAME)    before the first worker
 *     poll(cellar_door_fd(&door), POLLIN)
 *     while (cellar_door_take(&door, &visitor))    the visitor's fds are ours
 *
 * Everybody in the container can knock. Who was started by the engine is told
 * by its parent, which lies outside of the container's process ids; nothing
 * that runs inside can have such a one. That is asked when the connection is
 * accepted, of who made it, and again when the packet is there, of who sent
 * it (the kernel says who), so that nobody else can borrow a relay's number.
 * A relay whose agent is not process 1 hands nothing over: somebody else may
 * have taken the name first.
 */
#ifndef CELLAR_AGENT_DOOR_H
#define CELLAR_AGENT_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "cellar/error.h"

#define CELLAR_DOOR_NAME     "cellar-agent"
#define CELLAR_DOOR_LANE_MAX UINT32_MAX
#define CELLAR_DOOR_BYTES    8u /* of the packet */
#define CELLAR_DOOR_FDS      2u

/* Relays that have connected and not spoken yet; a relay speaks at once, so
 * more of them are none, and the oldest one goes. */
#define CELLAR_DOOR_WAITING_MAX 4u

/* Invariant: the first `count` of `waiting` are open sockets, oldest first,
 * in `poll` like `listener`. */
struct cellar_door {
    int listener;
    int poll; /* an epoll */
    int waiting[CELLAR_DOOR_WAITING_MAX];
    size_t count;
    /* Whether the engine started process `pid`; _open puts
     * cellar_door_is_engines() here, a test what it likes. */
    bool (*is_engines)(pid_t pid);
};

/* What a relay brought. The fds are pipes or sockets, never a terminal, and
 * non-blocking; all three are closed on exec, and the taker's to close. */
struct cellar_visitor {
    uint64_t lane; /* 1..CELLAR_DOOR_LANE_MAX; whether there is such a one, the
                      taker must know */
    int in;
    int out;
    int hold; /* closing it ends the relay. Readable: the relay is gone, and
                 the engine's end of the stream with it */
};

/* Listens at the abstract name `name`. E_SYS: errno says why; `door` is closed
 * then. */
enum cellar_code cellar_door_open(struct cellar_door *door, const char *name);
/* Also of one that is closed. Visitors that were taken stay. */
void cellar_door_close(struct cellar_door *door);

/* Readable: cellar_door_take() has something to do. One descriptor for all,
 * lent as long as the door is open. -1: it is closed. */
int cellar_door_fd(const struct cellar_door *door);

/* Lets at most one in, hears who has spoken, and drops, with all that it sent,
 * what is no relay. Never blocks. True: `out` is a visitor; ask again. False:
 * `out` is untouched, and the rest, if any, keeps cellar_door_fd() readable. */
bool cellar_door_take(struct cellar_door *door, struct cellar_visitor *out);

/* Whether the parent of process `pid` lies outside of our process ids. */
bool cellar_door_is_engines(pid_t pid);
/* The same from the text of its /proc/PID/stat, in which the program's name is
 * whatever the program wants. */
bool cellar_door_parent_is_outside(const char *stat);

/* The address of `name`, of which 107 bytes count; returns its length. */
static inline socklen_t cellar_door_address(struct sockaddr_un *address,
                                            const char *name)
{
    const size_t room = sizeof(address->sun_path) - 1;
    size_t len = strlen(name);
    len = len < room ? len : room;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path + 1, name, len);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

#endif
