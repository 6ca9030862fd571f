/*
 * An image unpacked once, for engines without images: a folder that `--rootfs`
 * takes.
 *
 *     cellar_image_unpack(c, "cellar-runtime:data", NULL, path, &err);
 *
 * The engine makes a tar of the image's files, which is taken apart below the
 * folder and nowhere else: no absolute path, no "..", nothing through a link.
 * Of what is in there only files, folders and links come out; no bit that would
 * give privileges, no device, no attribute.
 */
#ifndef CELLAR_IMAGE_UNPACK_H
#define CELLAR_IMAGE_UNPACK_H

#include "cellar/cellar.h"

#define CELLAR_UNPACK_PATH_MAX 4096

/* Waits until it is done. `dir` NULL: a folder of the state directory, named
 * after the image. `path` is where it is, absolute. Errors: E_EXISTS the folder
 * is there already; E_IMAGE there is no such image; E_ENGINE the engine;
 * E_SYS the tar or the disk. On failure nothing is left. */
enum cellar_code cellar_image_unpack(struct cellar *c, const char *image,
                                     const char *dir,
                                     char path[CELLAR_UNPACK_PATH_MAX],
                                     struct cellar_error *err);

/* The part without an engine: takes the tar in `tar_fd` apart below the folder
 * `dir_fd`. */
enum cellar_code cellar_image_extract(int tar_fd, int dir_fd,
                                      struct cellar_error *err);

#endif
