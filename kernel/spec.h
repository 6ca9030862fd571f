/*
 * The numbers of a session's spec: the one table of names, bounds, defaults
 * and units. The option parser, --help, the config file, the check of a
 * library caller's spec and the record of a session are made from it.
 */
#ifndef CELLAR_KERNEL_SPEC_H
#define CELLAR_KERNEL_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellar/cellar.h"

enum cellar_unit {
    CELLAR_UNIT_COUNT,
    CELLAR_UNIT_BYTES,  /* written as 512m, 1.5g */
    CELLAR_UNIT_MILLIS, /* a duration, written as 30s, 1.5m */
    CELLAR_UNIT_CPUS,   /* thousandths of a core, written as 1.5 */
    CELLAR_UNIT_POLICY  /* of checkpoints, written as a word */
};

struct cellar_spec_field {
    const char *name; /* of the option and of the config file's key */
    enum cellar_unit unit;
    size_t offset; /* of the uint64_t in struct cellar_spec */
    uint64_t min;
    uint64_t max;
    uint64_t preset;
    bool none; /* 0 is allowed too, and means no limit */
    const char *text;
};

extern const struct cellar_spec_field cellar_spec_fields[];
extern const size_t cellar_spec_field_count;

uint64_t cellar_spec_get(const struct cellar_spec *spec,
                         const struct cellar_spec_field *field);
void cellar_spec_set(struct cellar_spec *spec,
                     const struct cellar_spec_field *field, uint64_t value);

/* CELLAR_OK, or CELLAR_E_USAGE naming the field, its value and its bounds.
 * Names, images and mounts are checked for their form, not whether there is
 * such a thing. */
enum cellar_code cellar_spec_check(const struct cellar_spec *spec,
                                   struct cellar_error *err);

/* The rule of session names, for messages; E_USAGE when `name` breaks it. */
#define CELLAR_NAME_RULE                                                       \
    "a name has 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit"
enum cellar_code cellar_name_check(const char *name, struct cellar_error *err);

/* Names that nobody can give, since no name begins with a dot: of sessions that
 * stand ready in a pool, and of those that were taken from one by a process
 * which uses them unnamed (ready.h). */
#define CELLAR_READY_PREFIX ".pool-"
#define CELLAR_TAKEN_PREFIX ".taken-"
bool cellar_name_is_ready(const char *name);
bool cellar_name_is_taken(const char *name);
/* Either. */
bool cellar_name_is_reserved(const char *name);

#define CELLAR_IMAGE_PRESET "cellar-runtime:slim"

/* What a session's files are from on `engine`: its image, or the folder that is
 * its root. Lent. */
const char *cellar_spec_root(const struct cellar_spec *spec,
                             const char *engine);

/* A copy that owns its strings, until _done. */
enum cellar_code cellar_spec_copy(const struct cellar_spec *from,
                                  struct cellar_spec *to,
                                  struct cellar_error *err);
void cellar_spec_done(struct cellar_spec *spec);

#endif
