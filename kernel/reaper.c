#include "reaper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fail.h"
#include "ready.h"
#include "record.h"
#include "session.h"
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

/* What the state directory has recorded, read once: by whom a container is
 * known. */
struct known {
    char name[CELLAR_NAME_BYTES_MAX + 1];
    char container[CELLAR_CONTAINER_ID_MAX + 1]; /* "": it is damaged */
    uint64_t created;
    bool ours; /* of this engine */
    bool branch, lost;
    bool seen; /* its container is there */
};

/* A container that nobody will miss. */
struct leaving {
    struct leaving *next;
    struct cellar_reaper *reaper;
    char id[CELLAR_CONTAINER_ID_MAX + 1];
    char taken[CELLAR_NAME_BYTES_MAX + 1]; /* the record of who used it unnamed,
                                              and has died; or "" */
    bool recorded; /* its session's record tells of it: it gets the reason */
};

struct cellar_reaper {
    struct cellar *c;
    char own[CELLAR_NAME_BYTES_MAX + 1]; /* a name that its user holds */
    struct leaving *left;                /* not looked at yet */
    struct known *known;
    size_t known_count;
    bool known_read; /* or tried to be */
    bool blind;      /* what is recorded can't be told */
    uint64_t began;  /* seconds since 1970 */
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
    reaper->began = (uint64_t)time(NULL);
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
    free(reaper->known);
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

static void note_known(void *user, const struct cellar_record *record)
{
    struct cellar_reaper *reaper = user;
    const struct cellar_engine *engine = cellar_supervisor_engine(reaper->c);
    struct known *grown = realloc(reaper->known, (reaper->known_count + 1) *
                                                     sizeof reaper->known[0]);
    if (!grown) {
        reaper->blind = true;
        return;
    }
    reaper->known = grown;
    struct known *known = &grown[reaper->known_count++];
    const char *theirs = cellar_engine_name_of(engine, record->container);
    *known =
        (struct known){.created = record->created,
                       .ours = !strcmp(record->engine, theirs) &&
                               cellar_engine_listed(engine, record->container),
                       .branch = record->lane > 0,
                       .lost = record->lost[0] != '\0'};
    (void)snprintf(known->name, sizeof known->name, "%s", record->name);
    (void)snprintf(known->container, sizeof known->container, "%s",
                   record->container);
}

static void read_known(struct cellar_reaper *reaper)
{
    const char *state_dir = cellar_supervisor_state_dir(reaper->c);
    free(CELLAR_TAKE(reaper->known));
    reaper->known_count = 0;
    reaper->known_read = true;
    reaper->blind = false;
    if (cellar_record_each(state_dir, note_known, reaper, NULL) != CELLAR_OK)
        reaper->blind = true;
}

/* The session that the container was made for, or else a branch that lives
 * there; or NULL. */
static struct known *known_at(struct cellar_reaper *reaper, const char *id)
{
    struct known *found = NULL;
    for (size_t i = 0; i < reaper->known_count; i++) {
        struct known *known = &reaper->known[i];
        if (strcmp(known->container, id) != 0 || (known->branch && known->lost))
            continue;
        known->seen = true;
        if (!found || !known->branch)
            found = known;
    }
    return found;
}

/* A damaged record says nothing: what it may tell of is kept. That of a session
 * which was taken from a pool may tell of any container that has no name. */
static bool may_be_of_damaged(const struct cellar_reaper *reaper,
                              const struct cellar_container *container)
{
    bool named = cellar_name_check(container->session, NULL) == CELLAR_OK;
    for (size_t i = 0; i < reaper->known_count; i++)
        if (!reaper->known[i].container[0] &&
            (named ? !strcmp(reaper->known[i].name, container->session)
                   : !has_ended(container)))
            return true;
    return false;
}

static bool is_leaving(struct cellar_reaper *reaper,
                       const struct cellar_container *container,
                       struct leaving *leaving)
{
    const char *state_dir = cellar_supervisor_state_dir(reaper->c);
    if (!reaper->known_read)
        read_known(reaper);
    if (reaper->blind)
        return false;
    const struct known *known = known_at(reaper, container->id);
    if (!known)
        return !cellar_alive_is(state_dir, container->supervisor) &&
               !may_be_of_damaged(reaper, container);
    if (cellar_name_is_taken(known->name)) {
        (void)snprintf(leaving->taken, sizeof leaving->taken, "%s",
                       known->name);
        return !is_held(reaper, known->name);
    }
    leaving->recorded = true;
    return has_ended(container) &&
           (known->branch || !is_held(reaper, known->name));
}

bool cellar_reaper_look(struct cellar_reaper *reaper,
                        const struct cellar_container *container)
{
    struct leaving found = {.reaper = reaper};
    if (strcmp(container->owner, cellar_supervisor_owner(reaper->c)) != 0 ||
        !is_leaving(reaper, container, &found))
        return false;
    struct leaving *leaving = calloc(1, sizeof *leaving);
    if (!leaving)
        return false;
    *leaving = found;
    leaving->next = reaper->left;
    (void)snprintf(leaving->id, sizeof leaving->id, "%s", container->id);
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
    if (cellar_record_load(state_dir, record->name, &now, NULL) != CELLAR_OK ||
        strcmp(now.container, leaving->id) != 0) {
        /* it is another's now */
    } else if (cellar_name_is_reserved(record->name)) {
        cellar_record_remove(state_dir, record->name, &hold);
    } else {
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

/* Nobody takes up what was taken: its record goes first, so that nothing tells
 * of a container that is gone. */
static void forget_taken(const struct leaving *leaving)
{
    const char *state_dir = cellar_supervisor_state_dir(leaving->reaper->c);
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    if (cellar_hold_take(state_dir, leaving->taken, &hold, NULL) == CELLAR_OK)
        cellar_record_remove(state_dir, leaving->taken, &hold);
    cellar_hold_done(&hold);
}

static void begin(struct leaving *leaving)
{
    struct cellar_engine *engine = cellar_supervisor_engine(leaving->reaper->c);
    struct cellar_error err = {0};
    if (leaving->taken[0])
        forget_taken(leaving);
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

/* One that was being moved while the records were read was missed then: a
 * session moves once, so a second reading finds it. */
static void look_again(struct cellar_reaper *reaper)
{
    bool unsure = false;
    for (struct leaving *leaving = reaper->left; leaving;
         leaving = leaving->next)
        unsure |= !leaving->recorded && !leaving->taken[0];
    if (!unsure)
        return;
    read_known(reaper);
    for (struct leaving **at = &reaper->left; *at;) {
        struct leaving *leaving = *at;
        bool nobodys = leaving->recorded || leaving->taken[0] ||
                       (!reaper->blind && !known_at(reaper, leaving->id));
        if (nobodys) {
            at = &leaving->next;
            continue;
        }
        *at = leaving->next;
        free(leaving);
    }
}

/* A ready session, or one that was used unnamed, whose container is gone. One
 * that was made after the engine was asked is not among the containers that
 * were seen. */
static void sweep_gone(struct cellar_reaper *reaper)
{
    const char *state_dir = cellar_supervisor_state_dir(reaper->c);
    for (size_t i = 0; i < reaper->known_count; i++) {
        const struct known *known = &reaper->known[i];
        struct cellar_hold hold = CELLAR_HOLD_NONE;
        struct cellar_record now = {0};
        bool old = known->created + CELLAR_START_MS / 1000 < reaper->began;
        if (known->seen || !known->ours || !old ||
            !cellar_name_is_reserved(known->name) ||
            cellar_hold_take(state_dir, known->name, &hold, NULL) != CELLAR_OK)
            continue;
        if (cellar_record_load(state_dir, known->name, &now, NULL) ==
                CELLAR_OK &&
            !strcmp(now.container, known->container))
            cellar_record_remove(state_dir, known->name, &hold);
        sodium_memzero(now.key, sizeof now.key);
        cellar_hold_tidy(state_dir, known->name, &hold);
    }
}

void cellar_reaper_run(struct cellar_reaper *reaper,
                       cellar_engine_done_fn *done, void *user)
{
    reaper->done = done;
    reaper->user = user;
    if (!reaper->known_read)
        read_known(reaper);
    if (!reaper->blind)
        sweep_gone(reaper);
    look_again(reaper);
    cellar_alive_sweep(cellar_supervisor_state_dir(reaper->c));
    cellar_ready_sweep(cellar_supervisor_state_dir(reaper->c));
    cellar_timer_set(reaper->patience, PATIENCE_MS);
    go_on(reaper);
}
