/* A pool of ready sessions in this process: unnamed ones that nobody has had.
 */
#include <string.h>

#include "fail.h"
#include "session.h"
#include "spec.h"
#include "supervisor_private.h"
#include "wait.h"

/* The first cell of what was taken is not to wait for the next start. */
#define REFILL_MS 20

/* After a failure, and after the next, and so on. */
#define PAUSE_FIRST_MS 500
#define PAUSE_LAST_MS  60000

/* A ready session that ended may end again and again. */
#define GONE_MS 1000

struct place {
    struct cellar_pool *pool;
    struct cellar_session *session; /* NULL: none yet */
    bool starting;
};

struct cellar_pool {
    struct cellar *c;
    struct cellar_spec spec;
    struct cellar_timer *timer; /* NULL: freed, but for starts under way */
    struct place *places;
    size_t size;
    size_t starting;
    uint64_t pause_ms;
    uint64_t taken;
    uint64_t missed;
    struct cellar_error err; /* the last trouble */
};

static void destroy(struct cellar_pool *pool)
{
    cellar_spec_done(&pool->spec);
    free(pool->places);
    free(pool);
}

static void note_trouble(struct cellar_pool *pool,
                         const struct cellar_error *err)
{
    pool->err = *err;
    cellar_supervisor_log(pool->c, "the pool: %s", err->msg);
}

/* ------------------------------------------------------------- filling --- */

static void on_gone(void *user, struct cellar_session *s,
                    const struct cellar_error *err)
{
    struct place *place = user;
    place->session = NULL;
    note_trouble(place->pool, err);
    cellar_timer_set(place->pool->timer, GONE_MS);
    cellar_close(s);
}

static void try_later(struct cellar_pool *pool, const struct cellar_error *err)
{
    note_trouble(pool, err);
    pool->pause_ms = pool->pause_ms ? 2 * pool->pause_ms : PAUSE_FIRST_MS;
    if (pool->pause_ms > PAUSE_LAST_MS)
        pool->pause_ms = PAUSE_LAST_MS;
    cellar_timer_set(pool->timer, pool->pause_ms);
}

static void on_started(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    struct place *place = user;
    struct cellar_pool *pool = place->pool;
    place->starting = false;
    pool->starting--;
    if (!pool->timer) {
        cellar_close(s);
        if (pool->starting == 0)
            destroy(pool);
    } else if (err) {
        try_later(pool, err);
    } else {
        cellar_session_shelve(s);
        place->session = s;
        s->gone = (struct cellar_waiter){on_gone, place};
        pool->pause_ms = 0;
        pool->err.code = CELLAR_OK;
    }
}

static bool begin(struct place *place)
{
    struct cellar_pool *pool = place->pool;
    struct cellar_error err = {0};
    if (cellar_start_async(pool->c, &pool->spec, on_started, place, &err) !=
        CELLAR_OK) {
        try_later(pool, &err);
        return false;
    }
    place->starting = true;
    pool->starting++;
    return true;
}

static void refill(void *user)
{
    struct cellar_pool *pool = user;
    for (size_t i = 0; i < pool->size; i++) {
        struct place *place = &pool->places[i];
        if (!place->session && !place->starting && !begin(place))
            return;
    }
}

/* -------------------------------------------------------------- taking --- */

static bool is_ready(const struct place *place)
{
    const struct cellar_session *s = place->session;
    return s && s->phase == CELLAR_PHASE_LIVE && !s->detached;
}

/* The one that has waited longest: its life is the nearest to its end. */
static struct place *oldest(const struct cellar_pool *pool)
{
    struct place *found = NULL;
    for (size_t i = 0; i < pool->size; i++) {
        struct place *place = &pool->places[i];
        if (is_ready(place) && (!found || place->session->live_since_us <
                                              found->session->live_since_us))
            found = place;
    }
    return found;
}

static enum cellar_code start_one(struct cellar_pool *pool, const char *name,
                                  cellar_session_fn *done, void *user,
                                  struct cellar_error *err)
{
    struct cellar_spec spec = pool->spec;
    spec.name = name;
    enum cellar_code code = cellar_start_async(pool->c, &spec, done, user, err);
    if (code == CELLAR_OK)
        pool->missed++;
    return code;
}

enum cellar_code cellar_pool_take_async(struct cellar_pool *pool,
                                        const char *name,
                                        cellar_session_fn *done, void *user,
                                        struct cellar_error *err)
{
    enum cellar_code code = name ? cellar_name_check(name, err) : CELLAR_OK;
    struct place *place = oldest(pool);
    if (code == CELLAR_OK && !place)
        return start_one(pool, name, done, user, err);
    if (code == CELLAR_OK)
        code = cellar_session_give(place->session, name, done, user, err);
    if (code != CELLAR_OK)
        return code;
    place->session = NULL;
    pool->taken++;
    cellar_timer_set(pool->timer, pool->pause_ms ? pool->pause_ms : REFILL_MS);
    return CELLAR_OK;
}

enum cellar_code cellar_pool_take(struct cellar_pool *pool, const char *name,
                                  struct cellar_session **out,
                                  struct cellar_error *err)
{
    struct cellar *c = pool->c;
    struct cellar_wait wait = {0};
    enum cellar_code code =
        cellar_pool_take_async(pool, name, cellar_wait_session, &wait, err);
    if (code == CELLAR_OK)
        code = cellar_wait_for(c, &wait, err);
    if (code == CELLAR_OK)
        *out = wait.session;
    return code;
}

/* ----------------------------------------------------------- new, free --- */

enum cellar_code cellar_pool_new(struct cellar *c,
                                 const struct cellar_spec *spec, size_t size,
                                 struct cellar_pool **out,
                                 struct cellar_error *err)
{
    enum cellar_code code = cellar_spec_check(spec, err);
    if (code != CELLAR_OK)
        return code;
    if (spec->name || size < 1 || size > CELLAR_POOL_MAX)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "a pool has 1 to %d sessions, without a name",
                           CELLAR_POOL_MAX);
    struct cellar_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    pool->c = c;
    pool->size = size;
    pool->places = calloc(size, sizeof pool->places[0]);
    code = pool->places ? cellar_spec_copy(spec, &pool->spec, err)
                        : cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    if (code == CELLAR_OK)
        code = cellar_timer_new(cellar_supervisor_loop(c), refill, pool,
                                &pool->timer, err);
    if (code != CELLAR_OK) {
        destroy(pool);
        return code;
    }
    for (size_t i = 0; i < size; i++)
        pool->places[i].pool = pool;
    cellar_timer_set(pool->timer, 0);
    *out = pool;
    return CELLAR_OK;
}

void cellar_pool_stats(const struct cellar_pool *pool,
                       struct cellar_pool_stats *stats)
{
    *stats = (struct cellar_pool_stats){
        .size = pool->size,
        .starting = pool->starting,
        .taken = pool->taken,
        .missed = pool->missed,
        .trouble = pool->err.code ? pool->err.msg : NULL};
    for (size_t i = 0; i < pool->size; i++)
        stats->ready += is_ready(&pool->places[i]);
}

void cellar_pool_free(struct cellar_pool *pool)
{
    if (!pool)
        return;
    cellar_timer_close(CELLAR_TAKE(pool->timer));
    for (size_t i = 0; i < pool->size; i++) {
        struct cellar_session *s = CELLAR_TAKE(pool->places[i].session);
        if (s)
            s->gone = (struct cellar_waiter){0};
        cellar_close(s);
    }
    if (pool->starting == 0)
        destroy(pool);
}
