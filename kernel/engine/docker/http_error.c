/* What libcurl says, as what a user can do something about. */
#include <errno.h>
#include <string.h>

#include "../../fail.h"
#include "http_private.h"

static enum cellar_code fail_connect(struct cellar_error *err,
                                     const struct cellar_http *http,
                                     long os_errno)
{
    const char *start = "start it (sudo systemctl start docker), set "
                        "DOCKER_HOST, or do without (--engine oci)";
    enum cellar_code code = CELLAR_E_ENGINE;
    if (os_errno == EACCES || os_errno == EPERM)
        code = cellar_fail(err, CELLAR_E_DENIED,
                           "permission denied at %s: add yourself to the "
                           "docker group (sudo usermod -aG docker $USER, then "
                           "log in again), or use sudo",
                           http->name);
    else if (os_errno == ENOENT)
        cellar_fail(err, code, "no container engine answers at %s: %s",
                    http->name, start);
    else
        cellar_fail(
            err, code, "no container engine answers at %s (%s): %s", http->name,
            os_errno ? strerror((int)os_errno) : "no connection", start);
    if (err)
        err->sys_errno = (int)os_errno;
    return code;
}

static enum cellar_code fail_tls(struct cellar_error *err,
                                 const struct cellar_http *http, CURLcode curl,
                                 const char *text)
{
    const char *dir = http->tls_dir ? http->tls_dir : "";
    switch (curl) {
    case CURLE_SSL_CERTPROBLEM:
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "TLS: cannot use %s/cert.pem and key.pem: %s", dir,
                           text);
    case CURLE_SSL_CACERT_BADFILE:
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "TLS: cannot use %s/ca.pem: "
                           "%s",
                           dir, text);
    case CURLE_PEER_FAILED_VERIFICATION:
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "TLS: %s shows a certificate that %s%s does not "
                           "vouch for: %s",
                           http->name, *dir ? dir : "the system",
                           *dir ? "/ca.pem" : "", text);
    default:
        return cellar_fail(err, CELLAR_E_ENGINE, "TLS with %s failed: %s",
                           http->name, text);
    }
}

static enum cellar_code fail_transfer(struct cellar_error *err,
                                      const struct cellar_http *http,
                                      CURLcode curl, const char *text)
{
    switch (curl) {
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "%s cut the connection before its reply was "
                           "complete: %s",
                           http->name, text);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "%s answers with something that is not HTTP: %s",
                           http->name, text);
    default:
        return cellar_fail(err, CELLAR_E_ENGINE, "talking to %s failed: %s",
                           http->name, text);
    }
}

enum cellar_code cellar_http_fail_curl(struct cellar_error *err,
                                       const struct http_job *job,
                                       CURLcode curl)
{
    const struct cellar_http *http = job->http;
    const char *text =
        *job->curl_text ? job->curl_text : curl_easy_strerror(curl);
    long os_errno = 0;
    switch (curl) {
    case CURLE_OUT_OF_MEMORY:
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    case CURLE_OPERATION_TIMEDOUT:
        return cellar_fail(err, CELLAR_E_TIMEOUT,
                           "%s gave no answer within %.1f s", http->name,
                           (double)job->deadline_ms / 1000);
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(job->easy, CURLINFO_OS_ERRNO, &os_errno);
        return fail_connect(err, http, os_errno);
    case CURLE_COULDNT_RESOLVE_HOST:
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "the host name of %s is unknown: check DOCKER_HOST",
                           http->name);
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
        return fail_tls(err, http, curl, text);
    default:
        return fail_transfer(err, http, curl, text);
    }
}
