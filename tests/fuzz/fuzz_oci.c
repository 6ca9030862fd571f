/*
 * The oci engine among files that lie: of a bundle, of /proc, of control
 * groups, of subordinate ids, and what a runtime says. The first byte of the
 * input names the call; the rest are files, apart by 0xff, each a letter and
 * its content:
 *
 *     l labels.json   b born.json   p pid   g groups   C config.json
 *     c /proc/PID/cgroup   t stat   s status   m mountinfo   n net/dev
 *     i limits   o oom_score_adj   y any file of a control group
 *     u /etc/subuid and /etc/subgid   w a runtime's words
 *
 * An @ stands for the container's id, which is another one every time.
 *
 * Whatever stands there: a call ends once, with an error that says something or
 * with values that are whole; only files of this container's groups are opened
 * or removed; and no signal is sent to anything but a process by its number.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fake_loop.h"
#include "fuzz.h"
#include "kernel/engine/oci/oci.h"
#include "kernel/json.h"

#define GROUPS "/sys/fs/cgroup/"
#define USER   65534

static struct file {
    const uint8_t *data;
    size_t len;
} files[128];

static struct world {
    char dir[32];
    struct cellar_loop *loop;
    struct cellar_engine *engine;
    char id[OCI_ID_BYTES]; /* of the bundle; "" there is none */
    int fd;
    json_t *config;
    bool fuzzing; /* the wrapped calls are the fuzzer's */
    uid_t user;
    unsigned handles; /* of the loop, when nothing is under way */
    unsigned ends;
    struct cellar_stream *stream;
} w = {.dir = "/dev/shm/cellar-fuzz-XXXXXX", .fd = -1};

static void must(int fine)
{
    if (!fine)
        abort();
}

/* ----------------------------------------- the world that is not ours ---- */

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);
int __wrap_kill(pid_t pid, int sig);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
uid_t __real_geteuid(void);
uid_t __wrap_geteuid(void);
int __wrap_posix_spawn(const pid_t *pid, const char *path, const void *actions,
                       const void *attributes, char *const argv[],
                       char *const environment[]);

static FILE *open_section(char letter)
{
    const struct file *file = &files[(unsigned char)letter];
    if (!file->data)
        return NULL;
    if (file->len == 0)
        return __real_fopen("/dev/null", "re");
    return fmemopen((void *)file->data, file->len, "r");
}

/* The letter of a file that the kernel, or the machine, would have. */
static char letter_of(const char *path)
{
    static const struct {
        const char *end;
        char letter;
    } known[] = {
        {"/cgroup", 'c'},    {"/stat", 't'},    {"/status", 's'},
        {"/mountinfo", 'm'}, {"/net/dev", 'n'}, {"/limits", 'i'},
        {"/subuid", 'u'},    {"/subgid", 'u'},  {"oom_score_adj", 'o'}};
    size_t len = strlen(path);
    if (strncmp(path, GROUPS, strlen(GROUPS)) == 0)
        return 'y';
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        size_t end = strlen(known[i].end);
        if (len > end && strcmp(path + len - end, known[i].end) == 0)
            return known[i].letter;
    }
    return 0;
}

static bool is_of_group(const char *path)
{
    return strstr(path, w.id) && !strstr(path, "..");
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
    char letter = w.fuzzing ? letter_of(path) : 0;
    if (letter == 'y')
        must(is_of_group(path));
    return letter ? open_section(letter) : __real_fopen(path, mode);
}

int __wrap_rmdir(const char *path)
{
    if (strncmp(path, GROUPS, strlen(GROUPS)) != 0)
        return __real_rmdir(path);
    must(is_of_group(path));
    errno = files['y'].data ? EBUSY : ENOENT;
    return -1;
}

int __wrap_kill(pid_t pid, int sig)
{
    must(pid > 1 && pid != getpid() && sig == SIGKILL);
    return 0;
}

