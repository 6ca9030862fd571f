#include "jobs.h"

#include <stdlib.h>
#include <string.h>

#include "background.h"
#include "file.h"
#include "kernel/fail.h"
#include "print.h"
#include "signals.h"

enum phase {
    WAITING,  /* for one of the places */
    STARTING, /* its session */
    RUNNING,  /* a cell */
    HELD,     /* it has printed much, and is not shown yet */
    STOPPING, /* its session */
    DONE
};

struct job {
    struct jobs *all;
    const struct cellar_job_file *file;
    struct cellar_session *session;
    struct cellar_output held;
    enum phase phase;
    size_t cell; /* the next one */
    int status;
};

struct jobs {
    struct cellar_front *front;
    struct job *list;
    size_t count;
    size_t shown; /* the first that has not ended */
    size_t next;  /* the first that was not started */
    size_t places;
    unsigned interrupts; /* Ctrl-C: those that were acted on */
    bool over;           /* given up: nothing is begun or shown any more */
};

/* Where a job prints now. */
static struct cellar_output *out_of(struct job *job)
{
    struct jobs *all = job->all;
    bool shown = (size_t)(job - all->list) == all->shown;
    return shown ? &all->front->out : &job->held;
}

static void complain(struct job *job, const struct cellar_error *err,
                     int status)
{
    cellar_output_end_line(&job->all->front->err_out);
    cellar_output_printf(&job->all->front->err_out, "cellar: %s: %s\n",
                         job->file->path, err->msg);
    if (status > job->status)
        job->status = status;
}

/* ----------------------------------------------------- one ends, more -- */

static void begin_more(struct jobs *all);
static void run_next(struct job *job);

/* The jobs in front that have ended are shown and done with; the first that
 * has not is shown from here on. */
static void show_more(struct jobs *all)
{
    while (all->shown < all->count && all->list[all->shown].phase == DONE) {
        if (++all->shown == all->count)
            return;
        struct job *job = &all->list[all->shown];
        cellar_output_move(&job->held, &all->front->out);
        if (job->phase == HELD)
            run_next(job);
    }
}

static void finish(struct job *job)
{
    struct jobs *all = job->all;
    struct cellar_error err = {0};
    cellar_output_flush(out_of(job));
    if (job->file->output &&
        cellar_jobs_write(job->file->output, job->file->notebook, &err) !=
            CELLAR_OK)
        complain(job, &err, CELLAR_EXIT_FAILED);
    job->phase = DONE;
    all->places++;
    show_more(all);
    begin_more(all);
}

static void on_stopped(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct job *job = user;
    (void)s;
    job->session = NULL;
    if (job->all->over)
        return;
    if (err)
        complain(job, err, CELLAR_EXIT_FAILED);
    finish(job);
}

static void stop(struct job *job)
{
    struct cellar_error err = {0};
    job->phase = STOPPING;
    if (cellar_stop_async(job->session, on_stopped, job, &err) == CELLAR_OK)
        return;
    complain(job, &err, CELLAR_EXIT_FAILED);
    finish(job);
}

/* --------------------------------------------------------------- cells -- */

static void show_output(void *user, int stream, const char *data, size_t len)
{
    struct job *job = user;
    (void)stream;
    if (!job->all->front->options.json)
        cellar_output_write(out_of(job), data, len);
}

static bool goes_on(const struct job *job, const struct cellar_result *result)
{
    if (job->all->interrupts > 0)
        return false;
    return result->status == CELLAR_STATUS_OK ||
           (job->all->front->options.keep_going &&
            result->status != CELLAR_STATUS_LOST);
}

static void on_result(void *user, struct cellar_result *result,
                      const struct cellar_error *err)
{
    struct job *job = user;
    struct cellar_error failed = {0};
    (void)err;
    if (job->all->over) {
        cellar_result_free(result);
        return;
    }
    if (job->all->front->options.json)
        cellar_print_file_json(out_of(job), job->file->path, result);
    else
        cellar_print_ending(out_of(job), result);
    if (result->status != CELLAR_STATUS_OK && job->status < CELLAR_EXIT_CELL)
        job->status = CELLAR_EXIT_CELL;
    if (cellar_notebook_record(job->file->notebook, job->cell, result,
                               &failed) != CELLAR_OK)
        complain(job, &failed, CELLAR_EXIT_FAILED);
    job->cell++;
    bool more = goes_on(job, result) && failed.code == CELLAR_OK;
    cellar_result_free(result);
    if (more)
        run_next(job);
    else
        stop(job);
}

