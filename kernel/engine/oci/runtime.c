/* The OCI runtime: found, run, and ended at its deadline. It is a child of
 * this process for as long as one call takes; nothing of it stays. A pidfd
 * tells its end, so that no signal handler of the program's is touched. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "oci.h"

#define SEARCH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#define ARGUMENTS_MAX 24

/* How long the end of what was killed is waited for, at the very last. */
#define LAST_MS 1000

/* What one turn of the loop reads of a runtime that talks and talks. */
#define DRAIN_READS 8

struct oci_run {
    struct oci *oci;
    struct oci_run *prev;
    struct oci_run *next;
    pid_t pid;
    int pid_fd;
    int out_fd; /* -1: none, or over */
    struct cellar_watch *pid_watch;
    struct cellar_watch *out_watch;
    struct cellar_timer *deadline;
    char words[OCI_WORDS_MAX + 1];
    size_t len;
    bool late;
    oci_ran_fn *done; /* NULL: nobody waits */
    void *user;
};

/* --------------------------------------------------------------- which -- */

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           access(path, X_OK) == 0;
}

bool cellar_oci_is_roots(const struct stat *st)
{
    return st->st_uid == 0 && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static bool is_roots(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && cellar_oci_is_roots(&st);
}

/* Root runs nothing that somebody else could have put there, whatever folders
 * his PATH has: neither the program nor a folder that leads to it. */
static bool is_trusted(const char *path)
{
    char folder[sizeof(((struct oci_runtime *)0)->path)];
    CELLAR_AUTO_FREE char *real = geteuid() == 0 ? realpath(path, NULL) : NULL;
    if (geteuid() != 0)
        return true;
    const char *const ways[] = {path, real};
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        if (!ways[i])
            return false;
        (void)snprintf(folder, sizeof(folder), "%s", ways[i]);
        *strrchr(folder, '/') = '\0';
        if (!is_roots(ways[i]) || !is_roots(*folder ? folder : "/"))
            return false;
    }
    return true;
}

static bool find_in(const char *folders, const char *name,
                    char path[sizeof(((struct oci_runtime *)0)->path)])
{
    const size_t size = sizeof(((struct oci_runtime *)0)->path);
    for (const char *at = folders; at && *at;) {
        size_t len = strcspn(at, ":");
        int n = snprintf(path, size, "%.*s/%s", (int)len, at, name);
        if (*at == '/' && n > 0 && (size_t)n < size && is_program(path) &&
            is_trusted(path))
            return true;
        at += len + (at[len] == ':');
    }
    return false;
}

/* What is none of them is taken for runc, whose command line is the model of
 * the others'. */
static enum oci_kind kind_of(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    if (strncmp(name, "runsc", 5) == 0)
        return OCI_RUNSC;
    return strncmp(name, "crun", 4) == 0 ? OCI_CRUN : OCI_RUNC;
}

/* A virtual machine shows nothing of what is in force inside to this kernel,
 * which is asked (verify.c), and needs a daemon of its own. */
static bool is_machine(const char *path)
{
    return strncmp(strrchr(path, '/') + 1, "kata", 4) == 0;
}

static const char *where(void)
{
    return geteuid() == 0 ? " where only root can write" : "";
}

/* crun refuses a machine that has cgroup v1 and v2 at once, unless it does not
 * see the second. */
static bool is_hybrid(void)
{
    return access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0 &&
           access("/sys/fs/cgroup/cgroup.procs", F_OK) != 0;
}

