#include "scripted.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define SEEN_BYTES      (256 << 10)
#define NOTED_BYTES     1024 /* of a body */

struct scripted {
    const struct line *first;
    const struct line *then;
    char dir[64];
    char host[96];
    int listener;
    int stop[2]; /* a pipe: readable when all is over */
    pthread_t acceptor;
    pthread_t threads[CONNECTIONS_MAX];
    size_t count;
    size_t open;
    size_t peak;
    pthread_mutex_t lock;
    char seen[SEEN_BYTES]; /* request lines, and short bodies */
};

struct connection {
    struct scripted *engine;
    int fd;
};

const struct line scripted_good[] = {
    {"GET /version", CUT, SCRIPTED_OK "{\"ApiVersion\":\"1.41\"}", 0},
    {"/images/", CUT, SCRIPTED_OK "{}", 0},
    {"/containers/create", CUT,
     "HTTP/1.1 201 Created\r\n\r\n{\"Id\":\"abc\",\"Warnings\":[]}", 0},
    {"/attach", SAY, SCRIPTED_101, 0},
    {"/start", SAY, "HTTP/1.1 204 No Content\r\n\r\n", 0},
    {"DELETE ", SAY, "HTTP/1.1 204 No Content\r\n\r\n", 0},
    {"/json", CUT, SCRIPTED_OK "{\"State\":{\"Running\":true}}", 0},
    {NULL, SAY, NULL, 0},
};

