/*
 * What the engine builds the runtime image from: a tar. The one file that
 * knows libarchive.
 */
#ifndef CELLAR_IMAGE_CONTEXT_H
#define CELLAR_IMAGE_CONTEXT_H

#include "cellar/error.h"

/* What tells one set of runtime files from another: 16 hex digits over their
 * names, modes and bytes. The image carries it as its label. It promises
 * nothing against somebody who wants two sets to look the same. */
#define CELLAR_LABEL_RUNTIME      "io.cellar.runtime"
#define CELLAR_IMAGE_DIGEST_BYTES 17

/* The build's context as a tar in an unlinked temporary file: the Dockerfile
 * and cellar/, owned by root, agent and relay 0711, everything else 0755 or
 * 0644, all of one time: the same files give the same bytes. The caller closes
 * `*fd`, which stands at its begin. E_NOT_FOUND, E_SYS, E_NOMEM name the
 * file. */
enum cellar_code cellar_image_context(const char *data_dir, int *fd,
                                      char digest[CELLAR_IMAGE_DIGEST_BYTES],
                                      struct cellar_error *err);

#endif
