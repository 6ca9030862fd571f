/* What the host asks of a lane's copies, one request at a time. */
#include <string.h>

#include "agent.h"

static bool is_tag(struct cellar_bytes tag, char text[])
{
    memcpy(text, tag.data, tag.len);
    text[tag.len] = '\0';
    return strlen(text) == tag.len;
}

static const char *hindrance_to_any(const struct cellar_lane *lane)
{
    if (lane->cell.phase != CELLAR_CELL_NONE)
        return cellar_refusal_text(CELLAR_REFUSAL_RUNNING);
    return lane->freezer.request > 0 ? cellar_refusal_text(CELLAR_REFUSAL_ASKED)
                                     : NULL;
}

/* Why the worker can't be copied now; NULL: it can. */
const char *cellar_lane_hindrance(const struct cellar_lane *lane)
{
    const char *why = hindrance_to_any(lane);
    return why || (lane->worker.ready && lane->mute_end == 0)
               ? why
               : "the session's Python is not ready";
}

/* A worker that is to be replaced may be in any state: it may have died a
 * moment ago, and another copy be waking in its place. */
static const char *hindrance(const struct cellar_lane *lane, bool to_restore)
{
    if (lane->hello.policy == CELLAR_CHECKPOINT_OFF)
        return "checkpoints are off in this session";
    return to_restore ? hindrance_to_any(lane) : cellar_lane_hindrance(lane);
}

void cellar_lane_refuse(struct cellar_lane *lane, uint64_t request,
                        const char *why)
{
    lane->freezer.asked = lane->agent->now;
    cellar_lane_answer(lane, request, why);
}

void cellar_lane_checkpoint(struct cellar_lane *lane, struct cellar_bytes tag)
{
    struct cellar_freezer *freezer = &lane->freezer;
    char text[CELLAR_CHECKPOINT_TAG_MAX + 1];
    const char *why = is_tag(tag, text) ? hindrance(lane, false) : "no name";
    cellar_lane_settle_copies(lane);
    if (!why && !cellar_copies_find(&lane->copies, text) &&
        cellar_copies_named(&lane->copies) >= CELLAR_CHECKPOINTS_MAX)
        why = cellar_refusal_text(CELLAR_REFUSAL_CHECKPOINTS);
    if (why) {
        cellar_lane_refuse(lane, CELLAR_MSG_CHECKPOINT, why);
        return;
    }
    cellar_lane_freeze(lane); /* what was due before */
    freezer->request = CELLAR_MSG_CHECKPOINT;
    freezer->asked = lane->agent->now;
    freezer->due = true;
    memcpy(freezer->tag, text, sizeof(text));
    cellar_lane_freeze(lane);
}

/* Should it not wake, the newest automatic one is what the session had. */
void cellar_lane_restore(struct cellar_lane *lane, struct cellar_bytes tag)
{
    struct cellar_freezer *freezer = &lane->freezer;
    char text[CELLAR_CHECKPOINT_TAG_MAX + 1];
    const char *why = is_tag(tag, text) ? hindrance(lane, true) : "no name";
    cellar_lane_settle_copies(lane);
    struct cellar_copy *copy = cellar_copies_find(&lane->copies, text);
    if (!why && !copy)
        why = cellar_refusal_text(CELLAR_REFUSAL_NO_SUCH);
    if (why) {
        cellar_lane_refuse(lane, CELLAR_MSG_RESTORE, why);
        return;
    }
    freezer->request = CELLAR_MSG_RESTORE;
    freezer->asked = lane->agent->now;
    freezer->due = false;
    copy->order = ++lane->copies.order;
    cellar_lane_replace_worker(lane);
}

void cellar_lane_drop(struct cellar_lane *lane, struct cellar_bytes tag)
{
    char text[CELLAR_CHECKPOINT_TAG_MAX + 1];
    cellar_lane_settle_copies(lane);
    struct cellar_copy *copy =
        is_tag(tag, text) ? cellar_copies_find(&lane->copies, text) : NULL;
    if (copy)
        cellar_copy_drop(copy);
    cellar_lane_count_copies(lane);
    cellar_lane_refuse(lane, CELLAR_MSG_DROP,
                       copy ? NULL
                            : cellar_refusal_text(CELLAR_REFUSAL_NO_SUCH));
}

static const struct cellar_copy *after_order(const struct cellar_copies *copies,
                                             uint64_t order)
{
    const struct cellar_copy *next = NULL;
    for (size_t i = 0; i < CELLAR_COPY_PLACES; i++) {
        const struct cellar_copy *copy = &copies->all[i];
        if (copy->phase == CELLAR_COPY_FROZEN && copy->order > order &&
            (!next || copy->order < next->order))
            next = copy;
    }
    return next;
}

void cellar_lane_list(struct cellar_lane *lane)
{
    struct cellar_message msg = {.type = CELLAR_MSG_COPIES};
    struct cellar_msg_copies *copies = &msg.u.copies;
    cellar_lane_settle_copies(lane);
    const struct cellar_copy *copy = after_order(&lane->copies, 0);
    for (; copy && copies->count < CELLAR_COPIES_MAX;
         copy = after_order(&lane->copies, copy->order))
        copies->kept[copies->count++] = (struct cellar_kept){
            .tag = {(const uint8_t *)copy->tag, strlen(copy->tag)},
            .after = copy->after,
            .age_ms = (lane->agent->now - copy->taken) / 1000};
    copies->held_bytes = copies->count > 0 ? cellar_agent_held(lane->agent) : 0;
    cellar_lane_post(lane, &msg);
}
