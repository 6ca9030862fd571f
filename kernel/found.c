#include "found.h"

#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "supervisor.h"

static void collect(void *user, const struct cellar_container *container)
{
    struct cellar_finds *finds = user;
    if (strcmp(container->owner, cellar_supervisor_owner(finds->c)) != 0)
        return;
    struct cellar_found *found = calloc(1, sizeof *found);
    if (!found)
        return;
    (void)snprintf(found->id, sizeof found->id, "%s", container->id);
    (void)snprintf(found->session, sizeof found->session, "%s",
                   container->session);
    (void)snprintf(found->image, sizeof found->image, "%s", container->image);
    (void)snprintf(found->state, sizeof found->state, "%s", container->state);
    found->created = container->created;
    found->leaving = cellar_reaper_look(finds->reaper, container);
    found->finds = finds;
    found->next = finds->first;
    finds->first = found;
}

static void on_listed(void *user, const struct cellar_error *err)
{
    struct cellar_finds *finds = user;
    cellar_wait_done(&finds->wait, err);
}

enum cellar_code cellar_finds_init(struct cellar_finds *finds, struct cellar *c,
                                   struct cellar_error *err)
{
    struct cellar_engine *engine = cellar_supervisor_engine(c);
    *finds = (struct cellar_finds){.c = c};
    enum cellar_code code = cellar_reaper_new(c, NULL, &finds->reaper, err);
    if (code == CELLAR_OK)
        code = engine->ops->list(engine, collect, on_listed, finds, err);
    return code == CELLAR_OK ? cellar_wait_for(c, &finds->wait, err) : code;
}

void cellar_finds_done(struct cellar_finds *finds)
{
    while (finds->first) {
        struct cellar_found *found = finds->first;
        finds->first = found->next;
        free(found);
    }
    cellar_reaper_free(finds->reaper);
}

/* ---------------------------------------------------------- measuring -- */

static void on_usage(void *user, const struct cellar_usage *usage,
                     const struct cellar_error *err)
{
    struct cellar_found *found = user;
    found->measured = usage != NULL;
    if (usage)
        found->usage = *usage;
    else
        found->usage_err = *err;
    if (--found->finds->measuring == 0)
        found->finds->wait.done = true;
}

static void begin_measure(struct cellar_found *found)
{
    struct cellar_engine *engine = cellar_supervisor_engine(found->finds->c);
    found->finds->measuring++;
    if (engine->ops->usage(engine, found->id, on_usage, found,
                           &found->usage_err) != CELLAR_OK)
        found->finds->measuring--;
}

static void await_measures(struct cellar_finds *finds)
{
    if (finds->measuring > 0)
        (void)cellar_wait_for(finds->c, &finds->wait, NULL);
}

void cellar_finds_measure(struct cellar_finds *finds)
{
    finds->wait = (struct cellar_wait){0};
    for (struct cellar_found *f = finds->first; f; f = f->next)
        if (!strcmp(f->state, "running"))
            begin_measure(f);
    await_measures(finds);
}

void cellar_found_measure(struct cellar_finds *finds,
                          struct cellar_found *found)
{
    finds->wait = (struct cellar_wait){0};
    begin_measure(found);
    await_measures(finds);
}

/* ------------------------------------------------------------- reaping -- */

void cellar_finds_reap(struct cellar_finds *finds)
{
    struct cellar_error err = {0};
    finds->wait = (struct cellar_wait){0};
    cellar_reaper_run(CELLAR_TAKE(finds->reaper), cellar_wait_done,
                      &finds->wait);
    if (cellar_wait_for(finds->c, &finds->wait, &err) != CELLAR_OK)
        cellar_supervisor_log(finds->c, "removing what a dead process left: %s",
                              err.msg);
}

struct cellar_found *cellar_finds_at(const struct cellar_finds *finds,
                                     const char *id, const char *session)
{
    for (struct cellar_found *f = finds->first; f; f = f->next)
        if (!strcmp(f->id, id))
            return f;
    for (struct cellar_found *f = finds->first; f; f = f->next)
        if (session[0] && !strcmp(f->session, session))
            return f;
    return NULL;
}
