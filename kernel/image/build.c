#include "build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "context.h"
#include "kernel/fail.h"
#include "kernel/supervisor.h"

#define BASE_PULLED "debian:12-slim"
#define BASE_MADE   "cellar-base:bookworm"

enum { ARGS_MAX = 12, ARG_BYTES = 512 };

struct build {
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    cellar_progress_fn *progress;
    void *user;
    struct cellar_error *err;
    bool done; /* the engine call under way has called back, with: */
    enum cellar_code code;
};

static void say(const struct build *b, const char *line)
{
    if (b->progress != NULL)
        b->progress(b->user, line, -1.0);
}

static void on_done(void *user, const struct cellar_error *err)
{
    struct build *b = user;
    b->done = true;
    b->code = err == NULL ? CELLAR_OK : err->code;
    if (err != NULL)
        *b->err = *err;
}

static void on_progress(void *user, const char *line, double fraction)
{
    const struct build *b = user;
    if (b->progress != NULL)
        b->progress(b->user, line, fraction);
}

/* `begun` is what the engine call returned. */
static enum cellar_code wait_done(struct build *b, enum cellar_code begun)
{
    if (begun != CELLAR_OK)
        return begun;
    while (!b->done)
        cellar_loop_run(b->loop, -1);
    b->done = false;
    return b->code;
}

static enum cellar_code find(struct build *b, const char *image)
{
    return wait_done(
        b, b->engine->ops->image_find(b->engine, image, on_done, b, b->err));
}

static enum cellar_code pull(struct build *b, const char *image)
{
    char line[ARG_BYTES];
    snprintf(line, sizeof(line), "pulling %s", image);
    say(b, line);
    return wait_done(b, b->engine->ops->image_pull(
                            b->engine, image, on_progress, on_done, b, b->err));
}

static enum cellar_code make_base(struct build *b)
{
    CELLAR_AUTO_CLOSE int fd = -1;
    say(b, BASE_PULLED " can't be pulled: making " BASE_MADE
                       " from Debian's packages");
    enum cellar_code code =
        cellar_image_base_make(b->loop, b->progress, b->user, &fd, b->err);
    if (code == CELLAR_OK)
        code = wait_done(b, b->engine->ops->image_import(
                                b->engine, BASE_MADE, fd, on_done, b, b->err));
    if (code == CELLAR_OK)
        return code;
    return cellar_wrap(b->err, "no base image (" BASE_PULLED
                               " can be neither found nor pulled)");
}

/* Asks for both before it pulls: where nothing can be pulled, only the first
 * build shall wait for the registry. */
static enum cellar_code default_base(struct build *b, const char **base)
{
    static const char *const known[] = {BASE_PULLED, BASE_MADE};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        *base = known[i];
        enum cellar_code code = find(b, *base);
        if (code != CELLAR_E_IMAGE)
            return code;
    }
    *base = BASE_PULLED;
    if (pull(b, *base) == CELLAR_OK)
        return CELLAR_OK;
    *base = BASE_MADE;
    return make_base(b);
}

static enum cellar_code asked_base(struct build *b, const char *base)
{
    enum cellar_code code = find(b, base);
    if (code != CELLAR_E_IMAGE)
        return code;
    if (pull(b, base) == CELLAR_OK)
        return CELLAR_OK;
    cellar_wrap(b->err, "base image %s can be neither found nor pulled", base);
    b->err->code = CELLAR_E_IMAGE;
    return CELLAR_E_IMAGE;
}

/* NAME=VALUE arguments of the Dockerfile. */
struct args {
    char text[ARGS_MAX][ARG_BYTES];
    const char *list[ARGS_MAX + 1];
    size_t count;
};

static void args_add(struct args *args, const char *name, const char *value)
{
    if (value == NULL || args->count == ARGS_MAX)
        return;
    char *text = args->text[args->count];
    int len = snprintf(text, ARG_BYTES, "%s=%s", name, value);
    if (len > 0 && len < ARG_BYTES)
        args->list[args->count++] = text;
}

/* The engine knows the proxies' names and keeps them out of the image. */
static void args_add_proxies(struct args *args)
{
    static const char *const names[] = {"http_proxy",  "https_proxy",
                                        "no_proxy",    "HTTP_PROXY",
                                        "HTTPS_PROXY", "NO_PROXY"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        args_add(args, names[i], getenv(names[i]));
}

static enum cellar_code build_on(struct build *b, const char *variant,
                                 const char *base, const char *data_dir)
{
    CELLAR_AUTO_CLOSE int fd = -1;
    char digest[CELLAR_IMAGE_DIGEST_BYTES];
    enum cellar_code code = cellar_image_context(data_dir, &fd, digest, b->err);
    if (code != CELLAR_OK)
        return code;
    struct args args = {.count = 0};
    args_add(&args, "BASE", base);
    args_add(&args, "VARIANT", variant);
    args_add(&args, "CELLAR_VERSION", CELLAR_VERSION);
    args_add(&args, "CELLAR_RUNTIME", digest);
    args_add_proxies(&args);
    return wait_done(b, b->engine->ops->image_build(
                            b->engine, cellar_image_name(variant), fd,
                            args.list, on_progress, on_done, b, b->err));
}

const char *cellar_image_name(const char *variant)
{
    static const char *const names[] = {"cellar-runtime:slim",
                                        "cellar-runtime:data"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(strchr(names[i], ':') + 1, variant) == 0)
            return names[i];
    return NULL;
}

enum cellar_code cellar_image_build(struct cellar *c,
                                    const struct cellar_image_request *req,
                                    cellar_progress_fn *progress, void *user,
                                    struct cellar_error *err)
{
    const char *variant = req->variant != NULL ? req->variant : "slim";
    if (cellar_image_name(variant) == NULL)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "there is no variant \"%s\": slim or data", variant);
    struct cellar_error own = {0};
    struct build b = {.loop = cellar_supervisor_loop(c),
                      .engine = cellar_supervisor_engine(c),
                      .progress = progress,
                      .user = user,
                      .err = err != NULL ? err : &own};
    const char *base = req->base;
    enum cellar_code code =
        base != NULL ? asked_base(&b, base) : default_base(&b, &base);
    if (code != CELLAR_OK)
        return code;
    return build_on(&b, variant, base, cellar_supervisor_data_dir(c));
}
