/*
 * What docker_spec.c and docker_verify.c share. The latter compares what the
 * engine shows, or warns of, with what container.json asks for.
 */
#ifndef CELLAR_ENGINE_DOCKER_VERIFY_H
#define CELLAR_ENGINE_DOCKER_VERIFY_H

#include <jansson.h>

#include "docker_spec.h"

/* The member at "HostConfig.Memory"; NULL: there is none. Lent. */
json_t *cellar_json_at(const json_t *value, const char *path);

/* The rows {name, fields, warnings} of container.json. Lent. */
const json_t *
cellar_docker_spec_protections(const struct cellar_docker_spec *spec);

#endif
