/*
 * What a waiting call waits for: the event loop runs until the callback of the
 * call underneath has come.
 *
 *     struct cellar_wait wait = {0};
 *     enum cellar_code code =
 *         engine->ops->remove(engine, id, cellar_wait_done, &wait, err);
 *     if (code == CELLAR_OK)
 *         code = cellar_wait_for(c, &wait, err);
 */
#ifndef CELLAR_KERNEL_WAIT_H
#define CELLAR_KERNEL_WAIT_H

#include "cellar/cellar.h"

struct cellar_wait {
    bool done;
    struct cellar_session *session;
    struct cellar_result *result;
    struct cellar_error err;
};

/* Callbacks whose `user` is the struct. */
void cellar_wait_session(void *user, struct cellar_session *s,
                         const struct cellar_error *err);
void cellar_wait_result(void *user, struct cellar_result *result,
                        const struct cellar_error *err);
void cellar_wait_done(void *user, const struct cellar_error *err);

/* Runs the loop until one of them has come; returns what it brought. */
enum cellar_code cellar_wait_for(struct cellar *c, struct cellar_wait *wait,
                                 struct cellar_error *err);

#endif
