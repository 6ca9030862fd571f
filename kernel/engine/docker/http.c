#include "http.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../fail.h"
#include "cellar/version.h"
#include "http_private.h"

/* How long after libcurl's own timeout ours ends a job: only if libcurl
 * failed to. */
#define BACKUP_MS 200

/* Connections of requests under way, and of them those that are kept when
 * nothing is; further requests wait for one, within their deadlines. */
#define CONNECTIONS_MAX  64L
#define CONNECTIONS_IDLE 8L

/* What curl tells of one of its sockets; freed when curl lets go of it. */
struct http_socket {
    struct cellar_http *http;
    curl_socket_t fd;
    struct cellar_watch *watch;
};

/* ---------------------------------------------------------------- jobs -- */

static void set_tls(struct http_job *job)
{
    char path[PATH_MAX];
    const char *dir = job->http->tls_dir;
    snprintf(path, sizeof(path), "%s/ca.pem", dir);
    curl_easy_setopt(job->easy, CURLOPT_CAINFO, path);
    curl_easy_setopt(job->easy, CURLOPT_CAPATH, NULL);
    snprintf(path, sizeof(path), "%s/cert.pem", dir);
    curl_easy_setopt(job->easy, CURLOPT_SSLCERT, path);
    snprintf(path, sizeof(path), "%s/key.pem", dir);
    curl_easy_setopt(job->easy, CURLOPT_SSLKEY, path);
}

static enum cellar_code set_address(struct http_job *job, const char *path)
{
    const struct cellar_http *http = job->http;
    CELLAR_AUTO_FREE char *url = NULL;
    if (asprintf(&url, "%s%s", http->base, path) < 0) {
        url = NULL;
        return CELLAR_E_NOMEM;
    }
    CURLcode curl = curl_easy_setopt(job->easy, CURLOPT_URL, url);
    if (!curl && http->socket_path)
        curl = curl_easy_setopt(job->easy, CURLOPT_UNIX_SOCKET_PATH,
                                http->socket_path);
    return curl ? CELLAR_E_NOMEM : CELLAR_OK;
}

static void set_options(struct http_job *job)
{
    CURL *easy = job->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, job);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, job->curl_text);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "cellar/" CELLAR_VERSION);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)job->deadline_ms);
    if (job->http->tls_dir)
        set_tls(job);
}

static void job_expired(void *user)
{
    struct http_job *job = user;
    struct cellar_error err;
    cellar_http_fail_curl(&err, job, CURLE_OPERATION_TIMEDOUT);
    job->finished(job, &err);
}

enum cellar_code cellar_http_job_init(struct http_job *job,
                                      struct cellar_http *http,
                                      const char *path, uint64_t deadline_ms,
                                      struct cellar_error *err)
{
    job->http = http;
    job->deadline_ms = deadline_ms;
    enum cellar_code code =
        cellar_timer_new(http->loop, job_expired, job, &job->timer, err);
    if (code)
        return code;
    job->easy = curl_easy_init();
    if (!job->easy || set_address(job, path)) {
        cellar_http_job_done(job);
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    }
    set_options(job);
    return CELLAR_OK;
}

enum cellar_code cellar_http_job_start(struct http_job *job,
                                       struct cellar_error *err)
{
    struct cellar_http *http = job->http;
    CURLMcode status = curl_multi_add_handle(http->multi, job->easy);
    if (status)
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: %s",
                           curl_multi_strerror(status));
    job->next = http->jobs;
    if (job->next)
        job->next->prev = job;
    http->jobs = job;
    cellar_timer_set(job->timer, job->deadline_ms + BACKUP_MS);
    return CELLAR_OK;
}

static void unlink_job(struct http_job *job)
{
    if (job->prev)
        job->prev->next = job->next;
    else if (job->http->jobs == job)
        job->http->jobs = job->next;
    if (job->next)
        job->next->prev = job->prev;
    job->prev = NULL;
    job->next = NULL;
}

void cellar_http_job_done(struct http_job *job)
{
    unlink_job(job);
    if (job->easy) {
        curl_multi_remove_handle(job->http->multi, job->easy);
        curl_easy_cleanup(CELLAR_TAKE(job->easy));
    }
    cellar_timer_close(CELLAR_TAKE(job->timer));
}

void cellar_http_job_drop(struct http_job *job)
{
    if (job->http->depth > 0)
        job->dead = true;
    else
        job->destroy(job);
}

