/*
 * The comparison of what Docker shows of a container with what was asked for.
 */
#ifndef CELLAR_ENGINE_DOCKER_VERIFY_H
#define CELLAR_ENGINE_DOCKER_VERIFY_H

#include "../container.h"

/* A field of a protection, as the engine has it: `wrong` is NULL when it is
 * what was asked for, else the first field that isn't. */
typedef void cellar_docker_verified_fn(void *user, const char *protection,
                                       const char *wrong);

/* Compares every field of `plan` with `inspect`, Docker's description of the
 * container (NUL-terminated JSON), and calls back once per protection, and
 * once with the protection "other" for the fields that belong to none.
 * E_ENGINE: `inspect` is no such description. */
enum cellar_code cellar_docker_verify(const struct cellar_container_spec *spec,
                                      const struct cellar_container_plan *plan,
                                      const char *inspect,
                                      cellar_docker_verified_fn *each,
                                      void *user, struct cellar_error *err);

#endif
