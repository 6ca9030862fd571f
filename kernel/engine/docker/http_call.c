/* Requests with a reply: the calls of http.h that are no streams. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../fail.h"
#include "http_private.h"
#include "proto/buf.h"

struct cellar_http_call {
    struct http_job job; /* first */
    struct curl_slist *headers;
    char *body;
    int body_fd;
    struct cellar_buf reply;
    bool has_head;            /* up to its empty line */
    enum cellar_code refused; /* why we ended the transfer */
    enum cellar_code (*on_piece)(void *user, const char *data, size_t len);
    cellar_http_fn *done;
    void *user;
};

static struct cellar_http_call *call_of(struct http_job *job)
{
    return (struct cellar_http_call *)job;
}

static void destroy_call(struct http_job *job)
{
    struct cellar_http_call *call = call_of(job);
    cellar_http_job_done(job);
    curl_slist_free_all(call->headers);
    cellar_buf_done(&call->reply);
    free(call->body);
    free(call);
}

static enum cellar_code fail_refused(struct cellar_error *err,
                                     const struct cellar_http_call *call)
{
    if (call->refused == CELLAR_E_LIMIT && !call->on_piece)
        return cellar_fail(err, CELLAR_E_LIMIT,
                           "the reply of %s is longer than %zu bytes",
                           call->job.http->name, call->reply.max - 1);
    return cellar_fail(err, call->refused, "the reply of %s was refused: %s",
                       call->job.http->name, cellar_code_text(call->refused));
}

static void call_finished(struct http_job *job, const struct cellar_error *err)
{
    struct cellar_http_call *call = call_of(job);
    struct cellar_error own;
    if (call->refused) {
        fail_refused(&own, call);
        err = &own;
    } else if (!err && !call->has_head) {
        cellar_http_fail_curl(&own, job, CURLE_PARTIAL_FILE);
        err = &own;
    } else if (!err && cellar_buf_append(&call->reply, "", 1)) {
        cellar_fail(&own, CELLAR_E_NOMEM, "HTTP: out of memory");
        err = &own;
    }
    long status = 0;
    curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
    /* Marked first: the callback may free the server, which must not free
     * the call under our feet. */
    job->dead = true;
    job->http->depth++;
    if (err)
        call->done(call->user, 0, "", 0, err);
    else
        call->done(call->user, (int)status,
                   (const char *)cellar_buf_peek(&call->reply),
                   cellar_buf_len(&call->reply) - 1, NULL);
    cellar_http_leave(job->http);
}

/* libcurl takes a head that ends in the middle for a complete one. */
static size_t take_header(char *data, size_t size, size_t count, void *user)
{
    struct cellar_http_call *call = user;
    size_t len = size * count;
    if (len > 5 && memcmp(data, "HTTP/", 5) == 0)
        call->has_head = false; /* another one, after "100 Continue" */
    else if (len && (*data == '\r' || *data == '\n'))
        call->has_head = true;
    return len;
}

static size_t take_reply(char *data, size_t size, size_t count, void *user)
{
    struct cellar_http_call *call = user;
    size_t len = size * count;
    if (call->job.dead)
        return CURL_WRITEFUNC_ERROR;
    long status = 0;
    curl_easy_getinfo(call->job.easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->on_piece && status / 100 == 2)
        call->refused = call->on_piece(call->user, data, len);
    else if (len >= call->reply.max - cellar_buf_len(&call->reply))
        call->refused = CELLAR_E_LIMIT; /* one byte stays for the NUL */
    else
        call->refused = cellar_buf_append(&call->reply, data, len);
    return call->refused ? CURL_WRITEFUNC_ERROR : len;
}

static size_t give_body(char *room, size_t size, size_t count, void *user)
{
    struct cellar_http_call *call = user;
    ssize_t got = read(call->body_fd, room, size * count);
    return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static bool add_header(struct cellar_http_call *call, const char *line)
{
    struct curl_slist *more = curl_slist_append(call->headers, line);
    if (!more)
        return false;
    call->headers = more;
    return true;
}

static bool set_headers(struct cellar_http_call *call,
                        const struct cellar_http_request *request)
{
    char line[128];
    bool has_body = request->body || request->body_fd > 0;
    const char *type =
        request->content_type ? request->content_type : "application/json";
    /* With nothing after the colon libcurl leaves the header out. */
    snprintf(line, sizeof(line), "Content-Type:%s%s", has_body ? " " : "",
             has_body ? type : "");
    if (!add_header(call, line) || !add_header(call, "Expect:"))
        return false;
    curl_easy_setopt(call->job.easy, CURLOPT_HTTPHEADER, call->headers);
    return true;
}

/* A regular file is sent with its length, anything else in chunks. */
static bool set_body_fd(struct cellar_http_call *call, int fd)
{
    CURL *easy = call->job.easy;
    struct stat st;
    call->body_fd = fd;
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_body);
    curl_easy_setopt(easy, CURLOPT_READDATA, call);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && at >= 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(st.st_size - at));
        return true;
    }
    return add_header(call, "Transfer-Encoding: chunked");
}

static bool set_request(struct cellar_http_call *call,
                        const struct cellar_http_request *request)
{
    CURL *easy = call->job.easy;
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_reply);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    if (request->body_fd > 0) {
        if (!set_body_fd(call, request->body_fd))
            return false;
    } else if (request->body || strcmp(request->method, "POST") == 0) {
        call->body = malloc(request->body_len + 1);
        if (!call->body)
            return false;
        if (request->body_len)
            memcpy(call->body, request->body, request->body_len);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)request->body_len);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    /* A kept connection may turn out to be dead, when the engine has been
     * restarted: libcurl then asks again on another one. What must not be done
     * twice is asked on a connection of its own. */
    if (strcmp(request->method, "POST") == 0)
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    return set_headers(call, request);
}

static enum cellar_code init_call(struct cellar_http_call *call,
                                  struct cellar_http *http,
                                  const struct cellar_http_request *request,
                                  struct cellar_error *err)
{
    cellar_buf_init(&call->reply, request->reply_max + 1);
    call->on_piece = request->on_piece;
    call->job.finished = call_finished;
    call->job.destroy = destroy_call;
    enum cellar_code code = cellar_http_job_init(
        &call->job, http, request->path, request->deadline_ms, err);
    if (code)
        return code;
    if (!set_request(call, request))
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    return cellar_http_job_start(&call->job, err);
}

enum cellar_code cellar_http_begin(struct cellar_http *http,
                                   const struct cellar_http_request *request,
                                   cellar_http_fn *done, void *user,
                                   struct cellar_http_call **out,
                                   struct cellar_error *err)
{
    struct cellar_http_call *call = calloc(1, sizeof(*call));
    if (!call)
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    call->done = done;
    call->user = user;
    enum cellar_code code = init_call(call, http, request, err);
    if (code) {
        destroy_call(&call->job);
        return code;
    }
    if (out)
        *out = call;
    return CELLAR_OK;
}

void cellar_http_cancel(struct cellar_http_call *call)
{
    if (call)
        cellar_http_job_drop(&call->job);
}
