#include "supervisor.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "proto/sign.h"
#include "reaper.h"
#include "supervisor_private.h"

/* Uids that containers run as; 65534 is nobody. */
#define UID_FIRST 61001u
#define UID_LAST  65533u

/* How soon output is stored that came in small pieces. */
#define SETTLE_MS 500

/* How long nothing is written to a journal that could not be written. */
#define JOURNAL_REST_US 2000000u

/* How long cellar_free() waits for unnamed sessions to be removed. */
#define FREE_MS 20000

/* What NULL stands for as a config. */
static const struct cellar_config presets;

struct cellar {
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    struct cellar_wake *wake;
    struct cellar_session *sessions;
    char *state_dir;
    char *data_dir;
    char *host;
    char owner[CELLAR_OWNER_BYTES];
    char id[CELLAR_SUPERVISOR_ID_BYTES];
    int alive_fd;
    struct cellar_journal *journal;
    bool journal_failed;       /* which was told */
    uint64_t journal_again_us; /* when writing may be tried again */
    struct cellar_timer *settle;
    bool settle_set;
    struct cellar_config config; /* its callbacks; its strings are not kept */
};

struct cellar_loop *cellar_supervisor_loop(struct cellar *c)
{
    return c->loop;
}

struct cellar_engine *cellar_supervisor_engine(struct cellar *c)
{
    return c->engine;
}

const char *cellar_supervisor_data_dir(const struct cellar *c)
{
    return c->data_dir;
}

const char *cellar_supervisor_state_dir(const struct cellar *c)
{
    return c->state_dir;
}

const char *cellar_supervisor_owner(const struct cellar *c)
{
    return c->owner;
}

const char *cellar_supervisor_host(const struct cellar *c)
{
    return c->host;
}

/* Made when the first session is started: whoever only looks needs none, and
 * may look at a directory that can't be written. */
const char *cellar_supervisor_id(struct cellar *c, struct cellar_error *err)
{
    if (c->alive_fd < 0 &&
        cellar_alive_begin(c->state_dir, c->id, &c->alive_fd, err) != CELLAR_OK)
        return NULL;
    return c->id;
}

/* ------------------------------------------------- what users are told -- */

void cellar_supervisor_log(struct cellar *c, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    if (!c->config.log)
        return;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    c->config.log(c->config.log_user, line);
}

void cellar_supervisor_warn(struct cellar *c, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    if (!c->config.warn)
        return;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    c->config.warn(c->config.warn_user, line);
}

bool cellar_supervisor_hears(const struct cellar *c)
{
    return c->config.unattended != NULL;
}

void cellar_supervisor_unattended(struct cellar_session *s,
                                  struct cellar_result *result)
{
    const struct cellar_config *config = &s->c->config;
    cellar_supervisor_log(s->c, "cell %" PRIu64 " of '%s' had ended: %s",
                          result->cell, s->record.name,
                          cellar_status_name(result->status));
    if (config->unattended)
        config->unattended(config->unattended_user, s, result);
    else
        cellar_result_free(result);
}

/* -------------------------------------------------------- the journal --- */

struct cellar_journal *cellar_supervisor_journal(struct cellar *c,
                                                 struct cellar_error *err)
{
    if (!c->journal &&
        cellar_journal_open(c->state_dir, &c->journal, err) != CELLAR_OK)
        return NULL;
    return c->journal;
}

struct cellar_journal *cellar_supervisor_writes(struct cellar *c)
{
    struct cellar_error err = {0};
    if (cellar_loop_now_us() < c->journal_again_us)
        return NULL;
    struct cellar_journal *journal = cellar_supervisor_journal(c, &err);
    if (!journal)
        (void)cellar_supervisor_wrote(c, err.code, &err);
    return journal;
}

bool cellar_supervisor_wrote(struct cellar *c, enum cellar_code code,
                             const struct cellar_error *err)
{
    if (code == CELLAR_OK) {
        if (c->journal_failed)
            cellar_supervisor_warn(c, "the journal is written again");
        c->journal_failed = false;
        return true;
    }
    c->journal_again_us = cellar_loop_now_us() + JOURNAL_REST_US;
    if (!c->journal_failed)
        cellar_supervisor_warn(c, "%s", err->msg);
    c->journal_failed = true;
    return false;
}

static void on_settle(void *user)
{
    struct cellar *c = user;
    c->settle_set = false;
    for (struct cellar_session *s = c->sessions; s; s = s->next)
        if (s->phase < CELLAR_PHASE_LOST)
            cellar_session_settle(s);
    if (c->journal)
        cellar_journal_upkeep(c->journal);
}