/* Processes are neither held on to nor ended. */
long __wrap_syscall(long number, ...)
{
    long a[5];
    va_list args;
    va_start(args, number);
    for (size_t i = 0; i < 5; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_pidfd_open) {
        must(a[0] > 1);
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    return number == SYS_pidfd_send_signal
               ? 0
               : __real_syscall(number, a[0], a[1], a[2], a[3], a[4]);
}

uid_t __wrap_geteuid(void)
{
    return w.fuzzing ? w.user : __real_geteuid();
}

/* There is no runtime that could be started. */
int __wrap_posix_spawn(const pid_t *pid, const char *path, const void *actions,
                       const void *attributes, char *const argv[],
                       char *const environment[])
{
    (void)pid;
    (void)actions;
    (void)attributes;
    (void)environment;
    must(path[0] == '/' && argv[0] == path);
    return ENOENT;
}

/* ----------------------------------------------------------- callbacks -- */

static void check_error(const struct cellar_error *err)
{
    if (!err)
        return;
    must(err->code != CELLAR_OK && err->code <= CELLAR_E_LOST);
    must(err->msg[0] && memchr(err->msg, '\0', sizeof(err->msg)) != NULL);
}

static void on_done(void *user, const struct cellar_error *err)
{
    (void)user;
    check_error(err);
    w.ends++;
}

static void on_row(void *user, const struct cellar_container *row)
{
    (void)user;
    must(strcmp(row->id, w.id) == 0 && row->session && row->owner &&
         row->image && row->supervisor && *row->state);
}

static void on_reason(void *user, enum cellar_vital vital, const char *reason)
{
    (void)vital;
    must(reason && *reason);
    on_done(user, NULL);
}

static void on_usage(void *user, const struct cellar_usage *usage,
                     const struct cellar_error *err)
{
    must(!usage == !!err);
    on_done(user, err);
}

static void on_started(void *user, const char *id, struct cellar_stream *stream,
                       const struct cellar_error *err)
{
    must(!id == !stream && !id == !!err);
    w.stream = stream;
    on_done(user, err);
}

static void on_closed(void *user, const struct cellar_error *err)
{
    (void)user;
    check_error(err);
}

static const struct cellar_stream_events events = {.closed = on_closed};

static void on_protection(void *user, const char *protection, const char *wrong)
{
    (void)user;
    must(*protection && (!wrong || *wrong));
}

/* -------------------------------------------------------------- bundles -- */

static json_t *make_config(void)
{
    struct cellar_spec spec;
    json_t *config = NULL;
    cellar_spec_init(&spec);
    struct cellar_launch launch = {.spec = &spec, .owner = "me", .uid = 61001};
    must(cellar_oci_config((struct oci *)w.engine, &launch, w.id, &config,
                           NULL) == CELLAR_OK);
    return config;
}

static void make_bundle(void)
{
    static const struct oci_labels labels = {.session = "lab", .owner = "me"};
    if (w.id[0])
        return;
    must(cellar_oci_bundle_make((struct oci *)w.engine, &labels, w.id, &w.fd,
                                NULL) == CELLAR_OK);
}

/* It was removed; or it has to be, before this process ends. */
static void drop_bundle(void)
{
    must(cellar_oci_bundle_remove((struct oci *)w.engine, w.id, NULL) ==
         CELLAR_OK);
    close(w.fd);
    w.fd = -1;
    w.id[0] = '\0';
}

static void tidy(void)
{
    char path[64];
    w.fuzzing = false;
    if (w.id[0])
        drop_bundle();
    json_decref(w.config);
    w.engine->ops->free(w.engine);
    cellar_loop_free(w.loop);
    (void)snprintf(path, sizeof(path), "%s/oci/.run", w.dir);
    (void)rmdir(path);
    (void)snprintf(path, sizeof(path), "%s/oci", w.dir);
    (void)rmdir(path);
    (void)rmdir(w.dir);
}

static void open_world(void)
{
    if (w.engine)
        return;
    must(mkdtemp(w.dir) != NULL && cellar_loop_new(&w.loop, NULL) == 0);
    struct cellar_engine_place place = {
        .state_dir = w.dir, .data_dir = CELLAR_SOURCE_DIR "/kernel/engine"};
    must(cellar_oci_new(w.loop, &place, &w.engine, NULL) == CELLAR_OK);
    w.handles = fake_loop.handles;
    make_bundle();
    w.config = make_config();
    must(atexit(tidy) == 0);
}

/* A file of the bundle; or none. */
static void put(char letter, const char *name)
{
    const struct file *file = &files[(unsigned char)letter];
    (void)unlinkat(w.fd, name, 0);
    if (!file->data)
        return;
    int fd = openat(w.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(fd >= 0 && write(fd, file->data, file->len) == (ssize_t)file->len);
    close(fd);
}

/* The input with the container's id put in. */
static const uint8_t *with_id(const uint8_t *data, size_t len, size_t *out)
{
    static uint8_t text[1 << 18];
    const size_t id_len = OCI_ID_BYTES - 1;
    size_t n = 0;
    for (size_t i = 0; i < len && n + id_len < sizeof(text); i++)
        if (data[i] == '@') {
            memcpy(text + n, w.id, id_len);
            n += id_len;
        } else {
            text[n++] = data[i];
        }
    *out = n;
    return text;
}

static void take_files(const uint8_t *input, size_t size)
{
    size_t len = 0;
    const uint8_t *data = with_id(input, size, &len);
    memset(files, 0, sizeof(files));
    for (size_t at = 0; at < len;) {
        const uint8_t *end = memchr(data + at, 0xff, len - at);
        size_t next = end ? (size_t)(end - data) : len;
        if (next > at && data[at] < 128)
            files[data[at]] = (struct file){data + at + 1, next - at - 1};
        at = next + 1;
    }
    put('l', "labels.json");
    put('b', "born.json");
    put('p', "pid");
    put('g', "groups");
    put('C', "config.json");
}

/* ---------------------------------------------------------------- calls -- */

/* The container's own, or what stands in its place. */
static json_t *config_now(void)
{
    CELLAR_AUTO_FREE char *text = cellar_oci_file_read(w.fd, "config.json");
    json_t *read = text ? cellar_json_parse(text, strlen(text), 0, NULL) : NULL;
    return read ? read : json_deep_copy(w.config);
}

static void look_at(enum oci_kind kind)
{
    struct cellar_error err = {.code = CELLAR_OK};
    struct oci_born born = {0};
    const struct oci_runtime runtime = {.path = "/usr/bin/r", .kind = kind};
    json_t *config = config_now();
    enum cellar_code code =
        cellar_oci_born_write(w.fd, w.id, kind, &born, &err);
    check_error(code ? &err : NULL);
    must(code || (born.pid > 1 && born.began > 0));
    if (code && !cellar_oci_born_read(w.fd, &born))
        born = (struct oci_born){.pid = 4711, .began = 1};
    (void)cellar_oci_verify(&(struct oci_made){(struct oci *)w.engine, &runtime,
                                               &born, w.id, config},
                            on_protection, NULL);
    json_decref(config);
}

static void look_at_born(void)
{
    look_at(OCI_RUNC);
}

static void look_at_sandbox(void)
{
    look_at(OCI_RUNSC);
}

/* Only files of the user's own groups are to be seen inside. */
static void check_mounts(const json_t *config)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(config, "mounts"), i, row)
    {
        const char *source = json_string_value(json_object_get(row, "source"));
        if (source && strncmp(source, GROUPS, strlen(GROUPS)) == 0)
            must(is_of_group(source));
    }
}

