/*
 * What docker/spec.c (the files), docker/plan.c (one container's description)
 * and docker/verify.c (what the engine makes of it) share.
 */
#ifndef CELLAR_ENGINE_DOCKER_VERIFY_H
#define CELLAR_ENGINE_DOCKER_VERIFY_H

#include <jansson.h>

#include "spec.h"

/* The member at "HostConfig.Memory"; NULL: there is none. Lent. */
json_t *cellar_json_at(const json_t *value, const char *path);

/* The description with its placeholders; the rows {name, text, fields,
 * warnings}; "seccomp={...}", one of SecurityOpt. All lent. */
const json_t *
cellar_docker_spec_container(const struct cellar_docker_spec *spec);
const char *cellar_docker_spec_seccomp(const struct cellar_docker_spec *spec);
const json_t *
cellar_docker_spec_protections(const struct cellar_docker_spec *spec);

#endif
