#include "verify.h"

#include <stdio.h>
#include <string.h>

#include "../../fail.h"
#include "../../json.h"

#define PATH_BYTES 160

/* -------------------------------------------------------------- fields -- */

/* The first field that differs, as a path. */
struct differ {
    char path[PATH_BYTES];
    bool differs;
};

static bool is_empty(const json_t *value)
{
    if (!value || json_is_null(value) || json_is_false(value))
        return true;
    if (json_is_string(value))
        return json_string_length(value) == 0;
    if (json_is_integer(value))
        return json_integer_value(value) == 0;
    return (json_is_array(value) || json_is_object(value)) &&
           json_array_size(value) + json_object_size(value) == 0;
}

static void note(struct differ *d, const char *path)
{
    snprintf(d->path, sizeof(d->path), "%s", path);
    d->differs = true;
}

static void compare(struct differ *d, const char *path, const json_t *wanted,
                    const json_t *is);

static void compare_objects(struct differ *d, const char *path,
                            const json_t *wanted, const json_t *is)
{
    const char *key = NULL;
    json_t *member = NULL;
    json_object_foreach((json_t *)wanted, key, member)
    {
        char below[PATH_BYTES];
        snprintf(below, sizeof(below), "%s.%s", path, key);
        compare(d, below, member, json_object_get(is, key));
    }
}

static void compare_arrays(struct differ *d, const char *path,
                           const json_t *wanted, const json_t *is)
{
    size_t i = 0;
    json_t *member = NULL;
    if (json_array_size(wanted) != json_array_size(is))
        note(d, path);
    json_array_foreach(wanted, i, member)
        compare(d, path, member, json_array_get(is, i));
}

/* The engine may show more members of an object than were given, never fewer;
 * it leaves out, or shows as null, what is empty. What was asked to be empty
 * must be. */
static void compare(struct differ *d, const char *path, const json_t *wanted,
                    const json_t *is)
{
    if (d->differs)
        return;
    if (is_empty(wanted) || is_empty(is)) {
        if (is_empty(wanted) != is_empty(is))
            note(d, path);
    } else if (json_is_object(wanted) && json_is_object(is)) {
        compare_objects(d, path, wanted, is);
    } else if (json_is_array(wanted) && json_is_array(is)) {
        compare_arrays(d, path, wanted, is);
    } else if (!json_equal(wanted, is)) {
        note(d, path);
    }
}

/* Where Docker's description shows a field of the create call. */
static const json_t *shown(const json_t *inspect, const char *path)
{
    const json_t *top = strncmp(path, "HostConfig", 10) == 0
                            ? inspect
                            : json_object_get(inspect, "Config");
    return cellar_json_at(top, path);
}

static void compare_field(struct differ *d, const json_t *body,
                          const json_t *inspect, const char *path)
{
    const json_t *wanted = cellar_json_at(body, path);
    if (wanted) /* else the engine was free to choose */
        compare(d, path, wanted, shown(inspect, path));
}

/* --------------------------------------------------------- protections -- */

struct verify {
    const json_t *body;
    const json_t *inspect;
    json_t *seen; /* fields that a protection names */
    bool starved;
    cellar_docker_verified_fn *each;
    void *user;
};

static void verify_row(struct verify *v, const json_t *row)
{
    struct differ d = {0};
    size_t i = 0;
    json_t *field = NULL;
    json_array_foreach(json_object_get(row, "fields"), i, field)
    {
        compare_field(&d, v->body, v->inspect, json_string_value(field));
        v->starved |= json_object_set_new(v->seen, json_string_value(field),
                                          json_true()) != 0;
    }
    if (i)
        v->each(v->user, json_string_value(json_object_get(row, "name")),
                d.differs ? d.path : NULL);
}

/* An image brings variables of its own, so Env is not compared; and it may be
 * named by its id. */
static bool is_of_the_image(const char *path)
{
    return strcmp(path, "Env") == 0 || strcmp(path, "Image") == 0;
}

static void verify_others(struct verify *v, struct differ *d,
                          const json_t *members, const char *prefix)
{
    const char *key = NULL;
    json_t *member = NULL;
    json_object_foreach((json_t *)members, key, member)
    {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "%s%s", prefix, key);
        if (strcmp(path, "HostConfig") == 0)
            verify_others(v, d, member, "HostConfig.");
        else if (!json_object_get(v->seen, path) && !is_of_the_image(path))
            compare_field(d, v->body, v->inspect, path);
    }
}

static void verify_all(struct verify *v, const json_t *protections)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(protections, i, row) verify_row(v, row);
    struct differ d = {0};
    verify_others(v, &d, v->body, "");
    v->each(v->user, "other", d.differs ? d.path : NULL);
}

enum cellar_code cellar_docker_verify(const struct cellar_container_spec *spec,
                                      const struct cellar_container_plan *plan,
                                      const char *inspect,
                                      cellar_docker_verified_fn *each,
                                      void *user, struct cellar_error *err)
{
    json_t *body = cellar_json_parse(plan->body, strlen(plan->body), 0, NULL);
    json_error_t where;
    json_t *shows = cellar_json_parse(inspect, strlen(inspect), 0, &where);
    json_t *seen = json_object();
    bool fits = json_is_object(json_object_get(shows, "Config")) &&
                json_is_object(json_object_get(shows, "HostConfig"));
    struct verify v = {.body = body,
                       .inspect = shows,
                       .seen = seen,
                       .each = each,
                       .user = user};
    if (body && seen && fits)
        verify_all(&v, cellar_container_spec_protections(spec));
    bool memory =
        body && seen && !v.starved && (shows || !cellar_json_starved(&where));
    json_decref(body);
    json_decref(shows);
    json_decref(seen);
    if (!fits && memory)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "the engine's description of the container is no "
                           "such thing");
    return memory ? CELLAR_OK
                  : cellar_fail(err, CELLAR_E_NOMEM, "verify: out of memory");
}
