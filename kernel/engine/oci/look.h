/*
 * What the looks at a container that was started share: verify.c has them for a
 * container whose processes are this kernel's, verify_mounts.c those at its
 * mounts, verify_sandbox.c those at a kernel of the container's own.
 *
 * A look returns NULL, or what is wrong: a text in the struct, until the next
 * one.
 *
 * For kernel/engine/oci alone.
 */
#ifndef CELLAR_ENGINE_OCI_LOOK_H
#define CELLAR_ENGINE_OCI_LOOK_H

#include <stdio.h>

#include "oci.h"

#define OCI_WRONG_MAX 160
/* Of config.json, and of what a user may add to it. */
#define OCI_MOUNTS_MAX 64

struct oci_look {
    pid_t pid; /* whose /proc it is */
    const char *id;
    const json_t *config;
    const struct oci_runtime *runtime;
    char status[8192];          /* /proc/PID/status; "" it can't be read */
    bool there[OCI_MOUNTS_MAX]; /* which of the mounts asked for */
    char wrong[OCI_WRONG_MAX];
    /* Of a sandbox alone; NULL and 0: not known. */
    const json_t *told; /* what its runtime keeps of it */
    pid_t gofer;
};

/* One of the table: what is looked at, by its name in container.json. */
struct oci_check {
    const char *protection;
    const char *(*check)(struct oci_look *l);
};

const char *cellar_oci_wrong(struct oci_look *l, const char *fmt, ...)
    CELLAR_PRINTF(2, 3);
/* Whether it could be read. */
bool cellar_oci_look_read(struct oci_look *l);
/* A file of /proc/PID. NULL: it can't be read; the caller closes. */
FILE *cellar_oci_look_open(const struct oci_look *l, const char *name);
/* What stands behind "CapEff:" in its status. */
bool cellar_oci_look_status(const struct oci_look *l, const char *key,
                            char *text, size_t size);

/* That it is not this process's; NULL also where it may not be looked at. */
const char *cellar_oci_check_namespace(struct oci_look *l, const char *name);
const char *cellar_oci_check_network(struct oci_look *l);
/* Filters in force, and no new privileges. */
const char *cellar_oci_check_filters(struct oci_look *l);
const char *cellar_oci_check_memory(struct oci_look *l);
const char *cellar_oci_check_swap(struct oci_look *l);
const char *cellar_oci_check_pids(struct oci_look *l);
const char *cellar_oci_check_cpu(struct oci_look *l);

struct oci_mount {
    char place[1024];
    char options[256];
    char type[64];
    char super[512];
};

/* check() for each, until something is wrong. */
const char *cellar_oci_each_mount(
    struct oci_look *l,
    const char *(*check)(struct oci_look *l, const struct oci_mount *mount));
/* The mount that config.json asks for at `place`; NULL: none. */
const json_t *cellar_oci_mount_wanted(const struct oci_look *l,
                                      const char *place);
/* Whether `option` is one of those between commas. */
bool cellar_oci_mount_has(const char *options, const char *option);
const char *cellar_oci_check_mounts(struct oci_look *l);
const char *cellar_oci_check_read_only(struct oci_look *l);
const char *cellar_oci_check_tmpfs(struct oci_look *l);

/* The looks at a sandbox, and their number. */
const struct oci_check *cellar_oci_sandbox_checks(size_t *count);
/* What its runtime keeps of it, in the folder .run; NULL: it can't be read. The
 * caller frees. */
json_t *cellar_oci_sandbox_told(const struct oci *oci, const char *id);

#endif
