#include "result.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fail.h"
#include "utf8.h"

/* Text from here on is worth large pages of memory, which are 2 MiB. */
#define FLOOD_BYTES (4u << 20)

enum cellar_code cellar_collect_init(struct cellar_collect *collect,
                                     uint64_t cell,
                                     const struct cellar_limits *limits)
{
    struct cellar_result *result = calloc(1, sizeof *result);
    if (!result)
        return CELLAR_E_NOMEM;
    result->cell = cell;
    *collect = (struct cellar_collect){.result = result, .limits = *limits};
    for (int i = 0; i < 2; i++)
        cellar_buf_init(&collect->streams[i], limits->output_bytes);
    return CELLAR_OK;
}

void cellar_collect_done(struct cellar_collect *collect)
{
    for (int i = 0; i < 2; i++)
        cellar_buf_done(&collect->streams[i]);
    cellar_result_free(CELLAR_TAKE(collect->result));
}

/* A flood's text is written to once, page after page of new memory: of large
 * ones there are 512 times fewer for the kernel to bring. The whole block, its
 * allocator's first bytes too: a part would make two mappings of it, which
 * could not grow as one. */
static void ask_for_large_pages(const struct cellar_buf *buf)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)buf->data & ~(page - 1);
    uintptr_t end = ((uintptr_t)buf->data + buf->size + page - 1) & ~(page - 1);
    (void)madvise((void *)start, end - start, MADV_HUGEPAGE);
}

size_t cellar_collect_output(struct cellar_collect *collect, int stream,
                             const uint8_t *data, size_t len)
{
    struct cellar_buf *buf = &collect->streams[stream == 2];
    size_t held = cellar_buf_len(&collect->streams[0]) +
                  cellar_buf_len(&collect->streams[1]);
    uint64_t max = collect->limits.output_bytes;
    size_t room = held < max ? (size_t)(max - held) : 0;
    size_t kept = len < room ? len : room;
    size_t size = buf->size;
    if (cellar_buf_append(buf, data, kept) != CELLAR_OK)
        kept = 0;
    if (buf->size > size && buf->size >= FLOOD_BYTES)
        ask_for_large_pages(buf);
    collect->dropped += len - kept;
    return kept;
}

/* ------------------------------------------------------ MIME bundles -- */

static void free_parts(struct cellar_part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((char *)parts[i].type);
        free((char *)parts[i].data);
    }
    free(parts);
}

static bool mend_part(struct cellar_part *part,
                      const struct cellar_mime_part *from)
{
    part->type =
        cellar_utf8_mend((const char *)from->type.data, from->type.len, NULL);
    part->data = cellar_utf8_mend((const char *)from->data.data, from->data.len,
                                  &part->len);
    return part->type && part->data;
}

/* NULL: out of memory. */
static struct cellar_part *copy_parts(const struct cellar_mime_part *from,
                                      size_t count)
{
    struct cellar_part *parts = calloc(count, sizeof *parts);
    for (size_t i = 0; parts && i < count; i++) {
        if (!mend_part(&parts[i], &from[i])) {
            free_parts(parts, count);
            return NULL;
        }
    }
    return parts;
}

void cellar_collect_display(struct cellar_collect *collect,
                            const struct cellar_msg_display *display)
{
    struct cellar_result *result = collect->result;
    struct cellar_part *parts = NULL;
    void *grown = NULL;
    if (result->display_count < CELLAR_DISPLAYS_MAX)
        grown = realloc(result->displays, (result->display_count + 1) *
                                              sizeof result->displays[0]);
    if (grown) {
        result->displays = grown;
        parts = copy_parts(display->parts, display->count);
    }
    if (!parts) {
        result->truncated = true;
        return;
    }
    result->displays[result->display_count].parts = parts;
    result->displays[result->display_count].count = display->count;
    result->display_count++;
}

/* ------------------------------------------------------------ endings -- */

static char *mend(struct cellar_bytes bytes, size_t *len)
{
    return cellar_utf8_mend((const char *)bytes.data, bytes.len, len);
}

static uint64_t limit_value(const struct cellar_limits *limits,
                            enum cellar_limit limit)
{
    switch (limit) {
    case CELLAR_LIMIT_TIMEOUT:
        return limits->timeout_ms;
    case CELLAR_LIMIT_MEMORY:
        return limits->memory_bytes;
    case CELLAR_LIMIT_OUTPUT:
        return limits->output_bytes;
    case CELLAR_LIMIT_LIFETIME:
        return limits->lifetime_ms;
    default:
        return 0;
    }
}

static enum cellar_code finish_error(struct cellar_result *result,
                                     const struct cellar_msg_done *done)
{
    result->error_name = mend(done->error_name, NULL);
    result->error_message = mend(done->error_message, NULL);
    result->traceback = mend(done->traceback, NULL);
    if (!result->error_name || !result->error_message || !result->traceback)
        return CELLAR_E_NOMEM;
    return CELLAR_OK;
}

/* A cell that its worker answered had that worker's globals all along: what
 * became of them came before. */
