/*
 * What http.c and http_stream.c share: the server, and a job, which is one
 * easy handle of libcurl on the server's multi handle. For these two alone.
 *
 * libcurl forbids to remove a handle from within its own callbacks, and a
 * callback of ours may cancel any job or free the whole server. So while
 * `depth` is not 0, what is to go is only marked dead; the outermost
 * http_act() sweeps.
 */
#ifndef CELLAR_ENGINE_HTTP_PRIVATE_H
#define CELLAR_ENGINE_HTTP_PRIVATE_H

#include <curl/curl.h>
#include <stdbool.h>

#include "http.h"

struct http_job {
    struct cellar_http *http;
    struct http_job *prev;
    struct http_job *next;
    CURL *easy;
    struct cellar_timer *timer; /* backs up libcurl's own timeout */
    uint64_t deadline_ms;
    bool dead;
    /* The transfer ended; `err` NULL: it succeeded. */
    void (*finished)(struct http_job *job, const struct cellar_error *err);
    /* Frees the struct that the job is embedded in. */
    void (*destroy)(struct http_job *job);
    char curl_text[CURL_ERROR_SIZE];
};

struct cellar_http {
    struct cellar_loop *loop;
    CURLM *multi;
    struct cellar_timer *timer; /* libcurl's */
    struct http_job *jobs;
    int depth;
    bool dead;
    char *name;        /* as the user wrote it, for errors */
    char *base;        /* "http://host:port" */
    char *socket_path; /* NULL: not a unix socket */
    char *tls_dir;     /* NULL: no client certificate */
};

/* Fills `err` from what libcurl says about a job. */
enum cellar_code cellar_http_fail_curl(struct cellar_error *err,
                                       const struct http_job *job,
                                       CURLcode curl);

/* Ends what `depth++` began: sweeps when it was the outermost. The server may
 * be gone afterwards. */
void cellar_http_leave(struct cellar_http *http);

/* Readies a job whose fields are all zero, for `base` + `path`. On failure
 * nothing is left behind. */
enum cellar_code cellar_http_job_init(struct http_job *job,
                                      struct cellar_http *http,
                                      const char *path, uint64_t deadline_ms,
                                      struct cellar_error *err);
/* Puts it on its way; from now on it ends by `finished` or is dropped. */
enum cellar_code cellar_http_job_start(struct http_job *job,
                                       struct cellar_error *err);
/* Undoes init. */
void cellar_http_job_done(struct http_job *job);
/* Destroys the job now or, inside libcurl, soon; `finished` is not called. */
void cellar_http_job_drop(struct http_job *job);

#endif
