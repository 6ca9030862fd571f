/*
 * How the kernel reports: cellar_fail() makes an error, cellar_wrap() puts
 * context before one.
 *
 *     return cellar_fail(err, CELLAR_E_LIMIT, "frame of %zu bytes", n);
 *
 * Scope owns: CELLAR_AUTO_FREE and friends free at the end of the scope;
 * CELLAR_TAKE(p) hands over what `p` holds and leaves NULL.
 */
#ifndef CELLAR_KERNEL_FAIL_H
#define CELLAR_KERNEL_FAIL_H

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "cellar/error.h"

#define CELLAR_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Fills `err` (NULL is fine) and returns `code`. sys_errno is 0. */
enum cellar_code cellar_fail(struct cellar_error *err, enum cellar_code code,
                             const char *fmt, ...) CELLAR_PRINTF(3, 4);

/* CELLAR_E_SYS (E_NOMEM for ENOMEM, E_DENIED for EACCES and EPERM) with the
 * errno's text after the message. */
enum cellar_code cellar_fail_errno(struct cellar_error *err, int sys_errno,
                                   const char *fmt, ...) CELLAR_PRINTF(3, 4);

/* Puts "what: " before the message of `err`; returns its code. */
enum cellar_code cellar_wrap(struct cellar_error *err, const char *fmt, ...)
    CELLAR_PRINTF(2, 3);

static inline void cellar_auto_free(void *p)
{
    free(*(void **)p);
}

static inline void cellar_auto_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define CELLAR_AUTO_FREE  __attribute__((cleanup(cellar_auto_free)))
#define CELLAR_AUTO_CLOSE __attribute__((cleanup(cellar_auto_close)))

#define CELLAR_TAKE(p)                                                         \
    __extension__({                                                            \
        __typeof__(p) cellar_taken = (p);                                      \
        (p) = NULL;                                                            \
        cellar_taken;                                                          \
    })

#endif
