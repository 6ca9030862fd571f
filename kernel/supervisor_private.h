/* What session and library share of the supervisor. */
#ifndef CELLAR_KERNEL_SUPERVISOR_PRIVATE_H
#define CELLAR_KERNEL_SUPERVISOR_PRIVATE_H

#include "session.h"
#include "supervisor.h"

/* Puts a session on the supervisor's list; takes it off. */
void cellar_supervisor_adopt(struct cellar_session *s);
void cellar_supervisor_forget(struct cellar_session *s);

#endif