enum cellar_code cellar_oci_runtime_find(const char *name,
                                         struct oci_runtime *out,
                                         struct cellar_error *err)
{
    static const char *const usual[] = {"runc", "crun"};
    struct oci_runtime found = {.path = ""};
    bool is_found = false;
    if (name && strchr(name, '/')) {
        int n = snprintf(found.path, sizeof(found.path), "%s", name);
        is_found = name[0] == '/' && (size_t)n < sizeof(found.path) &&
                   is_program(found.path);
    } else {
        for (size_t i = 0; i < (name ? 1 : 2) && !is_found; i++) {
            const char *one = name ? name : usual[i];
            is_found = find_in(getenv("PATH"), one, found.path) ||
                       find_in(SEARCH, one, found.path);
        }
    }
    if (!is_found && name)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "there is no OCI runtime '%.100s'%s: install it, or "
                           "give another --runtime: runc, crun, runsc, or an "
                           "absolute path",
                           name, where());
    if (!is_found)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "there is no OCI runtime%s: `apt-get install runc` "
                           "(or crun), or use --engine docker",
                           where());
    if (is_machine(found.path))
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%.100s makes virtual machines, into which this "
                           "engine can't look: use --engine docker with it",
                           found.path);
    found.kind = kind_of(found.path);
    if (found.kind == OCI_CRUN && is_hybrid() && geteuid() != 0)
        return cellar_fail(err, CELLAR_E_ENGINE,
                           "%.100s starts nothing for a user who is not root "
                           "on a machine with cgroup v1 and v2 at once: use "
                           "--runtime runc",
                           found.path);
    *out = found;
    return CELLAR_OK;
}

/* --------------------------------------------------------------- words -- */

/* runc: time="..." level=error msg="..."; the message is what tells. */
static const char *message_of(const char *line)
{
    const char *msg = strstr(line, "msg=");
    return msg ? msg + 4 : line;
}

void cellar_oci_words(const char *words, char *text, size_t size)
{
    char copy[OCI_WORDS_MAX + 1];
    const char *last = "";
    snprintf(copy, sizeof(copy), "%s", words);
    for (char *at = copy; at && *at;) {
        char *line = strsep(&at, "\n");
        if (*line)
            last = line;
    }
    last = message_of(last);
    size_t quoted = *last == '"';
    snprintf(text, size, "%s", last + quoted);
    size_t len = strlen(text);
    if (quoted && len && text[len - 1] == '"')
        text[len - 1] = '\0';
}

/* Of a flood the last is kept. */
static void keep(struct oci_run *run, const uint8_t *data, size_t len)
{
    if (len > OCI_WORDS_MAX) {
        data += len - OCI_WORDS_MAX;
        len = OCI_WORDS_MAX;
    }
    if (run->len + len > OCI_WORDS_MAX) {
        size_t drop = run->len + len - OCI_WORDS_MAX;
        memmove(run->words, run->words + drop, run->len - drop);
        run->len -= drop;
    }
    memcpy(run->words + run->len, data, len);
    run->len += len;
}

static void close_out(struct oci_run *run)
{
    cellar_watch_close(CELLAR_TAKE(run->out_watch));
    if (run->out_fd >= 0)
        close(run->out_fd);
    run->out_fd = -1;
}

static void read_out(struct oci_run *run)
{
    for (int i = 0; i < DRAIN_READS && run->out_fd >= 0; i++) {
        ssize_t n = read(run->out_fd, run->oci->room, OCI_READ_BYTES);
        if (n > 0)
            keep(run, run->oci->room, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            close_out(run);
        else
            return;
    }
}

static void on_out(void *user, int events)
{
    (void)events;
    read_out(user);
}

/* ----------------------------------------------------------------- end -- */

static void free_run(struct oci_run *run)
{
    if (run->prev)
        run->prev->next = run->next;
    else
        run->oci->runs = run->next;
    if (run->next)
        run->next->prev = run->prev;
    close_out(run);
    cellar_watch_close(run->pid_watch);
    cellar_timer_close(run->deadline);
    if (run->pid_fd >= 0)
        close(run->pid_fd);
    free(run);
}

/* A program may have its children reaped for it: then nothing is known of this
 * one's end, and what it was to do must be looked at. */
static int reap(const struct oci_run *run)
{
    siginfo_t info = {.si_pid = 0};
    if (waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOHANG) < 0)
        return 0;
    return info.si_code == CLD_EXITED ? info.si_status : -1;
}

