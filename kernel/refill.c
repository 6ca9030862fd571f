#include "refill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fail.h"
#include "found.h"
#include "ready.h"
#include "record.h"
#include "session.h"
#include "spec.h"
#include "supervisor.h"

/* Starts at once: a machine that works for its user is not to be busy with
 * this alone. */
#define AT_ONCE 2

/* How long the one who waits does so: what a start may take. */
#define PATIENCE_MS CELLAR_START_MS
#define LOOK_MS     20

/* Nobody may want a session of that pool any more. */
#define TROUBLE_SECONDS (24 * 60 * 60)

/* ---------------------------------------------------------- whose turn --- */

enum turn { WAITER, WORKER };

static bool lock(int fd, enum turn turn, short type)
{
    struct flock byte = {.l_type = type, .l_start = (off_t)turn, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &byte) == 0;
}

static void pool_path(char *path, size_t size, const char *state_dir,
                      const char *key)
{
    (void)snprintf(path, size, "%s/pools/%s", state_dir, key);
}

static int open_pool(const char *state_dir, const char *key,
                     struct cellar_error *err)
{
    char path[4096 + 64];
    pool_path(path, sizeof path, state_dir, "");
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        cellar_fail_errno(err, errno, "%s", path);
        return -1;
    }
    pool_path(path, sizeof path, state_dir, key);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        cellar_fail_errno(err, errno, "%s", path);
    return fd;
}

