/* The Docker engine: its table, ops, and how the engine is spoken to. */
#include <stdio.h>
#include <string.h>

#include "docker.h"

/* API versions 1.x that this code was written against. Minor 40 is Docker
 * 19.03, the first whose create call takes all of container.json. */
#define API_MINOR_MIN 40
#define API_MINOR_MAX 44

static struct docker *docker_of(struct cellar_engine *engine)
{
    return (struct docker *)engine;
}

void cellar_docker_log(const struct docker *docker, const char *fmt, ...)
{
    char line[512];
    if (!docker->log)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    docker->log(docker->log_user, line);
}

/* -------------------------------------------------------------- errors -- */

void cellar_docker_reply_words(const char *body, char *text, size_t size)
{
    json_t *reply =
        cellar_json_parse(body, strlen(body), JSON_DISABLE_EOF_CHECK, NULL);
    const char *message = json_string_value(json_object_get(reply, "message"));
    snprintf(text, size, "%s", message ? message : body);
    json_decref(reply);
    size_t len = strlen(text);
    while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        text[--len] = '\0';
}

enum cellar_code cellar_docker_fail_reply(struct cellar_error *err,
                                          enum cellar_code code,
                                          const char *context,
                                          const struct docker_reply *reply)
{
    char words[320];
    cellar_docker_reply_words(reply->body, words, sizeof(words));
    if (strstr(words, "no space left on device"))
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "%s: the engine's disk is full: see what takes the "
                           "room with `docker system df`, make some with "
                           "`docker system prune`",
                           context);
    return cellar_fail(err, code, "%s: the engine says (%d): %s", context,
                       reply->status, *words ? words : "nothing");
}

/* ----------------------------------------------------------- utilities -- */

const char *cellar_docker_string(const json_t *value, const char *path)
{
    const char *text = json_string_value(cellar_json_at(value, path));
    return text ? text : "";
}

enum cellar_code cellar_docker_path(char path[DOCKER_PATH_MAX],
                                    struct cellar_error *err, const char *fmt,
                                    ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(path, DOCKER_PATH_MAX, fmt, args);
    va_end(args);
    if (len < 0 || len >= DOCKER_PATH_MAX)
        return cellar_fail(err, CELLAR_E_USAGE, "a name is too long");
    return CELLAR_OK;
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (c && strchr("-._~", c));
}

char *cellar_docker_escape(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = malloc(strlen(text) * 3 + 1);
    if (!out)
        return NULL;
    char *p = out;
    for (; *text; text++) {
        if (is_unreserved(*text)) {
            *p++ = *text;
            continue;
        }
        *p++ = '%';
        *p++ = hex[(unsigned char)*text >> 4];
        *p++ = hex[(unsigned char)*text & 15];
    }
    *p = '\0';
    return out;
}

enum cellar_code cellar_docker_check_id(const char *id,
                                        struct cellar_error *err)
{
    size_t len = strnlen(id, CELLAR_CONTAINER_ID_MAX + 1);
    bool fits = len > 0 && len <= CELLAR_CONTAINER_ID_MAX && *id != '.';
    for (size_t i = 0; fits && i < len; i++)
        fits = is_unreserved(id[i]);
    return fits ? CELLAR_OK
                : cellar_fail(err, CELLAR_E_USAGE, "no container's id");
}

enum cellar_code cellar_docker_files(struct docker *docker,
                                     struct cellar_container_spec **out,
                                     struct cellar_error *err)
{
    if (!docker->spec) {
        enum cellar_code code =
            cellar_container_spec_load(docker->data_dir, &docker->spec, err);
        if (code)
            return code;
    }
    *out = docker->spec;
    return CELLAR_OK;
}

/* ----------------------------------------------------------------- ops -- */

void cellar_docker_op_destroy(struct docker_op *op)
{
    free(op);
}

void cellar_docker_op_free(struct docker_op *op)
{
    if (op->prev)
        op->prev->next = op->next;
    else
        op->docker->ops = op->next;
    if (op->next)
        op->next->prev = op->prev;
    cellar_http_cancel(op->call);
    op->destroy(op);
}

static void on_reply(void *user, int status, const char *body, size_t len,
                     const struct cellar_error *err)
{
    struct docker_op *op = user;
    op->call = NULL;
    struct docker_reply reply = {status, body, len};
    if (err)
        op->failed(op, err);
    else
        op->step(op, &reply);
}

static enum cellar_code send_to(struct docker_op *op,
                                const struct docker_ask *ask, const char *path,
                                struct cellar_error *err)
{
    struct cellar_http_request request = {
        .method = ask->method,
        .path = path,
        .content_type = ask->content_type,
        .body = ask->body,
        .body_len = ask->body ? strlen(ask->body) : 0,
        .body_fd = ask->body_fd,
        .deadline_ms = ask->deadline_ms ? ask->deadline_ms : DOCKER_CALL_MS,
        .reply_max = ask->reply_max ? ask->reply_max : DOCKER_REPLY_MAX,
        .on_piece = ask->on_piece,
    };
    return cellar_http_begin(op->docker->http, &request, on_reply, op,
                             &op->call, err);
}

enum cellar_code cellar_docker_op_send(struct docker_op *op,
                                       const struct docker_ask *ask,
                                       docker_step *step,
                                       struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *path = NULL;
    if (asprintf(&path, "/v1.%d%s", op->docker->api_minor, ask->path) < 0) {
        path = NULL;
        return cellar_fail(err, CELLAR_E_NOMEM, "HTTP: out of memory");
    }
    op->step = step;
    return send_to(op, ask, path, err);
}