static void on_end(void *user, int events)
{
    struct oci_run *run = user;
    (void)events;
    oci_ran_fn *done = run->done;
    void *done_user = run->user;
    char words[OCI_WORDS_MAX + 1];
    struct oci_end end = {.status = reap(run), .late = run->late};
    if (done)
        read_out(run);
    memcpy(words, run->words, run->len);
    words[run->len] = '\0';
    end.words = words;
    free_run(run);
    if (done)
        done(done_user, &end);
}

static void kill_run(const struct oci_run *run)
{
    (void)kill(-run->pid, SIGKILL);
    (void)kill(run->pid, SIGKILL);
}

static void on_deadline(void *user)
{
    struct oci_run *run = user;
    run->late = true;
    kill_run(run);
}

void cellar_oci_run_cancel(struct oci_run *run)
{
    if (!run)
        return;
    run->done = NULL;
    close_out(run);
    kill_run(run);
}

void cellar_oci_runs_done(struct oci *oci)
{
    while (oci->runs) {
        struct oci_run *run = oci->runs;
        struct pollfd ended = {.fd = run->pid_fd, .events = POLLIN};
        kill_run(run);
        (void)poll(&ended, 1, LAST_MS);
        (void)reap(run);
        free_run(run);
    }
}

/* ----------------------------------------------------------------- run -- */

#define BLINDFOLD "/bin/umount /sys/fs/cgroup/unified && exec \"$@\""

static const char *const blinded[] = {
    "/usr/bin/unshare", "--mount", "--propagation", "private",
    "/bin/sh",          "-c",      BLINDFOLD,       "sh"};

/* gVisor takes the list of system calls only when it is told to. */
static const char *const sandboxed[] = {
    OCI_SANDBOX_NETWORK, OCI_SANDBOX_SECCOMP, "--rootless", "--ignore-cgroups"};

/* The last ones are for users who are not root. */
#define FOR_OTHERS 2

static enum cellar_code put_arguments(const struct oci_ask *ask,
                                      const char *root,
                                      const char *argv[ARGUMENTS_MAX],
                                      struct cellar_error *err)
{
    size_t n = 0;
    if (ask->runtime->kind == OCI_CRUN && is_hybrid() && geteuid() == 0)
        for (; n < sizeof(blinded) / sizeof(*blinded); n++)
            argv[n] = blinded[n];
    argv[n++] = ask->runtime->path;
    argv[n++] = "--root";
    argv[n++] = root;
    size_t told = sizeof(sandboxed) / sizeof(*sandboxed);
    if (geteuid() == 0)
        told -= FOR_OTHERS;
    for (size_t i = 0; ask->runtime->kind == OCI_RUNSC && i < told; i++)
        argv[n++] = sandboxed[i];
    for (const char *const *a = ask->arguments; *a; a++) {
        if (n == ARGUMENTS_MAX - 1)
            return cellar_fail(err, CELLAR_E_LIMIT, "too many arguments");
        argv[n++] = *a;
    }
    argv[n] = NULL;
    return CELLAR_OK;
}

static int set_actions(posix_spawn_file_actions_t *actions, const int stdio[3])
{
    int failed = 0;
    /* Onto numbers that none of them has: the first could overwrite another. */
    for (int fd = 0; fd < 3; fd++)
        failed |= posix_spawn_file_actions_adddup2(actions, stdio[fd], fd);
    return failed | posix_spawn_file_actions_addclosefrom_np(actions, 3);
}

static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t all;
    sigset_t none;
    sigfillset(&all);
    sigemptyset(&none);
    return posix_spawnattr_setsigdefault(attributes, &all) |
           posix_spawnattr_setsigmask(attributes, &none) |
           posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF |
                                                    POSIX_SPAWN_SETSIGMASK |
                                                    POSIX_SPAWN_SETSID);
}

