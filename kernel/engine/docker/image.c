/* Images: find, pull, build, import. Pulls and builds answer with a stream of
 * JSON lines that says how it goes, under the status 200 even when it fails:
 * the last word is in the lines. */
#include <stdio.h>
#include <string.h>

#include "docker.h"
#include "proto/buf.h"

/* One line of such a stream; a build step's output may come in one. */
#define LINE_BYTES_MAX (1u << 20)

/* The last of the output, for the error of a build that failed. */
#define TAIL_BYTES 320

struct image_op {
    struct docker_op op; /* first */
    char *image;
    char *path;
    int tar_fd;
    docker_step *step;
    struct cellar_buf line;
    char failure[256]; /* what the stream said went wrong; "" nothing */
    char tail[TAIL_BYTES];
    uint64_t told_us; /* when progress was last told */
    cellar_progress_fn *progress;
    cellar_engine_done_fn *done;
    void *user;
};

static struct image_op *image_of(struct docker_op *op)
{
    return (struct image_op *)op;
}

static void destroy_image_op(struct docker_op *op)
{
    struct image_op *image = image_of(op);
    cellar_buf_done(&image->line);
    free(image->image);
    free(image->path);
    free(image);
}

static void end_image_op(struct docker_op *op, const struct cellar_error *err)
{
    cellar_engine_done_fn *done = image_of(op)->done;
    void *user = image_of(op)->user;
    struct cellar_error copy;
    if (err)
        copy = *err;
    cellar_docker_op_free(op);
    done(user, err ? &copy : NULL);
}

enum cellar_code cellar_docker_fail_image(struct cellar_error *err,
                                          const char *image)
{
    static const char own[] = "cellar-runtime:";
    size_t len = sizeof(own) - 1;
    const char *variant = image + len;
    if (strncmp(image, own, len) != 0)
        return cellar_fail(err, CELLAR_E_IMAGE,
                           "the image %s is missing: get it with `docker pull "
                           "%s`, or make it with `docker build -t %s .`",
                           image, image, image);
    if (strcmp(variant, "slim") == 0 || strcmp(variant, "data") == 0)
        return cellar_fail(err, CELLAR_E_IMAGE,
                           "the image %s is missing: make it with `cellar "
                           "image build --variant %s`",
                           image, variant);
    return cellar_fail(err, CELLAR_E_IMAGE,
                       "the image %s is missing; those that `cellar image "
                       "build` makes are %sslim and %sdata",
                       image, own, own);
}

/* --------------------------------------------------------------- lines -- */

/* Progress bars come hundreds of times a second. */
#define PROGRESS_US 200000

static void tell(struct image_op *image, const char *line, double fraction)
{
    uint64_t now = cellar_loop_now_us();
    if (!image->progress)
        return;
    if (fraction >= 0 && fraction < 1 && now - image->told_us < PROGRESS_US)
        return;
    image->told_us = now;
    image->progress(image->user, line, fraction);
}

static double fraction_of(const json_t *line)
{
    double current =
        json_number_value(cellar_json_at(line, "progressDetail.current"));
    double total =
        json_number_value(cellar_json_at(line, "progressDetail.total"));
    if (total <= 0 || current < 0)
        return -1;
    return current < total ? current / total : 1;
}

/* Keeps the last bytes of what a build printed, as one line. */
static void keep_tail(struct image_op *image, const char *text)
{
    size_t have = strlen(image->tail);
    size_t len = strlen(text);
    if (len >= TAIL_BYTES) {
        text += len - (TAIL_BYTES - 1);
        len = TAIL_BYTES - 1;
    }
    size_t keep = have + len < TAIL_BYTES ? have : TAIL_BYTES - 1 - len;
    memmove(image->tail, image->tail + have - keep, keep);
    memcpy(image->tail + keep, text, len);
    image->tail[keep + len] = '\0';
}

static void tell_output(struct image_op *image, const char *text)
{
    char line[256];
    keep_tail(image, text);
    while (*text) {
        size_t len = strcspn(text, "\r\n");
        snprintf(line, sizeof(line), "%.*s", (int)(len < 255 ? len : 255),
                 text);
        if (len)
            tell(image, line, -1);
        text += len + (text[len] != '\0');
    }
}

static void tell_status(struct image_op *image, const json_t *line)
{
    char text[256];
    const char *id = cellar_docker_string(line, "id");
    snprintf(text, sizeof(text), "%s%s%s", id, *id ? ": " : "",
             cellar_docker_string(line, "status"));
    text[strcspn(text, "\r\n")] = '\0';
    tell(image, text, fraction_of(line));
}

