/*
 * The runtime image: built by the container engine from the runtime files
 * (the data directory's Dockerfile and cellar/) on a base image.
 *
 *     struct cellar_image_request req = {.variant = "slim"};
 *     enum cellar_code code = cellar_image_build(c, &req, show, NULL, &err);
 *
 * The base, when none is asked for, is the first that can be had:
 *   1. debian:12-slim, or cellar-base:bookworm, that the engine has already;
 *   2. debian:12-slim, pulled;
 *   3. cellar-base:bookworm, made here from Debian's packages by mmdebstrap.
 * The same Dockerfile runs on each.
 */
#ifndef CELLAR_IMAGE_BUILD_H
#define CELLAR_IMAGE_BUILD_H

#include <stddef.h>

#include "cellar/cellar.h"
#include "kernel/engine/engine.h"

/* All borrowed for the call. */
struct cellar_image_request {
    const char *variant; /* "slim" or "data"; NULL: slim */
    const char *base;    /* an image of Debian's; NULL: as above */
};

/* "cellar-runtime:slim" for "slim". Static; NULL: there is no such variant. */
const char *cellar_image_name(const char *variant);

/* Builds and names the image; waits until it is done, which takes minutes the
 * first time and under a second when nothing changed. `progress` (may be
 * NULL) is shown every step. Errors: E_USAGE no such variant; E_NOT_FOUND a
 * runtime file is missing; E_IMAGE the base that was asked for can't be had,
 * or none can (mmdebstrap's own words, or that it isn't installed); E_ENGINE
 * the build failed. */
enum cellar_code cellar_image_build(struct cellar *c,
                                    const struct cellar_image_request *req,
                                    cellar_progress_fn *progress, void *user,
                                    struct cellar_error *err);

#endif