void cellar_supervisor_settle_soon(struct cellar *c)
{
    if (!c->settle_set)
        cellar_timer_set(c->settle, SETTLE_MS);
    c->settle_set = true;
}

static bool uid_used(uint32_t uid, const uint32_t *used, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (used[i] == uid)
            return true;
    return false;
}

/* Random, so that two supervisors that look at the same moment, or don't see
 * each other's containers, will not take the same one. */
uint32_t cellar_supervisor_pick_uid(const uint32_t *used, size_t count)
{
    const uint32_t span = UID_LAST - UID_FIRST + 1;
    uint32_t at = randombytes_uniform(span);
    for (uint32_t i = 0; i < span; i++) {
        uint32_t uid = UID_FIRST + (at + i) % span;
        if (!uid_used(uid, used, count))
            return uid;
    }
    return UID_FIRST + at;
}

void cellar_supervisor_adopt(struct cellar_session *s)
{
    s->next = s->c->sessions;
    if (s->next)
        s->next->prev = s;
    s->c->sessions = s;
}

void cellar_supervisor_forget(struct cellar_session *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        s->c->sessions = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

struct cellar_session *cellar_supervisor_session(struct cellar *c,
                                                 const char *name)
{
    struct cellar_session *s = c->sessions;
    while (s && (strcmp(s->record.name, name) != 0 || s->hold.lock_fd < 0))
        s = s->next;
    return s;
}

/* ---------------------------------------------------------- new, free -- */

static const char *first_of(const char *a, const char *b)
{
    return a && *a ? a : (b && *b ? b : NULL);
}

static char *joined(const char *dir, const char *rest)
{
    char *path = NULL;
    return asprintf(&path, "%s%s", dir, rest) < 0 ? NULL : path;
}

static char *find_state_dir(const char *given)
{
    const char *home = getenv("HOME");
    const char *xdg = getenv("XDG_STATE_HOME");
    given = first_of(given, getenv("CELLAR_STATE_DIR"));
    if (given)
        return strdup(given);
    if (xdg && xdg[0] == '/')
        return joined(xdg, "/cellar");
    return joined(home && home[0] == '/' ? home : "/root",
                  "/.local/state/cellar");
}

/* The directory of the program, or shared library, that this code is in; false
 * where it can't be told. */
static bool own_directory(char *path, size_t size)
{
    Dl_info info = {0};
    char real[PATH_MAX];
    if (!dladdr(&presets, &info) || !info.dli_fname)
        return false;
    /* A program that was found by PATH is known by its name alone. */
    if (!realpath(strchr(info.dli_fname, '/') ? info.dli_fname
                                              : "/proc/self/exe",
                  real))
        return false;
    char *slash = strrchr(real, '/');
    if (!slash || (size_t)(slash - real) >= size)
        return false;
    memcpy(path, real, (size_t)(slash - real));
    path[slash - real] = '\0';
    return true;
}

/* From a build tree's root, bin/, lib/ or lib/TRIPLET/ of the prefix that it
 * was installed to; else where it was configured to be. */
static char *find_data_dir(const char *given)
{
    static const char *const places[] = {"/share/cellar", "/../share/cellar",
                                         "/../../share/cellar"};
    char own[PATH_MAX];
    given = first_of(given, getenv("CELLAR_DATA_DIR"));
    if (given)
        return strdup(given);
    bool known = own_directory(own, sizeof own);
    for (size_t i = 0; known && i < sizeof places / sizeof places[0]; i++) {
        char probe[PATH_MAX + 64];
        (void)snprintf(probe, sizeof probe, "%s%s/container.json", own,
                       places[i]);
        if (access(probe, R_OK) == 0)
            return joined(own, places[i]);
    }
    return strdup(CELLAR_INSTALL_DATA_DIR);
}

static void on_wake(void *user)
{
    struct cellar *c = user;
    for (struct cellar_session *s = c->sessions; s; s = s->next)
        if (atomic_exchange(&s->interrupt_asked, false))
            cellar_session_interrupt(s);
}

void cellar_interrupt_signal(struct cellar_session *s)
{
    atomic_store(&s->interrupt_asked, true);
    cellar_wake_signal(s->c->wake);
}

static enum cellar_code open_all(struct cellar *c,
                                 const struct cellar_config *config,
                                 cellar_engine_open_fn *open_engine,
                                 struct cellar_error *err)
{
    enum cellar_code code = cellar_sign_init();
    if (code != CELLAR_OK)
        return cellar_fail(err, code, "libsodium could not be started");
    c->state_dir = find_state_dir(config->state_dir);
    c->data_dir = find_data_dir(config->data_dir);
    const char *host = first_of(config->host, getenv("DOCKER_HOST"));
    c->host = strdup(host ? host : "");
    if (!c->state_dir || !c->data_dir || !c->host)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    code = cellar_state_open(c->state_dir, c->owner, err);
    if (code == CELLAR_OK)
        code = cellar_loop_new(&c->loop, err);
    if (code == CELLAR_OK)
        code = cellar_wake_new(c->loop, on_wake, c, &c->wake, err);
    if (code == CELLAR_OK)
        code = cellar_timer_new(c->loop, on_settle, c, &c->settle, err);
    if (code != CELLAR_OK)
        return code;
    struct cellar_engine_place place = {.host = config->host,
                                        .state_dir = c->state_dir,
                                        .data_dir = c->data_dir,
                                        .log = config->log,
                                        .log_user = config->log_user,
                                        .warn = config->warn,
                                        .warn_user = config->warn_user};
    return open_engine(c->loop, &place, &c->engine, err);
}

enum cellar_code cellar_supervisor_new(const struct cellar_config *config,
                                       cellar_engine_open_fn *open,
                                       struct cellar **out,
                                       struct cellar_error *err)
{
    struct cellar *c = calloc(1, sizeof *c);
    if (!c)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    c->alive_fd = -1;
    c->config =
        (struct cellar_config){.log = config->log,
                               .log_user = config->log_user,
                               .warn = config->warn,
                               .warn_user = config->warn_user,
                               .unattended = config->unattended,
                               .unattended_user = config->unattended_user};
    enum cellar_code code = open_all(c, config, open, err);
    if (code != CELLAR_OK) {
        cellar_free(c);
        return code;
    }
    *out = c;
    return CELLAR_OK;
}

static enum cellar_code open_docker(struct cellar_loop *loop,
                                    const struct cellar_engine_place *place,
                                    struct cellar_engine **out,
                                    struct cellar_error *err)
{
    return cellar_docker_new(loop, place->host, place->data_dir, place->log,
                             place->log_user, out, err);
}

/* The engines there are, the default first. */
static const struct {
    const char *name;
    cellar_engine_open_fn *open;
} engines[] = {
    {"auto", cellar_auto_new},
    {"docker", open_docker},
    {"oci", cellar_oci_new},
};

enum cellar_code cellar_new(const struct cellar_config *config,
                            struct cellar **out, struct cellar_error *err)
{
    const char *name =
        first_of(config ? config->engine : NULL, getenv("CELLAR_ENGINE"));
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (!name || !strcmp(name, engines[i].name))
            return cellar_supervisor_new(config ? config : &presets,
                                         engines[i].open, out, err);
    return cellar_fail(
        err, CELLAR_E_USAGE,
        "unknown engine '%.32s': there are 'auto', 'docker' and 'oci'", name);
}

/* Until every session is gone, or an engine that hangs has had its time. */
static void close_sessions(struct cellar *c)
{
    uint64_t end = cellar_loop_now_us() + UINT64_C(1000) * FREE_MS;
    for (struct cellar_session *s = c->sessions; s; s = s->next)
        cellar_close(s);
    while (c->sessions && cellar_loop_now_us() < end)
        (void)cellar_loop_run(c->loop, 100);
    if (c->sessions)
        cellar_supervisor_log(c, "the engine did not remove every unnamed "
                                 "session in time; their leases will");
}

void cellar_free(struct cellar *c)
{
    if (!c)
        return;
    close_sessions(c);
    if (c->engine)
        c->engine->ops->free(c->engine);
    cellar_journal_close(c->journal);
    if (c->alive_fd >= 0)
        cellar_alive_end(c->state_dir, c->id, c->alive_fd);
    cellar_timer_close(c->settle);
    cellar_wake_close(c->wake);
    cellar_loop_free(c->loop);
    free(c->state_dir);
    free(c->data_dir);
    free(c->host);
    free(c);
}

bool cellar_dispatch(struct cellar *c, int timeout_ms)
{
    (void)cellar_loop_run(c->loop, timeout_ms);
    for (struct cellar_session *s = c->sessions; s; s = s->next)
        if (s->jobs || s->former || s->pending || s->detached ||
            s->opened.done || s->reset.done || s->asked.request ||
            s->phase == CELLAR_PHASE_CLOSING)
            return true;
    return false;
}

int cellar_fd(const struct cellar *c)
{
    return cellar_loop_fd(c->loop);
}

int cellar_timeout(const struct cellar *c)
{
    return cellar_loop_timeout(c->loop);
}