static void take_line(struct image_op *image, const char *text, size_t len)
{
    json_t *line = cellar_json_parse(text, len, 0, NULL);
    const char *error = cellar_docker_string(line, "error");
    const char *output = cellar_docker_string(line, "stream");
    if (*error)
        snprintf(image->failure, sizeof(image->failure), "%s", error);
    else if (*output)
        tell_output(image, output);
    else if (*cellar_docker_string(line, "status"))
        tell_status(image, line);
    json_decref(line);
}

static enum cellar_code on_piece(void *user, const char *data, size_t len)
{
    struct image_op *image = user;
    enum cellar_code code = cellar_buf_append(&image->line, data, len);
    while (!code && cellar_buf_len(&image->line)) {
        const char *text = (const char *)cellar_buf_peek(&image->line);
        const char *end = memchr(text, '\n', cellar_buf_len(&image->line));
        if (!end)
            break;
        size_t line_len = (size_t)(end - text);
        take_line(image, text, line_len);
        cellar_buf_consume(&image->line, line_len + 1);
    }
    return code;
}

/* --------------------------------------------------------------- calls -- */

static struct image_op *new_image_op(const char *name, docker_step *step,
                                     cellar_engine_done_fn *done, void *user)
{
    struct image_op *image = calloc(1, sizeof(*image));
    if (!image)
        return NULL;
    cellar_buf_init(&image->line, LINE_BYTES_MAX);
    image->op.failed = end_image_op;
    image->op.destroy = destroy_image_op;
    image->step = step;
    image->done = done;
    image->user = user;
    image->image = strdup(name);
    if (image->image)
        return image;
    destroy_image_op(&image->op);
    return NULL;
}

/* Takes `image`; its path is "`prefix``query`", `query` percent-encoded,
 * `rest` as it is. */
static enum cellar_code begin(struct docker *docker, struct image_op *image,
                              docker_first *first, struct cellar_error *err)
{
    if (image && image->path)
        return cellar_docker_op_begin(docker, &image->op, first, err);
    if (image)
        destroy_image_op(&image->op);
    return cellar_fail(err, CELLAR_E_NOMEM, "image: out of memory");
}

CELLAR_PRINTF(2, 3)
static void set_path(struct image_op *image, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&image->path, fmt, args) < 0)
        image->path = NULL;
    va_end(args);
}

/* ---- find */

static void on_found(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    if (r->status == 200) {
        end_image_op(op, NULL);
        return;
    }
    if (r->status == 404)
        cellar_docker_fail_image(&err, image_of(op)->image);
    else
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, "looking for the image",
                                 r);
    end_image_op(op, &err);
}

static enum cellar_code ask_find(struct docker_op *op, struct cellar_error *err)
{
    struct docker_ask ask = {.method = "GET", .path = image_of(op)->path};
    return cellar_docker_op_send(op, &ask, on_found, err);
}

enum cellar_code cellar_docker_image_find(struct cellar_engine *engine,
                                          const char *image,
                                          cellar_engine_done_fn *done,
                                          void *user, struct cellar_error *err)
{
    struct image_op *op = new_image_op(image, NULL, done, user);
    if (op)
        set_path(op, "/images/%s/json", image);
    return begin((struct docker *)engine, op, ask_find, err);
}

/* ---- pull, build, import */

static enum cellar_code ask_stream(struct docker_op *op,
                                   struct cellar_error *err)
{
    const struct image_op *image = image_of(op);
    struct docker_ask ask = {
        .method = "POST",
        .path = image->path,
        .deadline_ms = DOCKER_IMAGE_MS,
        .body_fd = image->tar_fd,
        .content_type = image->tar_fd > 0 ? "application/x-tar" : NULL,
        .on_piece = on_piece,
    };
    return cellar_docker_op_send(op, &ask, image->step, err);
}

static void fail_lines(struct docker_op *op, const char *what)
{
    const struct image_op *image = image_of(op);
    struct cellar_error err;
    struct docker_reply r = {200, image->failure, strlen(image->failure)};
    if (strstr(image->failure, "no space left on device"))
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, what, &r);
    else
        cellar_fail(&err, CELLAR_E_ENGINE, "%s %s: %s%s%s", what, image->image,
                    image->failure, *image->tail ? "; its last words: " : "",
                    image->tail);
    end_image_op(op, &err);
}

static void on_built(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    if (*image_of(op)->failure) {
        fail_lines(op, "building the image");
    } else if (r->status != 200) {
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, "building the image",
                                 r);
        end_image_op(op, &err);
    } else {
        end_image_op(op, NULL);
    }
}

