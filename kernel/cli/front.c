#include "front.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "background.h"
#include "kernel/fail.h"
#include "kernel/loop.h"
#include "kernel/ready.h"
#include "kernel/refill.h"
#include "kernel/supervisor.h"
#include "signals.h"
#include "unattended.h"

/* How long a session that another process has is asked for again. */
#define ADOPT_TRIES    10
#define ADOPT_PAUSE_MS 20

void cellar_front_init(struct cellar_front *front)
{
    *front = (struct cellar_front){.began_us = cellar_loop_now_us()};
    cellar_options_init(&front->options);
    cellar_output_init(&front->out, STDOUT_FILENO);
    cellar_output_init(&front->err_out, STDERR_FILENO);
}

/* ------------------------------------------------------------ saying -- */

int cellar_front_usage(struct cellar_front *front, const char *fmt, ...)
{
    char text[CELLAR_ERROR_MSG_MAX] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cellar_output_printf(
        &front->err_out, "cellar: %s\ntry 'cellar%s%s --help'\n", text,
        front->command ? " " : "", front->command ? front->command : "");
    return CELLAR_EXIT_USAGE;
}

static int status_of(enum cellar_code code)
{
    if (code == CELLAR_OK)
        return CELLAR_EXIT_OK;
    return code == CELLAR_E_USAGE || code == CELLAR_E_LIMIT
               ? CELLAR_EXIT_USAGE
               : CELLAR_EXIT_FAILED;
}

int cellar_front_fail(struct cellar_front *front)
{
    if (front->err.code == CELLAR_E_AGAIN)
        return cellar_front_quit(front);
    cellar_output_end_line(&front->err_out);
    cellar_output_printf(&front->err_out, "cellar: %s\n", front->err.msg);
    return status_of(front->err.code);
}

int cellar_front_refused(struct cellar_front *front)
{
    int status = cellar_front_fail(front);
    return front->err.code == CELLAR_E_LIMIT ? CELLAR_EXIT_FAILED : status;
}

void cellar_front_log(struct cellar_front *front, const char *fmt, ...)
{
    char text[CELLAR_ERROR_MSG_MAX] = "";
    va_list args;
    if (!front->options.verbose)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    double ms = (double)(cellar_loop_now_us() - front->began_us) / 1000.0;
    cellar_output_printf(&front->err_out, "[%9.3f ms] %s\n", ms, text);
}

static void log_line(void *user, const char *line)
{
    cellar_front_log(user, "%s", line);
}

/* ----------------------------------------------------------- waiting -- */

int cellar_front_quit(const struct cellar_front *front)
{
    if (front->quit)
        return front->quit;
    if (cellar_signals_quit())
        return CELLAR_EXIT_SIGNAL + cellar_signals_quit();
    /* With no cell to interrupt, the first Ctrl-C is meant for us. */
    unsigned needed = front->running ? 2 : 1;
    if (!front->patient && cellar_signals_count() >= needed)
        return CELLAR_EXIT_SIGNAL + SIGINT;
    return cellar_output_ok(&front->out) ? 0 : CELLAR_EXIT_FAILED;
}

/* For good: the end takes its own time, and counts signals anew. */
static enum cellar_code give_up(struct cellar_front *front)
{
    front->quit = cellar_front_quit(front);
    front->err = (struct cellar_error){.code = CELLAR_E_AGAIN};
    return CELLAR_E_AGAIN;
}

void cellar_front_turn(struct cellar_front *front)
{
    bool waits = cellar_output_waits(&front->out) ||
                 cellar_output_waits(&front->err_out);
    if (!waits) {
        cellar_dispatch(front->c, -1);
        return;
    }
    /* poll() passes over descriptors below 0. */
    struct pollfd fds[] = {
        {.fd = cellar_output_waits(&front->out) ? front->out.fd : -1,
         .events = POLLOUT},
        {.fd = cellar_output_waits(&front->err_out) ? front->err_out.fd : -1,
         .events = POLLOUT},
        {.fd = front->c ? cellar_fd(front->c) : -1, .events = POLLIN}};
    (void)poll(fds, 3, front->c ? cellar_timeout(front->c) : -1);
    if (front->c)
        cellar_dispatch(front->c, 0);
    cellar_output_pump(&front->out);
    cellar_output_pump(&front->err_out);
}

void cellar_front_flush(struct cellar_front *front)
{
    unsigned interrupts = cellar_signals_count();
    while (cellar_output_waits(&front->out) ||
           cellar_output_waits(&front->err_out)) {
        bool interrupted = cellar_signals_count() != interrupts;
        if (interrupted || cellar_signals_quit()) {
            cellar_output_done(&front->out);
            cellar_output_done(&front->err_out);
            front->quit = cellar_front_quit(front);
            return;
        }
        cellar_front_turn(front);
    }
}

/* Waits for the call under way. E_AGAIN: a reason to end the command came
 * before; the call is still under way. */