void cellar_docker_op_next(struct docker_op *op, const struct docker_ask *ask,
                           docker_step *step)
{
    struct cellar_error err;
    if (cellar_docker_op_send(op, ask, step, &err))
        op->failed(op, &err);
}

/* "1.41" -> 41; -1: it is no version 1.x */
static int minor_of(const char *version)
{
    char *end = NULL;
    if (strncmp(version, "1.", 2) != 0)
        return -1;
    unsigned long minor = strtoul(version + 2, &end, 10);
    return end == version + 2 || *end || minor > 9999 ? -1 : (int)minor;
}

static enum cellar_code choose_version(struct docker *docker,
                                       const json_t *reply,
                                       struct cellar_error *err)
{
    int theirs = minor_of(cellar_docker_string(reply, "ApiVersion"));
    int oldest = minor_of(cellar_docker_string(reply, "MinAPIVersion"));
    if (theirs < 0)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "what answers is no container engine: it names no "
                           "API version");
    if (theirs < API_MINOR_MIN || oldest > API_MINOR_MAX)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "the engine speaks the API 1.%d to 1.%d, Cellar "
                           "1.%d to 1.%d: use another version of the engine",
                           oldest < 0 ? 0 : oldest, theirs, API_MINOR_MIN,
                           API_MINOR_MAX);
    docker->api_minor = theirs < API_MINOR_MAX ? theirs : API_MINOR_MAX;
    cellar_docker_log(docker, "engine %s, API 1.%d",
                      cellar_docker_string(reply, "Version"),
                      docker->api_minor);
    return CELLAR_OK;
}

static void on_version(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    enum cellar_code code = CELLAR_OK;
    if (r->status != 200) {
        code = cellar_docker_fail_reply(&err, CELLAR_E_ENGINE,
                                        "asking its version", r);
    } else {
        json_t *reply = cellar_json_parse(r->body, r->len, 0, NULL);
        code = choose_version(op->docker, reply, &err);
        json_decref(reply);
    }
    if (!code)
        code = op->first(op, &err);
    if (code)
        op->failed(op, &err);
}

enum cellar_code cellar_docker_op_begin(struct docker *docker,
                                        struct docker_op *op,
                                        docker_first *first,
                                        struct cellar_error *err)
{
    op->docker = docker;
    op->first = first;
    op->next = docker->ops;
    if (op->next)
        op->next->prev = op;
    docker->ops = op;
    enum cellar_code code = CELLAR_OK;
    if (docker->api_minor) {
        code = first(op, err);
    } else {
        struct docker_ask ask = {.method = "GET"};
        op->step = on_version;
        code = send_to(op, &ask, "/version", err);
    }
    if (code)
        cellar_docker_op_free(op);
    return code;
}

/* ------------------------------------------------------------ lifetime -- */

static void free_docker(struct docker *docker)
{
    while (docker->ops)
        cellar_docker_op_free(docker->ops);
    cellar_docker_lane_done(&docker->starts);
    cellar_docker_lane_done(&docker->removals);
    cellar_http_free(docker->http);
    cellar_container_spec_free(docker->spec);
    free(docker->data_dir);
    free(docker);
}

static void docker_free(struct cellar_engine *engine)
{
    free_docker(docker_of(engine));
}

static const struct cellar_engine_ops docker_ops = {
    .name = "docker",
    .free = docker_free,
    .start = cellar_docker_start,
    .attach = cellar_docker_attach,
    .remove = cellar_docker_remove,
    .list = cellar_docker_list,
    .diagnose = cellar_docker_diagnose,
    .usage = cellar_docker_usage,
    .check = cellar_docker_check,
    .image_find = cellar_docker_image_find,
    .image_pull = cellar_docker_image_pull,
    .image_build = cellar_docker_image_build,
    .image_import = cellar_docker_image_import,
    .image_export = cellar_docker_image_export,
};

static const char *choose_host(const char *host)
{
    if (!host || !*host)
        host = getenv("DOCKER_HOST");
    return host && *host ? host : "unix:///var/run/docker.sock";
}

/* Measured with a hundred of each at once, on an engine with its cores to
 * itself: more of them only make each slower, and the first ones last. */
static void set_lanes(struct docker *docker)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = cores > 2 ? (size_t)cores : 2;
    docker->starts.max = 3 * n;
    docker->removals.max = 4 * n;
}

enum cellar_code cellar_docker_new(struct cellar_loop *loop, const char *host,
                                   const char *data_dir,
                                   void (*log)(void *user, const char *line),
                                   void *log_user, struct cellar_engine **out,
                                   struct cellar_error *err)
{
    struct docker *docker = calloc(1, sizeof(*docker));
    if (!docker)
        return cellar_fail(err, CELLAR_E_NOMEM, "engine: out of memory");
    docker->engine = (struct cellar_engine){&docker_ops, loop};
    docker->log = log;
    docker->log_user = log_user;
    set_lanes(docker);
    docker->data_dir = strdup(data_dir);
    enum cellar_code code =
        docker->data_dir
            ? cellar_http_new(loop, choose_host(host), &docker->http, err)
            : cellar_fail(err, CELLAR_E_NOMEM, "engine: out of memory");
    if (code) {
        free_docker(docker);
        return code;
    }
    *out = (struct cellar_engine *)CELLAR_TAKE(docker);
    return CELLAR_OK;
}
