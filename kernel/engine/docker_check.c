#include "docker_private.h"
enum cellar_code docker_check(struct cellar_engine *engine, const char *image,
                              cellar_check_fn *row, cellar_engine_done_fn *done,
                              void *user, struct cellar_error *err)
{
    (void)engine;
    (void)image;
    (void)row;
    (void)done;
    (void)user;
    return cellar_fail(err, CELLAR_E_ENGINE, "not yet");
}