static void on_imported(struct docker_op *op, const struct docker_reply *r)
{
    struct cellar_error err;
    if (*image_of(op)->failure) {
        fail_lines(op, "importing the image");
    } else if (r->status != 200) {
        cellar_docker_fail_reply(&err, CELLAR_E_ENGINE, "importing the image",
                                 r);
        end_image_op(op, &err);
    } else {
        end_image_op(op, NULL);
    }
}

static void on_pulled(struct docker_op *op, const struct docker_reply *r)
{
    struct image_op *image = image_of(op);
    struct cellar_error err;
    if (r->status == 200 && !*image->failure) {
        end_image_op(op, NULL);
        return;
    }
    if (r->status != 200)
        cellar_docker_reply_words(r->body, image->failure,
                                  sizeof(image->failure));
    if (strstr(image->failure, "no space left on device"))
        fail_lines(op, "pulling the image");
    else {
        cellar_fail(
            &err, CELLAR_E_IMAGE,
            "the image %s is missing and cannot be pulled (%.160s): build "
            "it here, or name another with --image",
            image->image, image->failure);
        end_image_op(op, &err);
    }
}

/* Where the tag of "host:5000/name:tag" begins; NULL: it has none. */
static const char *tag_of(const char *image)
{
    const char *slash = strrchr(image, '/');
    const char *name = slash ? slash + 1 : image;
    if (strchr(name, '@'))
        return NULL;
    return strchr(name, ':');
}

enum cellar_code cellar_docker_image_pull(struct cellar_engine *engine,
                                          const char *image,
                                          cellar_progress_fn *progress,
                                          cellar_engine_done_fn *done,
                                          void *user, struct cellar_error *err)
{
    struct image_op *op = new_image_op(image, on_pulled, done, user);
    CELLAR_AUTO_FREE char *name = cellar_docker_escape(image);
    if (op && name) {
        op->progress = progress;
        /* Without a tag Docker would pull every one there is. */
        bool bare = !tag_of(image) && !strchr(image, '@');
        set_path(op, "/images/create?fromImage=%s%s", name,
                 bare ? "&tag=latest" : "");
    }
    return begin((struct docker *)engine, op, ask_stream, err);
}

/* {"NAME":"VALUE",...}, percent-encoded; NULL: out of memory. */
static char *build_args(const char *const *args)
{
    json_t *all = json_object();
    for (; args && *args; args++) {
        const char *equals = strchr(*args, '=');
        if (equals)
            json_object_setn_new(all, *args, (size_t)(equals - *args),
                                 json_string(equals + 1));
    }
    CELLAR_AUTO_FREE char *text = cellar_json_text(all, JSON_COMPACT);
    json_decref(all);
    return text ? cellar_docker_escape(text) : NULL;
}

enum cellar_code cellar_docker_image_build(struct cellar_engine *engine,
                                           const char *image, int tar_fd,
                                           const char *const *args,
                                           cellar_progress_fn *progress,
                                           cellar_engine_done_fn *done,
                                           void *user, struct cellar_error *err)
{
    struct image_op *op = new_image_op(image, on_built, done, user);
    CELLAR_AUTO_FREE char *name = cellar_docker_escape(image);
    CELLAR_AUTO_FREE char *values = build_args(args);
    if (op && name && values) {
        op->tar_fd = tar_fd;
        op->progress = progress;
        /* The build's steps reach the package registry through the host. */
        set_path(op, "/build?t=%s&networkmode=host&rm=1&forcerm=1&buildargs=%s",
                 name, values);
    }
    return begin((struct docker *)engine, op, ask_stream, err);
}

enum cellar_code cellar_docker_image_import(struct cellar_engine *engine,
                                            const char *image, int tar_fd,
                                            cellar_engine_done_fn *done,
                                            void *user,
                                            struct cellar_error *err)
{
    struct image_op *op = new_image_op(image, on_imported, done, user);
    const char *tag = tag_of(image);
    size_t len = tag ? (size_t)(tag - image) : strlen(image);
    CELLAR_AUTO_FREE char *bare = strndup(image, len);
    CELLAR_AUTO_FREE char *name = bare ? cellar_docker_escape(bare) : NULL;
    if (op && name) {
        op->tar_fd = tar_fd;
        set_path(op, "/images/create?fromSrc=-&repo=%s&tag=%s", name,
                 tag ? tag + 1 : "latest");
    }
    return begin((struct docker *)engine, op, ask_stream, err);
}
