/*
 * Several files run at once: each in a session of its own, so many at a time,
 * all in this process and on its one event loop. What a file prints is shown
 * whole and in the files' order: the first that has not ended is shown while
 * it runs, the others are held back until it is their turn.
 */
#ifndef CELLAR_CLI_JOBS_H
#define CELLAR_CLI_JOBS_H

#include "front.h"
#include "notebook.h"

/* Of what one file has printed while others were shown. One that has more
 * waits for its turn before its next cell. */
#define CELLAR_JOBS_HELD_MAX (64u << 20)

struct cellar_job_file {
    const char *path;                 /* as on the command line */
    struct cellar_notebook *notebook; /* its outputs are filled in */
    char *output;                     /* where it is written; NULL: nowhere */
};

/* Runs them, `at_once` at a time, in sessions of the front's spec. The first
 * Ctrl-C interrupts what runs and begins nothing new, a second one ends the
 * command. Returns the worst exit status of all. */
int cellar_jobs_run(struct cellar_front *front,
                    const struct cellar_job_file *files, size_t count,
                    size_t at_once);

/* Writes an executed notebook. */
enum cellar_code cellar_jobs_write(const char *path,
                                   const struct cellar_notebook *notebook,
                                   struct cellar_error *err);

#endif
