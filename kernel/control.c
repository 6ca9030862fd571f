#include "control.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "fail.h"

#define ASK_SECONDS 5

/* A socket's path may have 107 bytes, a state directory's more: the address
 * names the directory by its descriptor. */
static void address_of(int dir_fd, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(address->sun_path, sizeof address->sun_path,
                   "/proc/self/fd/%d/control", dir_fd);
}

static const char *const words[] = {
    [CELLAR_REQUEST_INTERRUPT] = "interrupt\n",
    [CELLAR_REQUEST_RESET] = "reset\n",
    [CELLAR_REQUEST_LEAVE] = "leave\n",
    [CELLAR_REQUEST_COPIES] = "copies\n",
};

/* Of any line. */
#define LINE_MAX_BYTES 64

struct cellar_control {
    struct cellar_loop *loop;
    int fd;
    int peer;   /* the one asker that is being heard, or -1 */
    bool waits; /* it has asked for copies */
    struct cellar_watch *watch, *peer_watch;
    void (*ask)(void *user, enum cellar_request request);
    void *user;
};

static void drop_peer(struct cellar_control *control)
{
    cellar_watch_close(CELLAR_TAKE(control->peer_watch));
    if (control->peer >= 0)
        close(control->peer);
    control->peer = -1;
    control->waits = false;
}

static void answer(struct cellar_control *control, const char *line)
{
    (void)send(control->peer, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
    drop_peer(control);
}

void cellar_control_copies(struct cellar_control *control,
                           const struct cellar_moment *moment)
{
    char line[LINE_MAX_BYTES] = "no\n";
    if (!control || !control->waits)
        return;
    if (moment)
        (void)snprintf(line, sizeof line, "%zu %" PRIu64 "\n", moment->count,
                       moment->held_bytes);
    answer(control, line);
}

static void take(struct cellar_control *control, enum cellar_request request)
{
    control->waits = request == CELLAR_REQUEST_COPIES;
    if (control->waits)
        (void)!cellar_watch_set(control->peer_watch, 0);
    else
        answer(control, "ok\n");
    control->ask(control->user, request);
}

/* An asker writes its line in one go; what comes otherwise is no request. */
static void on_line(void *user, int events)
{
    struct cellar_control *control = user;
    char line[LINE_MAX_BYTES] = "";
    (void)events;
    if (recv(control->peer, line, sizeof line - 1, MSG_DONTWAIT) < 0 &&
        (errno == EAGAIN || errno == EINTR))
        return;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(line, words[i]) != 0)
            continue;
        take(control, (enum cellar_request)i);
        return;
    }
    drop_peer(control);
}

/* A new asker takes the place of one that never spoke. */
static void on_connection(void *user, int events)
{
    struct cellar_control *control = user;
    (void)events;
    drop_peer(control);
    control->peer =
        accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (control->peer < 0)
        return;
    if (cellar_watch_new(control->loop, control->peer, on_line, control,
                         &control->peer_watch, NULL) != CELLAR_OK ||
        cellar_watch_set(control->peer_watch, CELLAR_READABLE) != CELLAR_OK)
        drop_peer(control);
}

static enum cellar_code listen_at(struct cellar_control *control, int dir_fd,
                                  struct cellar_error *err)
{
    struct sockaddr_un address;
    address_of(dir_fd, &address);
    (void)unlinkat(dir_fd, "control", 0);
    control->fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->fd < 0 ||
        bind(control->fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(control->fd, 4) < 0)
        return cellar_fail_errno(err, errno, "control socket");
    return CELLAR_OK;
}

enum cellar_code cellar_control_new(struct cellar_loop *loop,
                                    const struct cellar_hold *hold,
                                    void (*ask)(void *, enum cellar_request),
                                    void *user, struct cellar_control **out,
                                    struct cellar_error *err)
{
    struct cellar_control *control = calloc(1, sizeof *control);
    if (!control)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    *control = (struct cellar_control){
        .loop = loop, .fd = -1, .peer = -1, .ask = ask, .user = user};
    enum cellar_code code = listen_at(control, hold->dir_fd, err);
    if (code == CELLAR_OK)
        code = cellar_watch_new(loop, control->fd, on_connection, control,
                                &control->watch, err);
    if (code == CELLAR_OK)
        code = cellar_watch_set(control->watch, CELLAR_READABLE);
    if (code != CELLAR_OK) {
        cellar_control_free(control);
        return code;
    }
    *out = control;
    return CELLAR_OK;
}

void cellar_control_free(struct cellar_control *control)
{
    if (!control)
        return;
    drop_peer(control);
    cellar_watch_close(control->watch);
    if (control->fd >= 0)
        close(control->fd);
    free(control);
}

/* The line that the process which has `name` answers; `line` comes as zeros. */
static enum cellar_code exchange(const char *state_dir, const char *name,
                                 enum cellar_request request,
                                 char line[LINE_MAX_BYTES],
                                 struct cellar_error *err)
{
    char path[4096 + CELLAR_NAME_BYTES_MAX + 16];
    struct sockaddr_un address;
    struct timeval patience = {.tv_sec = ASK_SECONDS};
    (void)snprintf(path, sizeof path, "%s/sessions/%s", state_dir, name);
    CELLAR_AUTO_CLOSE int dir_fd = open(path, O_PATH | O_CLOEXEC);
    CELLAR_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (dir_fd < 0 || fd < 0)
        return cellar_fail_errno(err, errno, "session '%s'", name);
    address_of(dir_fd, &address);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return cellar_fail(err, CELLAR_E_NOT_FOUND,
                           "the process that has session '%s' does not listen",
                           name);
    if (send(fd, words[request], strlen(words[request]), MSG_NOSIGNAL) < 0 ||
        recv(fd, line, LINE_MAX_BYTES - 1, 0) <= 0)
        return cellar_fail(err, CELLAR_E_TIMEOUT,
                           "the process that has session '%s' does not answer",
                           name);
    return CELLAR_OK;
}

enum cellar_code cellar_control_ask(const char *state_dir, const char *name,
                                    enum cellar_request request,
                                    struct cellar_error *err)
{
    char line[LINE_MAX_BYTES] = "";
    enum cellar_code code = exchange(state_dir, name, request, line, err);
    if (code == CELLAR_OK && strcmp(line, "ok\n") != 0)
        code = cellar_fail(err, CELLAR_E_TIMEOUT,
                           "the process that has session '%s' does not answer",
                           name);
    return code;
}

static bool read_copies(const char *line, struct cellar_moment *moment)
{
    char *end = NULL;
    if (!isdigit((unsigned char)line[0]))
        return false;
    moment->count = strtoul(line, &end, 10);
    if (end[0] != ' ' || !isdigit((unsigned char)end[1]))
        return false;
    moment->held_bytes = strtoull(end, &end, 10);
    return strcmp(end, "\n") == 0;
}

enum cellar_code cellar_control_ask_copies(const char *state_dir,
                                           const char *name,
                                           struct cellar_moment *moment,
                                           struct cellar_error *err)
{
    char line[LINE_MAX_BYTES] = "";
    enum cellar_code code =
        exchange(state_dir, name, CELLAR_REQUEST_COPIES, line, err);
    *moment = (struct cellar_moment){0};
    if (code == CELLAR_OK && !read_copies(line, moment))
        code = cellar_fail(err, CELLAR_E_AGAIN,
                           "session '%s' is busy with something else", name);
    return code;
}
