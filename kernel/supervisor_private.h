/* What session and library share of the supervisor. */
#ifndef CELLAR_KERNEL_SUPERVISOR_PRIVATE_H
#define CELLAR_KERNEL_SUPERVISOR_PRIVATE_H

#include "session.h"
#include "supervisor.h"

/* Puts a session on the supervisor's list; takes it off. */
void cellar_supervisor_adopt(struct cellar_session *s);
void cellar_supervisor_forget(struct cellar_session *s);

/* The session of this name that this supervisor has; NULL: none. */
struct cellar_session *cellar_supervisor_session(struct cellar *c,
                                                 const char *name);

/* The journal to write to: NULL while it can't be written, which was told. */
struct cellar_journal *cellar_supervisor_writes(struct cellar *c);
/* What came of a write: a failure is told once, and no other write is tried
 * for a while. Returns whether it was done. */
bool cellar_supervisor_wrote(struct cellar *c, enum cellar_code code,
                             const struct cellar_error *err);
/* Stores what sessions have printed, soon. */
void cellar_supervisor_settle_soon(struct cellar *c);

/* Whether anybody is told of cells that nobody waits for; and tells. Takes the
 * result. */
bool cellar_supervisor_hears(const struct cellar *c);
void cellar_supervisor_unattended(struct cellar_session *s,
                                  struct cellar_result *result);

/* Opens an engine on `loop`. */
typedef enum cellar_code
cellar_engine_open_fn(struct cellar_loop *loop,
                      const struct cellar_engine_place *place,
                      struct cellar_engine **out, struct cellar_error *err);

/* As cellar_new(), on the engine that `open` gives: the tests bring one. */
enum cellar_code cellar_supervisor_new(const struct cellar_config *config,
                                       cellar_engine_open_fn *open,
                                       struct cellar **out,
                                       struct cellar_error *err);

#endif