static enum cellar_code wait_for(struct cellar_front *front)
{
    while (front->waiting) {
        if (cellar_front_quit(front))
            return give_up(front);
        cellar_front_turn(front);
    }
    return front->err.code;
}

bool cellar_front_idle(struct cellar_front *front, int fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.events = POLLIN}};
    unsigned interrupts = cellar_signals_count();
    for (;;) {
        if (cellar_signals_count() != interrupts || cellar_front_quit(front))
            return false;
        fds[1].fd = cellar_fd(front->c);
        /* A signal wakes the loop's descriptor: none can slip in between. */
        if (poll(fds, 2, cellar_timeout(front->c)) < 0 && errno != EINTR)
            return true;
        cellar_dispatch(front->c, 0);
        if (fds[0].revents)
            return true;
    }
}

bool cellar_front_pause(struct cellar_front *front, uint64_t ms)
{
    uint64_t until_us = cellar_loop_now_us() + ms * 1000;
    while (!cellar_front_quit(front)) {
        uint64_t now_us = cellar_loop_now_us();
        if (now_us >= until_us)
            return true;
        struct pollfd fd = {.fd = cellar_fd(front->c), .events = POLLIN};
        int left_ms = (int)((until_us - now_us + 999) / 1000);
        int due_ms = cellar_timeout(front->c);
        (void)poll(&fd, 1, due_ms >= 0 && due_ms < left_ms ? due_ms : left_ms);
        cellar_dispatch(front->c, 0);
    }
    return false;
}

/* ---------------------------------------------------------- sessions -- */

/* A line that nobody asked for begins, and ends: at the REPL's prompt too. */
static void begin_aside(struct cellar_front *front)
{
    cellar_output_end_line(&front->err_out);
    if (front->redraw)
        cellar_output_text(&front->err_out, "\n");
}

static void end_aside(struct cellar_front *front)
{
    if (front->redraw)
        front->redraw(front->redraw_user);
}

static void warn_line(void *user, const char *line)
{
    struct cellar_front *front = user;
    begin_aside(front);
    cellar_output_printf(&front->err_out, "cellar: %s\n", line);
    end_aside(front);
}

static void tell_unattended(void *user, struct cellar_session *session,
                            struct cellar_result *result)
{
    struct cellar_front *front = user;
    begin_aside(front);
    cellar_unattended_tell(&front->err_out, cellar_session_name(session),
                           result, front->options.json);
    end_aside(front);
    cellar_result_free(result);
}

/* A session takes four descriptors, and one process may have a thousand: the
 * usual soft limit is for programs that use select(), which this is not. */
