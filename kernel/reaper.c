#include "reaper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "record.h"
#include "spec.h"
#include "supervisor.h"

/* Removals under way at once: a machine with hundreds of leavings is not to be
 * busy with them alone. */
#define AT_ONCE 8

/* After this no more removals begin: what is left then is the next one's. */
#define PATIENCE_MS 2000

/* ------------------------------------------------------ who is alive ---- */

static void alive_path(char *path, size_t size, const char *state_dir,
                       const char *id)
{
    (void)snprintf(path, size, "%s/supervisors/%s", state_dir, id);
}

static bool is_id(const char *id)
{
    return strlen(id) == CELLAR_SUPERVISOR_ID_BYTES - 1 &&
           strspn(id, "0123456789abcdef") == CELLAR_SUPERVISOR_ID_BYTES - 1;
}

static bool lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK};
    return fcntl(fd, F_OFD_SETLK, &whole) == 0;
}

/* A descriptor of a locked file, or -1 with errno. Another process's sweep may
 * take the file between its making and its locking: then it has no name any
 * more, and is made again. */
static int make_alive(const char *path)
{
    for (int tries = 0; tries < 64; tries++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return -1;
        if (lock(fd) && access(path, F_OK) == 0)
            return fd;
        close(fd);
        (void)sched_yield();
    }
    errno = EAGAIN;
    return -1;
}

enum cellar_code cellar_alive_begin(const char *state_dir,
                                    char id[CELLAR_SUPERVISOR_ID_BYTES],
                                    int *fd, struct cellar_error *err)
{
    char path[4096 + 64];
    uint8_t random[(CELLAR_SUPERVISOR_ID_BYTES - 1) / 2];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(id, CELLAR_SUPERVISOR_ID_BYTES, random, sizeof random);
    alive_path(path, sizeof path, state_dir, id);
    *fd = make_alive(path);
    return *fd >= 0 ? CELLAR_OK : cellar_fail_errno(err, errno, "%s", path);
}

void cellar_alive_end(const char *state_dir, const char *id, int fd)
{
    char path[4096 + 64];
    alive_path(path, sizeof path, state_dir, id);
    (void)unlink(path);
    close(fd);
}

static bool is_locked(const char *path)
{
    struct flock whole = {.l_type = F_WRLCK};
    CELLAR_AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 &&
           whole.l_type != F_UNLCK;
}

bool cellar_alive_is(const char *state_dir, const char *id)
{
    char path[4096 + 64];
    if (!is_id(id))
        return false;
    alive_path(path, sizeof path, state_dir, id);
    return is_locked(path);
}

/* Under its lock: it may be another process's that has just been made. */
static void sweep_one(const char *path)
{
    CELLAR_AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && lock(fd))
        (void)unlink(path);
}

void cellar_alive_sweep(const char *state_dir)
{
    char path[4096 + 64];
    (void)snprintf(path, sizeof path, "%s/supervisors", state_dir);
    DIR *dir = opendir(path);
    struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir))) {
        if (!is_id(entry->d_name))
            continue;
        alive_path(path, sizeof path, state_dir, entry->d_name);
        sweep_one(path);
    }
    if (dir)
        closedir(dir);
}

/* ------------------------------------------------------------ reaping --- */

/* A container that nobody will miss. */
struct leaving {
    struct leaving *next;
    struct cellar_reaper *reaper;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    char session[CELLAR_NAME_BYTES_MAX + 1];
    bool recorded; /* its session's record tells of it: it gets the reason */
};

struct cellar_reaper {
    struct cellar *c;
    char own[CELLAR_NAME_BYTES_MAX + 1]; /* a name that its user holds */
    struct leaving *left;                /* not looked at yet */
    struct cellar_timer *patience;
    size_t under_way;
    bool running;
    cellar_engine_done_fn *done;
    void *user;
    struct cellar_error err; /* the last failure */
};

static void forget_left(struct cellar_reaper *reaper)
{
    while (reaper->left) {
        struct leaving *leaving = reaper->left;
        reaper->left = leaving->next;
        free(leaving);
    }
}

static void lose_patience(void *user)
{
    forget_left(user);
}

enum cellar_code cellar_reaper_new(struct cellar *c, const char *own,
                                   struct cellar_reaper **out,
                                   struct cellar_error *err)
{
    struct cellar_reaper *reaper = calloc(1, sizeof *reaper);
    if (!reaper)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    reaper->c = c;
    (void)snprintf(reaper->own, sizeof reaper->own, "%s", own ? own : "");
    enum cellar_code code =
        cellar_timer_new(cellar_supervisor_loop(c), lose_patience, reaper,
                         &reaper->patience, err);
    if (code != CELLAR_OK) {
        free(reaper);
        return code;
    }
    *out = reaper;
    return CELLAR_OK;
}

void cellar_reaper_free(struct cellar_reaper *reaper)
{
    if (!reaper)
        return;
    forget_left(reaper);
    cellar_timer_close(reaper->patience);
    free(reaper);
}

static bool has_ended(const struct cellar_container *container)
{
    return !strcmp(container->state, "exited") ||
           !strcmp(container->state, "dead");
}

static bool is_held(const struct cellar_reaper *reaper, const char *name)
{
    return strcmp(name, reaper->own) != 0 &&
           cellar_hold_who(cellar_supervisor_state_dir(reaper->c), name) != 0;
}

