/* What both engines' `check` share: rows of `doctor`, and the probe, which is a
 * container that is only started. */
#ifndef CELLAR_ENGINE_CHECK_H
#define CELLAR_ENGINE_CHECK_H

#include "../fail.h"
#include "engine.h"

/* No session's: those begin at 61001. */
#define CELLAR_PROBE_UID 61000

/* Whom the rows are told. */
struct cellar_check_to {
    cellar_check_fn *row;
    void *user;
};

void cellar_check_tell(const struct cellar_check_to *to, const char *name,
                       enum cellar_check result, const char *cure,
                       const char *fmt, ...) CELLAR_PRINTF(5, 6);
/* An error's message brings its cure. */
void cellar_check_tell_error(const struct cellar_check_to *to, const char *name,
                             const struct cellar_error *err);

/* What a probe says is nobody's. For struct cellar_stream_events. */
void cellar_check_no_bytes(void *user, const uint8_t *data, size_t len);
void cellar_check_no_text(void *user, const char *data, size_t len);

#endif
