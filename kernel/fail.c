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
    size_t len = strlen(fresh.msg);
    snprintf(fresh.msg + len, sizeof(fresh.msg) - len, ": %s",
             strerror(sys_errno));
    *err = fresh;
    return code;
}

enum cellar_code cellar_wrap(struct cellar_error *err, const char *fmt, ...)
{
    char context[CELLAR_ERROR_MSG_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(context, sizeof(context), fmt, args);
    va_end(args);
    make_one_line(context);

    char inner[CELLAR_ERROR_MSG_MAX];
    memcpy(inner, err->msg, sizeof(inner));
    inner[sizeof(inner) - 1] = '\0';
    size_t room = sizeof(err->msg);
    int used = snprintf(err->msg, room, "%s: ", context);
    if (used > 0 && (size_t)used < room)
        snprintf(err->msg + used, room - (size_t)used, "%s", inner);
    return err->code;
}