static char *reason_of(const struct cellar_result *result)
{
    bool answered = result->status == CELLAR_STATUS_OK ||
                    result->status == CELLAR_STATUS_ERROR;
    return answered && result->state != CELLAR_STATE_KEPT
               ? strdup("the session's Python ended before this cell")
               : NULL;
}

enum cellar_code cellar_collect_finish(struct cellar_collect *collect,
                                       const struct cellar_msg_done *done)
{
    struct cellar_result *result = collect->result;
    result->status = (enum cellar_status)done->status;
    result->state = (enum cellar_state)done->state;
    result->restored_from = done->restored_from;
    result->reason = reason_of(result);
    result->checkpoint = (enum cellar_taken)done->checkpoint;
    result->limit = (enum cellar_limit)done->limit;
    result->exit_code =
        result->status == CELLAR_STATUS_EXITED ? (int)done->code : 0;
    result->signal =
        result->status == CELLAR_STATUS_KILLED ? (int)done->code : 0;
    result->wall_us = done->wall_us;
    result->cpu_us = done->cpu_us;
    result->peak_memory_bytes = done->peak_memory_bytes;
    collect->dropped += done->dropped_stdout + done->dropped_stderr;
    if (result->checkpoint == CELLAR_TAKEN_NO) {
        result->checkpoint_why = mend(done->checkpoint_why, NULL);
        if (!result->checkpoint_why)
            return CELLAR_E_NOMEM;
    }
    if (done->parts > 0) {
        result->result = copy_parts(done->result, done->parts);
        result->result_count = result->result ? done->parts : 0;
        if (!result->result)
            return CELLAR_E_NOMEM;
    }
    return done->has_error ? finish_error(result, done) : CELLAR_OK;
}

enum cellar_code cellar_collect_part(struct cellar_collect *collect,
                                     const char *type, const char *data,
                                     size_t len)
{
    struct cellar_result *result = collect->result;
    const struct cellar_mime_part from = {{(const uint8_t *)type, strlen(type)},
                                          {(const uint8_t *)data, len}};
    struct cellar_part part = {0};
    if (result->result_count >= CELLAR_MIME_MAX)
        return CELLAR_E_LIMIT;
    struct cellar_part *grown =
        realloc(result->result, (result->result_count + 1) * sizeof *grown);
    if (!grown)
        return CELLAR_E_NOMEM;
    result->result = grown;
    /* Counted also when it is half made: it is freed with the others. */
    bool fine = mend_part(&part, &from);
    memcpy(&grown[result->result_count++], &part, sizeof part);
    return fine ? CELLAR_OK : CELLAR_E_NOMEM;
}

void cellar_collect_end(struct cellar_collect *collect,
                        enum cellar_status status, enum cellar_state state,
                        const char *reason)
{
    struct cellar_result *result = collect->result;
    result->status = status;
    result->state = state;
    result->signal = status == CELLAR_STATUS_KILLED ? 9 : 0;
    result->reason =
        reason ? cellar_utf8_mend(reason, strlen(reason), NULL) : NULL;
}

/* Text that is sound is handed over: a copy would double what a cell that
 * floods takes of the host's memory. */
static char *take_stream(struct cellar_buf *buf, size_t *len)
{
    const char *held = (const char *)cellar_buf_peek(buf);
    size_t held_len = cellar_buf_len(buf);
    char *text = NULL;
    if (cellar_utf8_valid(held, held_len)) {
        text = cellar_buf_take(buf);
        *len = text ? held_len : 0;
    } else {
        text = cellar_utf8_mend(held, held_len, len);
    }
    cellar_buf_done(buf);
    return text;
}

struct cellar_result *cellar_collect_take(struct cellar_collect *collect)
{
    struct cellar_result *result = CELLAR_TAKE(collect->result);
    result->stdout_text =
        take_stream(&collect->streams[0], &result->stdout_len);
    result->stderr_text =
        take_stream(&collect->streams[1], &result->stderr_len);
    result->dropped_bytes = collect->dropped;
    /* What could not be copied is missing, and marked like what was cut. */
    if (collect->dropped || !result->stdout_text || !result->stderr_text)
        result->truncated = true;
    if (collect->dropped && result->limit == CELLAR_LIMIT_NONE)
        result->limit = CELLAR_LIMIT_OUTPUT;
    result->limit_value = limit_value(&collect->limits, result->limit);
    return result;
}

void cellar_result_free(struct cellar_result *result)
{
    if (!result)
        return;
    free(result->stdout_text);
    free(result->stderr_text);
    free_parts(result->result, result->result_count);
    for (size_t i = 0; i < result->display_count; i++)
        free_parts(result->displays[i].parts, result->displays[i].count);
    free(result->displays);
    free(result->error_name);
    free(result->error_message);
    free(result->traceback);
    free(result->reason);
    free(result->checkpoint_why);
    free(result);
}

const char *cellar_result_text(const struct cellar_result *result)
{
    for (size_t i = 0; i < result->result_count; i++)
        if (!strcmp(result->result[i].type, "text/plain"))
            return result->result[i].data;
    return "";
}
