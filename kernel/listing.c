/* Sessions seen from outside: listed. */
#include <string.h>

#include "fail.h"
#include "found.h"
#include "record.h"
#include "spec.h"
#include "supervisor.h"

struct listing {
    struct cellar_finds finds;
    struct cellar_journal *journal; /* NULL: it can't be read */
    bool reserved;                  /* which names it is the turn of */
    cellar_info_fn *each;
    void *user;
};

static const char *state_word(const struct cellar_found *found, bool lost,
                              bool busy)
{
    if (!found || lost ||
        (found->leaving && strcmp(found->state, "running") != 0))
        return "lost";
    if (strcmp(found->state, "running") != 0)
        return found->state;
    return busy ? "busy" : "idle";
}

static uint64_t since(uint64_t then_ms)
{
    uint64_t now = cellar_journal_clock_ms();
    return now > then_ms ? now - then_ms : 0;
}

/* What only the journal knows; without it, somebody who has the session is
 * taken to use it. */
static void add_glance(const struct listing *listing, struct cellar_info *info,
                       const char *place, bool *busy)
{
    struct cellar_journal_glance glance = {0};
    *busy = info->holder != 0;
    info->idle_ms = CELLAR_UNKNOWN;
    if (!listing->journal || cellar_journal_glance(listing->journal, place,
                                                   &glance, NULL) != CELLAR_OK)
        return;
    *busy = glance.running;
    info->idle_ms = glance.running ? 0 : since(glance.last_ms);
    if (glance.cells > info->cells)
        info->cells = glance.cells;
}

static void tell(const struct listing *listing, struct cellar_info *info,
                 const char *place, struct cellar_found *found, bool lost,
                 bool ready)
{
    bool busy = false;
    add_glance(listing, info, place, &busy);
    info->state = ready && !strcmp(found->state, "running")
                      ? "ready"
                      : state_word(found, lost, busy);
    info->memory_bytes =
        found && found->measured ? found->usage.memory_bytes : CELLAR_UNKNOWN;
    if (found)
        found->told = true;
    listing->each(listing->user, info);
}

/* Ready ones, and those that a command uses unnamed. What has ended is the
 * reaper's. */
static void tell_reserved(struct listing *listing,
                          const struct cellar_record *record)
{
    struct cellar_found *found =
        cellar_finds_at(&listing->finds, record->container, "");
    struct cellar_info info = {.name = "",
                               .container = record->container,
                               .image = record->image,
                               .engine = record->engine,
                               .created = record->created};
    if (!found || found->leaving || found->told)
        return;
    tell(listing, &info, record->container, found, false,
         cellar_name_is_ready(record->name));
}

static void tell_record(void *user, const struct cellar_record *record)
{
    struct listing *listing = user;
    if (cellar_name_is_reserved(record->name) != listing->reserved)
        return;
    if (listing->reserved) {
        tell_reserved(listing, record);
        return;
    }
    struct cellar_found *found =
        cellar_finds_at(&listing->finds, record->container, record->name);
    pid_t holder = cellar_hold_who(
        cellar_supervisor_state_dir(listing->finds.c), record->name);
    struct cellar_info info = {.name = record->name,
                               .container =
                                   found ? found->id : record->container,
                               .image = record->image,
                               .engine = record->engine,
                               .created = record->created,
                               .cells = record->cells,
                               .holder = (uint64_t)holder};
    char place[CELLAR_PLACE_MAX];
    cellar_record_place(record, place);
    tell(listing, &info, place, found, record->lost[0] != '\0', false);
}

/* Containers without a record: unnamed sessions of live commands, and those
 * that are being started. */
static void tell_rest(struct listing *listing)
{
    const struct cellar_engine *engine =
        cellar_supervisor_engine(listing->finds.c);
    for (struct cellar_found *f = listing->finds.first; f; f = f->next) {
        bool reserved = cellar_name_is_reserved(f->session);
        struct cellar_info info = {.name = reserved ? "" : f->session,
                                   .container = f->id,
                                   .image = f->image,
                                   .engine =
                                       cellar_engine_name_of(engine, f->id),
                                   .created = f->created};
        if (!f->told && !f->leaving)
            tell(listing, &info, f->id, f, false, false);
    }
}

enum cellar_code cellar_list(struct cellar *c, cellar_info_fn *each, void *user,
                             struct cellar_error *err)
{
    struct listing listing = {.each = each, .user = user};
    enum cellar_code code = cellar_finds_init(&listing.finds, c, err);
    if (code == CELLAR_OK) {
        listing.journal = cellar_supervisor_journal(c, NULL);
        cellar_finds_measure(&listing.finds);
        code = cellar_record_each(cellar_supervisor_state_dir(c), tell_record,
                                  &listing, err);
    }
    listing.reserved = true;
    if (code == CELLAR_OK)
        code = cellar_record_each(cellar_supervisor_state_dir(c), tell_record,
                                  &listing, err);
    if (code == CELLAR_OK) {
        tell_rest(&listing);
        cellar_finds_reap(&listing.finds);
    }
    cellar_finds_done(&listing.finds);
    return code;
}
