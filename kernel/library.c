/* The calls that wait, on top of those that don't. */
#include "fail.h"
#include "supervisor_private.h"
#include "wait.h"

enum cellar_code cellar_start(struct cellar *c, const struct cellar_spec *spec,
                              struct cellar_session **out,
                              struct cellar_error *err)
{
    struct cellar_wait wait = {0};
    enum cellar_code code =
        cellar_start_async(c, spec, cellar_wait_session, &wait, err);
    if (code == CELLAR_OK)
        code = cellar_wait_for(c, &wait, err);
    if (code == CELLAR_OK)
        *out = wait.session;
    return code;
}

enum cellar_code cellar_adopt(struct cellar *c, const char *name,
                              struct cellar_session **out,
                              struct cellar_error *err)
{
    struct cellar_wait wait = {0};
    enum cellar_code code =
        cellar_adopt_async(c, name, cellar_wait_session, &wait, err);
    if (code == CELLAR_OK)
        code = cellar_wait_for(c, &wait, err);
    if (code == CELLAR_OK)
        *out = wait.session;
    return code;
}

enum cellar_code cellar_run(struct cellar_session *s,
                            const struct cellar_cell *cell,
                            struct cellar_result **out,
                            struct cellar_error *err)
{
    struct cellar_wait wait = {0};
    enum cellar_code code =
        cellar_run_async(s, cell, cellar_wait_result, &wait, err);
    if (code == CELLAR_OK)
        code = cellar_wait_for(s->c, &wait, err);
    if (code == CELLAR_OK)
        *out = wait.result;
    return code;
}

enum cellar_code cellar_interrupt(struct cellar_session *s,
                                  struct cellar_error *err)
{
    if (s->phase == CELLAR_PHASE_LOST)
        return cellar_fail(err, CELLAR_E_LOST, "the session is lost: %s",
                           s->err.msg);
    cellar_session_interrupt(s);
    return CELLAR_OK;
}

enum cellar_code cellar_reset(struct cellar_session *s,
                              struct cellar_error *err)
{
    struct cellar_wait wait = {0};
    enum cellar_code code =
        cellar_reset_async(s, cellar_wait_session, &wait, err);
    return code == CELLAR_OK ? cellar_wait_for(s->c, &wait, err) : code;
}

enum cellar_code cellar_stop(struct cellar_session *s, struct cellar_error *err)
{
    struct cellar_wait wait = {0};
    if (!s)
        return CELLAR_OK;
    struct cellar *c = s->c;
    enum cellar_code code =
        cellar_stop_async(s, cellar_wait_session, &wait, err);
    return code == CELLAR_OK ? cellar_wait_for(c, &wait, err) : code;
}