/* A damaged record says nothing: what it may tell of is kept. */
static bool is_leaving(const struct cellar_reaper *reaper,
                       const struct cellar_container *container, bool *recorded)
{
    const char *state_dir = cellar_supervisor_state_dir(reaper->c);
    struct cellar_record record = {0};
    struct cellar_error err = {0};
    bool dead = !cellar_alive_is(state_dir, container->supervisor);
    *recorded = false;
    if (cellar_name_check(container->session, NULL) != CELLAR_OK)
        return dead;
    enum cellar_code code =
        cellar_record_load(state_dir, container->session, &record, &err);
    sodium_memzero(record.key, sizeof record.key);
    if (code == CELLAR_OK && !strcmp(record.container, container->id)) {
        *recorded = true;
        return has_ended(container) && !is_held(reaper, container->session);
    }
    if (cellar_record_shares(state_dir, container->session, container->id)) {
        *recorded = true; /* branches of a session that has left */
        return has_ended(container);
    }
    return dead && (code == CELLAR_OK || code == CELLAR_E_NOT_FOUND);
}

bool cellar_reaper_look(struct cellar_reaper *reaper,
                        const struct cellar_container *container)
{
    bool recorded = false;
    if (strcmp(container->owner, cellar_supervisor_owner(reaper->c)) != 0 ||
        !is_leaving(reaper, container, &recorded))
        return false;
    struct leaving *leaving = calloc(1, sizeof *leaving);
    if (!leaving)
        return false;
    *leaving = (struct leaving){
        .next = reaper->left, .reaper = reaper, .recorded = recorded};
    (void)snprintf(leaving->id, sizeof leaving->id, "%s", container->id);
    (void)snprintf(leaving->session, sizeof leaving->session, "%s",
                   container->session);
    reaper->left = leaving;
    return true;
}

static void go_on(struct cellar_reaper *reaper);

static void on_removed(void *user, const struct cellar_error *err)
{
    struct leaving *leaving = user;
    struct cellar_reaper *reaper = leaving->reaper;
    if (err)
        reaper->err = *err;
    free(leaving);
    reaper->under_way--;
    go_on(reaper);
}

static void remove_one(struct leaving *leaving)
{
    struct cellar_engine *engine = cellar_supervisor_engine(leaving->reaper->c);
    struct cellar_error err = {0};
    cellar_supervisor_log(leaving->reaper->c,
                          "removing container %.12s, which a dead process left",
                          leaving->id);
    if (engine->ops->remove(engine, leaving->id, on_removed, leaving, &err) !=
        CELLAR_OK)
        on_removed(leaving, &err);
}

struct reason {
    const struct leaving *leaving;
    const char *text;
};

/* The next who asks for the session is told what became of it; unless somebody
 * has it by now. */
static void keep_reason_of(void *user, const struct cellar_record *record)
{
    const struct reason *reason = user;
    const struct leaving *leaving = reason->leaving;
    const char *state_dir = cellar_supervisor_state_dir(leaving->reaper->c);
    struct cellar_journal *journal =
        cellar_supervisor_journal(leaving->reaper->c, NULL);
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_record now = {0};
    char place[CELLAR_PLACE_MAX];
    if (strcmp(record->container, leaving->id) != 0)
        return;
    cellar_record_place(record, place);
    if (journal)
        (void)!cellar_journal_end_session(journal, place, "lost", reason->text,
                                          NULL);
    if (cellar_hold_take(state_dir, record->name, &hold, NULL) != CELLAR_OK)
        return;
    if (cellar_record_load(state_dir, record->name, &now, NULL) == CELLAR_OK &&
        !strcmp(now.container, leaving->id)) {
        (void)snprintf(now.lost, sizeof now.lost, "%.255s", reason->text);
        (void)!cellar_record_save(&hold, &now, NULL);
    }
    sodium_memzero(now.key, sizeof now.key);
    cellar_hold_tidy(state_dir, record->name, &hold);
}

/* Of the session that the container was started for, and of its branches. */
static void keep_reason(const struct leaving *leaving, const char *text)
{
    struct reason reason = {leaving, text};
    (void)!cellar_record_each(cellar_supervisor_state_dir(leaving->reaper->c),
                              keep_reason_of, &reason, NULL);
}

/* One that was looked for and is said to live is left alone. */
static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    struct leaving *leaving = user;
    struct cellar_error err = {0};
    if (vital == CELLAR_VITAL_GONE) {
        keep_reason(leaving, reason);
        remove_one(leaving);
        return;
    }
    cellar_fail(&err, CELLAR_E_ENGINE, "container %.12s: %s", leaving->id,
                reason);
    on_removed(leaving, &err);
}

static void begin(struct leaving *leaving)
{
    struct cellar_engine *engine = cellar_supervisor_engine(leaving->reaper->c);
    struct cellar_error err = {0};
    if (!leaving->recorded)
        remove_one(leaving);
    else if (engine->ops->diagnose(engine, leaving->id, on_reason, leaving,
                                   &err) != CELLAR_OK)
        on_removed(leaving, &err);
}

/* Takes the next ones; the last one to end tells. `under_way` is kept above 0
 * meanwhile: a call that fails at once comes back here. */
static void go_on(struct cellar_reaper *reaper)
{
    if (reaper->running)
        return;
    reaper->running = true;
    while (reaper->left && reaper->under_way < AT_ONCE) {
        struct leaving *leaving = reaper->left;
        reaper->left = leaving->next;
        reaper->under_way++;
        begin(leaving);
    }
    reaper->running = false;
    if (reaper->under_way > 0)
        return;
    struct cellar_reaper told = *reaper;
    cellar_reaper_free(reaper);
    told.done(told.user, told.err.code ? &told.err : NULL);
}

void cellar_reaper_run(struct cellar_reaper *reaper,
                       cellar_engine_done_fn *done, void *user)
{
    reaper->done = done;
    reaper->user = user;
    cellar_alive_sweep(cellar_supervisor_state_dir(reaper->c));
    cellar_timer_set(reaper->patience, PATIENCE_MS);
    go_on(reaper);
}
