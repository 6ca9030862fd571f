#include "oom.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The linker sends every call of the left here, and ours of the right to the
 * C library. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *p);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
int __wrap_vasprintf(char **out, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
int __wrap_asprintf(char **out, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
int __wrap___asprintf_chk(char **out, int flag, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* More than any body makes: a runaway one is found out. */
#define ALLOCATIONS_MAX 20000

/* What is alive of what was allocated here. */
#define ALIVE_MAX 65536
static const void *alive[ALIVE_MAX];
static size_t alive_count;

static struct {
    bool armed;
    bool for_good; /* all from `at` on, not `at` alone */
    unsigned paused;
    size_t at;
    size_t count;
    bool hit;
} oom;

void oom_pause(bool on)
{
    if (on)
        oom.paused++;
    else
        oom.paused--;
}

static bool fails(void)
{
    if (!oom.armed || oom.paused)
        return false;
    oom.count++;
    bool now = oom.for_good ? oom.count >= oom.at : oom.count == oom.at;
    oom.hit |= now;
    return now;
}

static void *born(void *p)
{
    if (!p || !oom.armed)
        return p;
    if (alive_count == ALIVE_MAX)
        abort();
    alive[alive_count++] = p;
    return p;
}

/* From the end: what came last goes first, most of the time. */
static void died(const void *p)
{
    for (size_t i = alive_count; p && i > 0; i--) {
        if (alive[i - 1] != p)
            continue;
        alive[i - 1] = alive[--alive_count];
        return;
    }
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : born(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : born(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    if (fails())
        return NULL;
    died(old);
    return born(__real_realloc(old, size));
}

void __wrap_free(void *p)
{
    died(p);
    __real_free(p);
}

char *__wrap_strndup(const char *text, size_t len)
{
    size_t n = strnlen(text, len);
    char *copy = __wrap_malloc(n + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

int __wrap_vasprintf(char **out, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    char *text = len < 0 ? NULL : __wrap_malloc((size_t)len + 1);
    if (text)
        len = vsnprintf(text, (size_t)len + 1, fmt, again);
    va_end(again);
    /* As the C library does: what *out holds then is nobody's. */
    *out = text ? text : (char *)1;
    return text ? len : -1;
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = __wrap_vasprintf(out, fmt, args);
    va_end(args);
    return len;
}

int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list args)
{
    (void)flag;
    return __wrap_vasprintf(out, fmt, args);
}

int __wrap___asprintf_chk(char **out, int flag, const char *fmt, ...)
{
    va_list args;
    (void)flag;
    va_start(args, fmt);
    int len = __wrap_vasprintf(out, fmt, args);
    va_end(args);
    return len;
}

void oom_init(void)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
}

/* One run with the n-th allocation failing; whether there was an n-th. */
static bool run_one(oom_body *body, void *user, size_t n, bool for_good)
{
    oom.armed = true;
    oom.for_good = for_good;
    oom.at = n;
    oom.count = 0;
    oom.hit = false;
    alive_count = 0;
    enum cellar_code code = body(user);
    oom.armed = false;
    if (alive_count != 0)
        fail_msg("%zu allocations leaked when no. %zu failed", alive_count, n);
    if (code != CELLAR_OK && !(oom.hit && code == CELLAR_E_NOMEM))
        fail_msg("allocation no. %zu failed: the answer is \"%s\"", n,
                 cellar_code_name(code));
    return oom.hit;
}

void oom_sweep(oom_body *body, void *user)
{
    size_t n = 1;
    while (run_one(body, user, n, false) && n < ALLOCATIONS_MAX)
        n++;
    assert_true(n > 1 && n < ALLOCATIONS_MAX);
    for (size_t i = 1; i < n; i++)
        assert_true(run_one(body, user, i, true));
    print_message("           %zu allocations, each failed alone and with all "
                  "that follow\n",
                  n - 1);
}
