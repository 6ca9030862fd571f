/*
 * A base for the runtime image where none can be pulled: a minimal Debian 12
 * made by mmdebstrap from Debian's packages.
 */
#ifndef CELLAR_IMAGE_BASE_H
#define CELLAR_IMAGE_BASE_H

#include "kernel/engine/engine.h"

/* Runs mmdebstrap on the loop until it ends (half a minute as a rule, 20
 * minutes at most) and gives its root file system as a tar in an unlinked
 * temporary file, which stands at its begin; the caller closes `*fd`.
 * `progress` may be NULL. E_IMAGE: mmdebstrap is not installed, or failed
 * (its own last words); E_TIMEOUT; E_SYS. */
enum cellar_code cellar_image_base_make(struct cellar_loop *loop,
                                        cellar_progress_fn *progress,
                                        void *user, int *fd,
                                        struct cellar_error *err);

/* An empty, unlinked file in TMPDIR or /tmp: whatever happens, nothing is
 * left behind. The caller closes `*fd`. */
enum cellar_code cellar_image_temp(int *fd, struct cellar_error *err);

#endif
