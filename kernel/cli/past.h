/*
 * Which session of the journal is meant: by its name, the newest of them, or
 * by --id, an older one. And when it was.
 */
#ifndef CELLAR_CLI_PAST_H
#define CELLAR_CLI_PAST_H

#include "cellar/history.h"
#include "front.h"

/* What is told of one; the texts are cut to fit. */
struct cellar_pick {
    uint64_t id;
    char name[CELLAR_NAME_BYTES_MAX + 1];
    char image[128];
    char python[32];
    char ending[16];
    char reason[256];
    uint64_t created_ms;
    uint64_t ended_ms; /* 0: it lives, as far as is known */
    uint64_t cells;
};

/* Finds operand 1 of the command line, or --id among those called so.
 * E_NOT_FOUND says where the others stand. */
enum cellar_code cellar_past_pick(struct cellar_front *front,
                                  struct cellar_pick *pick);

/* "2026-11-21 02:44:25", in local time; "-" for 0. */
#define CELLAR_WHEN_MAX 40
void cellar_past_when(uint64_t ms, char text[CELLAR_WHEN_MAX]);

#endif