static void run_next(struct job *job)
{
    struct cellar_error err = {0};
    size_t len = 0;
    if (job->cell == cellar_notebook_count(job->file->notebook)) {
        stop(job);
        return;
    }
    job->phase = HELD;
    if (job->held.queued > CELLAR_JOBS_HELD_MAX)
        return;
    const char *code =
        cellar_notebook_code(job->file->notebook, job->cell, &len);
    struct cellar_cell cell = {
        .code = code, .code_len = len, .on_output = show_output, .user = job};
    if (!job->all->front->options.json)
        cellar_print_code(out_of(job), cellar_session_cells(job->session) + 1,
                          code, len, job->cell == 0);
    job->phase = RUNNING;
    if (cellar_run_async(job->session, &cell, on_result, job, &err) ==
        CELLAR_OK)
        return;
    complain(job, &err, CELLAR_EXIT_FAILED);
    stop(job);
}

/* -------------------------------------------------------------- starts -- */

static void on_started(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct job *job = user;
    job->session = s;
    if (job->all->over)
        return;
    if (err) {
        complain(job, err, CELLAR_EXIT_FAILED);
        finish(job);
    } else if (job->all->interrupts > 0) {
        job->status = CELLAR_EXIT_SIGNAL + 2;
        stop(job);
    } else {
        run_next(job);
    }
}

static void begin(struct job *job)
{
    struct cellar_front *front = job->all->front;
    struct cellar_error err = {0};
    if (!front->options.json)
        cellar_output_printf(out_of(job), "%s== %s\n",
                             job == job->all->list ? "" : "\n",
                             job->file->path);
    job->phase = STARTING;
    if (cellar_front_begin(front, &front->options.spec, on_started, job,
                           &err) == CELLAR_OK)
        return;
    complain(job, &err, CELLAR_EXIT_FAILED);
    finish(job);
}

static void begin_more(struct jobs *all)
{
    while (all->places > 0 && all->next < all->count && !all->interrupts) {
        all->places--;
        begin(&all->list[all->next++]);
    }
}

/* ----------------------------------------------------------- the whole -- */

static void interrupt_all(struct jobs *all)
{
    struct cellar_error err;
    all->interrupts = cellar_signals_count();
    for (size_t i = 0; i < all->next; i++) {
        struct job *job = &all->list[i];
        if (job->phase == RUNNING)
            (void)!cellar_interrupt(job->session, &err);
        else if (job->phase == HELD)
            stop(job);
    }
}

/* Until all that was begun has ended, or there is a reason to give up. The
 * sessions are unnamed: what is left of them ends with the supervisor. */
static void wait_for_all(struct jobs *all)
{
    struct cellar_front *front = all->front;
    front->running = true;
    while (all->shown < all->next && !cellar_front_quit(front)) {
        if (cellar_signals_count() != all->interrupts)
            interrupt_all(all);
        cellar_front_turn(front);
    }
    front->quit = cellar_front_quit(front);
    front->running = false;
}

static int worst(const struct jobs *all)
{
    int status = all->interrupts ? CELLAR_EXIT_CELL : CELLAR_EXIT_OK;
    for (size_t i = 0; i < all->count; i++)
        if (all->list[i].status > status)
            status = all->list[i].status;
    return status;
}

int cellar_jobs_run(struct cellar_front *front,
                    const struct cellar_job_file *files, size_t count,
                    size_t at_once)
{
    struct jobs all = {.front = front, .count = count, .places = at_once};
    all.list = calloc(count, sizeof *all.list);
    if (!all.list) {
        cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
        return cellar_front_fail(front);
    }
    for (size_t i = 0; i < count; i++) {
        all.list[i] = (struct job){.all = &all, .file = &files[i]};
        cellar_output_init(&all.list[i].held, -1); /* only keeps */
        all.list[i].held.tty = front->out.tty;
    }
    if (cellar_signals_catch(front->c, &front->err) != CELLAR_OK) {
        free(all.list);
        return cellar_front_fail(front);
    }
    begin_more(&all);
    wait_for_all(&all);
    int status = worst(&all);
    /* What is given up on calls back until its supervisor is gone. */
    all.over = true;
    cellar_signals_release();
    cellar_free(CELLAR_TAKE(front->c));
    cellar_background_refill(front);
    for (size_t i = 0; i < count; i++)
        cellar_output_done(&all.list[i].held);
    free(all.list);
    return status;
}

enum cellar_code cellar_jobs_write(const char *path,
                                   const struct cellar_notebook *notebook,
                                   struct cellar_error *err)
{
    CELLAR_AUTO_FREE char *text = NULL;
    size_t len = 0;
    enum cellar_code code = cellar_notebook_write(notebook, &text, &len, err);
    return code == CELLAR_OK ? cellar_file_replace(path, text, len, err) : code;
}