/* Waits until `fd` can be read, or all is over. */
static bool wait_readable(const struct scripted *s, int fd)
{
    struct pollfd fds[] = {{fd, POLLIN, 0}, {s->stop[0], POLLIN, 0}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    return !fds[1].revents;
}

static bool stopped(const struct scripted *s, int ms)
{
    struct pollfd fds = {s->stop[0], POLLIN, 0};
    return poll(&fds, 1, ms) > 0;
}

/* A client that went away, or the end: false. */
static bool say(const struct scripted *s, int fd, const char *data, size_t len)
{
    while (len) {
        struct pollfd fds[] = {{fd, POLLOUT, 0}, {s->stop[0], POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 || fds[1].revents)
            return false;
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return false;
        data += sent > 0 ? sent : 0;
        len -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

static bool drip(const struct scripted *s, int fd, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!say(s, fd, data + i, 1) || stopped(s, 1))
            return false;
    return true;
}

static void flood(const struct scripted *s, int fd)
{
    char block[65536];
    memset(block, 'x', sizeof(block));
    while (say(s, fd, block, sizeof(block)))
        ;
}

/* Whether the connection goes on. */
static bool answer(const struct scripted *s, int fd, const struct line *line)
{
    size_t len = line->len ? line->len : strlen(line->reply);
    if (line->manner == DRIP)
        return drip(s, fd, line->reply, len);
    bool open = say(s, fd, line->reply, len);
    if (line->manner == HANG)
        (void)stopped(s, -1);
    if (line->manner == FLOOD && open)
        flood(s, fd);
    return open && (line->manner == SAY || line->manner == ONCE);
}

static const struct line *find(const struct scripted *s, const char *request)
{
    const struct line *scripts[] = {s->first, s->then};
    for (size_t i = 0; i < 2; i++)
        for (const struct line *l = scripts[i]; l && l->match; l++)
            if (strstr(request, l->match))
                return l;
    return NULL;
}

static void note(struct scripted *s, const char *request)
{
    pthread_mutex_lock(&s->lock);
    size_t len = strlen(s->seen);
    snprintf(s->seen + len, sizeof(s->seen) - len, "%s\n", request);
    pthread_mutex_unlock(&s->lock);
}

/* Short ones are noted, whole. */
static bool read_body(struct scripted *s, int fd, unsigned long left)
{
    char body[4096];
    bool is_short = left < NOTED_BYTES;
    while (left) {
        size_t want = left < sizeof(body) ? left : sizeof(body);
        ssize_t got = wait_readable(s, fd)
                          ? recv(fd, body, want, is_short ? MSG_WAITALL : 0)
                          : 0;
        if (got <= 0)
            return false;
        left -= (size_t)got;
        if (is_short)
            body[got] = '\0';
    }
    if (is_short)
        note(s, body);
    return true;
}

/* Reads a head, and the body its Content-Length tells of. */
static bool read_request(struct scripted *s, int fd, char *head, size_t size)
{
    size_t len = 0;
    head[0] = '\0';
    while (!strstr(head, "\r\n\r\n")) {
        if (len + 1 >= size || !wait_readable(s, fd) ||
            recv(fd, head + len, 1, 0) != 1)
            return false;
        head[++len] = '\0';
    }
    const char *length = strcasestr(head, "Content-Length:");
    unsigned long left = length ? strtoul(length + 15, NULL, 10) : 0;
    head[strcspn(head, "\r")] = '\0';
    note(s, head);
    return !left || read_body(s, fd, left);
}

static void count_open(struct scripted *s, int change)
{
    pthread_mutex_lock(&s->lock);
    s->open += (size_t)change;
    if (s->open > s->peak)
        s->peak = s->open;
    pthread_mutex_unlock(&s->lock);
}

static void *serve(void *arg)
{
    struct connection c = *(struct connection *)arg;
    char head[16384];
    free(arg);
    bool open = true;
    bool once = false;
    while (open && read_request(c.engine, c.fd, head, sizeof(head))) {
        const struct line *line = once ? NULL : find(c.engine, head);
        open = line && answer(c.engine, c.fd, line);
        once = line && line->manner == ONCE;
    }
    count_open(c.engine, -1);
    close(c.fd);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct scripted *s = arg;
    while (s->count < CONNECTIONS_MAX && wait_readable(s, s->listener)) {
        struct connection *c = malloc(sizeof(*c));
        if (!c)
            abort();
        *c = (struct connection){s, accept(s->listener, NULL, NULL)};
        count_open(s, 1);
        if (pthread_create(&s->threads[s->count++], NULL, serve, c))
            abort();
    }
    return NULL;
}

static void listen_at(struct scripted *s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(s->dir, sizeof(s->dir), "/tmp/cellar-fault-XXXXXX");
    if (!mkdtemp(s->dir))
        abort();
    snprintf(s->host, sizeof(s->host), "unix://%s/engine.sock", s->dir);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", s->host + 7);
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listener < 0 ||
        bind(s->listener, (struct sockaddr *)&address, sizeof(address)) ||
        listen(s->listener, 1024))
        abort();
}

struct scripted *scripted_start(const struct line *first,
                                const struct line *then)
{
    struct scripted *s = calloc(1, sizeof(*s));
    if (!s || pipe(s->stop))
        abort();
    s->first = first;
    s->then = then;
    pthread_mutex_init(&s->lock, NULL);
    listen_at(s);
    if (pthread_create(&s->acceptor, NULL, accept_all, s))
        abort();
    return s;
}

void scripted_stop(struct scripted *s)
{
    close(s->stop[1]);
    pthread_join(s->acceptor, NULL);
    for (size_t i = 0; i < s->count; i++)
        pthread_join(s->threads[i], NULL);
    close(s->stop[0]);
    close(s->listener);
    unlink(s->host + 7);
    rmdir(s->dir);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

const char *scripted_host(const struct scripted *s)
{
    return s->host;
}

size_t scripted_count(struct scripted *s, const char *words)
{
    size_t count = 0;
    pthread_mutex_lock(&s->lock);
    for (const char *at = strstr(s->seen, words); at;
         at = strstr(at + 1, words))
        count++;
    pthread_mutex_unlock(&s->lock);
    return count;
}

bool scripted_saw(struct scripted *s, const char *words)
{
    return scripted_count(s, words) > 0;
}

size_t scripted_peak(struct scripted *s)
{
    pthread_mutex_lock(&s->lock);
    size_t peak = s->peak;
    pthread_mutex_unlock(&s->lock);
    return peak;
}