static bool wait_for_lock(int fd, enum turn turn, int *ms)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    while (!lock(fd, turn, F_WRLCK)) {
        if ((*ms -= LOOK_MS) < 0)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

/* False: somebody else waits, who will see what we saw, if that is enough; or
 * the one before does not come to an end. */
static bool take_turn(int fd, bool leave)
{
    int ms = PATIENCE_MS;
    if (leave ? !lock(fd, WAITER, F_WRLCK) : !wait_for_lock(fd, WAITER, &ms))
        return false;
    bool mine = wait_for_lock(fd, WORKER, &ms);
    /* From here on whoever comes waits: he may know of more than we count. */
    (void)lock(fd, WAITER, F_UNLCK);
    return mine;
}

static void write_trouble(int fd, const struct cellar_spec *spec,
                          const struct cellar_error *err)
{
    char text[CELLAR_TROUBLE_MAX];
    (void)!ftruncate(fd, 0);
    if (!err)
        return;
    int n = snprintf(text, sizeof text, "%lld %.100s: %.450s",
                     (long long)time(NULL), spec->image, err->msg);
    (void)!pwrite(fd, text, (size_t)n, 0);
}

/* ------------------------------------------------------ what there is ---- */

/* Recorded as this container's, and not lost: a start that was cut off is the
 * reaper's. */
static bool is_recorded(struct cellar *c, const struct cellar_found *found)
{
    struct cellar_record record = {0};
    bool is = cellar_record_load(cellar_supervisor_state_dir(c), found->session,
                                 &record, NULL) == CELLAR_OK &&
              !strcmp(record.container, found->id) && !record.lost[0];
    sodium_memzero(record.key, sizeof record.key);
    return is;
}

static bool fits(struct cellar *c, const struct cellar_found *found,
                 const char *key)
{
    struct cellar_container container = {
        .session = found->session,
        .owner = cellar_supervisor_owner(c),
        .image = found->image,
        .state = found->state,
    };
    return !found->leaving &&
           cellar_ready_fits(&container, container.owner, key) &&
           is_recorded(c, found);
}

/* Its record goes first: from then on nobody can take it. */
static enum cellar_code remove_ready(struct cellar *c,
                                     const struct cellar_found *found,
                                     size_t *removed, struct cellar_error *err)
{
    const char *state_dir = cellar_supervisor_state_dir(c);
    struct cellar_engine *engine = cellar_supervisor_engine(c);
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    struct cellar_wait wait = {0};
    /* Taken just now, or being made. */
    if (!is_recorded(c, found) ||
        cellar_hold_take(state_dir, found->session, &hold, NULL) != CELLAR_OK)
        return CELLAR_OK;
    bool still = is_recorded(c, found);
    if (still)
        cellar_record_remove(state_dir, found->session, &hold);
    cellar_hold_tidy(state_dir, found->session, &hold);
    if (!still)
        return CELLAR_OK;
    (*removed)++;
    enum cellar_code code =
        engine->ops->remove(engine, found->id, cellar_wait_done, &wait, err);
    return code == CELLAR_OK ? cellar_wait_for(c, &wait, err) : code;
}

static bool is_of_others(struct cellar *c, const struct cellar_found *found,
                         const char *key)
{
    return !found->leaving && cellar_name_is_ready(found->session) &&
           !cellar_ready_is_of(found->session, key) && is_recorded(c, found);
}

static void count_ready(const struct cellar_finds *finds, const char *key,
                        struct cellar_refilled *told)
{
    for (struct cellar_found *f = finds->first; f; f = f->next) {
        told->ready += fits(finds->c, f, key);
        told->others += is_of_others(finds->c, f, key);
    }
}

/* What is to go, of those that were counted; the oldest are found first. */
static enum cellar_code trim(const struct cellar_finds *finds, const char *key,
                             const struct cellar_refill_ask *ask,
                             struct cellar_refilled *told,
                             struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (struct cellar_found *f = finds->first; f && code == CELLAR_OK;
         f = f->next) {
        bool fit = fits(finds->c, f, key);
        bool other = is_of_others(finds->c, f, key);
        bool surplus = fit && !ask->at_least && told->ready > ask->size;
        bool stale = !fit && !f->leaving && cellar_ready_is_of(f->session, key);
        if (!surplus && !stale && !(other && ask->only))
            continue;
        code = remove_ready(finds->c, f, &told->removed, err);
        told->ready -= surplus;
        told->others -= other;
    }
    return code;
}

static enum cellar_code survey(struct cellar *c, const char *key,
                               const struct cellar_refill_ask *ask,
                               struct cellar_refilled *told,
                               struct cellar_error *err)
{
    struct cellar_finds finds = {0};
    enum cellar_code code = cellar_finds_init(&finds, c, err);
    if (code == CELLAR_OK) {
        count_ready(&finds, key, told);
        code = trim(&finds, key, ask, told, err);
    }
    if (code == CELLAR_OK)
        cellar_finds_reap(&finds);
    cellar_finds_done(&finds);
    return code;
}

/* ------------------------------------------------------------- filling --- */

struct filling {
    struct cellar *c;
    struct cellar_spec spec;
    const char *key;
    int fd; /* of the pool */
    const struct cellar_refill_ask *ask;
    struct cellar_refilled *told;
    size_t under_way;
    struct cellar_error err; /* the first failure */
};

/* Whoever empties all pools takes their files away. */
static bool is_emptied(const struct filling *filling)
{
    struct stat st;
    return fstat(filling->fd, &st) != 0 || st.st_nlink == 0;
}

static void on_stopped(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct filling *filling = user;
    (void)s;
    (void)err;
    filling->under_way--;
}

/* Let go of, it stands there for anybody; unless nobody wants it any more. */
static void let_stand(struct filling *filling, struct cellar_session *s)
{
    if (is_emptied(filling) &&
        cellar_stop_async(s, on_stopped, filling, NULL) == CELLAR_OK) {
        filling->under_way++;
        return;
    }
    filling->told->ready++;
    cellar_close(s);
}

static void on_started(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct filling *filling = user;
    filling->under_way--;
    if (err && filling->err.code == CELLAR_OK)
        filling->err = *err;
    if (!err)
        let_stand(filling, s);
}

static void begin_some(struct filling *filling)
{
    while (filling->err.code == CELLAR_OK && !is_emptied(filling) &&
           filling->under_way < AT_ONCE &&
           filling->told->ready + filling->under_way < filling->ask->size) {
        char name[CELLAR_NAME_BYTES_MAX + 1];
        cellar_ready_name(filling->key, name);
        filling->spec.name = name;
        if (cellar_session_start(filling->c, &filling->spec, on_started,
                                 filling, &filling->err) == CELLAR_OK)
            filling->under_way++;
    }
}

static enum cellar_code fill(struct filling *filling, struct cellar_error *err)
{
    enum cellar_code code =
        survey(filling->c, filling->key, filling->ask, filling->told, err);
    if (code != CELLAR_OK)
        return code;
    begin_some(filling);
    while (filling->under_way > 0) {
        (void)cellar_dispatch(filling->c, -1);
        begin_some(filling);
    }
    if (filling->err.code != CELLAR_OK)
        *err = filling->err;
    return filling->err.code;
}

static enum cellar_code fill_in_turn(struct filling *filling,
                                     struct cellar_error *err)
{
    struct cellar_error why = {0};
    const struct cellar_refill_ask *ask = filling->ask;
    if (!take_turn(filling->fd, ask->at_least)) {
        filling->told->ready = ask->size;
        return ask->at_least
                   ? CELLAR_OK
                   : cellar_fail(err, CELLAR_E_BUSY,
                                 "another command fills this pool, for more "
                                 "than %d s now; try again later",
                                 PATIENCE_MS / 1000);
    }
    enum cellar_code code = fill(filling, &why);
    write_trouble(filling->fd, &filling->spec, code == CELLAR_OK ? NULL : &why);
    if (code != CELLAR_OK && err)
        *err = why;
    return code;
}

enum cellar_code cellar_refill(struct cellar *c, const struct cellar_spec *spec,
                               const struct cellar_refill_ask *ask,
                               struct cellar_refilled *told,
                               struct cellar_error *err)
{
    char key[CELLAR_READY_KEY_BYTES];
    if (ask->size > CELLAR_READY_MAX)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "a pool has up to %d ready sessions",
                           CELLAR_READY_MAX);
    enum cellar_code code = cellar_spec_check(spec, err);
    if (code != CELLAR_OK)
        return code;
    cellar_ready_key(c, spec, key);
    CELLAR_AUTO_CLOSE int fd =
        open_pool(cellar_supervisor_state_dir(c), key, err);
    if (fd < 0)
        return CELLAR_E_SYS;
    *told = (struct cellar_refilled){0};
    struct filling filling = {
        .c = c, .spec = *spec, .key = key, .fd = fd, .ask = ask, .told = told};
    return fill_in_turn(&filling, err);
}

