/*
 * The pipes of a frozen copy. With ends of its own of the program's pipes it
 * would come between the program and its children: these would never see the
 * end of their input, nor that nobody reads their output any more.
 *
 * So a pipe that has an end elsewhere is dead in the copy from the start, as it
 * will be when the copy wakes, for then no other process lives. A pipe of which
 * the copy has both ends is its own, with what was in it. Named pipes and
 * sockets stay shared.
 */
#ifndef CELLAR_WORKER_PIPES_H
#define CELLAR_WORKER_PIPES_H

/* In a copy that has just been forked, which has let go of the agent's pipes.
 * What there is no descriptor for stays as it is. */
void cellar_pipes_part(void);

#endif
