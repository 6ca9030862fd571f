/* What session and library share of the supervisor. */
#ifndef CELLAR_KERNEL_SUPERVISOR_PRIVATE_H
#define CELLAR_KERNEL_SUPERVISOR_PRIVATE_H

#include "session.h"
#include "supervisor.h"

/* Puts a session on the supervisor's list; takes it off. */
void cellar_supervisor_adopt(struct cellar_session *s);
void cellar_supervisor_forget(struct cellar_session *s);

/* Opens an engine on `loop`; `host` and `data_dir` as in cellar_docker_new().
 */
typedef enum cellar_code
cellar_engine_open_fn(struct cellar_loop *loop, const char *host,
                      const char *data_dir,
                      void (*log)(void *user, const char *line), void *log_user,
                      struct cellar_engine **out, struct cellar_error *err);

/* As cellar_new(), on the engine that `open` gives: the tests bring one. */
enum cellar_code cellar_supervisor_new(const struct cellar_config *config,
                                       cellar_engine_open_fn *open,
                                       struct cellar **out,
                                       struct cellar_error *err);

#endif
