#include "past.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kernel/fail.h"

struct search {
    const char *name;
    uint64_t id; /* 0: the newest */
    struct cellar_pick *pick;
    bool found;
};

#define COPY(to, from) snprintf(to, sizeof(to), "%s", (from) ? (from) : "")

static void look(void *user, const struct cellar_past *past)
{
    struct search *search = user;
    struct cellar_pick *pick = search->pick;
    if (!past->name || strcmp(past->name, search->name) != 0 ||
        (search->id && past->id != search->id))
        return;
    search->found = true;
    pick->id = past->id;
    COPY(pick->name, past->name);
    COPY(pick->image, past->image);
    COPY(pick->python, past->python);
    COPY(pick->ending, past->ending);
    COPY(pick->reason, past->reason);
    pick->created_ms = past->created_ms;
    pick->ended_ms = past->ended_ms;
    pick->cells = past->cells;
}

enum cellar_code cellar_past_pick(struct cellar_front *front,
                                  struct cellar_pick *pick)
{
    const struct cellar_options *options = &front->options;
    struct search search = {
        .name = options->operands[1], .id = options->id, .pick = pick};
    enum cellar_code code =
        cellar_history_sessions(front->c, look, &search, &front->err);
    if (code != CELLAR_OK || search.found)
        return code;
    char id[40] = "";
    if (options->id)
        snprintf(id, sizeof id, " with the id %" PRIu64, options->id);
    return cellar_fail(&front->err, CELLAR_E_NOT_FOUND,
                       "the journal has no session '%s'%s; 'cellar history' "
                       "lists what it has",
                       search.name, id);
}

void cellar_past_when(uint64_t ms, char text[CELLAR_WHEN_MAX])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts = {0};
    if (ms == 0 || !localtime_r(&seconds, &parts) ||
        strftime(text, CELLAR_WHEN_MAX, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        snprintf(text, CELLAR_WHEN_MAX, "-");
}
