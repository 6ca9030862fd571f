/*
 * What a session's container is made of, on every engine: container.json, in
 * the words of Docker's create call, and seccomp.json. The files are data, and
 * fail closed: a placeholder nobody knows, or a protection that isn't there, is
 * an error. container.c reads them, plan.c fills one container's in.
 */
#ifndef CELLAR_ENGINE_CONTAINER_H
#define CELLAR_ENGINE_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>

#include "../json.h"
#include "engine.h"

struct cellar_container_spec; /* both files, read and checked */

/* Reads `data_dir`/container.json and seccomp.json. E_USAGE: a file is
 * missing or damaged (named). */
enum cellar_code cellar_container_spec_load(const char *data_dir,
                                            struct cellar_container_spec **out,
                                            struct cellar_error *err);
void cellar_container_spec_free(struct cellar_container_spec *spec);

#define CELLAR_CONTAINER_NAME_MAX 80

/* One container to be. */
struct cellar_container_plan {
    char name[CELLAR_CONTAINER_NAME_MAX]; /* of the container */
    char *body;                           /* JSON */
};

/* Fills the container's description in. E_USAGE: a mount isn't allowed. The
 * caller frees with _done. */
enum cellar_code
cellar_container_plan_init(struct cellar_container_plan *plan,
                           const struct cellar_container_spec *spec,
                           const struct cellar_launch *launch,
                           struct cellar_error *err);
void cellar_container_plan_done(struct cellar_container_plan *plan);

/* The protection that one of Docker's warnings is about: its name, which
 * lives as long as `spec`; NULL: none. */
const char *
cellar_container_spec_warned(const struct cellar_container_spec *spec,
                             const char *warning);

/* What the protection `name` is, in plain words: "memory has a limit"; NULL:
 * there is none of that name. Lives as long as `spec`. */
const char *cellar_container_spec_text(const struct cellar_container_spec *spec,
                                       const char *name);

/* Whether the user allowed the protection `name` to be missing. */
bool cellar_container_allowed(const struct cellar_spec *spec, const char *name);

/* The description with its placeholders; the rows {name, text, fields,
 * warnings}; "seccomp={...}", one of SecurityOpt. All lent. */
const json_t *
cellar_container_spec_container(const struct cellar_container_spec *spec);
const char *
cellar_container_spec_seccomp(const struct cellar_container_spec *spec);
const json_t *
cellar_container_spec_protections(const struct cellar_container_spec *spec);

#endif
