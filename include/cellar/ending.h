/*
 * How a cell ends: the words of the result object, the same on the wire, in
 * JSON and in this library.
 */
#ifndef CELLAR_ENDING_H
#define CELLAR_ENDING_H

#include "cellar/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a cell ended, as the agent saw it: name, number on the wire, name in
 * JSON. LOST is never sent: the host gives it to a cell whose container is
 * gone. */
#define CELLAR_STATUS_MAP(X)                                                   \
    X(OK, 0, "ok")                                                             \
    X(ERROR, 1, "error")                                                       \
    X(INTERRUPTED, 2, "interrupted")                                           \
    X(TIMEOUT, 3, "timeout")                                                   \
    X(OUT_OF_MEMORY, 4, "out_of_memory")                                       \
    X(KILLED, 5, "killed")                                                     \
    X(EXITED, 6, "exited")                                                     \
    X(LOST, 7, "lost")

/* What became of the globals. */
#define CELLAR_STATE_MAP(X)                                                    \
    X(KEPT, 0, "kept")                                                         \
    X(RESTORED, 1, "restored")                                                 \
    X(FRESH, 2, "fresh")

/* The limit a cell ran into. The host adds value and unit: it set them. */
#define CELLAR_LIMIT_MAP(X)                                                    \
    X(NONE, 0, "none")                                                         \
    X(TIMEOUT, 1, "timeout")                                                   \
    X(MEMORY, 2, "memory")                                                     \
    X(OUTPUT, 3, "output")                                                     \
    X(LIFETIME, 4, "lifetime")

/* When checkpoints are taken: never, when asked for, after every cell too. */
#define CELLAR_CHECKPOINT_MAP(X)                                               \
    X(OFF, 0, "off")                                                           \
    X(MANUAL, 1, "manual")                                                     \
    X(AUTO, 2, "auto")

/* The automatic checkpoint after a cell: there was none to take, because of the
 * policy or because the worker died; it is taken; it could not be. */
#define CELLAR_TAKEN_MAP(X)                                                    \
    X(NONE, 0, "none")                                                         \
    X(YES, 1, "taken")                                                         \
    X(NO, 2, "not_taken")

enum cellar_status {
#define CELLAR_STATUS_ENUM(name, number, word) CELLAR_STATUS_##name = (number),
    CELLAR_STATUS_MAP(CELLAR_STATUS_ENUM)
#undef CELLAR_STATUS_ENUM
};

enum cellar_state {
#define CELLAR_STATE_ENUM(name, number, word) CELLAR_STATE_##name = (number),
    CELLAR_STATE_MAP(CELLAR_STATE_ENUM)
#undef CELLAR_STATE_ENUM
};

enum cellar_checkpoint_policy {
#define CELLAR_CHECKPOINT_ENUM(name, number, word)                             \
    CELLAR_CHECKPOINT_##name = (number),
    CELLAR_CHECKPOINT_MAP(CELLAR_CHECKPOINT_ENUM)
#undef CELLAR_CHECKPOINT_ENUM
};

enum cellar_taken {
#define CELLAR_TAKEN_ENUM(name, number, word) CELLAR_TAKEN_##name = (number),
    CELLAR_TAKEN_MAP(CELLAR_TAKEN_ENUM)
#undef CELLAR_TAKEN_ENUM
};

enum cellar_limit {
#define CELLAR_LIMIT_ENUM(name, number, word) CELLAR_LIMIT_##name = (number),
    CELLAR_LIMIT_MAP(CELLAR_LIMIT_ENUM)
#undef CELLAR_LIMIT_ENUM
};

/* The names in JSON: "out_of_memory", "kept", "timeout". Static; NULL for a
 * number that is none of the enum's. */
CELLAR_API const char *cellar_status_name(enum cellar_status status);
CELLAR_API const char *cellar_state_name(enum cellar_state state);
CELLAR_API const char *cellar_limit_name(enum cellar_limit limit);
CELLAR_API const char *
cellar_checkpoint_name(enum cellar_checkpoint_policy policy);

#ifdef __cplusplus
}
#endif
#endif