/* ------------------------------------------------- libcurl on the loop -- */

static void free_http(struct cellar_http *http)
{
    for (struct http_job *job = http->jobs, *next = NULL; job; job = next) {
        next = job->next;
        job->destroy(job);
    }
    if (http->multi)
        curl_multi_cleanup(http->multi);
    cellar_timer_close(http->timer);
    free(http->name);
    free(http->base);
    free(http->socket_path);
    free(http->tls_dir);
    free(http);
    curl_global_cleanup();
}

static void sweep(struct cellar_http *http)
{
    for (struct http_job *job = http->jobs, *next = NULL; job; job = next) {
        next = job->next;
        if (job->dead)
            job->destroy(job);
    }
    if (http->dead)
        free_http(http);
}

void cellar_http_leave(struct cellar_http *http)
{
    if (--http->depth == 0)
        sweep(http);
}

static void reap(struct cellar_http *http)
{
    int left = 0;
    for (CURLMsg *msg = curl_multi_info_read(http->multi, &left); msg;
         msg = curl_multi_info_read(http->multi, &left)) {
        struct http_job *job = NULL;
        CURLcode result = msg->data.result;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&job);
        if (job->dead)
            continue;
        struct cellar_error err;
        if (result)
            cellar_http_fail_curl(&err, job, result);
        job->finished(job, result ? &err : NULL);
    }
}

static void act(struct cellar_http *http, curl_socket_t fd, int flags)
{
    int running = 0;
    http->depth++;
    curl_multi_socket_action(http->multi, fd, flags, &running);
    reap(http);
    cellar_http_leave(http);
}

