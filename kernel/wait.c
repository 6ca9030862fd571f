#include "wait.h"

#include "supervisor.h"

void cellar_wait_session(void *user, struct cellar_session *s,
                         const struct cellar_error *err)
{
    struct cellar_wait *wait = user;
    wait->done = true;
    wait->session = s;
    if (err)
        wait->err = *err;
}

void cellar_wait_result(void *user, struct cellar_result *result,
                        const struct cellar_error *err)
{
    struct cellar_wait *wait = user;
    wait->done = true;
    wait->result = result;
    if (err)
        wait->err = *err;
}

void cellar_wait_done(void *user, const struct cellar_error *err)
{
    cellar_wait_session(user, NULL, err);
}

enum cellar_code cellar_wait_for(struct cellar *c, struct cellar_wait *wait,
                                 struct cellar_error *err)
{
    while (!wait->done)
        (void)cellar_loop_run(cellar_supervisor_loop(c), -1);
    if (wait->err.code != CELLAR_OK && err)
        *err = wait->err;
    return wait->err.code;
}