/* ------------------------------------------------------------ emptying --- */

static enum cellar_code clear_found(struct cellar_finds *finds, size_t *removed,
                                    struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (struct cellar_found *f = finds->first; f && code == CELLAR_OK;
         f = f->next)
        if (cellar_name_is_ready(f->session) && !f->leaving)
            code = remove_ready(finds->c, f, removed, err);
    return code;
}

/* Records whose containers somebody else has removed. */
static void forget_record(void *user, const struct cellar_record *record)
{
    struct cellar *c = user;
    const char *state_dir = cellar_supervisor_state_dir(c);
    const char *engine =
        cellar_engine_name_of(cellar_supervisor_engine(c), record->container);
    struct cellar_hold hold = CELLAR_HOLD_NONE;
    if (!cellar_name_is_ready(record->name) ||
        strcmp(record->engine, engine) != 0 ||
        cellar_hold_take(state_dir, record->name, &hold, NULL) != CELLAR_OK)
        return;
    struct cellar_record now = {0};
    if (cellar_record_load(state_dir, record->name, &now, NULL) == CELLAR_OK)
        cellar_record_remove(state_dir, record->name, &hold);
    sodium_memzero(now.key, sizeof now.key);
    cellar_hold_tidy(state_dir, record->name, &hold);
}

/* Who fills one just now sees it, and ends. */
static void forget_pools(const char *state_dir)
{
    char path[4096 + 64];
    struct dirent *entry = NULL;
    pool_path(path, sizeof path, state_dir, "");
    DIR *dir = opendir(path);
    while (dir && (entry = readdir(dir)))
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
}

enum cellar_code cellar_ready_clear(struct cellar *c, size_t *removed,
                                    struct cellar_error *err)
{
    struct cellar_finds finds = {0};
    *removed = 0;
    forget_pools(cellar_supervisor_state_dir(c));
    enum cellar_code code = cellar_finds_init(&finds, c, err);
    if (code == CELLAR_OK)
        code = clear_found(&finds, removed, err);
    if (code == CELLAR_OK)
        code = cellar_record_each(cellar_supervisor_state_dir(c), forget_record,
                                  c, err);
    if (code == CELLAR_OK)
        cellar_finds_reap(&finds);
    cellar_finds_done(&finds);
    return code;
}

/* ------------------------------------------------------------- trouble --- */

bool cellar_refill_trouble(const char *state_dir, const char *key,
                           char text[CELLAR_TROUBLE_MAX])
{
    char path[4096 + 64];
    char line[CELLAR_TROUBLE_MAX] = "";
    char *end = line;
    pool_path(path, sizeof path, state_dir, key);
    CELLAR_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || read(fd, line, sizeof line - 1) <= 0)
        return false;
    long long then = strtoll(line, &end, 10);
    long long ago = (long long)time(NULL) - then;
    if (end == line || *end != ' ' || ago > TROUBLE_SECONDS)
        return false;
    (void)snprintf(text, CELLAR_TROUBLE_MAX,
                   "could not be filled, %lld s ago: %.540s", ago > 0 ? ago : 0,
                   end + 1);
    return true;
}

void cellar_refill_troubles(const char *state_dir,
                            void (*each)(void *user, const char *text),
                            void *user)
{
    char path[4096 + 64];
    char text[CELLAR_TROUBLE_MAX];
    pool_path(path, sizeof path, state_dir, "");
    DIR *dir = opendir(path);
    struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir)))
        if (strlen(entry->d_name) == CELLAR_READY_KEY_BYTES - 1 &&
            cellar_refill_trouble(state_dir, entry->d_name, text))
            each(user, text);
    if (dir)
        closedir(dir);
}
