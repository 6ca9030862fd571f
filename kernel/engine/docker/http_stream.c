/*
 * An upgraded connection. libcurl makes it (CONNECT_ONLY), for name
 * resolution and TLS; what goes over it is ours. A plain connection is taken
 * out of libcurl's hands: its descriptor costs no memory and no lookup there,
 * and one system call a read. A TLS one stays and goes through
 * curl_easy_send() and curl_easy_recv().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../../fail.h"
#include "cellar/version.h"
#include "http_head.h"
#include "http_private.h"
#include "proto/buf.h"

/* What one read takes: two of Docker's largest chunks. */
#define READ_BYTES (64u << 10)

/* Reads of one wake-up: a session that floods must not starve the others. */
#define READS_MAX 16

/* OpenSSL wants a write that it could not finish repeated from the same
 * address with the same length: TLS writes go out from here. */
#define STAGE_BYTES (16u << 10)

enum phase { CONNECTING, HEAD, REFUSED, OPEN, ENDED };

struct stage {
    size_t at;
    size_t len;
    uint8_t bytes[STAGE_BYTES];
};

struct cellar_http_stream {
    struct http_job job; /* first; `easy` is NULL when the fd is ours */
    enum phase phase;
    int fd; /* -1: not connected */
    struct cellar_watch *watch;
    struct cellar_timer *resume; /* reads on though nothing polls readable */
    struct stage *stage;         /* TLS only */
    struct cellar_buf out;
    struct cellar_buf in; /* head, or the body of a refusal */
    struct cellar_http_head head;
    int write_errno; /* writing failed; reading will tell the end */
    int depth;       /* callbacks of this stream on the stack */
    bool closed;     /* by the user */
    struct cellar_http_stream_events events;
    void *user;
};

static struct cellar_http_stream *stream_of(struct http_job *job)
{
    return (struct cellar_http_stream *)job;
}

static void destroy_stream(struct http_job *job)
{
    struct cellar_http_stream *stream = stream_of(job);
    bool own_fd = !job->easy;
    cellar_watch_close(stream->watch);
    cellar_timer_close(stream->resume);
    cellar_http_job_done(job);
    if (own_fd && stream->fd >= 0)
        close(stream->fd);
    cellar_buf_done(&stream->out);
    cellar_buf_done(&stream->in);
    free(stream->stage);
    free(stream);
}

static void leave(struct cellar_http_stream *stream)
{
    if (--stream->depth == 0 && stream->closed)
        cellar_http_job_drop(&stream->job);
}

static void end(struct cellar_http_stream *stream, int status,
                const struct cellar_error *err)
{
    if (stream->phase == ENDED)
        return;
    stream->phase = ENDED;
    cellar_timer_unset(stream->job.timer);
    cellar_timer_unset(stream->resume);
    cellar_watch_close(CELLAR_TAKE(stream->watch));
    if (!stream->closed)
        stream->events.closed(stream->user, status, err);
}

static void end_errno(struct cellar_http_stream *stream, int sys_errno)
{
    struct cellar_error err;
    cellar_fail_errno(&err, sys_errno, "the connection to %s broke",
                      stream->job.http->name);
    err.code = CELLAR_E_ENGINE;
    end(stream, 0, &err);
}

/* ------------------------------------------------------------- writing -- */

