#include "fail.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A message is one line wherever it came from: an engine's words and file
 * names may hold anything. */
static void make_one_line(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
}

CELLAR_PRINTF(2, 0)
static void put_message(struct cellar_error *err, const char *fmt, va_list args)
{
    vsnprintf(err->msg, sizeof(err->msg), fmt, args);
    make_one_line(err->msg);
}

enum cellar_code cellar_fail(struct cellar_error *err, enum cellar_code code,
                             const char *fmt, ...)
{
    if (!err)
        return code;
    /* An argument may be the old message itself: format beside it. */
    struct cellar_error fresh = {.code = code};
    va_list args;
    va_start(args, fmt);
    put_message(&fresh, fmt, args);
    va_end(args);
    *err = fresh;
    return code;
}

/* Appends as much of `text` as fits. */
static void append(struct cellar_error *err, const char *text)
{
    size_t have = strlen(err->msg);
    size_t room = sizeof(err->msg) - 1 - have;
    size_t len = strnlen(text, room);
    memcpy(err->msg + have, text, len);
    err->msg[have + len] = '\0';
}

static enum cellar_code code_of_errno(int sys_errno)
{
    switch (sys_errno) {
    case ENOMEM:
        return CELLAR_E_NOMEM;
    case EACCES:
    case EPERM:
        return CELLAR_E_DENIED;
    default:
        return CELLAR_E_SYS;
    }
}

enum cellar_code cellar_fail_errno(struct cellar_error *err, int sys_errno,
                                   const char *fmt, ...)
{
    enum cellar_code code = code_of_errno(sys_errno);
    if (!err)
        return code;
    struct cellar_error fresh = {.code = code, .sys_errno = sys_errno};
    va_list args;
    va_start(args, fmt);
    put_message(&fresh, fmt, args);
    va_end(args);
    append(&fresh, ": ");
    append(&fresh, strerror(sys_errno));
    *err = fresh;
    return code;
}

enum cellar_code cellar_wrap(struct cellar_error *err, const char *fmt, ...)
{
    struct cellar_error inner = *err;
    va_list args;
    va_start(args, fmt);
    put_message(err, fmt, args);
    va_end(args);
    append(err, ": ");
    append(err, inner.msg);
    return err->code;
}