static void look_at_users(void)
{
    struct cellar_error err = {.code = CELLAR_OK};
    struct cellar_spec spec;
    json_t *config = json_deep_copy(w.config);
    cellar_spec_init(&spec);
    spec.allow[0] = "user";
    spec.allow[1] = "memory";
    spec.allow[2] = "swap";
    spec.allow[3] = "pids";
    spec.allow[4] = "cpu";
    w.user = USER;
    enum cellar_code code =
        cellar_oci_users(&spec, OCI_RUNC, config, w.id, &err);
    check_error(code ? &err : NULL);
    uint64_t uid = cellar_oci_host_id(config, "uidMappings", 61001);
    must(code || uid == UINT64_MAX || uid < UINT32_MAX);
    check_mounts(config);
    json_decref(config);
}

static void look_at_words(void)
{
    char said[OCI_WORDS_MAX + 1];
    char line[200];
    const struct file *file = &files['w'];
    size_t len = file->len < OCI_WORDS_MAX ? file->len : OCI_WORDS_MAX;
    if (!file->data)
        return;
    memcpy(said, file->data, len);
    said[len] = '\0';
    cellar_oci_words(said, line, sizeof(line));
    must(memchr(line, '\0', sizeof(line)) != NULL && !strchr(line, '\n'));
}

static void look_at_groups(void)
{
    cellar_oci_groups_note(w.fd, w.id, 4711);
    (void)cellar_oci_group_is_frozen(w.fd, w.id);
    (void)cellar_oci_group_kills(w.fd, w.id);
    (void)cellar_oci_groups_remove(w.fd, w.id);
}

static enum cellar_code begin(unsigned call, struct cellar_error *err)
{
    const struct cellar_engine_ops *ops = w.engine->ops;
    switch (call) {
    case 0:
        return ops->list(w.engine, on_row, on_done, NULL, err);
    case 1:
        return ops->diagnose(w.engine, w.id, on_reason, NULL, err);
    case 2:
        return ops->usage(w.engine, w.id, on_usage, NULL, err);
    case 3:
        return ops->remove(w.engine, w.id, on_done, NULL, err);
    default:
        return ops->attach(w.engine, w.id, call == 4 ? 0 : 7, &events,
                           on_started, NULL, err);
    }
}

static void check_call(unsigned call)
{
    struct cellar_error err = {.code = CELLAR_OK};
    w.ends = 0;
    enum cellar_code code = begin(call, &err);
    check_error(code ? &err : NULL);
    for (int i = 0; i < 100000 && !code && w.ends == 0; i++)
        (void)cellar_loop_run(w.loop, -1);
    must(w.ends == (code ? 0 : 1));
    cellar_stream_close(w.stream);
    w.stream = NULL;
    must(fake_loop.handles == w.handles);
    if (call == 3)
        drop_bundle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const looks[])(void) = {look_at_born, look_at_users,
                                          look_at_words, look_at_groups,
                                          look_at_sandbox};
    if (len < 1)
        return 0;
    open_world();
    make_bundle();
    take_files(data + 1, len - 1);
    w.user = data[0] & 0x80 ? USER : 0;
    w.fuzzing = true;
    unsigned call = data[0] % 11;
    if (call < 6)
        check_call(call);
    else
        looks[call - 6]();
    w.fuzzing = false;
    return 0;
}
