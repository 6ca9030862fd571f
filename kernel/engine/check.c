#include "check.h"

#include <stdio.h>

void cellar_check_tell(const struct cellar_check_to *to, const char *name,
                       enum cellar_check result, const char *cure,
                       const char *fmt, ...)
{
    char text[CELLAR_ERROR_MSG_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct cellar_check_row row = {name, result, text, cure};
    to->row(to->user, &row);
}

void cellar_check_tell_error(const struct cellar_check_to *to, const char *name,
                             const struct cellar_error *err)
{
    cellar_check_tell(to, name, CELLAR_CHECK_FAIL, NULL, "%s", err->msg);
}

void cellar_check_no_bytes(void *user, const uint8_t *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}

void cellar_check_no_text(void *user, const char *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
}
