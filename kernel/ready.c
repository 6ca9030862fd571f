#include "ready.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "proto/limits.h"
#include "record.h"
#include "spec.h"
#include "supervisor.h"

/* A start is long over by then. */
#define SWEEP_SECONDS 300

/* ------------------------------------------------------------ the pool --- */

/* Each with its end: "ab", "c" are not "a", "bc". */
static void mix_text(crypto_generichash_state *hash, const char *text)
{
    const char *what = text ? text : "";
    (void)crypto_generichash_update(hash, (const uint8_t *)what,
                                    strlen(what) + 1);
}

static void mix_number(crypto_generichash_state *hash, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    mix_text(hash, text);
}

/* The same path may lead to another directory by now, and a session that was
 * made before still has the former one. */
static void mix_path(crypto_generichash_state *hash, const char *path)
{
    struct stat st = {0};
    mix_text(hash, path);
    if (!path || stat(path, &st) != 0)
        return;
    mix_number(hash, st.st_dev);
    mix_number(hash, st.st_ino);
}

static void mix_mount(crypto_generichash_state *hash, const char *mount)
{
    char path[4096];
    mix_text(hash, mount);
    if (!mount)
        return;
    (void)snprintf(path, sizeof path, "%.*s", (int)strcspn(mount, ":"), mount);
    mix_path(hash, path);
}

/* Numbers that only host and handshake know of. */
static bool is_agreed(const struct cellar_spec_field *field)
{
    static const char *const agreed[] = {"timeout",  "grace", "lease",
                                         "lifetime", "queue", "output-limit"};
    for (size_t i = 0; i < sizeof agreed / sizeof agreed[0]; i++)
        if (!strcmp(field->name, agreed[i]))
            return true;
    return false;
}

void cellar_ready_key(const struct cellar *c, const struct cellar_spec *spec,
                      char key[CELLAR_READY_KEY_BYTES])
{
    crypto_generichash_state hash;
    uint8_t digest[crypto_generichash_BYTES_MIN];
    const struct cellar_engine *engine =
        cellar_supervisor_engine((struct cellar *)c);
    (void)crypto_generichash_init(&hash, NULL, 0, sizeof digest);
    mix_text(&hash, CELLAR_VERSION);
    mix_number(&hash, CELLAR_WIRE_VERSION);
    mix_text(&hash, engine->ops->name);
    mix_text(&hash, cellar_supervisor_host(c));
    mix_text(&hash, spec->image);
    mix_text(&hash, spec->runtime);
    mix_path(&hash, spec->rootfs);
    mix_text(&hash, spec->network);
    mix_text(&hash, spec->preload);
    for (size_t i = 0; i < cellar_spec_field_count; i++)
        if (!is_agreed(&cellar_spec_fields[i]))
            mix_number(&hash, cellar_spec_get(spec, &cellar_spec_fields[i]));
    for (size_t i = 0; i < CELLAR_MOUNTS_MAX; i++)
        mix_mount(&hash, spec->mounts[i]);
    for (size_t i = 0; i < CELLAR_ALLOW_MAX; i++)
        mix_text(&hash, spec->allow[i]);
    (void)crypto_generichash_final(&hash, digest, sizeof digest);
    sodium_bin2hex(key, CELLAR_READY_KEY_BYTES, digest,
                   (CELLAR_READY_KEY_BYTES - 1) / 2);
}

void cellar_ready_name(const char *key, char name[CELLAR_NAME_BYTES_MAX + 1])
{
    uint8_t random[8];
    char hex[2 * sizeof random + 1];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(hex, sizeof hex, random, sizeof random);
    (void)snprintf(name, CELLAR_NAME_BYTES_MAX + 1, CELLAR_READY_PREFIX "%s-%s",
                   key, hex);
}

bool cellar_ready_is_of(const char *name, const char *key)
{
    size_t len = strlen(CELLAR_READY_PREFIX);
    return cellar_name_is_ready(name) &&
           !strncmp(name + len, key, CELLAR_READY_KEY_BYTES - 1) &&
           name[len + CELLAR_READY_KEY_BYTES - 1] == '-';
}

/* Of a container whose image's name has moved on to another image the engine
 * tells the image's id. */
bool cellar_ready_fits(const struct cellar_container *container,
                       const char *owner, const char *key)
{
    return !strcmp(container->owner, owner) &&
           cellar_ready_is_of(container->session, key) &&
           !strcmp(container->state, "running") &&
           strncmp(container->image, "sha256:", 7) != 0;
}

/* ------------------------------------------------------------ sweeping --- */

static bool is_old(int sessions_fd, const char *name)
{
    struct stat st;
    return fstatat(sessions_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(st.st_mode) && time(NULL) - st.st_mtime > SWEEP_SECONDS;
}

static bool is_recorded(int sessions_fd, const char *name)
{
    char path[CELLAR_NAME_BYTES_MAX + 16];
    (void)snprintf(path, sizeof path, "%.63s/record.json", name);
    return faccessat(sessions_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void cellar_ready_sweep(const char *state_dir)
{
    char path[4096 + 16];
    (void)snprintf(path, sizeof path, "%s/sessions", state_dir);
    DIR *dir = opendir(path);
    struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir))) {
        struct cellar_hold hold = CELLAR_HOLD_NONE;
        const char *name = entry->d_name;
        if (!cellar_name_is_reserved(name) || is_recorded(dirfd(dir), name) ||
            !is_old(dirfd(dir), name) ||
            cellar_hold_take(state_dir, name, &hold, NULL) != CELLAR_OK)
            continue;
        cellar_hold_tidy(state_dir, name, &hold);
    }
    if (dir)
        closedir(dir);
}
