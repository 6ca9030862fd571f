/*
 * The open files of a frozen copy. Whoever forks shares with the child where in
 * a file the next byte is read or written: what the worker read later would be
 * missing when the copy wakes. So a copy opens its files anew, at the places
 * that were noted before it was forked.
 *
 * That is so for regular files, whatever has become of their names; what is in
 * them is everybody's. What can't be opened again stays shared.
 */
#ifndef CELLAR_WORKER_FILES_H
#define CELLAR_WORKER_FILES_H

/* In the worker, right before it forks. */
void cellar_files_note(void);

/* In the copy. Descriptors that were duplicates of one another still are. */
void cellar_files_part(void);

#endif