static void allow_descriptors(void)
{
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

enum cellar_code cellar_front_open(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    struct cellar_config config = {
        .engine = options->engine,
        .host = options->host,
        .state_dir = options->state_dir,
        .data_dir = options->data_dir,
        .log = options->verbose ? log_line : NULL,
        .log_user = front,
        .warn = warn_line,
        .warn_user = front,
        .unattended = front->on & CELLAR_ON_RUNNERS ? tell_unattended : NULL,
        .unattended_user = front,
    };
    allow_descriptors();
    return cellar_new(&config, &front->c, &front->err);
}

static void session_is_there(void *user, struct cellar_session *session,
                             const struct cellar_error *err)
{
    struct cellar_front *front = user;
    front->waiting = false;
    front->session = session;
    front->err = err ? *err : (struct cellar_error){0};
}

/* A start that the user gave up on still makes its container. cellar_free()
 * removes that of an unnamed session, but lets a named one live: that is
 * waited for and stopped. The next Ctrl-C ends even this. */
static void wait_to_remove(struct cellar_front *front)
{
    cellar_front_log(front, "ending; waiting for the start to come to an end");
    cellar_signals_forget();
    while (front->waiting && cellar_signals_count() == 0)
        cellar_front_turn(front);
    (void)give_up(front);
}

static bool is_pooled(const struct cellar_front *front)
{
    return front->options.pool > 0 && (front->on & CELLAR_ON_POOLED);
}

enum cellar_code cellar_front_begin(struct cellar_front *front,
                                    const struct cellar_spec *spec,
                                    cellar_session_fn *done, void *user,
                                    struct cellar_error *err)
{
    return is_pooled(front)
               ? cellar_ready_start_async(front->c, spec, done, user, err)
               : cellar_start_async(front->c, spec, done, user, err);
}

/* What nobody else would tell of: it happened in the background. */
static void tell_trouble(struct cellar_front *front,
                         const struct cellar_spec *spec)
{
    char key[CELLAR_READY_KEY_BYTES];
    char text[CELLAR_TROUBLE_MAX];
    cellar_ready_key(front->c, spec, key);
    if (cellar_refill_trouble(cellar_supervisor_state_dir(front->c), key, text))
        cellar_output_printf(&front->err_out, "cellar: the pool %s\n", text);
}

static void look_after_pool(struct cellar_front *front,
                            const struct cellar_spec *spec)
{
    if (!is_pooled(front))
        return;
    tell_trouble(front, spec);
    cellar_background_refill(front);
}

enum cellar_code cellar_front_start(struct cellar_front *front,
                                    const struct cellar_spec *spec)
{
    enum cellar_code code = cellar_signals_catch(front->c, &front->err);
    if (code != CELLAR_OK)
        return code;
    code =
        cellar_front_begin(front, spec, session_is_there, front, &front->err);
    if (code != CELLAR_OK)
        return code;
    front->waiting = true;
    front->ends = true;
    code = wait_for(front);
    if (code == CELLAR_E_AGAIN && front->waiting && spec->name)
        wait_to_remove(front);
    else if (code == CELLAR_OK)
        front->ends = spec->name == NULL;
    if (code == CELLAR_OK)
        look_after_pool(front, spec);
    return code;
}

/* A command that only looks, as `stats`, has a session for a moment. */
static enum cellar_code adopt(struct cellar_front *front, const char *name)
{
    enum cellar_code code = CELLAR_E_BUSY;
    for (int tries = 0; code == CELLAR_E_BUSY && tries < ADOPT_TRIES; tries++) {
        if (tries > 0 && !cellar_front_pause(front, ADOPT_PAUSE_MS))
            break;
        code = cellar_adopt_async(front->c, name, session_is_there, front,
                                  &front->err);
    }
    return code;
}

enum cellar_code cellar_front_adopt(struct cellar_front *front,
                                    const char *name)
{
    enum cellar_code code = cellar_signals_catch(front->c, &front->err);
    if (code == CELLAR_OK)
        code = adopt(front, name);
    if (code != CELLAR_OK)
        return code;
    front->waiting = true;
    return wait_for(front);
}

/* ------------------------------------------------------------- cells -- */

static void show_output(void *user, int stream, const char *data, size_t len)
{
    struct cellar_front *front = user;
    if (front->show == CELLAR_SHOW_NOTHING)
        return;
    bool apart = front->show == CELLAR_SHOW_APART && stream == STDERR_FILENO;
    cellar_output_write(apart ? &front->err_out : &front->out, data, len);
}

static void cell_is_done(void *user, struct cellar_result *result,
                         const struct cellar_error *err)
{
    struct cellar_front *front = user;
    front->waiting = false;
    cellar_result_free(front->result);
    front->result = result;
    front->err = err ? *err : (struct cellar_error){0};
}

enum cellar_code cellar_front_run(struct cellar_front *front, const char *code,
                                  size_t len, uint64_t timeout_ms,
                                  struct cellar_result **out)
{
    struct cellar_cell cell = {.code = code,
                               .code_len = len,
                               .timeout_ms = timeout_ms,
                               .on_output = show_output,
                               .user = front};
    cellar_front_flush(front);
    /* A Ctrl-C of before, which found no cell to interrupt. */
    if (cellar_front_quit(front))
        return give_up(front);
    enum cellar_code failed = cellar_run_async(
        front->session, &cell, cell_is_done, front, &front->err);
    if (failed != CELLAR_OK)
        return failed;
    front->waiting = true;
    front->running = true;
    cellar_signals_aim(front->session);
    failed = wait_for(front);
    cellar_signals_aim(NULL);
    front->running = false;
    if (failed == CELLAR_OK)
        *out = CELLAR_TAKE(front->result);
    return failed;
}

/* --------------------------------------------------------------- end -- */

static int end_session(struct cellar_front *front, int status)
{
    struct cellar_session *session = CELLAR_TAKE(front->session);
    struct cellar_error err = {0};
    if (session && !front->ends)
        cellar_close(session);
    if (!session || !front->ends || cellar_stop(session, &err) == CELLAR_OK)
        return status;
    cellar_output_printf(&front->err_out, "cellar: %s\n", err.msg);
    return status ? status : CELLAR_EXIT_FAILED;
}

int cellar_front_done(struct cellar_front *front, int status)
{
    cellar_output_flush(&front->out);
    cellar_output_flush(&front->err_out);
    cellar_signals_aim(NULL);
    if (!front->quit)
        cellar_front_flush(front);
    status = front->quit ? front->quit : status;
    cellar_output_done(&front->out);
    status = end_session(front, status);
    cellar_signals_release();
    cellar_free(front->c);
    cellar_result_free(front->result);
    if (!cellar_output_ok(&front->out)) {
        cellar_output_printf(&front->err_out, "cellar: stdout: %s\n",
                             strerror(front->out.sys_errno));
        status = CELLAR_EXIT_FAILED;
    }
    /* The loop is gone; only a signal ends what waits now. */
    front->c = NULL;
    cellar_front_flush(front);
    cellar_output_done(&front->err_out);
    cellar_options_done(&front->options);
    return status;
}