/* Bytes taken, or -1: none can be taken now, or ever (write_errno). */
static ssize_t send_plain(struct cellar_http_stream *stream,
                          const uint8_t *data, size_t len)
{
    ssize_t sent = send(stream->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        stream->write_errno = errno;
    return sent;
}

static bool flush_plain(struct cellar_http_stream *stream)
{
    size_t len = cellar_buf_len(&stream->out);
    if (!len)
        return true;
    ssize_t sent = send_plain(stream, cellar_buf_peek(&stream->out), len);
    if (sent > 0)
        cellar_buf_consume(&stream->out, (size_t)sent);
    return sent == (ssize_t)len;
}

static bool fill_stage(struct cellar_http_stream *stream)
{
    struct stage *stage = stream->stage;
    size_t len = cellar_buf_len(&stream->out);
    if (stage->at < stage->len)
        return true;
    stage->at = 0;
    stage->len = len < STAGE_BYTES ? len : STAGE_BYTES;
    if (!stage->len)
        return false;
    memcpy(stage->bytes, cellar_buf_peek(&stream->out), stage->len);
    cellar_buf_consume(&stream->out, stage->len);
    return true;
}

static bool flush_tls(struct cellar_http_stream *stream)
{
    struct stage *stage = stream->stage;
    while (fill_stage(stream)) {
        size_t sent = 0;
        CURLcode curl =
            curl_easy_send(stream->job.easy, stage->bytes + stage->at,
                           stage->len - stage->at, &sent);
        if (curl && curl != CURLE_AGAIN)
            stream->write_errno = EPIPE;
        if (curl)
            return false;
        stage->at += sent;
    }
    return true;
}

/* Sends what is queued, and has the loop tell when more can go. What cannot
 * be written any more is dropped: the peer is gone, and reading to the end
 * gives its last words first. */
static void flush(struct cellar_http_stream *stream)
{
    if (stream->write_errno)
        return;
    bool all = stream->stage ? flush_tls(stream) : flush_plain(stream);
    if (stream->write_errno) {
        cellar_buf_reset(&stream->out);
        cellar_timer_set(stream->resume, 0);
        all = true;
    }
    int events = CELLAR_READABLE | (all ? 0 : CELLAR_WRITABLE);
    if (cellar_watch_set(stream->watch, events)) {
        stream->write_errno = EIO;
        cellar_timer_set(stream->resume, 0);
    }
}

enum cellar_code cellar_http_stream_write(struct cellar_http_stream *stream,
                                          const uint8_t *data, size_t len)
{
    if (stream->phase != OPEN)
        return CELLAR_E_LOST;
    if (!stream->stage && !cellar_buf_len(&stream->out) &&
        !stream->write_errno) {
        ssize_t sent = send_plain(stream, data, len);
        if (sent == (ssize_t)len)
            return CELLAR_OK;
        if (sent > 0) {
            data += sent;
            len -= (size_t)sent;
        }
    }
    enum cellar_code code = cellar_buf_append(&stream->out, data, len);
    if (!code)
        flush(stream);
    return code;
}

/* ------------------------------------------------------------- reading -- */

/* Returns like recv(): bytes, 0 at the end, -1 with errno. */
static ssize_t receive(struct cellar_http_stream *stream, uint8_t *room,
                       size_t len)
{
    if (!stream->stage)
        return recv(stream->fd, room, len, MSG_DONTWAIT);
    size_t got = 0;
    CURLcode curl = curl_easy_recv(stream->job.easy, room, len, &got);
    if (!curl)
        return (ssize_t)got;
    errno = curl == CURLE_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

static void end_refused(struct cellar_http_stream *stream)
{
    struct cellar_error err;
    cellar_fail(&err, CELLAR_E_ENGINE, "%.*s", (int)cellar_buf_len(&stream->in),
                (const char *)cellar_buf_peek(&stream->in));
    end(stream, stream->head.status, &err);
}

/* The reply is no stream: it says why in its body. */
static void take_refusal(struct cellar_http_stream *stream)
{
    size_t len = cellar_buf_len(&stream->in);
    stream->phase = REFUSED;
    if (len >= CELLAR_ERROR_MSG_MAX ||
        (stream->head.has_length && len >= stream->head.length))
        end_refused(stream);
}

static void end_garbage(struct cellar_http_stream *stream,
                        enum cellar_code code)
{
    struct cellar_error err;
    cellar_fail(&err, CELLAR_E_ENGINE, "%s answers with %s",
                stream->job.http->name,
                code == CELLAR_E_LIMIT ? "a head that is too long"
                                       : "something that is not HTTP");
    end(stream, 0, &err);
}

/* 101 to another protocol, or a success that is no stream. */
static void end_wrong_upgrade(struct cellar_http_stream *stream)
{
    struct cellar_error err;
    cellar_fail(&err, CELLAR_E_ENGINE,
                "%s answered %d to an upgrade, but opened no stream",
                stream->job.http->name, stream->head.status);
    end(stream, stream->head.status, &err);
}

static void open_stream(struct cellar_http_stream *stream)
{
    stream->phase = OPEN;
    cellar_timer_unset(stream->job.timer);
    stream->events.opened(stream->user);
    size_t len = cellar_buf_len(&stream->in);
    if (len && !stream->closed)
        stream->events.bytes(stream->user, cellar_buf_peek(&stream->in), len);
    cellar_buf_done(&stream->in);
}

static void take_head(struct cellar_http_stream *stream)
{
    enum cellar_code code =
        cellar_http_head_parse((const char *)cellar_buf_peek(&stream->in),
                               cellar_buf_len(&stream->in), &stream->head);
    if (code == CELLAR_E_AGAIN)
        return;
    if (code) {
        end_garbage(stream, code);
        return;
    }
    cellar_buf_consume(&stream->in, stream->head.len);
    if (cellar_http_head_is_stream(&stream->head))
        open_stream(stream);
    else if (stream->head.status < 300)
        end_wrong_upgrade(stream);
    else
        take_refusal(stream);
}

static void take_bytes(struct cellar_http_stream *stream, const uint8_t *data,
                       size_t len)
{
    if (stream->phase == OPEN) {
        stream->events.bytes(stream->user, data, len);
        return;
    }
    /* Of a refusal's body no more is kept than an error can say. */
    if (stream->phase == REFUSED && len > CELLAR_ERROR_MSG_MAX)
        len = CELLAR_ERROR_MSG_MAX;
    if (cellar_buf_append(&stream->in, data, len))
        end_garbage(stream, CELLAR_E_LIMIT);
    else if (stream->phase == HEAD)
        take_head(stream);
    else
        take_refusal(stream);
}

static void take_end(struct cellar_http_stream *stream, int sys_errno)
{
    if (stream->phase == REFUSED)
        end_refused(stream);
    else if (stream->phase == OPEN && !sys_errno)
        end(stream, 0, NULL);
    else /* no errno: closed inside the head */
        end_errno(stream, sys_errno ? sys_errno : ECONNRESET);
}

/* One read. Returns whether another one may find more. */
static bool read_once(struct cellar_http_stream *stream)
{
    uint8_t room[READ_BYTES];
    ssize_t got = receive(stream, room, sizeof(room));
    if (got > 0) {
        take_bytes(stream, room, (size_t)got);
        /* A short read of a socket emptied it; epoll tells of more. TLS may
         * hold a record that no poll can see. */
        return stream->stage || (size_t)got == sizeof(room);
    }
    if (got == 0)
        take_end(stream, 0);
    else if (errno != EAGAIN && errno != EINTR)
        take_end(stream, errno);
    return false;
}

static void read_stream(struct cellar_http_stream *stream)
{
    int turn = 0;
    bool more = true;
    while (more && turn++ < READS_MAX)
        more = read_once(stream) && !stream->closed && stream->phase != ENDED;
    if (more)
        cellar_timer_set(stream->resume, 0);
}

static void stream_ready(void *user, int events)
{
    struct cellar_http_stream *stream = user;
    stream->depth++;
    if (events & CELLAR_WRITABLE)
        flush(stream);
    if (events & CELLAR_READABLE)
        read_stream(stream);
    leave(stream);
}

static void resumed(void *user)
{
    struct cellar_http_stream *stream = user;
    stream->depth++;
    read_stream(stream);
    /* Everything there was has been read, and still no end of file. */
    if (stream->write_errno && stream->phase != ENDED && !stream->closed)
        end_errno(stream, stream->write_errno);
    leave(stream);
}

/* ---------------------------------------------------------- connecting -- */

/* Takes the connection out of libcurl, which closes its own descriptor. */
static enum cellar_code take_socket(struct cellar_http_stream *stream,
                                    struct cellar_error *err)
{
    struct http_job *job = &stream->job;
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(job->easy, CURLINFO_ACTIVESOCKET, &fd);
    if (fd == CURL_SOCKET_BAD)
        return cellar_fail(err, CELLAR_E_ENGINE, "%s is not connected",
                           job->http->name);
    stream->fd = fd;
    if (stream->stage)
        return CELLAR_OK;
    stream->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (stream->fd < 0)
        return cellar_fail_errno(err, errno, "connection to %s",
                                 job->http->name);
    curl_multi_remove_handle(job->http->multi, job->easy);
    curl_easy_cleanup(CELLAR_TAKE(job->easy));
    return CELLAR_OK;
}

static void connected(struct cellar_http_stream *stream)
{
    struct cellar_error err;
    enum cellar_code code = take_socket(stream, &err);
    if (!code)
        code = cellar_watch_new(stream->job.http->loop, stream->fd,
                                stream_ready, stream, &stream->watch, &err);
    if (code) {
        end(stream, 0, &err);
        return;
    }
    stream->phase = HEAD;
    flush(stream);
}

static void job_finished(struct http_job *job, const struct cellar_error *err)
{
    struct cellar_http_stream *stream = stream_of(job);
    stream->depth++;
    if (stream->phase == REFUSED)
        end_refused(stream); /* the deadline, with the reason half read */
    else if (err)
        end(stream, 0, err);
    else
        connected(stream);
    leave(stream);
}

static enum cellar_code queue_request(struct cellar_http_stream *stream,
                                      const struct cellar_http_request *request)
{
    const char *host = strstr(stream->job.http->base, "://");
    CELLAR_AUTO_FREE char *text = NULL;
    int len =
        asprintf(&text,
                 "POST %s HTTP/1.1\r\n"
                 "Host: %s\r\n"
                 "User-Agent: cellar/" CELLAR_VERSION "\r\n"
                 "%s"
                 "Content-Length: %zu\r\n"
                 "Connection: Upgrade\r\n"
                 "Upgrade: tcp\r\n\r\n",
                 request->path, host + 3,
                 request->body_len ? "Content-Type: application/json\r\n" : "",
                 request->body_len);
    if (len < 0) {
        text = NULL;
        return CELLAR_E_NOMEM;
    }
    enum cellar_code code = cellar_buf_append(&stream->out, text, (size_t)len);
    if (!code && request->body_len)
        code =
            cellar_buf_append(&stream->out, request->body, request->body_len);
    return code;
}

static enum cellar_code prepare(struct cellar_http_stream *stream,
                                const struct cellar_http_request *request,
                                struct cellar_error *err)
{
    struct http_job *job = &stream->job;
    enum cellar_code code = cellar_timer_new(job->http->loop, resumed, stream,
                                             &stream->resume, err);
    if (code)
        return code;
    if (strncmp(job->http->base, "https", 5) == 0) {
        stream->stage = calloc(1, sizeof(*stream->stage));
        if (!stream->stage)
            return cellar_fail(err, CELLAR_E_NOMEM, "stream: out of memory");
    }
    if (queue_request(stream, request))
        return cellar_fail(err, CELLAR_E_NOMEM, "stream: out of memory");
    curl_easy_setopt(job->easy, CURLOPT_CONNECT_ONLY, 1L);
    return cellar_http_job_start(job, err);
}

enum cellar_code
cellar_http_upgrade(struct cellar_http *http,
                    const struct cellar_http_request *request,
                    const struct cellar_http_stream_events *events, void *user,
                    struct cellar_http_stream **out, struct cellar_error *err)
{
    struct cellar_http_stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        return cellar_fail(err, CELLAR_E_NOMEM, "stream: out of memory");
    stream->fd = -1;
    stream->events = *events;
    stream->user = user;
    stream->job.finished = job_finished;
    stream->job.destroy = destroy_stream;
    cellar_buf_init(&stream->out, CELLAR_HTTP_QUEUE_MAX);
    cellar_buf_init(&stream->in, CELLAR_HTTP_HEAD_MAX + READ_BYTES);
    enum cellar_code code = cellar_http_job_init(
        &stream->job, http, request->path, request->deadline_ms, err);
    if (code) {
        free(stream);
        return code;
    }
    code = prepare(stream, request, err);
    if (code) {
        destroy_stream(&stream->job);
        return code;
    }
    *out = stream;
    return CELLAR_OK;
}

int cellar_http_stream_fd(const struct cellar_http_stream *stream)
{
    return stream->fd;
}

void cellar_http_stream_close(struct cellar_http_stream *stream)
{
    if (!stream)
        return;
    stream->closed = true;
    cellar_timer_unset(stream->resume);
    if (stream->depth == 0)
        cellar_http_job_drop(&stream->job);
}