/* An errno. */
static int spawn(const char *const argv[], const int stdio[3], pid_t *pid)
{
    static const char *const environment[] = {"PATH=" SEARCH, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (posix_spawn_file_actions_init(&actions))
        return ENOMEM;
    if (posix_spawnattr_init(&attributes)) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    int failed =
        set_actions(&actions, stdio) | set_attributes(&attributes)
            ? ENOMEM
            : posix_spawn(pid, argv[0], &actions, &attributes,
                          (char *const *)argv, (char *const *)environment);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* Nothing to read, and a pipe for what it says. */
static enum cellar_code open_words(struct oci_run *run, int stdio[3],
                                   struct cellar_error *err)
{
    int ends[2];
    stdio[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (stdio[0] < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return cellar_fail_errno(err, errno, "running the OCI runtime");
    run->out_fd = ends[0];
    stdio[1] = ends[1];
    (void)fcntl(stdio[1], F_SETFL, 0);
    stdio[2] = fcntl(stdio[1], F_DUPFD_CLOEXEC, 3);
    return stdio[2] < 0
               ? cellar_fail_errno(err, errno, "running the OCI runtime")
               : cellar_watch_new(run->oci->engine.loop, run->out_fd, on_out,
                                  run, &run->out_watch, err);
}

static void close_words(const int stdio[3])
{
    for (int i = 0; i < 3; i++)
        if (stdio[i] >= 0)
            close(stdio[i]);
}

static enum cellar_code watch_run(struct oci_run *run, uint64_t deadline_ms,
                                  struct cellar_error *err)
{
    struct cellar_loop *loop = run->oci->engine.loop;
    enum cellar_code code = CELLAR_OK;
    run->pid_fd = (int)syscall(SYS_pidfd_open, run->pid, 0);
    if (run->pid_fd < 0)
        return cellar_fail_errno(err, errno, "watching the OCI runtime");
    (void)fcntl(run->pid_fd, F_SETFD, FD_CLOEXEC);
    code =
        cellar_watch_new(loop, run->pid_fd, on_end, run, &run->pid_watch, err);
    if (!code)
        code = cellar_watch_set(run->pid_watch, CELLAR_READABLE);
    if (!code && run->out_watch)
        code = cellar_watch_set(run->out_watch, CELLAR_READABLE);
    if (!code)
        cellar_timer_set(run->deadline, deadline_ms);
    return code;
}

static enum cellar_code begin(struct oci_run *run, const struct oci_ask *ask,
                              const int stdio[3], struct cellar_error *err)
{
    char root[4096];
    const char *argv[ARGUMENTS_MAX];
    enum cellar_code code = cellar_oci_path(run->oci, ".run", NULL, root, err);
    if (!code)
        code = put_arguments(ask, root, argv, err);
    if (!code)
        code = cellar_timer_new(run->oci->engine.loop, on_deadline, run,
                                &run->deadline, err);
    if (code)
        return code;
    int failed = spawn(argv, stdio, &run->pid);
    if (failed)
        return cellar_fail_errno(err, failed, "running %.200s",
                                 ask->runtime->path);
    code = watch_run(run, ask->deadline_ms, err);
    if (!code)
        return code;
    kill_run(run);
    (void)waitpid(run->pid, NULL, 0);
    return code;
}

enum cellar_code cellar_oci_run(struct oci *oci, const struct oci_ask *ask,
                                oci_ran_fn *done, void *user,
                                struct oci_run **out, struct cellar_error *err)
{
    struct oci_run *run = calloc(1, sizeof(*run));
    int words[3] = {-1, -1, -1};
    if (!run)
        return cellar_fail(err, CELLAR_E_NOMEM, "runtime: out of memory");
    run->oci = oci;
    run->pid_fd = run->out_fd = -1;
    run->done = done;
    run->user = user;
    run->next = oci->runs;
    if (run->next)
        run->next->prev = run;
    oci->runs = run;
    enum cellar_code code =
        ask->stdio ? CELLAR_OK : open_words(run, words, err);
    if (!code)
        code = begin(run, ask, ask->stdio ? ask->stdio : words, err);
    close_words(words);
    if (code) {
        free_run(run);
        return code;
    }
    *out = run;
    return CELLAR_OK;
}
