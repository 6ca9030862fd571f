/*
 * What a session's container is made of, from container.json and seccomp.json:
 * the body of Docker's create call, and the comparison of what Docker then
 * shows with what was asked for. The files are data, and fail closed: a
 * placeholder nobody knows, or a protection that isn't there, is an error.
 */
#ifndef CELLAR_ENGINE_DOCKER_SPEC_H
#define CELLAR_ENGINE_DOCKER_SPEC_H

#include <stdbool.h>
#include <stddef.h>

#include "../engine.h"

struct cellar_docker_spec; /* both files, read and checked */

/* Reads `data_dir`/container.json and seccomp.json. E_USAGE: a file is
 * missing or damaged (named). */
enum cellar_code cellar_docker_spec_load(const char *data_dir,
                                         struct cellar_docker_spec **out,
                                         struct cellar_error *err);
void cellar_docker_spec_free(struct cellar_docker_spec *spec);

#define CELLAR_DOCKER_NAME_MAX 80

/* One container to be. */
struct cellar_docker_plan {
    char name[CELLAR_DOCKER_NAME_MAX]; /* of the container */
    char *body;                        /* JSON */
};

/* Fills the container's description in. E_USAGE: a mount isn't allowed. The
 * caller frees with _done. */
enum cellar_code cellar_docker_plan_init(struct cellar_docker_plan *plan,
                                         const struct cellar_docker_spec *spec,
                                         const struct cellar_launch *launch,
                                         struct cellar_error *err);
void cellar_docker_plan_done(struct cellar_docker_plan *plan);

/* The protection that one of Docker's warnings is about: its name, which
 * lives as long as `spec`; NULL: none. */
const char *cellar_docker_spec_warned(const struct cellar_docker_spec *spec,
                                      const char *warning);

/* What the protection `name` is, in plain words: "memory has a limit"; NULL:
 * there is none of that name. Lives as long as `spec`. */
const char *cellar_docker_spec_text(const struct cellar_docker_spec *spec,
                                    const char *name);

/* Whether the user allowed the protection `name` to be missing. */
bool cellar_docker_allowed(const struct cellar_spec *spec, const char *name);

/* A field of a protection, as the engine has it: `wrong` is NULL when it is
 * what was asked for, else the first field that isn't. */
typedef void cellar_docker_verified_fn(void *user, const char *protection,
                                       const char *wrong);

/* Compares every field of `plan` with `inspect`, Docker's description of the
 * container (NUL-terminated JSON), and calls back once per protection, and
 * once with the protection "other" for the fields that belong to none.
 * E_ENGINE: `inspect` is no such description. */
enum cellar_code cellar_docker_verify(const struct cellar_docker_spec *spec,
                                      const struct cellar_docker_plan *plan,
                                      const char *inspect,
                                      cellar_docker_verified_fn *each,
                                      void *user, struct cellar_error *err);

#endif