static void timer_fired(void *user)
{
    act(user, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long timeout_ms, void *user)
{
    (void)multi;
    struct cellar_http *http = user;
    if (timeout_ms < 0)
        cellar_timer_unset(http->timer);
    else
        cellar_timer_set(http->timer, (uint64_t)timeout_ms);
    return 0;
}

static void socket_ready(void *user, int events)
{
    struct http_socket *sock = user; /* freed by curl's CURL_POLL_REMOVE */
    int flags = (events & CELLAR_READABLE ? CURL_CSELECT_IN : 0) |
                (events & CELLAR_WRITABLE ? CURL_CSELECT_OUT : 0);
    act(sock->http, sock->fd, flags);
}

static void drop_socket(struct http_socket *sock)
{
    if (!sock)
        return;
    cellar_watch_close(sock->watch);
    free(sock);
}

static struct http_socket *new_socket(struct cellar_http *http,
                                      curl_socket_t fd)
{
    CELLAR_AUTO_FREE struct http_socket *sock = calloc(1, sizeof(*sock));
    if (!sock)
        return NULL;
    sock->http = http;
    sock->fd = fd;
    if (cellar_watch_new(http->loop, fd, socket_ready, sock, &sock->watch,
                         NULL))
        return NULL;
    curl_multi_assign(http->multi, fd, sock);
    return CELLAR_TAKE(sock);
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *user,
                      void *socket)
{
    (void)easy;
    struct http_socket *sock = socket;
    if (what == CURL_POLL_REMOVE) {
        drop_socket(sock);
        return 0;
    }
    if (!sock)
        sock = new_socket(user, fd);
    if (!sock)
        return -1;
    int events = (what & CURL_POLL_IN ? CELLAR_READABLE : 0) |
                 (what & CURL_POLL_OUT ? CELLAR_WRITABLE : 0);
    return cellar_watch_set(sock->watch, events) ? -1 : 0;
}

/* -------------------------------------------------------------- server -- */

static const char *after(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static bool tls_is_asked_for(void)
{
    const char *verify = getenv("DOCKER_TLS_VERIFY");
    return verify && *verify;
}

static enum cellar_code check_readable(const char *dir, const char *file,
                                       struct cellar_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    if (access(path, R_OK) == 0)
        return CELLAR_OK;
    return cellar_fail(err, CELLAR_E_USAGE,
                       "DOCKER_TLS_VERIFY asks for TLS, but %s cannot be read "
                       "(%s): set DOCKER_CERT_PATH to the folder that holds "
                       "ca.pem, cert.pem and key.pem",
                       path, strerror(errno));
}

static enum cellar_code find_certificates(struct cellar_http *http,
                                          struct cellar_error *err)
{
    const char *dir = getenv("DOCKER_CERT_PATH");
    const char *home = getenv("HOME");
    int len = dir && *dir
                  ? asprintf(&http->tls_dir, "%s", dir)
                  : asprintf(&http->tls_dir, "%s/.docker", home ? home : "");
    if (len < 0) {
        http->tls_dir = NULL;
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    }
    static const char *const files[] = {"ca.pem", "cert.pem", "key.pem"};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        enum cellar_code code = check_readable(http->tls_dir, files[i], err);
        if (code)
            return code;
    }
    return CELLAR_OK;
}

static enum cellar_code set_base(struct cellar_http *http, const char *scheme,
                                 const char *rest, struct cellar_error *err)
{
    size_t len = strcspn(rest, "/");
    if (!len || rest[len + strspn(rest + len, "/")])
        return cellar_fail(err, CELLAR_E_USAGE,
                           "the engine's address \"%s\" must end after "
                           "HOST:PORT",
                           http->name);
    bool has_port =
        strchr(rest[0] == '[' ? rest + strcspn(rest, "]") : rest, ':') != NULL;
    const char *port = *scheme == 't' ? ":2375" : "";
    if (http->tls_dir && *port)
        port = ":2376";
    bool tls = http->tls_dir || strcmp(scheme, "https") == 0;
    if (asprintf(&http->base, "%s://%.*s%s", tls ? "https" : "http", (int)len,
                 rest, has_port ? "" : port) < 0) {
        http->base = NULL;
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    }
    return CELLAR_OK;
}

static enum cellar_code set_unix(struct cellar_http *http, const char *path,
                                 struct cellar_error *err)
{
    if (*path != '/')
        return cellar_fail(err, CELLAR_E_USAGE,
                           "the engine's address \"%s\" needs an absolute "
                           "path: unix:///var/run/docker.sock",
                           http->name);
    http->socket_path = strdup(path);
    http->base = strdup("http://localhost");
    if (!http->socket_path || !http->base)
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    return CELLAR_OK;
}

static enum cellar_code set_host(struct cellar_http *http,
                                 struct cellar_error *err)
{
    const char *path = after(http->name, "unix://");
    if (path)
        return set_unix(http, path, err);
    static const char *const schemes[] = {"tcp", "http", "https"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        const char *rest = after(http->name, schemes[i]);
        rest = rest ? after(rest, "://") : NULL;
        if (!rest)
            continue;
        enum cellar_code code = CELLAR_OK;
        if (tls_is_asked_for() && i != 1)
            code = find_certificates(http, err);
        return code ? code : set_base(http, schemes[i], rest, err);
    }
    return cellar_fail(err, CELLAR_E_USAGE,
                       "the engine's address \"%s\" is none of unix://, "
                       "tcp://, http://, https://: check DOCKER_HOST",
                       http->name);
}

static enum cellar_code open_multi(struct cellar_http *http,
                                   struct cellar_error *err)
{
    enum cellar_code code =
        cellar_timer_new(http->loop, timer_fired, http, &http->timer, err);
    if (code)
        return code;
    http->multi = curl_multi_init();
    if (!http->multi)
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_IDLE);
    /* An upgraded connection with TLS stays libcurl's, and would count. */
    if (strncmp(http->base, "https", 5) != 0)
        curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                          CONNECTIONS_MAX);
    return CELLAR_OK;
}

enum cellar_code cellar_http_new(struct cellar_loop *loop, const char *host,
                                 struct cellar_http **out,
                                 struct cellar_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return cellar_fail(err, CELLAR_E_NOMEM, "libcurl did not initialise");
    struct cellar_http *http = calloc(1, sizeof(*http));
    if (!http) {
        curl_global_cleanup();
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    }
    http->loop = loop;
    http->name = strdup(host);
    enum cellar_code code =
        http->name ? set_host(http, err)
                   : cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    if (!code)
        code = open_multi(http, err);
    if (code) {
        free_http(http);
        return code;
    }
    *out = http;
    return CELLAR_OK;
}

void cellar_http_free(struct cellar_http *http)
{
    if (!http)
        return;
    if (http->depth == 0) {
        free_http(http);
        return;
    }
    http->dead = true;
    for (struct http_job *job = http->jobs; job; job = job->next)
        job->dead = true;
}

const char *cellar_http_name(const struct cellar_http *http)
{
    return http->name;
}
