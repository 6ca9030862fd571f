/*
 * Errors. A call that can fail returns a cellar_code and takes, last, the
 * struct it fills. The caller owns the struct; reporting never allocates.
 * A call that fails leaves its other outputs untouched.
 *
 *     struct cellar_error err = {0};
 *     if (cellar_start(c, &spec, &session, &err) != CELLAR_OK)
 *         fprintf(stderr, "%s\n", err.msg);
 *
 * A Python exception in a cell is a result (cellar/cellar.h), never an error.
 */
#ifndef CELLAR_ERROR_H
#define CELLAR_ERROR_H

#include "cellar/api.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CELLAR_ERROR_MSG_MAX 512

/* code, name in JSON, text: the one list that all tables are made from. */
#define CELLAR_ERROR_MAP(X)                                                    \
    X(CELLAR_OK, "ok", "success")                                              \
    X(CELLAR_E_AGAIN, "again", "more bytes are needed")                        \
    X(CELLAR_E_NOMEM, "no_memory", "out of memory")                            \
    X(CELLAR_E_LIMIT, "limit", "a declared limit was exceeded")                \
    X(CELLAR_E_PROTO, "protocol", "the peer broke the protocol")               \
    X(CELLAR_E_AUTH, "auth", "a frame's signature did not match")              \
    X(CELLAR_E_SYS, "system", "a system call failed")                          \
    X(CELLAR_E_USAGE, "usage", "an argument is not valid")                     \
    X(CELLAR_E_NOT_FOUND, "not_found", "there is no such thing")               \
    X(CELLAR_E_EXISTS, "exists", "the name is taken")                          \
    X(CELLAR_E_BUSY, "busy", "somebody else is using the session")             \
    X(CELLAR_E_DENIED, "denied", "permission was refused")                     \
    X(CELLAR_E_ENGINE, "engine", "the container engine failed")                \
    X(CELLAR_E_IMAGE, "image", "the image is missing or unfit")                \
    X(CELLAR_E_TIMEOUT, "deadline", "no answer within the deadline")           \
    X(CELLAR_E_LOST, "lost", "the container is gone")

enum cellar_code {
#define CELLAR_ERROR_ENUM(code, name, text) code,
    CELLAR_ERROR_MAP(CELLAR_ERROR_ENUM)
#undef CELLAR_ERROR_ENUM
};

struct cellar_error {
    enum cellar_code code;
    int sys_errno;                  /* errno of the call that failed, or 0 */
    char msg[CELLAR_ERROR_MSG_MAX]; /* one line, NUL-terminated: what failed,
                                       and the cure where there is one */
};

/* The name of a code in JSON ("busy"), and its text. Static; never NULL. */
CELLAR_API const char *cellar_code_name(enum cellar_code code);
CELLAR_API const char *cellar_code_text(enum cellar_code code);

#ifdef __cplusplus
}
#endif
#endif
